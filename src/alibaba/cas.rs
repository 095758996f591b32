//! The client of Alibaba Cloud Certificate Management Service (CAS): fetches a certificate with its private key by
//! `GetUserCertificateDetail`, version 2020-04-07.

mod answer;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, StatusCode, header};
use reqwest::Client;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::answer::{Answer, error_of, pair_of, wipe};
use super::acs3::{self, Authorization, Request};
use super::breaker::Breaker;
use crate::config::CasService;
use crate::http_client::{self, BodyError, ClientError};
use crate::secret::{PrivateFileError, Secret, read_private};
use crate::{clock, digest};

const ACTION: &str = "GetUserCertificateDetail";
const VERSION: &str = "2020-04-07";
/// The tries of one fetch, the first included.
const TRIES: u32 = 3;
/// The pause before the second try. The pause before the third is four times as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The fetches at once, from the call of CAS until the pair is checked. They bound the memory of the answers.
const MAX_AT_ONCE: usize = 16;
const MAX_CREDENTIALS_LEN: u64 = 4 * 1024;
/// Certificates of 256 KiB, a private key of 64 KiB, and a certificate's other facts are shorter.
const MAX_ANSWER_LEN: usize = 1024 * 1024;

/// Why the client can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum CasSetUpError {
    /// The credentials can't be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The HTTP client can't be set up.
    #[error("the client for cas_endpoint cannot be set up")]
    Client(#[from] ClientError),
}

/// Why the credentials can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The file can't be read.
    #[error("cas_credentials_file cannot be used")]
    File(#[source] PrivateFileError),
    /// The file has other lines.
    #[error(
        "cas_credentials_file does not contain two lines: the id of an access key of Alibaba Cloud, and its secret"
    )]
    Form,
}

/// Why a pair was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum CasError {
    /// The credentials can't be used any more.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The random generator failed.
    #[error(transparent)]
    Random(#[from] digest::Error),
    /// CAS has no certificate with this id for these credentials.
    #[error("Alibaba Cloud has no such certificate: {0}")]
    NotFound(CasRefusal),
    /// CAS refused the call, and would refuse it again.
    #[error("Alibaba Cloud refused the call: {0}")]
    Refused(CasRefusal),
    /// The answer is not the answer of CAS, or it has no pair.
    #[error("the answer of Alibaba Cloud does not contain a {0}")]
    Answer(&'static str),
    /// There was no answer, or CAS could not work, at every try.
    #[error("Alibaba Cloud is unavailable")]
    Unavailable(#[source] Unavailability),
    /// CAS was unavailable a moment ago, and is not called before this time has passed.
    #[error("Alibaba Cloud is not called for {wait:?}, because it did not answer")]
    Paused {
        /// The time.
        wait: Duration,
    },
}

/// An error that CAS answered. The texts are CAS's own, without all but letters, digits and a few signs. CAS's message is not one of
/// them: it can contain parts of the request.
#[derive(Debug)]
pub struct CasRefusal {
    /// The HTTP status.
    pub status: StatusCode,
    /// The code, for example `Forbidden.RAM`.
    pub code: String,
    /// The id of the request at Alibaba Cloud.
    pub request_id: String,
}

impl fmt::Display for CasRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            status,
            code,
            request_id,
        } = self;
        write!(f, "{} {code} (request {request_id})", status.as_u16())
    }
}

/// Why a try can be repeated.
#[derive(Debug, thiserror::Error)]
pub enum Unavailability {
    /// There was no answer, or not all of it.
    #[error("there was no answer from cas_endpoint")]
    Http(#[source] reqwest::Error),
    /// CAS answered that it could not work, or that there are too many calls.
    #[error("Alibaba Cloud answered {0}")]
    Answered(CasRefusal),
}

/// A certificate of CAS with its private key.
#[derive(Debug)]
pub struct FetchedPair {
    /// The certificate and its chain, in PEM.
    pub server_certificate: Secret,
    /// The private key, in PEM.
    pub private_key: Secret,
    /// The certificate's name in CAS; empty: none.
    pub name: String,
    /// Held until the pair is checked.
    _permit: OwnedSemaphorePermit,
}

/// The client. Cheap to clone.
#[derive(Clone)]
pub struct Cas(Arc<Parts>);

struct Parts {
    service: CasService,
    /// The header `host`.
    host: String,
    client: Client,
    permits: Arc<Semaphore>,
    breaker: Breaker,
}

impl fmt::Debug for Cas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cas").field(&self.0.host).finish()
    }
}

/// An access key of Alibaba Cloud.
struct Credentials {
    id: String,
    secret: Secret,
}

impl Credentials {
    /// Two lines: the id and the secret.
    fn parse(text: &Secret) -> Option<Self> {
        let text = std::str::from_utf8(text.expose()).ok()?;
        let mut lines = text.trim_end().lines().map(str::trim_end);
        let (id, secret, None) = (lines.next()?, lines.next()?, lines.next()) else {
            return None;
        };
        let is_word = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
        (is_word(id) && is_word(secret)).then(|| Self {
            id: id.to_owned(),
            secret: Secret::from(secret.to_owned()),
        })
    }
}

