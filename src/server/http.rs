//! Serves HTTP on a listener: the limits of each connection, its end and the drain. The same for every door.

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt};

use super::listener::{Connection, Listener};
use crate::digest;
use crate::peer::Peer;

/// A caller that has not answered a ping by then is gone.
const KEEPALIVE_TIME: Duration = Duration::from_secs(10);
/// See [`Limits::close_time`]. No unary call may take as long.
pub(super) const CLOSE_TIME: Duration = Duration::from_secs(40);

/// What a door speaks. TLS offers it as ALPN.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

impl Protocol {
    /// The protocol's name in ALPN (RFC 7301 6).
    pub(super) fn alpn(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
        }
    }
}

/// The limits of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Calls at once. Further calls wait.
    pub(super) max_streams: u32,
    /// The age at which a connection starts to close, give or take 10 %, so that connections of one moment do not all come back
    /// in one moment.
    pub(super) max_age: Duration,
    /// A closing connection ends after this time, with all calls that are still open.
    pub(super) close_time: Duration,
    /// The interval of pings on a silent connection.
    pub(super) keepalive: Duration,
}

impl Limits {
    fn builder(self, protocol: Protocol) -> Builder<TokioExecutor> {
        let mut builder = Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new());
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.max_streams)
            .keep_alive_interval(self.keepalive)
            .keep_alive_timeout(KEEPALIVE_TIME);
        match protocol {
            Protocol::Http1 => builder.http1_only(),
            Protocol::Http2 => builder.http2_only(),
        }
    }
}

/// Serves until `stop` is cancelled. Then it accepts no more connections and returns when the calls under way are answered and all
/// connections are closed. Dropping the future closes all connections at once.
pub(super) async fn serve<S, B>(
    listener: Listener,
    protocol: Protocol,
    limits: Limits,
    service: S,
    stop: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let builder = limits.builder(protocol);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (builder, service, stop) = (builder.clone(), service.clone(), stop.clone());
                // A slow handshake delays no other connection.
                connections.spawn(async move {
                    let connection = tokio::select! {
                        connection = accepted.handshake() => connection,
                        () = stop.cancelled() => None,
                    };
                    if let Some(connection) = connection {
                        serve_connection(connection, &builder, limits, service, &stop).await;
                    }
                });
            }
            Some(_) = connections.join_next() => {}
            () = stop.cancelled() => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn serve_connection<S, B>(
    mut connection: Connection,
    builder: &Builder<TokioExecutor>,
    limits: Limits,
    service: S,
    stop: &CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let peer = Arc::new(Peer {
        address: connection.peer().ip().to_canonical(),
        certificate: connection.take_certificate(),
        closing: stop.child_token(),
    });
    let (address, closing) = (peer.address, peer.closing.clone());
    let service = service.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        request
    });
    let mut serving =
        std::pin::pin!(builder.serve_connection(TokioIo::new(connection), TowerToHyperService::new(service)));
    let served = tokio::select! {
        served = serving.as_mut() => Some(served),
        () = tokio::time::sleep(with_jitter(limits.max_age)) => None,
        () = stop.cancelled() => None,
    };
    let served = match served {
        Some(served) => Ok(served),
        None => {
            closing.cancel();
            serving.as_mut().graceful_shutdown();
            tokio::time::timeout(limits.close_time, serving).await
        }
    };
    match served {
        Ok(Ok(())) => {}
        // The caller's end, mostly.
        Ok(Err(error)) => tracing::debug!(%address, %error, "a connection failed"),
        Err(_) => tracing::info!(%address, "closed a connection with open streams at the end of its time to close"),
    }
}

/// 90 % to 110 % of the time.
fn with_jitter(time: Duration) -> Duration {
    // Without random numbers there is no jitter.
    let [random] = digest::random().unwrap_or([128]);
    time.mul_f64(0.9 + 0.2 * f64::from(random) / 255.0)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// How long a connection with an endless call lives.
    async fn lifetime(stop: CancellationToken) -> Duration {
        let limits = Limits {
            max_streams: 10,
            max_age: Duration::from_millis(500),
            close_time: Duration::from_millis(500),
            keepalive: Duration::from_secs(60),
        };
        let listener = Listener::bind("test", ([127, 0, 0, 1], 0).into(), None, 10)
            .await
            .unwrap();
        let address = listener.address().unwrap();
        let endless = tower::service_fn(|_: Request<Incoming>| std::future::pending::<Result<Response<String>, _>>());
        let serving = tokio::spawn(serve(listener, Protocol::Http1, limits, endless, stop.clone()));
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let started = std::time::Instant::now();
        assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0, "the call is not answered");
        let lived = started.elapsed();
        stop.cancel();
        serving.await.unwrap();
        lived
    }

    #[tokio::test]
    async fn a_connection_ends_after_its_age_and_its_time_to_close() {
        let lived = lifetime(CancellationToken::new()).await;
        assert!(
            lived >= Duration::from_millis(900) && lived < Duration::from_secs(5),
            "{lived:?}"
        );
    }

    #[tokio::test]
    async fn a_stop_ends_a_connection_before_its_age() {
        let stop = CancellationToken::new();
        let stopping = stop.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            stopping.cancel();
        });
        let lived = lifetime(stop).await;
        assert!(
            lived >= Duration::from_millis(550) && lived < Duration::from_secs(5),
            "{lived:?}"
        );
    }

    #[test]
    fn jitter_is_a_tenth_at_most_and_differs() {
        let ages: std::collections::BTreeSet<_> = (0..100).map(|_| with_jitter(Duration::from_secs(100))).collect();
        assert!(ages.len() > 10);
        assert!(ages.first() >= Some(&Duration::from_secs(90)) && ages.last() <= Some(&Duration::from_secs(110)));
    }
}
