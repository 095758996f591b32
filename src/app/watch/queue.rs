//! The messages of a watch that its caller has not taken.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::super::Error;
use super::Watched;
use crate::certificate::Chain;
use crate::store::StoredCertificate;
use crate::telemetry::metrics;

/// At most so many messages wait.
const MAX_MESSAGES: usize = 256;
/// At most so many octets of encoded messages wait.
const MAX_OCTETS: usize = 1024 * 1024;
/// At most so many octets wait in all queues of a replica. When they do, a queue has one message.
const MAX_OCTETS_OF_ALL: usize = 64 * 1024 * 1024;
/// A caller that makes no room in this time is too slow. It is much longer than a network stalls, and a bulk import fills the queue of a
/// caller that takes messages for moments only.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(30);

/// The octets that wait in all queues of a replica. Cheap to clone.
#[derive(Clone, Default)]
pub(in crate::app) struct WaitingOctets(Arc<AtomicUsize>);

/// The caller's end of a watch.
pub struct Watch {
    queue: Arc<Queue>,
    has_ended: bool,
    _open: metrics::OpenWatch,
}

pub(super) struct Sender {
    queue: Arc<Queue>,
    max_wait: Duration,
}

struct Queue {
    waiting: WaitingOctets,
    messages: Mutex<Messages>,
    /// A message was taken.
    taken: Notify,
    /// The caller has left.
    left: CancellationToken,
}

#[derive(Default)]
struct Messages {
    waiting: VecDeque<(Watched, usize)>,
    octets: usize,
    /// The resume token of the message that was taken last.
    resume_token: String,
    /// Whether the sender is gone, and the error that it left.
    end: Option<Option<Arc<Error>>>,
    reader: Option<Waker>,
}

/// Why a message could not be queued.
pub(super) enum Unsent {
    /// The caller has left.
    Left,
    /// There was no room for too long. The messages that waited are lost: the token continues before them.
    TooSlow { resume_token: String },
}

/// A queue that is too slow if it stays full for so long. Its first message continues after the resume token.
pub(super) fn queue(waiting: WaitingOctets, max_wait: Duration, resume_token: String) -> (Sender, Watch) {
    let queue = Arc::new(Queue {
        waiting,
        messages: Mutex::new(Messages {
            resume_token,
            ..Messages::default()
        }),
        taken: Notify::new(),
        left: CancellationToken::new(),
    });
    let watch = Watch {
        queue: queue.clone(),
        has_ended: false,
        _open: metrics::OpenWatch::count(),
    };
    (Sender { queue, max_wait }, watch)
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Messages> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether so many more octets have room. An empty queue has room for each message.
    fn has_room(&self, messages: &Messages, octets: usize) -> bool {
        let of_all = self.waiting.0.load(Ordering::Relaxed);
        messages.waiting.is_empty()
            || messages.waiting.len() < MAX_MESSAGES
                && messages.octets + octets <= MAX_OCTETS
                && of_all + octets <= MAX_OCTETS_OF_ALL
    }

    fn free(&self, messages: &mut Messages, octets: usize) {
        messages.octets -= octets;
        self.waiting.0.fetch_sub(octets, Ordering::Relaxed);
    }

    /// Drops the messages that wait. Answers the resume token before them.
    fn clear(&self) -> String {
        let mut messages = self.lock();
        messages.waiting.clear();
        let octets = messages.octets;
        self.free(&mut messages, octets);
        messages.resume_token.clone()
    }
}

impl Watch {
    /// The next message. An error is the last one.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Watched, Arc<Error>>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let mut messages = self.queue.lock();
        if let Some((message, octets)) = messages.waiting.pop_front() {
            self.queue.free(&mut messages, octets);
            messages.resume_token.clone_from(&message.resume_token);
            self.queue.taken.notify_one();
            return Poll::Ready(Some(Ok(message)));
        }
        match messages.end.take() {
            Some(error) => {
                self.has_ended = true;
                Poll::Ready(error.map(Err))
            }
            None => {
                messages.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.queue.left.cancel();
        self.queue.clear();
    }
}

impl Sender {
    /// Queues a message. A caller that is too slow loses the messages that wait, because nobody else frees them: the transport reads no
    /// more from a stream that its caller does not read.
    pub(super) async fn send(&self, message: Watched) -> Result<(), Unsent> {
        let octets = octets(&message);
        let room = async {
            loop {
                let taken = self.queue.taken.notified();
                if self.queue.has_room(&self.queue.lock(), octets) {
                    return;
                }
                taken.await;
            }
        };
        tokio::select! {
            biased;
            () = self.queue.left.cancelled() => return Err(Unsent::Left),
            () = room => {}
            () = tokio::time::sleep(self.max_wait) => {
                let resume_token = self.queue.clear();
                return Err(Unsent::TooSlow { resume_token });
            }
        }
        let mut messages = self.queue.lock();
        if self.queue.left.is_cancelled() {
            return Err(Unsent::Left);
        }
        messages.waiting.push_back((message, octets));
        messages.octets += octets;
        self.queue.waiting.0.fetch_add(octets, Ordering::Relaxed);
        if let Some(reader) = messages.reader.take() {
            reader.wake();
        }
        Ok(())
    }

