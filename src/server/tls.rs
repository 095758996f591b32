//! The listeners' certificate. It is read again when its files change.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

use super::http::Protocol;
use crate::config::TlsFiles;

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why TLS can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read as PEM.
    #[error("{setting} names {path}, which cannot be used: {cause}")]
    File {
        /// The setting.
        setting: &'static str,
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// The key is of no use or not the certificate's.
    #[error("tls_private_key cannot be used with tls_certificate: {0}")]
    Pair(#[from] rustls::Error),
}

/// The pair that is served now.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// Accepts TLS 1.2 and 1.3 with the pair in these files, for a door that speaks `protocol`. A task reads the files again when they
/// change. It ends with the acceptor.
pub(super) fn acceptor(files: &TlsFiles, protocol: Protocol) -> Result<TlsAcceptor, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let current = Arc::new(Current(RwLock::new(read(files, &provider)?)));
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(current.clone());
    config.alpn_protocols = vec![protocol.alpn().to_vec()];
    tokio::spawn(follow(files.clone(), Arc::downgrade(&current), provider));
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn follow(files: TlsFiles, current: std::sync::Weak<Current>, provider: Arc<CryptoProvider>) {
    let mut served = stamps(&files);
    let mut tried = served;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(current) = current.upgrade() else { return };
        let now = stamps(&files);
        if now == served {
            continue;
        }
        match read(&files, &provider) {
            Ok(pair) => {
                *current.0.write().unwrap_or_else(PoisonError::into_inner) = pair;
                served = now;
                tracing::info!("reloaded the listener's certificate");
            }
            // Perhaps only one of the two files was replaced so far. The old pair is served and the new one is tried again. Each
            // change is logged once.
            Err(error) if tried != now => {
                tracing::warn!(%error, "the listener's certificate changed and cannot be used yet");
            }
            Err(_) => {}
        }
        tried = now;
    }
}

fn stamps(files: &TlsFiles) -> [Option<(SystemTime, u64)>; 2] {
    [&files.certificate, &files.private_key].map(|path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    })
}

fn read(files: &TlsFiles, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, TlsError> {
    let failed = |setting, path: &Path| {
        let path = path.to_owned();
        move |error| TlsError::File {
            setting,
            path,
            cause: cause(&error),
        }
    };
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(failed("tls_certificate", &files.certificate))?;
    let key =
        PrivateKeyDer::from_pem_file(&files.private_key).map_err(failed("tls_private_key", &files.private_key))?;
    Ok(Arc::new(CertifiedKey::from_der(chain, key, provider)?))
}

/// The error's own text shows lines of the file, which may be the key.
fn cause(error: &pem::Error) -> String {
    match error {
        pem::Error::Io(error) => error.to_string(),
        pem::Error::NoItemsFound => "it contains no such PEM block".to_owned(),
        _ => "it is not PEM".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_key_file_is_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        std::fs::write(&path, "-----BEGIN PRIVATE KEY----- hunter2 -----END PRIVATE KEY-----").unwrap();
        let files = TlsFiles {
            certificate: path.clone(),
            private_key: path,
        };
        let error = read(&files, &rustls::crypto::ring::default_provider()).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(
            !shown.contains("hunter2") && !shown.contains("104, 117, 110"),
            "{shown}"
        );
    }
}
