//! The outcomes of recent look-ups.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::MAX_AGE;

/// A map of outcomes with the moments of their look-ups. Outcomes that are too old to count stay until the map is full: they tell which
/// access keys were right before.
#[derive(Debug)]
pub(in crate::app) struct Recent<K, V>(Mutex<HashMap<K, (V, Instant)>>);

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, V: Clone> Recent<K, V> {
    const MAX_LEN: usize = 8192;

    /// The outcome and its age.
    pub(super) fn find<Q>(&self, key: &Q) -> Option<(V, Duration)>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let entries = self.entries();
        let (value, looked_up) = entries.get(key)?;
        Some((value.clone(), looked_up.elapsed()))
    }

    pub(super) fn insert(&self, key: K, value: V, looked_up: Instant) {
        let mut entries = self.entries();
        if entries.len() >= Self::MAX_LEN {
            entries.retain(|_, (_, looked_up)| looked_up.elapsed() < MAX_AGE);
        }
        // While the map is full, each call looks up what is not in it.
        if entries.len() < Self::MAX_LEN || entries.contains_key(&key) {
            entries.insert(key, (value, looked_up));
        }
    }

    pub(super) fn remove<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.entries().remove(key);
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<K, (V, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_found_with_its_age() {
        let recent: Recent<String, u8> = Recent::default();
        recent.insert("a".to_owned(), 1, Instant::now() - Duration::from_secs(5));
        let (value, age) = recent.find("a").unwrap();
        assert!(value == 1 && age >= Duration::from_secs(5), "{age:?}");
        recent.insert("a".to_owned(), 2, Instant::now());
        let (value, age) = recent.find("a").unwrap();
        assert!(value == 2 && age < Duration::from_secs(1), "{age:?}");
        recent.remove("a");
        assert_eq!(recent.find("a"), None);
    }

    #[test]
    fn a_full_map_makes_room_by_removing_old_outcomes_only() {
        let recent: Recent<usize, ()> = Recent::default();
        let max = Recent::<usize, ()>::MAX_LEN;
        let old = Instant::now() - MAX_AGE;
        for number in 0..max {
            recent.insert(number, (), if number < 10 { old } else { Instant::now() });
        }
        recent.insert(max, (), Instant::now());
        assert!(recent.find(&max).is_some());
        assert_eq!(recent.entries().len(), max - 9);
        for number in max..max + 20 {
            recent.insert(number, (), Instant::now());
        }
        assert_eq!(recent.entries().len(), max);
        assert_eq!(recent.find(&(max + 19)), None);
    }
}
