//! Asks a listener for its health, as a container's health check does. Nothing secret is sent.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::Status;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::http::Protocol;

const TIMEOUT: Duration = Duration::from_secs(5);

/// The listener to ask.
#[derive(Debug)]
pub enum Listening {
    /// A listener of this machine. Its certificate is not verified: it is that of the names that clients use.
    Here {
        /// Its address.
        address: SocketAddr,
        /// Whether it speaks TLS.
        has_tls: bool,
    },
    /// The listener with this URL. The certificate of an https URL is verified.
    At {
        /// The URL.
        url: String,
        /// A PEM file of CA certificates. `None`: the system's.
        ca_file: Option<PathBuf>,
    },
}

/// Why a listener does not say how it is.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The file of CA certificates cannot be read.
    #[error("{0} cannot be read")]
    CaFile(PathBuf, #[source] std::io::Error),
    /// The listener cannot be reached, or its certificate is not accepted.
    #[error("the service cannot be reached")]
    Connect(#[from] tonic::transport::Error),
    /// TLS cannot be used here.
    #[error("TLS cannot be used")]
    Tls(#[from] rustls::Error),
    /// The listener answered with an error.
    #[error("the service does not say how it is: {}", .0.message())]
    Answer(#[source] Box<Status>),
}

/// Whether the listener says that it can serve: all calls, or only those that change nothing.
pub async fn is_serving(listening: &Listening, reads_only: bool) -> Result<bool, ProbeError> {
    let service = match reads_only {
        true => super::health::READ,
        // The whole server.
        false => "",
    };
    let mut client = HealthClient::new(connect(listening).await?);
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    let answer = client.check(request).await;
    let answer = answer.map_err(|status| ProbeError::Answer(Box::new(status)))?;
    Ok(answer.into_inner().status() == ServingStatus::Serving)
}

async fn connect(listening: &Listening) -> Result<Channel, ProbeError> {
    let timed = |endpoint: Endpoint| endpoint.connect_timeout(TIMEOUT).timeout(TIMEOUT);
    match listening {
        Listening::At { url, ca_file } => {
            let mut endpoint = timed(Endpoint::from_shared(url.clone())?);
            if endpoint.uri().scheme_str() == Some("https") {
                let tls = match ca_file {
                    Some(file) => {
                        let pem = std::fs::read(file).map_err(|error| ProbeError::CaFile(file.clone(), error))?;
                        ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem))
                    }
                    None => ClientTlsConfig::new().with_native_roots(),
                };
                endpoint = endpoint.tls_config(tls)?;
            }
            Ok(endpoint.connect().await?)
        }
        Listening::Here { address, has_tls } => {
            let endpoint = timed(Endpoint::from_shared(format!("http://{address}"))?);
            if !has_tls {
                return Ok(endpoint.connect().await?);
            }
            let (address, connector) = (*address, TlsConnector::from(Arc::new(danger_unverified()?)));
            let connect = tower::service_fn(move |_| {
                let connector = connector.clone();
                async move {
                    let stream = TcpStream::connect(address).await?;
                    let stream = connector.connect(ServerName::from(address.ip()), stream).await?;
                    Ok::<_, std::io::Error>(TokioIo::new(stream))
                }
            });
            Ok(endpoint.connect_with_connector(connect).await?)
        }
    }
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
