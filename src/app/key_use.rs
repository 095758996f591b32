//! The last use of access keys, recorded in the background.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{App, Caller, Error, KeyUse};
use crate::account::AccountId;
use crate::clock::{self, Timestamp};
use crate::store::UsedKey;

/// The uses that are not recorded yet. A use is recorded at most every [`PAUSE`](Self::PAUSE) for each key.
#[derive(Default)]
pub(super) struct KeyUses(Mutex<HashMap<String, Entry>>);

struct Entry {
    account: AccountId,
    time: Timestamp,
    address: IpAddr,
    method: String,
    /// Whether the use is not recorded yet.
    is_new: bool,
    recorded: Option<Instant>,
}

/// The uses to record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DueUses {
    /// Of keys whose last use was not recorded in the last five minutes.
    Old,
    /// All uses, because the service stops.
    All,
}

impl KeyUses {
    const PAUSE: Duration = Duration::from_secs(300);
    /// The uses of further keys are recorded later.
    const MAX_LEN: usize = 16_384;
    /// The most uses in a statement.
    const BATCH: usize = 1000;

    fn note(&self, account: AccountId, id: &str, time: Timestamp, address: IpAddr, method: &str) {
        let mut entries = self.entries();
        if let Some(entry) = entries.get_mut(id) {
            (entry.time, entry.address, entry.is_new) = (time, address, true);
            if entry.method != method {
                method.clone_into(&mut entry.method);
            }
        } else if entries.len() < Self::MAX_LEN {
            let entry = Entry {
                account,
                time,
                address,
                method: method.to_owned(),
                is_new: true,
                recorded: None,
            };
            entries.insert(id.to_owned(), entry);
        }
    }

    /// At most a batch of uses. They count as recorded.
    fn take(&self, due: DueUses, now: Instant) -> Vec<UsedKey> {
        let is_old = |entry: &Entry| {
            let recorded = entry.recorded;
            recorded.is_none_or(|recorded| now.duration_since(recorded) >= Self::PAUSE)
        };
        let mut entries = self.entries();
        // Keys that are not in use any more.
        entries.retain(|_, entry| entry.is_new || !is_old(entry));
        let taken = entries
            .iter_mut()
            .filter(|(_, entry)| entry.is_new && (due == DueUses::All || is_old(entry)))
            .take(Self::BATCH);
        let taken = taken.map(|(id, entry)| {
            (entry.is_new, entry.recorded) = (false, Some(now));
            UsedKey {
                account: entry.account,
                id: id.clone(),
                last_use: KeyUse {
                    time: entry.time,
                    address: entry.address,
                    method: entry.method.clone(),
                },
            }
        });
        taken.collect()
    }

    /// Takes uses back that could not be recorded.
    fn give_back(&self, used: &[UsedKey]) {
        let mut entries = self.entries();
        for used in used {
            if let Some(entry) = entries.get_mut(&used.id) {
                (entry.is_new, entry.recorded) = (true, None);
            }
        }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl App {
    /// Notes that the caller's access key calls the method. This waits for nothing and never fails.
    pub fn note_use(&self, caller: &Caller, method: &str) {
        if let Some(id) = caller.principal.access_key_id() {
            let uses = &self.0.key_uses;
            uses.note(caller.account, id, clock::now(), caller.address, method);
        }
    }

    /// Records the uses that are due.
    pub async fn record_key_uses(&self, due: DueUses) -> Result<(), Error> {
        loop {
            let used = self.0.key_uses.take(due, Instant::now());
            if used.is_empty() {
                return Ok(());
            }
            if let Err(error) = self.0.store.record_uses_of_all_accounts(&used).await {
                self.0.key_uses.give_back(&used);
                return Err(error.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNT: AccountId = AccountId::from_i64(1_000_000_000_000_000);

    fn note(uses: &KeyUses, id: &str, second: i64, method: &str) {
        let address = IpAddr::from([192, 0, 2, 1]);
        uses.note(ACCOUNT, id, Timestamp::from_secs(second), address, method);
    }

    fn taken(uses: &KeyUses, due: DueUses, now: Instant) -> Vec<(i64, String)> {
        let taken = uses.take(due, now).into_iter();
        taken
            .map(|used| (used.last_use.time.millis() / 1000, used.last_use.method))
            .collect()
    }

    #[test]
    fn the_first_use_is_recorded_at_once_and_the_newest_of_the_later_ones_after_five_minutes() {
        let (uses, start) = (KeyUses::default(), Instant::now());
        note(&uses, "ck1", 1, "Get");
        assert_eq!(taken(&uses, DueUses::Old, start), [(1, "Get".to_owned())]);
        note(&uses, "ck1", 2, "Upload");
        note(&uses, "ck1", 3, "Delete");
        let almost = start + KeyUses::PAUSE - Duration::from_secs(1);
        assert_eq!(taken(&uses, DueUses::Old, almost), []);
        assert_eq!(
            taken(&uses, DueUses::Old, start + KeyUses::PAUSE),
            [(3, "Delete".to_owned())]
        );
        assert_eq!(taken(&uses, DueUses::Old, start + KeyUses::PAUSE * 2), []);
        assert!(uses.entries().is_empty(), "the key is not in use any more");
    }

    #[test]
    fn a_stop_and_a_failure_lose_no_use() {
        let (uses, start) = (KeyUses::default(), Instant::now());
        note(&uses, "ck1", 1, "Get");
        let failed = uses.take(DueUses::Old, start);
        uses.give_back(&failed);
        assert_eq!(taken(&uses, DueUses::Old, start), [(1, "Get".to_owned())]);
        note(&uses, "ck1", 2, "Get");
        assert_eq!(taken(&uses, DueUses::All, start), [(2, "Get".to_owned())]);
    }

    #[test]
    fn the_number_of_keys_is_bounded() {
        let uses = KeyUses::default();
        for number in 0..KeyUses::MAX_LEN + 10 {
            note(&uses, &format!("ck{number}"), 1, "Get");
        }
        assert_eq!(uses.entries().len(), KeyUses::MAX_LEN);
        assert_eq!(uses.take(DueUses::Old, Instant::now()).len(), KeyUses::BATCH);
    }
}
