//! The memory of calls: requests that are received and answers that are not sent. All connections share one bound, and each caller has a
//! part of it, so that callers who do not read their answers harm themselves.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;
use tonic::body::Body;

use super::MAX_REQUEST_LEN;
use super::status::{refusal, status};
use super::words::Refusal;
use crate::app::{AccountId, Caller, Error, Limit, RequestId};
use crate::peer::{Peer, Sending};
use crate::telemetry::metrics;

/// An uncompressed request is in memory up to three times: as received, as decoded, and as parsed.
const REQUEST_COPIES: usize = 3;
/// The part of one caller, and of all callers without an access key.
const SHARES: usize = 4;
/// The time after which a refused caller may try again.
const WAIT: Duration = Duration::from_secs(1);
/// More callers than this are known only while they hold memory.
const MAX_CALLERS: usize = 16_384;

/// The bytes of all calls.
pub(super) struct CallMemory {
    all: Arc<All>,
    unauthenticated: Arc<Share>,
    callers: Mutex<HashMap<(AccountId, String), Weak<Share>>>,
}

#[derive(Debug)]
struct All {
    bound: usize,
    held: AtomicUsize,
}

/// The bytes of one caller.
#[derive(Debug)]
pub(super) struct Share {
    all: Arc<All>,
    held: AtomicUsize,
    /// The part of `held` that is answers of changes.
    changes: AtomicUsize,
}

/// Bytes that are held until this value is dropped.
#[derive(Debug)]
struct Held {
    share: Arc<Share>,
    bytes: usize,
    /// Whether they are the answer of a change.
    is_change: bool,
}

/// The share of a call. It is empty until the caller is authenticated.
pub(super) type ShareOfCall = Arc<OnceLock<Arc<Share>>>;

impl CallMemory {
    pub(super) fn new(bound: usize) -> Self {
        let all = Arc::new(All {
            bound,
            held: AtomicUsize::new(0),
        });
        Self {
            unauthenticated: Arc::new(Share::new(all.clone())),
            all,
            callers: Mutex::default(),
        }
    }

    /// The share of all calls without an access key.
    pub(super) fn unauthenticated(&self) -> Arc<Share> {
        self.unauthenticated.clone()
    }

    /// The share of a caller.
    pub(super) fn of(&self, caller: &Caller) -> Arc<Share> {
        self.of_key((caller.account, caller.principal.id().to_owned()))
    }

    fn of_key(&self, key: (AccountId, String)) -> Arc<Share> {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = callers.get(&key).and_then(Weak::upgrade) {
            return share;
        }
        if callers.len() >= MAX_CALLERS {
            callers.retain(|_, share| share.strong_count() > 0);
        }
        let share = Arc::new(Share::new(self.all.clone()));
        callers.insert(key, Arc::downgrade(&share));
        share
    }
}

impl Share {
    fn new(all: Arc<All>) -> Self {
        Self {
            all,
            held: AtomicUsize::new(0),
            changes: AtomicUsize::new(0),
        }
    }

    /// The part of the bound that a caller may hold.
    fn part(&self) -> usize {
        self.all.bound / SHARES
    }

    /// Takes bytes. A caller that holds nothing may take more than its part, so that one answer of any size can be sent.
    fn take(self: &Arc<Self>, bytes: usize) -> Option<Held> {
        let held = self.held.fetch_add(bytes, Ordering::Relaxed);
        let all = self.all.held.fetch_add(bytes, Ordering::Relaxed);
        // Dropped, it gives the bytes back.
        let taken = self.counted(bytes, false);
        let fits = held == 0 || held + bytes <= self.part();
        (fits && all + bytes <= self.all.bound).then_some(taken)
    }

    /// Takes bytes for the answer of a change. The change stays, so only answers of changes that the caller has not read can refuse this
    /// one. Its requests cannot.
    fn take_for_change(self: &Arc<Self>, bytes: usize) -> Option<Held> {
        let changes = self.changes.fetch_add(bytes, Ordering::Relaxed);
        self.held.fetch_add(bytes, Ordering::Relaxed);
        self.all.held.fetch_add(bytes, Ordering::Relaxed);
        let taken = self.counted(bytes, true);
        (changes == 0 || changes + bytes <= self.part()).then_some(taken)
    }

