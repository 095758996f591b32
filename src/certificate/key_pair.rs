//! A certificate chain with its private key.

use std::fmt;

use super::leaf::Leaf;
use super::{CertificateError, CertificateFacts, Chain, PrivateKey, PrivateKeyError};
use crate::secret::Secret;

/// A chain and a private key that were read, each sound in itself; whether they belong together is not known.
#[derive(Debug)]
pub struct UnverifiedPair {
    chain: Chain,
    leaf: Leaf,
    private_key: PrivateKey,
}

/// A chain and the private key of its leaf. Only such a pair is sealed and stored.
#[derive(Debug)]
pub struct VerifiedPair {
    facts: CertificateFacts,
    chain: Chain,
    private_key: PrivateKey,
}

/// Why a pair is refused, by field. At least one is set.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PairError {
    /// What is wrong with `server_certificate`.
    pub certificate: Option<CertificateError>,
    /// What is wrong with `private_key`.
    pub private_key: Option<PrivateKeyError>,
}

impl UnverifiedPair {
    /// Reads both PEM texts. The error has the fault of each.
    ///
    /// The certificates: 1 to 20, at most 256 KiB, the leaf first. The key: one, not encrypted, at most 64 KiB, of a
    /// supported algorithm, whose parts belong together.
    pub fn parse(server_certificate: &[u8], private_key: &Secret) -> Result<Self, PairError> {
        let certificates =
            Chain::parse(server_certificate).and_then(|chain| Leaf::of(&chain).map(|leaf| (chain, leaf)));
        match (certificates, PrivateKey::parse(private_key)) {
            (Ok((chain, leaf)), Ok(private_key)) => Ok(Self {
                chain,
                leaf,
                private_key,
            }),
            (certificates, private_key) => Err(PairError {
                certificate: certificates.err(),
                private_key: private_key.err(),
            }),
        }
    }

    /// Proves that the private key is the leaf's: [`PrivateKeyError::Mismatch`] if not.
    pub fn verify(self) -> Result<VerifiedPair, PairError> {
        if !self.private_key.belongs_to(&self.leaf.public_key) {
            return Err(PairError {
                certificate: None,
                private_key: Some(PrivateKeyError::Mismatch),
            });
        }
        Ok(VerifiedPair {
            facts: self.leaf.facts,
            chain: self.chain,
            private_key: self.private_key,
        })
    }
}

impl VerifiedPair {
    /// What the leaf says.
    pub fn facts(&self) -> &CertificateFacts {
        &self.facts
    }

    /// The certificates, in the order in which they are served.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The leaf's private key.
    pub fn private_key(&self) -> &PrivateKey {
        &self.private_key
    }

    /// Gives up the proof.
    pub fn into_parts(self) -> (CertificateFacts, Chain, PrivateKey) {
        (self.facts, self.chain, self.private_key)
    }
}

impl fmt::Display for PairError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.certificate, &self.private_key) {
            (Some(certificate), Some(private_key)) => write!(f, "{certificate}; {private_key}"),
            (Some(certificate), None) => certificate.fmt(f),
            (None, Some(private_key)) => private_key.fmt(f),
            (None, None) => Ok(()),
        }
    }
}

impl std::error::Error for PairError {}

#[cfg(test)]
mod tests {
    use openssl::nid::Nid;
    use openssl::pkey::PKey;

    use super::super::test_pair::{self, TestPair};
    use super::super::{CertificateFault, PemError, UnsupportedKey};
    use super::*;

    fn verify(certificate: &[u8], key: &[u8]) -> Result<VerifiedPair, PairError> {
        UnverifiedPair::parse(certificate, &Secret::from(key.to_vec()))?.verify()
    }

