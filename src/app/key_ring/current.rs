//! The key ring in use, and the key that seals. Both can change while the process serves.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::seal::{KeyEncryptionKeyId, KeyRing};
use crate::store::REPLICA_GONE_SECS;

/// The age up to which the database's word about the sealing key counts. It is less than the time after which the other replicas
/// regard this one as gone and a rotation no longer waits for it.
const CONFIRMED_FOR: Duration = Duration::from_secs(REPLICA_GONE_SECS as u64 - 10);

/// A key ring and the key that seals. An upload keeps its copy until the sealed key is stored.
#[derive(Debug)]
pub(in crate::app) struct SealingRing {
    pub(in crate::app) keys: Arc<KeyRing>,
    pub(in crate::app) sealing: KeyEncryptionKeyId,
}

/// The [`SealingRing`] in use.
#[derive(Debug)]
pub(in crate::app) struct CurrentRing(Mutex<State>);

#[derive(Debug)]
struct State {
    current: Arc<SealingRing>,
    /// Earlier ones with which uploads may still be sealing.
    earlier: Vec<Weak<SealingRing>>,
    /// When the database was asked for the sealing key of `current`, the last time that it answered.
    confirmed: Instant,
}

impl CurrentRing {
    /// The ring of a process that starts. The database was asked for the sealing key at `confirmed`.
    pub(in crate::app) fn new(ring: SealingRing, confirmed: Instant) -> Self {
        Self(Mutex::new(State {
            current: Arc::new(ring),
            earlier: Vec::new(),
            confirmed,
        }))
    }

    pub(in crate::app) fn current(&self) -> Arc<SealingRing> {
        self.state().current.clone()
    }

    /// Whether the database's last word about the sealing key still counts.
    pub(in crate::app) fn is_confirmed(&self) -> bool {
        self.state().confirmed.elapsed() < CONFIRMED_FOR
    }

    /// Uses another ring.
    pub(in crate::app) fn replace_keys(&self, keys: KeyRing) {
        let mut state = self.state();
        let sealing = state.current.sealing;
        state.replace(SealingRing {
            keys: Arc::new(keys),
            sealing,
        });
    }

    /// Seals with the key that the database named when it was asked at `asked`. Returns whether the ring has the key. If it lacks
    /// the key, nothing changes.
    pub(in crate::app) fn seal_with(&self, sealing: KeyEncryptionKeyId, asked: Instant) -> bool {
        let mut state = self.state();
        if asked < state.confirmed {
            // An older answer arrived late.
            return true;
        }
        if !state.current.keys.has(sealing) {
            return false;
        }
        if state.current.sealing != sealing {
            let keys = state.current.keys.clone();
            state.replace(SealingRing { keys, sealing });
        }
        state.confirmed = asked;
        true
    }

    /// The keys that this process seals with: the sealing key, and earlier ones while a call that began with them has not ended.
    pub(in crate::app) fn sealing_ids(&self) -> Vec<KeyEncryptionKeyId> {
        let mut state = self.state();
        state.earlier.retain(|ring| ring.strong_count() > 0);
        let earlier = state.earlier.iter().filter_map(Weak::upgrade).map(|ring| ring.sealing);
        let mut ids: Vec<_> = earlier.chain([state.current.sealing]).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn replace(&mut self, ring: SealingRing) {
        let earlier = std::mem::replace(&mut self.current, Arc::new(ring));
        self.earlier.push(Arc::downgrade(&earlier));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> KeyEncryptionKeyId {
        KeyEncryptionKeyId::from_bytes([number; 8])
    }

    /// A ring with two keys. The first seals.
    async fn current(asked: Instant) -> CurrentRing {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key-ring");
        let line = |number: u8| format!("{} {}\n", hex::encode([number; 8]), hex::encode([number; 32]));
        let text = crate::secret::Secret::from(format!("{}{}", line(1), line(2)));
        text.write(&path, crate::secret::Existing::Keep).unwrap();
        let keys = KeyRing::read(&path, &crate::config::KeyProviders::default())
            .await
            .unwrap();
        let ring = SealingRing {
            keys: Arc::new(keys),
            sealing: id(1),
        };
        CurrentRing::new(ring, asked)
    }

    #[tokio::test]
    async fn an_upload_that_began_with_the_earlier_key_is_counted_until_it_ends() {
        let now = Instant::now();
        let ring = current(now).await;
        let upload = ring.current();
        assert!(ring.seal_with(id(2), now));
        assert_eq!(ring.current().sealing, id(2));
        assert_eq!(ring.sealing_ids(), [id(1), id(2)]);
        drop(upload);
        assert_eq!(ring.sealing_ids(), [id(2)]);
    }

    #[tokio::test]
    async fn a_key_that_the_ring_lacks_and_a_late_answer_change_nothing() {
        let now = Instant::now();
        let ring = current(now).await;
        assert!(!ring.seal_with(id(3), now));
        assert!(ring.seal_with(id(2), now - Duration::from_secs(1)));
        assert_eq!(ring.sealing_ids(), [id(1)]);
    }

    #[tokio::test]
    async fn the_databases_word_counts_for_twenty_seconds() {
        let secs = Duration::from_secs;
        assert!(current(Instant::now() - secs(19)).await.is_confirmed());
        let old = current(Instant::now() - secs(20)).await;
        assert!(!old.is_confirmed());
        assert!(old.seal_with(id(1), Instant::now()));
        assert!(old.is_confirmed());
    }
}
