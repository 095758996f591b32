//! How long a failure of the database lasts, and what follows from it.

use std::time::{Duration, Instant};

use crate::store::Error;

/// A failure that lasts longer is logged.
const LOGGED_AFTER: Duration = Duration::from_secs(5);
/// Nobody waits longer for the database.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(30);

/// The failures since the last success.
#[derive(Debug, Default)]
pub(super) struct Outage {
    since: Option<Instant>,
    is_logged: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    Retry,
    /// Another attempt would fail too, or the failure has lasted too long.
    GiveUp,
}

impl Outage {
    /// Notes a failure.
    pub(super) fn judge(&mut self, error: &Error) -> Verdict {
        self.judge_at(error, Instant::now())
    }

    fn judge_at(&mut self, error: &Error, now: Instant) -> Verdict {
        if !matches!(error, Error::Busy(_) | Error::Unavailable(_)) {
            tracing::error!(
                error = error as &dyn std::error::Error,
                "changes of certificates cannot be read"
            );
            return Verdict::GiveUp;
        }
        let lasts = now - *self.since.get_or_insert(now);
        if lasts >= LOGGED_AFTER && !std::mem::replace(&mut self.is_logged, true) {
            tracing::warn!(
                error = error as &dyn std::error::Error,
                "changes of certificates could not be read for some seconds: watches wait"
            );
        }
        match lasts < GIVEN_UP_AFTER {
            true => Verdict::Retry,
            false => Verdict::GiveUp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_passing_failure_is_waited_for_and_not_for_ever() {
        let (mut outage, began) = (Outage::default(), Instant::now());
        assert_eq!(outage.judge_at(&Error::Row("event"), began), Verdict::GiveUp);
        let busy = Error::busy();
        let verdicts = [0, 29, 30].map(|secs| outage.judge_at(&busy, began + Duration::from_secs(secs)));
        assert_eq!(verdicts, [Verdict::Retry, Verdict::Retry, Verdict::GiveUp]);
        assert!(outage.is_logged);
    }
}
