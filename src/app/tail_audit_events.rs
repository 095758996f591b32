//! Streams audit events: those that are kept, and then each new one.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::audit_event::require_no_scope;
use super::authenticate::StreamCaller;
use super::page::List;
use super::{App, AuditEvent, Call, Error, Field, FieldError};
use crate::account::AccountId;
use crate::certificate::ClientCertificate;
use crate::store::{Position, Store, StoredAuditEvent, Trail};

/// How often the trails are asked for news.
const POLL: Duration = Duration::from_millis(500);
/// How often a caller without news gets a token.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// The events of a trail that are read at once.
const CHUNK: usize = 500;
/// The messages that wait for the caller.
const QUEUE: usize = 16;

/// A message of the stream.
#[derive(Debug)]
pub struct TailedAuditEvent {
    /// The event. `None`: nothing happened for some time, or the stream ends.
    pub event: Option<AuditEvent>,
    /// The token of the place in both trails after the event.
    pub resume_token: String,
}

/// The messages of a stream. An error is the last one.
pub type AuditTail = mpsc::Receiver<Result<TailedAuditEvent, Error>>;

impl App {
    /// Streams the audit events of the caller's account: each event once, without a gap, and in the order of its trail. Begins after the
    /// events of the token, or with the oldest event that is kept. Ends with a token when `closing` is cancelled. `certificate` is
    /// that of the connection.
    pub async fn tail_audit_events(
        &self,
        call: &Call,
        resume_token: &str,
        certificate: Option<ClientCertificate>,
        closing: CancellationToken,
    ) -> Result<AuditTail, Error> {
        require_no_scope(call)?;
        let cursor = match resume_token {
            "" => Cursor::at_the_begin(self, call.caller.account).await?,
            token => Cursor::read(self, call.caller.account, token)?,
        };
        // A token that has expired is refused at once.
        let news = cursor.news(&self.0.store).await?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let tail = Tail {
            app: self.clone(),
            caller: StreamCaller::new(self, call, certificate),
            cursor,
            sender,
        };
        tokio::spawn(tail.run(news, closing));
        Ok(receiver)
    }
}

/// A running stream.
struct Tail {
    app: App,
    caller: StreamCaller,
    cursor: Cursor,
    sender: mpsc::Sender<Result<TailedAuditEvent, Error>>,
}

/// The caller has left.
struct Left;

impl Tail {
    async fn run(mut self, news: Vec<StoredAuditEvent>, closing: CancellationToken) {
        if let Err(error) = self.stream(news, closing).await {
            // If the caller has left, nobody reads the error.
            let _ = self.sender.send(Err(error)).await;
        }
    }

    async fn stream(&mut self, mut news: Vec<StoredAuditEvent>, closing: CancellationToken) -> Result<(), Error> {
        let mut last_sent = Instant::now();
        loop {
            let is_quiet = news.is_empty();
            for stored in news {
                self.caller.check().await?;
                if closing.is_cancelled() {
                    break;
                }
                self.cursor.advance(&stored);
                last_sent = Instant::now();
                if let Err(Left) = self.send(Some(AuditEvent::of(stored)?)).await {
                    return Ok(());
                }
            }
            if is_quiet && !closing.is_cancelled() {
                tokio::select! {
                    () = tokio::time::sleep(POLL) => {}
                    () = closing.cancelled() => {}
                    () = self.sender.closed() => return Ok(()),
                }
            }
            if closing.is_cancelled() || last_sent.elapsed() >= HEARTBEAT {
                last_sent = Instant::now();
                if self.send(None).await.is_err() || closing.is_cancelled() {
                    return Ok(());
                }
            }
            self.caller.check().await?;
            news = self.cursor.news(&self.app.0.store).await?;
        }
    }

    async fn send(&self, event: Option<AuditEvent>) -> Result<(), Left> {
        let token = self.cursor.write(&self.app);
        let message = token.map(|resume_token| TailedAuditEvent { event, resume_token });
        self.sender.send(message).await.map_err(|_| Left)
    }
}

/// The first octets of the id of a request. Two events with one position, before and after a restored database, have different octets.
pub(super) type RequestMark = [u8; 8];

