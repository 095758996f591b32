//! The private key of a server certificate.

mod ec;
mod edwards;
mod encoding;
mod ml_dsa;
mod pkcs8_form;
mod rsa;
mod weakness;

use std::fmt;

use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::sign::{Signer, Verifier};
use zeroize::Zeroizing;

use super::finding::DroppedBlock;
use super::pem::{self, Block, Label, PemError};
use super::public_key::{PublicKey, PublicKeyError};
use super::text::PlainText;
use super::text_notes::TextNotes;
use super::unsupported_key::UnsupportedKey;
use crate::secret::Secret;
use encoding::Encoding;
pub(super) use weakness::Weaknesses;

/// The limit of the text, in octets.
const MAX_BYTES: usize = 64 * 1024;

/// A consistent private key with a supported algorithm ([`KeyAlgorithm`](super::KeyAlgorithm)), in PKCS#8 (RFC 5958). A
/// caller's PKCS#1 or SEC 1 encoding is wrapped, never changed.
pub struct PrivateKey {
    pkcs8: Secret,
    public: PublicKey,
}

/// What is wrong with a private key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PrivateKeyError {
    /// There is no text.
    Missing,
    /// The text is longer than 64 KiB.
    TooLarge {
        /// The length, in octets.
        bytes: usize,
    },
    /// The text is not PEM, or broken PEM.
    Pem(PemError),
    /// The text is a certificate.
    HoldsCertificate,
    /// The text has different private keys.
    TwoKeys,
    /// The text has a public key and no private key.
    PublicKey,
    /// The text has a certificate request.
    Request,
    /// The text has a PKCS #7 bundle.
    Pkcs7,
    /// The text has a PKCS #12 key store.
    Pkcs12,
    /// The text has a block of another kind.
    OtherBlock,
    /// The key is encrypted.
    Encrypted,
    /// certkeep does not support the algorithm or the size of the key.
    Unsupported(UnsupportedKey),
    /// The key is not DER of the form that its BEGIN line names.
    Malformed,
    /// The ML-DSA key is not in one of the three forms of RFC 9881 6.
    MlDsaForm(MlDsaForm),
    /// The elliptic-curve key names no curve.
    NoCurve,
    /// The parts of the key contradict each other.
    Inconsistent,
    /// A factor of the RSA key is not a prime, so the key cannot sign.
    CompositeFactor,
    /// The key is valid and belongs to none of the certificates.
    Mismatch,
}

/// A wrong form of an ML-DSA private key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MlDsaForm {
    /// The bytes of the seed without a tag.
    BareSeed,
    /// The bytes of the expanded key without a tag.
    BareExpandedKey,
    /// The bytes of the seed and of the expanded key, without tags.
    BareSeedAndExpandedKey,
    /// The seed as an OCTET STRING.
    SeedAsOctetString,
}

/// The public key that was derived from a private key.
type Derived = Result<PublicKey, PrivateKeyError>;

impl PrivateKey {
    /// Parses the PEM text of one private key, at most 64 KiB, and notes what is remarkable about its blocks.
    pub(super) fn parse(text: &Secret) -> (Result<Self, PrivateKeyError>, TextNotes) {
        let mut notes = TextNotes::default();
        let text = text.expose();
        if text.trim_ascii().is_empty() {
            return (Err(PrivateKeyError::Missing), notes);
        }
        if text.len() > MAX_BYTES {
            return (Err(PrivateKeyError::TooLarge { bytes: text.len() }), notes);
        }
        let text = PlainText::of(text);
        let key = blocks(&text, &mut notes).and_then(|blocks| Self::of_blocks(&blocks, &mut notes));
        (key, notes)
    }

