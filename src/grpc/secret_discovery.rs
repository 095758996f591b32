//! Envoy's SecretDiscoveryService. Each call parses the requests, runs the use case and renders the answers.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use prost::Message;
use prost_types::Any;
use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming};

use super::call::{call_of, certificate_of};
use super::certificate_service::{Answer, answer};
use super::envoy::config::core::v3::data_source::Specifier;
use super::envoy::config::core::v3::node::UserAgentVersionType;
use super::envoy::config::core::v3::{DataSource, Node};
use super::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use super::envoy::extensions::transport_sockets::tls::v3::{CertificateValidationContext, Secret, TlsCertificate};
use super::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use super::envoy::service::secret::v3::secret_discovery_service_server::SecretDiscoveryService;
use super::status::{refusal, status};
use super::words::Refusal;
use crate::app::{
    App, Call, Proxy, RequestId, SECRET_TYPE, SecretContent, SecretOrRemoved, Secrets, SecretsRequest, SecretsResponse,
    SentSecret, Subscribe,
};
use crate::peer::Peer;

pub(super) struct Door {
    app: App,
}

impl Door {
    pub(super) fn new(app: App) -> Self {
        Self { app }
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl SecretDiscoveryService for Door {
    type DeltaSecretsStream = Answers<DeltaDiscoveryResponse>;

    async fn delta_secrets(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Answer<Answers<DeltaDiscoveryResponse>> {
        let begun = Begun::of(&request)?;
        let (requests, failure) = parsed(request.into_inner(), delta_request);
        let certificate = begun.certificate.clone();
        let secrets = self
            .app
            .delta_secrets(begun.call.clone(), certificate, requests, begun.closing.clone());
        Ok(begun.respond(secrets, failure, delta_response))
    }

    type StreamSecretsStream = Answers<DiscoveryResponse>;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Answer<Answers<DiscoveryResponse>> {
        let begun = Begun::of(&request)?;
        let (requests, failure) = parsed(request.into_inner(), world_request);
        let certificate = begun.certificate.clone();
        let secrets = self
            .app
            .stream_secrets(begun.call.clone(), certificate, requests, begun.closing.clone());
        Ok(begun.respond(secrets, failure, world_response))
    }

    async fn fetch_secrets(&self, request: Request<DiscoveryRequest>) -> Answer<DiscoveryResponse> {
        let call = call_of(&request)?;
        let message = request.into_inner();
        let fetched = self
            .app
            .fetch_secrets(&call, &message.type_url, message.resource_names)
            .await;
        answer(
            &call,
            fetched.map(|secrets| DiscoveryResponse {
                version_info: match &secrets[..] {
                    [only] => only.version.clone(),
                    _ => String::new(),
                },
                resources: secrets.into_iter().map(any).collect(),
                type_url: SECRET_TYPE.to_owned(),
                nonce: String::new(),
            }),
        )
    }
}

/// A stream that begins.
struct Begun {
    call: Call,
    certificate: Option<crate::app::ClientCertificate>,
    closing: CancellationToken,
}

impl Begun {
    fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        let peer = request.extensions().get::<Arc<Peer>>();
        let peer = peer.ok_or_else(|| Status::internal("the caller has no address"))?;
        Ok(Self {
            call: call_of(request)?,
            certificate: certificate_of(request),
            closing: peer.closing.clone(),
        })
    }

    fn respond<T: 'static>(
        self,
        secrets: Secrets,
        failure: Failure,
        render: impl Fn(SecretsResponse) -> T + Send + 'static,
    ) -> Response<Answers<T>> {
        let request_id = self.call.request_id;
        let responses = secrets.map(move |response| match response {
            Ok(response) => Ok(render(response)),
            Err(error) => Err(status(request_id, &error)),
        });
        let last = tokio_stream::once(()).filter_map(move |()| failure.status(request_id).map(Err));
        Response::new(Box::pin(responses.chain(last)))
    }
}

/// Why the requests of a stream ended, if a request could not be read.
#[derive(Clone, Default)]
struct Failure(Arc<OnceLock<Status>>);

impl Failure {
    fn status(&self, request_id: RequestId) -> Option<Status> {
        let failed = self.0.get()?;
        if !failed.details().is_empty() {
            // A refusal of certkeep.
            return Some(failed.clone());
        }
        match failed.code() {
            Code::Internal | Code::InvalidArgument => Some(refusal(request_id, Refusal::MessageMalformed)),
            Code::OutOfRange | Code::ResourceExhausted => Some(refusal(request_id, Refusal::MessageTooLarge)),
            // The caller has left.
            _ => None,
        }
    }
}

/// The requests, until one can't be read.
fn parsed<T: Send + 'static>(
    requests: Streaming<T>,
    parse: impl Fn(T) -> SecretsRequest + Send + 'static,
) -> (impl Stream<Item = SecretsRequest> + Send + Unpin + 'static, Failure) {
    let failure = Failure::default();
    let noted = failure.clone();
    let requests = requests.map_while(move |request| match request {
        Ok(request) => Some(parse(request)),
        Err(status) => {
            let _ = noted.0.set(status);
            None
        }
    });
    (Box::pin(requests), failure)
}