    /// Gives bytes back that were added to the counts.
    fn counted(self: &Arc<Self>, bytes: usize, is_change: bool) -> Held {
        metrics::call_memory_taken(bytes);
        Held {
            share: self.clone(),
            bytes,
            is_change,
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.share.held.fetch_sub(self.bytes, Ordering::Relaxed);
        self.share.all.held.fetch_sub(self.bytes, Ordering::Relaxed);
        if self.is_change {
            self.share.changes.fetch_sub(self.bytes, Ordering::Relaxed);
        }
        metrics::call_memory_freed(self.bytes);
    }
}

/// The status of a call for which there is no memory.
fn no_memory(request_id: RequestId) -> Status {
    let limit = Limit::CallMemory;
    status(request_id, &Error::RateLimited { limit, wait: WAIT })
}

/// The memory of a request. It is kept until its last clone is dropped, or the next message of the stream begins.
#[derive(Clone, Default)]
pub(super) struct Received(Arc<Mutex<Option<Held>>>);

impl Received {
    fn replace(&self, held: Option<Held>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = held;
    }
}

/// The body of a request, counted. Each message takes its memory when its length is known, before its content is read.
pub(super) struct ReceivedBody {
    body: Body,
    share: Arc<Share>,
    request_id: RequestId,
    received: Received,
    /// The part of a message's prefix that has come: a flag and four bytes of length (gRPC over HTTP/2, Length-Prefixed-Message).
    prefix: Vec<u8>,
    /// The bytes of the message that have not come.
    missing: usize,
}

impl ReceivedBody {
    const PREFIX_LEN: usize = 5;

    pub(super) fn new(body: Body, share: Arc<Share>, request_id: RequestId, received: Received) -> Self {
        Self {
            body,
            share,
            request_id,
            received,
            prefix: Vec::with_capacity(Self::PREFIX_LEN),
            missing: 0,
        }
    }

    fn count(&mut self, mut bytes: &[u8]) -> Result<(), Status> {
        while !bytes.is_empty() {
            let wanted = match self.missing {
                0 => Self::PREFIX_LEN - self.prefix.len(),
                missing => missing,
            };
            let (now, later) = bytes.split_at(wanted.min(bytes.len()));
            bytes = later;
            if self.missing > 0 {
                self.missing -= now.len();
                continue;
            }
            self.prefix.extend_from_slice(now);
            if let &[flag, a, b, c, d] = self.prefix.as_slice() {
                self.prefix.clear();
                self.missing = u32::from_be_bytes([a, b, c, d]) as usize;
                self.begin(flag != 0)?;
            }
        }
        Ok(())
    }

