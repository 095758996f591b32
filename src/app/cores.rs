//! Work that keeps a core busy: parsing and key work.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::Error;

/// What little work is done on its caller's thread: to wake another thread and be woken by it takes as long. Much work is done off the
/// async threads, as many pieces at once as there are cores; the others wait, and their callers' deadlines run.
#[derive(Clone)]
pub(super) struct Cores(Arc<Semaphore>);

/// How long a piece of work can take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Work {
    /// Mostly a fraction of a millisecond, at worst twenty.
    Little,
    /// Tens of them.
    Much,
}

impl Work {
    /// Most pairs have less: a key and two certificates with RSA keys of 2048 bits take 6 KiB. `certificate::cost` has what
    /// was made to cost most for its size.
    const LITTLE: usize = 8 * 1024;

    /// To read and verify certificates, and maybe a key, of so many octets.
    pub(super) fn verifying(octets: usize) -> Self {
        if octets <= Self::LITTLE {
            Self::Little
        } else {
            Self::Much
        }
    }
}

impl Cores {
    pub(super) fn of_this_machine() -> Self {
        Self::new(std::thread::available_parallelism().map_or(1, usize::from))
    }

    fn new(cores: usize) -> Self {
        Self(Arc::new(Semaphore::new(cores)))
    }

    /// Does the work. Once it has begun, it is finished even if the caller leaves.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        how_much: Work,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        match how_much {
            Work::Little => catch_unwind(AssertUnwindSafe(work))
                .map_err(|_| Error::internal(std::io::Error::other("what was to be done has panicked"))),
            Work::Much => {
                let core = self.0.clone().acquire_owned().await.map_err(Error::internal)?;
                let span = tracing::Span::current();
                let work = move || {
                    let _core = core;
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
    async fn no_more_is_done_at_once_than_there_are_cores_and_all_of_it_is_done() {
        let cores = Cores::new(2);
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut callers = tokio::task::JoinSet::new();
        for number in 0..20 {
            let (cores, now, most) = (cores.clone(), now.clone(), most.clone());
            let work = move || {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::sleep(std::time::Duration::from_millis(2));
                now.fetch_sub(1, Ordering::SeqCst);
                number
            };
            callers.spawn(async move { cores.run(Work::Much, work).await.unwrap() });
        }
        let mut done = callers.join_all().await;
        done.sort_unstable();
        assert_eq!(done, (0..20).collect::<Vec<_>>());
        assert_eq!(most.load(Ordering::SeqCst), 2);
        assert_eq!(cores.0.available_permits(), 2, "every core is given back");
    }

    #[tokio::test]
    async fn little_work_alone_is_done_on_its_callers_thread() {
        let cores = Cores::new(1);
        let here = std::thread::current().id();
        let thread = || std::thread::current().id();
        let octets = Work::LITTLE;
        assert_eq!(cores.run(Work::verifying(octets), thread).await.unwrap(), here);
        assert_ne!(cores.run(Work::verifying(octets + 1), thread).await.unwrap(), here);
    }

    #[tokio::test]
    async fn what_panics_costs_its_caller_alone_and_who_left_costs_nothing() {
        let cores = Cores::new(1);
        for how_much in [Work::Little, Work::Much] {
            let panics = cores.run(how_much, || -> u32 { panic!("as the test wants it") });
            assert!(panics.await.is_err());
            assert_eq!(cores.run(how_much, || 7).await.unwrap(), 7);
        }
        // While one is at work, a second caller comes and leaves.
        let (go_on, may_go_on) = mpsc::channel::<()>();
        let busy = tokio::spawn({
            let cores = cores.clone();
            async move { cores.run(Work::Much, move || may_go_on.recv().is_ok()).await.unwrap() }
        });
        tokio::task::yield_now().await;
        let (told, is_told) = mpsc::channel();
        let left = tokio::spawn({
            let cores = cores.clone();
            async move { cores.run(Work::Much, move || told.send(())).await.map(drop) }
        });
        tokio::task::yield_now().await;
        left.abort();
        assert!(left.await.unwrap_err().is_cancelled());
        go_on.send(()).unwrap();
        assert!(busy.await.unwrap());
        assert_eq!(cores.run(Work::Much, || 7).await.unwrap(), 7);
        assert!(is_told.recv().is_err(), "the work of who left was done");
    }
}
