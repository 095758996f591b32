//! A channel that sends the access key with each call, and says in the answer which key a server refused.

use std::pin::Pin;
use std::task::{Context, Poll};

use http::HeaderValue;
use http::header::AUTHORIZATION;
use tonic::Status;
use tonic::body::Body;
use tonic::metadata::{Binary, MetadataValue};
use tonic::transport::Channel;
use tower::Service;
use zeroize::Zeroizing;

/// Only this channel sets them: where the refused access key is from, and which server refused it.
const KEY: &str = "certkeep-refused-key-bin";
const ENDPOINT: &str = "certkeep-refusing-endpoint-bin";
/// UNAUTHENTICATED, as a trailer has it.
const UNAUTHENTICATED: &str = "16";

#[derive(Clone)]
pub(super) struct AuthorizedChannel {
    channel: Channel,
    authorization: Option<HeaderValue>,
    key: HeaderValue,
    endpoint: HeaderValue,
}

impl AuthorizedChannel {
    /// A channel for this access key, `<id>.<secret>`, or for none. `key` and `endpoint` say where the key is from, and which server
    /// it is for. `None`: the text cannot be sent.
    pub(super) fn new(channel: Channel, text: Option<&str>, key: &str, endpoint: &str) -> Option<Self> {
        let header = |text: &str| {
            let mut value = HeaderValue::from_str(&Zeroizing::new(format!("Bearer {text}"))).ok()?;
            value.set_sensitive(true);
            Some(value)
        };
        let authorization = match text {
            Some(text) => Some(header(text)?),
            None => None,
        };
        let note = |text: &str| {
            let value = MetadataValue::<Binary>::from_bytes(text.as_bytes());
            HeaderValue::from_bytes(value.as_encoded_bytes()).ok()
        };
        Some(Self {
            channel,
            authorization,
            key: note(key)?,
            endpoint: note(endpoint)?,
        })
    }
}

impl Service<http::Request<Body>> for AuthorizedChannel {
    type Response = http::Response<Body>;
    type Error = tonic::transport::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        let answer = self.channel.call(request);
        let (key, endpoint) = (self.key.clone(), self.endpoint.clone());
        Box::pin(async move {
            let mut answer = answer.await?;
            let headers = answer.headers_mut();
            if headers
                .get("grpc-status")
                .is_some_and(|status| status == UNAUTHENTICATED)
            {
                headers.insert(KEY, key);
                headers.insert(ENDPOINT, endpoint);
            }
            Ok(answer)
        })
    }
}

/// Where the access key is from that the server did not accept, and the server. `None`: the error has another cause.
pub(super) fn refused_key(status: &Status) -> Option<[String; 2]> {
    let text = |name| {
        let value = status.metadata().get_bin(name)?.to_bytes().ok()?;
        String::from_utf8(value.to_vec()).ok()
    };
    Some([text(KEY)?, text(ENDPOINT)?])
}