fn world_request(request: DiscoveryRequest) -> SecretsRequest {
    SecretsRequest {
        proxy: request.node.map(proxy),
        type_url: request.type_url,
        subscribe: Subscribe::All(request.resource_names),
        nonce: request.response_nonce,
        refusal: request.error_detail.map(|error| error.message),
    }
}

fn delta_request(request: DeltaDiscoveryRequest) -> SecretsRequest {
    SecretsRequest {
        proxy: request.node.map(proxy),
        type_url: request.type_url,
        subscribe: Subscribe::Changes {
            subscribe: request.resource_names_subscribe,
            unsubscribe: request.resource_names_unsubscribe,
            known: request.initial_resource_versions,
        },
        nonce: request.response_nonce,
        refusal: request.error_detail.map(|error| error.message),
    }
}

fn proxy(node: Node) -> Proxy {
    let version = match node.user_agent_version_type {
        Some(UserAgentVersionType::UserAgentVersion(text)) => text,
        Some(UserAgentVersionType::UserAgentBuildVersion(build)) => build
            .version
            .map(|version| format!("{}.{}.{}", version.major_number, version.minor_number, version.patch))
            .unwrap_or_default(),
        None => String::new(),
    };
    let user_agent = match version.as_str() {
        "" => node.user_agent_name,
        version => format!("{}/{version}", node.user_agent_name),
    };
    Proxy {
        id: node.id,
        user_agent,
    }
}

fn world_response(response: SecretsResponse) -> DiscoveryResponse {
    // In this form nothing is removed.
    let (version_info, resources) = match response.content {
        SecretOrRemoved::Secret(secret) => (secret.version.clone(), vec![any(secret)]),
        SecretOrRemoved::Removed(_) => (String::new(), Vec::new()),
    };
    DiscoveryResponse {
        version_info,
        resources,
        type_url: SECRET_TYPE.to_owned(),
        nonce: response.nonce,
    }
}

fn delta_response(response: SecretsResponse) -> DeltaDiscoveryResponse {
    let (resources, removed_resources) = match response.content {
        SecretOrRemoved::Secret(secret) => {
            let resource = Resource {
                version: secret.version.clone(),
                name: secret.name.clone(),
                resource: Some(any(secret)),
            };
            (vec![resource], Vec::new())
        }
        SecretOrRemoved::Removed(name) => (Vec::new(), vec![name]),
    };
    DeltaDiscoveryResponse {
        system_version_info: String::new(),
        resources,
        type_url: SECRET_TYPE.to_owned(),
        nonce: response.nonce,
        removed_resources,
    }
}

fn any(secret: SentSecret) -> Any {
    let data = |octets: Vec<u8>| {
        Some(DataSource {
            specifier: Some(Specifier::InlineBytes(octets)),
        })
    };
    let content = match secret.content {
        SecretContent::KeyPair {
            certificate_chain,
            private_key,
        } => Type::TlsCertificate(TlsCertificate {
            certificate_chain: data(certificate_chain.into_bytes()),
            private_key: data(private_key.expose().to_vec()),
        }),
        SecretContent::Authorities(pem) => Type::ValidationContext(CertificateValidationContext {
            trusted_ca: data(pem.into_bytes()),
        }),
    };
    let message = Secret {
        name: secret.name,
        r#type: Some(content),
    };
    Any {
        type_url: SECRET_TYPE.to_owned(),
        value: message.encode_to_vec(),
    }
}
