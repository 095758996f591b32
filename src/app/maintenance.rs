//! The maintenance of the whole service. Every replica runs it, and the first replica does the work.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{App, Error};
use crate::clock::{self, Timestamp};
use crate::store;

/// After each step of a purge, calls have this many times as long for themselves. So purges take a fifth of the time.
const PAUSE_FACTOR: u32 = 4;
/// A larger difference between the clocks of this host and of Postgres is logged.
const MAX_DIFFERENCE: Duration = Duration::from_secs(60);

/// The purges of this process. Each run continues where the last one ended.
pub struct Maintenance {
    app: App,
    time: SettledTime,
}

impl App {
    /// The purges. The first run begins to observe the clocks.
    pub fn maintenance(&self) -> Maintenance {
        Maintenance {
            app: self.clone(),
            time: SettledTime::new(self.0.settings.purge_wait),
        }
    }
}

impl Maintenance {
    /// Purges deleted certificates, earlier versions and audit events after their retention, client tokens and nonces that have expired,
    /// and holders whose time is over.
    pub async fn run(&mut self) -> Result<(), Error> {
        let (store, settings) = (&self.app.0.store, &self.app.0.settings);
        let (database, own) = (store.time().await?, clock::now());
        if database.millis().abs_diff(own.millis()) > MAX_DIFFERENCE.as_millis() as u64 {
            tracing::warn!(%database, %own, "the clocks of the database and of this host differ: purges follow the slower one");
        }
        // Before the time has settled, nothing is old enough.
        let now = self
            .time
            .observe(Instant::now(), database.min(own))
            .map_or(0, Timestamp::millis);
        let before = |age: Duration| {
            let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
            Timestamp::from_millis(now.saturating_sub(age).max(0))
        };

        // Without a retention, nothing waits for a clock.
        let ended_before = |retention: Duration| match retention.is_zero() {
            true => database.min(own),
            false => before(retention),
        };

        let (deleted, mut purge) = (ended_before(settings.retention), Purge::default());
        while purge.step(store.purge_of_all_accounts(deleted)).await? {}
        purge.report("deleted certificates");
        let (count, ended) = (
            settings.version_retention,
            ended_before(settings.version_retention_time),
        );
        let mut purge = Purge::default();
        while purge.step(store.purge_versions_of_all_accounts(count, ended)).await? {}
        purge.report("earlier versions of certificates");
        let (used, mut purge) = (before(store::TOKEN_AGE), Purge::default());
        while purge.step(store.forget_tokens_of_all_accounts(used)).await? {}
        let mut purge = Purge::default();
        while purge.step(store.forget_nonces_of_all_accounts()).await? {}
        let (ended, mut purge) = (before(Duration::ZERO), Purge::default());
        while purge.step(store.forget_holders_of_all_accounts(ended)).await? {}
        if let Some(retention) = settings.audit_retention {
            let (key, occurred, mut purge) = (&self.app.0.audit_key, before(retention), Purge::default());
            while purge.step(store.purge_audit_of_all_accounts(key, occurred)).await? {}
            purge.report("audit events");
        }
        Ok(())
    }
}

/// The steps of a purge.
#[derive(Default)]
struct Purge {
    removed: u64,
}

impl Purge {
    /// Does a step, and pauses for calls. `false`: there was nothing to remove.
    async fn step(&mut self, step: impl Future<Output = Result<u64, store::Error>>) -> Result<bool, Error> {
        let began = Instant::now();
        let removed = step.await?;
        self.removed += removed;
        if removed > 0 {
            tokio::time::sleep(began.elapsed() * PAUSE_FACTOR).await;
        }
        Ok(removed > 0)
    }

    fn report(&self, rows: &'static str) {
        if self.removed > 0 {
            tracing::info!(purged = self.removed, rows, "purged");
        }
    }
}

/// A time that clocks have shown for a while. A clock that is wrong for a shorter while, or jumps back, purges nothing too early.
struct SettledTime {
    wait: Duration,
    /// The observations of the last `wait`, and one that is older, with the moments of the monotonic clock.
    observed: VecDeque<(Instant, Timestamp)>,
}

impl SettledTime {
    fn new(wait: Duration) -> Self {
        Self {
            wait,
            observed: VecDeque::new(),
        }
    }

    /// Adds an observation. Answers the lowest time that was observed in the last `wait`. `None`: the first observation is younger.
    fn observe(&mut self, at: Instant, time: Timestamp) -> Option<Timestamp> {
        self.observed.push_back((at, time));
        let is_settled = |(seen, _): &(Instant, Timestamp)| at.duration_since(*seen) >= self.wait;
        while self.observed.get(1).is_some_and(is_settled) {
            self.observed.pop_front();
        }
        self.observed.front().filter(|first| is_settled(first))?;
        self.observed.iter().map(|(_, time)| *time).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const HOUR: Duration = Duration::from_secs(3600);
    const DAY_MS: i64 = 24 * 3600 * 1000;

    /// Observes every five minutes, from one minute to another, a clock that is ahead by `ahead(minute)` milliseconds. Answers how far the
    /// settled time was ahead of the right time, at most.
    fn most_ahead(time: &mut SettledTime, minutes: std::ops::Range<u32>, ahead: impl Fn(u32) -> i64) -> Option<i64> {
        let start = Instant::now();
        let observe = |minute: u32| {
            let right = i64::from(minute) * 60_000;
            let shown = Timestamp::from_millis(right + ahead(minute));
            Some(time.observe(start + MINUTE * minute, shown)?.millis() - right)
        };
        minutes.step_by(5).filter_map(observe).max()
    }

    #[test]
    fn a_clock_that_is_ahead_for_less_than_an_hour_changes_nothing() {
        let jump = |from: u32, to: u32| move |minute| if (from..to).contains(&minute) { 8 * DAY_MS } else { 0 };
        for (from, to) in [(0, 1), (0, 55), (60, 61), (100, 155)] {
            let mut time = SettledTime::new(HOUR);
            let most = most_ahead(&mut time, 0..300, jump(from, to));
            assert!(most.is_some_and(|most| most <= 0), "{from} to {to}: {most:?}");
        }
        // Nobody can tell a clock that stays ahead from a right one.
        let mut time = SettledTime::new(HOUR);
        assert!(most_ahead(&mut time, 0..300, jump(100, 300)).unwrap() > 7 * DAY_MS);
    }

    #[test]
    fn nothing_is_settled_in_the_first_hour() {
        let mut time = SettledTime::new(HOUR);
        assert_eq!(most_ahead(&mut time, 0..60, |_| 0), None);
        let mut time = SettledTime::new(HOUR);
        assert_eq!(most_ahead(&mut time, 0..65, |_| 0), Some(-(HOUR.as_millis() as i64)));
        // Without a wait, the first observation counts.
        let mut time = SettledTime::new(Duration::ZERO);
        assert_eq!(most_ahead(&mut time, 0..5, |_| 7), Some(7));
    }
}