impl Cas {
    /// Sets the client up, and checks that the credentials can be read.
    pub fn new(service: CasService) -> Result<Self, CasSetUpError> {
        let times = [service.timeout; 2];
        let client = http_client::client(&service.endpoint, service.ca_file.as_deref(), times)?;
        // The host as the transport writes it: without the scheme's own port.
        let endpoint = &service.endpoint;
        let own_port = if endpoint.scheme_str() == Some("https") {
            443
        } else {
            80
        };
        let name = endpoint.host().unwrap_or_default();
        let host = match endpoint.port_u16().filter(|port| *port != own_port) {
            Some(port) => format!("{name}:{port}"),
            None => name.to_owned(),
        };
        let cas = Self(Arc::new(Parts {
            breaker: Breaker::new(service.pause, service.timeout / 2),
            service,
            host,
            client,
            permits: Arc::new(Semaphore::new(MAX_AT_ONCE)),
        }));
        cas.credentials()?;
        Ok(cas)
    }

    /// Fetches the certificate with this id. Repeats a try that failed for a reason that may pass.
    pub async fn fetch(&self, id: &str) -> Result<FetchedPair, CasError> {
        // The semaphore is never closed, so only a caller who leaves ends the wait.
        let Ok(permit) = self.0.permits.clone().acquire_owned().await else {
            return Err(CasError::Paused { wait: Duration::ZERO });
        };
        let (mut tries, mut pause) = (1, FIRST_PAUSE);
        loop {
            let begun = self.0.breaker.begin(Instant::now());
            let begun = begun.map_err(|wait| CasError::Paused { wait })?;
            let request = self.signed(id)?;
            let cause = match call(request).await {
                Err(CasError::Unavailable(cause)) => cause,
                Err(error) => {
                    begun.succeeded();
                    return Err(error);
                }
                Ok((server_certificate, private_key, name)) => {
                    begun.succeeded();
                    return Ok(FetchedPair {
                        server_certificate,
                        private_key,
                        name,
                        _permit: permit,
                    });
                }
            };
            let now = Instant::now();
            begun.failed(now);
            if tries == TRIES || self.0.breaker.wait(now) > Duration::ZERO {
                return Err(CasError::Unavailable(cause));
            }
            tokio::time::sleep(pause).await;
            (tries, pause) = (tries + 1, pause * 4);
        }
    }

    /// Reads the file each time, so that an operator can replace the access key.
    fn credentials(&self) -> Result<Credentials, CredentialsError> {
        let text = read_private(&self.0.service.credentials_file, MAX_CREDENTIALS_LEN);
        Credentials::parse(&text.map_err(CredentialsError::File)?).ok_or(CredentialsError::Form)
    }

    /// A request with its own time, nonce and signature.
    fn signed(&self, id: &str) -> Result<reqwest::RequestBuilder, CasError> {
        let credentials = self.credentials()?;
        let body_sha256 = digest::sha256(b"");
        let content_sha256 = hex::encode(body_sha256);
        let nonce = hex::encode(digest::random::<16>()?);
        let date = clock::now().to_string();
        let headers = [
            (header::HOST.as_str(), self.0.host.as_str()),
            ("x-acs-action", ACTION),
            ("x-acs-content-sha256", &content_sha256),
            ("x-acs-date", &date),
            ("x-acs-signature-nonce", &nonce),
            ("x-acs-version", VERSION),
        ];
        let query = [("CertId", id)];
        let request = Request {
            method: "POST",
            query: &query,
            headers: &headers,
            body_sha256,
        };
        let authorization = Authorization {
            access_key_id: &credentials.id,
            signed_headers: &request.signed_headers(),
            signature: &acs3::signature(&credentials.secret, &acs3::string_to_sign(&request)),
        };
        let mut authorization =
            HeaderValue::from_str(&authorization.to_header()).map_err(|_| CredentialsError::Form)?;
        authorization.set_sensitive(true);
        let url = format!("{}?CertId={id}", self.0.service.endpoint);
        let mut request = self.0.client.post(url).header(header::ACCEPT, "application/json");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        Ok(request.header(header::AUTHORIZATION, authorization))
    }
}

async fn call(request: reqwest::RequestBuilder) -> Result<Answer, CasError> {
    let lost = |error: reqwest::Error| CasError::Unavailable(Unavailability::Http(error.without_url()));
    let answer = request.send().await.map_err(lost)?;
    let status = answer.status();
    let body = http_client::body(answer, MAX_ANSWER_LEN).await;
    let body = body.map_err(|error| match error {
        BodyError::Http(error) => lost(error),
        BodyError::TooLong => CasError::Answer("JSON object of at most 1 MiB"),
    })?;
    let mut json = serde_json::from_slice(&body).unwrap_or_default();
    let read = match status.is_success() {
        true => pair_of(&mut json),
        false => Err(error_of(status, &json)),
    };
    wipe(json);
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_two_lines() {
        let parse = |text: &str| Credentials::parse(&Secret::from(text.to_owned()));
        for text in ["LTAI5t\nsecret", "LTAI5t\nsecret\n", "LTAI5t\r\nsecret\r\n\n"] {
            let read = parse(text).unwrap();
            assert_eq!((read.id.as_str(), read.secret.expose()), ("LTAI5t", &b"secret"[..]));
        }
        for text in [
            "",
            "LTAI5t",
            "LTAI5t\n\nsecret",
            "LTAI5t\nsecret\nmore",
            "a b\nsecret",
            "a,b\nsecret",
            "\nsecret",
            "é\nsecret",
        ] {
            assert!(parse(text).is_none(), "{text:?}");
        }
    }
}
