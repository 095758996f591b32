//! A stored key pair, checked again before it is handed out.

use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::pem;
use super::public_key::PublicKey;
use super::{CertificateFacts, Chain, KeyAlgorithm, PrivateKey, Sha256Fingerprint};
use crate::clock::Timestamp;
use crate::secret::Secret;

/// A chain and the private key of its leaf, as they were stored. Their public keys were compared.
#[derive(Debug)]
pub struct StoredPair {
    pub(super) chain: Chain,
    pub(super) private_key: PrivateKey,
    /// The public key of the leaf.
    pub(super) leaf_key: PublicKey,
}

/// Why a stored pair is not handed out. The texts are for the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum StoredPairError {
    /// The leaf is not the certificate that its row describes.
    #[error("the stored leaf has another fingerprint than its row")]
    Fingerprint,
    /// A certificate cannot be parsed.
    #[error("a stored certificate cannot be read")]
    Leaf,
    /// The opened value is not a private key.
    #[error("the stored private key cannot be read")]
    PrivateKey,
    /// The private key belongs to another certificate.
    #[error("the stored private key does not belong to its certificate")]
    Mismatch,
}

impl StoredPair {
    /// Checks that the leaf has this fingerprint, and that the private key, in PKCS#8, belongs to the leaf.
    pub fn check(chain: Chain, fingerprint: Sha256Fingerprint, pkcs8: &Secret) -> Result<Self, StoredPairError> {
        let leaf = stored_leaf(&chain, fingerprint)?;
        let (_, leaf) = X509Certificate::from_der(leaf).map_err(|_| StoredPairError::Leaf)?;
        let leaf_key = PublicKey::from_spki(leaf.tbs_certificate.subject_pki.raw);
        let leaf_key = leaf_key.map_err(|_| StoredPairError::Leaf)?;
        let private_key = PrivateKey::from_pkcs8(pkcs8).map_err(|_| StoredPairError::PrivateKey)?;
        match private_key.belongs_to(&leaf_key) {
            true => Ok(Self {
                chain,
                private_key,
                leaf_key,
            }),
            false => Err(StoredPairError::Mismatch),
        }
    }

    /// The certificates, the leaf first.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The algorithm of the leaf's key.
    pub fn key_algorithm(&self) -> KeyAlgorithm {
        self.leaf_key.algorithm()
    }

    /// The private key in PEM, as unencrypted PKCS#8 (RFC 7468 10).
    pub fn private_key_pem(&self) -> Secret {
        let der = self.private_key.pkcs8_der().expose();
        // Room for the whole text: no reallocation leaves a copy in memory.
        let mut text = Vec::with_capacity(pem::written_len(PRIVATE_KEY, der.len()));
        pem::write(PRIVATE_KEY, der, &mut text);
        Secret::from(text)
    }
}

/// The leaf, if it has this fingerprint.
pub fn stored_leaf(chain: &Chain, fingerprint: Sha256Fingerprint) -> Result<&[u8], StoredPairError> {
    let leaf = chain.der().next().ok_or(StoredPairError::Leaf)?;
    match Sha256Fingerprint::of_der(leaf) == fingerprint {
        true => Ok(leaf),
        false => Err(StoredPairError::Fingerprint),
    }
}

/// The facts about the leaf of a stored chain. Every certificate of the chain must be one.
pub fn stored_facts(chain: &Chain) -> Result<CertificateFacts, StoredPairError> {
    let parsed = chain.der().map(|der| match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) | Err(_) => Err(StoredPairError::Leaf),
    });
    let certificates = parsed.collect::<Result<Vec<_>, _>>()?;
    let leaf = certificates.first().ok_or(StoredPairError::Leaf)?;
    let key = PublicKey::from_spki(leaf.tbs_certificate.subject_pki.raw).map_err(|_| StoredPairError::Leaf)?;
    let mut facts = CertificateFacts::of(leaf, &key);
    let ends = certificates
        .iter()
        .map(|one| Timestamp::from_secs(one.validity().not_after.timestamp()));
    facts.chain_not_after = ends.fold(facts.not_after, Timestamp::min);
    Ok(facts)
}

/// The label of a private key in PKCS#8 (RFC 7468 10).
pub(super) const PRIVATE_KEY: &str = "PRIVATE KEY";

#[cfg(test)]
mod tests {
    use super::super::test_pair::{self, TestPair};
    use super::*;

    fn check(leaf: &TestPair, key: &TestPair) -> Result<StoredPair, StoredPairError> {
        let der = leaf.certificate.to_der().unwrap();
        let fingerprint = Sha256Fingerprint::of_der(&der);
        let chain = Chain::from_stored(vec![der]);
        StoredPair::check(
            chain,
            fingerprint,
            &Secret::from(key.key.private_key_to_pkcs8().unwrap()),
        )
    }

    #[test]
    fn a_key_goes_with_its_own_leaf_only() {
        let (pair, other) = (test_pair::ec(), test_pair::ec());
        let own = check(&pair, &pair).unwrap();
        assert_eq!(
            own.private_key_pem().expose(),
            pair.key.private_key_to_pem_pkcs8().unwrap()
        );
        assert_eq!(check(&pair, &other).unwrap_err(), StoredPairError::Mismatch);
    }

    #[test]
    fn a_damaged_row_is_refused() {
        let pair = test_pair::ec();
        let key = Secret::from(pair.key.private_key_to_pkcs8().unwrap());
        let der = pair.certificate.to_der().unwrap();
        let of = |der: &[u8], fingerprint_of: &[u8], key: &Secret| {
            let chain = Chain::from_stored(vec![der.to_vec()]);
            StoredPair::check(chain, Sha256Fingerprint::of_der(fingerprint_of), key).unwrap_err()
        };
        assert_eq!(of(&der, b"other", &key), StoredPairError::Fingerprint);
        assert_eq!(of(b"x", b"x", &key), StoredPairError::Leaf);
        let damaged = Secret::from(b"x".to_vec());
        assert_eq!(of(&der, &der, &damaged), StoredPairError::PrivateKey);
    }
}
