//! What every call passes before its service and after it: a request id and a span, authentication, a deadline, and details
//! for tonic's own refusals.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use http::{HeaderMap, Request, Response, header};
use prost_reflect::DescriptorPool;
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tower::{Layer, Service};
use tracing::Instrument;

use super::DESCRIPTORS;
use super::deadline::time_for;
use super::status::{refusal, status};
use crate::app::{AccessKeyText, App, Call, Error, Reason, RequestId};
use crate::telemetry::{self, metrics};

/// Puts [`Call`] into every request, or refuses it.
#[derive(Clone)]
pub struct CallLayer {
    app: App,
    methods: Methods,
}

/// The methods that are served, by path: what else a path says is the caller's own text, for no log and no metric.
#[derive(Clone)]
struct Methods(Arc<HashMap<String, String>>);

impl Methods {
    const UNKNOWN: &str = "unknown";

    fn of_the_schema() -> Self {
        // The descriptors are those that this very build made.
        let pool = DescriptorPool::decode(DESCRIPTORS).unwrap_or_default();
        let mut methods = HashMap::new();
        for service in pool.services() {
            for method in service.methods() {
                methods.insert(
                    format!("/{}/{}", service.full_name(), method.name()),
                    method.name().to_owned(),
                );
            }
        }
        Self(Arc::new(methods))
    }

    fn name(&self, path: &str) -> &str {
        self.0.get(path).map_or(Self::UNKNOWN, String::as_str)
    }
}

impl CallLayer {
    /// Calls of these use cases.
    pub fn new(app: App) -> Self {
        Self {
            app,
            methods: Methods::of_the_schema(),
        }
    }
}

impl<S> Layer<S> for CallLayer {
    type Service = CallService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CallService {
            app: self.app.clone(),
            methods: self.methods.clone(),
            inner,
        }
    }
}

/// See [`CallLayer`].
#[derive(Clone)]
pub struct CallService<S> {
    app: App,
    methods: Methods,
    inner: S,
}

/// What the caller calls this service: host, and perhaps a port.
#[derive(Clone)]
pub(super) struct Authority(http::uri::Authority);

impl Authority {
    pub(super) fn host(&self) -> &str {
        self.0.host()
    }
}

/// The call that the layer made of this request.
pub(super) fn call_of<T>(request: &tonic::Request<T>) -> Result<Call, Status> {
    request
        .extensions()
        .get::<Call>()
        .cloned()
        .ok_or_else(|| Status::internal("the call was not authenticated"))
}

impl<S> Service<Request<Body>> for CallService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The clone takes over the readiness that was polled.
        let fresh = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, fresh);
        if is_open_to_all(request.uri().path()) {
            return Box::pin(inner.call(request));
        }
        let (app, methods) = (self.app.clone(), self.methods.clone());
        Box::pin(async move {
            let method = methods.name(request.uri().path());
            Ok(answer(&app, &mut inner, method, request).await)
        })
    }
}

/// Health and reflection, which monitors and grpcurl need before they have a key.
fn is_open_to_all(path: &str) -> bool {
    path.starts_with("/grpc.health.v1.") || path.starts_with("/grpc.reflection.v1")
}

async fn answer<S>(app: &App, inner: &mut S, method: &str, request: Request<Body>) -> Response<Body>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let request_id = match RequestId::random() {
        Ok(request_id) => request_id,
        Err(_) => return Status::internal("no random numbers").into_http(),
    };
    // At every level of the filter: its log lines shall have the request id.
    let span = tracing::error_span!(
        "call",
        %request_id,
        method,
        address = tracing::field::Empty,
        access_key_id = tracing::field::Empty,
        account = tracing::field::Empty,
        code = tracing::field::Empty,
        reason = tracing::field::Empty,
    );
    telemetry::continue_trace(&span, request.headers());
    let time = time_for(request.headers());
    let call = async {
        // In the span, also when it is dropped.
        let mut answered = Answered {
            method,
            started: Instant::now(),
            code: None,
        };
        let answer = tokio::time::timeout(time, authenticated(app, inner, request_id, request)).await;
        let response = answer.unwrap_or_else(|_| {
            refusal(
                request_id,
                Reason::DeadlineExceeded,
                "the call took longer than its deadline allows: its outcome is unknown",
            )
            .into_http()
        });
        let response = explained(request_id, response);
        let status = Status::from_header_map(response.headers());
        if let Some(refused) = &status
            && let Some(info) = refused.get_details_error_info()
        {
            tracing::Span::current().record("reason", info.reason);
        }
        answered.with(status.map_or(Code::Ok, |status| status.code()));
        response
    };
    call.instrument(span).await
}

