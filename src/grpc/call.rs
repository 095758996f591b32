//! The steps around every call: request id, span, authentication, deadline, details for tonic's own refusals, and the record.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, Request, Response, header};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tower::Service;
use tracing::{Instrument, Span};

use super::deadline::{LONGEST, time_for};
use super::memory::{AnswerKind, Answering, CallMemory, Received, ReceivedBody, ShareOfCall};
use super::method::{Method, Methods};
use super::pb::Reason;
use super::reason::{code, of_error};
use super::record::{Record, RecordedBody};
use super::repeats::Repeats;
use super::status::{refusal, status};
use super::words::Refusal;
use crate::app::{
    AccessKeyText, AccountId, App, Call, ClientCertificate, Credentials, DeniedCall, Error, GivenKey, Limit, RequestId,
    UnauthenticatedLimit,
};
use crate::peer::Peer;
use crate::telemetry;

/// The time for the last message of a stream.
const LAST_MESSAGE_TIME: Duration = Duration::from_secs(2);
/// The time after which a caller with too many calls of health and reflection may try again.
const OPEN_CALLS_WAIT: Duration = Duration::from_secs(1);
const CLOSES: &str = "the connection closes: call again";
/// Refused calls of a connection before the first with valid credentials. One more closes the connection.
const MAX_REFUSED_CALLS: usize = 128;
/// While more calls than this wait for the check of their credentials, a connection may have a few of them only.
const MANY_WAITING_CALLS: usize = 16_384;
const FEW_WAITING_CALLS: usize = 128;

/// The gRPC door: a service for HTTP/2 connections. Requests must have an `Arc<Peer>`. Before [`open`](Self::open), it answers health and
/// reflection only. Cheap to clone.
#[derive(Clone)]
pub struct Door(Arc<Parts>);

struct Parts {
    methods: Methods,
    /// Health and reflection.
    open: Routes,
    authenticated: OnceLock<(App, Routes)>,
    unauthenticated: UnauthenticatedLimit,
    memory: Arc<CallMemory>,
    repeats: Arc<Repeats>,
    /// The calls that wait for the check of their credentials.
    waiting: AtomicUsize,
}

/// The turn of a call on its connection. Before the first call with valid credentials, few calls of a connection are at work at once.
enum Turn {
    /// The connection has had a call with valid credentials.
    Free,
    /// The check of the call's credentials. It ends with the check.
    Check(#[expect(dead_code, reason = "held")] OwnedSemaphorePermit),
    /// A call of health or reflection. It ends when its answer is sent.
    Open(Arc<OwnedSemaphorePermit>),
    /// A call of health or reflection too many.
    NoRoom,
}

/// The host that the caller used for this service, with the port if the caller sent it.
#[derive(Clone)]
pub(super) struct Authority(http::uri::Authority);

impl Authority {
    pub(super) fn host(&self) -> &str {
        self.0.host()
    }
}

/// The call that the door put into this request.
pub(super) fn call_of<T>(request: &tonic::Request<T>) -> Result<Call, Status> {
    request
        .extensions()
        .get::<Call>()
        .cloned()
        .ok_or_else(|| Status::internal("the call was not authenticated"))
}

/// The client certificate of the request's connection.
pub(super) fn certificate_of<T>(request: &tonic::Request<T>) -> Option<ClientCertificate> {
    request.extensions().get::<Arc<Peer>>()?.certificate.clone()
}

impl Door {
    /// A door that answers these routes without an access key. Its requests and answers take from `memory`.
    pub(super) fn new(open: Routes, reflection: bool, memory: Arc<CallMemory>) -> Self {
        Self(Arc::new(Parts {
            methods: Methods::new(reflection),
            open: open.prepare(),
            authenticated: OnceLock::new(),
            unauthenticated: UnauthenticatedLimit::new(),
            memory,
            repeats: Arc::new(Repeats::new()),
            waiting: AtomicUsize::new(0),
        }))
    }

    /// Starts to answer calls of these use cases.
    pub fn open(&self, app: App) {
        let routes = Routes::new(super::admin_service(app.clone()))
            .add_service(super::certificate_service(app.clone()))
            .add_service(super::delivery_service(app.clone()))
            .add_service(super::operator_service(app.clone()))
            .add_service(super::secret_discovery_service(app.clone()));
        // The door is opened only once.
        let _ = self.0.authenticated.set((app, routes.prepare()));
    }

