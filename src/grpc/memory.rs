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
/// The part of one caller, and of all callers without an access key. A part of this size is kept for callers that hold little.
const SHARES: usize = 4;
/// A caller that holds less than this part of the bound holds little.
const LITTLE: usize = 64;
/// A stream of reflection keeps up to three answers that nobody counts. The largest file of the schema has 78 KB.
const REFLECTION_LEN: usize = 256 * 1024;
/// The time after which a refused caller may try again.
const WAIT: Duration = Duration::from_secs(1);
/// More callers than this are known only while they hold memory.
const MAX_CALLERS: usize = 16_384;

/// The bytes of all calls of all doors.
pub struct CallMemory {
    all: Arc<All>,
    unauthenticated: Arc<Share>,
    callers: Mutex<Callers>,
}

#[derive(Default)]
struct Callers {
    shares: HashMap<(AccountId, String), Weak<Share>>,
    /// The bytes of each account.
    accounts: HashMap<AccountId, Weak<AtomicUsize>>,
}

#[derive(Debug)]
struct All {
    bound: usize,
    held: AtomicUsize,
}

/// The bytes of one caller.
#[derive(Debug)]
pub struct Share {
    all: Arc<All>,
    /// The bytes of all callers of the account.
    account: Arc<AtomicUsize>,
    held: AtomicUsize,
    /// The part of `held` that is answers of changes.
    changes: AtomicUsize,
}

/// Bytes that are held until this value is dropped.
#[derive(Debug)]
pub struct Held {
    share: Arc<Share>,
    bytes: usize,
    /// Whether they are the answer of a change.
    is_change: bool,
}

/// The share of a call. It is empty until the caller is authenticated.
pub(super) type ShareOfCall = Arc<OnceLock<Arc<Share>>>;

impl CallMemory {
    /// Requests and answers have this many bytes together.
    pub fn new(bound: usize) -> Self {
        let all = Arc::new(All {
            bound,
            held: AtomicUsize::new(0),
        });
        Self {
            unauthenticated: Arc::new(Share::new(all.clone(), Arc::default())),
            all,
            callers: Mutex::default(),
        }
    }

    /// The share of all calls without an access key.
    pub fn unauthenticated(&self) -> Arc<Share> {
        self.unauthenticated.clone()
    }

    /// The memory of a stream of reflection until it ends, or the refusal.
    pub(super) fn reflection(&self, request_id: RequestId) -> Result<Held, Status> {
        let held = self.unauthenticated.take(REFLECTION_LEN);
        held.ok_or_else(|| no_memory(request_id))
    }

    /// The share of a caller.
    pub fn of(&self, caller: &Caller) -> Arc<Share> {
        self.of_key((caller.account, caller.principal.id().to_owned()))
    }

    fn of_key(&self, key: (AccountId, String)) -> Arc<Share> {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = callers.shares.get(&key).and_then(Weak::upgrade) {
            return share;
        }
        if callers.shares.len() >= MAX_CALLERS {
            callers.shares.retain(|_, share| share.strong_count() > 0);
            callers.accounts.retain(|_, account| account.strong_count() > 0);
        }
        let account = callers.accounts.get(&key.0).and_then(Weak::upgrade);
        let account = account.unwrap_or_else(|| {
            let account = Arc::default();
            callers.accounts.insert(key.0, Arc::downgrade(&account));
            account
        });
        let share = Arc::new(Share::new(self.all.clone(), account));
        callers.shares.insert(key, Arc::downgrade(&share));
        share
    }
}

impl Share {
    fn new(all: Arc<All>, account: Arc<AtomicUsize>) -> Self {
        Self {
            all,
            account,
            held: AtomicUsize::new(0),
            changes: AtomicUsize::new(0),
        }
    }

    /// The part of the bound that a caller may hold.
    fn part(&self) -> usize {
        self.all.bound / SHARES
    }

    /// Takes bytes. A caller that holds nothing may take more than its part, so that one large answer can be sent.
    fn take(self: &Arc<Self>, bytes: usize) -> Option<Held> {
        self.take_beside(0, bytes)
    }

    /// As [`take`](Self::take), for a call that holds `own` bytes. All callers of an account have half of the bound. Only callers that
    /// hold little may take its last quarter, and one account cannot take all of that.
    fn take_beside(self: &Arc<Self>, own: usize, bytes: usize) -> Option<Held> {
        let held = self.held.fetch_add(bytes, Ordering::Relaxed);
        let account = self.account.fetch_add(bytes, Ordering::Relaxed);
        let all = self.all.held.fetch_add(bytes, Ordering::Relaxed);
        // Dropped, it gives the bytes back.
        let taken = self.counted(bytes, false);
        let bound = self.all.bound;
        let (of_account, of_all) = if held + bytes <= bound / LITTLE {
            (bound - self.part(), bound)
        } else {
            (bound / 2, bound - self.part())
        };
        let fits = (held == own || held + bytes <= self.part())
            && (account == own || account + bytes <= of_account)
            && all + bytes <= of_all;
        fits.then_some(taken)
    }

