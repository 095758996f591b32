//! Connections: accepted up to a limit, over TLS if that is configured.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;
use tonic::transport::server::Connected;

use crate::telemetry::metrics::OpenConnection;

/// A caller that takes longer to shake hands is let go.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// After the system refused to accept, for want of file descriptors, say.
const PAUSE: Duration = Duration::from_millis(100);

/// Listens; nobody is answered before [`serve`](Self::serve).
pub struct Listener {
    tcp: TcpListener,
    tls: Option<TlsAcceptor>,
    max_connections: usize,
}

impl Listener {
    /// Takes the address. At most so many connections are open at once; the next ones wait.
    pub async fn bind(address: SocketAddr, tls: Option<TlsAcceptor>, max_connections: usize) -> io::Result<Self> {
        Ok(Self {
            tcp: TcpListener::bind(address).await?,
            tls,
            max_connections,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// The connections from now on. The listener closes when this stream and all clones of it are dropped.
    pub fn serve(self) -> Connections {
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            tokio::select! {
                () = self.accept(&sender) => {}
                () = sender.closed() => {}
            }
        });
        Connections(Arc::new(Mutex::new(receiver)))
    }

    async fn accept(&self, to: &mpsc::Sender<io::Result<Connection>>) {
        let permits = Arc::new(Semaphore::new(self.max_connections));
        // The semaphore is never closed.
        while let Ok(permit) = permits.clone().acquire_owned().await {
            match self.tcp.accept().await {
                Ok((stream, peer)) => {
                    let (tls, to) = (self.tls.clone(), to.clone());
                    // A slow handshake delays no other connection.
                    tokio::spawn(async move {
                        if let Some(stream) = handshake(stream, tls).await {
                            let connection = Connection {
                                stream,
                                peer,
                                _counted: OpenConnection::count(),
                                _permit: permit,
                            };
                            // An error means that nobody serves any more.
                            let _ = to.send(Ok(connection)).await;
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// A connection over which the caller has said something; `None` if it does not in time, or no TLS.
async fn handshake(stream: TcpStream, tls: Option<TlsAcceptor>) -> Option<Transport> {
    let shaking = async {
        // Without it small answers wait; with an error the connection is dead anyhow.
        let _ = stream.set_nodelay(true);
        let Some(tls) = tls else {
            // Whoever says nothing shall not hold a place.
            stream.peek(&mut [0]).await?;
            return Ok(Transport::Plain(stream));
        };
        let mut stream = BufReader::new(tls.accept(stream).await?);
        stream.fill_buf().await?;
        Ok::<_, io::Error>(Transport::Tls(Box::new(stream)))
    };
    match tokio::time::timeout(HANDSHAKE_TIME, shaking).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            tracing::debug!(%error, "no connection was made");
            None
        }
        Err(_) => {
            tracing::debug!("a caller said nothing in time");
            None
        }
    }
}

/// The connections that callers make. Each goes to one of the clones.
#[derive(Clone)]
pub struct Connections(Arc<Mutex<mpsc::Receiver<io::Result<Connection>>>>);

impl Stream for Connections {
    type Item = io::Result<Connection>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).poll_recv(cx)
    }
}

/// A connection of a caller; it counts against the limit until it is dropped.
pub struct Connection {
    stream: Transport,
    peer: SocketAddr,
    _counted: OpenConnection,
    _permit: OwnedSemaphorePermit,
}

enum Transport {
    Plain(TcpStream),
    Tls(Box<BufReader<TlsStream<TcpStream>>>),
}

impl Connected for Connection {
    type ConnectInfo = SocketAddr;

    fn connect_info(&self) -> SocketAddr {
        self.peer
    }
}

trait Duplex: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

impl Connection {
    fn stream(&mut self) -> Pin<&mut dyn Duplex> {
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream),
            Transport::Tls(stream) => Pin::new(stream.as_mut()),
        }
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
        match &self.stream {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }
}
