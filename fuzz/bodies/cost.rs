//! No input costs more than 50 ms of processor time.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The limit of processor time. It is higher under libFuzzer, because libFuzzer's counters cost time too.
const LIMIT: Duration = Duration::from_millis(if cfg!(fuzzing) { 100 } else { 50 });

/// The processor time that this thread has used.
fn processor_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime)
        .try_into()
        .expect("no thread runs backwards")
}

/// Runs the closure and checks the limit. A run that exceeds the limit is repeated, because a cold cache on a busy machine costs
/// time too.
pub fn within_limit<T>(run: impl Fn() -> T) -> T {
    let run = || {
        let start = processor_time();
        let outcome = run();
        (processor_time() - start, outcome)
    };
    let (mut shortest, outcome) = run();
    for _ in 0..4 {
        if shortest < LIMIT {
            break;
        }
        shortest = shortest.min(run().0);
    }
    assert!(shortest < LIMIT, "it takes {shortest:?} of processor time");
    outcome
}
