//! Watches server certificates: the present state, and then every change in order.

mod filter;
mod queue;
mod run;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::authenticate::StreamCheck;
use super::changes::{ChangeKind, ReadError, WATCH_CHUNK};
use super::holder::{HolderKind, StreamHolder};
use super::lease::check_holder;
use super::page::List;
use super::tail_audit_events::{RequestMark, request_mark};
use super::{App, Call, Error, Field, FieldError, RequestId};
use crate::account::AccountId;
use crate::certificate::{Chain, ClientCertificate};
use crate::inventory::CertificateId;
use crate::store::{EventMark, Position, StoredCertificate};
use filter::Wanted;
pub(super) use queue::WaitingOctets;
pub use queue::Watch;
use run::Running;

/// The certificates to watch. An empty text or list sets no limit.
#[derive(Debug, Default)]
pub struct WatchCertificates {
    /// The region.
    pub region_id: String,
    /// The ids, at most 1,000.
    pub ids: Vec<String>,
    /// The resource group.
    pub resource_group_id: String,
    /// Tags that every certificate must have.
    pub tags: Vec<(String, String)>,
    /// The start of the name.
    pub name_prefix: String,
    /// Send the chains too.
    pub with_certificate_chain: bool,
    /// The token of the message after which to go on. Empty: begin with the present state.
    pub resume_token: String,
    /// Hold what is sent under this name. Empty: hold nothing.
    pub holder: String,
    /// The program of the caller, as it says.
    pub user_agent: String,
}

/// A message of a watch.
#[derive(Debug)]
pub struct Watched {
    /// The kind of the message.
    pub kind: WatchedKind,
    /// Resumes after this message.
    pub resume_token: String,
    /// The certificate. `None`: the message is about no certificate.
    pub id: Option<CertificateId>,
    /// The certificate as it is now, if it is live and in the scope of the caller.
    pub certificate: Option<Arc<StoredCertificate>>,
    /// Its chain, if the caller wants it.
    pub chain: Option<Chain>,
    /// The event.
    pub event: Option<WatchedEvent>,
}

/// The event of a message.
#[derive(Clone, Copy, Debug)]
pub struct WatchedEvent {
    /// The request that made the change.
    pub request_id: RequestId,
    /// When it happened, in microseconds since 1970.
    pub occurred_us: i64,
    /// The version of the certificate after the event.
    pub version: i64,
}

/// The kind of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the public schema explains the kinds")]
pub enum WatchedKind {
    Present,
    Synced,
    Heartbeat,
    Uploaded,
    Renewed,
    RolledBack,
    Renamed,
    Tagged,
    Moved,
    Deleted,
    Undeleted,
    Purged,
    Left,
    Rejected,
}

impl From<ChangeKind> for WatchedKind {
    fn from(change: ChangeKind) -> Self {
        match change {
            ChangeKind::Uploaded => Self::Uploaded,
            ChangeKind::Renewed => Self::Renewed,
            ChangeKind::RolledBack => Self::RolledBack,
            ChangeKind::Renamed => Self::Renamed,
            ChangeKind::Tagged => Self::Tagged,
            ChangeKind::Moved => Self::Moved,
            ChangeKind::Deleted => Self::Deleted,
            ChangeKind::Undeleted => Self::Undeleted,
            ChangeKind::Purged => Self::Purged,
            ChangeKind::Rejected => Self::Rejected,
        }
    }
}

