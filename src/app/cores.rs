//! Work that keeps a core busy: parsing and key work.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::Error;

/// As many pieces of work at once as there are cores, off the async threads. The others wait; their callers' deadlines run. A thread
/// that has ended one takes the next: under load none is woken for it.
///
/// One piece may be on an async thread, its caller's own, if a core besides is free: to wake another thread and be woken by it
/// takes a good part of the time of such work, and the other async threads go on.
#[derive(Clone)]
pub(super) struct Cores(Arc<Mutex<Queue>>);

type Piece = Box<dyn FnOnce() + Send>;

struct Queue {
    waiting: VecDeque<Piece>,
    free: usize,
    /// Whether one is on its caller's thread.
    is_with_caller: bool,
}

impl Cores {
    pub(super) fn of_this_machine() -> Self {
        Self::new(std::thread::available_parallelism().map_or(1, usize::from))
    }

    fn new(cores: usize) -> Self {
        Self(Arc::new(Mutex::new(Queue {
            waiting: VecDeque::new(),
            free: cores,
            is_with_caller: false,
        })))
    }

    /// Runs `work` on a core. Once it has begun, it is finished even if the caller leaves.
    pub(super) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        if self.may_be_with_caller() {
            let done = catch_unwind(AssertUnwindSafe(work));
            self.end_with_caller();
            return done.map_err(|_| Error::internal(std::io::Error::other("work panicked")));
        }
        let (answer, answered) = oneshot::channel();
        let span = tracing::Span::current();
        let piece = Box::new(move || {
            if !answer.is_closed() {
                // A caller that left wants no answer.
                let _ = answer.send(span.in_scope(work));
            }
        });
        if self.takes_a_core(piece) {
            self.begin();
        }
        answered.await.map_err(Error::internal)
    }

    fn may_be_with_caller(&self) -> bool {
        let mut queue = self.queue();
        let may = queue.free > 1 && !queue.is_with_caller;
        if may {
            queue.is_with_caller = true;
            queue.free -= 1;
        }
        may
    }

    /// What came meanwhile has this core on another thread.
    fn end_with_caller(&self) {
        let mut queue = self.queue();
        queue.is_with_caller = false;
        if queue.waiting.is_empty() {
            queue.free += 1;
        } else {
            self.begin();
        }
    }

    fn takes_a_core(&self, piece: Piece) -> bool {
        let mut queue = self.queue();
        queue.waiting.push_back(piece);
        let is_free = queue.free > 0;
        queue.free -= usize::from(is_free);
        is_free
    }

    /// Works on a thread of its own with a core that was taken.
    fn begin(&self) {
        let cores = self.clone();
        tokio::task::spawn_blocking(move || cores.work());
    }

    fn work(&self) {
        while let Some(piece) = self.next() {
            // What panics has dropped its answer, which is how its caller learns of it.
            let _ = catch_unwind(AssertUnwindSafe(piece));
        }
    }

    fn next(&self) -> Option<Piece> {
        let mut queue = self.queue();
        let next = queue.waiting.pop_front();
        queue.free += usize::from(next.is_none());
        next
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_more_work_is_done_at_once_than_there_are_cores_and_all_of_it_is_done() {
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
            callers.spawn(async move { cores.run(work).await.unwrap() });
        }
        let mut done = callers.join_all().await;
        done.sort_unstable();
        assert_eq!(done, (0..20).collect::<Vec<_>>());
        assert_eq!(most.load(Ordering::SeqCst), 2);
        assert_eq!(cores.queue().free, 2, "every core is given back");
    }

    #[tokio::test]
    async fn one_may_be_on_its_callers_thread_while_another_core_is_free() {
        let here = std::thread::current().id();
        let thread = || std::thread::current().id();
        assert_eq!(Cores::new(2).run(thread).await.unwrap(), here);
        assert_ne!(Cores::new(1).run(thread).await.unwrap(), here);
    }

    #[tokio::test]
    async fn what_panics_costs_its_caller_alone_and_who_left_costs_nothing() {
        for cores in [1, 2] {
            let cores = Cores::new(cores);
            let panics = cores.run(|| -> u32 { panic!("as the test wants it") });
            assert!(panics.await.is_err());
            assert_eq!(cores.run(|| 7).await.unwrap(), 7);
        }
        let cores = Cores::new(1);
        // While one is at work, a second caller comes and leaves.
        let (go_on, may_go_on) = mpsc::channel::<()>();
        let busy = tokio::spawn({
            let cores = cores.clone();
            async move { cores.run(move || may_go_on.recv().is_ok()).await.unwrap() }
        });
        tokio::task::yield_now().await;
        let (told, is_told) = mpsc::channel();
        let left = tokio::spawn({
            let cores = cores.clone();
            async move { cores.run(move || told.send(())).await.map(drop) }
        });
        tokio::task::yield_now().await;
        left.abort();
        assert!(left.await.unwrap_err().is_cancelled());
        go_on.send(()).unwrap();
        assert!(busy.await.unwrap());
        assert_eq!(cores.run(|| 7).await.unwrap(), 7);
        assert!(is_told.recv().is_err(), "the work of who left was done");
    }
}
