//! Opens connections.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tower_service::Service;

use crate::connect_error::{ConnectError, ConnectFault};
use crate::endpoint::Endpoint;
use crate::http2::Http2;
use crate::tls;

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

type BoxedStream = Box<dyn Stream>;

/// Opens connections to one endpoint. A connection is open when the server speaks HTTP/2.
#[derive(Clone)]
pub(crate) struct Connector {
    tcp: HttpConnector,
    target: Arc<Opening>,
}

pub(crate) struct Opening {
    pub(crate) endpoint: Endpoint,
    pub(crate) origin: String,
    /// For https.
    pub(crate) tls: Option<(TlsConnector, ServerName<'static>)>,
    pub(crate) time: Duration,
}

impl Connector {
    pub(crate) fn new(target: Arc<Opening>) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        Self { tcp, target }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Http2<BoxedStream>>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { tcp, target } = self.clone();
        Box::pin(async move {
            let opened = tokio::time::timeout(target.time, target.open(tcp)).await;
            let opened = opened.unwrap_or(Err(ConnectFault::TimedOut(target.time)));
            let stream = opened.map_err(|fault| target.error(fault))?;
            Ok(TokioIo::new(stream))
        })
    }
}

impl std::fmt::Display for Opening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.origin.as_str() {
            "" => write!(f, "{}", self.endpoint),
            origin => write!(f, "{} ({origin})", self.endpoint),
        }
    }
}

impl Opening {
    pub(crate) fn error(&self, fault: ConnectFault) -> ConnectError {
        ConnectError {
            endpoint: self.to_string(),
            fault,
        }
    }

    async fn open(&self, mut tcp: HttpConnector) -> Result<Http2<BoxedStream>, ConnectFault> {
        let connected = tcp.call(self.endpoint.uri().clone()).await;
        let stream = connected.map_err(|error| network(&error))?.into_inner();
        let stream: BoxedStream = match &self.tls {
            None => Box::new(stream),
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await;
                Box::new(stream.map_err(|error| tls::fault(error, &self.endpoint))?)
            }
        };
        Http2::begin(stream).await.map_err(|fault| fault.of(&self.endpoint))
    }
}

/// The cause of an error of the TCP connector.
fn network(error: &(dyn std::error::Error + 'static)) -> ConnectFault {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return match error.raw_os_error() {
                Some(number) => ConnectFault::Network(io::Error::from_raw_os_error(number)),
                // Only the look-up of the name has an error without a number of the operating system.
                None => ConnectFault::NameUnknown,
            };
        }
        cause = error.source();
    }
    ConnectFault::NameUnknown
}
