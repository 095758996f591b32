//! Log lines about events that can happen thousands of times in a second.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Counts events of one kind, and says when the log should tell of them: at once, then every minute.
#[derive(Debug)]
pub struct Seldom(Mutex<Counted>);

#[derive(Debug)]
struct Counted {
    told: Option<Instant>,
    events: u64,
}

impl Seldom {
    const PAUSE: Duration = Duration::from_secs(60);

    /// No events.
    pub const fn new() -> Self {
        Self(Mutex::new(Counted { told: None, events: 0 }))
    }

    /// Counts an event. The number of events since the last line, if a line is due.
    pub fn count(&self) -> Option<u64> {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counted.events += 1;
        if counted.told.is_some_and(|told| told.elapsed() < Self::PAUSE) {
            return None;
        }
        counted.told = Some(Instant::now());
        Some(std::mem::take(&mut counted.events))
    }
}

impl Default for Seldom {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_event_is_told_and_the_next_ones_are_counted() {
        let seldom = Seldom::new();
        assert_eq!(seldom.count(), Some(1));
        assert!((0..1000).all(|_| seldom.count().is_none()));
        seldom.0.lock().unwrap().told = Instant::now().checked_sub(Seldom::PAUSE);
        assert_eq!(seldom.count(), Some(1001));
    }
}
