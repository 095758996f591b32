//! Why there is no connection.

use std::fmt;
use std::io;
use std::time::Duration;

/// There was no connection to a certkeep service, so the call was not sent. It is the source of the call's `tonic::Status`:
/// [`ConnectError::of`].
#[derive(Debug)]
pub struct ConnectError {
    /// The endpoint, and where it comes from if the target says so.
    pub endpoint: String,
    /// What went wrong.
    pub fault: ConnectFault,
}

/// What went wrong before a call could be sent.
#[derive(Debug)]
pub enum ConnectFault {
    /// The look-up of the host's name failed.
    NameUnknown,
    /// The network refused or broke the connection.
    Network(io::Error),
    /// No connection within this time.
    TimedOut(Duration),
    /// The server closed the connection before it said anything.
    Closed,
    /// The endpoint has the scheme http, and the server expects TLS. The URL with https.
    SpeaksTls(String),
    /// The endpoint has the scheme https, and the server does not speak TLS. The URL with http.
    SpeaksPlainText(String),
    /// The server speaks another protocol than gRPC.
    OtherProtocol,
    /// The server answers over HTTP with this status, and not with gRPC.
    NotGrpc(u16),
    /// The server's certificate comes from no CA that the client trusts.
    IssuerUnknown,
    /// The server's certificate is a CA certificate.
    CaAsServerCertificate,
    /// The server's certificate expired this long ago.
    Expired(Duration),
    /// The server's certificate is valid in this time.
    NotYetValid(Duration),
    /// The server's certificate is for these names, and not for the endpoint's host.
    OtherName {
        /// The endpoint's host.
        host: String,
        /// The names in the certificate.
        names: Vec<String>,
    },
    /// The server wants a client certificate.
    ClientCertificateMissing,
    /// The server does not accept the client certificate.
    ClientCertificateRefused,
    /// Another fault of TLS.
    Tls(rustls::Error),
}

impl ConnectError {
    /// The connection error among the causes of an error.
    pub fn of<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Self> {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            cause = error.source();
        }
        None
    }
}

impl std::error::Error for ConnectError {}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cannot be reached: {}", self.endpoint, self.fault)
    }
}

impl fmt::Display for ConnectFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NameUnknown => f.write_str("the address of its host is not found"),
            Self::Network(error) => network(error, f),
            Self::TimedOut(limit) => write!(f, "no connection within {} s", limit.as_secs()),
            Self::Closed => f.write_str("the server closed the connection before it answered; it may expect TLS, or speak another protocol"),
            Self::SpeaksTls(https) => write!(f, "the server expects TLS; use {https}"),
            Self::SpeaksPlainText(http) => write!(f, "the server does not speak TLS; use {http}"),
            Self::OtherProtocol => f.write_str("the server does not speak gRPC; check the port"),
            Self::NotGrpc(status) => {
                write!(f, "the server answers with HTTP status {status}, not with gRPC; check the host and the port")
            }
            Self::IssuerUnknown => f.write_str("its certificate comes from an unknown CA"),
            Self::CaAsServerCertificate => f.write_str(
                "its certificate is a CA certificate, and no server may use one; create it with basicConstraints=critical,CA:FALSE",
            ),
            Self::Expired(ago) => write!(f, "its certificate expired {} ago", Span(*ago)),
            Self::NotYetValid(ahead) => {
                write!(f, "its certificate is not valid before {} from now; check the clock", Span(*ahead))
            }
            Self::OtherName { host, names } if names.is_empty() => {
                write!(f, "its certificate is not for {host}, and has no names in subjectAltName")
            }
            Self::OtherName { host, names } => {
                write!(f, "its certificate is not for {host}, but for {}", names.join(", "))
            }
            Self::ClientCertificateMissing => f.write_str("the server wants a client certificate"),
            Self::ClientCertificateRefused => f.write_str("the server does not accept the client certificate"),
            Self::Tls(error) => write!(f, "TLS failed: {error}"),
        }
    }
}

/// The usual faults without the number that the operating system gives them.
fn network(error: &io::Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused",
        io::ErrorKind::HostUnreachable => "no route to the host",
        io::ErrorKind::NetworkUnreachable => "the network is unreachable",
        _ => return write!(f, "{error}"),
    })
}

/// A time in its largest unit, rounded down.
struct Span(Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 4] = [(86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")];
        let seconds = self.0.as_secs();
        let (len, unit) = UNITS
            .into_iter()
            .find(|(len, _)| seconds >= *len)
            .unwrap_or((1, "second"));
        let number = seconds / len;
        write!(f, "{number} {unit}{}", if number == 1 { "" } else { "s" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_its_largest_unit() {
        for (seconds, text) in [
            (0, "0 seconds"),
            (61, "1 minute"),
            (7_200, "2 hours"),
            (86_400 * 9 + 1, "9 days"),
        ] {
            assert_eq!(Span(Duration::from_secs(seconds)).to_string(), text);
        }
    }
}
