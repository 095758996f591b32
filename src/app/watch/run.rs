//! A running watch.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::authenticate::StreamCheck;
use super::super::changes::{Change, FilterState, Lost, ReadChanges, WATCH_CHUNK};
use super::super::get::check_chain;
use super::super::holder::StreamHolder;
use super::super::{App, Error, RequestId};
use super::filter::Wanted;
use super::queue::{Sender, Unsent};
use super::{Cursor, Watched, WatchedEvent, WatchedKind, error};
use crate::account::AccountId;
use crate::clock;
use crate::inventory::{CertificateId, CertificateKind, Scope};
use crate::store::{self, Filter, Liveness, Position, StoredCertificate};
use crate::telemetry::{causes, metrics};

/// How often a caller without news gets a token.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// The certificates of the present state that are read at once.
const PAGE: usize = 100;
/// The ids that are looked up at once.
const IDS: usize = 16;

/// When a caller without messages from now on gets a heartbeat.
pub(super) fn next_heartbeat() -> Instant {
    Instant::now() + HEARTBEAT
}

pub(super) struct Running {
    pub(super) app: App,
    pub(super) account: AccountId,
    pub(super) wanted: Wanted,
    /// Holds what is sent.
    pub(super) holder: Option<Arc<StreamHolder>>,
    pub(super) with_chain: bool,
    pub(super) cursor: Cursor,
    pub(super) queue: Sender,
    /// When the next heartbeat is due.
    pub(super) heartbeat: Instant,
    pub(super) check: StreamCheck,
    pub(super) closing: CancellationToken,
}

/// Why a watch ends.
enum End {
    /// The caller has left.
    Left,
    /// The connection closes, or the caller could not be looked up.
    Closing,
    TooSlow {
        resume_token: String,
    },
    /// The caller may no longer call.
    Refused(Arc<Error>),
    Failed(Error),
}

