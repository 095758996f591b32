//! The record of a call: its log line, its metrics and the end of its span. The record is made when the response ends.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Frame, SizeHint};
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tracing::Span;

use super::memory::{Answering, ShareOfCall};
use super::method::Method;
use super::pb::Reason;
use super::repeats::Repeats;
use crate::app::RequestId;
use crate::telemetry::{self, AnswerCode, metrics};

/// The longest frame of an answer. The time that the caller has to take an answer is that of each frame.
const MAX_FRAME_LEN: usize = 64 * 1024;

/// A call that has not ended. If it is dropped, the call ended because the caller left.
pub(super) struct Record {
    method: Arc<Method>,
    span: Span,
    started: Instant,
    has_ended: bool,
    /// Whether the call is logged at level debug only.
    is_quiet: bool,
    address: Option<IpAddr>,
    /// Set when the caller is authenticated.
    share: ShareOfCall,
    repeats: Arc<Repeats>,
}

impl Record {
    pub(super) fn start(
        method: Arc<Method>,
        span: Span,
        address: Option<IpAddr>,
        share: ShareOfCall,
        repeats: Arc<Repeats>,
    ) -> Self {
        Self {
            method,
            span,
            started: Instant::now(),
            has_ended: false,
            is_quiet: false,
            address,
            share,
            repeats,
        }
    }

    /// Attaches the record to the response. The stream ends when `closing` completes and no message is ready.
    pub(super) fn follow(
        mut self,
        response: Response<Body>,
        closing: Option<impl Future<Output = ()> + Send + 'static>,
        answering: Option<(RequestId, Answering)>,
    ) -> Response<RecordedBody> {
        // A refused call has its status in the headers.
        if let Some(status) = Status::from_header_map(response.headers()) {
            self.end_with(&status);
        }
        let closing = closing
            .filter(|_| self.method.is_stream && !self.has_ended)
            .map(|closing| Box::pin(closing) as Closing);
        response.map(|body| RecordedBody {
            body,
            record: self,
            closing,
            answering,
            rest: Bytes::new(),
        })
    }

    fn end_with(&mut self, status: &Status) {
        if status.code() != Code::Ok
            && let Some(info) = status.get_details_error_info()
        {
            // The metrics count these calls. A log line for each would let a caller fill the disk.
            self.is_quiet = info.reason == Reason::RateLimited.name();
            self.span.record("reason", info.reason);
        }
        self.end(status.code());
    }

    fn end(&mut self, code: Code) {
        if std::mem::replace(&mut self.has_ended, true) {
            return;
        }
        let (name, took) = (name_of(code), self.started.elapsed());
        metrics::call_ended(&self.method.name, name, (!self.method.is_stream).then_some(took));
        self.span.record("code", name);
        telemetry::end_call(
            &self.span,
            AnswerCode::Grpc(code as i32),
            is_server_error(code).then_some(name),
        );
        let _entered = self.span.enter();
        let duration_us = took.as_micros() as u64;
        // Monitors make these calls all the time.
        if self.method.is_open || self.is_quiet {
            tracing::debug!(duration_us, "answered");
        } else if self.share.get().is_some() {
            tracing::info!(duration_us, "answered");
        } else {
            match self.repeats.count(self.address, name) {
                Some(1) => tracing::info!(duration_us, "answered"),
                Some(repeated) => tracing::info!(duration_us, repeated, "answered"),
                None => tracing::debug!(duration_us, "answered"),
            }
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

/// Completes when the stream must end.
type Closing = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The body of a response with its record.
pub struct RecordedBody {
    body: Body,
    record: Record,
    closing: Option<Closing>,
    answering: Option<(RequestId, Answering)>,
    /// The bytes of the body's last part that were not handed to HTTP.
    rest: Bytes,
}

impl RecordedBody {
    fn next_frame(&mut self) -> Frame<Bytes> {
        let bytes = self.rest.split_to(self.rest.len().min(MAX_FRAME_LEN));
        Frame::data(match &self.answering {
            Some((_, answering)) => answering.frame(bytes),
            None => bytes,
        })
    }

    /// Ends the answer with this status.
    fn end_with(&mut self, status: &Status) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.record.end_with(status);
        self.body = Body::empty();
        self.closing = None;
        let mut trailers = HeaderMap::new();
        // The text is a valid header value.
        let _ = status.add_header(&mut trailers);
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }
}

impl http_body::Body for RecordedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if !this.rest.is_empty() {
            return Poll::Ready(Some(Ok(this.next_frame())));
        }
        let polled = {
            let _entered = this.record.span.enter();
            Pin::new(&mut this.body).poll_frame(cx)
        };
        match polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    this.record.end_with(&status_of(trailers));
                }
                match (frame.into_data(), &this.answering) {
                    (Ok(part), Some((request_id, answering))) => match answering.part(part) {
                        Some(part) => {
                            this.rest = part;
                            Poll::Ready(Some(Ok(this.next_frame())))
                        }
                        None => {
                            let status = answering.refused(*request_id);
                            this.end_with(&status)
                        }
                    },
                    (Ok(part), None) => Poll::Ready(Some(Ok(Frame::data(part)))),
                    (Err(frame), _) => Poll::Ready(Some(Ok(frame))),
                }
            }
            Poll::Ready(Some(Err(status))) => {
                this.record.end_with(&status);
                Poll::Ready(Some(Err(status)))
            }
            Poll::Ready(None) => {
                this.record.end(Code::Ok);
                Poll::Ready(None)
            }
            Poll::Pending => {
                let closing = this.closing.as_mut();
                if closing.is_some_and(|closing| closing.as_mut().poll(cx).is_ready()) {
                    return this.end_with(&Status::unavailable("the connection closes: call again"));
                }
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.rest.is_empty() {
            true => self.body.size_hint(),
            false => SizeHint::default(),
        }
    }
}

/// A body without a status is an error of the service.
fn status_of(trailers: &HeaderMap) -> Status {
    Status::from_header_map(trailers).unwrap_or_else(|| Status::unknown("the response has no status"))
}

/// Whether the service is to blame, as OpenTelemetry's conventions for gRPC servers say.
pub fn is_server_error(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}

/// The code in the spelling of gRPC's specification.
pub fn name_of(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
