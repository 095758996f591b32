//! The calls of an import.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use zeroize::Zeroizing;

use super::super::answer::is_busy;
use super::super::connection::Client;
use super::super::file::with_issuers;
use super::super::print::plain;
use super::super::words;
use super::NameFrom;
use super::folder::FoundFile;
use super::pairs::Pair;
use super::renewing::{Renewal, Stored};
use super::report::{Entry, State};
use crate::app::CertificateName;
use crate::digest;
use crate::grpc::pb;
use crate::secret::Secret;

/// The service remembers a token for a day. Nobody deletes a pair more often.
const MAX_DELETED: u32 = 100;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The import continues soon after the server is back.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The parameters of all uploads and renewals.
pub(super) struct Sender {
    pub(super) client: Client,
    pub(super) root: PathBuf,
    pub(super) region: String,
    /// Empty: the account's default group.
    pub(super) resource_group: String,
    pub(super) tags: Vec<pb::Tag>,
    pub(super) name_from: NameFrom,
    pub(super) is_dry_run: bool,
    /// Whether stored certificates are renewed.
    pub(super) is_renewing: bool,
    pub(super) retry_for: Duration,
    /// Interrupts the pauses between attempts.
    pub(super) stop: CancellationToken,
    /// Opens encrypted files.
    pub(super) password: Option<Secret>,
    /// Shows on a terminal what the import waits for.
    pub(super) bar: ProgressBar,
}

/// The texts of a pair.
struct Texts {
    certificate: Zeroizing<String>,
    key: Zeroizing<String>,
}

impl Sender {
    /// The region of the service, if it has exactly one.
    pub(super) async fn only_region(&self) -> Result<Option<String>, Status> {
        let describe = || {
            let mut client = self.client.clone();
            async move { client.describe_regions(pb::DescribeRegionsRequest::default()).await }
        };
        let mut regions = self.retried(describe).await?.into_inner().regions;
        let last = regions.pop();
        Ok(last.filter(|_| regions.is_empty()).map(|region| region.region_id))
    }