    #[test]
    fn a_key_and_its_certificate_are_verified() {
        for key in [
            test_pair::rsa_key(1024),
            test_pair::rsa_key(2048),
            test_pair::rsa_pss_key(2048, &[]),
            test_pair::rsa_pss_key(2048, &test_pair::pss_parameters(test_pair::SHA256, 32)),
            test_pair::ec_key(Nid::X9_62_PRIME256V1),
            test_pair::ec_key(Nid::SECP384R1),
            test_pair::ec_key(Nid::SECP521R1),
            test_pair::ec_key(Nid::SECP256K1),
            PKey::generate_ed25519().unwrap(),
            PKey::generate_ed448().unwrap(),
        ] {
            let pkcs8 = key.private_key_to_pkcs8().unwrap();
            let pair = TestPair::of(key);
            let (facts, chain, key) = pair.verify().into_parts();
            assert_eq!(facts.subject, "CN=localhost");
            assert_eq!(chain.der().collect::<Vec<_>>(), [pair.certificate.to_der().unwrap()]);
            assert_eq!(key.pkcs8_der().expose(), pkcs8);
        }
    }

    #[test]
    fn a_key_of_another_certificate_is_a_mismatch() {
        let mine = test_pair::ec();
        for other in [test_pair::ec(), test_pair::rsa(), test_pair::ed25519()] {
            assert_eq!(
                verify(&mine.certificate_pem(), &other.key_pem()).unwrap_err(),
                PairError {
                    certificate: None,
                    private_key: Some(PrivateKeyError::Mismatch)
                }
            );
        }
        let issuer = test_pair::ec();
        let issuer_first = [issuer.certificate_pem(), mine.certificate_pem()].concat();
        let error = verify(&issuer_first, &mine.key_pem()).unwrap_err();
        assert_eq!(
            error.private_key,
            Some(PrivateKeyError::Mismatch),
            "the leaf comes first"
        );
    }

    #[test]
    fn both_fields_are_answered_at_once() {
        let pair = test_pair::rsa();
        assert_eq!(
            verify(&pair.key_pem(), &pair.certificate_pem()).unwrap_err(),
            PairError {
                certificate: Some(CertificateError::HoldsPrivateKey),
                private_key: Some(PrivateKeyError::HoldsCertificate),
            }
        );
        let error = verify(b"", b"x").unwrap_err();
        assert_eq!(
            error.to_string(),
            "server_certificate is empty: give the certificate and its chain as PEM text; private_key holds no PEM block: \
             paste the text from its BEGIN line to its END line, or convert DER with openssl first"
        );
        assert_eq!(error.private_key, Some(PrivateKeyError::Pem(PemError::NoBlock)));
    }

    #[test]
    fn a_leaf_of_an_unsupported_key_is_refused() {
        let pair = TestPair::of(test_pair::ec_key(Nid::BRAINPOOL_P256R1));
        let unsupported = UnsupportedKey::Curve {
            name: "brainpoolP256r1".into(),
        };
        assert_eq!(
            verify(&pair.certificate_pem(), &pair.key_pem()).unwrap_err(),
            PairError {
                certificate: Some(CertificateError::UnsupportedKey(unsupported.clone())),
                private_key: Some(PrivateKeyError::Unsupported(unsupported)),
            }
        );
    }

    #[test]
    fn a_leaf_whose_point_is_off_its_curve_is_refused() {
        let pair = test_pair::ec();
        let spki = pair.key.public_key_to_der().unwrap();
        let mut der = pair.certificate.to_der().unwrap();
        let end = der.windows(spki.len()).position(|window| window == spki).unwrap() + spki.len();
        der[end - 1] ^= 1;
        let error = verify(&test_pair::pem("CERTIFICATE", &der), &pair.key_pem()).unwrap_err();
        let malformed = CertificateError::Malformed {
            index: 1,
            what: CertificateFault::PublicKey,
        };
        assert_eq!(
            error,
            PairError {
                certificate: Some(malformed),
                private_key: None
            }
        );
    }

    #[test]
    fn shows_nothing_of_the_key() {
        let pair = format!("{:?}", test_pair::ec().verify());
        assert!(pair.contains("PrivateKey(<redacted>)"), "{pair}");
    }
}
