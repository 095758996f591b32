//! Verifies the audit trails of an account.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::audit_event::require_no_scope;
use super::authenticate::StreamCaller;
use super::{App, Call, Error, Field, FieldError};
use crate::account::AccountId;
use crate::certificate::ClientCertificate;
use crate::store::{CHAIN_START, ChainMac, MAX_EVENTS_PER_SEAL, Seal, StoredAuditEvent, Trail, purge_mac, seal_mac};

/// The events, and the seals, that are read at once.
const CHUNK: usize = 2000;
/// How often the caller is told how many events were verified.
const PROGRESS: Duration = Duration::from_secs(1);
const MAX_HEADS: usize = 20;
/// A trail that is purged at the same time is verified again.
const MAX_ATTEMPTS: u32 = 3;

/// A message of a verification.
#[derive(Clone, Debug)]
pub struct AuditVerification {
    /// The number of events that were verified so far.
    pub verified_events: i64,
    /// The result, in the last message.
    pub report: Option<AuditReport>,
}

/// The result of a verification.
#[derive(Clone, Debug)]
pub struct AuditReport {
    /// Both trails.
    pub trails: Vec<TrailReport>,
    /// The given heads that are in no chain.
    pub missing_heads: Vec<ChainMac>,
}

/// The state of a trail.
#[derive(Clone, Debug)]
pub struct TrailReport {
    /// The trail.
    pub trail: Trail,
    /// The position of the oldest event that is kept. 0: there is none.
    pub first_position: i64,
    /// The position of the newest event. 0: there is none.
    pub last_position: i64,
    /// The position of the last event that has a valid seal.
    pub sealed_position: i64,
    /// The MAC of that seal. `None`: nothing is sealed.
    pub head: Option<ChainMac>,
    /// Where the trail is broken, and how.
    pub fault: Option<(i64, TrailFault)>,
}

/// How a trail is broken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TrailFault {
    /// The event at the position is missing.
    EventMissing,
    /// An event was changed: the event at the position or a later one that has the same seal. Or the seal was changed.
    EventChanged,
    /// The seal that begins at the position is missing.
    SealMissing,
}

impl App {
    /// Verifies both trails of the caller's account against their seals. `heads` are MACs of seals, in hexadecimal digits, that were
    /// logged earlier: each must still be in a chain. `certificate` is that of the connection.
    pub async fn verify_audit_trail(
        &self,
        call: &Call,
        heads: &[String],
        certificate: Option<ClientCertificate>,
    ) -> Result<mpsc::Receiver<Result<AuditVerification, Error>>, Error> {
        require_no_scope(call)?;
        if heads.len() > MAX_HEADS {
            let count = heads.len();
            return Err(Error::field(
                Field::Heads,
                FieldError::TooMany { count, max: MAX_HEADS },
            ));
        }
        let mac = |head: &String| {
            let mut mac = ChainMac::default();
            hex::decode_to_slice(head, &mut mac).ok().map(|()| mac)
        };
        let heads: Option<Vec<_>> = heads.iter().map(mac).collect();
        let heads = heads.ok_or_else(|| Error::field(Field::Heads, FieldError::Head))?;
        let (sender, receiver) = mpsc::channel(1);
        let verifying = Verifying {
            app: self.clone(),
            caller: StreamCaller::new(self, call, certificate),
            account: call.caller.account,
            missing_heads: heads,
            verified_events: 0,
            told: Instant::now(),
            sender: sender.clone(),
        };
        tokio::spawn(async move {
            let ended = tokio::select! {
                ended = verifying.run() => ended,
                // The caller has left.
                () = sender.closed() => return,
            };
            let _ = sender.send(ended).await;
        });
        Ok(receiver)
    }
}

struct Verifying {
    app: App,
    caller: StreamCaller,
    account: AccountId,
    missing_heads: Vec<ChainMac>,
    verified_events: i64,
    told: Instant,
    sender: mpsc::Sender<Result<AuditVerification, Error>>,
}

impl Verifying {
    async fn run(mut self) -> Result<AuditVerification, Error> {
        let mut trails = Vec::new();
        for trail in Trail::ALL {
            trails.push(self.verify(trail).await?);
        }
        Ok(AuditVerification {
            verified_events: self.verified_events,
            report: Some(AuditReport {
                trails,
                missing_heads: self.missing_heads,
            }),
        })
    }

    async fn verify(&mut self, trail: Trail) -> Result<TrailReport, Error> {
        let mut attempt = 1;
        loop {
            let (report, purged) = self.verify_once(trail).await?;
            let now = self.purged(trail).await?;
            if report.fault.is_none() || purged == now || attempt == MAX_ATTEMPTS {
                return Ok(report);
            }
            attempt += 1;
        }
    }

    async fn purged(&self, trail: Trail) -> Result<i64, Error> {
        let states = self.app.0.store.audit_trails(self.account).await?;
        Ok(states[trail as usize].purged)
    }