    /// The certificates of the region.
    pub(super) async fn stored(&self) -> Result<Vec<Stored>, Status> {
        let mut stored = Vec::new();
        let mut request = pb::DescribeServerCertificatesRequest {
            region_id: self.region.clone(),
            page_size: 1000,
            ..Default::default()
        };
        loop {
            let describe = || {
                let (mut client, request) = (self.client.clone(), request.clone());
                async move { client.describe_server_certificates(request).await }
            };
            let page = self.retried(describe).await?.into_inner();
            let certificates = page.server_certificates.into_iter();
            stored.extend(certificates.map(|certificate| Stored::of(certificate, self.is_renewing)));
            if page.next_page_token.is_empty() {
                return Ok(stored);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// Uploads a pair, or renews stored certificates with it.
    pub(super) async fn send(&self, files: &[FoundFile], pair: &Pair, renewal: Option<&Renewal>) -> Vec<Entry> {
        let entry = |state| Entry::new(state, pair.files().map(|file| files[file].path.as_path()));
        let certificate = &files[pair.certificate];
        let Some(texts) = self.texts(files, pair) else {
            return vec![entry(State::Refused).because("FILE_CHANGED", "changed while it was read: import it again")];
        };
        let sent = match renewal {
            Some(renewal) => self.renew(&texts, renewal, entry).await,
            None => self.upload(&texts, &certificate.path, entry).await.map(|one| vec![one]),
        };
        sent.unwrap_or_else(|status| {
            let state = if is_transient(&status) {
                State::NotSent
            } else {
                State::Refused
            };
            let details = status.get_error_details();
            let reason = details.error_info().map(|info| info.reason.clone());
            let entry = entry(state).because(reason.unwrap_or_default(), words::of_import(status.message()));
            vec![match renewal {
                Some(Renewal { target, .. }) => entry.about(&target.id, &target.name),
                None => entry,
            }]
        })
    }

    /// The texts of a pair. `None` if a file has changed.
    fn texts(&self, files: &[FoundFile], pair: &Pair) -> Option<Texts> {
        let text = |file: usize| files[file].text(&self.root, self.password.as_ref());
        let (certificate, key) = (text(pair.certificate)?, pair.key.map(text));
        let issuers = pair.issuers.iter();
        let issuers = issuers.map(|(file, place)| files[*file].contents.certificates[*place].der.clone());
        Some(Texts {
            certificate: with_issuers(certificate, issuers),
            key: match key {
                Some(key) => key?,
                None => Zeroizing::default(),
            },
        })
    }

    async fn upload(&self, texts: &Texts, path: &Path, entry: impl Fn(State) -> Entry) -> Result<Entry, Status> {
        let name = match self.name_from {
            NameFrom::Certificate => String::new(),
            NameFrom::File => name_of(path),
        };
        let tags = self.tags.iter().flat_map(|tag| [tag.key.as_str(), tag.value.as_str()]);
        let group = (!self.resource_group.is_empty()).then_some(self.resource_group.as_str());
        let parts: Vec<_> = tags.chain(group).collect();
        let mut deleted = 0;
        let answer = loop {
            // A token belongs to one certificate, and that may be deleted: then the next token is for the next certificate.
            let before = (deleted > 0).then(|| format!("deleted {deleted}"));
            let token = self.client_token(texts, &name, parts.iter().copied().chain(before.as_deref()));
            let upload = || {
                let request = pb::UploadServerCertificateRequest {
                    region_id: self.region.clone(),
                    server_certificate: texts.certificate.to_string(),
                    private_key: texts.key.to_string(),
                    server_certificate_name: name.clone(),
                    resource_group_id: self.resource_group.clone(),
                    tags: self.tags.clone(),
                    client_token: token.clone(),
                    validate_only: self.is_dry_run,
                    omit_account_fingerprints: true,
                    ..Default::default()
                };
                let mut client = self.client.clone();
                async move { client.upload_server_certificate(request).await }
            };
            match self.retried(upload).await {
                Err(status) if deleted < MAX_DELETED && is_of_deleted(&status) => deleted += 1,
                answer => break answer?.into_inner(),
            }
        };
        let state = if self.is_dry_run {
            State::Accepted
        } else {
            State::Uploaded
        };
        Ok(Entry {
            findings: answer.findings,
            ..entry(state).about(answer.server_certificate_id, answer.server_certificate_name)
        })
    }

    /// An entry for each certificate that is renewed.
    async fn renew(
        &self,
        texts: &Texts,
        renewal: &Renewal,
        entry: impl Fn(State) -> Entry,
    ) -> Result<Vec<Entry>, Status> {
        let Renewal {
            target,
            others,
            chain_length,
        } = renewal;
        let token = self.client_token(texts, &target.id, [target.etag.as_str()]);
        let renew = |is_dry_run: bool| {
            let request = pb::RenewServerCertificateRequest {
                region_id: self.region.clone(),
                server_certificate_id: target.id.clone(),
                server_certificate: texts.certificate.to_string(),
                private_key: texts.key.to_string(),
                everywhere: !others.is_empty(),
                if_etag: target.etag.clone(),
                client_token: if is_dry_run { String::new() } else { token.clone() },
                validate_only: is_dry_run,
                ..Default::default()
            };
            let mut client = self.client.clone();
            async move { client.renew_server_certificate(request).await }
        };
        if let Some(present) = chain_length {
            let dry = self.retried(|| renew(true)).await?.into_inner();
            let length = dry.server_certificate.map_or(0, |certificate| certificate.chain_length);
            if length <= *present {
                return Ok(vec![entry(State::AlreadyThere).about(&target.id, &target.name)]);
            }
        }
        let answer = self.retried(|| renew(self.is_dry_run)).await?.into_inner();
        let state = if self.is_dry_run {
            State::ToBeRenewed
        } else {
            State::Renewed
        };
        let name_of = |id: &String| {
            others
                .iter()
                .find(|(other, _)| other == id)
                .map(|(_, name)| name.as_str())
        };
        let of_others = answer.server_certificate_ids.iter().filter(|id| **id != target.id);
        let of_others = of_others.map(|id| entry(state).about(id, name_of(id).unwrap_or_default()));
        let mut entries: Vec<_> = of_others.collect();
        entries.insert(
            0,
            Entry {
                findings: answer.findings,
                message: chain_length.map_or_else(String::new, |_| "with a longer chain".to_owned()),
                ..entry(state).about(&target.id, &target.name)
            },
        );
        Ok(entries)
    }

    /// A token that is the same for every repetition of a call, and different for other calls. Empty for a dry run.
    fn client_token<'a>(&'a self, texts: &'a Texts, name: &'a str, more: impl IntoIterator<Item = &'a str>) -> String {
        if self.is_dry_run {
            return String::new();
        }
        let parts: Vec<&str> = [&self.region, name, texts.certificate.as_str(), texts.key.as_str()]
            .into_iter()
            .chain(more)
            .collect();
        // With its final capacity: growing would leave copies of the key in memory.
        let len = parts.iter().map(|part| part.len() + 8).sum();
        let mut text = Zeroizing::new(Vec::with_capacity(len));
        for part in parts {
            text.extend_from_slice(&(part.len() as u64).to_be_bytes());
            text.extend_from_slice(part.as_bytes());
        }
        // The client has no secret for an HMAC. The plain hash reveals nothing, because the key has at least 128 bits of entropy.
        let mut token = format!("import-{}", hex::encode(digest::sha256(&text)));
        token.truncate(64);
        token
    }

    /// Repeats a call until it succeeds, is refused, or the time is over. Only for calls that may be repeated.
    async fn retried<T, F>(&self, call: impl Fn() -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let began = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let outcome = call().await;
            let left = self.retry_for.saturating_sub(began.elapsed());
            let status = match &outcome {
                Err(status) if !left.is_zero() && is_transient(status) => status,
                _ => {
                    if !self.bar.message().is_empty() {
                        self.bar.set_message("");
                    }
                    return outcome;
                }
            };
            self.bar.set_message(format!(
                "waiting for the service, up to {} s more: {}",
                left.as_secs(),
                plain(status.message())
            ));
            self.bar.tick();
            tokio::select! {
                () = self.stop.cancelled() => return outcome,
                () = tokio::time::sleep(pause.min(left)) => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Whether an earlier upload with the same token stored a certificate that was deleted or purged since.
fn is_of_deleted(status: &Status) -> bool {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.as_str());
    reason == Some(pb::Reason::ServerCertificateNotFound.name())
}

/// Whether the same call may succeed later without a change.
pub(super) fn is_transient(status: &Status) -> bool {
    let is_from_server = status.get_error_details().error_info().is_some();
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Unknown => true,
        // The connection broke, or tonic's own time-out expired.
        Code::Cancelled | Code::Internal => !is_from_server,
        _ => is_busy(status),
    }
}

/// The path relative to the folder without its extension. The directory distinguishes files with the same name.
fn name_of(path: &Path) -> String {
    let is_ending = path.extension().is_some_and(|ending| {
        ["pem", "crt", "cer", "cert"]
            .iter()
            .any(|known| ending.eq_ignore_ascii_case(known))
    });
    let path = if is_ending {
        path.with_extension("")
    } else {
        path.to_owned()
    };
    CertificateName::of_path(&path.display().to_string())
        .map(|name| name.as_str().to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn a_busy_resource_is_transient_and_a_newer_etag_is_not() {
        for (reason, expected) in [(pb::Reason::ResourceBusy, true), (pb::Reason::EtagMismatch, false)] {
            let details = ErrorDetails::with_error_info(reason.name(), "certkeep", []);
            let status = Status::with_error_details(Code::Aborted, "", details);
            assert_eq!(is_transient(&status), expected, "{reason:?}");
        }
    }
}
