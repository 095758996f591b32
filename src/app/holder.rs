//! Streams that hold certificates: the leases of this replica, and the task that writes them.
//!
//! The state in memory says which leases there are to be. One task brings the database to this state, in batches: so the writes of a
//! lease keep their order, and many streams that begin together share a statement.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::{App, Call, Error, Resource};
use crate::account::AccountId;
use crate::digest;
use crate::inventory::CertificateId;
use crate::store::{self, Binding, LeaseVersions, Store, StreamHolderRow, StreamLease};
use crate::telemetry::causes;

/// The leases of a statement.
const BATCH: usize = 500;
/// Served and refused versions are written this often.
const TICK: Duration = Duration::from_secs(1);
/// How long a certificate that another statement has locked is left alone.
const LOCKED_PAUSE: Duration = Duration::from_millis(20);
/// How long a bind may take.
const BIND_TIME: Duration = Duration::from_secs(5);
/// The longest name of a holder, and the longest reason of a refusal, in characters.
pub(super) const MAX_NAME_CHARS: usize = 128;
const MAX_TEXT_CHARS: usize = 256;

/// The kind of a stream that holds certificates.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum HolderKind {
    /// WatchServerCertificates.
    Watch,
    /// Envoy's SecretDiscoveryService.
    Sds,
}

impl HolderKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Watch => "watch",
            Self::Sds => "sds",
        }
    }
}

/// A stream's part in a holder. All streams of this replica with the same principal, kind and name share the holder. When it is
/// dropped, the leases end that no other stream of the holder has.
#[derive(Debug)]
pub struct StreamHolder {
    shared: Arc<Shared>,
    holder: Uuid,
    /// The certificates that this stream holds.
    bound: Mutex<HashSet<CertificateId>>,
}

impl App {
    /// Begins to hold certificates under this name. Nothing is written before the first certificate. The name and the program's name
    /// are cut where they are too long.
    pub fn hold(&self, call: &Call, kind: HolderKind, name: &str, user_agent: &str) -> StreamHolder {
        let key = Key {
            account: call.caller.account,
            principal: call.caller.principal.id().to_owned(),
            kind,
            name: shortened(name, MAX_NAME_CHARS),
        };
        let (replica, shared) = (self.0.replica.id(), self.0.holders.shared.clone());
        let holder = {
            let mut state = shared.state();
            state.begun += 1;
            let new = holder_id(replica, state.begun);
            let id = *state.by_key.entry(key.clone()).or_insert(new);
            let holder = state.holders.entry(id).or_insert_with(|| Holder {
                row: StreamHolderRow {
                    id,
                    account: key.account,
                    name: key.name.clone(),
                    kind: kind.as_str(),
                    principal: key.principal.clone(),
                    address: call.caller.address,
                    user_agent: shortened(user_agent, MAX_TEXT_CHARS),
                },
                key,
                streams: 0,
                leases: HashMap::new(),
                is_written: false,
                may_exist: false,
            });
            holder.streams += 1;
            id
        };
        StreamHolder {
            shared,
            holder,
            bound: Mutex::default(),
        }
    }
}

