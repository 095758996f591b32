//! Reads a request: its head, its form, and its parameters.

use std::pin::Pin;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use http::request::Parts;
use http::{HeaderMap, Method, Request as HttpRequest, Uri, header};
use http_body::Body as _;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::action::Action;
use super::answer::Format;
use super::credentials::Scheme;
use super::error::{Failure, Refusal};
use super::field::{Parameter, parameter};
use super::parameters::Parameters;
use crate::app::{Error, Limit};
use crate::digest;
use crate::grpc::{Received, Share};

/// About the maximum length of a request's target and headers together: HTTP/1.1 may read half as much again. The target may have a private
/// key and its chain: 11.6 KB were seen.
pub const MAX_HEAD_LEN: usize = 80 * 1024;
/// The maximum length of a form. A certificate has up to 256 KiB and a key up to 64 KiB, and the encoding adds some.
const MAX_FORM_LEN: usize = 512 * 1024;
/// A form that is too large is read up to this length and thrown away.
const MAX_DISCARDED_LEN: usize = 4 * MAX_FORM_LEN;
/// A form is in memory up to three times: as received, as decoded, and as parsed.
pub(super) const FORM_COPIES: usize = 3;
/// A head is in memory up to three times too.
pub(super) const HEAD_COPIES: usize = 3;
const VERSION: &str = "2014-05-15";

/// A request whose signature is not verified yet.
pub(super) struct Request {
    pub(super) action: Action,
    pub(super) scheme: Scheme,
    pub(super) parameters: Parameters,
    pub(super) signed: Signed,
    pub(super) head_len: usize,
    pub(super) form_len: usize,
}

/// The parts of a request that a signature is about, apart from its parameters.
pub(super) struct Signed {
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    /// The host as the caller sent it.
    pub(super) host: String,
    /// The parameters of the query alone, if the scheme signs them apart from the form.
    pub(super) query: Parameters,
    pub(super) body_sha256: [u8; 32],
}

/// The outcome of reading a request. The format of the answer and the action are known as soon as they are read.
pub(super) struct Read {
    pub(super) format: Format,
    pub(super) action: Option<Action>,
    /// The host as the caller sent it.
    pub(super) host: String,
    pub(super) request: Result<Request, Failure>,
}

impl Read {
    /// A request whose head has no memory.
    pub(super) fn without_memory() -> Self {
        Self {
            format: Format::Json,
            action: None,
            host: String::new(),
            request: Err(no_memory().into()),
        }
    }
}

/// The length of a request's target and headers.
pub(super) fn head_len(uri: &Uri, headers: &HeaderMap) -> usize {
    let target = uri.path_and_query().map_or(0, |target| target.as_str().len());
    let lengths = headers.iter().map(|(name, value)| name.as_str().len() + value.len());
    target + lengths.sum::<usize>()
}

/// Reads a request until its deadline. Its form takes memory from the share, and `received` keeps it.
pub(super) async fn read(
    request: HttpRequest<Body>,
    (share, received): (&Arc<Share>, &Received),
    deadline: Instant,
) -> Read {
    let (parts, body) = request.into_parts();
    let host = host(&parts);
    let mut read = Read {
        format: Format::Json,
        action: None,
        host: host.clone(),
        request: Err(Refusal::ApiUnknown.into()),
    };
    let form = async {
        let form = tokio::time::timeout_at(deadline, form(body, share, received)).await;
        form.unwrap_or_else(|_| Err(Refusal::FormLate.into()))
    };
    read.request = read_parts(parts, form, host, (&mut read.format, &mut read.action)).await;
    read
}