    /// Completes when the caller has left.
    pub(super) fn closed(&self) -> impl Future<Output = ()> + use<> {
        self.queue.left.clone().cancelled_owned()
    }

    /// Ends the watch. The caller gets the error after all messages.
    pub(super) fn end(self, error: Arc<Error>) {
        self.queue.lock().end = Some(Some(error));
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let mut messages = self.queue.lock();
        messages.end.get_or_insert(None);
        if let Some(reader) = messages.reader.take() {
            reader.wake();
        }
    }
}

/// The size of the encoded message. It can be somewhat smaller.
fn octets(message: &Watched) -> usize {
    const FIXED: usize = 512;
    // Four characters stand for three octets, and 65 for 48 with the ends of lines.
    let chain = |chain: &Chain| chain.der().map(|der| der.len() * 7 / 5 + 64).sum::<usize>();
    FIXED
        + message.certificate.as_deref().map_or(0, StoredCertificate::octets)
        + message.chain.as_ref().map_or(0, chain)
}

#[cfg(test)]
mod tests {
    use super::super::WatchedKind;
    use super::*;

    fn message(chain: Option<Chain>) -> Watched {
        Watched {
            kind: WatchedKind::Heartbeat,
            resume_token: String::new(),
            id: None,
            certificate: None,
            chain,
            event: None,
        }
    }

    async fn next(watch: &mut Watch) -> Option<Result<Watched, Arc<Error>>> {
        std::future::poll_fn(|cx| watch.poll_next(cx)).await
    }

    /// How many messages fit, and whether one more fits after one was taken.
    async fn room(waiting: &WaitingOctets, chain: Option<Chain>) -> (usize, bool) {
        let (sender, mut watch) = queue(waiting.clone(), Duration::from_millis(20), String::new());
        let mut count = 0;
        while sender
            .queue
            .has_room(&sender.queue.lock(), octets(&message(chain.clone())))
        {
            assert!(sender.send(message(chain.clone())).await.is_ok());
            count += 1;
        }
        let (sent, taken) = tokio::join!(sender.send(message(chain)), next(&mut watch));
        assert!(taken.unwrap().is_ok());
        (count, sent.is_ok())
    }

    #[tokio::test]
    async fn messages_and_their_octets_have_a_bound() {
        let waiting = WaitingOctets::default();
        assert_eq!(room(&waiting, None).await, (256, true));
        // 420 KB in PEM.
        let chain = Chain::from_stored(vec![vec![0; 300_000]]);
        assert_eq!(room(&waiting, Some(chain)).await, (2, true));
        // A message that is larger than the bound waits for an empty queue.
        let chain = Chain::from_stored(vec![vec![0; 1_000_000]]);
        assert_eq!(room(&waiting, Some(chain)).await, (1, true));
        assert_eq!(
            waiting.0.load(Ordering::Relaxed),
            0,
            "queues that are gone hold nothing"
        );
    }

    #[tokio::test]
    async fn callers_that_do_not_read_leave_each_queue_one_message() {
        let waiting = WaitingOctets::default();
        waiting.0.store(MAX_OCTETS_OF_ALL, Ordering::Relaxed);
        assert_eq!(room(&waiting, None).await, (1, true));
    }

    #[tokio::test]
    async fn a_caller_that_is_too_slow_loses_what_waits() {
        let waiting = WaitingOctets::default();
        let (sender, mut watch) = queue(waiting.clone(), Duration::from_millis(20), "begin".to_owned());
        let large = |token: &str| Watched {
            resume_token: token.to_owned(),
            ..message(Some(Chain::from_stored(vec![vec![0; 1_000_000]])))
        };
        let lost = async |token: &str| match sender.send(large(token)).await {
            Err(Unsent::TooSlow { resume_token }) => resume_token,
            _ => panic!("there was room"),
        };
        assert!(sender.send(large("1")).await.is_ok());
        assert_eq!(lost("2").await, "begin");
        assert!(sender.send(large("1")).await.is_ok());
        next(&mut watch).await.unwrap().unwrap();
        assert!(sender.send(large("2")).await.is_ok());
        assert_eq!(lost("3").await, "1");
        assert_eq!(waiting.0.load(Ordering::Relaxed), 0);
        sender.end(Arc::new(Error::ResumeTokenExpired));
        assert!(next(&mut watch).await.unwrap().is_err());
        assert!(next(&mut watch).await.is_none());
    }

    #[tokio::test]
    async fn the_error_comes_after_all_messages_and_ends_the_watch() {
        let (sender, mut watch) = queue(WaitingOctets::default(), MAX_WAIT, String::new());
        assert!(sender.send(message(None)).await.is_ok());
        sender.end(Arc::new(Error::ResumeTokenExpired));
        assert!(next(&mut watch).await.unwrap().is_ok());
        assert!(next(&mut watch).await.unwrap().is_err());
        assert!(next(&mut watch).await.is_none());
        let (sender, watch) = queue(WaitingOctets::default(), MAX_WAIT, String::new());
        drop(watch);
        assert!(matches!(sender.send(message(None)).await, Err(Unsent::Left)));
    }
}
