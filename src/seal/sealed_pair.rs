//! A verified certificate with its sealed private key.

use uuid::Uuid;

use super::{Error, KeyEncryptionKeyId, KeyRing, Row, Sealed};
use crate::certificate::{VerifiedCertificate, VerifiedPair};
use crate::digest;
use crate::inventory::CertificateId;

/// A [`VerifiedPair`] whose private key is sealed for its row. Only [`KeyRing::seal`] creates one.
#[derive(Clone, Debug)]
pub struct SealedPair {
    id: CertificateId,
    key_id: Uuid,
    certificate: VerifiedCertificate,
    private_key: Sealed,
}

impl KeyRing {
    /// Seals the private key of a pair for the certificate with this id and for a new key row, with the key `sealing`.
    pub fn seal(
        &self,
        sealing: KeyEncryptionKeyId,
        pair: VerifiedPair,
        id: CertificateId,
    ) -> Result<SealedPair, Error> {
        let (certificate, private_key) = pair.into_parts();
        let key_id = digest::random_uuid()?;
        let row = Row::PrivateKey {
            certificate: id,
            key_id,
            spki_sha256: &certificate.facts().spki_sha256,
        };
        let private_key = self.seal_secret(sealing, private_key.pkcs8_der(), &row)?;
        Ok(SealedPair {
            id,
            key_id,
            certificate,
            private_key,
        })
    }
}

impl SealedPair {
    /// The id of the certificate.
    pub fn id(&self) -> CertificateId {
        self.id
    }

    /// The id of the key row.
    pub fn key_id(&self) -> Uuid {
        self.key_id
    }

    /// The certificate.
    pub fn certificate(&self) -> &VerifiedCertificate {
        &self.certificate
    }

    /// The sealed private key.
    pub fn private_key(&self) -> &Sealed {
        &self.private_key
    }

    /// The certificate, without its key.
    pub fn into_certificate(self) -> VerifiedCertificate {
        self.certificate
    }
}