/// The last event of a trail that the caller has.
#[derive(Clone, Copy, Default)]
struct Place {
    position: i64,
    /// The event's request. Zeros: the caller has no event of the trail, only the position before the oldest one.
    request: RequestMark,
}

/// A place in both trails of an account, in the order of [`Trail::ALL`].
struct Cursor {
    account: AccountId,
    places: [Place; 2],
}

impl Cursor {
    async fn at_the_begin(app: &App, account: AccountId) -> Result<Self, Error> {
        let states = app.0.store.audit_trails(account).await?;
        let places = states.map(|state| Place {
            position: state.purged,
            request: RequestMark::default(),
        });
        Ok(Self { account, places })
    }

    fn read(app: &App, account: AccountId, token: &str) -> Result<Self, Error> {
        let read = app.0.page_tokens.read_sorted(list(account), token);
        let (position, marks) = read.map_err(|_| invalid())?;
        let places = marks.split_first_chunk().and_then(|(certificates, rest)| {
            let place = |position, request: RequestMark| Place { position, request };
            Some([
                place(position.created_ms, *certificates),
                place(position.random, rest.try_into().ok()?),
            ])
        });
        let places = places.ok_or_else(invalid)?;
        Ok(Self { account, places })
    }

    fn write(&self, app: &App) -> Result<String, Error> {
        let [certificates, access] = self.places;
        let positions = Position {
            created_ms: certificates.position,
            random: access.position,
        };
        let marks = [certificates.request, access.request].concat();
        app.0.page_tokens.write_sorted(list(self.account), positions, &marks)
    }

    fn advance(&mut self, event: &StoredAuditEvent) {
        self.places[event.trail() as usize] = Place {
            position: event.position,
            request: mark(event),
        };
    }

    /// The next events of both trails, by their times. Every read includes the last event that the caller has. If the database has
    /// another event there, or lacks one, the caller must start again.
    async fn news(&self, store: &Store) -> Result<Vec<StoredAuditEvent>, Error> {
        let states = store.audit_trails(self.account).await?;
        let mut news = [Vec::new(), Vec::new()];
        for ((trail, state), place) in Trail::ALL.into_iter().zip(states).zip(self.places) {
            if state.position < place.position {
                return Err(Error::ResumeTokenExpired);
            }
            if state.position == place.position {
                continue;
            }
            let has_event = place.request != RequestMark::default();
            let first = place.position + i64::from(!has_event);
            let mut events = store.audit_events_from(self.account, trail, first, CHUNK).await?;
            let is_whole = events
                .iter()
                .zip(first..)
                .all(|(event, position)| event.position == position);
            let is_next = events
                .first()
                .is_some_and(|event| !has_event || mark(event) == place.request);
            if !is_whole || !is_next {
                return Err(Error::ResumeTokenExpired);
            }
            if has_event {
                events.remove(0);
            }
            news[trail as usize] = events;
        }
        let [certificates, access] = news;
        Ok(merged(certificates, access))
    }
}

fn invalid() -> Error {
    Error::field(Field::ResumeToken, FieldError::ResumeToken)
}

/// The list that the tokens belong to.
fn list(account: AccountId) -> List<'static> {
    List {
        name: "TailAuditEvents",
        account,
        filter: &[],
    }
}

fn mark(event: &StoredAuditEvent) -> RequestMark {
    request_mark(event.request_id)
}

/// The mark of a request.
pub(super) fn request_mark(request_id: Uuid) -> RequestMark {
    let [a, b, c, d, e, f, g, h, ..] = *request_id.as_bytes();
    [a, b, c, d, e, f, g, h]
}

/// The events of both trails by their times. The order within each trail stays.
fn merged(certificates: Vec<StoredAuditEvent>, access: Vec<StoredAuditEvent>) -> Vec<StoredAuditEvent> {
    let mut merged = Vec::with_capacity(certificates.len() + access.len());
    let mut access = access.into_iter().peekable();
    for event in certificates {
        while let Some(earlier) = access.next_if(|other| other.occurred_us < event.occurred_us) {
            merged.push(earlier);
        }
        merged.push(event);
    }
    merged.extend(access);
    merged
}
