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
use super::newcomers::{Leave, Newcomer};
use super::refusals::{Refusals, Refused};
use crate::digest;
use crate::peer::Peer;

/// A caller that has not answered a ping by then is gone.
const KEEPALIVE_TIME: Duration = Duration::from_secs(10);
/// See [`Limits::close_time`]. No unary call may take as long.
pub(super) const CLOSE_TIME: Duration = Duration::from_secs(40);
/// A connection without an authenticated call closes in this time.
const NEWCOMER_CLOSE_TIME: Duration = Duration::from_secs(1);
/// The time for the headers of an HTTP/1 request, and between two requests.
const HEADER_TIME: Duration = Duration::from_secs(10);
/// See [`Limits::max_head_len`].
pub(super) const MAX_HEAD_LEN: usize = 16 * 1024;
/// The bytes of requests on one HTTP/2 connection that wait until their calls read them: the smallest number (RFC 9113 6.9.2).
const WINDOW: u32 = 65_535;
/// Streams that the caller resets before the server has seen them. More of them close the connection.
const MAX_EARLY_RESETS: usize = 20;
/// Streams that the server resets because of the caller's errors, in the whole life of the connection. More of them close it.
const MAX_ERROR_RESETS: usize = 1024;

/// What a door speaks. TLS offers it as ALPN.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Protocol {
    Http1,
    Http2,
    /// The first octets of a connection tell which one.
    Both,
}

impl Protocol {
    /// The names in ALPN (RFC 7301 6), the preferred one first.
    pub(super) fn alpn(self) -> Vec<Vec<u8>> {
        let (http1, http2) = (b"http/1.1".to_vec(), b"h2".to_vec());
        match self {
            Self::Http1 => vec![http1],
            Self::Http2 => vec![http2],
            Self::Both => vec![http2, http1],
        }
    }
}

/// The limits of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The size of the headers of a request, decompressed, with the request line and CONTINUATION frames.
    pub(super) max_head_len: usize,
    /// Calls at once. Further calls wait.
    pub(super) max_streams: u32,
    /// The age at which a connection starts to close, give or take 10 %, so that connections of one moment do not all come back
    /// in one moment.
    pub(super) max_age: Duration,
    /// A closing connection ends after this time, with all calls that are still open.
    pub(super) close_time: Duration,
    /// The interval of pings on a silent connection.
    pub(super) keepalive: Duration,
    /// A caller that does not take an answer within this time loses its connection.
    pub(super) send_time: Duration,
}

impl Limits {
    fn builder(self, protocol: Protocol) -> Builder<TokioExecutor> {
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIME)
            .max_buf_size(self.max_head_len);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.max_streams)
            .initial_connection_window_size(WINDOW)
            .initial_stream_window_size(WINDOW)
            .max_header_list_size(u32::try_from(self.max_head_len).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(MAX_EARLY_RESETS)
            .max_local_error_reset_streams(MAX_ERROR_RESETS)
            .keep_alive_interval(self.keepalive)
            .keep_alive_timeout(KEEPALIVE_TIME);
        match protocol {
            Protocol::Http1 => builder.http1_only(),
            Protocol::Http2 => builder.http2_only(),
            Protocol::Both => builder,
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
    let refusals = listener.refusals();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (builder, service, stop) = (builder.clone(), service.clone(), stop.clone());
                let refusals = refusals.clone();
                // A slow handshake delays no other connection.
                connections.spawn(async move {
                    let connection = tokio::select! {
                        connection = accepted.handshake() => connection,
                        () = stop.cancelled() => None,
                    };
                    if let Some((connection, newcomer)) = connection {
                        serve_connection(connection, newcomer, &builder, limits, service, &stop, &refusals).await;
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
    newcomer: Newcomer,
    builder: &Builder<TokioExecutor>,
    limits: Limits,
    service: S,
    stop: &CancellationToken,
    refusals: &Refusals,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let address = connection.peer().ip().to_canonical();
    let peer = Arc::new(Peer::new(address, connection.take_certificate(), stop.child_token()));
    let service = {
        let peer = peer.clone();
        service.map_request(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer.clone());
            request
        })
    };
    let mut serving =
        std::pin::pin!(builder.serve_connection(TokioIo::new(connection), TowerToHyperService::new(service)));
    let served = tokio::select! {
        served = serving.as_mut() => Some(served),
        () = tokio::time::sleep(with_jitter(limits.max_age)) => None,
        () = stop.cancelled() => None,
        leave = newcomer.must_leave_unless(&peer.authenticated) => match leave {
            Leave::AtOnce => return,
            Leave::Gracefully => None,
        },
        () = peer.misused.cancelled() => {
            refusals.count(Refused::Misused);
            None
        }
        () = peer.unsent.overdue(limits.send_time) => {
            refusals.count(Refused::Unread);
            return;
        }
    };
    let served = match served {
        Some(served) => Ok(served),
        None => {
            peer.closing.cancel();
            serving.as_mut().graceful_shutdown();
            let close_time = if peer.authenticated.initialized() {
                limits.close_time
            } else {
                limits.close_time.min(NEWCOMER_CLOSE_TIME)
            };
            tokio::time::timeout(close_time, serving).await
        }
    };
    match served {
        Ok(Ok(())) => {}
        // The caller's end, mostly.
        Ok(Err(error)) => tracing::debug!(%address, %error, "a connection failed"),
        Err(_) if peer.authenticated.initialized() => {
            tracing::info!(%address, "closed a connection with open streams at the end of its time to close");
        }
        Err(_) => {}
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

    use super::super::listener::Places;
    use super::*;

    /// How long a connection with an endless call lives.
    async fn lifetime(stop: CancellationToken) -> Duration {
        let limits = Limits {
            max_head_len: MAX_HEAD_LEN,
            max_streams: 10,
            max_age: Duration::from_millis(500),
            close_time: Duration::from_millis(500),
            keepalive: Duration::from_secs(60),
            send_time: Duration::from_secs(60),
        };
        let places = Places {
            max: 10,
            max_newcomers: 10,
            newcomer_time: Duration::from_secs(60),
            max_per_address: None,
        };
        let listener = Listener::bind("test", ([127, 0, 0, 1], 0).into(), None, places)
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
