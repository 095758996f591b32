//! The last changes of each followed account, the tasks that read them, and the subscriptions.

mod outage;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use super::{App, Change, EventMark, FEED_CHUNK, PAUSE, RETRY, ReadError, poll_interval};
use crate::account::AccountId;

use outage::{Outage, Verdict};

/// The changes of an account that stay in memory: at most so many, with at most so many octets, and for so long.
const MAX_KEPT: usize = 1024;
const MAX_KEPT_OCTETS: usize = 4 * 1024 * 1024;
const KEPT_FOR: Duration = Duration::from_secs(10);

/// The followed accounts.
#[derive(Default)]
pub(in crate::app) struct Feeds(Mutex<Open>);

#[derive(Default)]
struct Open {
    feeds: HashMap<AccountId, Arc<Feed>>,
    /// Whether a task asks the database for news.
    is_polling: bool,
}

struct Feed {
    account: AccountId,
    ring: watch::Sender<Ring>,
    wake: Arc<Notify>,
}

/// The last changes of an account.
#[derive(Debug)]
struct Ring {
    /// The event before the first change.
    base: EventMark,
    changes: VecDeque<(Arc<Change>, Instant)>,
    /// The size of the changes.
    octets: usize,
    /// The database no longer has the last event.
    is_broken: bool,
}

/// The subscriber must read the database: the history broke, the feed cannot read, or the subscriber was too slow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::app) struct Lost;

/// The changes of an account from one event on.
#[derive(Debug)]
pub(in crate::app) struct Subscription {
    ring: watch::Receiver<Ring>,
    last: EventMark,
}

impl Subscription {
    /// The next change. It can be dropped at any time without a loss.
    pub(in crate::app) async fn next(&mut self) -> Result<Arc<Change>, Lost> {
        let last = self.last;
        let is_ready = |ring: &Ring| ring.is_broken || ring.last().position > last.position;
        let ring = self.ring.wait_for(is_ready).await.map_err(|_| Lost)?;
        let next = match ring.is_broken {
            true => None,
            false => ring.after(last),
        };
        let next = next.ok_or(Lost)?.clone();
        drop(ring);
        self.last = next.mark;
        Ok(next)
    }
}

impl Ring {
    fn last(&self) -> EventMark {
        self.changes.back().map_or(self.base, |(change, _)| change.mark)
    }

    /// The change after this event. `None` if the ring no longer has the event, or has another event in its place.
    fn after(&self, mark: EventMark) -> Option<&Arc<Change>> {
        let place = usize::try_from(mark.position.checked_sub(self.base.position)?).ok()?;
        let before = match place.checked_sub(1) {
            None => self.base,
            Some(place) => self.changes.get(place)?.0.mark,
        };
        (before == mark).then(|| self.changes.get(place).map(|(change, _)| change))?
    }

    fn push(&mut self, changes: Vec<Change>) {
        let now = Instant::now();
        self.octets += changes.iter().map(Change::octets).sum::<usize>();
        self.changes
            .extend(changes.into_iter().map(|change| (Arc::new(change), now)));
        self.trim();
    }

    /// Removes what is too old, and what is too much.
    fn trim(&mut self) {
        while self
            .changes
            .front()
            .is_some_and(|(_, read)| self.is_too_large() || read.elapsed() >= KEPT_FOR)
            && let Some((removed, _)) = self.changes.pop_front()
        {
            self.base = removed.mark;
            self.octets -= removed.octets();
        }
    }

    fn is_too_large(&self) -> bool {
        self.changes.len() > MAX_KEPT || self.octets > MAX_KEPT_OCTETS
    }
}

impl Feeds {
    /// A subscription to an account that is followed already.
    pub(super) fn subscribe(&self, account: AccountId) -> Option<Subscription> {
        let open = self.open_feeds();
        let ring = open.feeds.get(&account)?.ring.subscribe();
        let last = ring.borrow().last();
        Some(Subscription { ring, last })
    }

