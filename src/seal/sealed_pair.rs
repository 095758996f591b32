//! A verified certificate with its sealed private key.

use uuid::Uuid;

use super::{Error, KeyEncryptionKeyId, KeyRing, Row, Sealed};
use crate::certificate::{VerifiedCertificate, VerifiedPair};
use crate::digest;
use crate::inventory::CertificateId;

/// A [`VerifiedPair`] whose private key is sealed for its row. Only [`KeyRing::seal`] creates one.
#[derive(Clone, Debug)]
pub struct SealedPair {
    key: SealedKey,
    certificate: VerifiedCertificate,
}

/// The private key of a [`VerifiedPair`], sealed for its row. Only [`KeyRing::seal_key`] creates one.
#[derive(Clone, Debug)]
pub struct SealedKey {
    id: CertificateId,
    key_id: Uuid,
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
        let key = self.seal_key(sealing, &pair, id)?;
        let (certificate, _) = pair.into_parts();
        Ok(SealedPair { key, certificate })
    }

    /// Seals the private key of a pair, which stays usable: the pair can belong to several certificates. Each gets its own key row.
    pub fn seal_key(
        &self,
        sealing: KeyEncryptionKeyId,
        pair: &VerifiedPair,
        id: CertificateId,
    ) -> Result<SealedKey, Error> {
        let key_id = digest::random_uuid()?;
        let row = Row::PrivateKey {
            certificate: id,
            key_id,
            spki_sha256: &pair.certificate().facts().spki_sha256,
        };
        let private_key = self.seal_secret(sealing, pair.private_key().pkcs8_der(), &row)?;
        Ok(SealedKey {
            id,
            key_id,
            private_key,
        })
    }
}

impl SealedPair {
    /// The id of the certificate.
    pub fn id(&self) -> CertificateId {
        self.key.id
    }

    /// The id of the key row.
    pub fn key_id(&self) -> Uuid {
        self.key.key_id
    }

    /// The certificate.
    pub fn certificate(&self) -> &VerifiedCertificate {
        &self.certificate
    }

    /// The sealed private key.
    pub fn private_key(&self) -> &Sealed {
        &self.key.private_key
    }

    /// The certificate, without its key.
    pub fn into_certificate(self) -> VerifiedCertificate {
        self.certificate
    }
}

impl SealedKey {
    /// The id of the certificate.
    pub fn id(&self) -> CertificateId {
        self.id
    }

    /// The id of the key row.
    pub fn key_id(&self) -> Uuid {
        self.key_id
    }

    /// The sealed private key.
    pub fn private_key(&self) -> &Sealed {
        &self.private_key
    }
}