    /// Parses the private key in blocks of private keys and of EC PARAMETERS, in the order of the text: PKCS#8 version 1 or
    /// 2 (RFC 5958), PKCS#1 (RFC 8017 A.1.2) or SEC 1 (RFC 5915). Arithmetic proves that the parts of the key belong
    /// together. Nothing is signed, and no prime is tested.
    ///
    /// Several blocks with the same public key are one key: the first block is the result.
    pub(super) fn of_blocks(blocks: &[Block<'_>], notes: &mut TextNotes) -> Result<Self, PrivateKeyError> {
        let mut encodings = Encoding::distinct(blocks, notes)?.into_iter();
        let first = encodings
            .next()
            .ok_or(PrivateKeyError::Pem(PemError::NoBlock))?
            .read()?;
        for other in encodings {
            if other.read()?.public != first.public {
                return Err(PrivateKeyError::TwoKeys);
            }
        }
        Ok(first)
    }

    /// Reads a key that was stored: PKCS#8 in strict DER.
    pub(super) fn from_pkcs8(der: &Secret) -> Result<Self, PrivateKeyError> {
        pkcs8_form::read(Zeroizing::new(der.expose().to_vec()))
    }

    /// Takes a key in the form that will be stored. OpenSSL must load it, because consumers use OpenSSL.
    fn new(pkcs8: Secret, public: PublicKey) -> Result<Self, PrivateKeyError> {
        PKey::private_key_from_pkcs8(pkcs8.expose()).map_err(|_| PrivateKeyError::Malformed)?;
        Ok(Self { pkcs8, public })
    }

    /// The key as the DER encoding of a PKCS#8 `OneAsymmetricKey` (RFC 5958 2).
    pub fn pkcs8_der(&self) -> &Secret {
        &self.pkcs8
    }

    /// The weaknesses with which others can compute it.
    pub(super) fn weaknesses(&self) -> Weaknesses {
        weakness::of(self.pkcs8.expose())
    }

    /// Whether the factors of an RSA key are prime. They are not tested if the key has more than 6144 bits or the factor more than 3072, because
    /// that takes too long: the answer is yes.
    pub(super) fn has_prime_factors(&self) -> bool {
        weakness::has_prime_factors(self.pkcs8.expose())
    }

    /// Whether a signature of the key is valid under its public key. An RSA key of more than 4096 bits is not tried, because
    /// signing takes too long: the answer is yes.
    pub(super) fn signs(&self) -> bool {
        const MAX_RSA_BITS: u32 = 4096;
        if matches!(self.public, PublicKey::Rsa { .. }) && self.public.size() > MAX_RSA_BITS {
            return true;
        }
        self.sign_and_verify().unwrap_or(false)
    }

    fn sign_and_verify(&self) -> Result<bool, ErrorStack> {
        let message = b"certkeep";
        let key = PKey::private_key_from_pkcs8(self.pkcs8.expose())?;
        let signature = Signer::new_without_digest(&key)?.sign_oneshot_to_vec(message)?;
        Verifier::new_without_digest(&key)?.verify_oneshot(&signature, message)
    }

    /// Whether it is the private key of a certificate with this public key.
    pub(super) fn belongs_to(&self, leaf: &PublicKey) -> bool {
        leaf.admits(self.public_key())
    }

    pub(super) fn public_key(&self) -> &PublicKey {
        &self.public
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PrivateKey").field(&self.pkcs8).finish()
    }
}

impl From<PublicKeyError> for PrivateKeyError {
    fn from(error: PublicKeyError) -> Self {
        match error {
            PublicKeyError::Malformed => Self::Malformed,
            PublicKeyError::Unsupported(key) => Self::Unsupported(key),
        }
    }
}

/// The blocks of private keys in a plain text, with the blocks of EC PARAMETERS that OpenSSL writes before them. At least one is a key.
fn blocks<'a>(text: &'a [u8], notes: &mut TextNotes) -> Result<Vec<Block<'a>>, PrivateKeyError> {
    let (mut keys, mut certificate) = (Vec::new(), false);
    for block in pem::blocks(text) {
        let block = block.map_err(PrivateKeyError::Pem)?;
        if notes.see(&block) {
            continue;
        }
        match block.label {
            label if label.is_private_key() || label == Label::EcParameters => keys.push(block),
            Label::Certificate => certificate = true,
            Label::CertificateRequest => return Err(PrivateKeyError::Request),
            Label::Pkcs7 => return Err(PrivateKeyError::Pkcs7),
            Label::Pkcs12 => return Err(PrivateKeyError::Pkcs12),
            _ => return Err(PrivateKeyError::OtherBlock),
        }
    }
    if keys.iter().any(|block| block.label.is_private_key()) {
        if certificate {
            notes.drop(DroppedBlock::Certificate);
        }
        return Ok(keys);
    }
    Err(match notes.first_dropped() {
        _ if certificate => PrivateKeyError::HoldsCertificate,
        Some(DroppedBlock::PublicKey) => PrivateKeyError::PublicKey,
        None if keys.is_empty() => PrivateKeyError::Pem(PemError::NoBlock),
        _ => PrivateKeyError::OtherBlock,
    })
}

