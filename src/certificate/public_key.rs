//! Public keys.

use std::fmt;
use std::str::FromStr;

use openssl::bn::BigNumContext;
use openssl::ec::{EcGroup, EcPoint, PointConversionForm};
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use pkcs1::{RsaPublicKeyRef, UintRef};
use pkcs8::der::asn1::AnyRef;
use pkcs8::der::{Decode, Tag, Tagged};
use pkcs8::{ObjectIdentifier, SubjectPublicKeyInfoRef};

use super::UnsupportedKey;

/// `rsaEncryption` (RFC 8017 A.1).
pub(super) const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// `id-ecPublicKey` (RFC 5480 2.1.1).
pub(super) const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// `id-Ed25519` (RFC 8410 3).
pub(super) const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// The bits that an RSA modulus may have.
const RSA_BITS: std::ops::RangeInclusive<u32> = 1024..=16384;

/// The algorithm of a key. [`Display`](fmt::Display) writes `RSA`, `ECDSA P-256`, `ECDSA P-384`, `ECDSA P-521` or
/// `Ed25519`; [`FromStr`] reads the same.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum KeyAlgorithm {
    /// RSA (RFC 8017), of any size.
    Rsa,
    /// ECDSA on P-256 (FIPS 186-5).
    EcdsaP256,
    /// ECDSA on P-384 (FIPS 186-5).
    EcdsaP384,
    /// ECDSA on P-521 (FIPS 186-5).
    EcdsaP521,
    /// Ed25519 (RFC 8032).
    Ed25519,
}

/// A text that names no algorithm of [`KeyAlgorithm`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the key algorithm is none that certkeep knows")]
pub struct KeyAlgorithmError;

/// A public key in a form in which equal keys are equal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum PublicKey {
    /// Modulus and exponent, big-endian without leading zeros.
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    /// A point of the curve, uncompressed.
    Ec { curve: Curve, point: Vec<u8> },
    /// The 32 bytes of RFC 8032 5.1.2.
    Ed25519([u8; 32]),
}

/// An elliptic curve that certkeep supports.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Curve {
    P256,
    P384,
    P521,
}

/// Why a public key cannot be used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum PublicKeyError {
    /// It is not encoded as its algorithm asks, or its point is not on its curve.
    Malformed,
    /// Its algorithm is not supported.
    Unsupported(UnsupportedKey),
}

impl PublicKey {
    /// Reads a `SubjectPublicKeyInfo` (RFC 5280 4.1.2.7) in strict DER.
    pub(super) fn from_spki(der: &[u8]) -> Result<Self, PublicKeyError> {
        let spki = SubjectPublicKeyInfoRef::from_der(der).map_err(|_| PublicKeyError::Malformed)?;
        let bytes = spki.subject_public_key.as_bytes().ok_or(PublicKeyError::Malformed)?;
        let parameters = spki.algorithm.parameters;
        match spki.algorithm.oid {
            RSA if is_null_or_absent(parameters) => Self::from_pkcs1(bytes),
            EC => {
                let curve = Curve::from_parameters(parameters)?;
                let point = curve.point(bytes).ok_or(PublicKeyError::Malformed)?;
                Ok(Self::Ec { curve, point })
            }
            ED25519 if parameters.is_none() => {
                Ok(Self::Ed25519(bytes.try_into().map_err(|_| PublicKeyError::Malformed)?))
            }
            RSA | ED25519 => Err(PublicKeyError::Malformed),
            other => Err(PublicKeyError::Unsupported(UnsupportedKey::algorithm(other))),
        }
    }

    /// Reads an `RSAPublicKey` (RFC 8017 A.1.1) in strict DER.
    pub(super) fn from_pkcs1(der: &[u8]) -> Result<Self, PublicKeyError> {
        let key = RsaPublicKeyRef::from_der(der).map_err(|_| PublicKeyError::Malformed)?;
        Self::from_rsa(key.modulus, key.public_exponent)
    }

    /// Takes an RSA key whose modulus has 1024 to 16384 bits and whose exponent is not longer.
    pub(super) fn from_rsa(modulus: UintRef<'_>, exponent: UintRef<'_>) -> Result<Self, PublicKeyError> {
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
        })
    }

    pub(super) fn algorithm(&self) -> KeyAlgorithm {
        match self {
            Self::Rsa { .. } => KeyAlgorithm::Rsa,
            Self::Ec { curve: Curve::P256, .. } => KeyAlgorithm::EcdsaP256,
            Self::Ec { curve: Curve::P384, .. } => KeyAlgorithm::EcdsaP384,
            Self::Ec { curve: Curve::P521, .. } => KeyAlgorithm::EcdsaP521,
            Self::Ed25519(_) => KeyAlgorithm::Ed25519,
        }
    }

    /// The bits of the RSA modulus, of the curve's field, or of the Ed25519 public key.
    pub(super) fn size(&self) -> u32 {
        match self {
            Self::Rsa { modulus, .. } => bits(modulus),
            Self::Ec { curve, .. } => curve.bits(),
            Self::Ed25519(_) => 256,
        }
    }
}

