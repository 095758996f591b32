//! The TLS files of a listener: its certificate and key, and the authorities of client certificates. Read again when they change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use super::http::Protocol;
use super::stamp::{Stamp, stamp};
use super::tls_validity::{FileValidity, Reminder};
use crate::config::TlsFiles;
use crate::secret::read_private;
use crate::telemetry::causes;

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The maximum length of the file of the private key. It may contain the certificates too.
const MAX_KEY_LEN: u64 = 1024 * 1024;

/// Why TLS can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be used.
    #[error("{setting} names {path}, which cannot be used: {cause}")]
    File {
        /// The setting.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// The key belongs to another certificate.
    #[error("tls_private_key does not belong to tls_certificate")]
    Mismatch,
    /// The key is of no use.
    #[error("tls_private_key cannot be used with tls_certificate: {0}")]
    Pair(rustls::Error),
}

/// Accepts TLS 1.2 and 1.3 with the files of a listener, for a door that speaks `protocol`.
pub(super) struct Tls {
    files: TlsFiles,
    protocol: Protocol,
    /// Made from the files together. Session resumption belongs to it: after a change of the client CAs, a caller with an older
    /// session proves its certificate again.
    current: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads the files. A task reads them again when they change. It ends when the last `Arc` is dropped.
    pub(super) fn start(files: &TlsFiles, protocol: Protocol) -> Result<Arc<Self>, TlsError> {
        // Before the files are read: a change during the read is seen.
        let stamps = stamps(files);
        let (config, validities) = read(files, protocol)?;
        let tls = Arc::new(Self {
            files: files.clone(),
            protocol,
            current: RwLock::new(config),
        });
        tokio::spawn(follow(Arc::downgrade(&tls), stamps, Reminder::begin(validities)));
        Ok(tls)
    }

    /// The acceptor for the next connection.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

async fn follow(tls: Weak<Tls>, mut served: Stamps, mut reminder: Reminder) {
    let mut tried = served;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(tls) = tls.upgrade() else { return };
        reminder.repeat_if_due();
        let now = stamps(&tls.files);
        if now == served {
            continue;
        }
        match read(&tls.files, tls.protocol) {
            Ok((config, validities)) => {
                *tls.current.write().unwrap_or_else(PoisonError::into_inner) = config;
                served = now;
                tracing::info!("reloaded the listener's TLS files");
                reminder = Reminder::begin(validities);
            }
            // Perhaps only one of the files was replaced so far. The old files are served and the new ones are tried again. Each
            // change is logged once.
            Err(error) if tried != now => {
                tracing::warn!(%error, "the listener's TLS files changed and cannot be used yet");
            }
            Err(_) => {}
        }
        tried = now;
    }
}

/// The stamp of each file.
type Stamps = [Option<Stamp>; 3];

fn stamps(files: &TlsFiles) -> Stamps {
    [
        Some(&files.certificate),
        Some(&files.private_key),
        files.client_ca.as_ref(),
    ]
    .map(|path| stamp(path?))
}

/// The configuration, and how long the certificates of its files are valid.
fn read(files: &TlsFiles, protocol: Protocol) -> Result<(Arc<ServerConfig>, Vec<FileValidity>), TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let chain = certificates("tls_certificate", &files.certificate)?;
    let mut validities: Vec<_> = FileValidity::of("tls_certificate", &chain).into_iter().collect();
    let key = private_key(&files.private_key)?;
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(TlsError::Pair)?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let authorities = certificates(CLIENT_CA, path)?;
            validities.extend(FileValidity::of(CLIENT_CA, &authorities));
            // A caller without a certificate has an access key.
            let verifier =
                WebPkiClientVerifier::builder_with_provider(client_authorities(path, authorities)?, provider)
                    .allow_unauthenticated()
                    .build()
                    .map_err(|error| unusable(CLIENT_CA, path, error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => TlsError::Mismatch,
        error => TlsError::Pair(error),
    })?;
    config.alpn_protocols = protocol.alpn();
    Ok((Arc::new(config), validities))
}

/// Whether a listener can use the files.
pub(super) fn check(files: &TlsFiles, protocol: Protocol) -> Result<(), TlsError> {
    read(files, protocol).map(|_| ())
}

/// The private key of a file that only the user of certkeep and root may read.
fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let failed = |cause| unusable("tls_private_key", path, cause);
    let text = read_private(path, MAX_KEY_LEN).map_err(|error| failed(causes(&error)))?;
    PrivateKeyDer::from_pem_slice(text.expose()).map_err(|error| failed(cause(&error)))
}

const CLIENT_CA: &str = "client_ca";

fn client_authorities(path: &Path, given: Vec<CertificateDer<'static>>) -> Result<Arc<RootCertStore>, TlsError> {
    let mut authorities = RootCertStore::empty();
    for certificate in given {
        let added = authorities.add(certificate);
        added.map_err(|error| unusable(CLIENT_CA, path, error.to_string()))?;
    }
    Ok(Arc::new(authorities))
}

fn certificates(setting: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(found) if found.is_empty() => Err(unusable(setting, path, "it contains no certificate".to_owned())),
        Ok(found) => Ok(found),
        Err(error) => Err(unusable(setting, path, cause(&error))),
    }
}

fn unusable(setting: &'static str, path: &Path, cause: String) -> TlsError {
    let path = path.to_owned();
    TlsError::File { setting, path, cause }
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
            client_ca: None,
        };
        let error = read(&files, Protocol::Http2).map(|_| ()).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(
            !shown.contains("hunter2") && !shown.contains("104, 117, 110"),
            "{shown}"
        );
    }
}
