//! A listening socket: accepts connections within its limits, over TLS if that is configured.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use super::newcomers::{Newcomer, Newcomers};
use super::refusals::{Refusals, Refused};
use super::tls::Tls;
use crate::app::{ClientCertificate, Source};
use crate::telemetry::Seldom;
use crate::telemetry::metrics::{self, OpenConnection};

/// The pause after the system refused to accept, for example because no file descriptor was free.
const PAUSE: Duration = Duration::from_millis(100);

/// The limits of a listener's connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    /// Connections at once. Further connections wait.
    pub(super) max: usize,
    /// Connections at once without an authenticated call. One more closes the oldest.
    pub(super) max_newcomers: usize,
    /// The time until the first authenticated call, with the handshake.
    pub(super) newcomer_time: Duration,
    /// Connections at once from one address. Further connections are closed. `None`: no limit.
    pub(super) max_per_address: Option<usize>,
}

/// A bound address. Connections wait in the system's queue until they are accepted.
pub(super) struct Listener {
    /// The listener's name in metrics.
    name: &'static str,
    tcp: TcpListener,
    tls: Option<Arc<Tls>>,
    permits: Arc<Semaphore>,
    newcomers: Arc<Newcomers>,
    addresses: Option<Arc<Addresses>>,
    refusals: Arc<Refusals>,
    accept_failures: Seldom,
}

impl Listener {
    /// Binds the address.
    pub(super) async fn bind(
        name: &'static str,
        address: SocketAddr,
        tls: Option<Arc<Tls>>,
        places: Places,
    ) -> io::Result<Self> {
        let refusals = Arc::new(Refusals::new(name));
        Ok(Self {
            name,
            tcp: TcpListener::bind(address).await?,
            tls,
            permits: Arc::new(Semaphore::new(places.max)),
            newcomers: Newcomers::new(places.max_newcomers, places.newcomer_time, refusals.clone()),
            addresses: places.max_per_address.map(Addresses::new),
            refusals,
            accept_failures: Seldom::new(),
        })
    }

    /// The bound address.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// The count of refused connections.
    pub(super) fn refusals(&self) -> Arc<Refusals> {
        self.refusals.clone()
    }

    /// The next connection, before its handshake.
    pub(super) async fn accept(&self) -> Accepted {
        loop {
            let accepted = async {
                let permit = match self.permits.clone().try_acquire_owned() {
                    Ok(permit) => permit,
                    Err(_) => {
                        // Callers that wait for a connection see nothing but silence, so the operator must hear of them.
                        self.refusals.count(Refused::Full);
                        self.permits.clone().acquire_owned().await.map_err(io::Error::other)?
                    }
                };
                // Before the connection is accepted, because whoever waits here may be cancelled.
                self.newcomers.room().await;
                let (stream, peer) = self.tcp.accept().await?;
                let address = match &self.addresses {
                    None => None,
                    Some(addresses) => match addresses.count(peer.ip()) {
                        Some(counted) => Some(counted),
                        None => {
                            self.refusals.count(Refused::Address);
                            return Ok(None);
                        }
                    },
                };
                Ok::<_, io::Error>(Some(Accepted {
                    stream,
                    peer,
                    tls: self.tls.as_deref().map(Tls::acceptor),
                    newcomer: self.newcomers.enter(),
                    open: Open {
                        _counted: OpenConnection::count(self.name),
                        _permit: permit,
                        _address: address,
                    },
                }))
            };
            match accepted.await {
                Ok(Some(accepted)) => return accepted,
                Ok(None) => {}
                Err(error) => {
                    if let Some(failures) = self.accept_failures.count() {
                        tracing::warn!(listener = self.name, failures, %error, "accepting a connection failed");
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// The number of connections of each address.
struct Addresses {
    max: usize,
    connections: Mutex<HashMap<Source, usize>>,
}

impl Addresses {
    fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            connections: Mutex::default(),
        })
    }

    /// Counts a connection until the value is dropped. `None`: the address has as many as it may have.
    fn count(self: &Arc<Self>, address: IpAddr) -> Option<CountedAddress> {
        let source = Source::of(address);
        let mut connections = self.lock();
        let count = connections.entry(source).or_default();
        if *count >= self.max {
            return None;
        }
        *count += 1;
        Some(CountedAddress {
            addresses: self.clone(),
            source,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Source, usize>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct CountedAddress {
    addresses: Arc<Addresses>,
    source: Source,
}

impl Drop for CountedAddress {
    fn drop(&mut self) {
        let mut connections = self.addresses.lock();
        if let Some(count) = connections.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                connections.remove(&self.source);
            }
        }
    }
}

/// A connection before its handshake.
pub(super) struct Accepted {
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    newcomer: Newcomer,
    open: Open,
}

impl Accepted {
    /// Does the TLS handshake and waits for the caller's first byte. `None`: the caller failed or was too slow.
    pub(super) async fn handshake(self) -> Option<(Connection, Newcomer)> {
        let Self {
            stream,
            peer,
            tls,
            newcomer,
            open,
        } = self;
        let shaken = tokio::select! {
            shaken = handshake(stream, tls) => shaken,
            _ = newcomer.must_leave() => return None,
        };
        match shaken {
            Ok((stream, certificate)) => {
                let connection = Connection {
                    stream,
                    peer,
                    certificate,
                    _open: open,
                };
                return Some((connection, newcomer));
            }
            Err(error) => {
                if is_about_certificate(&error) {
                    metrics::authentication_failed("client_certificate");
                }
                tracing::debug!(%peer, %error, "handshake failed");
            }
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
    _address: Option<CountedAddress>,
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
