//! What waits together is done together.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::inventory::CertificateKind;

/// An item waits no longer than this until it is under way, as for a connection.
const WAIT: Duration = super::connect::WAIT_FOR_CONNECTION;
/// A batch that takes longer is waited for no more: the next goes beside it. So many may be that slow.
const SLOW: Duration = Duration::from_millis(50);
const MAX_SLOW: usize = 7;

/// Items that come one by one, and are done in batches of one or more. What comes while a batch is under way waits for its end, and
/// then goes with all that came: several at once would be smaller, and cost more. What comes else goes at once. A lock, a dead
/// connection or a slow disk holds up others for a moment only.
pub(super) struct Batches<T, R> {
    max_weight: usize,
    queue: Mutex<Queue<T, R>>,
}

/// Why there is no result for an item.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Undone {
    /// It waited for too long, and was not begun.
    NotBegun,
    /// The work ended without a result for it.
    Failed,
}

/// Certificates of either kind have statements and batches of their own.
pub(super) struct BatchesByKind<T, R> {
    server: Arc<Batches<T, R>>,
    ca: Arc<Batches<T, R>>,
}

struct Queue<T, R> {
    waiting: VecDeque<Waiting<T, R>>,
    came: u64,
    /// Whether a batch is under way that is waited for.
    is_busy: bool,
    slow: usize,
}

struct Waiting<T, R> {
    number: u64,
    item: T,
    weight: usize,
    answer: oneshot::Sender<R>,
}

impl<T: Send + 'static, R: Send + 'static> Batches<T, R> {
    /// No batch is heavier than `max_weight` unless it is one item.
    pub(super) fn new(max_weight: usize) -> Arc<Self> {
        Arc::new(Self {
            max_weight,
            queue: Mutex::new(Queue {
                waiting: VecDeque::new(),
                came: 0,
                is_busy: false,
                slow: 0,
            }),
        })
    }

    /// Has the item done in a batch by `work`, which answers as many results as it is given items, in their order. Once it has begun,
    /// it is done even if the caller leaves.
    pub(super) async fn done<F>(
        self: &Arc<Self>,
        item: T,
        weight: usize,
        work: impl Fn(Vec<T>) -> F + Clone + Send + 'static,
    ) -> Result<R, Undone>
    where
        F: Future<Output = Vec<R>> + Send + 'static,
    {
        let (answer, mut answered) = oneshot::channel();
        let (number, was_busy) = {
            let mut queue = self.queue();
            queue.came += 1;
            let number = queue.came;
            queue.waiting.push_back(Waiting {
                number,
                item,
                weight,
                answer,
            });
            (number, std::mem::replace(&mut queue.is_busy, true))
        };
        if !was_busy {
            tokio::spawn(self.clone().do_all(work));
        }
        if let Ok(answer) = tokio::time::timeout(WAIT, &mut answered).await {
            return answer.map_err(|_| Undone::Failed);
        }
        if self.withdraw(number) {
            return Err(Undone::NotBegun);
        }
        answered.await.map_err(|_| Undone::Failed)
    }

    /// Whether it was still waiting.
    fn withdraw(&self, number: u64) -> bool {
        let mut queue = self.queue();
        let place = queue.waiting.iter().position(|waiting| waiting.number == number);
        place.is_some_and(|place| queue.waiting.remove(place).is_some())
    }

