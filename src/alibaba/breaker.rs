//! A circuit breaker: after some failures in a row, a service is not called for a while.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The failures in a row that open the breaker.
const MAX_FAILURES: u32 = 3;

/// Counts the failures in a row of the tries to call a service.
pub(super) struct Breaker {
    /// The time for which it stays open.
    pause: Duration,
    /// A caller who leaves after this time did not get an answer: the try has failed.
    long: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    failures: u32,
    open_until: Option<Instant>,
}

/// A try to call the service.
pub(super) struct Try<'a> {
    breaker: &'a Breaker,
    began: Instant,
    is_settled: bool,
}

impl Breaker {
    pub(super) fn new(pause: Duration, long: Duration) -> Self {
        Self {
            pause,
            long,
            state: Mutex::default(),
        }
    }

    /// Begins a try. While the breaker is open, answers the time until it closes. The first failure after that opens it again.
    pub(super) fn begin(&self, now: Instant) -> Result<Try<'_>, Duration> {
        match self.wait(now) {
            Duration::ZERO => Ok(Try {
                breaker: self,
                began: now,
                is_settled: false,
            }),
            wait => Err(wait),
        }
    }

    /// The time until the next try may begin.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        let open_until = self.state().open_until;
        open_until.map_or(Duration::ZERO, |end| end.saturating_duration_since(now))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Try<'_> {
    /// The service answered.
    pub(super) fn succeeded(mut self) {
        self.is_settled = true;
        *self.breaker.state() = State::default();
    }

    /// The service did not answer, or it could not work.
    pub(super) fn failed(mut self, now: Instant) {
        self.fail(now);
    }

    fn fail(&mut self, now: Instant) {
        self.is_settled = true;
        let mut state = self.breaker.state();
        state.failures = state.failures.saturating_add(1);
        if state.failures >= MAX_FAILURES {
            if state.open_until.is_none_or(|end| end <= now) {
                let seconds = self.breaker.pause.as_secs();
                tracing::warn!(seconds, "Alibaba Cloud does not answer: it is not called for a while");
            }
            state.open_until = Some(now + self.breaker.pause);
        }
    }
}

impl Drop for Try<'_> {
    fn drop(&mut self) {
        let now = Instant::now();
        if !self.is_settled && now.saturating_duration_since(self.began) >= self.breaker.long {
            self.fail(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(30);
    const LONG: Duration = Duration::from_secs(2);

    #[test]
    fn three_failures_in_a_row_open_it_for_its_pause_and_then_one() {
        let (breaker, now) = (Breaker::new(PAUSE, LONG), Instant::now());
        let fail = |now| breaker.begin(now).map(|begun| begun.failed(now));
        fail(now).unwrap();
        fail(now).unwrap();
        breaker.begin(now).unwrap().succeeded();
        for _ in 0..3 {
            fail(now).unwrap();
        }
        assert_eq!(fail(now), Err(PAUSE));
        assert_eq!(fail(now + Duration::from_secs(29)), Err(Duration::from_secs(1)));
        fail(now + PAUSE).unwrap();
        assert_eq!(fail(now + PAUSE), Err(PAUSE));
        breaker.begin(now + PAUSE * 2).unwrap().succeeded();
        fail(now + PAUSE * 2).unwrap();
        assert_eq!(breaker.wait(now + PAUSE * 2), Duration::ZERO);
    }

    #[test]
    fn a_caller_who_leaves_late_counts_as_a_failure_and_one_who_leaves_soon_does_not() {
        let breaker = Breaker::new(PAUSE, LONG);
        let (soon, late) = (Instant::now(), Instant::now().checked_sub(LONG).unwrap());
        for _ in 0..5 {
            drop(breaker.begin(soon));
        }
        for _ in 0..2 {
            drop(breaker.begin(late));
        }
        assert_eq!(breaker.wait(soon), Duration::ZERO);
        drop(breaker.begin(late));
        assert!(breaker.wait(soon) > PAUSE - LONG);
    }
}
