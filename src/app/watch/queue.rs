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
const MAX_WAIT: Duration = Duration::from_secs(30);

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

pub(super) fn queue() -> (Sender, Watch) {
    let (queue, received) = mpsc::channel(MAX_MESSAGES);
    let (ending, ended) = oneshot::channel();
    let sender = Sender {
        queue,
        room: Arc::new(Semaphore::new(MAX_OCTETS)),
        ending,
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
            () = tokio::time::sleep(MAX_WAIT) => Err(Unsent::TooSlow),
        }
    }

    /// Completes when the caller has left.
    pub(super) async fn closed(&self) {
        self.queue.closed().await;
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
    let certificate = |stored: &StoredCertificate| {
        let facts = &stored.facts;
        // Hexadecimal hashes, times, and the numbers of the key.
        const FACTS: usize = 1024;
        let names = facts.subject_alternative_names.iter().map(|name| name.len() + 3);
        let tags = stored.tags.iter().map(|tag| tag.key().len() + tag.value().len() + 9);
        FACTS
            + facts.common_name.len()
            + facts.issuer.len()
            + facts.subject.len()
            + facts.serial_number.len()
            + stored.name.as_str().len()
            + names.sum::<usize>()
            + tags.sum::<usize>()
    };
    // Four characters stand for three octets, and 65 for 48 with the ends of lines.
    let chain = |chain: &Chain| chain.der().map(|der| der.len() * 7 / 5 + 64).sum::<usize>();
    FIXED + message.certificate.as_deref().map_or(0, certificate) + message.chain.as_ref().map_or(0, chain)
}
