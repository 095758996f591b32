//! Asks a listener for its health, as a container's health check does. Nothing secret is sent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::http::Protocol;

const TIMEOUT: Duration = Duration::from_secs(5);

/// A listener of this machine. Its certificate is not verified: it is that of the names that clients use.
#[derive(Debug)]
pub struct Listening {
    /// Its address.
    pub address: SocketAddr,
    /// Whether it speaks TLS.
    pub has_tls: bool,
}

/// Why a listener does not say how it is.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The listener cannot be reached.
    #[error("{0} cannot be reached")]
    Connect(SocketAddr, #[source] tonic::transport::Error),
    /// TLS cannot be used here.
    #[error("TLS cannot be used")]
    Tls(#[from] rustls::Error),
    /// The listener answered with an error.
    #[error("{} does not say how it is: {}", .0, .1.message())]
    Answer(SocketAddr, #[source] Box<Status>),
}

/// The question whether a server can serve: all calls, or only those that change nothing.
pub fn health_check(reads_only: bool) -> Request<HealthCheckRequest> {
    let service = match reads_only {
        true => super::health::READ,
        // The whole server.
        false => "",
    };
    let mut request = Request::new(HealthCheckRequest {
        service: service.to_owned(),
    });
    request.set_timeout(TIMEOUT);
    request
}

/// Whether the listener says that it can serve.
pub async fn is_serving(listening: &Listening, reads_only: bool) -> Result<bool, ProbeError> {
    let mut client = HealthClient::new(connect(listening).await?);
    let answer = client.check(health_check(reads_only)).await;
    let answer = answer.map_err(|status| ProbeError::Answer(listening.address, Box::new(status)))?;
    Ok(answer.into_inner().status() == ServingStatus::Serving)
}

async fn connect(listening: &Listening) -> Result<Channel, ProbeError> {
    let Listening { address, has_tls } = *listening;
    let failed = |error| ProbeError::Connect(address, error);
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(failed)?;
    let endpoint = endpoint.connect_timeout(TIMEOUT);
    if !has_tls {
        return endpoint.connect().await.map_err(failed);
    }
    let connector = TlsConnector::from(Arc::new(danger_unverified()?));
    let connect = tower::service_fn(move |_| {
        let connector = connector.clone();
        async move {
            let stream = TcpStream::connect(address).await?;
            let stream = connector.connect(ServerName::from(address.ip()), stream).await?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    endpoint.connect_with_connector(connect).await.map_err(failed)
}

fn danger_unverified() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(DangerAnyCertificate(provider)))
        .with_no_client_auth();
    config.alpn_protocols = Protocol::Http2.alpn();
    Ok(config)
}

/// Accepts every certificate.
#[derive(Debug)]
struct DangerAnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for DangerAnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
