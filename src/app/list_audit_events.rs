//! Lists audit events in pages.

use std::collections::VecDeque;

use super::audit_event::require_no_scope;
use super::page::{List, page_size};
use super::violation::Violations;
use super::{App, AuditEvent, AuditOutcome, Call, Error, Field, FieldError};
use crate::account::AccountId;
use crate::clock::Timestamp;
use crate::inventory::CertificateId;
use crate::store::{Position, Store, StoredAuditEvent, Trail};

/// The events that are read for a page at most. A page can be shorter than asked for.
const MAX_READ: usize = 10_000;
/// The events of a trail that are read at once.
const CHUNK: usize = 1000;
/// The details of the events of a page, in octets. The page ends after the event that passes this size.
const MAX_OCTETS: usize = 2 * 1024 * 1024;
const MAX_METHODS: usize = 20;
/// The time of a later event of a trail can be earlier, when the clock of the database was set back or another server took over.
const MAX_SETBACK_US: i64 = 10 * 60 * 1_000_000;

/// The filters and the page of a list of audit events. An empty value means no filter.
#[derive(Debug)]
pub struct ListAuditEvents {
    /// The id of the resource.
    pub resource_id: String,
    /// The principal.
    pub principal: String,
    /// The methods; an event has one of them.
    pub methods: Vec<String>,
    /// The outcomes; an event has one of them. `None` stands for a value that the door does not know.
    pub outcomes: Option<Vec<AuditOutcome>>,
    /// The time of the oldest event. An error if the value is not a valid time.
    pub from: Result<Option<Timestamp>, FieldError>,
    /// Events must be older. An error if the value is not a valid time.
    pub before: Result<Option<Timestamp>, FieldError>,
    /// The maximum number of events in the answer; 0: the default.
    pub page_size: i32,
    /// The token of the page; empty: the first page.
    pub page_token: String,
}

/// A page of audit events.
#[derive(Debug)]
pub struct ListedAuditEvents {
    /// The events, the newest first.
    pub events: Vec<AuditEvent>,
    /// The token of the next page; empty on the last.
    pub next_page_token: String,
}

impl App {
    /// A page of the events of both trails of the caller's account, the newest first.
    pub async fn list_audit_events(&self, call: &Call, request: ListAuditEvents) -> Result<ListedAuditEvents, Error> {
        require_no_scope(call)?;
        let account = call.caller.account;
        let others = format!("{:?} {:?} {:?}", request.outcomes, request.from, request.before);
        let mut filter = vec![others.as_str(), &request.resource_id, &request.principal];
        filter.extend(request.methods.iter().map(String::as_str));
        let list = List {
            name: "ListAuditEvents",
            account,
            filter: &filter,
        };
        let mut violations = Violations::default();
        let size = violations.check(Field::PageSize, page_size(request.page_size));
        let token = match request.page_token.as_str() {
            "" => Ok([i64::MAX; 2]),
            token => self
                .0
                .page_tokens
                .read_sorted(list, token)
                .and_then(|(_, key)| before(&key)),
        };
        let token = violations.check(Field::PageToken, token);
        let outcomes = violations.check(Field::Outcomes, request.outcomes.clone().ok_or(FieldError::Outcome));
        let from = violations.check(Field::EventTimeFrom, copied(&request.from));
        let until = violations.check(Field::EventTimeBefore, copied(&request.before));
        if request.methods.len() > MAX_METHODS {
            let count = request.methods.len();
            violations.note(
                Field::Methods,
                Some(FieldError::TooMany {
                    count,
                    max: MAX_METHODS,
                }),
            );
        }
        let (Some(size), Some(before), Some(outcomes), Some(from), Some(until), true) =
            (size, token, outcomes, from, until, violations.is_empty())
        else {
            return Err(violations.into());
        };
        let from_us = from.map_or(i64::MIN, |time| time.millis().saturating_mul(1000));
        let until_us = until.map_or(i64::MAX, |time| time.millis().saturating_mul(1000));
        let matches = |event: &AuditEvent| {
            (from_us..until_us).contains(&event.occurred_us)
                && (request.resource_id.is_empty() || event.resource_id == request.resource_id)
                && (request.principal.is_empty() || event.principal == request.principal)
                && (request.methods.is_empty() || request.methods.contains(&event.method))
                && (outcomes.is_empty() || outcomes.contains(&event.outcome))
        };

        let store = &self.0.store;
        let mut readers = Trail::ALL.map(|trail| Reader {
            account,
            trail,
            resource_id: &request.resource_id,
            before: before[trail as usize],
            rows: VecDeque::new(),
            has_more: true,
        });
        let mut events = Vec::new();
        let (mut read, mut octets) = (0, 0);
        let has_more = loop {
            let chunk = (size - events.len() + 1).clamp(100, CHUNK);
            for reader in &mut readers {
                reader.fill(store, chunk).await?;
            }
            let newest = readers.iter_mut().max_by_key(|reader| reader.time());
            let Some(reader) = newest.filter(|reader| reader.time().is_some()) else {
                break false;
            };
            if events.len() == size || read == MAX_READ || octets > MAX_OCTETS {
                break true;
            }
            let Some(stored) = reader.next() else { break false };
            read += 1;
            if stored.occurred_us < from_us.saturating_sub(MAX_SETBACK_US) {
                reader.end();
            }
            let detail = stored.detail.as_ref().map_or(0, String::len);
            let event = AuditEvent::of(stored)?;
            if matches(&event) {
                octets += detail;
                events.push(event);
            }
        };
        let next_page_token = match has_more {
            false => String::new(),
            true => {
                let key: Vec<u8> = readers.iter().flat_map(|reader| reader.before.to_be_bytes()).collect();
                self.0.page_tokens.write_sorted(list, Position::START, &key)?
            }
        };
        Ok(ListedAuditEvents {
            events,
            next_page_token,
        })
    }
}