impl Curve {
    /// Reads `ECParameters` (RFC 5480 2.1.1), of which only the named curve is allowed.
    pub(super) fn from_parameters(parameters: Option<AnyRef<'_>>) -> Result<Self, PublicKeyError> {
        let parameters = parameters.ok_or(PublicKeyError::Malformed)?;
        if parameters.tag() == Tag::Sequence {
            return Err(PublicKeyError::Unsupported(UnsupportedKey::ExplicitCurve));
        }
        let oid: ObjectIdentifier = parameters.decode_as().map_err(|_| PublicKeyError::Malformed)?;
        [Self::P256, Self::P384, Self::P521]
            .into_iter()
            .find(|curve| curve.oid() == oid)
            .ok_or_else(|| PublicKeyError::Unsupported(UnsupportedKey::curve(oid)))
    }

    /// The object identifier (RFC 5480 2.1.1.1).
    pub(super) const fn oid(self) -> ObjectIdentifier {
        match self {
            Self::P256 => ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7"),
            Self::P384 => ObjectIdentifier::new_unwrap("1.3.132.0.34"),
            Self::P521 => ObjectIdentifier::new_unwrap("1.3.132.0.35"),
        }
    }

    pub(super) fn group(self) -> Result<EcGroup, ErrorStack> {
        EcGroup::from_curve_name(match self {
            Self::P256 => Nid::X9_62_PRIME256V1,
            Self::P384 => Nid::SECP384R1,
            Self::P521 => Nid::SECP521R1,
        })
    }

    /// The point that `bytes` encode (SEC 1 2.3.4), uncompressed; `None` if there is none on the curve, or it is infinity.
    pub(super) fn point(self, bytes: &[u8]) -> Option<Vec<u8>> {
        let group = self.group().ok()?;
        let mut context = BigNumContext::new().ok()?;
        let point = EcPoint::from_bytes(&group, bytes, &mut context).ok()?;
        if point.is_infinity(&group) {
            return None;
        }
        point
            .to_bytes(&group, PointConversionForm::UNCOMPRESSED, &mut context)
            .ok()
    }

    const fn bits(self) -> u32 {
        match self {
            Self::P256 => 256,
            Self::P384 => 384,
            Self::P521 => 521,
        }
    }
}

/// RSA's parameters are NULL (RFC 3279 2.3.1); some encoders leave them out.
pub(super) fn is_null_or_absent(parameters: Option<AnyRef<'_>>) -> bool {
    parameters.is_none_or(|parameters| parameters.is_null())
}

/// The bits of a big-endian number without leading zeros.
fn bits(number: &[u8]) -> u32 {
    let Some(first) = number.first() else { return 0 };
    u32::try_from(number.len()).unwrap_or(u32::MAX).saturating_mul(8) - first.leading_zeros()
}

impl KeyAlgorithm {
    /// The name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rsa => "RSA",
            Self::EcdsaP256 => "ECDSA P-256",
            Self::EcdsaP384 => "ECDSA P-384",
            Self::EcdsaP521 => "ECDSA P-521",
            Self::Ed25519 => "Ed25519",
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
        [
            Self::Rsa,
            Self::EcdsaP256,
            Self::EcdsaP384,
            Self::EcdsaP521,
            Self::Ed25519,
        ]
        .into_iter()
        .find(|algorithm| algorithm.as_str() == text)
        .ok_or(KeyAlgorithmError)
    }
}

#[cfg(test)]
mod tests {
    use pkcs8::der::Encode;

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
    fn an_rsa_modulus_has_1024_to_16384_bits() {
        let key = |bytes: usize, first: u8| {
            let mut modulus = vec![0xff; bytes];
            modulus[0] = first;
            PublicKey::from_pkcs1(&sequence(&[&integer(&modulus), &integer(&[3])])).map(|key| key.size())
        };
        let too = |bits| Err(PublicKeyError::Unsupported(UnsupportedKey::RsaSize { bits }));
        assert_eq!(key(128, 0x80), Ok(1024));
        assert_eq!(key(128, 0x7f), too(1023));
        assert_eq!(key(2048, 0xff), Ok(16384));
        assert_eq!(key(2049, 1), too(16385));
    }
}
