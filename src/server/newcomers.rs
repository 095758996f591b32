//! The connections without an authenticated call. They have few places and little time, so that nobody without an access key can lock
//! callers with one out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, SetOnce};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::refusals::{Refusals, Refused};

/// The share of a newcomer's time for which no other newcomer takes its place. Honest callers that come together need the moment.
const KEPT_SHARE: u32 = 20;

/// The newcomers of a listener. One more than `max` waits for a place, and then closes the oldest: a caller with an access key needs
/// its place for a moment only, and one without would otherwise keep it.
pub(super) struct Newcomers {
    max: usize,
    time: Duration,
    /// A newcomer has left.
    left: Notify,
    refusals: Arc<Refusals>,
    places: Mutex<Places>,
}

#[derive(Default)]
struct Places {
    next: u64,
    /// The moment of each newcomer, the oldest first, and its token. Cancelled: the newcomer must leave.
    taken: BTreeMap<u64, (Instant, CancellationToken)>,
}

impl Newcomers {
    /// At most `max` newcomers, each for at most `time`.
    pub(super) fn new(max: usize, time: Duration, refusals: Arc<Refusals>) -> Arc<Self> {
        Arc::new(Self {
            max,
            time,
            left: Notify::new(),
            refusals,
            places: Mutex::default(),
        })
    }

    /// Completes when [`enter`](Self::enter) has a place, or may take that of the oldest newcomer.
    pub(super) async fn room(&self) {
        loop {
            let kept_until = {
                let places = self.lock();
                match places.taken.first_key_value() {
                    Some((_, (entered, _))) if places.taken.len() >= self.max => *entered + self.time / KEPT_SHARE,
                    _ => return,
                }
            };
            if tokio::time::timeout_at(kept_until, self.left.notified()).await.is_err() {
                return;
            }
        }
    }

    /// Gives a place to a new connection.
    pub(super) fn enter(self: &Arc<Self>) -> Newcomer {
        let evicted = CancellationToken::new();
        let mut places = self.lock();
        let number = places.next;
        places.next += 1;
        places.taken.insert(number, (Instant::now(), evicted.clone()));
        if places.taken.len() > self.max
            && let Some((_, (_, oldest))) = places.taken.pop_first()
        {
            oldest.cancel();
            drop(places);
            self.refusals.count(Refused::Crowded);
        }
        Newcomer {
            newcomers: self.clone(),
            number,
            ends: Instant::now() + self.time,
            evicted,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection without an authenticated call. It keeps its place until this value is dropped.
pub(super) struct Newcomer {
    newcomers: Arc<Newcomers>,
    number: u64,
    ends: Instant,
    evicted: CancellationToken,
}

/// How a connection must close.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Leave {
    AtOnce,
    Gracefully,
}

impl Newcomer {
    /// Completes when the connection must close: at once, or after its last answers.
    pub(super) async fn must_leave(&self) -> Leave {
        tokio::select! {
            () = self.evicted.cancelled() => Leave::AtOnce,
            () = tokio::time::sleep_until(self.ends) => {
                self.newcomers.refusals.count(Refused::Late);
                Leave::Gracefully
            }
        }
    }

    /// As [`must_leave`](Self::must_leave). It never completes if the connection is authenticated before.
    pub(super) async fn must_leave_unless(self, authenticated: &SetOnce<()>) -> Leave {
        tokio::select! {
            leave = self.must_leave() => return leave,
            _ = authenticated.wait() => {}
        }
        drop(self);
        std::future::pending().await
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        self.newcomers.lock().taken.remove(&self.number);
        self.newcomers.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn newcomers(max: usize, time: Duration) -> Arc<Newcomers> {
        Newcomers::new(max, time, Arc::new(Refusals::new("test")))
    }

    #[tokio::test]
    async fn one_newcomer_too_many_closes_the_oldest() {
        let newcomers = newcomers(2, Duration::from_secs(3600));
        let [first, second, third] = std::array::from_fn(|_| newcomers.enter());
        assert_eq!(first.must_leave().await, Leave::AtOnce);
        assert!(!second.evicted.is_cancelled() && !third.evicted.is_cancelled());
        drop(third);
        let fourth = newcomers.enter();
        assert!(!second.evicted.is_cancelled() && !fourth.evicted.is_cancelled());
    }

    #[tokio::test]
    async fn a_newcomer_keeps_its_place_for_a_moment() {
        let newcomers = newcomers(1, Duration::from_secs(4));
        newcomers.room().await;
        let (_first, began) = (newcomers.enter(), Instant::now());
        newcomers.room().await;
        assert!(began.elapsed() >= Duration::from_millis(200));
        let (second, began) = (newcomers.enter(), Instant::now());
        tokio::join!(newcomers.room(), async { drop(second) });
        assert!(began.elapsed() < Duration::from_millis(200));
    }

    #[tokio::test]
    async fn an_authenticated_call_ends_the_limit() {
        let newcomers = newcomers(1, Duration::from_millis(50));
        let authenticated = SetOnce::new();
        let leave = newcomers.enter().must_leave_unless(&authenticated).await;
        assert_eq!(leave, Leave::Gracefully);
        let newcomer = newcomers.enter();
        authenticated.set(()).unwrap();
        let left = tokio::time::timeout(Duration::from_millis(200), newcomer.must_leave_unless(&authenticated)).await;
        assert!(left.is_err());
        assert!(newcomers.lock().taken.is_empty());
    }
}
