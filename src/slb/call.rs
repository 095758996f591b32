//! The steps around every call: its turn, request id, span, authentication, time and record.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Request as HttpRequest, Response, StatusCode, header};
use tokio::sync::OwnedSemaphorePermit;
use tracing::{Instrument, Span};

use super::action::Action;
use super::answer::{self, Answer, Format, Pages};
use super::credentials::Credentials;
use super::error::{Failure, Refusal, Told};
use super::perform::perform;
use super::record::{AnswerBody, Record};
use super::render::Fields;
use super::request::{self, FORM_COPIES, HEAD_COPIES, Read, Request, no_memory};
use crate::app::{
    AccountId, App, Call, DeniedCall, Error, RequestId, SignatureError, SignedCredentials, UnauthenticatedLimit,
};
use crate::grpc::pb::Reason;
use crate::grpc::{AnswerKind, Answering, CallMemory, Received, Repeats, Share, reason_of};
use crate::peer::Peer;
use crate::telemetry;

/// The time for a call, until the first part of its answer.
const TIME: Duration = Duration::from_secs(30);
/// Refused calls of a connection before the first with a valid signature. One more closes the connection.
const MAX_REFUSED_CALLS: usize = 128;
/// The first octets of a head, which are not counted before its caller is known: callers with large heads cannot keep small ones out.
const SMALL_HEAD_LEN: usize = 4 * 1024;
/// The maximum length of an access key's id.
const MAX_ID_LEN: usize = 64;
const TRACEPARENT: &str = "traceparent";

/// The door: a service for HTTP connections. Requests must have an `Arc<Peer>`. Before [`open`](Self::open), it refuses all calls. Cheap
/// to clone.
#[derive(Clone)]
pub struct Door(Arc<Parts>);

struct Parts {
    app: OnceLock<App>,
    unauthenticated: UnauthenticatedLimit,
    memory: Arc<CallMemory>,
    repeats: Arc<Repeats>,
}

/// The answer of a call that succeeded.
struct Answered {
    answer: Answer,
    app: App,
    call: Call,
}

/// The share of memory of an authenticated caller.
type ShareOfCall = OnceLock<Arc<Share>>;

impl Door {
    /// A door whose requests and answers take from `memory`.
    pub fn new(memory: Arc<CallMemory>) -> Self {
        Self(Arc::new(Parts {
            app: OnceLock::new(),
            unauthenticated: UnauthenticatedLimit::new(),
            memory,
            repeats: Arc::new(Repeats::new()),
        }))
    }

    /// Starts to answer calls of these use cases.
    pub fn open(&self, app: App) {
        // The door is opened only once.
        let _ = self.0.app.set(app);
    }

    /// The service.
    pub fn routes(self) -> Router {
        // All paths and methods: every answer has the form of the API.
        Router::new().fallback(serve).with_state(self)
    }

    async fn answer(&self, peer: Arc<Peer>, request_id: RequestId, request: HttpRequest<Body>) -> Response<Body> {
        let started = Instant::now();
        let deadline = tokio::time::Instant::now() + TIME;
        let traceparent = traceparent(request.headers());
        let (received, unauthenticated) = (Received::default(), self.0.memory.unauthenticated());
        // A call that waits for its turn or its form holds its head.
        let large = request::head_len(request.uri(), request.headers()).saturating_sub(SMALL_HEAD_LEN);
        let has_memory = received.take(&unauthenticated, large * HEAD_COPIES).is_some();
        let (turn, read) = match has_memory {
            true => {
                let turn = turn(&peer).await;
                (
                    turn,
                    request::read(request, (&unauthenticated, &received), deadline).await,
                )
            }
            false => (None, Read::without_memory()),
        };
        let Read {
            format,
            action,
            host,
            request,
        } = read;
        let host = bare_host(&host);
        let name = action.map_or("unknown", Action::name);
        let span = span(name, request_id, &peer, &traceparent);
        let mut record = Record::start(span.clone(), started, name, peer.address, self.0.repeats.clone());
        let share = ShareOfCall::new();
        let answered = async {
            let parts = CallParts {
                door: self,
                peer: &peer,
                request_id,
                name,
                share: &share,
            };
            let answered = match request {
                Ok(request) => parts.answered(request, &host, turn, received).await,
                Err(failure) => Err(failure),
            };
            match share.get() {
                Some(_) => answered,
                None => answered.map_err(|failure| parts.count_unauthenticated(failure)),
            }
        };
        let answered = tokio::time::timeout_at(deadline, answered.instrument(span.clone())).await;
        let answered = answered.unwrap_or_else(|_| Err(Refusal::DeadlineExceeded.into()));
        record.is_known = share.get().is_some();
        let answering = Answering {
            share: share.get().cloned().unwrap_or(unauthenticated),
            kind: match action {
                Some(action) if action.changes() && answered.is_ok() => AnswerKind::Change,
                _ => AnswerKind::Read,
            },
            peer,
            place: None,
            reflection: None,
        };
        let _entered = span.enter();
        respond(format, &host, request_id, answered, answering, record)
    }
}