/// The id of the holder with this number, unique among all replicas.
fn holder_id(replica: Uuid, number: u64) -> Uuid {
    let hash = digest::sha256(&[replica.as_bytes().as_slice(), &number.to_be_bytes()].concat());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// The text without control characters, and not longer than `max` characters.
pub(super) fn shortened(text: &str, max: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(max).collect()
}

impl StreamHolder {
    /// Holds the certificate of which this version is sent. Returns when the lease is committed. The caller has checked that the
    /// certificate is in scope.
    pub async fn bind(&self, id: CertificateId, sent_version: i64) -> Result<(), Error> {
        let answered = {
            let mut state = self.shared.state();
            let is_new = self.bound().insert(id);
            let Some(lease) = state.lease(self.holder, id) else {
                return Err(Error::NotFound(Resource::Certificate(None, Some(id))));
            };
            lease.streams += usize::from(is_new);
            lease.versions.sent = Some(sent_version);
            if lease.is_written {
                state.changed(self.holder, id);
                return Ok(());
            }
            let (answer, answered) = oneshot::channel();
            lease.waiting.push(answer);
            state.queue(self.holder, id);
            answered
        };
        self.shared.wake.notify_one();
        let outcome = match tokio::time::timeout(BIND_TIME, answered).await {
            Ok(Ok(outcome)) => outcome.map_err(Error::from),
            // The task has ended: the replica stops. Or the time is over.
            Ok(Err(_)) | Err(_) => Err(Error::ResourceBusy(store::Error::busy())),
        };
        let outcome = outcome.and_then(|binding| match binding {
            Binding::Bound => Ok(()),
            Binding::TooManyHolders => Err(Error::TooManyHolders(id)),
            Binding::NotFound | Binding::Locked => Err(Error::NotFound(Resource::Certificate(None, Some(id)))),
        });
        if outcome.is_err() {
            self.release(id);
        }
        outcome
    }

    /// Records that the holder serves this version. Written within about a second.
    pub fn served(&self, id: CertificateId, version: i64) {
        self.update(id, |versions| {
            (versions.served, versions.rejected) = (Some(version), None);
        });
    }

    /// Records that the holder refused this version, and why. Written within about a second.
    pub fn rejected(&self, id: CertificateId, version: i64, reason: &str) {
        self.update(id, |versions| {
            versions.rejected = Some((version, shortened(reason, MAX_TEXT_CHARS)));
        });
    }

    /// Ends this stream's hold of the certificate.
    pub fn release(&self, id: CertificateId) {
        if self.bound().remove(&id) {
            self.shared.state().release(self.holder, id);
            self.shared.wake.notify_one();
        }
    }

    fn update(&self, id: CertificateId, change: impl FnOnce(&mut LeaseVersions)) {
        if !self.bound().contains(&id) {
            return;
        }
        let mut state = self.shared.state();
        if let Some(lease) = state.lease(self.holder, id) {
            change(&mut lease.versions);
            state.changed(self.holder, id);
        }
    }

    fn bound(&self) -> MutexGuard<'_, HashSet<CertificateId>> {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for StreamHolder {
    fn drop(&mut self) {
        let bound = std::mem::take(&mut *self.bound());
        let mut state = self.shared.state();
        for id in bound {
            state.release(self.holder, id);
        }
        state.leave(self.holder);
        drop(state);
        self.shared.wake.notify_one();
    }
}

/// The holders of this replica, and the task that writes them.
pub(super) struct Holders {
    shared: Arc<Shared>,
    closing: CancellationToken,
    writing: TaskTracker,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    wake: Notify,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Key {
    account: AccountId,
    principal: String,
    kind: HolderKind,
    name: String,
}

#[derive(Debug)]
struct Holder {
    key: Key,
    row: StreamHolderRow,
    streams: usize,
    leases: HashMap<CertificateId, Lease>,
    is_written: bool,
    may_exist: bool,
}

#[derive(Debug, Default)]
struct Lease {
    /// The streams that hold the certificate. Without one, the lease ends.
    streams: usize,
    versions: LeaseVersions,
    is_written: bool,
    /// Whether a statement that writes the lease has begun.
    may_exist: bool,
    is_queued: bool,
    is_changed: bool,
    waiting: Vec<oneshot::Sender<Result<Binding, store::Error>>>,
}

type Name = (Uuid, CertificateId);

#[derive(Debug, Default)]
struct State {
    /// The number of holders that have begun.
    begun: u64,
    by_key: HashMap<Key, Uuid>,
    holders: HashMap<Uuid, Holder>,
    /// Leases to write or to end.
    queue: Vec<Name>,
    /// Leases with new versions.
    changed: Vec<Name>,
    /// Leases and holders to remove from the database.
    ended_leases: Vec<Name>,
    ended_holders: Vec<Uuid>,
}

impl State {
    /// The lease, which is added if the holder does not have it.
    fn lease(&mut self, holder: Uuid, id: CertificateId) -> Option<&mut Lease> {
        Some(self.holders.get_mut(&holder)?.leases.entry(id).or_default())
    }

    fn known(&mut self, (holder, id): Name) -> Option<&mut Lease> {
        self.holders.get_mut(&holder)?.leases.get_mut(&id)
    }

    fn queue(&mut self, holder: Uuid, id: CertificateId) {
        if let Some(lease) = self.known((holder, id))
            && !std::mem::replace(&mut lease.is_queued, true)
        {
            self.queue.push((holder, id));
        }
    }

    fn changed(&mut self, holder: Uuid, id: CertificateId) {
        if let Some(lease) = self.known((holder, id))
            && !std::mem::replace(&mut lease.is_changed, true)
        {
            self.changed.push((holder, id));
        }
    }

    /// One stream of the holder holds the certificate no longer.
    fn release(&mut self, holder: Uuid, id: CertificateId) {
        if let Some(lease) = self.known((holder, id)) {
            lease.streams -= 1;
            if lease.streams == 0 {
                self.queue(holder, id);
            }
        }
    }

    /// One stream of the holder has ended.
    fn leave(&mut self, id: Uuid) {
        let Some(holder) = self.holders.get_mut(&id) else {
            return;
        };
        holder.streams -= 1;
        if holder.streams > 0 {
            return;
        }
        if let Some(holder) = self.holders.remove(&id) {
            self.by_key.remove(&holder.key);
            if holder.may_exist {
                self.ended_holders.push(id);
            }
        }
    }

    /// The next batch.
    fn take(&mut self, with_versions: bool) -> Batch {
        let mut batch = Batch::default();
        let count = self.queue.len().min(BATCH);
        for (holder_id, id) in self.queue.drain(..count).collect::<Vec<_>>() {
            let Some(holder) = self.holders.get_mut(&holder_id) else {
                continue;
            };
            let Some(lease) = holder.leases.get_mut(&id) else {
                continue;
            };
            lease.is_queued = false;
            if lease.streams == 0 {
                if lease.may_exist {
                    self.ended_leases.push((holder_id, id));
                }
                holder.leases.remove(&id);
            } else if !lease.is_written {
                if !holder.is_written && !batch.holders.iter().any(|row| row.id == holder_id) {
                    batch.holders.push(holder.row.clone());
                }
                (lease.may_exist, holder.may_exist) = (true, true);
                batch.binds.push(StreamLease {
                    holder: holder_id,
                    id,
                    versions: lease.versions.clone(),
                });
            }
        }
        if with_versions {
            let count = self.changed.len().min(BATCH);
            for name in self.changed.drain(..count).collect::<Vec<_>>() {
                let Some(lease) = self.known(name) else { continue };
                lease.is_changed = false;
                batch.updates.push(StreamLease {
                    holder: name.0,
                    id: name.1,
                    versions: lease.versions.clone(),
                });
            }
        }
        for name in std::mem::take(&mut self.ended_leases) {
            match self.known(name) {
                // The lease has begun again, and its row is the row of the earlier lease.
                Some(lease) => lease.may_exist = true,
                None if batch.ended_leases.len() < BATCH => batch.ended_leases.push(name),
                None => self.ended_leases.push(name),
            }
        }
        let count = self.ended_holders.len().min(BATCH);
        batch.ended_holders = self.ended_holders.drain(..count).collect();
        batch
    }

    /// Takes back a batch of which nothing was written.
    fn put_back(&mut self, batch: Batch) {
        self.ended_leases.extend(batch.ended_leases);
        self.ended_holders.extend(batch.ended_holders);
        for lease in batch.binds {
            self.queue(lease.holder, lease.id);
        }
        for lease in batch.updates {
            self.changed(lease.holder, lease.id);
        }
    }

    /// Notes the outcome of a bind.
    fn bound(&mut self, name: Name, outcome: &Result<Binding, store::Error>) {
        if matches!(outcome, Ok(Binding::Locked)) {
            return self.queue(name.0, name.1);
        }
        let Some(holder) = self.holders.get_mut(&name.0) else {
            return;
        };
        let Some(lease) = holder.leases.get_mut(&name.1) else {
            return;
        };
        if matches!(outcome, Ok(Binding::Bound)) {
            (lease.is_written, holder.is_written) = (true, true);
        }
        // A stream that waits gets the error, and decides. Otherwise the lease is one that is written again.
        let is_lost = outcome.is_err() && lease.waiting.is_empty();
        for waiting in lease.waiting.drain(..) {
            // A stream that has ended waits no longer.
            let _ = waiting.send(outcome.clone());
        }
        if lease.streams == 0 || is_lost {
            self.queue(name.0, name.1);
        }
    }

    /// Writes everything again, because the database lost this replica with its holders.
    fn write_again(&mut self) {
        let mut names = Vec::new();
        for (id, holder) in &mut self.holders {
            holder.is_written = false;
            for (certificate, lease) in &mut holder.leases {
                lease.is_written = false;
                names.push((*id, *certificate));
            }
        }
        for (holder, id) in names {
            self.queue(holder, id);
        }
    }
}

/// The writes of one round.
#[derive(Debug, Default)]
struct Batch {
    ended_leases: Vec<Name>,
    holders: Vec<StreamHolderRow>,
    binds: Vec<StreamLease>,
    updates: Vec<StreamLease>,
    ended_holders: Vec<Uuid>,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.ended_leases.is_empty()
            && self.binds.is_empty()
            && self.updates.is_empty()
            && self.ended_holders.is_empty()
    }
}

impl Holders {
    pub(super) fn start(store: Store, replica: Uuid) -> Self {
        let shared = Arc::<Shared>::default();
        let (closing, writing) = (CancellationToken::new(), TaskTracker::new());
        writing.spawn(run(store, replica, shared.clone(), closing.clone()));
        Self {
            shared,
            closing,
            writing,
        }
    }

    /// Ends the task. The leases end with the row of the replica.
    pub(super) async fn finish(&self) {
        self.closing.cancel();
        self.writing.close();
        self.writing.wait().await;
    }

    /// Writes all leases again, because the database lost this replica with its holders.
    pub(super) fn write_again(&self) {
        self.shared.state().write_again();
        self.shared.wake.notify_one();
    }
}

impl Drop for Holders {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

async fn run(store: Store, replica: Uuid, shared: Arc<Shared>, closing: CancellationToken) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let with_versions = tokio::select! {
            () = shared.wake.notified() => false,
            _ = tick.tick() => true,
            () = closing.cancelled() => return,
        };
        loop {
            let batch = shared.state().take(with_versions);
            if batch.is_empty() {
                break;
            }
            tokio::select! {
                pause = write(&store, replica, &shared, batch) => match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => continue,
                },
                () = closing.cancelled() => return,
            }
        }
    }
}

