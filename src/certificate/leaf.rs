//! The leaf: the certificate that belongs to the private key.

use super::PrivateKey;
use super::given::CertificateError;
use super::public_key::{PublicKey, PublicKeyError};
use super::x509::{Certificate, X509Error};

/// The certificates that are for this key, by their indexes: none twice, so that two of them are two leaves.
pub(super) fn of_key(certificates: &[Certificate<'_>], key: &PrivateKey) -> Vec<usize> {
    (0..certificates.len())
        .filter(|&index| {
            certificates[index]
                .public_key()
                .is_ok_and(|public| key.belongs_to(public))
        })
        .collect()
}

/// Where no key tells: the preferred one of those that name none of the others as their own and are no authority's, as far as there
/// is one.
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

/// The leaf's public key, which must be of a kind that is supported. `index` is its place in the text, counted from 1.
pub(super) fn public_key(leaf: &Certificate<'_>, index: usize) -> Result<PublicKey, CertificateError> {
    leaf.public_key().cloned().map_err(|error| match error {
        PublicKeyError::Malformed => CertificateError::Malformed {
            index,
            error: X509Error::PublicKey,
        },
        PublicKeyError::Unsupported(key) => CertificateError::UnsupportedKey(key.clone()),
    })
}
