//! Which fingerprints accounts have, as far as it is known, so that an upload that answers them need not read all of them again.
//!
//! Whatever changes which certificates of an account are live, or a fingerprint of theirs, changes the counter of their region
//! in the same transaction. The transactions that did so last, a counter each, are the account's state, behind the time at which
//! PostgreSQL was started, since another server may give the same numbers again: an account that is in the same state has the same
//! fingerprints. An upload is told the state that is known. It reads the fingerprints if the account is in another one, and tells
//! the state that it makes, unless it can not know it: in its counter it has noted which change it came behind.

use std::sync::Arc;
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;
use quick_cache::{OptionsBuilder, Weighter};

use super::read::Position;
use crate::account::AccountId;
use crate::certificate::Sha1Fingerprint;

/// They are read again after this, so that nothing that was changed by hand, without its counter, stays unseen.
pub(super) const MAX_AGE: Duration = Duration::from_secs(600);
/// What is kept of all accounts at most, in octets.
const MAX_OCTETS: u64 = 8 * 1024 * 1024;
/// Of how many accounts room is made for.
const ACCOUNTS: usize = 1000;

/// The fingerprints of an account in one of its states.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) state: Vec<i64>,
    /// Where the youngest certificate is.
    pub(super) youngest: Position,
    /// In the order of the certificates.
    pub(super) fingerprints: Vec<Sha1Fingerprint>,
    /// When they were read; those of uploads since then were added.
    pub(super) read: Instant,
}

/// By account; what is not asked for again goes first.
pub(super) type KnownFingerprints = Cache<AccountId, Arc<Known>, Octets>;

#[derive(Clone)]
pub(super) struct Octets;

impl Weighter<AccountId, Arc<Known>> for Octets {
    fn weight(&self, _: &AccountId, known: &Arc<Known>) -> u64 {
        (size_of::<Known>() + size_of_val(&known.state[..]) + size_of_val(&known.fingerprints[..])) as u64
    }
}

pub(super) fn known_fingerprints() -> KnownFingerprints {
    let mut options = OptionsBuilder::new();
    // In one piece, so that there is room for the largest account whatever the machine. It is asked but twice for an upload.
    options
        .shards(1)
        .estimated_items_capacity(ACCOUNTS)
        .weight_capacity(MAX_OCTETS);
    // Nothing that has to be given is missing.
    match options.build() {
        Ok(options) => Cache::with_options(options, Octets, Default::default(), Default::default()),
        Err(_) => Cache::with_weighter(ACCOUNTS, MAX_OCTETS, Octets),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fingerprint::MAX;
    use super::*;

    #[test]
    fn it_is_bounded_and_has_room_for_the_largest_account() {
        let all = known_fingerprints();
        for account in 0..20 {
            let account = AccountId::from_i64(account);
            let known = Known {
                state: vec![0; 30],
                youngest: Position::START,
                fingerprints: vec![Sha1Fingerprint::from_bytes([0; 20]); MAX],
                read: Instant::now(),
            };
            all.insert(account, Arc::new(known));
            assert!(all.get(&account).is_some());
        }
        assert!(all.weight() <= MAX_OCTETS);
    }
}
