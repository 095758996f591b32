//! `certkeep sync`: keeps certificates and their keys in a folder, for programs that read files.

mod command;
mod folder;
mod holding;
mod link;
mod owner;
mod state;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use zeroize::Zeroizing;

use super::Failure;
use super::answer::{Effect, failed};
use super::connection::{ConnectionArgs, Delivery};
use super::print::{self, plain, print};
use super::tag::tags;
use super::watch::next_message;
use crate::app::CertificateId;
use crate::grpc::pb::{self, CertificateEventKind as Kind};
use command::Command;
use folder::{Folder, KeyPair};
use holding::Holding;
use link::Link;
use owner::Owner;
use state::State;

/// The pause before the stream begins again, and before what failed is tried again.
const RECONNECT: Duration = Duration::from_secs(1);
/// While the service is unavailable, the pause doubles up to this.
const MAX_RECONNECT: Duration = Duration::from_secs(16);
const RETRY: Duration = Duration::from_secs(30);

#[derive(Args)]
pub(super) struct SyncArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Folder for the files. Created if it does not exist.
    dir: PathBuf,
    /// Only the certificate with this id; may be repeated. Default: the ids of --link, if no filter is given.
    #[arg(long = "id", value_name = "ID")]
    ids: Vec<String>,
    /// Only certificates in this region.
    #[arg(long)]
    region: Option<String>,
    /// Only certificates in the resource group with this id.
    #[arg(long, value_name = "ID")]
    resource_group: Option<String>,
    /// Only certificates with this tag; may be repeated.
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    tags: Vec<String>,
    /// Only certificates whose name begins with this text.
    #[arg(long, value_name = "TEXT")]
    name_prefix: Option<String>,
    /// A link DIR/NAME to the folder of a certificate; may be repeated.
    #[arg(long = "link", value_name = "NAME=ID")]
    links: Vec<Link>,
    /// Who serves the certificates. Default: the host's name.
    #[arg(long, value_name = "NAME")]
    holder: Option<String>,
    /// Mode of the files, in octal.
    #[arg(long, default_value = "0640", value_parser = owner::mode)]
    mode: u32,
    /// Owner of the files, for example root:www-data. Needs the right to change owners.
    #[arg(long, value_name = "USER:GROUP")]
    owner: Option<String>,
    /// Command to run after a change, with /bin/sh. Its environment has the ids in CERTKEEP_CHANGED and the names, one in each line, in
    /// CERTKEEP_CHANGED_NAMES. A command that fails is run again after 30 seconds, and with the next change.
    #[arg(long = "exec", value_name = "COMMAND")]
    command: Option<String>,
    /// Bring the folder up to date, and end.
    #[arg(long)]
    once: bool,
    /// Remove the files of certificates that were deleted or that no longer match. Default: keep them.
    #[arg(long)]
    prune: bool,
}

pub(super) async fn sync(args: SyncArgs) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::from_error(&error);
    let signals = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
    let [interrupt, terminate] = signals;
    let (interrupt, terminate) = (interrupt.map_err(failed)?, terminate.map_err(failed)?);
    let owner = match &args.owner {
        Some(text) => Some(Owner::look_up(text).await?),
        None => None,
    };
    link::check(&args.links)?;
    let request = request(&args)?;
    let folder = Folder::open(&args.dir, args.mode, owner)?;
    let mut state = folder.read_state()?;
    let filter = format!("{request:?}");
    if args.once || state.filter != filter {
        // A watch without a token begins with the present certificates, and the versions in the state spare their keys.
        state.resume_token.clear();
        state.filter = filter;
    }
    let access = format!("{:o} {owner:?}", args.mode);
    if state.access != access {
        // Every file is written again, with its new mode and owner.
        state.resume_token.clear();
        state.certificates.values_mut().for_each(|kept| kept.version = 0);
        state.access = access;
    }
    let holder = match args.holder.clone() {
        Some(holder) => holder,
        None => rustix::system::uname().nodename().to_string_lossy().into_owned(),
    };
    folder.set_links(&mut state, &args.links)?;
    let mut follower = Follower {
        client: args.connection.connect_to_deliveries()?,
        command: Command::new(args.command.clone()),
        holding: Holding::new(holder, args.once),
        has_failed: false,
        present: BTreeSet::new(),
        is_synced: false,
        pause: RECONNECT,
        failed: BTreeSet::new(),
        folder,
        state,
        request,
        args,
    };
    follower.run((interrupt, terminate)).await
}

