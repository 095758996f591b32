//! Where a client connects, and as whom.

use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::access_key::AccessKey;
use crate::channel::Channel;
use crate::connector::{Connector, Opening};
use crate::endpoint::Endpoint;
use crate::pb::admin_service_client::AdminServiceClient;
use crate::pb::certificate_service_client::CertificateServiceClient;
use crate::pb::delivery_service_client::DeliveryServiceClient;
use crate::pb::operator_service_client::OperatorServiceClient;
use crate::tls;

const CONNECT_TIME: Duration = Duration::from_secs(5);
/// The service's own limit for a call is 30 seconds.
const CALL_TIME: Duration = Duration::from_secs(35);
/// While a call is open, a server is pinged this often, and is gone if it does not answer in time. The time limit for a call does not end a
/// stream.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIME: Duration = Duration::from_secs(10);
/// Calls of a client that wait for their answers at once. The HTTP/2 library of the client sends the first octet of each request that waits for
/// room. The library of the service closes a connection with more than 128 frames of that size.
const MAX_CALLS: usize = 100;
/// The answer to an upload with all fingerprints may exceed 3 MiB.
const MAX_ANSWER_LEN: usize = 16 * 1024 * 1024;

/// Where a client connects, and as whom.
#[derive(Debug)]
pub struct Target {
    /// The URL of the service.
    pub endpoint: Endpoint,
    /// The access key. `None`: the client certificate says who calls.
    pub access_key: Option<AccessKey>,
    /// CA certificates in PEM that verify an https endpoint. `None`: the system's.
    pub ca: Option<String>,
    /// The client certificate, for an https endpoint.
    pub identity: Option<Identity>,
    /// Send private keys and access keys in plain text over a network.
    pub danger_plaintext: bool,
    /// The deadline of each call. Default: 35 s. It does not end a stream.
    pub call_time: Duration,
    /// Where the endpoint comes from, for errors: a flag, a variable or a file. Default: not said.
    pub endpoint_origin: String,
    /// Where the access key comes from, for errors.
    pub access_key_origin: String,
}

/// A client certificate and its private key, in PEM.
pub struct Identity {
    /// The certificate and its chain.
    pub certificate: String,
    /// The private key.
    pub private_key: Zeroizing<String>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<redacted>")
    }
}

/// A target that no connection can be made to.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Plain text over a network.
    #[error("the endpoint would get keys in plain text over the network: use https")]
    Exposed,
    /// A client certificate needs https.
    #[error("a client certificate needs an https endpoint")]
    ClientCertificateWithoutTls,
    /// The endpoint's host is no name that a certificate can have.
    #[error("the endpoint's host is no valid name")]
    HostInvalid,
    /// The access key cannot be sent.
    #[error("the access key cannot be sent")]
    AccessKeyInvalid,
    /// There is no CA certificate in the PEM.
    #[error("there is no CA certificate in PEM")]
    NoCaCertificate,
    /// The system has no CA certificates.
    #[error("this system has no CA certificates")]
    NoSystemCaCertificates,
    /// There is no certificate in the PEM.
    #[error("there is no client certificate in PEM")]
    NoClientCertificate,
    /// There is no unencrypted private key in the PEM.
    #[error("there is no unencrypted private key for the client certificate in PEM")]
    NoClientKey,
    /// The client certificate and its key do not fit together.
    #[error("the client certificate and its private key cannot be used: {0}")]
    ClientPair(rustls::Error),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(rustls::Error),
}

impl Target {
    /// A target without an access key, verified with the system's CA certificates.
    pub fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            access_key: None,
            ca: None,
            identity: None,
            danger_plaintext: false,
            call_time: CALL_TIME,
            endpoint_origin: String::new(),
            access_key_origin: String::new(),
        }
    }

    /// A client of this service. The first call opens the connection. Needs a tokio runtime.
    pub fn connect(self) -> Result<Client, SetupError> {
        if self.endpoint.is_exposed() && !self.danger_plaintext {
            return Err(SetupError::Exposed);
        }
        let tls = match self.endpoint.is_https() {
            true => {
                let connector = tls::connector(self.ca.as_deref(), self.identity.as_ref())?;
                Some((connector, tls::server_name(&self.endpoint)?))
            }
            false if self.identity.is_some() => return Err(SetupError::ClientCertificateWithoutTls),
            false => None,
        };
        let authorization = match &self.access_key {
            Some(key) => Some(key.header().ok_or(SetupError::AccessKeyInvalid)?),
            None => None,
        };
        // The connector makes TLS itself.
        let transport = tonic::transport::Endpoint::from_static("http://certkeep.invalid")
            .origin(self.endpoint.uri().clone())
            .timeout(self.call_time)
            .concurrency_limit(MAX_CALLS)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIME);
        let opening = Arc::new(Opening {
            endpoint: self.endpoint,
            origin: self.endpoint_origin,
            tls,
            time: CONNECT_TIME,
        });
        let channel = transport.connect_with_connector_lazy(Connector::new(opening.clone()));
        let channel = Channel::new(channel, authorization, &self.access_key_origin, opening);
        Ok(Client { channel })
    }
}

/// A client of a service. Clones share one connection.
#[derive(Clone)]
pub struct Client {
    channel: Channel,
}

impl Client {
    /// The channel, for a service of another schema, such as `grpc.health.v1`.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// CertificateService.
    pub fn certificates(&self) -> CertificateServiceClient<Channel> {
        CertificateServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_LEN)
    }

    /// DeliveryService.
    pub fn deliveries(&self) -> DeliveryServiceClient<Channel> {
        DeliveryServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_LEN)
    }

    /// AdminService.
    pub fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_LEN)
    }

    /// OperatorService.
    pub fn operators(&self) -> OperatorServiceClient<Channel> {
        OperatorServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_LEN)
    }
}
