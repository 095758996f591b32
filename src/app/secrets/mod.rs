//! Hands secrets to proxies that speak Envoy's Secret Discovery Service: server certificates with their keys, and CA certificates.

mod name;
mod resolve;
mod stream;
mod subscriptions;
mod unknown;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;

use super::{App, Call, Error, Field, FieldError};
use crate::account::AccountId;
use crate::certificate::ClientCertificate;
use crate::clock;
use crate::secret::Secret;
use name::SecretName;
use resolve::Resolution;
use stream::SecretStream;
use subscriptions::{Form, check_names};
use unknown::{FailedLookups, LruSet, UnknownNames};

/// The type of all resources.
pub const SECRET_TYPE: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

/// The responses that wait for the proxy.
const QUEUE: usize = 4;

/// A request of a proxy.
#[derive(Debug)]
pub struct SecretsRequest {
    /// The proxy, if the request tells it. The first request of a stream must.
    pub proxy: Option<Proxy>,
    /// The type of the resources; empty: secrets.
    pub type_url: String,
    /// The names of secrets.
    pub subscribe: Subscribe,
    /// The nonce of the response that the request answers; empty: none.
    pub nonce: String,
    /// Why the proxy refuses that response. `None`: it accepts it.
    pub refusal: Option<String>,
}

/// A proxy.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// The id of its node.
    pub id: String,
    /// The program and its version, for example `envoy/1.40.0`.
    pub user_agent: String,
}

/// The names of secrets in a request.
#[derive(Debug)]
pub enum Subscribe {
    /// All names that the proxy wants.
    All(Vec<String>),
    /// The changes of the subscriptions.
    Changes {
        /// The names that the proxy wants too, or again.
        subscribe: Vec<String>,
        /// The names that it no longer wants.
        unsubscribe: Vec<String>,
        /// In the first request of a stream: the versions that it has, by name.
        known: HashMap<String, String>,
    },
}

/// A response. It has one secret, or tells that one does not exist.
#[derive(Debug)]
pub struct SecretsResponse {
    /// Identifies the response in its stream.
    pub nonce: String,
    /// The secret.
    pub content: SecretOrRemoved,
}

/// The content of a response.
#[derive(Debug)]
pub enum SecretOrRemoved {
    /// A secret.
    Secret(SentSecret),
    /// The name of a secret that does not exist.
    Removed(String),
}

/// A secret that is sent to a proxy.
#[derive(Debug)]
pub struct SentSecret {
    /// The name by which the proxy asked for it.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its content.
    pub content: SecretContent,
}

/// The content of a secret, in PEM.
#[derive(Debug)]
pub enum SecretContent {
    /// A server certificate.
    KeyPair {
        /// The certificate and its chain.
        certificate_chain: String,
        /// The private key, in PKCS#8.
        private_key: Secret,
    },
    /// CA certificates.
    Authorities(String),
}

/// The responses of a stream. An error is the last one. Responses that wait are dropped then, because the caller may have lost its right
/// to them.
pub struct Secrets {
    queue: mpsc::Receiver<SecretsResponse>,
    ending: oneshot::Receiver<Arc<Error>>,
    has_ended: bool,
}

impl Stream for Secrets {
    type Item = Result<SecretsResponse, Arc<Error>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !self.has_ended {
            match Pin::new(&mut self.ending).poll(cx) {
                Poll::Ready(Ok(error)) => {
                    self.has_ended = true;
                    self.queue.close();
                    while self.queue.try_recv().is_ok() {}
                    return Poll::Ready(Some(Err(error)));
                }
                // The stream ended without an error.
                Poll::Ready(Err(_)) => self.has_ended = true,
                Poll::Pending => {}
            }
        }
        self.queue.poll_recv(cx).map(|response| response.map(Ok))
    }
}

/// The state that all streams of secrets share.
#[derive(Default)]
pub(super) struct SharedSecrets {
    unknown: Mutex<HashMap<AccountId, Weak<UnknownNames>>>,
    failed_lookups: FailedLookups,
    /// The versions of secrets that proxies refused.
    refused: Mutex<LruSet<RefusedSecret>>,
}

/// The hash of a principal, a proxy, the proxy's program, and the version of a secret that the proxy refused. A proxy with another
/// version of the program may accept it.
type RefusedSecret = [u8; 32];

impl SharedSecrets {
    fn has_refused(&self, secret: &RefusedSecret) -> bool {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).has(secret)
    }

    fn refuse(&self, secret: RefusedSecret) {
        self.refused
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(secret);
    }
}

impl App {
    /// Streams the secrets that the requests name, in the state-of-the-world form: each version once, and then every new one. Ends when
    /// `closing` is cancelled, when the requests end, or when the caller may no longer call. `certificate` is that of the connection.
    pub fn stream_secrets(
        &self,
        call: Call,
        certificate: Option<ClientCertificate>,
        requests: impl Stream<Item = SecretsRequest> + Send + Unpin + 'static,
        closing: CancellationToken,
    ) -> Secrets {
        self.stream_in_form(Form::World, call, certificate, requests, closing)
    }

    /// As [`stream_secrets`](Self::stream_secrets), in the incremental form.
    pub fn delta_secrets(
        &self,
        call: Call,
        certificate: Option<ClientCertificate>,
        requests: impl Stream<Item = SecretsRequest> + Send + Unpin + 'static,
        closing: CancellationToken,
    ) -> Secrets {
        self.stream_in_form(Form::Delta, call, certificate, requests, closing)
    }

    fn stream_in_form(
        &self,
        form: Form,
        call: Call,
        certificate: Option<ClientCertificate>,
        requests: impl Stream<Item = SecretsRequest> + Send + Unpin + 'static,
        closing: CancellationToken,
    ) -> Secrets {
        let (sender, queue) = mpsc::channel(QUEUE);
        let (end, ending) = oneshot::channel();
        let stream = SecretStream::new(self, form, call, certificate, sender);
        tokio::spawn(stream.run(requests, closing, end));
        Secrets {
            queue,
            ending,
            has_ended: false,
        }
    }

    /// The secrets with these names, once. A name without a secret is left out.
    pub async fn fetch_secrets(
        &self,
        call: &Call,
        type_url: &str,
        names: Vec<String>,
    ) -> Result<Vec<SentSecret>, Error> {
        check_type(type_url)?;
        check_names(Field::ResourceNames, names.len(), &names)?;
        let mut secrets = Vec::new();
        for name in names {
            let principal = call.caller.principal.id();
            if let Some(wait) = self.0.secrets.failed_lookups.wait(principal, Instant::now()) {
                tokio::time::sleep(wait).await;
            }
            match self
                .resolve_secret(call, &SecretName::parse(&name), clock::now())
                .await?
            {
                Resolution::Found(resolved, _) => {
                    match self.secret_content(call, "FetchSecrets", resolved).await {
                        Ok((version, _, content)) => secrets.push(SentSecret { name, version, content }),
                        // A certificate was deleted a moment ago.
                        Err(Error::NotFound(_)) => {}
                        Err(error) => return Err(error),
                    }
                }
                Resolution::Unknown | Resolution::Ambiguous => {
                    self.0.secrets.failed_lookups.count(principal, Instant::now());
                }
            }
        }
        Ok(secrets)
    }
}

fn check_type(type_url: &str) -> Result<(), Error> {
    match type_url {
        "" | SECRET_TYPE => Ok(()),
        _ => Err(Error::field(Field::TypeUrl, FieldError::Choice)),
    }
}