fn request(args: &SyncArgs) -> Result<pb::WatchServerCertificatesRequest, Failure> {
    let mut request = pb::WatchServerCertificatesRequest {
        region_id: args.region.clone().unwrap_or_default(),
        server_certificate_ids: args.ids.clone(),
        resource_group_id: args.resource_group.clone().unwrap_or_default(),
        tags: tags(&args.tags)?,
        server_certificate_name_prefix: args.name_prefix.clone().unwrap_or_default(),
        ..Default::default()
    };
    if request == pb::WatchServerCertificatesRequest::default() {
        request.server_certificate_ids = args.links.iter().map(|link| link.id.to_string()).collect();
    }
    Ok(request)
}

struct Follower {
    args: SyncArgs,
    request: pb::WatchServerCertificatesRequest,
    client: Delivery,
    folder: Folder,
    state: State,
    command: Command,
    holding: Holding,
    /// The certificates that the present watch began with, until it is synced.
    present: BTreeSet<String>,
    is_synced: bool,
    /// The pause after the next failure of the service.
    pause: Duration,
    /// The certificates whose key could not be fetched or written.
    failed: BTreeSet<String>,
    /// Whether --once must end with an error.
    has_failed: bool,
}

/// How a watch ended.
enum End {
    /// The folder is up to date, and --once is given.
    UpToDate,
    /// A signal arrived.
    Stopped,
    /// Begin the watch again after this pause.
    Again(Duration),
}

