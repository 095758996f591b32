//! The changes of certificates as they happen, for all who follow them in this process: watches, and Envoy's secrets.
//!
//! One task for each followed account reads its events. A commit of this process wakes the task at once. Otherwise one statement asks for
//! the last event of all followed accounts, and wakes the tasks of those that have news. The last changes stay in memory, so that
//! followers do not read the database. A follower that is too far behind must read it ([`App::read_changes`]).

mod feed;
mod state;

use std::time::Duration;

use super::App;
use crate::account::AccountId;
use crate::inventory::{CertificateId, CertificateKind};
use crate::store::{self, EventChunk, EventMark, StoredCertificate};
pub(super) use feed::{Feeds, Lost, Subscription};
pub(super) use state::{Change, ChangeKind, FilterState};

/// The interval at which the database is asked for news of up to [`FREE_ACCOUNTS`] accounts.
const POLL: Duration = Duration::from_millis(50);
const FREE_ACCOUNTS: u32 = 100;
/// Each further account adds this to the interval.
const POLL_PER_ACCOUNT: Duration = Duration::from_micros(500);
/// The pause after a failure of the database.
const RETRY: Duration = Duration::from_millis(200);
/// The pause after a failure that does not pass.
const PAUSE: Duration = Duration::from_secs(5);
/// The changes that are read at once for all who follow an account. Their texts have at most 1 MiB, as those of [`WATCH_CHUNK`].
const FEED_CHUNK: usize = 500;
/// The changes that are read at once for one watch.
pub(super) const WATCH_CHUNK: usize = 64;

/// Changes of an account.
pub(super) struct ReadChanges {
    /// The changes after the mark, in order.
    pub(super) changes: Vec<Change>,
    /// The last event: that of the last change, or the one of the mark.
    pub(super) last: EventMark,
    /// Whether there was nothing more to read.
    pub(super) is_end: bool,
}

/// Why changes could not be read.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The database has another event at the mark, or none: it was restored, it failed over to a standby that lacked the event, or the
    /// event was purged.
    Broken,
    /// The database failed.
    Store(store::Error),
}

impl From<store::Error> for ReadError {
    fn from(error: store::Error) -> Self {
        Self::Store(error)
    }
}

impl App {
    /// The changes of the account that are committed from now on.
    pub(super) async fn changes(&self, account: AccountId) -> Result<Subscription, store::Error> {
        if let Some(existing) = self.0.feeds.subscribe(account) {
            return Ok(existing);
        }
        let last = self.0.store.last_event(account).await?;
        Ok(self.changes_after(account, last))
    }

    /// The changes of the account after an event. The caller has just read that event.
    pub(super) fn changes_after(&self, account: AccountId, last: EventMark) -> Subscription {
        self.0.feeds.open(self, account, last)
    }

    /// Reads about `size` changes after an event from the database. Every read includes the event itself: `is_same` tells whether the stored event at
    /// this position is that event.
    pub(super) async fn read_changes(
        &self,
        account: AccountId,
        position: i64,
        size: usize,
        is_same: impl FnOnce(EventMark) -> bool,
    ) -> Result<ReadChanges, ReadError> {
        let EventChunk { mut events, is_end } = self.0.store.changes_from(account, position.max(1), size).await?;
        let is_whole = events
            .iter()
            .zip(position.max(1)..)
            .all(|(event, position)| event.mark.position == position);
        let last = events.last().map(|event| event.mark).unwrap_or_default();
        if !is_whole {
            return Err(ReadError::Broken);
        }
        if position > 0 {
            match events.first() {
                Some(first) if is_same(first.mark) => {}
                _ => return Err(ReadError::Broken),
            }
        }
        let mut changes = state::changes(account, &mut events);
        if changes.len() != events.len() {
            return Err(ReadError::Store(store::Error::Row("event")));
        }
        changes.retain(|change| change.mark.position > position);
        Ok(ReadChanges { changes, last, is_end })
    }
}

/// How long to wait between two questions for the news of so many accounts.
fn poll_interval(accounts: usize) -> Duration {
    let accounts = u32::try_from(accounts).unwrap_or(u32::MAX);
    POLL + POLL_PER_ACCOUNT * accounts.saturating_sub(FREE_ACCOUNTS)
}
