//! The set-up of clients for the HTTP services that an operator configures: TLS, time limits, and no redirects.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use reqwest::{Client, Response, redirect};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use zeroize::Zeroizing;

/// Why a client can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The CA certificates can't be used.
    #[error("the CA certificates in {path} cannot be used: {cause}")]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// TLS can't be set up.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    /// The library refuses the settings.
    #[error("the HTTP client cannot be set up")]
    Library(#[from] reqwest::Error),
}

/// Why the body of an answer can't be read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The connection failed.
    #[error("the answer ends early")]
    Http(#[source] reqwest::Error),
    /// The body is longer than the limit.
    #[error("the answer is too long")]
    TooLong,
}

/// A client for the service at `url`, which this file's CA certificates verify, or the system's. `timeout` covers a whole call.
pub fn client(
    url: &Uri,
    ca_file: Option<&Path>,
    [connect_timeout, timeout]: [Duration; 2],
) -> Result<Client, ClientError> {
    let mut authorities = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            let unusable = |cause: String| ClientError::Authorities {
                path: path.to_owned(),
                cause,
            };
            let certificates = CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|error| unusable(error.to_string()))?;
            for certificate in certificates {
                authorities
                    .add(certificate)
                    .map_err(|error| unusable(error.to_string()))?;
            }
            if authorities.is_empty() {
                return Err(unusable("it contains no certificate".to_owned()));
            }
        }
        None => {
            authorities.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_root_certificates(authorities)
        .with_no_client_auth();
    let mut builder = Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(redirect::Policy::none())
        .connect_timeout(connect_timeout)
        .timeout(timeout);
    if url.scheme_str() == Some("http") {
        // A proxy would read what is meant for this machine.
        builder = builder.no_proxy();
    }
    Ok(builder.build()?)
}

/// The body of an answer, of at most `max_len` bytes.
pub async fn body(mut answer: Response, max_len: usize) -> Result<Zeroizing<Vec<u8>>, BodyError> {
    let failed = |error: reqwest::Error| BodyError::Http(error.without_url());
    // All of it at once: a vector that grows would leave copies in memory.
    let mut body = Zeroizing::new(Vec::with_capacity(max_len));
    while let Some(chunk) = answer.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > max_len {
            return Err(BodyError::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        std::fs::write(&file, "no PEM").unwrap();
        let url = Uri::from_static("https://cas.example");
        let error = client(&url, Some(&file), [Duration::from_secs(1); 2]).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("cannot be used: it contains no certificate"),
            "{error}"
        );
    }
}