impl Follower {
    async fn run(&mut self, mut signals: (Signal, Signal)) -> Result<(), Failure> {
        loop {
            let pause = match self.watch(&mut signals).await {
                Ok(End::UpToDate) => return self.finish_once().await,
                Ok(End::Stopped) => break,
                Ok(End::Again(pause)) => pause,
                Err(failure) if failure.is_unavailable() && !self.args.once => {
                    report(&failure.text);
                    let longer = MAX_RECONNECT.min(self.pause * 2);
                    std::mem::replace(&mut self.pause, longer)
                }
                Err(failure) => {
                    self.command.finish(&mut self.state).await;
                    let _ = self.folder.write_state(&self.state);
                    return Err(failure);
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = signals.0.recv() => break,
                _ = signals.1.recv() => break,
            }
        }
        self.command.finish(&mut self.state).await;
        self.folder.write_state(&self.state)?;
        match self.args.once {
            // The folder is perhaps not up to date.
            true => Err(Failure::silent(1)),
            false => Ok(()),
        }
    }

    /// The end of --once: the command, the leases and the exit code.
    async fn finish_once(&mut self) -> Result<(), Failure> {
        self.command.start(&mut self.state);
        self.command.finish(&mut self.state).await;
        self.has_failed |= self.command.has_failed();
        self.folder.remove_old()?;
        self.folder.write_state(&self.state)?;
        self.holding.tell(&mut self.client, &self.state).await;
        for link in self
            .args
            .links
            .iter()
            .filter(|link| !self.folder.has(&link.id.to_string()))
        {
            report(&format!("no certificate {} for the link {}", link.id, link.name));
            self.has_failed = true;
        }
        match self.has_failed || !self.failed.is_empty() {
            true => Err(Failure::silent(1)),
            false => Ok(()),
        }
    }

    /// Follows one watch until it ends.
    async fn watch(&mut self, (interrupt, terminate): &mut (Signal, Signal)) -> Result<End, Failure> {
        let request = pb::WatchServerCertificatesRequest {
            resume_token: self.state.resume_token.clone(),
            ..self.request.clone()
        };
        self.is_synced = !request.resume_token.is_empty();
        self.present.clear();
        let started = tokio::select! {
            started = self.client.watch_server_certificates(request) => started,
            _ = interrupt.recv() => return Ok(End::Stopped),
            _ = terminate.recv() => return Ok(End::Stopped),
        };
        let mut stream = match started {
            Ok(stream) => stream.into_inner(),
            Err(status) => return self.ended(status),
        };
        let mut last = Instant::now();
        let mut retry = tokio::time::interval_at(Instant::now() + RETRY, RETRY);
        if self.is_synced {
            // Work that an earlier process did not finish.
            self.after_change().await?;
        }
        loop {
            tokio::select! {
                message = next_message(&mut stream, last) => match message {
                    Ok(Some(message)) => {
                        let kind = message.kind();
                        let was_synced = self.is_synced;
                        self.take(message).await?;
                        if kind == Kind::Synced && !was_synced {
                            self.forget_absent()?;
                            self.folder.write_state(&self.state)?;
                            if self.args.once {
                                return Ok(End::UpToDate);
                            }
                        }
                        if self.is_synced && kind != Kind::Heartbeat {
                            self.after_change().await?;
                        }
                        last = Instant::now();
                    }
                    Ok(None) => return Ok(End::Again(RECONNECT)),
                    Err(status) => return self.ended(status),
                },
                () = self.command.ended(&mut self.state) => {
                    self.folder.write_state(&self.state)?;
                    if self.is_synced {
                        self.after_change().await?;
                    }
                }
                _ = retry.tick(), if self.is_synced => {
                    self.retry().await?;
                    self.command.try_again();
                    self.after_change().await?;
                }
                () = self.holding.due() => self.holding.tell(&mut self.client, &self.state).await,
                _ = interrupt.recv() => return Ok(End::Stopped),
                _ = terminate.recv() => return Ok(End::Stopped),
            }
        }
    }

    /// The next step after the end of a watch.
    fn ended(&mut self, status: Status) -> Result<End, Failure> {
        use pb::Reason;
        let details = status.get_error_details();
        let reason = details.error_info().map(|info| info.reason.clone()).unwrap_or_default();
        let is = |wanted: Reason| reason == wanted.name();
        if (is(Reason::ResumeTokenExpired) || is(Reason::ResumeTokenInvalid)) && !self.state.resume_token.is_empty() {
            self.state.resume_token.clear();
            return Ok(End::Again(Duration::ZERO));
        }
        if is(Reason::StreamEnded) || is(Reason::WatcherTooSlow) {
            return Ok(End::Again(Duration::ZERO));
        }
        // A connection that broke.
        let is_cut = reason.is_empty() && matches!(status.code(), Code::Unknown | Code::Internal | Code::Cancelled);
        match is_cut && !self.args.once {
            true => Ok(End::Again(RECONNECT)),
            false => Err(failed(status, Effect::Reads)),
        }
    }

    /// Does what a message says, and notes its token.
    async fn take(&mut self, message: pb::WatchServerCertificatesResponse) -> Result<(), Failure> {
        self.pause = RECONNECT;
        let (kind, id) = (message.kind(), message.server_certificate_id.clone());
        match kind {
            Kind::Synced => self.is_synced = true,
            Kind::Rejected | Kind::Unspecified => {}
            Kind::Heartbeat => {}
            Kind::Deleted | Kind::Purged | Kind::Left => self.gone(&id)?,
            Kind::Present
            | Kind::Uploaded
            | Kind::Renewed
            | Kind::RolledBack
            | Kind::Renamed
            | Kind::Tagged
            | Kind::Moved
            | Kind::Undeleted => match message.server_certificate {
                Some(certificate) => {
                    self.present.insert(id.clone());
                    self.update(&certificate).await?;
                }
                // The certificate has gone since.
                None => self.gone(&id)?,
            },
        }
        // A watch that resumes in the middle of the present certificates does not learn which have gone. A watch that resumes after a
        // certificate that failed does not send it again.
        if self.is_synced && self.failed.is_empty() {
            self.state.resume_token = message.resume_token;
        }
        match kind {
            Kind::Heartbeat => self.folder.write_state(&self.state),
            _ => Ok(()),
        }
    }

    /// Fetches the key pair of a certificate and writes it, if the folder does not have it.
    async fn update(&mut self, certificate: &pb::ServerCertificate) -> Result<(), Failure> {
        let id = &certificate.server_certificate_id;
        if CertificateId::parse(id)
            .ok()
            .is_none_or(|parsed| parsed.to_string() != *id)
        {
            return Err(Failure::refused(format!(
                "the service sent no certificate id: {}",
                plain(id)
            )));
        }
        let is_there = self.folder.has(id);
        let kept = self.state.certificates.entry(id.clone()).or_default();
        kept.name.clone_from(&certificate.server_certificate_name);
        kept.is_gone = false;
        if !is_there {
            kept.version = 0;
        }
        let known_version = kept.version;
        if known_version > 0 && known_version == certificate.version {
            return Ok(());
        }
        let request = pb::GetKeyPairRequest {
            server_certificate_id: id.clone(),
            known_version,
            ..Default::default()
        };
        let mut answer = match self.client.get_key_pair(request).await {
            Ok(answer) => answer.into_inner(),
            // The certificate was deleted, or has left the scope, since.
            Err(status) if status.code() == Code::NotFound => return Ok(()),
            Err(status) => {
                let failure = failed(status, Effect::Reads);
                if failure.is_unavailable() {
                    return Err(failure);
                }
                report(&format!("{id}: {}", failure.text));
                self.failed.insert(id.clone());
                return Ok(());
            }
        };
        self.failed.remove(id);
        if answer.unchanged {
            return Ok(());
        }
        let pair = KeyPair {
            chain: std::mem::take(&mut answer.certificate_chain),
            private_key: Zeroizing::new(std::mem::take(&mut answer.private_key)),
        };
        self.folder.write(id, answer.version, &pair)?;
        let kept = self.state.certificates.entry(id.clone()).or_default();
        kept.version = answer.version;
        self.state.changed.insert(id.clone());
        self.command.try_again();
        self.folder.link(&self.args.links)?;
        self.folder.write_state(&self.state)?;
        print(&format!(
            "{id} version {} {}\n",
            answer.version,
            plain(&certificate.server_certificate_name)
        ))
    }

    /// A certificate was deleted or matches no longer.
    fn gone(&mut self, id: &str) -> Result<(), Failure> {
        let Some(kept) = self.state.certificates.get_mut(id) else {
            return Ok(());
        };
        if !std::mem::replace(&mut kept.is_gone, true) {
            self.holding.release(id);
        }
        self.failed.remove(id);
        if !self.args.prune {
            return Ok(());
        }
        self.state.certificates.remove(id);
        self.state.changed.insert(id.to_owned());
        self.command.try_again();
        self.folder.remove(id, &self.args.links)?;
        self.folder.write_state(&self.state)?;
        print(&format!("{id} removed\n"))
    }

    /// Certificates that were in the folder before, and are not among the present certificates, have gone.
    fn forget_absent(&mut self) -> Result<(), Failure> {
        let absent = self.state.certificates.keys().filter(|id| !self.present.contains(*id));
        let absent: Vec<_> = absent.cloned().collect();
        absent.iter().try_for_each(|id| self.gone(id))
    }

    /// Runs the command if something changed, and tells the service which versions are served.
    async fn after_change(&mut self) -> Result<(), Failure> {
        self.command.start(&mut self.state);
        if self.command.is_done(&self.state) {
            self.folder.remove_old()?;
            self.folder.write_state(&self.state)?;
            self.holding.tell(&mut self.client, &self.state).await;
        }
        Ok(())
    }

    /// Tries the certificates again that failed.
    async fn retry(&mut self) -> Result<(), Failure> {
        for id in self.failed.clone() {
            let certificate = pb::ServerCertificate {
                server_certificate_name: self
                    .state
                    .certificates
                    .get(&id)
                    .map(|kept| kept.name.clone())
                    .unwrap_or_default(),
                server_certificate_id: id,
                ..Default::default()
            };
            self.update(&certificate).await?;
        }
        Ok(())
    }
}

/// A line on standard error. The work goes on.
fn report(text: &str) {
    print::error(text);
}
