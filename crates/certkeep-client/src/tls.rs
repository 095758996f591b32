//! TLS: whom the client trusts, who it is, and what a fault of TLS means.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, CertificateError, ClientConfig, Error, InvalidMessage, RootCertStore};
use tokio_rustls::TlsConnector;

use crate::connect_error::ConnectFault;
use crate::endpoint::Endpoint;
use crate::target::{Identity, SetupError};

/// A connector that verifies the endpoint's server with these CA certificates, by default those of the system.
pub(crate) fn connector(ca: Option<&str>, identity: Option<&Identity>) -> Result<TlsConnector, SetupError> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(pem) => {
            let (added, _) = roots.add_parsable_certificates(certificates(pem));
            if added == 0 {
                return Err(SetupError::NoCaCertificate);
            }
        }
        None => {
            let system = rustls_native_certs::load_native_certs().certs;
            let (added, _) = roots.add_parsable_certificates(system);
            if added == 0 {
                return Err(SetupError::NoSystemCaCertificates);
            }
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(SetupError::Tls)?
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = certificates(&identity.certificate);
            if chain.is_empty() {
                return Err(SetupError::NoClientCertificate);
            }
            let key = PrivateKeyDer::from_pem_slice(identity.private_key.as_bytes());
            let key = key.map_err(|_| SetupError::NoClientKey)?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(SetupError::ClientPair)?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .filter_map(Result::ok)
        .collect()
}

/// The endpoint's host as a certificate names it.
pub(crate) fn server_name(endpoint: &Endpoint) -> Result<ServerName<'static>, SetupError> {
    ServerName::try_from(endpoint.host().to_owned()).map_err(|_| SetupError::HostInvalid)
}

/// What the failure of a connection with TLS means.
pub(crate) fn fault(error: io::Error, endpoint: &Endpoint) -> ConnectFault {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(tls) => of_tls(tls.clone(), endpoint),
        None => match error.kind() {
            // A server that closes before it has read everything resets the connection.
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                ConnectFault::Closed
            }
            _ => ConnectFault::Network(error),
        },
    }
}

fn of_tls(error: Error, endpoint: &Endpoint) -> ConnectFault {
    use ConnectFault as Fault;
    let seconds = |from: u64, to: u64| Duration::from_secs(to.saturating_sub(from));
    match error {
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            Fault::SpeaksPlainText(endpoint.with_other_scheme())
        }
        Error::NoApplicationProtocol | Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
            Fault::OtherProtocol
        }
        Error::AlertReceived(AlertDescription::CertificateRequired) => Fault::ClientCertificateMissing,
        Error::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied,
        ) => Fault::ClientCertificateRefused,
        // Another CA of the same name gives a bad signature, or one of another algorithm than that of its key.
        Error::InvalidCertificate(
            CertificateError::UnknownIssuer
            | CertificateError::BadSignature
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. },
        ) => Fault::IssuerUnknown,
        Error::InvalidCertificate(CertificateError::ExpiredContext { time, not_after }) => {
            Fault::Expired(seconds(not_after.as_secs(), time.as_secs()))
        }
        Error::InvalidCertificate(CertificateError::NotValidYetContext { time, not_before }) => {
            Fault::NotYetValid(seconds(time.as_secs(), not_before.as_secs()))
        }
        Error::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. }) => Fault::OtherName {
            host: endpoint.host().to_owned(),
            names: presented.iter().map(|name| plain_name(name)).collect(),
        },
        Error::InvalidCertificate(CertificateError::Other(other))
            if matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity)) =>
        {
            Fault::CaAsServerCertificate
        }
        other => Fault::Tls(other),
    }
}

/// webpki writes `DnsName("shop.example")`.
fn plain_name(name: &str) -> String {
    let quoted = name.split_once("(\"").and_then(|(_, rest)| rest.strip_suffix("\")"));
    quoted.unwrap_or(name).to_owned()
}
