//! Group commit: items that wait together become one batch.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::{Instrument, Span};

/// An item waits at most this long for its batch to begin, as for a connection.
const WAIT: Duration = super::connect::WAIT_FOR_CONNECTION;
/// The next batch does not wait longer than this for the running batch.
const SLOW: Duration = Duration::from_millis(50);
/// At most this many batches run beside the one that the next batch waits for.
const MAX_OVERTAKEN: usize = 7;
/// A database with a longer round trip than this is far away.
const FAR: Duration = Duration::from_millis(2);
/// A batch gets at least this head start on a database that is far away.
const MIN_HEAD_START: Duration = Duration::from_millis(1);

/// While one batch runs, new items queue. When it ends, everything in the queue becomes the next batch. An item that finds no
/// batch running becomes a batch at once. A batch that is slow, because of a lock, a dead connection or a slow disk, is overtaken
/// by the next one.
///
/// When the database is far away, a batch spends most of its time on the network. Then the next batch begins as soon as Postgres
/// has probably finished the one before.
pub(super) struct GroupCommit<T, R> {
    max_weight: usize,
    round_trip: RoundTrip,
    queue: Mutex<Queue<T, R>>,
}

/// The time of a round trip to the database, measured when a connection opens.
#[derive(Clone, Debug, Default)]
pub(super) struct RoundTrip(Arc<AtomicU64>);

/// Why there is no result for an item.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum NotRun {
    /// It waited too long, or its caller left, and its batch did not begin.
    Withdrawn,
    /// The batch ended without a result for it.
    Failed,
}

struct Queue<T, R> {
    waiting: VecDeque<Waiting<T, R>>,
    /// How many items were submitted so far.
    submitted: u64,
    /// Whether a task starts batches.
    is_running: bool,
    overtaken: usize,
    /// The time that Postgres needs for a batch: an average in which the last batch counts for a quarter.
    work: Duration,
}

struct Waiting<T, R> {
    number: u64,
    item: T,
    weight: usize,
    answer: oneshot::Sender<R>,
    /// The call that waits for the item. A batch belongs to the call of its first item.
    span: Span,
}

/// Takes an item out of the queue when its caller leaves. So the queue is bounded by the deadlines of the callers.
struct Leaving<'a, T: Send + 'static, R: Send + 'static> {
    group: &'a GroupCommit<T, R>,
    number: Option<u64>,
}

impl<T: Send + 'static, R: Send + 'static> Drop for Leaving<'_, T, R> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.group.withdraw(number);
        }
    }
}

impl RoundTrip {
    pub(super) fn set(&self, time: Duration) {
        self.0.store(time.as_micros() as u64, Ordering::Relaxed);
    }

    fn get(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }
}

impl<T: Send + 'static, R: Send + 'static> GroupCommit<T, R> {
    /// No batch is heavier than `max_weight` unless it has only one item.
    pub(super) fn new(max_weight: usize, round_trip: RoundTrip) -> Arc<Self> {
        Arc::new(Self {
            max_weight,
            round_trip,
            queue: Mutex::new(Queue {
                waiting: VecDeque::new(),
                submitted: 0,
                is_running: false,
                overtaken: 0,
                work: Duration::ZERO,
            }),
        })
    }

    /// Runs the item in a batch of `work`, which answers a result for each of its items, in order. A batch that has begun runs to
    /// its end even if its callers leave.
    pub(super) async fn submit<F>(
        self: &Arc<Self>,
        item: T,
        weight: usize,
        work: impl Fn(Vec<T>) -> F + Clone + Send + 'static,
    ) -> Result<R, NotRun>
    where
        F: Future<Output = Vec<R>> + Send + 'static,
    {
        self.submit_until(std::future::pending(), item, weight, work).await
    }

    /// The same for an item whose caller may leave while this future goes on: `left` tells. The item is withdrawn if it is still in the
    /// queue.
    pub(super) async fn submit_until<F>(
        self: &Arc<Self>,
        left: impl Future<Output = ()>,
        item: T,
        weight: usize,
        work: impl Fn(Vec<T>) -> F + Clone + Send + 'static,
    ) -> Result<R, NotRun>
    where
        F: Future<Output = Vec<R>> + Send + 'static,
    {
        let (answer, mut answered) = oneshot::channel();
        let (number, was_running) = {
            let mut queue = self.queue();
            queue.submitted += 1;
            let number = queue.submitted;
            queue.waiting.push_back(Waiting {
                number,
                item,
                weight,
                answer,
                span: Span::current(),
            });
            (number, std::mem::replace(&mut queue.is_running, true))
        };
        if !was_running {
            tokio::spawn(self.clone().run(work));
        }
        let mut leaving = Leaving {
            group: self,
            number: Some(number),
        };
        let answer = tokio::select! {
            answer = &mut answered => Some(answer),
            () = tokio::time::sleep(WAIT) => None,
            () = left => None,
        };
        leaving.number = None;
        if let Some(answer) = answer {
            return answer.map_err(|_| NotRun::Failed);
        }
        if self.withdraw(number) {
            return Err(NotRun::Withdrawn);
        }
        answered.await.map_err(|_| NotRun::Failed)
    }