/// Moves octets into a `Secret` without a copy.
fn into_secret(mut bytes: Zeroizing<Vec<u8>>) -> Secret {
    Secret::from(std::mem::take(&mut *bytes))
}

#[cfg(test)]
mod tests {
    use openssl::ec::EcKey;
    use openssl::nid::Nid;
    use openssl::pkey::Private;
    use openssl::symm::Cipher;

    use super::super::test_pair::{self, pem};
    use super::*;

    fn parse(text: &[u8]) -> Result<Vec<u8>, PrivateKeyError> {
        let (key, _) = PrivateKey::parse(&Secret::from(text.to_vec()));
        key.map(|key| key.pkcs8_der().expose().to_vec())
    }

    /// Loads the stored form with OpenSSL.
    fn stored(text: &[u8]) -> PKey<Private> {
        PKey::private_key_from_pkcs8(&parse(text).unwrap()).unwrap()
    }

    #[test]
    fn pkcs1_and_sec1_are_wrapped_unchanged() {
        let key = test_pair::rsa_key(1024);
        let body = key.rsa().unwrap().private_key_to_der().unwrap();
        assert_eq!(
            parse(&pem("RSA PRIVATE KEY", &body)).unwrap(),
            key.private_key_to_pkcs8().unwrap()
        );

        for curve in [Nid::X9_62_PRIME256V1, Nid::SECP384R1, Nid::SECP521R1, Nid::SECP256K1] {
            let key = test_pair::ec_key(curve);
            let body = key.ec_key().unwrap().private_key_to_der().unwrap();
            let text = pem("EC PRIVATE KEY", &body);
            assert!(parse(&text).unwrap().ends_with(&body));
            assert!(stored(&text).public_eq(&key));
        }
    }

    #[test]
    fn ec_parameters_may_stand_before_a_key() {
        let key = test_pair::ec_key(Nid::SECP384R1).ec_key().unwrap();
        let body = key.private_key_to_der().unwrap();
        let p384 = pem("EC PARAMETERS", &hex::decode("06052b81040022").unwrap());
        let p521 = pem("EC PARAMETERS", &hex::decode("06052b81040023").unwrap());
        let text = pem("EC PRIVATE KEY", &body);
        assert_eq!(parse(&[p384.clone(), text.clone()].concat()), parse(&text));
        assert_eq!(parse(&[p521, text].concat()), Err(PrivateKeyError::Inconsistent));
        assert_eq!(parse(&p384), Err(PrivateKeyError::OtherBlock));
        let explicit = pem("EC PARAMETERS", &test_pair::sequence(&[]));
        assert_eq!(
            parse(&[explicit, pem("EC PRIVATE KEY", &body)].concat()),
            Err(PrivateKeyError::Unsupported(UnsupportedKey::ExplicitCurve))
        );
    }