/// Writes a batch. Returns how long to wait before the next one.
async fn write(store: &Store, replica: Uuid, shared: &Shared, batch: Batch) -> Option<Duration> {
    let mut pause = None;
    let mut failed = |error: &store::Error| {
        tracing::warn!(cause = causes(error), "leases of streams could not be written");
        pause = Some(TICK);
    };
    if !batch.ended_leases.is_empty()
        && let Err(error) = store.end_leases_of_all_accounts(&batch.ended_leases).await
    {
        failed(&error);
        shared.state().put_back(batch);
        return pause;
    }
    let mut is_locked = false;
    if !batch.binds.is_empty() {
        let bound = store
            .bind_streams_of_all_accounts(replica, &batch.holders, &batch.binds)
            .await;
        let mut state = shared.state();
        match bound {
            Ok(outcomes) => {
                for (lease, outcome) in batch.binds.iter().zip(outcomes) {
                    is_locked |= outcome == Binding::Locked;
                    state.bound((lease.holder, lease.id), &Ok(outcome));
                }
            }
            Err(error) => {
                failed(&error);
                let error = Err(error);
                for lease in &batch.binds {
                    state.bound((lease.holder, lease.id), &error);
                }
            }
        }
    }
    if !batch.updates.is_empty()
        && let Err(error) = store.update_leases_of_all_accounts(&batch.updates).await
    {
        failed(&error);
        let mut state = shared.state();
        for lease in &batch.updates {
            state.changed(lease.holder, lease.id);
        }
    }
    if !batch.ended_holders.is_empty()
        && let Err(error) = store.end_holders_of_all_accounts(&batch.ended_holders).await
    {
        failed(&error);
        shared.state().ended_holders.extend(batch.ended_holders);
    }
    pause.or(is_locked.then_some(LOCKED_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    #[test]
    fn a_lease_that_begins_again_is_not_ended_by_what_ended_before() {
        let account = AccountId::from_i64(1);
        let id = CertificateId {
            account,
            created: Timestamp::from_millis(1),
            random: 1,
        };
        let holder = Uuid::nil();
        let key = Key {
            account,
            principal: "ck1".into(),
            kind: HolderKind::Sds,
            name: "envoy".into(),
        };
        let row = StreamHolderRow {
            id: holder,
            account,
            name: key.name.clone(),
            kind: key.kind.as_str(),
            principal: key.principal.clone(),
            address: [127, 0, 0, 1].into(),
            user_agent: String::new(),
        };
        let mut state = State::default();
        let new = Holder {
            key,
            row,
            streams: 1,
            leases: HashMap::new(),
            is_written: false,
            may_exist: false,
        };
        state.holders.insert(holder, new);
        let begin = |state: &mut State| {
            state.lease(holder, id).unwrap().streams += 1;
            state.queue(holder, id);
        };
        begin(&mut state);
        assert_eq!(state.take(false).binds.len(), 1);
        state.bound((holder, id), &Ok(Binding::Bound));
        state.release(holder, id);
        let failed = state.take(false);
        assert_eq!(failed.ended_leases, [(holder, id)]);
        state.put_back(failed);
        // The lease begins again before its end is written.
        begin(&mut state);
        let again = state.take(false);
        assert_eq!((again.ended_leases.len(), again.binds.len()), (0, 1));
        // Its row may exist, whether the bind was answered or not: it is ended.
        state.put_back(again);
        state.release(holder, id);
        let failed = state.take(false);
        assert_eq!((failed.ended_leases.len(), failed.binds.len()), (1, 0));
        state.put_back(failed);
        begin(&mut state);
        state.release(holder, id);
        assert_eq!(state.take(false).ended_leases, [(holder, id)]);
        assert!(state.take(false).is_empty());
    }
}
