//! Asks a server whether it accepts sessions, as `pg_isready` does: with the first message of a session.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::access::{DATABASE, ROLE};

/// A server that recovers or shuts down still answers at once.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// An error message is much shorter.
const MESSAGE_MAX: u32 = 8 * 1024;

/// The protocol's version 3.0.
const PROTOCOL: u32 = 3 << 16;

/// `cannot_connect_now`: the server starts, recovers or shuts down.
const CANNOT_CONNECT_NOW: &[u8] = b"57P03";

/// The answer of a server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer {
    /// It accepts sessions, or refuses this one for a reason that is not its own state, for example because all places are taken.
    Accepts,
    /// It starts, recovers, shuts down, or does not answer.
    NotNow,
    /// Its socket does not exist, or nobody listens on it.
    NoSocket,
}

/// Asks the server that listens on `socket`.
pub async fn ask(socket: &Path) -> Answer {
    match timeout(ANSWER_TIMEOUT, begin_session(socket)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            Answer::NoSocket
        }
        // For example, no file descriptor is free, or the server crashed just now.
        Ok(Err(_)) | Err(_) => Answer::NotNow,
    }
}

/// The messages are defined in PostgreSQL's documentation, "Message Formats": StartupMessage, Authentication, ErrorResponse.
async fn begin_session(socket: &Path) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(&startup_message()).await?;
    match stream.read_u8().await? {
        b'R' => {
            // Terminate. The server ends the session also without it.
            let _ = stream.write_all(b"X\0\0\0\x04").await;
            Ok(Answer::Accepts)
        }
        b'E' => {
            let len = stream.read_u32().await?.saturating_sub(4).min(MESSAGE_MAX);
            let mut fields = Vec::new();
            stream.take(len.into()).read_to_end(&mut fields).await?;
            Ok(match sqlstate(&fields) {
                Some(CANNOT_CONNECT_NOW) | None => Answer::NotNow,
                Some(_) => Answer::Accepts,
            })
        }
        _ => Ok(Answer::NotNow),
    }
}

fn startup_message() -> Vec<u8> {
    let mut body = PROTOCOL.to_be_bytes().to_vec();
    for text in ["user", ROLE, "database", DATABASE, ""] {
        body.extend_from_slice(text.as_bytes());
        body.push(0);
    }
    let mut message = (body.len() as u32 + 4).to_be_bytes().to_vec();
    message.append(&mut body);
    message
}

/// The field `C` of an ErrorResponse. `None`: a server that could not fork sends a text without fields.
fn sqlstate(fields: &[u8]) -> Option<&[u8]> {
    fields
        .split(|&byte| byte == 0)
        .find_map(|field| field.strip_prefix(b"C"))
        .filter(|code| code.len() == 5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sqlstate_of_an_error_is_found() {
        let fields = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is in recovery mode\0\0";
        assert_eq!(sqlstate(fields), Some(CANNOT_CONNECT_NOW));
        assert_eq!(sqlstate(b"ould not fork new process for connection\n\0"), None);
        assert_eq!(sqlstate(b""), None);
    }

    #[tokio::test]
    async fn a_socket_that_does_not_exist_is_no_server() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        assert_eq!(ask(&socket).await, Answer::NoSocket);
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        assert_eq!(ask(&socket).await, Answer::NoSocket);
    }
}