    /// A subscription that begins after this event.
    pub(super) fn open(&self, app: &App, account: AccountId, last: EventMark) -> Subscription {
        let mut open = self.open_feeds();
        let feed = open.feeds.entry(account).or_insert_with(|| {
            let feed = Arc::new(Feed {
                account,
                ring: watch::Sender::new(Ring {
                    base: last,
                    changes: VecDeque::new(),
                    octets: 0,
                    is_broken: false,
                }),
                wake: Arc::new(Notify::new()),
            });
            app.0.store.follow_commits(account, feed.wake.clone());
            // An event may have been committed since the caller read.
            feed.wake.notify_one();
            tokio::spawn(follow(app.clone(), feed.clone()));
            feed
        });
        let ring = feed.ring.subscribe();
        if !std::mem::replace(&mut open.is_polling, true) {
            tokio::spawn(poll(app.clone()));
        }
        Subscription { ring, last }
    }

    /// Ends a feed without subscribers. Whether it has ended.
    fn close(&self, app: &App, feed: &Arc<Feed>) -> bool {
        let mut open = self.open_feeds();
        let is_unused = feed.ring.receiver_count() == 0;
        if is_unused {
            open.remove(app, feed);
        }
        is_unused
    }

    /// Ends a feed that cannot go on. Its subscribers are told.
    fn break_off(&self, app: &App, feed: &Arc<Feed>) {
        self.open_feeds().remove(app, feed);
        feed.ring.send_modify(|ring| ring.is_broken = true);
    }

