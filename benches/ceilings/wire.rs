//! One gRPC call over HTTP/2, without a client's layers: bytes out, bytes in, and the status.

use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, Request, Uri};
use prost::Message;
use tokio::net::TcpStream;

use crate::Outcome;

/// The server sends as it likes: no answer waits for the generator's leave.
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 64 * 1024 * 1024;

pub type Connection = SendRequest<Bytes>;

/// A connection, whose frames are moved by a task of the runtime.
pub async fn connect(address: SocketAddr) -> Outcome<Connection> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    let (send, connection) = h2::client::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .handshake(tcp)
        .await?;
    // Its calls fail with it.
    tokio::spawn(connection);
    Ok(send)
}

/// The head of a call of this path by this access key.
pub fn head(path: &str, access_key: &str) -> Outcome<Request<()>> {
    Ok(Request::post(uri(path)?)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", format!("Bearer {access_key}"))
        .body(())?)
}

pub fn uri(path: &str) -> Outcome<Uri> {
    Ok(format!("http://bench{path}").parse()?)
}

/// What stands before a message: that it is not compressed, and its length.
pub const PREFIX: usize = 5;

/// A message as it is sent.
pub fn frame(message: &impl Message) -> Outcome<Bytes> {
    framed(&message.encode_to_vec())
}

/// The bytes of a message as they are sent.
pub fn framed(message: &[u8]) -> Outcome<Bytes> {
    let mut frame = BytesMut::with_capacity(PREFIX + message.len());
    frame.put_u8(0);
    frame.put_u32(message.len().try_into()?);
    frame.put_slice(message);
    Ok(frame.freeze())
}

/// Makes a call; `answer` sees each piece of the answer. Any status but OK is an error.
pub async fn call(
    connection: &Connection,
    head: &Request<()>,
    frame: Bytes,
    mut answer: impl FnMut(&[u8]),
) -> Outcome<()> {
    let mut connection = connection.clone().ready().await?;
    let (response, mut sending) = connection.send_request(head.clone(), false)?;
    sending.send_data(frame, true)?;
    let response = response.await?;
    if response.status() != http::StatusCode::OK {
        return Err(format!("HTTP status {}", response.status()).into());
    }
    let (parts, mut body) = response.into_parts();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        answer(&piece);
    }
    match body.trailers().await? {
        Some(trailers) => check(&trailers),
        // A call that fails at once has its status in the head.
        None => check(&parts.headers),
    }
}

/// Makes a call and reads its answer.
pub async fn ask<M: Message + Default>(connection: &Connection, head: &Request<()>, frame: Bytes) -> Outcome<M> {
    let mut bytes = Vec::new();
    call(connection, head, frame, |piece| bytes.extend_from_slice(piece)).await?;
    Ok(M::decode(bytes.get(PREFIX..).ok_or("the answer holds no message")?)?)
}

fn check(headers: &HeaderMap) -> Outcome<()> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match text("grpc-status") {
        Some("0") => Ok(()),
        status => Err(format!(
            "a call failed with status {}: {}",
            status.unwrap_or("none"),
            text("grpc-message").unwrap_or_default()
        )
        .into()),
    }
}
