//! Public keys.

use std::fmt;
use std::str::FromStr;

use pkcs1::{RsaPublicKeyRef, UintRef};
use pkcs8::der::asn1::{AnyRef, BitStringRef};
use pkcs8::der::{self, Decode, Encode};
use pkcs8::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};

use super::UnsupportedKey;
use super::key_type::{Curve, EC, EdwardsCurve, KeyType, MlDsa, RSA};
use super::rsa_scheme::RsaScheme;

/// The allowed sizes of an RSA modulus in bits.
const RSA_BITS: std::ops::RangeInclusive<u32> = 1024..=16384;

/// The algorithm of a key. [`Display`](fmt::Display) writes `RSA`, `RSA-PSS`, `ECDSA P-256`, `ECDSA P-384`, `ECDSA
/// P-521`, `ECDSA secp256k1`, `Ed25519`, `Ed448`, `ML-DSA-44`, `ML-DSA-65` or `ML-DSA-87`. [`FromStr`] reads these
/// names.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum KeyAlgorithm {
    /// RSA (RFC 8017), of any size.
    Rsa,
    /// RSA of any size, for RSASSA-PSS only (RFC 4055 1.2).
    RsaPss,
    /// ECDSA on P-256 (FIPS 186-5).
    EcdsaP256,
    /// ECDSA on P-384 (FIPS 186-5).
    EcdsaP384,
    /// ECDSA on P-521 (FIPS 186-5).
    EcdsaP521,
    /// ECDSA on secp256k1 (SEC 2 2.4.1).
    EcdsaSecp256k1,
    /// Ed25519 (RFC 8032).
    Ed25519,
    /// Ed448 (RFC 8032).
    Ed448,
    /// ML-DSA-44 (FIPS 204).
    MlDsa44,
    /// ML-DSA-65 (FIPS 204).
    MlDsa65,
    /// ML-DSA-87 (FIPS 204).
    MlDsa87,
}

/// A text that is not the name of a [`KeyAlgorithm`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("unknown key algorithm")]
pub struct KeyAlgorithmError;

/// A public key in a form in which equal keys are equal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum PublicKey {
    /// Modulus and exponent, big-endian without leading zeros.
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
        scheme: RsaScheme,
    },
    /// A point of the curve, uncompressed.
    Ec { curve: Curve, point: Vec<u8> },
    /// The bytes of RFC 8032 5.1.2 or 5.2.2.
    Edwards { curve: EdwardsCurve, bytes: Vec<u8> },
    /// The bytes of FIPS 204, algorithm 22.
    MlDsa { set: MlDsa, bytes: Vec<u8> },
}

/// Why a public key cannot be used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum PublicKeyError {
    /// The key is not encoded as its algorithm requires, or its point is not on its curve.
    Malformed,
    /// certkeep does not support the algorithm of the key.
    Unsupported(UnsupportedKey),
}

impl PublicKey {
    /// Reads a `SubjectPublicKeyInfo` (RFC 5280 4.1.2.7) in strict DER.
    pub(super) fn from_spki(der: &[u8]) -> Result<Self, PublicKeyError> {
        let spki = SubjectPublicKeyInfoRef::from_der(der).map_err(|_| PublicKeyError::Malformed)?;
        let bytes = spki.subject_public_key.as_bytes().ok_or(PublicKeyError::Malformed)?;
        match KeyType::of(spki.algorithm)? {
            KeyType::Rsa(scheme) => Self::from_pkcs1(bytes, scheme),
            KeyType::Ec(curve) => {
                let point = curve.point(bytes).ok_or(PublicKeyError::Malformed)?;
                Ok(Self::Ec { curve, point })
            }
            KeyType::Edwards(curve) if bytes.len() == curve.key_bytes() => Ok(Self::Edwards {
                curve,
                bytes: bytes.to_vec(),
            }),
            KeyType::MlDsa(set) if bytes.len() == set.public_key_bytes() => Ok(Self::MlDsa {
                set,
                bytes: bytes.to_vec(),
            }),
            KeyType::Edwards(_) | KeyType::MlDsa(_) => Err(PublicKeyError::Malformed),
        }
    }

    /// Reads an `RSAPublicKey` (RFC 8017 A.1.1) in strict DER.
    pub(super) fn from_pkcs1(der: &[u8], scheme: RsaScheme) -> Result<Self, PublicKeyError> {
        let key = RsaPublicKeyRef::from_der(der).map_err(|_| PublicKeyError::Malformed)?;
        Self::from_rsa(key.modulus, key.public_exponent, scheme)
    }

    /// Accepts an RSA key if the modulus has 1024 to 16384 bits and the exponent is not longer than the modulus.
    pub(super) fn from_rsa(
        modulus: UintRef<'_>,
        exponent: UintRef<'_>,
        scheme: RsaScheme,
    ) -> Result<Self, PublicKeyError> {
        let bits = bits(modulus.as_bytes());
        if !RSA_BITS.contains(&bits) {
            return Err(PublicKeyError::Unsupported(UnsupportedKey::RsaSize { bits }));
        }
        if exponent.as_bytes().len() > modulus.as_bytes().len() {
            return Err(PublicKeyError::Malformed);
        }
        Ok(Self::Rsa {
            modulus: modulus.as_bytes().to_vec(),
            exponent: exponent.as_bytes().to_vec(),
            scheme,
        })
    }