    /// Takes bytes for the answer of a change. The change stays, so only answers of changes that the caller has not read can refuse this
    /// one. Its requests cannot.
    fn take_for_change(self: &Arc<Self>, bytes: usize) -> Option<Held> {
        let changes = self.changes.fetch_add(bytes, Ordering::Relaxed);
        self.held.fetch_add(bytes, Ordering::Relaxed);
        self.account.fetch_add(bytes, Ordering::Relaxed);
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
        self.share.account.fetch_sub(self.bytes, Ordering::Relaxed);
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

/// The memory of a request. It is kept until its last clone is dropped. That of a stream's message is kept until the service asks for
/// the next one.
#[derive(Clone, Default)]
pub struct Received(Arc<Mutex<Option<Held>>>);

impl Received {
    fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Takes more bytes. `None`: there is no memory for them.
    pub fn take(&self, share: &Arc<Share>, bytes: usize) -> Option<()> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = held.as_ref().map_or(0, |held| held.bytes);
        let mut more = share.take_beside(own, bytes)?;
        match &mut *held {
            Some(held) => held.bytes += std::mem::take(&mut more.bytes),
            None => *held = Some(more),
        }
        Some(())
    }
}

/// The body of a request, counted. A message takes its memory as its bytes come, so a length that is only claimed takes none.
pub(super) struct ReceivedBody {
    body: Body,
    share: Arc<Share>,
    request_id: RequestId,
    received: Received,
    /// The part of a message's prefix that has come: a flag and four bytes of length (gRPC over HTTP/2, Length-Prefixed-Message).
    prefix: Vec<u8>,
    /// The bytes of the message that have not come.
    missing: usize,
    /// The message's first byte: whether it is compressed.
    is_compressed: bool,
    /// Whether the method takes a stream of messages.
    is_stream: bool,
}

impl ReceivedBody {
    const PREFIX_LEN: usize = 5;

    pub(super) fn new(
        body: Body,
        share: Arc<Share>,
        request_id: RequestId,
        received: Received,
        is_stream: bool,
    ) -> Self {
        Self {
            body,
            share,
            request_id,
            received,
            prefix: Vec::with_capacity(Self::PREFIX_LEN),
            missing: 0,
            is_compressed: false,
            is_stream,
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
                self.take(now.len())?;
                continue;
            }
            self.prefix.extend_from_slice(now);
            if let &[flag, a, b, c, d] = self.prefix.as_slice() {
                self.prefix.clear();
                self.missing = u32::from_be_bytes([a, b, c, d]) as usize;
                self.is_compressed = flag != 0;
                self.received.clear();
            }
        }
        Ok(())
    }

    /// Takes the memory of a part of the message. tonic refuses a message that is too long when it sees the length.
    fn take(&self, len: usize) -> Result<(), Status> {
        let bytes = match self.is_compressed {
            // It can be as long as the longest one.
            true if self.missing == 0 => len + MAX_REQUEST_LEN,
            true => len,
            false => len * REQUEST_COPIES,
        };
        let taken = self.received.take(&self.share, bytes);
        taken.ok_or_else(|| no_memory(self.request_id))
    }
}

impl http_body::Body for ReceivedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        // The service asks for another message, so it has parsed the last one. The only message of other methods is at work.
        if self.is_stream && self.missing == 0 && self.prefix.is_empty() {
            self.received.clear();
        }
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
pub struct Answering {
    /// The connection.
    pub peer: Arc<Peer>,
    /// The caller's share.
    pub share: Arc<Share>,
    /// The kind of the answer.
    pub kind: AnswerKind,
    /// The place of a call of health or reflection among those of its connection.
    pub place: Option<Arc<OwnedSemaphorePermit>>,
    /// The memory of a stream of reflection.
    pub reflection: Option<Held>,
}

