//! The names of secrets that do not exist. The clients of a proxy can invent host names, and each becomes a request.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::account::AccountId;
use crate::app::changes::{Change, ChangeKind, Lost, Subscription};
use crate::app::{App, Error};
use crate::inventory::Scope;

/// The most keys of a map.
const MAX_LEN: usize = 10_000;

/// Keys, of which the least recently used one makes room for a new one.
#[derive(Debug)]
pub(super) struct LruSet<K> {
    places: HashMap<K, u64>,
    by_use: BTreeMap<u64, K>,
    uses: u64,
}

impl<K> Default for LruSet<K> {
    fn default() -> Self {
        Self {
            places: HashMap::new(),
            by_use: BTreeMap::new(),
            uses: 0,
        }
    }
}

impl<K: Clone + Eq + Hash> LruSet<K> {
    pub(super) fn insert(&mut self, key: K) {
        self.uses += 1;
        if let Some(before) = self.places.insert(key.clone(), self.uses) {
            self.by_use.remove(&before);
        }
        self.by_use.insert(self.uses, key);
        if self.places.len() > MAX_LEN
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.places.remove(&oldest);
        }
    }

    /// Whether the set has the key. This is a use of the key.
    pub(super) fn has(&mut self, key: &K) -> bool {
        let is_in = self.places.contains_key(key);
        if is_in {
            self.insert(key.clone());
        }
        is_in
    }

    pub(super) fn clear(&mut self) {
        self.places.clear();
        self.by_use.clear();
    }
}

/// The names of an account that were looked up and not found, until a change can give them a meaning. Shared by the streams of the
/// account.
#[derive(Default)]
pub(super) struct UnknownNames(tokio::sync::Mutex<State>);

#[derive(Default)]
struct State {
    /// `None`: the changes must be followed from now on.
    changes: Option<Subscription>,
    names: LruSet<(Arc<Scope>, String)>,
    /// Raised whenever the names are forgotten.
    generation: u64,
}

/// The knowledge about a name.
pub(super) enum Known {
    /// There is no secret with this name.
    Unknown,
    /// The database must be asked. The number says how old the answer will be ([`UnknownNames::add`]).
    Ask(u64),
}

impl UnknownNames {
    /// Looks up the name in memory, for callers with this scope. The caller must follow the changes of the account already: it sees
    /// each change that is newer than this answer.
    pub(super) async fn find(
        &self,
        app: &App,
        account: AccountId,
        scope: &Arc<Scope>,
        name: &str,
    ) -> Result<Known, Error> {
        let mut state = self.0.lock().await;
        if state.forget_what_changed().await.is_err() {
            state.changes = None;
        }
        if state.changes.is_none() {
            state.forget();
            state.changes = Some(app.changes(account).await?);
        }
        Ok(match state.names.has(&(scope.clone(), name.to_owned())) {
            true => Known::Unknown,
            false => Known::Ask(state.generation),
        })
    }

    /// Adds a name that the database does not have. `generation` is from the [`find`](Self::find) before.
    pub(super) async fn add(&self, scope: &Arc<Scope>, name: &str, generation: u64) {
        let mut state = self.0.lock().await;
        if state.forget_what_changed().await.is_ok() && state.generation == generation {
            state.names.insert((scope.clone(), name.to_owned()));
        }
    }
}

impl State {
    /// Takes the changes that are there, without waiting for more.
    async fn forget_what_changed(&mut self) -> Result<(), Lost> {
        while let Some(changes) = &mut self.changes {
            // Unconstrained: tokio must not say that there is no change because the task has run for long.
            let polled = {
                let mut next = pin!(tokio::task::unconstrained(changes.next()));
                std::future::poll_fn(|context| Poll::Ready(next.as_mut().poll(context))).await
            };
            match polled {
                Poll::Ready(change) => {
                    if gives_meaning(change?.as_ref()) {
                        self.forget();
                    }
                }
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    fn forget(&mut self) {
        self.names.clear();
        self.generation += 1;
    }
}

/// Whether a name that meant nothing can mean something after the change.
fn gives_meaning(change: &Change) -> bool {
    match change.change {
        ChangeKind::Uploaded
        | ChangeKind::Renewed
        | ChangeKind::RolledBack
        | ChangeKind::Renamed
        | ChangeKind::Moved
        | ChangeKind::Undeleted => true,
        ChangeKind::Tagged | ChangeKind::Deleted | ChangeKind::Purged | ChangeKind::Rejected => false,
    }
}

/// The look-ups that found nothing, for each principal. A principal may do [`BURST`](Self::BURST) at once, and
/// [`RATE`](Self::RATE) a second after that. Whether a look-up counts is known after it, so a principal may owe some.
#[derive(Debug, Default)]
pub(in crate::app) struct FailedLookups(Mutex<HashMap<String, Instant>>);

impl FailedLookups {
    const BURST: u32 = 500;
    const RATE: u32 = 100;

    /// The time until the principal may look up an unknown name.
    pub(super) fn wait(&self, principal: &str, now: Instant) -> Option<Duration> {
        let full_at = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let until = full_at
            .get(principal)?
            .checked_sub(Duration::from_secs(1) * Self::BURST / Self::RATE)?;
        until.checked_duration_since(now).filter(|wait| !wait.is_zero())
    }

    /// Counts a look-up that found nothing.
    pub(super) fn count(&self, principal: &str, now: Instant) {
        let mut full_at = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if full_at.len() >= MAX_LEN {
            full_at.retain(|_, full_at| *full_at > now);
        }
        let moment = full_at.entry(principal.to_owned()).or_insert(now);
        *moment = (*moment).max(now) + Duration::from_secs(1) / Self::RATE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_key_makes_room() {
        let mut set = LruSet::default();
        for number in 0..MAX_LEN {
            set.insert(number);
        }
        assert!(set.has(&0));
        set.insert(MAX_LEN);
        assert_eq!(
            [0, 1, 2, MAX_LEN].map(|number| set.has(&number)),
            [true, false, true, true]
        );
        assert_eq!((set.places.len(), set.by_use.len()), (MAX_LEN, MAX_LEN));
        set.clear();
        assert!(!set.has(&0));
    }

    #[test]
    fn a_principal_that_asks_for_many_unknown_names_waits() {
        let lookups = FailedLookups::default();
        let now = Instant::now();
        for _ in 0..FailedLookups::BURST {
            assert_eq!(lookups.wait("a", now), None);
            lookups.count("a", now);
        }
        lookups.count("a", now);
        assert_eq!(lookups.wait("a", now), Some(Duration::from_millis(10)));
        assert_eq!(lookups.wait("b", now), None);
        assert_eq!(lookups.wait("a", now + Duration::from_millis(10)), None);
    }
}
