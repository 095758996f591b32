//! The forms in which a stored key pair is handed out.

use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkcs5::pbkdf2_hmac;
use openssl::pkcs12::Pkcs12;
use openssl::pkey::PKey;
use openssl::stack::Stack;
use openssl::symm::{Cipher, encrypt};
use openssl::x509::X509;
use pkcs8::ObjectIdentifier;
use pkcs8::der::asn1::{AnyRef, OctetStringRef};
use pkcs8::der::{self, Encode, Tag};
use zeroize::Zeroizing;

use super::public_key::PublicKey;
use super::stored_pair::PRIVATE_KEY;
use super::{KeyAlgorithm, StoredPair, pem};
use crate::digest;
use crate::secret::Secret;

/// The iterations of a key derivation: the recommendation of OWASP for PBKDF2 with HMAC-SHA-256. A form takes about half a second.
const ITERATIONS: u32 = 600_000;
/// The iterations of the older form: the most that Java 8 itself used. Programs that need this form are slow.
const LEGACY_ITERATIONS: u32 = 100_000;

/// The form of a key pair.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyPairFormat {
    /// The chain, and the key as unencrypted PKCS#8, both in PEM.
    Pem,
    /// The same with an encrypted key: PBES2 (RFC 8018) with PBKDF2, HMAC-SHA-256 and AES-256-CBC.
    PemEncrypted,
    /// The key and then the chain, in one PEM text.
    PemBundle,
    /// PKCS#12 (RFC 7292) with PBES2, AES-256-CBC and an HMAC-SHA-256 MAC.
    Pkcs12,
    /// PKCS#12 with PBE-SHA1-3DES and an HMAC-SHA-1 MAC.
    Pkcs12Legacy,
}

/// A key pair in one of its forms.
#[derive(Debug)]
pub enum EncodedPair {
    /// A chain and a key, each in PEM.
    Pem {
        /// The chain, the leaf first.
        chain: String,
        /// The key.
        private_key: Secret,
    },
    /// The key and the chain in one PEM text.
    Bundle(Secret),
    /// A PKCS#12 file.
    Pkcs12(Secret),
}

/// Why a pair cannot be encoded.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The form cannot hold a key of this algorithm as it was stored.
    #[error("the form cannot hold a key of {0}")]
    Unfit(KeyAlgorithm),
    /// OpenSSL failed.
    #[error("the crypto library failed")]
    Library(#[from] ErrorStack),
    /// The random generator failed.
    #[error(transparent)]
    Random(#[from] digest::Error),
    /// The key is too long for DER.
    #[error("the encrypted key cannot be encoded")]
    Der(#[from] der::Error),
}

impl KeyPairFormat {
    /// The name in audit events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pem => "pem",
            Self::PemEncrypted => "pem_encrypted",
            Self::PemBundle => "pem_bundle",
            Self::Pkcs12 => "pkcs12",
            Self::Pkcs12Legacy => "pkcs12_legacy",
        }
    }

    /// Whether the form needs a password. Deriving keys from it takes a large part of a second.
    pub const fn needs_password(self) -> bool {
        match self {
            Self::Pem | Self::PemBundle => false,
            Self::PemEncrypted | Self::Pkcs12 | Self::Pkcs12Legacy => true,
        }
    }

    /// Whether the entry has a friendly name.
    pub const fn has_alias(self) -> bool {
        matches!(self, Self::Pkcs12 | Self::Pkcs12Legacy)
    }
}

impl StoredPair {
    /// Encodes the pair. The password is printable ASCII. The alias is the friendly name of a PKCS#12 entry, without control
    /// characters. The forms without them ignore them.
    pub fn encode(&self, format: KeyPairFormat, password: &Secret, alias: &str) -> Result<EncodedPair, EncodeError> {
        if format.has_alias() && !self.fits_pkcs12() {
            return Err(EncodeError::Unfit(self.key_algorithm()));
        }
        let pem = |private_key| EncodedPair::Pem {
            chain: self.chain.to_pem(),
            private_key,
        };
        Ok(match format {
            KeyPairFormat::Pem => pem(self.private_key_pem()),
            KeyPairFormat::PemEncrypted => pem(self.encrypted_pem(password)?),
            KeyPairFormat::PemBundle => EncodedPair::Bundle(self.bundle()),
            KeyPairFormat::Pkcs12 | KeyPairFormat::Pkcs12Legacy => {
                EncodedPair::Pkcs12(self.pkcs12(format, password, alias)?)
            }
        })
    }