    /// A message begins. tonic refuses one that is too long, before it reads it.
    fn begin(&self, is_compressed: bool) -> Result<(), Status> {
        self.received.replace(None);
        let bytes = match self.missing {
            0 => return Ok(()),
            len if len > MAX_REQUEST_LEN => return Ok(()),
            _ if is_compressed => MAX_REQUEST_LEN,
            len => len * REQUEST_COPIES,
        };
        let held = self.share.take(bytes).ok_or_else(|| no_memory(self.request_id))?;
        self.received.replace(Some(held));
        Ok(())
    }
}

impl http_body::Body for ReceivedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &polled
            && let Some(data) = frame.data_ref()
            && let Err(status) = self.count(data)
        {
            self.body = Body::empty();
            return Poll::Ready(Some(Err(status)));
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Counts the parts of an answer, from when they are made until they are sent.
pub(super) struct Answering {
    pub(super) request_id: RequestId,
    pub(super) peer: Arc<Peer>,
    pub(super) share: Arc<Share>,
    pub(super) kind: AnswerKind,
    /// The place of a call of health or reflection among those of its connection.
    pub(super) place: Option<Arc<OwnedSemaphorePermit>>,
}

/// How an answer is treated while the caller does not take it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum AnswerKind {
    /// The connection closes after a time.
    Read,
    /// As a read. The call has taken effect.
    Change,
    /// The stream has a queue of its own that bounds it, and ends when the caller is too slow.
    Stream,
    /// As a read. It has a few bytes and is never refused, so that nobody can make the service look unhealthy.
    Health,
}

impl Answering {
    /// A part of the answer with its memory, or the refusal.
    pub(super) fn part(&self, bytes: Bytes) -> Result<Bytes, Status> {
        if bytes.is_empty() {
            return Ok(bytes);
        }
        let held = match self.kind {
            AnswerKind::Health => None,
            AnswerKind::Read | AnswerKind::Stream => {
                let held = self.share.take(bytes.len());
                Some(held.ok_or_else(|| no_memory(self.request_id))?)
            }
            AnswerKind::Change => {
                let held = self.share.take_for_change(bytes.len());
                Some(held.ok_or_else(|| refusal(self.request_id, Refusal::AnswerWithoutMemory))?)
            }
        };
        Ok(Bytes::from_owner(Part {
            bytes,
            _held: held,
            _sending: (self.kind != AnswerKind::Stream).then(|| self.peer.sending()),
            _place: self.place.clone(),
        }))
    }
}

/// A part of an answer. HTTP drops it when it is sent.
struct Part {
    bytes: Bytes,
    _held: Option<Held>,
    _sending: Option<Sending>,
    _place: Option<Arc<OwnedSemaphorePermit>>,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(memory: &CallMemory, id: &str) -> Arc<Share> {
        memory.of_key((AccountId::OPERATORS, id.to_owned()))
    }

    #[test]
    fn a_caller_has_a_quarter_and_all_callers_have_the_bound() {
        let memory = CallMemory::new(100);
        let (first, second) = (share(&memory, "a"), share(&memory, "b"));
        let held = first.take(20).unwrap();
        assert!(first.take(6).is_none());
        let more = first.take(5).unwrap();
        assert!(second.take(76).is_none(), "more than the bound");
        let large = second.take(75).expect("one answer of any size");
        assert!(memory.unauthenticated().take(1).is_none());
        drop((held, more));
        assert!(Arc::ptr_eq(&first, &share(&memory, "a")));
        memory.unauthenticated().take(25).unwrap();
        drop(large);
        assert_eq!(memory.all.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_requests_of_a_caller_refuse_no_answer_of_a_change() {
        let memory = CallMemory::new(100);
        let caller = share(&memory, "a");
        let requests = caller.take(25).unwrap();
        let answer = caller.take_for_change(20).unwrap();
        assert!(caller.take(1).is_none());
        assert!(caller.take_for_change(6).is_none(), "unread answers do");
        drop((requests, answer));
        assert_eq!(memory.all.held.load(Ordering::Relaxed), 0);
        assert_eq!(caller.changes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_messages_of_a_stream_are_counted_one_after_another() {
        let memory = CallMemory::new(1000);
        let received = Received::default();
        let id = RequestId::random().unwrap();
        let mut body = ReceivedBody::new(Body::empty(), share(&memory, "a"), id, received.clone());
        let held = || memory.all.held.load(Ordering::Relaxed);
        body.count(&[0, 0]).unwrap();
        assert_eq!(held(), 0);
        body.count(&[0, 0, 10, 1, 2]).unwrap();
        assert_eq!(held(), 30);
        body.count(&[0; 8]).unwrap();
        assert_eq!(held(), 30, "until the call is answered");
        body.count(&[0, 0, 0, 0, 20]).unwrap();
        assert_eq!(held(), 60);
        body.count(&[0; 20]).unwrap();
        // Nothing is counted for an empty message. A long one is refused elsewhere.
        body.count(&[0, 0, 0, 0, 0]).unwrap();
        assert_eq!(held(), 0);
        body.count(&[1, 0, 0, 0, 1]).unwrap_err();
        drop((body, received));
        assert_eq!(held(), 0);
    }
}
