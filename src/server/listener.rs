//! A listening socket: accepts connections up to a limit, over TLS if that is configured.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use super::tls::Tls;
use crate::app::ClientCertificate;
use crate::telemetry::metrics::{self, OpenConnection};

/// A caller that needs longer for its handshake is disconnected.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// While all connections are in use, the log says so this often.
const FULL_LOG_PAUSE: Duration = Duration::from_secs(60);
/// The pause after the system refused to accept, for example because no file descriptor was free.
const PAUSE: Duration = Duration::from_millis(100);

/// A bound address. Connections wait in the system's queue until they are accepted.
pub(super) struct Listener {
    /// The listener's name in metrics.
    name: &'static str,
    tcp: TcpListener,
    tls: Option<Arc<Tls>>,
    permits: Arc<Semaphore>,
    max_connections: usize,
    /// When the log last said that all connections are in use.
    full_logged: Mutex<Option<Instant>>,
}

impl Listener {
    /// Binds the address. At most `max_connections` are open at once; further connections wait.
    pub(super) async fn bind(
        name: &'static str,
        address: SocketAddr,
        tls: Option<Arc<Tls>>,
        max_connections: usize,
    ) -> io::Result<Self> {
        Ok(Self {
            name,
            tcp: TcpListener::bind(address).await?,
            tls,
            permits: Arc::new(Semaphore::new(max_connections)),
            max_connections,
            full_logged: Mutex::new(None),
        })
    }

    /// The bound address.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Callers that wait for a connection see nothing but silence, so the operator must hear of them.
    fn log_full(&self) {
        let mut logged = self.full_logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.is_none_or(|logged| logged.elapsed() >= FULL_LOG_PAUSE) {
            *logged = Some(Instant::now());
            let (listener, max_connections) = (self.name, self.max_connections);
            tracing::warn!(listener, max_connections, "all connections are in use: new ones wait");
        }
    }

    /// The next connection, before its handshake.
    pub(super) async fn accept(&self) -> Accepted {
        loop {
            let accepted = async {
                let permit = match self.permits.clone().try_acquire_owned() {
                    Ok(permit) => permit,
                    Err(_) => {
                        self.log_full();
                        self.permits.clone().acquire_owned().await.map_err(io::Error::other)?
                    }
                };
                let (stream, peer) = self.tcp.accept().await?;
                Ok::<_, io::Error>(Accepted {
                    stream,
                    peer,
                    tls: self.tls.as_deref().map(Tls::acceptor),
                    open: Open {
                        _counted: OpenConnection::count(self.name),
                        _permit: permit,
                    },
                })
            };
            match accepted.await {
                Ok(accepted) => return accepted,
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection failed");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// A connection before its handshake.
pub(super) struct Accepted {
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    open: Open,
}

impl Accepted {
    /// Does the TLS handshake and waits for the caller's first byte. `None`: the caller failed or was too slow.
    pub(super) async fn handshake(self) -> Option<Connection> {
        let Self {
            stream,
            peer,
            tls,
            open,
        } = self;
        match tokio::time::timeout(HANDSHAKE_TIME, handshake(stream, tls)).await {
            Ok(Ok((stream, certificate))) => {
                return Some(Connection {
                    stream,
                    peer,
                    certificate,
                    _open: open,
                });
            }
            Ok(Err(error)) => {
                if is_about_certificate(&error) {
                    metrics::authentication_failed("client_certificate");
                }
                tracing::debug!(%peer, %error, "handshake failed");
            }
            Err(_) => tracing::debug!(%peer, "handshake timed out"),
        }
        None
    }
}

async fn handshake(stream: TcpStream, tls: Option<TlsAcceptor>) -> io::Result<(Transport, Option<ClientCertificate>)> {
    // Without it, small answers wait. If this fails, the connection is broken and the next read says so.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else {
        // A silent caller must not keep a connection open.
        stream.peek(&mut [0]).await?;
        return Ok((Either::Left(stream), None));
    };
    let stream = tls.accept(stream).await?;
    let certificate = client_certificate(&stream)?;
    let mut stream = BufReader::new(stream);
    stream.fill_buf().await?;
    Ok((Either::Right(Box::new(stream)), certificate))
}

/// The verified certificate of the caller. A certificate whose names cannot be read is refused like one that does not verify.
fn client_certificate(stream: &TlsStream<TcpStream>) -> io::Result<Option<ClientCertificate>> {
    let Some([leaf, ..]) = stream.get_ref().1.peer_certificates() else {
        return Ok(None);
    };
    match ClientCertificate::read(leaf) {
        Ok(certificate) => Ok(Some(certificate)),
        Err(_) => Err(io::Error::other(rustls::Error::InvalidCertificate(
            rustls::CertificateError::BadEncoding,
        ))),
    }
}

/// Whether the handshake failed because the client certificate did not verify or cannot be read.
fn is_about_certificate(error: &io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    matches!(cause, Some(rustls::Error::InvalidCertificate(_)))
}

type Transport = Either<TcpStream, Box<BufReader<TlsStream<TcpStream>>>>;

/// A caller's connection. It counts against the limit until it is dropped.
pub(super) struct Connection {
    stream: Transport,
    peer: SocketAddr,
    certificate: Option<ClientCertificate>,
    _open: Open,
}

struct Open {
    _counted: OpenConnection,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The certificate that the caller proved in the handshake.
    pub(super) fn take_certificate(&mut self) -> Option<ClientCertificate> {
        self.certificate.take()
    }

    fn stream(&mut self) -> Pin<&mut Transport> {
        Pin::new(&mut self.stream)
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }
}