    /// Whether a PKCS#12 file holds the key as it was stored. OpenSSL writes the keys of such a file itself: it would turn the seed of
    /// an ML-DSA key into another form, or lose it. It also refuses a key whose algorithm identifier differs from that of the leaf
    /// (RSA with RSA-PSS).
    fn fits_pkcs12(&self) -> bool {
        !matches!(self.leaf_key, PublicKey::MlDsa { .. }) && self.leaf_key == *self.private_key.public_key()
    }

    fn bundle(&self) -> Secret {
        let key = self.private_key.pkcs8_der().expose();
        // Room for the whole text: no reallocation leaves a copy in memory.
        let mut text = Vec::with_capacity(pem::written_len(PRIVATE_KEY, key.len()) + self.chain.pem_len());
        pem::write(PRIVATE_KEY, key, &mut text);
        self.chain.write_pem(&mut text);
        Secret::from(text)
    }

    /// The stored octets of the key as `EncryptedPrivateKeyInfo` (RFC 5958 3). OpenSSL's own function derives the key with 2,048
    /// iterations, and writes the key anew.
    fn encrypted_pem(&self, password: &Secret) -> Result<Secret, EncodeError> {
        const LABEL: &str = "ENCRYPTED PRIVATE KEY";
        let (salt, iv) = (digest::random::<16>()?, digest::random::<16>()?);
        let mut key = Zeroizing::new([0; 32]);
        pbkdf2_hmac(
            password.expose(),
            &salt,
            ITERATIONS as usize,
            MessageDigest::sha256(),
            &mut *key,
        )?;
        let encrypted = encrypt(
            Cipher::aes_256_cbc(),
            &*key,
            Some(&iv),
            self.private_key.pkcs8_der().expose(),
        )?;
        let der = encrypted_private_key_info(&salt, &iv, &encrypted)?;
        let mut text = Vec::with_capacity(pem::written_len(LABEL, der.len()));
        pem::write(LABEL, &der, &mut text);
        Ok(Secret::from(text))
    }

    fn pkcs12(&self, format: KeyPairFormat, password: &Secret, alias: &str) -> Result<Secret, EncodeError> {
        let (algorithm, digest, iterations) = match format {
            KeyPairFormat::Pkcs12Legacy => (
                Nid::PBE_WITHSHA1AND3_KEY_TRIPLEDES_CBC,
                MessageDigest::sha1(),
                LEGACY_ITERATIONS,
            ),
            _ => (Nid::AES_256_CBC, MessageDigest::sha256(), ITERATIONS),
        };
        let mut issuers = Stack::new()?;
        let mut leaf = None;
        for der in self.chain.der() {
            let certificate = X509::from_der(der)?;
            match leaf {
                None => leaf = Some(certificate),
                Some(_) => issuers.push(certificate)?,
            }
        }
        let key = PKey::private_key_from_pkcs8(self.private_key.pkcs8_der().expose())?;
        let mut builder = Pkcs12::builder();
        builder
            .name(alias)
            .pkey(&key)
            .ca(issuers)
            .key_algorithm(algorithm)
            .cert_algorithm(algorithm)
            .key_iter(iterations)
            .mac_iter(iterations)
            .mac_md(digest);
        if let Some(leaf) = &leaf {
            builder.cert(leaf);
        }
        // The password was checked to be ASCII.
        let password = Zeroizing::new(String::from_utf8_lossy(password.expose()).into_owned());
        Ok(Secret::from(builder.build2(&password)?.to_der()?))
    }
}

/// `EncryptedPrivateKeyInfo` with the parameters of PBES2 (RFC 8018 A.4).
fn encrypted_private_key_info(salt: &[u8], iv: &[u8], encrypted: &[u8]) -> der::Result<Vec<u8>> {
    /// `id-PBES2` (RFC 8018 A.4).
    const PBES2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.5.13");
    /// `id-PBKDF2` (RFC 8018 A.2).
    const PBKDF2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.5.12");
    /// `id-hmacWithSHA256` (RFC 8018 B.1.2).
    const HMAC_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.2.9");
    /// `aes256-CBC-PAD` (RFC 8018 B.2.5).
    const AES_256_CBC: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.1.42");
    let sequence = |parts: &[Vec<u8>]| AnyRef::new(Tag::Sequence, &parts.concat())?.to_der();
    let octets = |bytes: &[u8]| OctetStringRef::new(bytes)?.to_der();
    let prf = sequence(&[HMAC_SHA256.to_der()?, AnyRef::NULL.to_der()?])?;
    let derivation = sequence(&[octets(salt)?, ITERATIONS.to_der()?, prf])?;
    let derivation = sequence(&[PBKDF2.to_der()?, derivation])?;
    let cipher = sequence(&[AES_256_CBC.to_der()?, octets(iv)?])?;
    let algorithm = sequence(&[PBES2.to_der()?, sequence(&[derivation, cipher])?])?;
    sequence(&[algorithm, octets(encrypted)?])
}