    /// How many items wait for their batch to begin.
    pub(super) fn queue_length(&self) -> usize {
        self.queue().waiting.len()
    }

    /// Whether the item was still in the queue.
    fn withdraw(&self, number: u64) -> bool {
        let mut queue = self.queue();
        let index = queue.waiting.binary_search_by_key(&number, |waiting| waiting.number);
        index.is_ok_and(|index| queue.waiting.remove(index).is_some())
    }

    async fn run<F>(self: Arc<Self>, work: impl Fn(Vec<T>) -> F + Clone + Send + 'static)
    where
        F: Future<Output = Vec<R>> + Send + 'static,
    {
        while let Some((items, answers, span)) = self.next() {
            let (this, work) = (self.clone(), work.clone());
            // A task of its own: a panic ends only this batch.
            let batch = async move {
                let begun = Instant::now();
                let results = work(items).await;
                this.record(begun.elapsed());
                for (answer, result) in answers.into_iter().zip(results) {
                    // A caller that left wants no result.
                    let _ = answer.send(result);
                }
            };
            let mut batch = tokio::spawn(batch.instrument(span));
            if tokio::time::timeout(self.head_start(), &mut batch).await.is_ok() {
                continue;
            }
            if self.may_overtake() {
                let this = self.clone();
                tokio::spawn(async move {
                    let _ = batch.await;
                    this.queue().overtaken -= 1;
                });
            } else {
                let _ = batch.await;
            }
        }
    }

    /// How long the next batch waits for the running one.
    fn head_start(&self) -> Duration {
        match self.round_trip.get() > FAR {
            true => self.queue().work.clamp(MIN_HEAD_START, SLOW),
            false => SLOW,
        }
    }

    /// Records how long a batch took.
    fn record(&self, time: Duration) {
        let work = time.saturating_sub(self.round_trip.get());
        let mut queue = self.queue();
        queue.work = (queue.work * 3 + work) / 4;
    }

    fn may_overtake(&self) -> bool {
        let mut queue = self.queue();
        let may = queue.overtaken < MAX_OVERTAKEN;
        queue.overtaken += usize::from(may);
        may
    }

    /// The next batch; `None`: the queue is empty.
    fn next(&self) -> Option<(Vec<T>, Vec<oneshot::Sender<R>>, Span)> {
        let mut queue = self.queue();
        let (mut items, mut answers, mut weight, mut span) = (Vec::new(), Vec::new(), 0, None);
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
            span.get_or_insert(next.span);
        }
        if items.is_empty() {
            queue.is_running = false;
        }
        Some((items, answers, span?))
    }

    fn queue(&self) -> MutexGuard<'_, Queue<T, R>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::sync::Semaphore;

    use super::*;

    /// Work that records its batches, and ends each when a permit is added.
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

    type Adding = tokio::task::JoinHandle<Result<u32, NotRun>>;

    /// Adds the item, and waits until it runs or is in the queue.
    async fn add(batches: &Arc<GroupCommit<u32, u32>>, work: &Work, item: u32, weight: usize) -> Adding {
        let (batches, work) = (batches.clone(), work.clone());
        let adding =
            tokio::spawn(async move { batches.submit(item, weight, move |items| work.clone().of(items)).await });
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        adding
    }

    #[tokio::test]
    async fn an_item_that_comes_alone_runs_alone_and_waiting_items_run_together() {
        let batches = GroupCommit::new(10, RoundTrip::default());
        let (work, noted) = Work::new();
        let mut adding = Vec::new();
        for item in 1..=4 {
            adding.push(add(&batches, &work, item, 1).await);
        }
        assert_eq!(noted.try_iter().collect::<Vec<_>>(), [[1]], "the other items wait");
        work.may_end.add_permits(2);
        for (adding, item) in adding.into_iter().zip(1..) {
            assert_eq!(adding.await.unwrap(), Ok(item * 10));
        }
        assert_eq!(noted.try_iter().collect::<Vec<_>>(), [[2, 3, 4]]);
        work.may_end.add_permits(1);
        assert_eq!(
            add(&batches, &work, 5, 1).await.await.unwrap(),
            Ok(50),
            "no batch runs any more"
        );
    }