async fn serve(State(door): State<Door>, request: HttpRequest<Body>) -> Response<Body> {
    // A request without a peer has no known origin, so it is refused.
    let peer = request.extensions().get::<Arc<Peer>>().cloned();
    match (RequestId::random(), peer) {
        (Ok(request_id), Some(peer)) => door.answer(peer, request_id, request).await,
        _ => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        }
    }
}

/// Waits for the turn of a call on its connection. Before the first call with a valid signature, few calls of a connection are at work at
/// once. The turn ends with the check of the signature.
async fn turn(peer: &Peer) -> Option<OwnedSemaphorePermit> {
    if peer.authenticated.initialized() {
        return None;
    }
    tokio::select! {
        check = peer.credential_checks.clone().acquire_owned() => check.ok(),
        _ = peer.authenticated.wait() => None,
    }
}

/// The parts of a call whose request was read.
struct CallParts<'a> {
    door: &'a Door,
    peer: &'a Peer,
    request_id: RequestId,
    /// The name of the action.
    name: &'static str,
    /// Set when the caller is authenticated.
    share: &'a ShareOfCall,
}

impl CallParts<'_> {
    async fn answered(
        &self,
        request: Request,
        host: &str,
        turn: Option<OwnedSemaphorePermit>,
        received: Received,
    ) -> Result<Answered, Failure> {
        let parts = &self.door.0;
        let app = parts.app.get().ok_or(Refusal::Starting)?;
        let credentials = Credentials::of(&request)?;
        let id = credentials.access_key_id;
        // Any other text is no id, and may be a secret.
        if !(id.starts_with("ck") && id.len() <= MAX_ID_LEN && id.bytes().all(|octet| octet.is_ascii_alphanumeric())) {
            return Err(Error::Signature(SignatureError::KeyUnknown).into());
        }
        // The log has the id of a refused key too.
        Span::current().record("access_key_id", id);
        let signed = SignedCredentials {
            access_key_id: id,
            nonce: credentials.nonce,
            time: credentials.time,
            address: self.peer.address,
            certificate: self.peer.certificate.as_ref(),
        };
        let authenticated = app.authenticate_signed(&signed, |secret| credentials.are_signed_with(secret));
        let caller = match authenticated.await {
            Ok(caller) => caller,
            Err(error) => {
                self.note_refusal(app, id, &error);
                return Err(error.into());
            }
        };
        self.peer.authenticate();
        drop(turn);
        let share = self.share.get_or_init(|| parts.memory.of(&caller));
        // From now on, the request counts for its caller.
        let of_caller = Received::default();
        let len = request.head_len * HEAD_COPIES + request.form_len * FORM_COPIES;
        of_caller.take(share, len).ok_or_else(no_memory)?;
        drop(received);
        let span = Span::current();
        if let Some(identity) = caller.principal.client_identity() {
            span.record("client_identity", identity);
        }
        span.record("account", tracing::field::display(caller.account));
        app.note_use(&caller, self.name);
        let request_id = self.request_id;
        let call = Call { request_id, caller };
        let answer = async {
            call.caller.may_call(self.name)?;
            perform(app, &call, request.action, request.parameters, host).await
        };
        let answer = answer.await.inspect_err(|failure| {
            if is_denial(failure.reason()) {
                let by = (Some(call.caller.account), call.caller.principal.id());
                self.record_denial(app, by, failure.reason());
            }
        })?;
        Ok(Answered {
            answer,
            app: app.clone(),
            call,
        })
    }

    /// Notes a refused authentication of a caller whose signature was right.
    fn note_refusal(&self, app: &App, access_key_id: &str, error: &Error) {
        match error {
            // Only the calls of valid signatures count for these limits.
            Error::RateLimited { limit, .. } if limit.rate().is_some() => self.peer.authenticate(),
            Error::AccessKeyDisabled
            | Error::AccessKeyExpired
            | Error::AccountDisabled
            | Error::CredentialsConflict(_) => {
                self.record_denial(app, (None, access_key_id), reason_of(error));
            }
            _ => {}
        }
    }

    /// Queues the denied call of a known caller for the audit trail. Without an account, the principal is the id of an access key.
    fn record_denial(&self, app: &App, (account, principal): (Option<AccountId>, &str), reason: Reason) {
        app.record_denial(DeniedCall {
            account,
            principal: principal.to_owned(),
            address: self.peer.address,
            request_id: self.request_id,
            method: self.name.to_owned(),
            reason: reason.name(),
        });
    }

    /// Counts a call that failed before its caller was authenticated. Each has a line in the log, so their number is limited. A connection
    /// with too many of them closes: HTTP keeps each refusal until the caller takes it. A fault of the service does not count: the caller
    /// may be known.
    fn count_unauthenticated(&self, failure: Failure) -> Failure {
        if is_fault(failure.reason()) {
            return failure;
        }
        let peer = self.peer;
        if !peer.authenticated.initialized()
            && peer.refused_calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed) >= MAX_REFUSED_CALLS
        {
            peer.misused.cancel();
        }
        match self.door.0.unauthenticated.take(peer.address, true) {
            Ok(()) => failure,
            Err(limited) => limited.into(),
        }
    }
}