    async fn turn(&self, method: &Method, peer: &Peer) -> Turn {
        if method.is_open {
            let place = peer.open_calls.clone().try_acquire_owned();
            return place.map_or(Turn::NoRoom, |place| Turn::Open(Arc::new(place)));
        }
        if peer.authenticated.initialized() {
            return Turn::Free;
        }
        let checks = peer.credential_checks.clone();
        if let Ok(check) = checks.clone().try_acquire_owned() {
            return Turn::Check(check);
        }
        let _waiting = Waiting::count(&self.0.waiting, peer);
        tokio::select! {
            check = checks.acquire_owned() => check.map_or(Turn::Free, Turn::Check),
            _ = peer.authenticated.wait() => Turn::Free,
        }
    }

    async fn answer(
        &self,
        method: Arc<Method>,
        peer: Option<Arc<Peer>>,
        turn: Turn,
        request: Request<Body>,
    ) -> Response<RecordedBody> {
        let request_id = RequestId::random();
        let span = span(&method, &request_id, &peer, request.headers());
        let share = ShareOfCall::default();
        let address = peer.as_ref().map(|peer| peer.address);
        let repeats = self.0.repeats.clone();
        let record = Record::start(method.clone(), span.clone(), address, share.clone(), repeats);
        let closing = peer
            .as_ref()
            .filter(|_| method.is_stream)
            .map(|peer| closed(peer.closing.clone(), method.clone()));
        let place = match &turn {
            Turn::Open(place) => Some(place.clone()),
            Turn::Free | Turn::Check(_) | Turn::NoRoom => None,
        };
        let reflection = match &request_id {
            Ok(request_id) if method.is_open && !method.is_health => self.0.memory.reflection(*request_id).map(Some),
            _ => Ok(None),
        };
        let call = async {
            if let Err(refused) = &reflection {
                return refused.clone().into_http();
            }
            match (&request_id, &peer) {
                (Ok(request_id), Some(peer)) => {
                    self.answer_in_time(&method, *request_id, peer, &share, turn, request)
                        .await
                }
                (Err(_), _) => Status::internal("no random numbers").into_http(),
                (_, None) => Status::internal("the caller has no address").into_http(),
            }
        };
        let response = call.instrument(span).await;
        let answering = match (request_id, peer) {
            (Ok(request_id), Some(peer)) => {
                count_refused(&peer, &response);
                let share = share.get().cloned();
                let answering = Answering {
                    peer,
                    share: share.unwrap_or_else(|| self.0.memory.unauthenticated()),
                    kind: kind(&method),
                    place,
                    reflection: reflection.ok().flatten(),
                };
                Some((request_id, answering))
            }
            _ => None,
        };
        record.follow(response, closing, answering)
    }

    async fn answer_in_time(
        &self,
        method: &Method,
        request_id: RequestId,
        peer: &Peer,
        share: &ShareOfCall,
        turn: Turn,
        request: Request<Body>,
    ) -> Response<Body> {
        if let Turn::NoRoom = turn {
            let (limit, wait) = (Limit::OpenCalls, OPEN_CALLS_WAIT);
            return status(request_id, &Error::RateLimited { limit, wait }).into_http();
        }
        let time = time_for(request.headers());
        let opened = self.0.authenticated.get().filter(|_| !method.is_open);
        let Some((app, routes)) = opened else {
            // Nobody can make the service look unhealthy by calls from many addresses.
            let counts_for_all = !method.is_health;
            return match self.0.unauthenticated.take(peer.address, counts_for_all) {
                Err(error) => status(request_id, &error).into_http(),
                Ok(()) if method.is_open => tokio::select! {
                    biased;
                    answer = tokio::time::timeout(time, called(&self.0.open, request)) => {
                        answer.unwrap_or_else(|_| refusal(request_id, Refusal::DeadlineExceeded).into_http())
                    }
                    () = peer.closing.cancelled() => Status::unavailable(CLOSES).into_http(),
                },
                Ok(()) => refusal(request_id, Refusal::Starting).into_http(),
            };
        };
        let parts = Authenticating {
            app,
            parts: &self.0,
            routes,
            method,
            request_id,
            peer,
            share,
        };
        let answer = tokio::time::timeout(time, parts.answer(turn, request)).await;
        let response = answer.unwrap_or_else(|_| refusal(request_id, Refusal::DeadlineExceeded).into_http());
        explained(request_id, response)
    }
}

/// A call that waits for the check of its credentials, counted until this value is dropped.
struct Waiting<'a> {
    all: &'a AtomicUsize,
    peer: &'a Peer,
}