    /// The `SubjectPublicKeyInfo` (RFC 5280 4.1.2.7) of the key. All encodings of a key give the same result: the point
    /// is uncompressed, and an RSA key of any scheme is written as `rsaEncryption`.
    pub(super) fn to_spki(&self) -> Option<Vec<u8>> {
        self.encode().ok()
    }

    // Fails only for keys that are too long for DER.
    fn encode(&self) -> der::Result<Vec<u8>> {
        let spki = |oid, parameters, key: &[u8]| {
            let algorithm = AlgorithmIdentifierRef { oid, parameters };
            let subject_public_key = BitStringRef::from_bytes(key)?;
            SubjectPublicKeyInfoRef {
                algorithm,
                subject_public_key,
            }
            .to_der()
        };
        match self {
            Self::Rsa { modulus, exponent, .. } => {
                let key = RsaPublicKeyRef {
                    modulus: UintRef::new(modulus)?,
                    public_exponent: UintRef::new(exponent)?,
                };
                spki(RSA, Some(AnyRef::NULL), &key.to_der()?)
            }
            Self::Ec { curve, point } => spki(EC, Some((&curve.oid()).into()), point),
            Self::Edwards { curve, bytes } => spki(curve.oid(), None, bytes),
            Self::MlDsa { set, bytes } => spki(set.oid(), None, bytes),
        }
    }

    /// Whether a certificate for this key may belong to a private key. `derived` is the public key that was derived
    /// from the private key.
    pub(super) fn admits(&self, derived: &Self) -> bool {
        match (self, derived) {
            (
                Self::Rsa {
                    modulus,
                    exponent,
                    scheme,
                },
                Self::Rsa {
                    modulus: derived_modulus,
                    exponent: derived_exponent,
                    scheme: derived_scheme,
                },
            ) => modulus == derived_modulus && exponent == derived_exponent && scheme.admits(*derived_scheme),
            _ => self == derived,
        }
    }

    pub(super) fn algorithm(&self) -> KeyAlgorithm {
        match self {
            Self::Rsa {
                scheme: RsaScheme::Any, ..
            } => KeyAlgorithm::Rsa,
            Self::Rsa {
                scheme: RsaScheme::Pss(_),
                ..
            } => KeyAlgorithm::RsaPss,
            Self::Ec { curve: Curve::P256, .. } => KeyAlgorithm::EcdsaP256,
            Self::Ec { curve: Curve::P384, .. } => KeyAlgorithm::EcdsaP384,
            Self::Ec { curve: Curve::P521, .. } => KeyAlgorithm::EcdsaP521,
            Self::Ec {
                curve: Curve::Secp256k1,
                ..
            } => KeyAlgorithm::EcdsaSecp256k1,
            Self::Edwards {
                curve: EdwardsCurve::Ed25519,
                ..
            } => KeyAlgorithm::Ed25519,
            Self::Edwards {
                curve: EdwardsCurve::Ed448,
                ..
            } => KeyAlgorithm::Ed448,
            Self::MlDsa {
                set: MlDsa::MlDsa44, ..
            } => KeyAlgorithm::MlDsa44,
            Self::MlDsa {
                set: MlDsa::MlDsa65, ..
            } => KeyAlgorithm::MlDsa65,
            Self::MlDsa {
                set: MlDsa::MlDsa87, ..
            } => KeyAlgorithm::MlDsa87,
        }
    }

    /// The size in bits of the RSA modulus, of the field of the ECDSA curve, or of the EdDSA or ML-DSA public key.
    pub(super) fn size(&self) -> u32 {
        match self {
            Self::Rsa { modulus, .. } => bits(modulus),
            Self::Ec { curve, .. } => curve.bits(),
            Self::Edwards { bytes, .. } | Self::MlDsa { bytes, .. } => bits_of(bytes.len()),
        }
    }
}

/// The size in bits of a big-endian number without leading zeros.
fn bits(number: &[u8]) -> u32 {
    let Some(first) = number.first() else { return 0 };
    bits_of(number.len()) - first.leading_zeros()
}

/// The number of bits in this number of bytes.
fn bits_of(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX).saturating_mul(8)
}

impl KeyAlgorithm {
    /// Every algorithm.
    pub const ALL: [Self; 11] = [
        Self::Rsa,
        Self::RsaPss,
        Self::EcdsaP256,
        Self::EcdsaP384,
        Self::EcdsaP521,
        Self::EcdsaSecp256k1,
        Self::Ed25519,
        Self::Ed448,
        Self::MlDsa44,
        Self::MlDsa65,
        Self::MlDsa87,
    ];