async fn authenticated<S>(app: &App, inner: &mut S, request_id: RequestId, mut request: Request<Body>) -> Response<Body>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let span = tracing::Span::current();
    let Some(address) = request
        .extensions()
        .get::<SocketAddr>()
        .map(|peer| peer.ip().to_canonical())
    else {
        return Status::internal("the caller has no address").into_http();
    };
    span.record("address", tracing::field::display(address));
    let key = authorization(request.headers()).and_then(AccessKeyText::from_authorization);
    // Also of a key that is refused.
    if let Some(key) = &key {
        span.record("access_key_id", key.id());
    }
    let caller = match app.authenticate(key.as_ref(), address).await {
        Ok(caller) => caller,
        Err(error) => return status(request_id, &error).into_http(),
    };
    span.record("account", tracing::field::display(caller.account));
    if let Some(authority) = request.uri().authority() {
        let authority = Authority(authority.clone());
        request.extensions_mut().insert(authority);
    }
    request.extensions_mut().insert(Call { request_id, caller });
    match inner.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

fn authorization(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()
}

/// tonic's own refusals have no details: they get reason and request id here. Those of services have them.
fn explained(request_id: RequestId, response: Response<Body>) -> Response<Body> {
    let Some(refused) = Status::from_header_map(response.headers()) else {
        return response;
    };
    if refused.code() == Code::Ok || !refused.details().is_empty() {
        return response;
    }
    let (reason, message) = match refused.code() {
        Code::Unimplemented => (
            Reason::MethodUnknown,
            "there is no such method, or its compression is not supported",
        ),
        Code::Internal | Code::InvalidArgument => (
            Reason::MessageMalformed,
            "the message can not be read as the method's request",
        ),
        Code::OutOfRange | Code::ResourceExhausted => (
            Reason::MessageTooLarge,
            "the message is larger than 1 MiB: send less in one call",
        ),
        Code::Cancelled | Code::DeadlineExceeded => (
            Reason::DeadlineExceeded,
            "the call took longer than its deadline allows: its outcome is unknown",
        ),
        _ => {
            tracing::error!(code = ?refused.code(), "refused by the transport");
            return status(request_id, &Error::Internal(Box::new(refused))).into_http();
        }
    };
    refusal(request_id, reason, message).into_http()
}

/// Counts and logs a call: when it is answered, or when its caller leaves before.
struct Answered<'a> {
    method: &'a str,
    started: Instant,
    code: Option<Code>,
}

impl Answered<'_> {
    fn with(&mut self, code: Code) {
        self.code = Some(code);
        let (name, took) = (name_of(code), self.started.elapsed());
        metrics::answered(self.method, name, took);
        tracing::Span::current().record("code", name);
        tracing::info!(duration_us = took.as_micros() as u64, "answered");
    }
}

impl Drop for Answered<'_> {
    fn drop(&mut self) {
        if self.code.is_none() {
            self.with(Code::Cancelled);
        }
    }
}

/// The code as gRPC's specification writes it.
fn name_of(code: Code) -> &'static str {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_methods_of_the_schema_have_names() {
        let methods = Methods::of_the_schema();
        assert_eq!(
            methods.name("/certkeep.v1.CertificateService/DescribeRegions"),
            "DescribeRegions"
        );
        for path in [
            "/certkeep.v1.CertificateService/Nonsense",
            "/x.Y/DescribeRegions",
            "",
            "/",
        ] {
            assert_eq!(methods.name(path), "unknown");
        }
    }
}
