//! The calls of an import.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use zeroize::Zeroizing;

use super::super::answer::is_busy;
use super::super::connection::Client;
use super::NameFrom;
use super::folder::FoundFile;
use super::report::{Entry, State};
use crate::app::CertificateName;
use crate::digest;
use crate::grpc::pb;

const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The import continues soon after the server is back.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The parameters of all uploads.
pub(super) struct Sender {
    pub(super) client: Client,
    pub(super) root: PathBuf,
    pub(super) region: String,
    /// Empty: the account's default group.
    pub(super) resource_group: String,
    pub(super) tags: Vec<pb::Tag>,
    pub(super) name_from: NameFrom,
    pub(super) is_dry_run: bool,
    pub(super) retry_for: Duration,
    /// Interrupts the pauses between attempts.
    pub(super) stop: CancellationToken,
}

/// A certificate in the region.
pub(super) struct Stored {
    pub(super) id: String,
    pub(super) name: String,
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

    /// The certificates of the region, by SHA-256 fingerprint.
    pub(super) async fn stored(&self) -> Result<HashMap<String, Stored>, Status> {
        let mut stored = HashMap::new();
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
            stored.extend(page.server_certificates.into_iter().map(|certificate| {
                let (id, name) = (certificate.server_certificate_id, certificate.server_certificate_name);
                (certificate.fingerprint_sha256, Stored { id, name })
            }));
            if page.next_page_token.is_empty() {
                return Ok(stored);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// Uploads a pair. Without `key`, the certificate file also contains the key.
    pub(super) async fn send(&self, certificate: &FoundFile, key: Option<&FoundFile>) -> Entry {
        let entry = |state| {
            Entry::new(
                state,
                [certificate].into_iter().chain(key).map(|file| file.path.as_path()),
            )
        };
        let texts = match key.map_or_else(|| Some(Zeroizing::default()), |key| key.text(&self.root)) {
            Some(key) => certificate
                .text(&self.root)
                .map(|certificate| Texts { certificate, key }),
            None => None,
        };
        let Some(texts) = texts else {
            return entry(State::Refused).because("FILE_CHANGED", "changed while it was read: import it again");
        };
        let name = match self.name_from {
            NameFrom::Certificate => String::new(),
            NameFrom::File => name_of(&certificate.path),
        };
        let token = match self.is_dry_run {
            true => String::new(),
            false => self.client_token(&texts, &name),
        };
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
            Ok(answer) => {
                let answer = answer.into_inner();
                let state = if self.is_dry_run {
                    State::Accepted
                } else {
                    State::Uploaded
                };
                Entry {
                    id: answer.server_certificate_id,
                    name: answer.server_certificate_name,
                    findings: answer.findings,
                    ..entry(state)
                }
            }
            Err(status) => {
                let state = if is_transient(&status) {
                    State::NotSent
                } else {
                    State::Refused
                };
                let details = status.get_error_details();
                let reason = details.error_info().map(|info| info.reason.clone());
                entry(state).because(reason.unwrap_or_default(), status.message())
            }
        }
    }

    /// A token that is the same for every repetition of an upload, and different for other uploads.
    fn client_token(&self, texts: &Texts, name: &str) -> String {
        let tags = self.tags.iter().flat_map(|tag| [tag.key.as_str(), tag.value.as_str()]);
        let parts: Vec<&str> = [&self.region, name, texts.certificate.as_str(), texts.key.as_str()]
            .into_iter()
            .chain(tags)
            .chain((!self.resource_group.is_empty()).then_some(self.resource_group.as_str()))
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
            if left.is_zero() || !outcome.as_ref().is_err_and(is_transient) {
                return outcome;
            }
            tokio::select! {
                () = self.stop.cancelled() => return outcome,
                () = tokio::time::sleep(pause.min(left)) => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
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