    #[test]
    fn encrypted_keys_are_said_to_be_encrypted() {
        let key = test_pair::rsa_key(1024);
        let new = key
            .private_key_to_pem_pkcs8_passphrase(Cipher::aes_128_cbc(), b"secret")
            .unwrap();
        let old = key
            .rsa()
            .unwrap()
            .private_key_to_pem_passphrase(Cipher::aes_128_cbc(), b"secret")
            .unwrap();
        assert!(new.starts_with(b"-----BEGIN ENCRYPTED PRIVATE KEY-----"));
        assert!(old.starts_with(b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED"));
        for text in [new, old] {
            assert_eq!(parse(&text), Err(PrivateKeyError::Encrypted));
        }
    }

    #[test]
    fn every_other_text_has_its_own_answer() {
        let pair = test_pair::ec();
        let (key, certificate) = (pair.key_pem(), pair.certificate_pem());
        let dsa = UnsupportedKey::Algorithm { name: "DSA".into() };
        let open_ssh = UnsupportedKey::Format { name: "OpenSSH" };
        let largest = 64 * 1024;
        for (text, error) in [
            (b" \n".to_vec(), PrivateKeyError::Missing),
            (vec![b'x'; largest], PrivateKeyError::Pem(PemError::NoBlock)),
            (
                vec![b'x'; largest + 1],
                PrivateKeyError::TooLarge { bytes: largest + 1 },
            ),
            (
                pair.key.private_key_to_der().unwrap(),
                PrivateKeyError::Pem(PemError::NoBlock),
            ),
            (
                [key.clone(), test_pair::ec().key_pem()].concat(),
                PrivateKeyError::TwoKeys,
            ),
            (certificate.clone(), PrivateKeyError::HoldsCertificate),
            (pair.key.public_key_to_pem().unwrap(), PrivateKeyError::PublicKey),
            (pem("CERTIFICATE REQUEST", b"x"), PrivateKeyError::Request),
            (pem("PKCS7", b"x"), PrivateKeyError::Pkcs7),
            (pem("PKCS12", b"x"), PrivateKeyError::Pkcs12),
            (pem("DH PARAMETERS", b"x"), PrivateKeyError::OtherBlock),
            (pem("A", b"x"), PrivateKeyError::OtherBlock),
            (pem("DSA PRIVATE KEY", b"x"), PrivateKeyError::Unsupported(dsa)),
            (pem("OPENSSH PRIVATE KEY", b"x"), PrivateKeyError::Unsupported(open_ssh)),
            (pem("PRIVATE KEY", b"x"), PrivateKeyError::Malformed),
            (
                key[..key.len() - 30].to_vec(),
                PrivateKeyError::Pem(PemError::NotClosed { block: 1 }),
            ),
        ] {
            assert_eq!(parse(&text), Err(error));
        }
    }

    #[test]
    fn other_blocks_beside_the_key_are_left_out() {
        let pair = test_pair::ec();
        for beside in [
            pair.certificate_pem(),
            pair.key.public_key_to_pem().unwrap(),
            pem("DH PARAMETERS", b"x"),
            pem("EC PARAMETERS", b"x"),
            pem("X509 CRL", b"x"),
        ] {
            for text in [
                [pair.key_pem(), beside.clone()].concat(),
                [beside, pair.key_pem()].concat(),
            ] {
                assert!(stored(&text).public_eq(&pair.key));
            }
        }
    }

    #[test]
    fn the_content_decides_and_not_the_label() {
        for key in [test_pair::ec().key, test_pair::rsa_key(1024), test_pair::ed25519().key] {
            let pkcs8 = key.private_key_to_pkcs8().unwrap();
            for label in [
                "PRIVATE KEY",
                "RSA PRIVATE KEY",
                "EC PRIVATE KEY",
                "CERTIFICATE",
                "PUBLIC KEY",
            ] {
                assert_eq!(parse(&pem(label, &pkcs8)).as_ref(), Ok(&pkcs8), "{label}");
            }
        }
        let ec = test_pair::ec().key;
        let sec1 = ec.ec_key().unwrap().private_key_to_der().unwrap();
        assert!(stored(&pem("PRIVATE KEY", &sec1)).public_eq(&ec));
    }

    #[test]
    fn a_bag_of_attributes_around_the_key_does_not_matter() {
        let pair = test_pair::ec();
        let text = [
            b"Bag Attributes\r    localKeyID: 01\rKey Attributes: <No Attributes>\r".to_vec(),
            pair.key_pem(),
        ];
        let text = String::from_utf8(text.concat()).unwrap().replace('\n', "\r");
        assert!(stored(text.as_bytes()).public_eq(&pair.key));
    }

    #[test]
    fn is_never_shown() {
        let key = EcKey::generate(super::super::key_type::Curve::P256.group().unwrap()).unwrap();
        let text = Secret::from(key.private_key_to_pem().unwrap());
        assert_eq!(
            format!("{:?}", PrivateKey::parse(&text).0.unwrap()),
            "PrivateKey(<redacted>)"
        );
    }
}
