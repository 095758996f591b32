//! The other end of a connection. A server puts it into the extensions of each request, as an `Arc<Peer>`.

use std::net::IpAddr;

use tokio_util::sync::CancellationToken;

use crate::certificate::ClientCertificate;

/// Who sent a request, as far as the connection tells.
#[derive(Debug)]
pub struct Peer {
    /// The caller's address.
    pub address: IpAddr,
    /// The certificate that the caller proved in the TLS handshake.
    pub certificate: Option<ClientCertificate>,
    /// Cancelled when the connection starts to close, because of its age or because the server stops. Streams then have to end.
    pub closing: CancellationToken,
}
