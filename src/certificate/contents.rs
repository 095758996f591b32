//! The contents of an unknown text: certificates, a private key, both or neither.

use super::given::{CertificateError, TextError};
use super::pem::{self, Label};
use super::public_key::PublicKey;
use super::text::PlainText;
use super::text_notes::TextNotes;
use super::x509::Certificate;
use super::{Authorities, CertificateFacts, PrivateKey, PrivateKeyError, Sha256Fingerprint};
use crate::digest;

/// The certificates and the private key of a text, in a form in which matching pairs can be found. `Contents` proves
/// nothing about a pair and holds no secret.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Contents {
    /// The certificates that can be parsed, in the order of the text.
    pub certificates: Vec<FoundCertificate>,
    /// The first error of a block that should be a certificate.
    pub error: Option<CertificateError>,
    /// The id of the private key in the text, or its error. `None` if the text holds no private key.
    pub private_key: Option<Result<KeyId, PrivateKeyError>>,
}

/// A certificate of a text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FoundCertificate {
    /// SHA-256 of its DER encoding.
    pub fingerprint: Sha256Fingerprint,
    /// The id of the certificate's public key. `None` if certkeep does not support the key.
    pub key: Option<KeyId>,
    /// The facts about the certificate. `None` if certkeep does not support the key.
    pub facts: Option<CertificateFacts>,
    /// Whether its basic constraints mark it as a CA certificate.
    pub is_ca: bool,
    /// Its DER encoding.
    pub der: Vec<u8>,
}

/// Identifies a key pair by a hash of the public key. A certificate and its private key have the same id in every
/// encoding.
///
/// The id ignores the parameters of RSA-PSS (RFC 4055 1.2). So a certificate and a private key with the same id may
/// still be refused as a pair.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct KeyId([u8; 32]);

impl KeyId {
    fn of(key: &PublicKey) -> Self {
        let parts: [&[u8]; 2] = match key {
            PublicKey::Rsa { modulus, exponent, .. } => [modulus, exponent],
            PublicKey::Ec { point, .. } => [point, &[]],
            PublicKey::Edwards { bytes, .. } | PublicKey::MlDsa { bytes, .. } => [bytes, &[]],
        };
        let mut text = format!("{} {} ", key.algorithm(), parts[0].len()).into_bytes();
        text.extend(parts.concat());
        Self(digest::sha256(&text))
    }
}

impl Contents {
    /// Reads a text of any size and kind. Never fails. Skips blocks that are neither a certificate nor a private key.
    pub fn of(text: &[u8]) -> Self {
        let mut contents = Self::default();
        let authorities = Authorities::default();
        let mut keys = Vec::new();
        let mut broken = None;
        let text = PlainText::of(text);
        for block in pem::blocks(&text) {
            match block {
                Ok(block) => match block.label {
                    Label::Certificate => match block.decode() {
                        Ok(der) => contents.add(&der, &authorities),
                        Err(error) => contents.note(CertificateError::Text(TextError::Pem(error))),
                    },
                    Label::TrustedCertificate => contents.note(CertificateError::Text(TextError::Trusted)),
                    Label::Pkcs7 => contents.note(CertificateError::Text(TextError::Pkcs7)),
                    Label::Pkcs12 => contents.note(CertificateError::Text(TextError::Pkcs12)),
                    label if label.is_private_key() || label == Label::EcParameters => keys.push(block),
                    _ => {}
                },
                Err(error) => broken = Some(error),
            }
        }
        // A block of curve parameters alone is not a key.
        if keys.iter().any(|block| block.label.is_private_key()) {
            let key = PrivateKey::of_blocks(&keys, &mut TextNotes::default());
            contents.private_key = Some(key.map(|key| KeyId::of(key.public_key())));
        }
        if let Some(error) = broken {
            // For a block without its END line, `pem::blocks` yields an error instead of the block.
            let begun: Vec<_> = pem::begun(&text).collect();
            if begun.contains(&Label::Certificate) {
                contents.note(CertificateError::Text(TextError::Pem(error)));
            }
            if contents.private_key.is_none() && begun.iter().any(|label| label.is_private_key()) {
                contents.private_key = Some(Err(PrivateKeyError::Pem(error)));
            }
        }
        contents
    }

    fn add(&mut self, der: &[u8], authorities: &Authorities) {
        match Certificate::read(der, authorities) {
            Ok(certificate) => {
                let key = certificate.public_key().ok();
                self.certificates.push(FoundCertificate {
                    fingerprint: Sha256Fingerprint::of_der(der),
                    key: key.map(KeyId::of),
                    facts: key.map(|key| CertificateFacts::of(&certificate.fields, key)),
                    is_ca: certificate.fields.is_ca(),
                    der: der.to_vec(),
                });
            }
            Err(error) => self.note(CertificateError::Malformed {
                index: self.certificates.len() + 1,
                error,
            }),
        }
    }

    fn note(&mut self, error: CertificateError) {
        self.error.get_or_insert(error);
    }
}

