//! The record of a call, and the body of its answer. The record is made when the answer ends: a line in the log, metrics, and the end of
//! the span.

use std::error::Error as StdError;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::Bytes;
use http::StatusCode;
use http_body::{Frame, SizeHint};
use tracing::Span;

use super::answer::Pages;
use super::error::Failure;
use super::request::no_memory;
use crate::app::Error;
use crate::grpc::pb::Reason;
use crate::grpc::{Answering, Repeats, code_of, is_server_error, name_of};
use crate::telemetry::{self, AnswerCode, metrics};

/// The longest frame of an answer. The time that the caller has to take an answer is that of each frame.
const MAX_FRAME_LEN: usize = 64 * 1024;

/// A call that has not ended. If it is dropped, the call ended because the caller left.
pub(super) struct Record {
    pub(super) span: Span,
    pub(super) started: Instant,
    /// The name of the action, or `unknown`.
    pub(super) action: &'static str,
    pub(super) address: IpAddr,
    /// Whether the caller is authenticated.
    pub(super) is_known: bool,
    pub(super) repeats: Arc<Repeats>,
    pub(super) status: StatusCode,
    /// The reason, if the call was refused.
    pub(super) reason: Option<Reason>,
    has_ended: bool,
}

impl Record {
    pub(super) fn start(
        span: Span,
        started: Instant,
        action: &'static str,
        address: IpAddr,
        repeats: Arc<Repeats>,
    ) -> Self {
        Self {
            span,
            started,
            action,
            address,
            is_known: false,
            repeats,
            status: StatusCode::OK,
            reason: None,
            has_ended: false,
        }
    }

    /// Ends the record: all of the answer was handed to HTTP.
    fn end(&mut self) {
        let (name, is_error) = match self.reason {
            None => ("OK", false),
            Some(reason) => (name_of(code_of(reason)), is_server_error(code_of(reason))),
        };
        self.end_as(name, is_error);
    }

    fn end_as(&mut self, code: &'static str, is_server_error: bool) {
        if std::mem::replace(&mut self.has_ended, true) {
            return;
        }
        let took = self.started.elapsed();
        metrics::call_ended(self.action, code, Some(took));
        self.span.record("code", code);
        if let Some(reason) = self.reason {
            metrics::refused(reason.name());
            self.span.record("reason", reason.name());
        }
        let answer = AnswerCode::Http(self.status.as_u16());
        telemetry::end_call(&self.span, answer, is_server_error.then_some(code));
        let _entered = self.span.enter();
        let duration_us = took.as_micros() as u64;
        // The metrics count these calls. A log line for each would let a caller fill the disk.
        if self.reason == Some(Reason::RateLimited) {
            tracing::debug!(duration_us, "answered");
        } else if self.is_known {
            tracing::info!(duration_us, "answered");
        } else {
            match self.repeats.count(Some(self.address), code) {
                Some(1) => tracing::info!(duration_us, "answered"),
                Some(repeated) => tracing::info!(duration_us, repeated, "answered"),
                None => tracing::debug!(duration_us, "answered"),
            }
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        match self.reason {
            // HTTP takes no body of an answer to HEAD.
            Some(_) => self.end(),
            None => self.end_as("CANCELLED", false),
        }
    }
}

type NextPart = Pin<Box<dyn Future<Output = Result<(Bytes, Option<Pages>), Error>> + Send>>;

/// The body of an answer with its record.
pub(super) struct AnswerBody {
    /// The part that was not handed to HTTP yet.
    rest: Bytes,
    next: Option<NextPart>,
    answering: Answering,
    record: Record,
}

impl AnswerBody {
    /// `first` has its memory already.
    pub(super) fn new(first: Bytes, pages: Option<Pages>, answering: Answering, record: Record) -> Self {
        Self {
            rest: first,
            next: pages.map(next_part),
            answering,
            record,
        }
    }

    fn next_frame(&mut self) -> Frame<Bytes> {
        let bytes = self.rest.split_to(self.rest.len().min(MAX_FRAME_LEN));
        if self.rest.is_empty() && self.next.is_none() {
            self.record.end();
        }
        Frame::data(self.answering.frame(bytes))
    }

    /// Breaks the answer off, so that the caller does not take it for a whole one.
    fn fail(&mut self, error: Error) -> Box<dyn StdError + Send + Sync> {
        self.next = None;
        let failure = Failure::App(error);
        let message = {
            let _entered = self.record.span.enter();
            failure.told().message
        };
        self.record.reason = Some(failure.reason());
        self.record.end();
        message.into()
    }
}

fn next_part(pages: Pages) -> NextPart {
    Box::pin(pages.next())
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = Box<dyn StdError + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        loop {
            if !this.rest.is_empty() {
                return Poll::Ready(Some(Ok(this.next_frame())));
            }
            let Some(next) = &mut this.next else {
                this.record.end();
                return Poll::Ready(None);
            };
            let polled = {
                let _entered = this.record.span.enter();
                next.as_mut().poll(cx)
            };
            match std::task::ready!(polled) {
                Ok((part, pages)) => {
                    let Some(part) = this.answering.part(part) else {
                        return Poll::Ready(Some(Err(this.fail(no_memory()))));
                    };
                    this.rest = part;
                    this.next = pages.map(next_part);
                }
                Err(error) => return Poll::Ready(Some(Err(this.fail(error)))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.next.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.next {
            None => SizeHint::with_exact(self.rest.len() as u64),
            Some(_) => SizeHint::default(),
        }
    }
}
