//! The messages of a watch that its caller has not taken.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::super::Error;
use super::Watched;
use crate::certificate::Chain;
use crate::store::StoredCertificate;
use crate::telemetry::metrics;

/// At most so many messages wait.
const MAX_MESSAGES: usize = 256;
/// At most so many octets of encoded messages wait.
const MAX_OCTETS: usize = 1024 * 1024;
/// A caller that makes no room in this time is too slow. It is much longer than a network stalls, and a bulk import fills the queue of a
/// caller that takes messages for moments only.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(30);

/// The caller's end of a watch.
pub struct Watch {
    queue: mpsc::Receiver<Box<Queued>>,
    ending: oneshot::Receiver<Arc<Error>>,
    has_ended: bool,
    _open: metrics::OpenWatch,
}

pub(super) struct Sender {
    queue: mpsc::Sender<Box<Queued>>,
    room: Arc<Semaphore>,
    ending: oneshot::Sender<Arc<Error>>,
    max_wait: Duration,
}

struct Queued {
    message: Watched,
    /// Returned when the message is taken.
    _room: OwnedSemaphorePermit,
}

/// Why a message could not be queued.
pub(super) enum Unsent {
    /// The caller has left.
    Left,
    /// There was no room for too long.
    TooSlow,
}

/// A queue that is too slow if it stays full for so long.
pub(super) fn queue(max_wait: Duration) -> (Sender, Watch) {
    let (queue, received) = mpsc::channel(MAX_MESSAGES);
    let (ending, ended) = oneshot::channel();
    let sender = Sender {
        queue,
        room: Arc::new(Semaphore::new(MAX_OCTETS)),
        ending,
        max_wait,
    };
    let watch = Watch {
        queue: received,
        ending: ended,
        has_ended: false,
        _open: metrics::OpenWatch::count(),
    };
    (sender, watch)
}

impl Watch {
    /// The next message. An error is the last one.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Watched, Arc<Error>>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        if let Some(queued) = std::task::ready!(self.queue.poll_recv(cx)) {
            return Poll::Ready(Some(Ok(queued.message)));
        }
        let ending = std::task::ready!(std::pin::Pin::new(&mut self.ending).poll(cx));
        self.has_ended = true;
        Poll::Ready(ending.ok().map(Err))
    }
}

impl Sender {
    /// Queues a message.
    pub(super) async fn send(&self, message: Watched) -> Result<(), Unsent> {
        let octets = octets(&message).min(MAX_OCTETS) as u32; // At most 1 MiB.
        let room = async {
            let room = self.room.clone().acquire_many_owned(octets).await.ok()?;
            Some((room, self.queue.reserve().await.ok()?))
        };
        tokio::select! {
            biased;
            () = self.queue.closed() => Err(Unsent::Left),
            room = room => {
                let (room, slot) = room.ok_or(Unsent::Left)?;
                slot.send(Box::new(Queued { message, _room: room }));
                Ok(())
            }
            () = tokio::time::sleep(self.max_wait) => Err(Unsent::TooSlow),
        }
    }

    /// Completes when the caller has left.
    pub(super) fn closed(&self) -> impl Future<Output = ()> + use<> {
        let queue = self.queue.clone();
        async move { queue.closed().await }
    }

    /// Ends the watch. The caller gets the error after all messages.
    pub(super) fn end(self, error: Arc<Error>) {
        // If the caller has left, nobody reads the error.
        let _ = self.ending.send(error);
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
    async fn room(chain: Option<Chain>) -> (usize, bool) {
        let (sender, mut watch) = queue(Duration::from_millis(20));
        let mut count = 0;
        while sender.send(message(chain.clone())).await.is_ok() {
            count += 1;
        }
        next(&mut watch).await.unwrap().unwrap();
        (count, sender.send(message(chain)).await.is_ok())
    }

    #[tokio::test]
    async fn messages_and_their_octets_have_a_bound() {
        assert_eq!(room(None).await, (256, true));
        // 420 KB in PEM.
        let chain = Chain::from_stored(vec![vec![0; 300_000]]);
        assert_eq!(room(Some(chain)).await, (2, true));
        // A message that is larger than the bound waits for an empty queue.
        let chain = Chain::from_stored(vec![vec![0; 1_000_000]]);
        assert_eq!(room(Some(chain)).await, (1, true));
    }

    #[tokio::test]
    async fn the_error_comes_after_all_messages_and_ends_the_watch() {
        let (sender, mut watch) = queue(MAX_WAIT);
        assert!(sender.send(message(None)).await.is_ok());
        sender.end(Arc::new(Error::ResumeTokenExpired));
        assert!(next(&mut watch).await.unwrap().is_ok());
        assert!(next(&mut watch).await.unwrap().is_err());
        assert!(next(&mut watch).await.is_none());
        let (sender, watch) = queue(MAX_WAIT);
        drop(watch);
        assert!(matches!(sender.send(message(None)).await, Err(Unsent::Left)));
    }
}