#[cfg(test)]
mod tests {
    use openssl::nid::Nid;
    use openssl::pkey::PKey;
    use openssl::symm::Cipher;

    use super::super::PemError;
    use super::super::X509Error;
    use super::super::test_pair::{self, Entity, TestPair, pem};
    use super::*;

    /// The id of the private key in the text.
    fn key(text: &[u8]) -> KeyId {
        Contents::of(text).private_key.unwrap().unwrap()
    }

    #[test]
    fn a_certificate_and_its_key_have_one_id_in_every_encoding() {
        let mut ids = Vec::new();
        for pair in [
            TestPair::of(test_pair::rsa_key(1024)),
            TestPair::of(test_pair::rsa_pss_key(2048, &[])),
            TestPair::of(test_pair::ec_key(Nid::X9_62_PRIME256V1)),
            TestPair::of(test_pair::ec_key(Nid::SECP256K1)),
            TestPair::of(PKey::generate_ed25519().unwrap()),
        ] {
            let found = Contents::of(&pair.certificate_pem());
            let [certificate] = &found.certificates[..] else {
                panic!("{found:?}")
            };
            assert_eq!((found.error, found.private_key), (None, None));
            let der = pair.certificate.to_der().unwrap();
            assert_eq!(certificate.fingerprint, Sha256Fingerprint::of_der(&der));
            assert_eq!(certificate.key, Some(key(&pair.key_pem())));
            assert!(!ids.contains(&certificate.key), "another key has another id");
            ids.push(certificate.key);
        }
        let ec = test_pair::ec_key(Nid::SECP384R1);
        let sec1 = ec.ec_key().unwrap().private_key_to_der().unwrap();
        let pkcs8 = ec.private_key_to_pem_pkcs8().unwrap();
        assert_eq!(key(&pem("EC PRIVATE KEY", &sec1)), key(&pkcs8));
    }

    #[test]
    fn certificates_and_a_key_of_one_text_are_both_found() {
        let (root, issuer, leaf) = (Entity::new("root"), Entity::new("issuer"), Entity::new("leaf"));
        let certificates = [root.certify(&issuer, &[]), issuer.certify(&leaf, &[])];
        let mut text = b"# a file of many things\n".to_vec();
        text.extend(pem("DH PARAMETERS", b"x"));
        text.extend(certificates[0].to_pem().unwrap());
        text.extend(leaf.key_pem());
        text.extend(certificates[1].to_pem().unwrap());
        let found = Contents::of(&text);
        let keys: Vec<_> = found.certificates.iter().map(|certificate| certificate.key).collect();
        assert_eq!(keys, [&issuer, &leaf].map(|entity| Some(key(&entity.key_pem()))));
        assert_eq!(found.private_key, Some(Ok(key(&leaf.key_pem()))));
    }

    #[test]
    fn what_is_neither_is_passed_over() {
        let pair = test_pair::ec();
        for text in [
            b"".to_vec(),
            b"# how to renew\n".to_vec(),
            pair.certificate.to_der().unwrap(),
            pair.key.private_key_to_der().unwrap(),
            pair.key.public_key_to_pem().unwrap(),
            pem("CERTIFICATE REQUEST", b"x"),
            pem("EC PARAMETERS", &hex::decode("06052b81040022").unwrap()),
            b"-----BEGIN DH PARAMETERS-----\n".to_vec(),
        ] {
            assert_eq!(Contents::of(&text), Contents::default());
        }
    }

    #[test]
    fn what_is_broken_says_why() {
        let pair = test_pair::ec();
        let error = |text: &[u8]| Contents::of(text).error;
        let (certificate, key) = (pair.certificate_pem(), pair.key_pem());
        let cut = |text: &[u8]| text[..text.len() - 30].to_vec();
        let not_closed = PemError::NotClosed { block: 1 };
        assert_eq!(
            error(&cut(&certificate)),
            Some(CertificateError::Text(TextError::Pem(not_closed)))
        );
        assert_eq!(
            Contents::of(&cut(&key)).private_key,
            Some(Err(PrivateKeyError::Pem(not_closed)))
        );
        let second = [&certificate[..], &pem("CERTIFICATE", b"x")].concat();
        assert_eq!(
            error(&second),
            Some(CertificateError::Malformed {
                index: 2,
                error: X509Error::NotDer
            })
        );
        assert_eq!(Contents::of(&second).certificates.len(), 1);
        assert_eq!(
            error(&pem("PKCS7", b"x")),
            Some(CertificateError::Text(TextError::Pkcs7))
        );
        let encrypted = pair
            .key
            .private_key_to_pem_pkcs8_passphrase(Cipher::aes_128_cbc(), b"x");
        assert_eq!(
            Contents::of(&encrypted.unwrap()).private_key,
            Some(Err(PrivateKeyError::Encrypted))
        );
        let two = [key, test_pair::ed25519().key_pem()].concat();
        assert_eq!(Contents::of(&two).private_key, Some(Err(PrivateKeyError::TwoKeys)));
    }
}