fn copied(time: &Result<Option<Timestamp>, FieldError>) -> Result<Option<Timestamp>, FieldError> {
    time.as_ref().copied().map_err(|_| FieldError::Time)
}

/// The positions in a page token.
fn before(key: &[u8]) -> Result<[i64; 2], FieldError> {
    let parts = key.split_first_chunk().and_then(|(certificates, rest)| {
        let access = rest.try_into().ok()?;
        Some([i64::from_be_bytes(*certificates), i64::from_be_bytes(access)])
    });
    parts.ok_or(FieldError::PageToken)
}

/// Reads a trail, the newest event first.
struct Reader<'a> {
    account: AccountId,
    trail: Trail,
    resource_id: &'a str,
    /// The events from this position on were returned, or did not match.
    before: i64,
    rows: VecDeque<StoredAuditEvent>,
    has_more: bool,
}

impl Reader<'_> {
    /// Reads more events if none is left.
    async fn fill(&mut self, store: &Store, chunk: usize) -> Result<(), Error> {
        if !self.rows.is_empty() || !self.has_more {
            return Ok(());
        }
        let rows = match (self.resource_id, self.trail) {
            ("", trail) => {
                store
                    .audit_events_before(self.account, trail, self.before, chunk)
                    .await?
            }
            (id, Trail::Certificates) => match CertificateId::parse(id) {
                Ok(id) if id.account == self.account => {
                    store.events_of_certificate_before(id, self.before, chunk).await?
                }
                _ => Vec::new(),
            },
            (id, Trail::Access) => {
                store
                    .access_events_of_resource_before(self.account, id, self.before, chunk)
                    .await?
            }
        };
        self.has_more = rows.len() == chunk;
        self.rows = rows.into();
        Ok(())
    }

    /// The time of the next event.
    fn time(&self) -> Option<i64> {
        self.rows.front().map(|event| event.occurred_us)
    }

    fn next(&mut self) -> Option<StoredAuditEvent> {
        let event = self.rows.pop_front()?;
        self.before = event.position;
        Some(event)
    }

    /// Ignores the older events, on the next pages too.
    fn end(&mut self) {
        self.rows.clear();
        self.has_more = false;
        self.before = 0;
    }
}