    /// The report, and the position up to which events were purged when it began.
    async fn verify_once(&mut self, trail: Trail) -> Result<(TrailReport, i64), Error> {
        let [certificates, access] = self.app.0.store.audit_trails(self.account).await?;
        let state = match trail {
            Trail::Certificates => certificates,
            Trail::Access => access,
        };
        let purged = state.purged;
        let mut report = TrailReport {
            trail,
            first_position: if state.position > purged { purged + 1 } else { 0 },
            last_position: state.position,
            sealed_position: purged,
            head: None,
            fault: None,
        };
        report.fault = self.follow(&mut report, state.purge_mac.as_deref()).await?;
        Ok((report, purged))
    }

    /// Follows the chain of the trail. Returns its first fault.
    async fn follow(
        &mut self,
        report: &mut TrailReport,
        mark: Option<&[u8]>,
    ) -> Result<Option<(i64, TrailFault)>, Error> {
        let (app, account, trail) = (self.app.clone(), self.account, report.trail);
        let mut chain = Chain::new(&app, account, trail, report.sealed_position);
        let mut before = CHAIN_START;
        if report.sealed_position > 0 {
            // The chain begins with the seal of the last event that was purged.
            let purged = report.sealed_position;
            let seal = match chain.next_seal(purged).await? {
                Some(seal) if seal.last_position == purged => seal,
                _ => return Ok(Some((purged, TrailFault::SealMissing))),
            };
            // Only certkeep can tell which events it purged.
            if mark != Some(&purge_mac(&app.0.audit_key, account, trail, purged, &seal.mac)) {
                return Ok(Some((1, TrailFault::EventMissing)));
            }
            before = seal.mac;
            self.found(report, seal);
        }
        while let Some(seal) = chain.next_seal(report.sealed_position + 1).await? {
            let first = report.sealed_position + 1;
            if seal.first_position != first {
                return Ok(Some((first, TrailFault::SealMissing)));
            }
            if seal.last_position - seal.first_position >= MAX_EVENTS_PER_SEAL {
                return Ok(Some((first, TrailFault::EventChanged)));
            }
            let events = match chain.events_to(seal.last_position).await? {
                Ok(events) => events,
                Err(missing) => return Ok(Some((missing, TrailFault::EventMissing))),
            };
            if seal_mac(&app.0.audit_key, account, trail, &before, &events) != seal.mac {
                return Ok(Some((first, TrailFault::EventChanged)));
            }
            before = seal.mac;
            self.found(report, seal);
            self.verified_events += events.len() as i64;
            self.tell().await;
            self.caller.check().await?;
        }
        // The newest events have no seal yet.
        let unsealed = chain.events_to(report.last_position).await?;
        self.verified_events += unsealed.as_ref().map_or(0, Vec::len) as i64;
        report.last_position = report.last_position.max(report.sealed_position);
        Ok(unsealed.err().map(|missing| (missing, TrailFault::EventMissing)))
    }

    fn found(&mut self, report: &mut TrailReport, seal: Seal) {
        report.sealed_position = seal.last_position;
        report.head = Some(seal.mac);
        self.missing_heads.retain(|head| *head != seal.mac);
    }

    async fn tell(&mut self) {
        if self.told.elapsed() >= PROGRESS {
            self.told = Instant::now();
            let progress = AuditVerification {
                verified_events: self.verified_events,
                report: None,
            };
            // A caller that has left ends the verification.
            let _ = self.sender.send(Ok(progress)).await;
        }
    }
}

/// Reads the seals and the events of a trail in their order.
struct Chain<'a> {
    app: &'a App,
    account: AccountId,
    trail: Trail,
    seals: VecDeque<Seal>,
    events: VecDeque<StoredAuditEvent>,
    /// The position of the last event that was taken.
    taken: i64,
}

impl<'a> Chain<'a> {
    fn new(app: &'a App, account: AccountId, trail: Trail, purged: i64) -> Self {
        Self {
            app,
            account,
            trail,
            seals: VecDeque::new(),
            events: VecDeque::new(),
            taken: purged,
        }
    }

    /// The next seal that ends at this position or later.
    async fn next_seal(&mut self, position: i64) -> Result<Option<Seal>, Error> {
        if self.seals.is_empty() {
            let store = &self.app.0.store;
            self.seals = store
                .audit_seals(self.account, self.trail, position, CHUNK)
                .await?
                .into();
        }
        Ok(self.seals.pop_front())
    }

    /// The events up to this position, or the position of the first one that is missing.
    async fn events_to(&mut self, position: i64) -> Result<Result<Vec<StoredAuditEvent>, i64>, Error> {
        let mut events = Vec::new();
        while self.taken < position {
            let next = self.taken + 1;
            if self.events.is_empty() {
                let store = &self.app.0.store;
                let read = store.audit_events_from(self.account, self.trail, next, CHUNK).await?;
                self.events = read.into();
            }
            match self.events.pop_front() {
                Some(event) if event.position == next => events.push(event),
                _ => return Ok(Err(next)),
            }
            self.taken = next;
        }
        Ok(Ok(events))
    }
}
