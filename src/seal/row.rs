//! The row that a sealed secret is bound to.

use uuid::Uuid;

use crate::account::AccountId;
use crate::inventory::CertificateId;

/// The row of the database that stores a sealed secret. A secret that was sealed for one row opens for no other.
#[derive(Clone, Copy, Debug)]
pub enum Row<'a> {
    /// A private key.
    PrivateKey {
        /// The certificate that the key was uploaded with.
        certificate: CertificateId,
        /// The id of the row.
        key_id: Uuid,
        /// The SHA-256 of the key's SubjectPublicKeyInfo.
        spki_sha256: &'a [u8; 32],
    },
    /// The secret of an access key that can sign.
    AccessKey {
        /// The account of the key.
        account: AccountId,
        /// The key's id.
        access_key_id: &'a str,
        /// The SHA-256 of the secret.
        secret_sha256: &'a [u8; 32],
    },
    /// A key of the service itself.
    ServiceKey {
        /// The use of the key.
        purpose: &'a str,
    },
}

impl Row<'_> {
    /// Calls `push` with each field of the associated data: the table first, then its key.
    pub(super) fn for_each_field(&self, mut push: impl FnMut(&[u8])) {
        match self {
            Self::PrivateKey {
                certificate,
                key_id,
                spki_sha256,
            } => {
                push(b"private_key");
                push(&certificate.account.as_i64().to_be_bytes());
                push(&certificate.created.millis().to_be_bytes());
                push(&certificate.random.to_be_bytes());
                push(key_id.as_bytes());
                push(*spki_sha256);
            }
            Self::AccessKey {
                account,
                access_key_id,
                secret_sha256,
            } => {
                push(b"access_key");
                push(&account.as_i64().to_be_bytes());
                push(access_key_id.as_bytes());
                push(*secret_sha256);
            }
            Self::ServiceKey { purpose } => {
                push(b"service_key");
                push(purpose.as_bytes());
            }
        }
    }
}