impl<'a> Waiting<'a> {
    /// Closes a connection with many such calls while there are many in all.
    fn count(all: &'a AtomicUsize, peer: &'a Peer) -> Self {
        let of_all = all.fetch_add(1, Ordering::Relaxed);
        let of_peer = peer.waiting_calls.fetch_add(1, Ordering::Relaxed);
        if of_all >= MANY_WAITING_CALLS && of_peer >= FEW_WAITING_CALLS {
            peer.misused.cancel();
        }
        Self { all, peer }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::Relaxed);
        self.peer.waiting_calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Closes a connection after too many calls that were refused for their credentials or for a limit of callers without any, if it has had
/// no call with valid credentials. HTTP keeps each refusal until the caller takes it. Other refusals are no fault of the caller.
fn count_refused(peer: &Peer, response: &Response<Body>) {
    let code = response
        .headers()
        .get(Status::GRPC_STATUS)
        .map(|code| Code::from_bytes(code.as_bytes()));
    if !peer.authenticated.initialized()
        && matches!(code, Some(Code::Unauthenticated | Code::ResourceExhausted))
        && peer.refused_calls.fetch_add(1, Ordering::Relaxed) >= MAX_REFUSED_CALLS
    {
        peer.misused.cancel();
    }
}

fn kind(method: &Method) -> AnswerKind {
    match method {
        Method { is_health: true, .. } => AnswerKind::Health,
        Method {
            is_stream: true,
            is_open: false,
            ..
        } => AnswerKind::Stream,
        Method { changes: true, .. } => AnswerKind::Change,
        _ => AnswerKind::Read,
    }
}

impl<B> Service<Request<B>> for Door
where
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<RecordedBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let door = self.clone();
        Box::pin(async move {
            let method = door.0.methods.of(request.uri().path());
            // A request without a peer has no known origin, so it is refused.
            let peer = request.extensions().get::<Arc<Peer>>().cloned();
            let turn = match &peer {
                Some(peer) => door.turn(&method, peer).await,
                None => Turn::Free,
            };
            // Only now: a call that waits for its turn is small.
            Ok(Box::pin(door.answer(method, peer, turn, request.map(Body::new))).await)
        })
    }
}

/// Completes when a stream must end. The streams of the services have some time to end with a last message. Streams of reflection
/// have a deadline.
async fn closed(closing: CancellationToken, method: Arc<Method>) {
    if method.is_open && !method.is_health {
        tokio::select! {
            () = closing.cancelled() => {}
            () = tokio::time::sleep(LONGEST) => {}
        }
        return;
    }
    closing.cancelled().await;
    if !method.is_open {
        tokio::time::sleep(LAST_MESSAGE_TIME).await;
    }
}

fn span(method: &Method, request_id: &Result<RequestId, Error>, peer: &Option<Arc<Peer>>, headers: &HeaderMap) -> Span {
    let span = if method.is_open {
        // Monitors make these calls all the time. By default, logs and traces omit them.
        tracing::debug_span!(
            "call",
            request_id = tracing::field::Empty,
            method = method.name,
            address = tracing::field::Empty,
            code = tracing::field::Empty,
        )
    } else {
        // The span has the highest level, so that the log lines of the call have it with any filter.
        tracing::error_span!(
            "call",
            request_id = tracing::field::Empty,
            method = method.name,
            address = tracing::field::Empty,
            access_key_id = tracing::field::Empty,
            client_identity = tracing::field::Empty,
            account = tracing::field::Empty,
            code = tracing::field::Empty,
            reason = tracing::field::Empty,
            otel.name = tracing::field::Empty,
            otel.kind = tracing::field::Empty,
        )
    };
    if let Ok(request_id) = request_id {
        span.record("request_id", tracing::field::display(request_id));
    }
    if let Some(peer) = peer {
        span.record("address", tracing::field::display(peer.address));
    }
    let call = telemetry::ServedCall {
        system: "grpc",
        service: &method.service,
        method: &method.name,
        address: peer.as_ref().map(|peer| peer.address),
    };
    telemetry::start_call(&span, &call, headers);
    span
}

async fn called(routes: &Routes, request: Request<Body>) -> Response<Body> {
    match routes.clone().call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// A call whose caller is authenticated before the routes answer it.
struct Authenticating<'a> {
    app: &'a App,
    parts: &'a Parts,
    routes: &'a Routes,
    method: &'a Method,
    request_id: RequestId,
    peer: &'a Peer,
    share: &'a ShareOfCall,
}

