//! A channel that sends the access key with each call, and says in the answer which key a server refused.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use tonic::Status;
use tonic::body::Body;
use tonic::metadata::{Binary, MetadataValue};
use tower_service::Service;

use crate::connect_error::ConnectFault;
use crate::connector::Opening;

/// Only this channel sets them: where the refused access key is from, and which server refused it.
const KEY: &str = "certkeep-refused-key-bin";
const ENDPOINT: &str = "certkeep-refusing-endpoint-bin";
/// UNAUTHENTICATED, as a trailer has it.
const UNAUTHENTICATED: &str = "16";

/// The transport of all calls to one service. Clones share one connection.
#[derive(Clone)]
pub struct Channel {
    channel: tonic::transport::Channel,
    authorization: Option<HeaderValue>,
    /// Where the access key is from.
    key: HeaderValue,
    target: Arc<Opening>,
}

fn note(text: &str) -> HeaderValue {
    let value = MetadataValue::<Binary>::from_bytes(text.as_bytes());
    // Base64 is a valid header.
    HeaderValue::from_bytes(value.as_encoded_bytes()).unwrap_or(HeaderValue::from_static(""))
}

impl Channel {
    pub(crate) fn new(
        channel: tonic::transport::Channel,
        authorization: Option<HeaderValue>,
        key_origin: &str,
        target: Arc<Opening>,
    ) -> Self {
        Self {
            channel,
            authorization,
            key: note(key_origin),
            target,
        }
    }
}

impl Service<http::Request<Body>> for Channel {
    type Response = http::Response<Body>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        let answer = self.channel.call(request);
        let (key, target) = (self.key.clone(), self.target.clone());
        Box::pin(async move {
            let mut answer = answer.await?;
            let status = answer.status().as_u16();
            // A proxy answers with 5xx if it lost the server during the call.
            if !is_grpc(answer.headers()) && status < 500 {
                return Err(target.error(ConnectFault::NotGrpc(status)).into());
            }
            let headers = answer.headers_mut();
            if headers
                .get("grpc-status")
                .is_some_and(|status| status == UNAUTHENTICATED)
            {
                headers.insert(KEY, key);
                headers.insert(ENDPOINT, note(&target.to_string()));
            }
            Ok(answer)
        })
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// Where the access key is from that the server did not accept, and the server. `None`: the error has another cause.
pub fn refused_key(status: &Status) -> Option<[String; 2]> {
    let text = |name| {
        let value = status.metadata().get_bin(name)?.to_bytes().ok()?;
        String::from_utf8(value.to_vec()).ok()
    };
    Some([text(KEY)?, text(ENDPOINT)?])
}
