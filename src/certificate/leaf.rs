//! The leaf: the certificate that belongs to the private key.

use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::public_key::{PublicKey, PublicKeyError};
use super::{CertificateError, CertificateFacts, CertificateFault, Chain};

/// The leaf of a chain, read.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) facts: CertificateFacts,
    pub(super) public_key: PublicKey,
}

impl Leaf {
    /// Reads the first certificate of a chain.
    pub(super) fn of(chain: &Chain) -> Result<Self, CertificateError> {
        let malformed = |what| CertificateError::Malformed { index: 1, what };
        let der = chain.der().next().ok_or(CertificateError::Missing)?;
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| malformed(CertificateFault::Unreadable))?;
        let public_key = PublicKey::from_spki(certificate.public_key().raw).map_err(|error| match error {
            PublicKeyError::Malformed => malformed(CertificateFault::PublicKey),
            PublicKeyError::Unsupported(key) => CertificateError::UnsupportedKey(key),
        })?;
        Ok(Self {
            facts: CertificateFacts::of(&certificate, &public_key),
            public_key,
        })
    }
}