fn is_fault(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::DatabaseUnavailable
            | Reason::ResourceBusy
            | Reason::OutcomeUnknown
            | Reason::SealedKeyUnreadable
            | Reason::DeadlineExceeded
            | Reason::Internal
    )
}

fn is_denial(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::PermissionDenied | Reason::OutOfScope | Reason::CredentialsConflict
    )
}

fn respond(
    format: Format,
    host: &str,
    request_id: RequestId,
    answered: Result<Answered, Failure>,
    answering: Answering,
    mut record: Record,
) -> Response<Body> {
    let written = match answered {
        Ok(Answered { answer, app, call }) => {
            let begun = answer::begin((format, record.action), request_id, answer, (app, call));
            begun
                .map_err(|error| Failure::App(Error::Internal(Box::new(error))))
                .and_then(|(first, pages)| match answering.part(first) {
                    Some(first) => Ok((first, pages)),
                    None if answering.kind == AnswerKind::Change => Err(Refusal::AnswerWithoutMemory.into()),
                    None => Err(no_memory().into()),
                })
        }
        Err(failure) => Err(failure),
    };
    let (body, pages) = match written {
        Ok(written) => written,
        Err(failure) => {
            let told = failure.told();
            record.status = told.status;
            record.reason = Some(failure.reason());
            let no_pages: Option<Pages> = None;
            (error_body(format, host, request_id, &told), no_pages)
        }
    };
    let status = record.status;
    let mut response = Response::new(Body::new(AnswerBody::new(body, pages, answering, record)));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(format.content_type());
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

fn error_body(format: Format, host: &str, request_id: RequestId, told: &Told) -> Bytes {
    let members = [
        ("RequestId", request_id.to_string()),
        ("HostId", host.to_owned()),
        ("Code", told.code.to_owned()),
        ("Message", told.message.clone()),
        ("Recommend", String::new()),
    ];
    let members: Fields = members
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    // Texts in memory are written without an error.
    answer::error(format, &members).unwrap_or_default().into()
}

fn span(action: &'static str, request_id: RequestId, peer: &Peer, traceparent: &HeaderMap) -> Span {
    // The span has the highest level, so that the log lines of the call have it with any filter.
    let span = tracing::error_span!(
        "call",
        request_id = %request_id,
        door = "slb",
        method = action,
        address = %peer.address,
        access_key_id = tracing::field::Empty,
        client_identity = tracing::field::Empty,
        account = tracing::field::Empty,
        code = tracing::field::Empty,
        reason = tracing::field::Empty,
        otel.name = tracing::field::Empty,
        otel.kind = tracing::field::Empty,
    );
    let call = telemetry::ServedCall {
        system: "slb",
        service: "Slb",
        method: action,
        address: Some(peer.address),
    };
    telemetry::start_call(&span, &call, traceparent);
    span
}

/// The headers that name the caller's trace.
fn traceparent(headers: &HeaderMap) -> HeaderMap {
    let values = headers.get_all(TRACEPARENT).iter();
    values
        .map(|value| (header::HeaderName::from_static(TRACEPARENT), value.clone()))
        .collect()
}

/// The host without its port. Nothing else of the caller's text is repeated.
fn bare_host(host: &str) -> String {
    let authority: Option<Authority> = host.parse().ok();
    authority
        .map(|authority| authority.host().to_owned())
        .unwrap_or_default()
}