impl Authenticating<'_> {
    async fn answer(self, turn: Turn, mut request: Request<Body>) -> Response<Body> {
        let Self {
            app,
            parts,
            routes,
            method,
            request_id,
            peer,
            share,
        } = self;
        let span = Span::current();
        let key = authorization(request.headers());
        let credentials = Credentials {
            access_key: match &key {
                None => GivenKey::Missing,
                Some(None) => GivenKey::Malformed,
                Some(Some(key)) => GivenKey::Key(key),
            },
            certificate: peer.certificate.as_ref(),
            address: peer.address,
        };
        // The log has the id of a refused key too.
        if let GivenKey::Key(key) = credentials.access_key {
            span.record("access_key_id", key.id());
        }
        let caller = match app.authenticate(&credentials).await {
            Ok(caller) => caller,
            Err(error) => {
                // Only the calls of valid credentials count for these limits.
                if let Error::RateLimited { limit, .. } = &error
                    && limit.rate().is_some()
                {
                    peer.authenticate();
                }
                // The access key is checked before the client certificate, so its secret was right.
                let is_known = matches!(
                    error,
                    Error::AccessKeyDisabled
                        | Error::AccessKeyExpired
                        | Error::AccountDisabled
                        | Error::CredentialsConflict(_)
                );
                if let (GivenKey::Key(key), true) = (&credentials.access_key, is_known) {
                    record_denial(app, method, request_id, peer, (None, key.id()), of_error(&error));
                }
                // Each failed authentication has a line in the log, so their number is limited too.
                let has_failed = code(of_error(&error)) == Code::Unauthenticated;
                let limited = has_failed
                    .then(|| parts.unauthenticated.take(peer.address, true).err())
                    .flatten();
                return status(request_id, &limited.unwrap_or(error)).into_http();
            }
        };
        peer.authenticate();
        drop(turn);
        let share = share.get_or_init(|| parts.memory.of(&caller)).clone();
        if let Some(identity) = caller.principal.client_identity() {
            span.record("client_identity", identity);
        }
        span.record("account", tracing::field::display(caller.account));
        if method.is_served {
            app.note_use(&caller, &method.name);
        }
        if method.is_served
            && let Err(error) = caller.may_call(&method.name)
        {
            let by = (Some(caller.account), caller.principal.id());
            record_denial(app, method, request_id, peer, by, of_error(&error));
            return status(request_id, &error).into_http();
        }
        if let Some(authority) = request.uri().authority() {
            let authority = Authority(authority.clone());
            request.extensions_mut().insert(authority);
        }
        let (account, principal) = (caller.account, caller.principal.clone());
        request.extensions_mut().insert(Call { request_id, caller });
        // Kept until the call is answered.
        let received = Received::default();
        let request = request.map(|body| {
            Body::new(ReceivedBody::new(
                body,
                share,
                request_id,
                received.clone(),
                method.takes_stream,
            ))
        });
        let response = called(routes, request).await;
        drop(received);
        if let Some(reason) = denied(response.headers()) {
            record_denial(app, method, request_id, peer, (Some(account), principal.id()), reason);
        }
        response
    }
}

/// The reason of a response that denies the call.
fn denied(headers: &HeaderMap) -> Option<Reason> {
    let code = headers.get("grpc-status")?.as_bytes();
    let refused = Status::from_header_map(headers).filter(|_| code == b"7")?;
    Reason::from_str_name(&format!("REASON_{}", refused.get_details_error_info()?.reason))
}

/// Queues the denied call of a known caller for the audit trail. Without an account, the principal is the id of an access key.
fn record_denial(
    app: &App,
    method: &Method,
    request_id: RequestId,
    peer: &Peer,
    (account, principal): (Option<AccountId>, &str),
    reason: Reason,
) {
    app.record_denial(DeniedCall {
        account,
        principal: principal.to_owned(),
        address: peer.address,
        request_id,
        method: method.name.clone(),
        reason: reason.name(),
    });
}

/// The access key of a call. `Some(None)`: the header has another text.
fn authorization(headers: &HeaderMap) -> Option<Option<AccessKeyText>> {
    let value = headers.get(header::AUTHORIZATION)?;
    Some(value.to_str().ok().and_then(AccessKeyText::from_authorization))
}

/// Adds a reason and the request id to a refusal of tonic. Refusals of the services have both.
fn explained(request_id: RequestId, response: Response<Body>) -> Response<Body> {
    let Some(refused) = Status::from_header_map(response.headers()) else {
        return response;
    };
    if refused.code() == Code::Ok || !refused.details().is_empty() {
        return response;
    }
    let why = match refused.code() {
        Code::Unimplemented => Refusal::MethodUnknown,
        Code::Internal | Code::InvalidArgument => Refusal::MessageMalformed,
        Code::OutOfRange | Code::ResourceExhausted => Refusal::MessageTooLarge,
        Code::Cancelled | Code::DeadlineExceeded => Refusal::DeadlineExceeded,
        _ => return status(request_id, &Error::Internal(Box::new(refused))).into_http(),
    };
    refusal(request_id, why).into_http()
}