impl From<Unsent> for End {
    fn from(unsent: Unsent) -> Self {
        match unsent {
            Unsent::Left => Self::Left,
            Unsent::TooSlow { resume_token } => Self::TooSlow { resume_token },
        }
    }
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<store::Error> for End {
    fn from(error: store::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// The way to begin with the present certificates.
#[derive(Clone, Copy)]
enum Present {
    Send,
    /// The caller has them already.
    Hold,
}

impl Running {
    /// Runs to the end. `first` was read with the token.
    pub(super) async fn run(mut self, first: Option<ReadChanges>) {
        let end = self.run_until_end(first).await;
        let token = || self.cursor.write(&self.app, self.account, &self.wanted);
        let error = match end {
            End::Left => return,
            // The database was away: the caller calls again, and goes on after its last message.
            End::Closing | End::Failed(Error::DatabaseUnavailable(_) | Error::ResourceBusy(_)) => {
                token().map_or_else(|error| error, |resume_token| Error::StreamEnded { resume_token })
            }
            End::TooSlow { resume_token } => Error::WatcherTooSlow { resume_token },
            End::Failed(error) => error,
            End::Refused(error) => return self.queue.end(error),
        };
        self.queue.end(Arc::new(error));
    }

    async fn run_until_end(&mut self, first: Option<ReadChanges>) -> End {
        let (closing, check, left) = (self.closing.clone(), self.check.clone(), self.queue.closed());
        let mut stream = pin!(self.stream(first));
        tokio::select! {
            biased;
            () = left => End::Left,
            () = closing.cancelled() => End::Closing,
            refused = check.refused() => refused.map_or(End::Closing, End::Refused),
            end = stream.as_mut() => match end {
                Err(end) => end,
                Ok(never) => match never {},
            },
        }
    }

    async fn stream(&mut self, mut first: Option<ReadChanges>) -> Result<Infallible, End> {
        if self.holder.is_some() && !self.cursor.is_new() {
            self.go_through_present(Position::START, Present::Hold).await?;
        }
        if let Some(after) = self.cursor.present {
            self.go_through_present(after, Present::Send).await?;
            let cursor = Cursor {
                present: None,
                ..self.cursor
            };
            self.send(cursor, WatchedKind::Synced, None, None, None).await?;
            // The changes that follow must not be older than the present state.
            first = None;
        }
        loop {
            let last = loop {
                let read = match first.take() {
                    Some(read) => read,
                    None => {
                        let cursor = self.cursor;
                        let is_same = |mark| cursor.is_at(mark);
                        let read = self
                            .app
                            .read_changes(self.account, cursor.position, WATCH_CHUNK, is_same);
                        read.await.map_err(error)?
                    }
                };
                for change in &read.changes {
                    self.take(change).await?;
                }
                self.send_heartbeat_if_due().await?;
                if read.is_end {
                    break read.last;
                }
            };
            let mut changes = self.app.changes_after(self.account, last);
            loop {
                tokio::select! {
                    biased;
                    next = changes.next() => match next {
                        Ok(change) => {
                            self.take(&change).await?;
                            self.send_heartbeat_if_due().await?;
                        }
                        Err(Lost) => break,
                    },
                    () = tokio::time::sleep_until(self.heartbeat) => self.send_heartbeat_if_due().await?,
                }
            }
        }
    }

    async fn send_heartbeat_if_due(&mut self) -> Result<(), End> {
        if Instant::now() < self.heartbeat {
            return Ok(());
        }
        self.send(self.cursor, WatchedKind::Heartbeat, None, None, None).await
    }

    /// Sends or holds the certificates after this one, oldest first.
    async fn go_through_present(&mut self, mut after: Position, what: Present) -> Result<(), End> {
        if !self.wanted.ids.is_empty() {
            return self.go_through_ids(after, what).await;
        }
        let scope = match &self.wanted.name_prefix {
            None => Some((*self.wanted.scope).clone()),
            Some(prefix) => self.wanted.scope.intersection(&Scope {
                name_prefixes: vec![prefix.clone()],
                ..Scope::default()
            }),
        };
        let Some(scope) = scope else { return Ok(()) };
        loop {
            let filter = Filter {
                kind: CertificateKind::Server,
                region: self.wanted.region.as_ref(),
                resource_group: self.wanted.resource_group.as_ref(),
                tags: &self.wanted.tags,
                liveness: Liveness::Live,
            };
            let page = self
                .app
                .0
                .store
                .page((self.account, &scope), filter, after, PAGE)
                .await?;
            self.present(page.certificates, what).await?;
            match page.next {
                Some(next) => self.pass(&mut after, next, what),
                None => return Ok(()),
            }
        }
    }

    /// The present certificates up to this one were gone through.
    fn pass(&mut self, after: &mut Position, next: Position, what: Present) {
        *after = next;
        if let Present::Send = what {
            self.cursor.present = Some(next);
        }
    }

    async fn go_through_ids(&mut self, mut after: Position, what: Present) -> Result<(), End> {
        let ids = self.wanted.ids.iter().copied().filter(|id| Position::from(*id) > after);
        let ids: Vec<_> = ids.collect();
        for ids in ids.chunks(IDS) {
            let found = self.app.0.store.find_several(ids, CertificateKind::Server).await?;
            let is_wanted = |stored: &StoredCertificate| self.wanted.has(stored.id, &FilterState::of(stored));
            let found = found.into_iter().flatten().filter(is_wanted).collect();
            self.present(found, what).await?;
            if let Some(last) = ids.last() {
                self.pass(&mut after, Position::from(*last), what);
            }
        }
        Ok(())
    }

    async fn present(&mut self, certificates: Vec<StoredCertificate>, what: Present) -> Result<(), End> {
        self.hold_together(&certificates).await?;
        self.send_heartbeat_if_due().await?;
        if let Present::Hold = what {
            return Ok(());
        }
        for stored in certificates {
            let id = stored.id;
            let cursor = Cursor {
                present: Some(Position::from(id)),
                ..self.cursor
            };
            let certificate = Some(Arc::new(stored));
            self.send(cursor, WatchedKind::Present, Some(id), certificate, None)
                .await?;
        }
        Ok(())
    }

    /// Holds certificates, in few statements. One that was deleted in the meantime is left out.
    async fn hold_together(&self, certificates: &[StoredCertificate]) -> Result<(), End> {
        let Some(holder) = &self.holder else { return Ok(()) };
        let mut binding = JoinSet::new();
        for stored in certificates {
            let (holder, id, version) = (holder.clone(), stored.id, stored.version);
            binding.spawn(async move { holder.bind(id, version).await });
        }
        while let Some(bound) = binding.join_next().await {
            match bound.map_err(Error::internal)? {
                Ok(()) | Err(Error::NotFound(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Holds a certificate, if the caller wants that. Whether the certificate is still live.
    async fn hold(&self, id: CertificateId, version: i64) -> Result<bool, End> {
        let Some(holder) = &self.holder else { return Ok(true) };
        match holder.bind(id, version).await {
            Ok(()) => Ok(true),
            Err(Error::NotFound(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Passes a change on to the caller, if it is about a certificate of the watch.
    async fn take(&mut self, change: &Change) -> Result<(), End> {
        let mut cursor = self.cursor;
        cursor.advance(change.mark);
        let Some(kind) = self.wanted.kind_of(change) else {
            self.cursor = cursor;
            return Ok(());
        };
        let certificate = match kind {
            WatchedKind::Deleted | WatchedKind::Purged | WatchedKind::Left => None,
            _ => self.wanted.shown(change.certificate.as_ref()),
        };
        let event = WatchedEvent {
            request_id: RequestId(change.mark.request_id),
            occurred_us: change.occurred_us,
            version: change.version,
        };
        self.send(cursor, kind, Some(change.id), certificate, Some(event))
            .await?;
        metrics::watch_delay(clock::now().millis() * 1000 - change.occurred_us);
        Ok(())
    }

    /// Sends a message. The watch is at `cursor` when it is sent, and not before: it can end at any moment.
    async fn send(
        &mut self,
        cursor: Cursor,
        kind: WatchedKind,
        id: Option<CertificateId>,
        mut certificate: Option<Arc<StoredCertificate>>,
        event: Option<WatchedEvent>,
    ) -> Result<(), End> {
        let mut chain = None;
        if let (Some(holder), Some(id), WatchedKind::Deleted | WatchedKind::Purged | WatchedKind::Left) =
            (&self.holder, id, kind)
        {
            holder.release(id);
        }
        if self.with_chain
            && let Some(stored) = certificate.take()
        {
            // The chain must be that of the certificate. So both are read again.
            let store = &self.app.0.store;
            if let Some((now, its_chain)) = store.find_with_chain(stored.id, CertificateKind::Server, None).await? {
                // The message of a damaged certificate has no chain. The watch goes on with the others.
                let checked = check_chain(CertificateKind::Server, &now, &its_chain);
                certificate = self.wanted.shown(Some(&Arc::new(now)));
                match checked {
                    Ok(()) => chain = certificate.as_ref().map(|_| its_chain),
                    Err(error) => tracing::error!(cause = causes(&error), "a chain is not sent"),
                }
            }
        }
        if let Some(stored) = &certificate
            && !self.hold(stored.id, stored.version).await?
        {
            // The certificate was deleted in the meantime.
            (certificate, chain) = (None, None);
        }
        let message = Watched {
            kind,
            resume_token: cursor.write(&self.app, self.account, &self.wanted)?,
            id,
            certificate,
            chain,
            event,
        };
        self.queue.send(message).await?;
        self.cursor = cursor;
        self.heartbeat = next_heartbeat();
        Ok(())
    }
}