async fn read_parts(
    parts: Parts,
    form: impl Future<Output = Result<Zeroizing<Vec<u8>>, Failure>>,
    host: String,
    (format, action): (&mut Format, &mut Option<Action>),
) -> Result<Request, Failure> {
    let query = parts.uri.query().unwrap_or_default().as_bytes();
    let mut parameters = Parameters::default();
    let was_read = parameters.read(query);
    *format = Format::named(parameters.find("Format"));
    if parts.uri.path() != "/" {
        return Err(Refusal::ApiUnknown.into());
    }
    if ![Method::GET, Method::POST].contains(&parts.method) {
        return Err(Refusal::Method.into());
    }
    was_read?;
    let form = form.await?;
    if !form.is_empty() && !is_form(&parts.headers) {
        return Err(Refusal::ParameterFormat.into());
    }
    let scheme = Scheme::of(&parts.headers)?;
    let mut of_query = Parameters::default();
    if scheme == Scheme::Acs3 {
        of_query.read(query)?;
    }
    parameters.read(&form)?;
    // The form may name the format too.
    *format = Format::named(parameters.find("Format"));
    if !Format::is_known(parameters.find("Format")) {
        return Err(Refusal::ParameterFormat.into());
    }
    let protocol = |name, header, parameter| named(scheme, &parts.headers, &parameters, (name, header), parameter);
    let given = protocol("Action", "x-acs-action", parameter!("Action"))?;
    *action = Action::parse(&given);
    let action = action.ok_or(Refusal::ApiUnknown)?;
    if protocol("Version", "x-acs-version", parameter!("Version"))? != VERSION {
        return Err(Refusal::ApiUnknown.into());
    }
    let head_len = head_len(&parts.uri, &parts.headers);
    Ok(Request {
        action,
        scheme,
        parameters,
        signed: Signed {
            method: parts.method,
            headers: parts.headers,
            host,
            query: of_query,
            body_sha256: digest::sha256(&form),
        },
        head_len,
        form_len: form.len(),
    })
}

/// The value of a parameter of the protocol, which ACS3 has in a header. A parameter of this name must then have the same value.
fn named(
    scheme: Scheme,
    headers: &HeaderMap,
    parameters: &Parameters,
    (name, header): (&str, &str),
    parameter: Parameter,
) -> Result<String, Refusal> {
    let given = parameters.find(name);
    let value = match scheme {
        Scheme::V2 => given,
        Scheme::Acs3 => {
            let value = headers.get(header).and_then(|value| value.to_str().ok());
            if given.is_some() && given != value {
                return Err(Refusal::ParameterFormat);
            }
            value
        }
    };
    value.map(str::to_owned).ok_or(Refusal::Missing(parameter))
}

/// The body, counted as it comes.
async fn form(mut body: Body, share: &Arc<Share>, received: &Received) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut form = Zeroizing::new(Vec::new());
    let mut len = 0;
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        // The caller has left, or broke the protocol.
        let frame = frame.map_err(|_| Refusal::ParameterFormat)?;
        let part: Bytes = frame.into_data().unwrap_or_default();
        len += part.len();
        if len > MAX_FORM_LEN {
            // Callers read the answer when they have sent the form.
            form.clear();
            match len <= MAX_DISCARDED_LEN {
                true => continue,
                false => break,
            }
        }
        if received.take(share, part.len() * FORM_COPIES).is_none() {
            return Err(no_memory().into());
        }
        form.extend_from_slice(&part);
    }
    match len <= MAX_FORM_LEN {
        true => Ok(form),
        false => Err(Refusal::TooLarge.into()),
    }
}

/// The error of a call for which there is no memory.
pub(super) fn no_memory() -> Error {
    Error::RateLimited {
        limit: Limit::CallMemory,
        wait: std::time::Duration::from_secs(1),
    }
}

/// A body without a type is a form too.
fn is_form(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_none_or(|value| {
        let kind = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
        kind.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
    })
}

/// The host as the caller sent it. HTTP/2 has it in the URI. Empty, if there is none or more than one.
fn host(parts: &Parts) -> String {
    let mut headers = parts.headers.get_all(header::HOST).iter();
    let host = match (headers.next(), headers.next()) {
        (Some(host), None) => host.to_str().ok(),
        (None, _) => parts.uri.authority().map(|authority| authority.as_str()),
        (Some(_), Some(_)) => None,
    };
    host.unwrap_or_default().to_owned()
}