#[cfg(test)]
mod tests {
    use openssl::pkey::Private;

    use super::super::key_type::MlDsa;
    use super::super::test_pair::{self, TestPair, ec_key, ml_dsa_key, rsa_key, rsa_pss_key};
    use super::super::{Chain, Sha256Fingerprint};
    use super::*;

    const PASSWORD: &str = "correct horse";

    /// A leaf of this key, with another certificate in the chain.
    fn pair(key: &PKey<Private>) -> StoredPair {
        let leaf = TestPair::of(key.clone()).certificate.to_der().unwrap();
        let issuer = test_pair::ec().certificate.to_der().unwrap();
        let fingerprint = Sha256Fingerprint::of_der(&leaf);
        let pkcs8 = Secret::from(key.private_key_to_pkcs8().unwrap());
        StoredPair::check(Chain::from_stored(vec![leaf, issuer]), fingerprint, &pkcs8).unwrap()
    }

    fn encode(pair: &StoredPair, format: KeyPairFormat) -> Result<EncodedPair, EncodeError> {
        pair.encode(format, &Secret::from(PASSWORD.to_owned()), "shop 证书")
    }

    fn keys() -> [PKey<Private>; 5] {
        [
            rsa_key(2048),
            rsa_pss_key(2048, &[]),
            ec_key(Nid::SECP384R1),
            ec_key(Nid::SECP256K1),
            PKey::generate_ed25519().unwrap(),
        ]
    }

    #[test]
    fn an_encrypted_key_has_the_stored_octets() {
        for key in [ec_key(Nid::X9_62_PRIME256V1), rsa_pss_key(2048, &[])] {
            let encoded = encode(&pair(&key), KeyPairFormat::PemEncrypted).unwrap();
            let EncodedPair::Pem { chain, private_key } = encoded else {
                panic!("the form is PEM");
            };
            assert_eq!(chain.matches("BEGIN CERTIFICATE").count(), 2);
            let opened = PKey::private_key_from_pem_passphrase(private_key.expose(), PASSWORD.as_bytes()).unwrap();
            assert_eq!(
                opened.private_key_to_pkcs8().unwrap(),
                key.private_key_to_pkcs8().unwrap()
            );
            assert!(PKey::private_key_from_pem_passphrase(private_key.expose(), b"wrong horse").is_err());
        }
    }

    #[test]
    fn a_bundle_has_the_key_before_the_chain() {
        let key = ec_key(Nid::X9_62_PRIME256V1);
        let pair = pair(&key);
        let EncodedPair::Bundle(text) = encode(&pair, KeyPairFormat::PemBundle).unwrap() else {
            panic!("the form is a bundle");
        };
        let expected = [
            key.private_key_to_pem_pkcs8().unwrap(),
            pair.chain.to_pem().into_bytes(),
        ];
        assert_eq!(text.expose(), expected.concat());
    }

    #[test]
    fn pkcs12_has_the_key_the_chain_and_the_alias() {
        // The current form takes long.
        let forms = [KeyPairFormat::Pkcs12]
            .into_iter()
            .chain(std::iter::repeat(KeyPairFormat::Pkcs12Legacy));
        for (key, format) in keys().into_iter().zip(forms) {
            let EncodedPair::Pkcs12(file) = encode(&pair(&key), format).unwrap() else {
                panic!("the form is PKCS#12");
            };
            let parsed = Pkcs12::from_der(file.expose()).unwrap().parse2(PASSWORD).unwrap();
            assert!(parsed.pkey.unwrap().public_eq(&key), "{:?}", key.id());
            assert_eq!(parsed.cert.unwrap().alias(), Some("shop 证书".as_bytes()));
            assert_eq!(parsed.ca.unwrap().len(), 1);
        }
    }

    #[test]
    fn pkcs12_does_not_hold_what_it_would_change() {
        let rsa = rsa_key(2048);
        let mut other_identifier = pair(&rsa);
        let spki = test_pair::rsa_pss_spki(&rsa, &[]);
        other_identifier.leaf_key = PublicKey::from_spki(&spki).unwrap();
        for format in [KeyPairFormat::Pkcs12, KeyPairFormat::Pkcs12Legacy] {
            assert!(matches!(
                encode(&other_identifier, format),
                Err(EncodeError::Unfit(KeyAlgorithm::RsaPss))
            ));
        }
        if openssl::version::number() >= 0x3050_0000 {
            let (key, _) = ml_dsa_key(MlDsa::MlDsa44);
            assert!(matches!(
                encode(&pair(&key), KeyPairFormat::Pkcs12),
                Err(EncodeError::Unfit(KeyAlgorithm::MlDsa44))
            ));
        }
    }
}