    async fn do_all<F>(self: Arc<Self>, work: impl Fn(Vec<T>) -> F + Clone + Send + 'static)
    where
        F: Future<Output = Vec<R>> + Send + 'static,
    {
        while let Some((items, answers)) = self.next() {
            let work = work.clone();
            // On a task of its own: what panics there ends no more than its batch.
            let mut batch = tokio::spawn(async move {
                for (answer, result) in answers.into_iter().zip(work(items).await) {
                    // A caller that left wants none.
                    let _ = answer.send(result);
                }
            });
            if tokio::time::timeout(SLOW, &mut batch).await.is_ok() {
                continue;
            }
            if self.goes_on_without() {
                let this = self.clone();
                tokio::spawn(async move {
                    let _ = batch.await;
                    this.queue().slow -= 1;
                });
            } else {
                let _ = batch.await;
            }
        }
    }

    fn goes_on_without(&self) -> bool {
        let mut queue = self.queue();
        let may = queue.slow < MAX_SLOW;
        queue.slow += usize::from(may);
        may
    }

    /// The next batch; `None`: nothing waits.
    fn next(&self) -> Option<(Vec<T>, Vec<oneshot::Sender<R>>)> {
        let mut queue = self.queue();
        let (mut items, mut answers, mut weight) = (Vec::new(), Vec::new(), 0);
        let fits = |next: &Waiting<T, R>, weight| weight == 0 || weight + next.weight <= self.max_weight;
        while queue.waiting.front().is_some_and(|next| fits(next, weight))
            && let Some(next) = queue.waiting.pop_front()
        {
            if next.answer.is_closed() {
                continue;
            }
            weight += next.weight;
            items.push(next.item);
            answers.push(next.answer);
        }
        if items.is_empty() {
            queue.is_busy = false;
            return None;
        }
        Some((items, answers))
    }

    fn queue(&self) -> MutexGuard<'_, Queue<T, R>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Send + 'static, R: Send + 'static> BatchesByKind<T, R> {
    /// See [`Batches::new`].
    pub(super) fn new(max_weight: usize) -> Self {
        Self {
            server: Batches::new(max_weight),
            ca: Batches::new(max_weight),
        }
    }

    pub(super) fn of(&self, kind: CertificateKind) -> &Arc<Batches<T, R>> {
        match kind {
            CertificateKind::Server => &self.server,
            CertificateKind::Ca => &self.ca,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::sync::Semaphore;

    use super::*;

    /// Work that notes its batches, and ends each when it is let.
    #[derive(Clone)]
    struct Work {
        batches: mpsc::Sender<Vec<u32>>,
        may_end: Arc<Semaphore>,
    }

    impl Work {
        fn new() -> (Self, mpsc::Receiver<Vec<u32>>) {
            let (batches, noted) = mpsc::channel();
            let may_end = Arc::new(Semaphore::new(0));
            (Self { batches, may_end }, noted)
        }

        async fn of(self, items: Vec<u32>) -> Vec<u32> {
            self.batches.send(items.clone()).unwrap();
            self.may_end.acquire().await.unwrap().forget();
            items.iter().map(|item| item * 10).collect()
        }
    }

    type Adding = tokio::task::JoinHandle<Result<u32, Undone>>;

    /// Adds the item, and waits until it is under way or in the queue.
    async fn add(batches: &Arc<Batches<u32, u32>>, work: &Work, item: u32, weight: usize) -> Adding {
        let (batches, work) = (batches.clone(), work.clone());
        let adding = tokio::spawn(async move { batches.done(item, weight, move |items| work.clone().of(items)).await });
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        adding
    }

    #[tokio::test]
    async fn what_comes_alone_goes_alone_and_what_waits_goes_together() {
        let batches = Batches::new(10);
        let (work, noted) = Work::new();
        let mut adding = Vec::new();
        for item in 1..=4 {
            adding.push(add(&batches, &work, item, 1).await);
        }
        assert_eq!(noted.try_iter().collect::<Vec<_>>(), [[1]], "the others wait");
        work.may_end.add_permits(2);
        for (adding, item) in adding.into_iter().zip(1..) {
            assert_eq!(adding.await.unwrap(), Ok(item * 10));
        }
        assert_eq!(noted.try_iter().collect::<Vec<_>>(), [[2, 3, 4]]);
        work.may_end.add_permits(1);
        assert_eq!(
            add(&batches, &work, 5, 1).await.await.unwrap(),
            Ok(50),
            "nothing is under way any more"
        );
    }

    #[tokio::test]
    async fn a_batch_has_a_greatest_weight_and_one_item_any() {
        let batches = Batches::new(10);
        let (work, noted) = Work::new();
        let mut adding = Vec::new();
        for (item, weight) in (1..).zip([1, 4, 6, 1, 30, 2]) {
            adding.push(add(&batches, &work, item, weight).await);
        }
        work.may_end.add_permits(6);
        for adding in adding {
            assert!(adding.await.unwrap().is_ok());
        }
        assert_eq!(
            noted.try_iter().collect::<Vec<_>>(),
            [vec![1], vec![2, 3], vec![4], vec![5], vec![6]]
        );
    }

    #[tokio::test]
    async fn a_caller_that_leaves_and_work_that_panics_take_nobody_along() {
        let batches = Batches::new(10);
        let (work, noted) = Work::new();
        let first = add(&batches, &work, 1, 1).await;
        let left = add(&batches, &work, 2, 1).await;
        let stays = add(&batches, &work, 3, 1).await;
        left.abort();
        work.may_end.add_permits(2);
        assert_eq!((first.await.unwrap(), stays.await.unwrap()), (Ok(10), Ok(30)));
        assert_eq!(noted.try_iter().collect::<Vec<_>>(), [vec![1], vec![3]]);

        async fn panics(_: Vec<u32>) -> Vec<u32> {
            panic!("as the test wants it")
        }
        assert_eq!(batches.done(4, 1, panics).await, Err(Undone::Failed));
        work.may_end.add_permits(1);
        assert_eq!(add(&batches, &work, 5, 1).await.await.unwrap(), Ok(50));
    }

    #[tokio::test]
    async fn slow_batches_let_the_next_go_and_what_waits_for_too_long_is_never_begun() {
        let batches = Batches::new(1);
        let (work, noted) = Work::new();
        let at_once = MAX_SLOW as u32 + 1;
        let mut slow = Vec::new();
        for item in 1..=at_once {
            slow.push(add(&batches, &work, item, 1).await);
        }
        let last = add(&batches, &work, 100, 1).await;
        assert_eq!(last.await.unwrap(), Err(Undone::NotBegun));
        let begun: Vec<_> = (1..=at_once).map(|item| vec![item]).collect();
        assert_eq!(noted.try_iter().collect::<Vec<_>>(), begun);
        assert!(batches.queue().waiting.is_empty());
        work.may_end.add_permits(slow.len());
        for (slow, item) in slow.into_iter().zip(1..) {
            assert_eq!(slow.await.unwrap(), Ok(item * 10));
        }
    }
}
