//! The log lines of calls that are not authenticated. Without a limit, anybody who can connect could fill the disk.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::app::Source;

/// The calls of a minute, by source and code. The first calls of a source with a code have a line each, and then each tenth, hundredth,
/// thousandth and so on. That line has their number.
pub struct Repeats(Mutex<Minute>);

struct Minute {
    began: Instant,
    calls: HashMap<(Source, &'static str), u64>,
}

impl Repeats {
    const MINUTE: Duration = Duration::from_secs(60);
    /// Calls that have a line each.
    const FIRST: u64 = 10;
    /// More sources than this share their counts.
    const MAX_SOURCES: usize = 256;

    /// A new minute.
    pub fn new() -> Self {
        Self(Mutex::new(Minute {
            began: Instant::now(),
            calls: HashMap::new(),
        }))
    }

    /// Counts a call that ended with this code. The number of such calls in this minute, if this call has a line in the log.
    pub fn count(&self, address: Option<IpAddr>, code: &'static str) -> Option<u64> {
        let mut minute = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if minute.began.elapsed() >= Self::MINUTE {
            minute.began = Instant::now();
            minute.calls.clear();
        }
        let mut key = (address.map_or(Source::Others, Source::of), code);
        if minute.calls.len() >= Self::MAX_SOURCES && !minute.calls.contains_key(&key) {
            key.0 = Source::Others;
        }
        let calls = minute.calls.entry(key).or_default();
        *calls += 1;
        let has_line = *calls <= Self::FIRST || 10_u64.pow(calls.ilog10()) == *calls;
        has_line.then_some(*calls)
    }
}

impl Default for Repeats {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_calls_of_a_minute_and_then_ever_fewer_have_a_line() {
        let repeats = Repeats::new();
        let address = Some(IpAddr::from([192, 0, 2, 1]));
        let lines: Vec<_> = (0..20_000)
            .filter_map(|_| repeats.count(address, "UNAUTHENTICATED"))
            .collect();
        assert_eq!(lines, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 100, 1000, 10_000]);
        assert_eq!(repeats.count(address, "CANCELLED"), Some(1));
        assert_eq!(repeats.count(Some(IpAddr::from([192, 0, 2, 2])), "CANCELLED"), Some(1));
        repeats.0.lock().unwrap().began = Instant::now().checked_sub(Repeats::MINUTE).unwrap();
        assert_eq!(repeats.count(address, "UNAUTHENTICATED"), Some(1));
    }

    #[test]
    fn callers_from_many_addresses_share_their_lines() {
        let repeats = Repeats::new();
        let lines = (0..100_000_u32)
            .filter_map(|number| repeats.count(Some(IpAddr::from(number.to_be_bytes())), "UNAUTHENTICATED"))
            .count();
        assert!(lines < 300, "{lines}");
        assert!(repeats.0.lock().unwrap().calls.len() <= Repeats::MAX_SOURCES + 1);
    }
}