/// How an answer is treated while the caller does not take it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AnswerKind {
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
    /// A part of the answer with its memory. `None`: there is no memory for it.
    pub fn part(&self, bytes: Bytes) -> Option<Bytes> {
        if bytes.is_empty() {
            return Some(bytes);
        }
        let held = match self.kind {
            AnswerKind::Health => None,
            AnswerKind::Read | AnswerKind::Stream => Some(self.share.take(bytes.len())?),
            AnswerKind::Change => Some(self.share.take_for_change(bytes.len())?),
        };
        Some(Bytes::from_owner(Part {
            bytes,
            _held: held,
            _place: self.place.clone(),
        }))
    }

    /// The status of an answer for which there is no memory.
    pub(super) fn refused(&self, request_id: RequestId) -> Status {
        match self.kind {
            AnswerKind::Change => refusal(request_id, Refusal::AnswerWithoutMemory),
            AnswerKind::Health | AnswerKind::Read | AnswerKind::Stream => no_memory(request_id),
        }
    }

    /// A frame of a part. The time that the caller has to take it begins.
    pub fn frame(&self, bytes: Bytes) -> Bytes {
        if self.kind == AnswerKind::Stream {
            return bytes;
        }
        let _sending = self.peer.sending();
        Bytes::from_owner(Sent { bytes, _sending })
    }
}

/// A part of an answer. HTTP drops it when it is sent.
struct Part {
    bytes: Bytes,
    _held: Option<Held>,
    _place: Option<Arc<OwnedSemaphorePermit>>,
}

/// A frame of a part.
struct Sent {
    bytes: Bytes,
    _sending: Sending,
}

impl AsRef<[u8]> for Sent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use http_body::Body as _;

    use super::*;

    fn share(memory: &CallMemory, id: &str) -> Arc<Share> {
        memory.of_key((AccountId::OPERATORS, id.to_owned()))
    }

    #[test]
    fn a_caller_has_a_quarter_and_the_last_quarter_is_for_callers_that_hold_little() {
        let memory = CallMemory::new(100);
        let (first, other) = (share(&memory, "a"), memory.unauthenticated());
        let held = first.take(20).unwrap();
        assert!(first.take(6).is_none());
        let more = first.take(5).unwrap();
        assert!(other.take(51).is_none(), "more than three quarters");
        let large = other.take(50).expect("one large answer");
        assert!(share(&memory, "b").take(2).is_none());
        share(&memory, "b").take(1).expect("a little");
        drop((held, more));
        assert!(Arc::ptr_eq(&first, &share(&memory, "a")));
        drop(large);
        assert_eq!(memory.all.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn all_callers_of_an_account_have_half() {
        let memory = CallMemory::new(1000);
        let callers: Vec<_> = ["a", "b", "c"].map(|id| share(&memory, id)).into();
        let held: Vec<_> = callers[..2].iter().map(|caller| caller.take(250).unwrap()).collect();
        assert!(callers[2].take(250).is_none());
        callers[2].take(15).expect("a little");
        memory.unauthenticated().take(250).expect("another account");
        let little: Vec<_> = (0..100)
            .filter_map(|id| share(&memory, &id.to_string()).take(15))
            .collect();
        assert_eq!(little.len(), 16, "an account has three quarters at most");
        memory.unauthenticated().take(15).expect("another account");
        drop((held, little));
        assert_eq!(callers[0].account.load(Ordering::Relaxed), 0);
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
    fn a_message_is_counted_as_it_comes_until_the_next_one_is_wanted() {
        let memory = CallMemory::new(4000);
        let received = Received::default();
        let id = RequestId::random().unwrap();
        let body = |is_stream| ReceivedBody::new(Body::empty(), share(&memory, "a"), id, received.clone(), is_stream);
        let held = || memory.all.held.load(Ordering::Relaxed);
        let wants = |body: &mut ReceivedBody| {
            let polled = Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_ready());
        };
        let mut stream = body(true);
        stream.count(&[0, 0]).unwrap();
        stream.count(&[0, 0, 10]).unwrap();
        assert_eq!(held(), 0, "nothing has come");
        stream.count(&[1, 2]).unwrap();
        assert_eq!(held(), 6);
        wants(&mut stream);
        assert_eq!(held(), 6, "a part is missing");
        stream.count(&[0; 8]).unwrap();
        assert_eq!(held(), 30);
        stream.count(&[0, 0, 0, 0, 20]).unwrap();
        stream.count(&[0; 20]).unwrap();
        assert_eq!(held(), 60);
        wants(&mut stream);
        assert_eq!(held(), 0, "the message is parsed");
        let mut unary = body(false);
        unary.count(&[0, 0, 0, 0, 1, 0]).unwrap();
        wants(&mut unary);
        assert_eq!(held(), 3, "until the call is answered");
        unary.count(&[1, 0, 0, 0, 2, 0]).unwrap();
        assert_eq!(held(), 1);
        unary.count(&[0]).unwrap_err();
        drop((stream, unary, received));
        assert_eq!(held(), 0);
    }
}
