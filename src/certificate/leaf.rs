//! The leaf: the certificate that belongs to the private key.

use super::PrivateKey;
use super::given::CertificateError;
use super::public_key::{PublicKey, PublicKeyError};
use super::x509::{Certificate, X509Error};

/// The indexes of the certificates for this key. No certificate occurs twice, so two indexes mean two different leaves.
pub(super) fn of_key(certificates: &[Certificate<'_>], key: &PrivateKey) -> Vec<usize> {
    (0..certificates.len())
        .filter(|&index| {
            certificates[index]
                .public_key()
                .is_ok_and(|public| key.belongs_to(public))
        })
        .collect()
}

/// The likely leaf if there is no key. Prefers a certificate that issued none of the other certificates, then one that
/// is not a CA certificate, then the order of `Certificate::preference`.
pub(super) fn guess(certificates: &[Certificate<'_>]) -> Option<usize> {
    let issues_another = |index: usize| {
        certificates
            .iter()
            .enumerate()
            .any(|(other, certificate)| other != index && certificate.names_as_issuer(&certificates[index]))
    };
    (0..certificates.len()).min_by(|&a, &b| {
        let rank = |index: usize| (issues_another(index), certificates[index].fields.is_ca());
        rank(a)
            .cmp(&rank(b))
            .then_with(|| certificates[a].preference(&certificates[b]))
    })
}

/// The public key of the leaf. Its algorithm must be supported. `index` is the position of the leaf in the text,
/// counted from 1.
pub(super) fn public_key(leaf: &Certificate<'_>, index: usize) -> Result<PublicKey, CertificateError> {
    leaf.public_key().cloned().map_err(|error| match error {
        PublicKeyError::Malformed => CertificateError::Malformed {
            index,
            error: X509Error::PublicKey,
        },
        PublicKeyError::Unsupported(key) => CertificateError::UnsupportedKey(key.clone()),
    })
}