impl App {
    /// Watches the certificates that exist for the caller and meet all filters: the present state, or what happened since the token, and
    /// then each change, in order and without a gap. Ends with a token when `closing` is cancelled. `certificate` is that of the
    /// connection.
    pub async fn watch(
        &self,
        call: &Call,
        request: &WatchCertificates,
        certificate: Option<ClientCertificate>,
        closing: CancellationToken,
    ) -> Result<Watch, Error> {
        let holder = self.holder_of(call, request)?;
        let account = call.caller.account;
        let wanted = Wanted::parse(self, call, request)?;
        let cursor = match request.resume_token.as_str() {
            "" => Cursor::at_the_begin(self.0.store.last_event(account).await?),
            token => Cursor::read(self, account, &wanted, token)?,
        };
        let first = match cursor.is_new() {
            true => None,
            // A token that has expired is refused at once.
            false => {
                let read = self.read_changes(account, cursor.position, WATCH_CHUNK, |mark| cursor.is_at(mark));
                Some(read.await.map_err(error)?)
            }
        };
        let waiting = self.0.waiting_octets.clone();
        let (sender, watch) = queue::queue(waiting, queue::MAX_WAIT, request.resume_token.clone());
        let running = Running {
            app: self.clone(),
            account,
            wanted,
            holder,
            with_chain: request.with_certificate_chain,
            cursor,
            queue: sender,
            heartbeat: run::next_heartbeat(),
            check: StreamCheck::start(self, call, certificate),
            closing,
        };
        tokio::spawn(running.run(first));
        Ok(watch)
    }

    fn holder_of(&self, call: &Call, request: &WatchCertificates) -> Result<Option<Arc<StreamHolder>>, Error> {
        if request.holder.is_empty() {
            return Ok(None);
        }
        call.caller.may_call("BindServerCertificate")?;
        let name = check_holder(&request.holder).map_err(|error| Error::field(Field::Holder, error))?;
        let holder = self.hold(call, HolderKind::Watch, name, &request.user_agent);
        Ok(Some(Arc::new(holder)))
    }
}

fn error(error: ReadError) -> Error {
    match error {
        ReadError::Broken => Error::ResumeTokenExpired,
        ReadError::Store(error) => error.into(),
    }
}

/// The place of a watch: the last event that the caller has, and the last certificate of the present state.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    position: i64,
    /// Zeros: there was no event yet.
    request: RequestMark,
    /// The present state goes on after this certificate. `None`: all of it was sent.
    present: Option<Position>,
}

impl Cursor {
    /// The present state is read after the last event. So it can be newer than events that follow, but never older.
    fn at_the_begin(last: EventMark) -> Self {
        Self {
            position: last.position,
            request: request_mark(last.request_id),
            present: Some(Position::START),
        }
    }

    /// Whether nothing was sent yet.
    fn is_new(self) -> bool {
        self.present == Some(Position::START)
    }

    fn advance(&mut self, mark: EventMark) {
        self.position = mark.position;
        self.request = request_mark(mark.request_id);
    }

    fn is_at(self, mark: EventMark) -> bool {
        self.position == mark.position && self.request == request_mark(mark.request_id)
    }

    fn read(app: &App, account: AccountId, wanted: &Wanted, token: &str) -> Result<Self, Error> {
        let invalid = || Error::field(Field::ResumeToken, FieldError::ResumeToken);
        let read = app.0.page_tokens.read_sorted(list(account, &[wanted.hash()]), token);
        let (position, rest) = read.map_err(|_| invalid())?;
        let (request, rest) = rest.split_first_chunk().ok_or_else(invalid)?;
        let present = match rest.split_first_chunk() {
            None if rest.is_empty() => None,
            None => return Err(invalid()),
            Some((created, random)) => Some(Position {
                created_ms: i64::from_be_bytes(*created),
                random: i64::from_be_bytes(random.try_into().map_err(|_| invalid())?),
            }),
        };
        Ok(Self {
            position: position.created_ms,
            request: *request,
            present,
        })
    }

    fn write(self, app: &App, account: AccountId, wanted: &Wanted) -> Result<String, Error> {
        let position = Position {
            created_ms: self.position,
            random: 0,
        };
        let mut rest = self.request.to_vec();
        if let Some(present) = self.present {
            rest.extend(present.created_ms.to_be_bytes());
            rest.extend(present.random.to_be_bytes());
        }
        let tokens = &app.0.page_tokens;
        tokens.write_sorted(list(account, &[wanted.hash()]), position, &rest)
    }
}

/// The list that the tokens belong to.
fn list<'a>(account: AccountId, filter: &'a [&'a str]) -> List<'a> {
    List {
        name: "WatchServerCertificates",
        account,
        filter,
    }
}