    fn open_feeds(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn remove(&mut self, app: &App, feed: &Arc<Feed>) {
        if self
            .feeds
            .get(&feed.account)
            .is_some_and(|other| Arc::ptr_eq(other, feed))
        {
            self.feeds.remove(&feed.account);
        }
        app.0.store.unfollow_commits(feed.account, &feed.wake);
    }
}

/// Reads the changes of an account until nobody follows them.
async fn follow(app: App, feed: Arc<Feed>) {
    let mut outage = Outage::default();
    loop {
        let has_old = !feed.ring.borrow().changes.is_empty();
        tokio::select! {
            () = feed.wake.notified() => {}
            () = feed.ring.closed() => {
                if app.0.feeds.close(&app, &feed) {
                    return;
                }
            }
            () = tokio::time::sleep(KEPT_FOR), if has_old => {
                feed.ring.send_if_modified(|ring| {
                    ring.trim();
                    false
                });
                continue;
            }
        }
        let last = feed.ring.borrow().last();
        let is_same = |mark| mark == last;
        match app.read_changes(feed.account, last.position, FEED_CHUNK, is_same).await {
            Ok(read) => {
                outage = Outage::default();
                if !read.is_end {
                    feed.wake.notify_one();
                }
                if !read.changes.is_empty() {
                    feed.ring.send_modify(|ring| ring.push(read.changes));
                }
            }
            Err(ReadError::Broken) => {
                tracing::warn!(account = %feed.account, "the database lost events, or has others: watches start again");
                return app.0.feeds.break_off(&app, &feed);
            }
            // If they cannot read either, they end with the error.
            Err(ReadError::Store(error)) => match outage.judge(&error) {
                Verdict::Retry => {
                    tokio::time::sleep(RETRY).await;
                    feed.wake.notify_one();
                }
                Verdict::GiveUp => {
                    // A follower that can read opens the feed again, and must not do so all the time.
                    tokio::time::sleep(PAUSE).await;
                    return app.0.feeds.break_off(&app, &feed);
                }
            },
        }
    }
}

/// Wakes the feeds whose accounts have news, until there is no feed.
async fn poll(app: App) {
    let mut outage = Outage::default();
    loop {
        let feeds: Vec<_> = {
            let mut open = app.0.feeds.open_feeds();
            open.is_polling = !open.feeds.is_empty();
            if !open.is_polling {
                return;
            }
            open.feeds.values().cloned().collect()
        };
        tokio::time::sleep(poll_interval(feeds.len())).await;
        let accounts: Vec<_> = feeds.iter().map(|feed| feed.account).collect();
        match app.0.store.last_events_of_all_accounts(&accounts).await {
            Ok(last) => {
                outage = Outage::default();
                for feed in feeds {
                    let now = last.get(&feed.account).copied().unwrap_or_default();
                    if now != feed.ring.borrow().last() {
                        feed.wake.notify_one();
                    }
                }
            }
            Err(error) => {
                let pause = match outage.judge(&error) {
                    Verdict::Retry => RETRY,
                    Verdict::GiveUp => {
                        feeds.iter().for_each(|feed| app.0.feeds.break_off(&app, feed));
                        outage = Outage::default();
                        PAUSE
                    }
                };
                tokio::time::sleep(pause).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::{CertificateId, CertificateKind, ChangeKind, FilterState};
    use super::*;
    use crate::clock::Timestamp;
    use crate::inventory::{CertificateName, RegionId, ResourceGroupId, Tags};

    fn mark(position: i64) -> EventMark {
        EventMark {
            position,
            request_id: Uuid::from_u128(position as u128),
        }
    }

    fn change(position: i64) -> Change {
        Change {
            mark: mark(position),
            id: CertificateId::new(AccountId::from_i64(1), Timestamp::from_millis(1), [0; 8]),
            kind: CertificateKind::Server,
            change: ChangeKind::Renamed,
            version: 1,
            occurred_us: 0,
            before: None,
            after: None,
            certificate: None,
        }
    }

    /// A change whose tags have 3.8 MB.
    fn large(position: i64) -> Change {
        let state = FilterState {
            region: RegionId::from_stored("r".into()),
            name: CertificateName::from_stored("n".into()),
            resource_group: ResourceGroupId::from_stored(AccountId::from_i64(1), None),
            tags: Tags::from_stored(vec![("k".into(), "v".repeat(3_800_000))]),
            is_live: true,
        };
        Change {
            after: Some(Arc::new(state)),
            ..change(position)
        }
    }

    fn ring(positions: std::ops::RangeInclusive<i64>) -> Ring {
        let mut ring = Ring {
            base: mark(positions.start() - 1),
            changes: VecDeque::new(),
            octets: 0,
            is_broken: false,
        };
        ring.push(positions.map(change).collect());
        ring
    }

    #[test]
    fn a_subscriber_goes_on_after_its_own_event_only() {
        let ring = ring(11..=13);
        let after = |mark| ring.after(mark).map(|change| change.mark.position);
        assert_eq!(
            [9, 10, 11, 12, 13].map(|position| after(mark(position))),
            [None, Some(11), Some(12), Some(13), None]
        );
        // Another event has the position: the history broke.
        for position in [10, 12] {
            let other = EventMark {
                request_id: Uuid::from_u128(99),
                ..mark(position)
            };
            assert_eq!(after(other), None);
        }
    }

    #[test]
    fn the_ring_keeps_the_last_changes() {
        let mut long = ring(1..=2000);
        assert_eq!(
            (long.changes.len(), long.base, long.last()),
            (MAX_KEPT, mark(2000 - MAX_KEPT as i64), mark(2000))
        );
        let kept = long.octets;
        long.push(vec![large(2001)]);
        assert!(
            long.octets > kept && long.octets <= MAX_KEPT_OCTETS && long.changes.len() < MAX_KEPT,
            "{}",
            long.octets
        );
        for (_, read) in &mut long.changes {
            *read -= KEPT_FOR;
        }
        long.push(vec![change(2002)]);
        assert_eq!(
            (long.changes.len(), long.base, long.last(), long.octets),
            (1, mark(2001), mark(2002), change(2002).octets())
        );
    }

    #[tokio::test]
    async fn a_subscriber_that_falls_out_of_the_ring_is_lost() {
        let sender = watch::Sender::new(ring(1..=3));
        let mut subscription = Subscription {
            ring: sender.subscribe(),
            last: mark(1),
        };
        assert_eq!(subscription.next().await.unwrap().mark, mark(2));
        sender.send_modify(|ring| ring.push((4..=2000).map(change).collect()));
        assert_eq!(subscription.next().await.unwrap_err(), Lost);
        subscription.last = mark(1999);
        assert_eq!(subscription.next().await.unwrap().mark, mark(2000));
        sender.send_modify(|ring| ring.is_broken = true);
        assert_eq!(subscription.next().await.unwrap_err(), Lost);
    }
}
