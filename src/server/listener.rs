//! Connections: accepted up to a limit, over TLS if that is configured.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use crate::telemetry::metrics::OpenConnection;

/// A caller that takes longer to shake hands is let go.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// After the system refused to accept, for want of file descriptors, say.
const PAUSE: Duration = Duration::from_millis(100);

/// Listens; nobody is answered before [`serve`](Self::serve).
pub(super) struct Listener {
    tcp: TcpListener,
    tls: Option<TlsAcceptor>,
    max_connections: usize,
}

impl Listener {
    pub(super) async fn bind(
        address: SocketAddr,
        tls: Option<TlsAcceptor>,
        max_connections: usize,
    ) -> io::Result<Self> {
        Ok(Self {
            tcp: TcpListener::bind(address).await?,
            tls,
            max_connections,
        })
    }

    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// The connections, from now on. Dropping the stream closes the listener.
    pub(super) fn serve(self) -> ReceiverStream<io::Result<Connection>> {
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            tokio::select! {
                () = self.accept(&sender) => {}
                () = sender.closed() => {}
            }
        });
        ReceiverStream::new(receiver)
    }

    async fn accept(&self, sender: &mpsc::Sender<io::Result<Connection>>) {
        let places = Arc::new(Semaphore::new(self.max_connections));
        // The semaphore is never closed.
        while let Ok(place) = places.clone().acquire_owned().await {
            match self.tcp.accept().await {
                Ok((stream, _)) => {
                    let (tls, sender) = (self.tls.clone(), sender.clone());
                    // A slow handshake holds up nobody else.
                    tokio::spawn(async move {
                        if let Some(stream) = shake_hands(stream, tls).await {
                            // A receiver that is gone serves no more.
                            let _counted = OpenConnection::count();
                            let _ = sender
                                .send(Ok(Connection {
                                    stream,
                                    _counted,
                                    _place: place,
                                }))
                                .await;
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
async fn shake_hands(stream: TcpStream, tls: Option<TlsAcceptor>) -> Option<Stream> {
    // Without it small answers wait; with an error the connection is dead anyhow.
    let _ = stream.set_nodelay(true);
    let shaking = async {
        let Some(tls) = tls else {
            // Whoever says nothing shall not hold a place.
            stream.peek(&mut [0]).await?;
            return Ok(Stream::Plain(stream));
        };
        let mut stream = BufReader::new(tls.accept(stream).await?);
        stream.fill_buf().await?;
        Ok::<_, io::Error>(Stream::Tls(Box::new(stream)))
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

/// A connection of a caller; it holds its place until it is dropped.
pub(super) struct Connection {
    stream: Stream,
    _counted: OpenConnection,
    _place: OwnedSemaphorePermit,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<BufReader<TlsStream<TcpStream>>>),
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

trait Duplex: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

impl Connection {
    fn stream(&mut self) -> Pin<&mut dyn Duplex> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream),
            Stream::Tls(stream) => Pin::new(stream.as_mut()),
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
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }
}