    #[tokio::test]
    async fn a_batch_has_a_maximum_weight_unless_it_is_one_item() {
        let batches = GroupCommit::new(10, RoundTrip::default());
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
    async fn a_caller_that_leaves_and_work_that_panics_do_not_harm_other_items() {
        let batches = GroupCommit::new(10, RoundTrip::default());
        let (work, noted) = Work::new();
        let first = add(&batches, &work, 1, 1).await;
        let left = add(&batches, &work, 2, 1).await;
        let stays = add(&batches, &work, 3, 1).await;
        left.abort();
        work.may_end.add_permits(2);
        assert_eq!((first.await.unwrap(), stays.await.unwrap()), (Ok(10), Ok(30)));
        assert_eq!(noted.try_iter().collect::<Vec<_>>(), [vec![1], vec![3]]);

        async fn panics(_: Vec<u32>) -> Vec<u32> {
            panic!("intended by the test")
        }
        assert_eq!(batches.submit(4, 1, panics).await, Err(NotRun::Failed));
        work.may_end.add_permits(1);
        assert_eq!(add(&batches, &work, 5, 1).await.await.unwrap(), Ok(50));
    }

    #[tokio::test]
    async fn an_item_leaves_the_queue_with_its_caller() {
        let batches = GroupCommit::new(10, RoundTrip::default());
        let (work, noted) = Work::new();
        let first = add(&batches, &work, 1, 1).await;
        let dropped = add(&batches, &work, 2, 1).await;
        dropped.abort();
        let _ = dropped.await;
        assert!(batches.queue().waiting.is_empty());
        let (group, of) = (batches.clone(), work.clone());
        let left = group.submit_until(std::future::ready(()), 3, 1, move |items| of.clone().of(items));
        assert_eq!(left.await, Err(NotRun::Withdrawn));
        work.may_end.add_permits(1);
        assert_eq!(first.await.unwrap(), Ok(10));
        assert_eq!(noted.try_iter().collect::<Vec<_>>(), [vec![1]]);
        // A batch that has begun runs to its end.
        let of = work.clone();
        let left = tokio::time::sleep(Duration::from_millis(50));
        let begun = batches.submit_until(left, 4, 1, move |items| of.clone().of(items));
        let ends = async {
            tokio::time::sleep(Duration::from_millis(150)).await;
            work.may_end.add_permits(1);
        };
        assert_eq!(tokio::join!(begun, ends).0, Ok(40));
    }

    #[tokio::test]
    async fn slow_batches_are_overtaken_and_an_item_that_waits_too_long_is_withdrawn() {
        let batches = GroupCommit::new(1, RoundTrip::default());
        let (work, noted) = Work::new();
        let at_once = MAX_OVERTAKEN as u32 + 1;
        let mut slow = Vec::new();
        for item in 1..=at_once {
            slow.push(add(&batches, &work, item, 1).await);
        }
        let last = add(&batches, &work, 100, 1).await;
        assert_eq!(last.await.unwrap(), Err(NotRun::Withdrawn));
        let begun: Vec<_> = (1..=at_once).map(|item| vec![item]).collect();
        assert_eq!(noted.try_iter().collect::<Vec<_>>(), begun);
        assert!(batches.queue().waiting.is_empty());
        work.may_end.add_permits(slow.len());
        for (slow, item) in slow.into_iter().zip(1..) {
            assert_eq!(slow.await.unwrap(), Ok(item * 10));
        }
    }

    /// Each batch takes a round trip of 100 ms, of which 1 ms is work.
    #[tokio::test]
    async fn batches_overlap_when_the_database_is_far_away() {
        let round_trip = RoundTrip::default();
        round_trip.set(Duration::from_millis(100));
        let batches = GroupCommit::<u32, u32>::new(1, round_trip);
        let begun = Instant::now();
        let all = (0..8).map(|item| {
            let batches = batches.clone();
            tokio::spawn(async move {
                let work = async |items: Vec<u32>| {
                    tokio::time::sleep(Duration::from_millis(101)).await;
                    items
                };
                batches.submit(item, 1, work).await
            })
        });
        for (item, submitted) in (0..).zip(all.collect::<Vec<_>>()) {
            assert_eq!(submitted.await.unwrap(), Ok(item));
        }
        let time = begun.elapsed();
        assert!(
            time < Duration::from_millis(400),
            "one after the other, eight batches take 808 ms: {time:?}"
        );
    }
}