    /// The name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rsa => "RSA",
            Self::RsaPss => "RSA-PSS",
            Self::EcdsaP256 => "ECDSA P-256",
            Self::EcdsaP384 => "ECDSA P-384",
            Self::EcdsaP521 => "ECDSA P-521",
            Self::EcdsaSecp256k1 => "ECDSA secp256k1",
            Self::Ed25519 => "Ed25519",
            Self::Ed448 => "Ed448",
            Self::MlDsa44 => "ML-DSA-44",
            Self::MlDsa65 => "ML-DSA-65",
            Self::MlDsa87 => "ML-DSA-87",
        }
    }
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for KeyAlgorithm {
    type Err = KeyAlgorithmError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.as_str() == text)
            .ok_or(KeyAlgorithmError)
    }
}

#[cfg(test)]
mod tests {
    use openssl::bn::BigNumContext;
    use openssl::ec::PointConversionForm;
    use openssl::nid::Nid;

    use super::super::test_pair::{self, der, integer, sequence};
    use super::*;

    #[test]
    fn a_compressed_point_is_the_same_key() {
        let key = test_pair::ec_key(Nid::SECP384R1);
        let plain = PublicKey::from_spki(&key.public_key_to_der().unwrap()).unwrap();
        let key = key.ec_key().unwrap();
        let mut context = BigNumContext::new().unwrap();
        let point = key
            .public_key()
            .to_bytes(key.group(), PointConversionForm::COMPRESSED, &mut context)
            .unwrap();
        let algorithm = sequence(&[&EC.to_der().unwrap(), &Curve::P384.oid().to_der().unwrap()]);
        let spki = PublicKey::from_spki(&sequence(&[&algorithm, &der(3, &[&[0], &point[..]].concat())]));
        assert_eq!(spki, Ok(plain));
    }

    #[test]
    fn is_written_in_one_form() {
        use super::super::test_pair::{ml_dsa_key, rsa_key, rsa_pss_spki};
        for key in [
            rsa_key(1024),
            test_pair::ec_key(Nid::SECP521R1),
            test_pair::ec_key(Nid::SECP256K1),
            test_pair::ed25519().key,
            openssl::pkey::PKey::generate_ed448().unwrap(),
            ml_dsa_key(MlDsa::MlDsa65).0,
        ] {
            let spki = key.public_key_to_der().unwrap();
            assert_eq!(PublicKey::from_spki(&spki).unwrap().to_spki(), Some(spki));
        }
        let key = rsa_key(1024);
        let pss = PublicKey::from_spki(&rsa_pss_spki(&key, &[])).unwrap();
        assert_eq!(pss.to_spki(), key.public_key_to_der().ok());
    }

    #[test]
    fn points_off_the_curve_and_at_infinity_are_refused() {
        let key = test_pair::ec_key(Nid::X9_62_PRIME256V1).public_key_to_der().unwrap();
        let algorithm = &key[2..key.len() - 68];
        let spki = |point: &[u8]| sequence(&[algorithm, &der(3, &[&[0], point].concat())]);
        assert!(PublicKey::from_spki(&spki(&key[key.len() - 65..])).is_ok());
        let mut off_curve = key[key.len() - 65..].to_vec();
        off_curve[64] ^= 1;
        for point in [&off_curve[..], &[0], &[], &off_curve[..64]] {
            assert_eq!(
                PublicKey::from_spki(&spki(point)),
                Err(PublicKeyError::Malformed),
                "{point:?}"
            );
        }
    }

    #[test]
    fn an_edwards_public_key_has_its_length_and_no_parameters() {
        for (oid, len) in [("1.3.101.112", 32), ("1.3.101.113", 57)] {
            let oid = pkcs8::ObjectIdentifier::new_unwrap(oid).to_der().unwrap();
            let spki = |parameters: &[u8], len: usize| {
                let key = der(3, &vec![0; len + 1]);
                PublicKey::from_spki(&sequence(&[&sequence(&[&oid, parameters]), &key])).map(|key| key.size())
            };
            assert_eq!(spki(&[], len), Ok(u32::try_from(len).unwrap() * 8));
            assert_eq!(spki(&[5, 0], len), Err(PublicKeyError::Malformed));
            assert_eq!(spki(&[], len - 1), Err(PublicKeyError::Malformed));
            assert_eq!(spki(&[], len + 1), Err(PublicKeyError::Malformed));
        }
    }

    #[test]
    fn an_rsa_modulus_has_1024_to_16384_bits() {
        let key = |bytes: usize, first: u8| {
            let mut modulus = vec![0xff; bytes];
            modulus[0] = first;
            PublicKey::from_pkcs1(&sequence(&[&integer(&modulus), &integer(&[3])]), RsaScheme::Any)
                .map(|key| key.size())
        };
        let too = |bits| Err(PublicKeyError::Unsupported(UnsupportedKey::RsaSize { bits }));
        assert_eq!(key(128, 0x80), Ok(1024));
        assert_eq!(key(128, 0x7f), too(1023));
        assert_eq!(key(2048, 0xff), Ok(16384));
        assert_eq!(key(2049, 1), too(16385));
    }
}
