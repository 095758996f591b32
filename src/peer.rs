//! The other end of a connection. A server puts it into the extensions of each request, as an `Arc<Peer>`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SetOnce};
use tokio_util::sync::CancellationToken;

use crate::certificate::ClientCertificate;

/// Who sent a request, as far as the connection tells, and the limits of the connection.
#[derive(Debug)]
pub struct Peer {
    /// The caller's address.
    pub address: IpAddr,
    /// The certificate that the caller proved in the TLS handshake.
    pub certificate: Option<ClientCertificate>,
    /// Cancelled when the connection starts to close, because of its age or because the server stops. Streams then have to end.
    pub closing: CancellationToken,
    /// Set by a client certificate, or by the first call with valid credentials. A connection without one has little time and few calls.
    pub authenticated: SetOnce<()>,
    /// The calls of health and reflection that may be open at once.
    pub open_calls: Arc<Semaphore>,
    /// The calls whose credentials may be checked at once, before the first is valid.
    pub credential_checks: Arc<Semaphore>,
    /// The calls that wait for the check of their credentials.
    pub waiting_calls: AtomicUsize,
    /// The calls that were refused before the first had valid credentials.
    pub refused_calls: AtomicUsize,
    /// Cancelled to close a connection that has too many waiting or refused calls.
    pub misused: CancellationToken,
    /// The parts of answers that the caller has not taken.
    pub unsent: Unsent,
}

impl Peer {
    const OPEN_CALLS: usize = 8;
    const OPEN_CALLS_OF_AUTHENTICATED: usize = 128;
    const CREDENTIAL_CHECKS: usize = 8;

    /// A new connection.
    pub fn new(address: IpAddr, certificate: Option<ClientCertificate>, closing: CancellationToken) -> Self {
        let is_verified = certificate.is_some();
        let peer = Self {
            address,
            certificate,
            closing,
            authenticated: SetOnce::new(),
            open_calls: Arc::new(Semaphore::new(Self::OPEN_CALLS)),
            credential_checks: Arc::new(Semaphore::new(Self::CREDENTIAL_CHECKS)),
            waiting_calls: AtomicUsize::new(0),
            refused_calls: AtomicUsize::new(0),
            misused: CancellationToken::new(),
            unsent: Unsent::default(),
        };
        if is_verified {
            peer.authenticate();
        }
        peer
    }

    /// Notes that the caller has valid credentials.
    pub fn authenticate(&self) {
        if self.authenticated.set(()).is_ok() {
            self.open_calls
                .add_permits(Self::OPEN_CALLS_OF_AUTHENTICATED - Self::OPEN_CALLS);
        }
    }

    /// Counts a part of an answer as unsent until the value is dropped.
    pub fn sending(self: &Arc<Self>) -> Sending {
        Sending {
            number: self.unsent.begin(),
            peer: self.clone(),
        }
    }
}

/// The parts of answers that wait until the caller takes them.
#[derive(Debug, Default)]
pub struct Unsent(Mutex<Parts>);

#[derive(Debug, Default)]
struct Parts {
    next: u64,
    /// When each part began to wait, the oldest first.
    began: BTreeMap<u64, Instant>,
}

impl Unsent {
    fn begin(&self) -> u64 {
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = parts.next;
        parts.next += 1;
        parts.began.insert(number, Instant::now());
        number
    }

    fn end(&self, number: u64) {
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        parts.began.remove(&number);
    }

    /// Completes when a part has waited for this time, a quarter of it later at most.
    pub async fn overdue(&self, time: Duration) {
        loop {
            tokio::time::sleep(time / 4).await;
            let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let oldest = parts.began.first_key_value();
            if oldest.is_some_and(|(_, began)| began.elapsed() >= time) {
                return;
            }
        }
    }
}

/// A part of an answer that waits.
#[derive(Debug)]
pub struct Sending {
    peer: Arc<Peer>,
    number: u64,
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.peer.unsent.end(self.number);
    }
}
