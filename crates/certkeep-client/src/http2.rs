//! The start of an HTTP/2 connection (RFC 9113, 3.4), before any call.
//!
//! A server that speaks another protocol would get the call and answer with bytes that tell nothing about the call. So the client sends the
//! preface and empty settings first, and hands the connection to the HTTP/2 library when the server has acknowledged them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::connect_error::ConnectFault;
use crate::endpoint::Endpoint;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const EMPTY_SETTINGS: [u8; HEAD_LEN] = [0, 0, 0, SETTINGS, 0, 0, 0, 0, 0];
const SETTINGS_ACKNOWLEDGED: [u8; HEAD_LEN] = [0, 0, 0, SETTINGS, 1, 0, 0, 0, 0];
const HEAD_LEN: usize = 9;
const SETTINGS: u8 = 4;
/// More than any server says before it acknowledges settings.
const MAX_KEPT: usize = 64 * 1024;
/// An alert of TLS 1.0 to 1.3 (RFC 8446, 5.1).
const TLS_ALERT: &[u8] = &[21, 3];

/// A connection whose server speaks HTTP/2.
pub(crate) struct Http2<S> {
    io: S,
    /// The octets of the preface that the HTTP/2 library has not written yet, and the server already has.
    preface_left: usize,
    /// What the server said, and the library has not read.
    said: Vec<u8>,
    read: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Http2<S> {
    /// Waits until the server speaks HTTP/2.
    pub(crate) async fn begin(mut io: S) -> Result<Self, Fault> {
        // A server that closes the connection may have said why.
        let _: io::Result<()> = async {
            io.write_all(PREFACE).await?;
            io.write_all(&EMPTY_SETTINGS).await?;
            io.flush().await
        }
        .await;
        let mut said = Vec::new();
        loop {
            let start = said.len();
            read_up_to(&mut io, HEAD_LEN, &mut said).await.map_err(Fault::Io)?;
            let head = &said[start..];
            if start == 0 {
                check_first(head)?;
            }
            if head == SETTINGS_ACKNOWLEDGED {
                said.truncate(start);
                return Ok(Self {
                    io,
                    preface_left: PREFACE.len(),
                    said,
                    read: 0,
                });
            }
            let [a, b, c, ..] = *head else {
                return Err(Fault::Closed);
            };
            let len = u32::from_be_bytes([0, a, b, c]) as usize;
            if said.len() + len > MAX_KEPT {
                return Err(Fault::OtherProtocol);
            }
            let end = said.len() + len;
            read_up_to(&mut io, len, &mut said).await.map_err(Fault::Io)?;
            if said.len() < end {
                return Err(Fault::Closed);
            }
        }
    }
}

/// Why a server does not speak HTTP/2.
pub(crate) enum Fault {
    Io(io::Error),
    Closed,
    Tls,
    OtherProtocol,
}

impl Fault {
    pub(crate) fn of(self, endpoint: &Endpoint) -> ConnectFault {
        match self {
            Self::Io(error) => crate::tls::fault(error, endpoint),
            Self::Closed => ConnectFault::Closed,
            Self::Tls => ConnectFault::SpeaksTls(endpoint.with_other_scheme()),
            Self::OtherProtocol => ConnectFault::OtherProtocol,
        }
    }
}

/// The first frame of a server is its settings.
fn check_first(head: &[u8]) -> Result<(), Fault> {
    match head {
        [] => Err(Fault::Closed),
        [_, _, _, SETTINGS, 0, 0, 0, 0, 0] => Ok(()),
        _ if head.starts_with(TLS_ALERT) => Err(Fault::Tls),
        _ => Err(Fault::OtherProtocol),
    }
}

/// Reads so many octets, or fewer if the stream ends.
async fn read_up_to(io: &mut (impl AsyncRead + Unpin), len: usize, to: &mut Vec<u8>) -> io::Result<()> {
    io.take(len as u64).read_to_end(to).await.map(|_| ())
}

impl<S: AsyncRead + Unpin> AsyncRead for Http2<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let rest = self.said.get(self.read..).unwrap_or_default();
        if rest.is_empty() {
            return Pin::new(&mut self.io).poll_read(context, buf);
        }
        let len = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..len]);
        self.read += len;
        if self.read == self.said.len() {
            self.said = Vec::new();
            self.read = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Http2<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.preface_left > 0 {
            let len = self.preface_left.min(buf.len());
            self.preface_left -= len;
            return Poll::Ready(Ok(len));
        }
        Pin::new(&mut self.io).poll_write(context, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
