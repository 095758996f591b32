//! CPU-bound work: parsing, and arithmetic with keys.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::Error;

/// Runs work by its [`Cost`]: inline on the caller's thread, or on a blocking thread. The number of concurrent blocking pieces
/// is limited to the number of cores. The rest wait, and the deadlines of their callers continue.
#[derive(Clone)]
pub(super) struct CpuPool(Arc<Semaphore>);

/// The cost class of a piece of work.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Cost {
    /// Usually a fraction of a millisecond, 20 ms in the worst case. The work runs on the caller's thread, because waking
    /// another thread takes equally long.
    Inline,
    /// Tens of milliseconds. The work runs on a blocking thread.
    Blocking,
}

impl Cost {
    /// Most pairs are shorter: a key and two certificates with 2048-bit RSA keys take 6 KiB. `certificate::cost` has
    /// the texts with the highest cost for their size.
    const MAX_INLINE_OCTETS: usize = 8 * 1024;

    /// The cost of parsing and verifying PEM texts of this length.
    pub(super) fn of_octets(octets: usize) -> Self {
        if octets <= Self::MAX_INLINE_OCTETS {
            Self::Inline
        } else {
            Self::Blocking
        }
    }
}

/// The number of cores of this machine.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl CpuPool {
    /// A pool for the cores of this machine.
    pub(super) fn of_this_machine() -> Self {
        Self::new(cores())
    }

    fn new(cores: usize) -> Self {
        Self(Arc::new(Semaphore::new(cores)))
    }

    /// Runs the work. Work that has begun continues even if the caller leaves. A panic is an error of this call only.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        cost: Cost,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        match cost {
            Cost::Inline => catch_unwind(AssertUnwindSafe(work))
                .map_err(|_| Error::internal(std::io::Error::other("the work has panicked"))),
            Cost::Blocking => {
                let permit = self.0.clone().acquire_owned().await.map_err(Error::internal)?;
                let span = tracing::Span::current();
                let work = move || {
                    let _permit = permit;
                    span.in_scope(work)
                };
                tokio::task::spawn_blocking(work).await.map_err(Error::internal)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn as_many_pieces_run_at_once_as_there_are_cores_and_all_run() {
        let pool = CpuPool::new(2);
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut callers = tokio::task::JoinSet::new();
        for number in 0..20 {
            let (pool, now, most) = (pool.clone(), now.clone(), most.clone());
            let work = move || {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::sleep(std::time::Duration::from_millis(2));
                now.fetch_sub(1, Ordering::SeqCst);
                number
            };
            callers.spawn(async move { pool.run(Cost::Blocking, work).await.unwrap() });
        }
        let mut finished = callers.join_all().await;
        finished.sort_unstable();
        assert_eq!(finished, (0..20).collect::<Vec<_>>());
        assert_eq!(most.load(Ordering::SeqCst), 2);
        assert_eq!(pool.0.available_permits(), 2, "every permit is returned");
    }

    #[tokio::test]
    async fn only_cheap_work_runs_on_the_callers_thread() {
        let pool = CpuPool::new(1);
        let here = std::thread::current().id();
        let thread = || std::thread::current().id();
        let octets = Cost::MAX_INLINE_OCTETS;
        assert_eq!(pool.run(Cost::of_octets(octets), thread).await.unwrap(), here);
        assert_ne!(pool.run(Cost::of_octets(octets + 1), thread).await.unwrap(), here);
    }

    #[tokio::test]
    async fn a_panic_fails_one_call_and_a_caller_that_left_runs_nothing() {
        let pool = CpuPool::new(1);
        for cost in [Cost::Inline, Cost::Blocking] {
            let panics = pool.run(cost, || -> u32 { panic!("for the test") });
            assert!(panics.await.is_err());
            assert_eq!(pool.run(cost, || 7).await.unwrap(), 7);
        }
        // While one piece runs, a second caller comes and leaves.
        let (go_on, may_go_on) = mpsc::channel::<()>();
        let busy = tokio::spawn({
            let pool = pool.clone();
            async move {
                pool.run(Cost::Blocking, move || may_go_on.recv().is_ok())
                    .await
                    .unwrap()
            }
        });
        tokio::task::yield_now().await;
        let (ran, has_run) = mpsc::channel();
        let left = tokio::spawn({
            let pool = pool.clone();
            async move { pool.run(Cost::Blocking, move || ran.send(())).await.map(drop) }
        });
        tokio::task::yield_now().await;
        left.abort();
        assert!(left.await.unwrap_err().is_cancelled());
        go_on.send(()).unwrap();
        assert!(busy.await.unwrap());
        assert_eq!(pool.run(Cost::Blocking, || 7).await.unwrap(), 7);
        assert!(has_run.recv().is_err(), "the work of the caller that left ran");
    }
}
