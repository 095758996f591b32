//! The type of a key, read from its algorithm identifier.

use std::sync::OnceLock;

use openssl::bn::BigNumContext;
use openssl::ec::{EcGroup, EcPoint, EcPointRef, PointConversionForm};
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::Id;
use pkcs8::der::asn1::AnyRef;
use pkcs8::der::{Tag, Tagged};
use pkcs8::{AlgorithmIdentifierRef, ObjectIdentifier};

use super::UnsupportedKey;
use super::public_key::PublicKeyError;
use super::rsa_scheme::{PssParameters, RsaScheme};

/// `rsaEncryption` (RFC 8017 A.1).
pub(super) const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// `id-RSASSA-PSS` (RFC 4055 3.1).
const RSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");
/// `id-ecPublicKey` (RFC 5480 2.1.1).
pub(super) const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// `id-Ed25519` (RFC 8410 3).
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
/// `id-Ed448` (RFC 8410 3).
const ED448: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.113");

/// The first byte of an uncompressed point (SEC 1 2.3.3).
const UNCOMPRESSED: u8 = 4;

/// The kind of a key, as the `AlgorithmIdentifier` of a `SubjectPublicKeyInfo` (RFC 5280 4.1.2.7) or of a
/// `OneAsymmetricKey` (RFC 5958 2) states it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum KeyType {
    Rsa(RsaScheme),
    Ec(Curve),
    Edwards(EdwardsCurve),
    MlDsa(MlDsa),
}

/// A parameter set of ML-DSA (FIPS 204 4).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum MlDsa {
    MlDsa44,
    MlDsa65,
    MlDsa87,
}

/// An elliptic curve of ECDSA that certkeep supports.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Curve {
    P256,
    P384,
    P521,
    Secp256k1,
}

/// An elliptic curve of EdDSA (RFC 8032).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum EdwardsCurve {
    Ed25519,
    Ed448,
}

impl KeyType {
    pub(super) fn of(algorithm: AlgorithmIdentifierRef<'_>) -> Result<Self, PublicKeyError> {
        let parameters = algorithm.parameters;
        match algorithm.oid {
            // NULL (RFC 3279 2.3.1). Some encoders omit the NULL.
            RSA if parameters.is_none_or(|parameters| parameters.is_null()) => Ok(Self::Rsa(RsaScheme::Any)),
            RSA_PSS => {
                let parameters = parameters.map(PssParameters::read).transpose()?;
                Ok(Self::Rsa(RsaScheme::Pss(parameters)))
            }
            EC => Curve::from_parameters(parameters).map(Self::Ec),
            ED25519 if parameters.is_none() => Ok(Self::Edwards(EdwardsCurve::Ed25519)),
            ED448 if parameters.is_none() => Ok(Self::Edwards(EdwardsCurve::Ed448)),
            RSA | ED25519 | ED448 => Err(PublicKeyError::Malformed),
            other => match (MlDsa::ALL.into_iter().find(|set| set.oid() == other), parameters) {
                (Some(set), None) => Ok(Self::MlDsa(set)),
                (Some(_), Some(_)) => Err(PublicKeyError::Malformed),
                (None, _) => Err(PublicKeyError::Unsupported(UnsupportedKey::algorithm(other))),
            },
        }
    }
}

impl Curve {
    /// Reads `ECParameters` (RFC 5480 2.1.1). Only a named curve is allowed.
    pub(super) fn from_parameters(parameters: Option<AnyRef<'_>>) -> Result<Self, PublicKeyError> {
        let parameters = parameters.ok_or(PublicKeyError::Malformed)?;
        if parameters.tag() == Tag::Sequence {
            return Err(PublicKeyError::Unsupported(UnsupportedKey::ExplicitCurve));
        }
        let oid: ObjectIdentifier = parameters.decode_as().map_err(|_| PublicKeyError::Malformed)?;
        [Self::P256, Self::P384, Self::P521, Self::Secp256k1]
            .into_iter()
            .find(|curve| curve.oid() == oid)
            .ok_or_else(|| PublicKeyError::Unsupported(UnsupportedKey::curve(oid)))
    }

    /// The object identifier (RFC 5480 2.1.1.1, and SEC 2 A.2.1 for secp256k1).
    pub(super) const fn oid(self) -> ObjectIdentifier {
        match self {
            Self::P256 => ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7"),
            Self::P384 => ObjectIdentifier::new_unwrap("1.3.132.0.34"),
            Self::P521 => ObjectIdentifier::new_unwrap("1.3.132.0.35"),
            Self::Secp256k1 => ObjectIdentifier::new_unwrap("1.3.132.0.10"),
        }
    }

    /// The group of the curve. Each group is built once per process, because building a group takes longer than
    /// decoding a point.
    pub(super) fn group(self) -> Result<&'static EcGroup, ErrorStack> {
        static GROUPS: [OnceLock<EcGroup>; 4] = [const { OnceLock::new() }; 4];
        let group = &GROUPS[self as usize];
        if let Some(group) = group.get() {
            return Ok(group);
        }
        let made = EcGroup::from_curve_name(match self {
            Self::P256 => Nid::X9_62_PRIME256V1,
            Self::P384 => Nid::SECP384R1,
            Self::P521 => Nid::SECP521R1,
            Self::Secp256k1 => Nid::SECP256K1,
        })?;
        Ok(group.get_or_init(|| made))
    }

    /// The uncompressed encoding of the point in `bytes` (SEC 1 2.3.4). `None` if the point is not on the curve or is
    /// infinity.
    pub(super) fn point(self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.decode(bytes).map(|(_, uncompressed)| uncompressed)
    }

    /// The point in `bytes` and its uncompressed encoding. `None` as in [`point`](Self::point).
    pub(super) fn decode(self, bytes: &[u8]) -> Option<(EcPoint, Vec<u8>)> {
        let group = self.group().ok()?;
        let mut context = BigNumContext::new().ok()?;
        let point = EcPoint::from_bytes(group, bytes, &mut context).ok()?;
        if point.is_infinity(group) {
            return None;
        }
        // A point has only one uncompressed encoding. Computing the encoding takes longer than comparing the first
        // byte.
        let uncompressed = match bytes {
            [UNCOMPRESSED, ..] => bytes.to_vec(),
            _ => self.encode(&point)?,
        };
        Some((point, uncompressed))
    }

    /// The uncompressed encoding of a point.
    pub(super) fn encode(self, point: &EcPointRef) -> Option<Vec<u8>> {
        let mut context = BigNumContext::new().ok()?;
        point
            .to_bytes(self.group().ok()?, PointConversionForm::UNCOMPRESSED, &mut context)
            .ok()
    }

    /// Whether both points are the same point of the curve.
    pub(super) fn are_equal(self, one: &EcPointRef, other: &EcPointRef) -> bool {
        let (Ok(group), Ok(mut context)) = (self.group(), BigNumContext::new()) else {
            return false;
        };
        one.eq(group, other, &mut context).unwrap_or(false)
    }

    /// The size of the field in bits.
    pub(super) const fn bits(self) -> u32 {
        match self {
            Self::P256 | Self::Secp256k1 => 256,
            Self::P384 => 384,
            Self::P521 => 521,
        }
    }
}

impl MlDsa {
    pub(super) const ALL: [Self; 3] = [Self::MlDsa44, Self::MlDsa65, Self::MlDsa87];

    /// The object identifier (RFC 9881 2).
    pub(super) const fn oid(self) -> ObjectIdentifier {
        match self {
            Self::MlDsa44 => ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.17"),
            Self::MlDsa65 => ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.18"),
            Self::MlDsa87 => ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.19"),
        }
    }

    /// The length of a public key in bytes (FIPS 204, table 2).
    pub(super) const fn public_key_bytes(self) -> usize {
        match self {
            Self::MlDsa44 => 1312,
            Self::MlDsa65 => 1952,
            Self::MlDsa87 => 2592,
        }
    }

    /// The length of an expanded private key in bytes (FIPS 204, table 2).
    pub(super) const fn private_key_bytes(self) -> usize {
        match self {
            Self::MlDsa44 => 2560,
            Self::MlDsa65 => 4032,
            Self::MlDsa87 => 4896,
        }
    }
}

impl EdwardsCurve {
    /// The length in bytes of a private key and of a public key (RFC 8032 5.1.5 and 5.2.5).
    pub(super) const fn key_bytes(self) -> usize {
        match self {
            Self::Ed25519 => 32,
            Self::Ed448 => 57,
        }
    }

    /// The object identifier (RFC 8410 3).
    pub(super) const fn oid(self) -> ObjectIdentifier {
        match self {
            Self::Ed25519 => ED25519,
            Self::Ed448 => ED448,
        }
    }

    /// The identifier in OpenSSL.
    pub(super) const fn id(self) -> Id {
        match self {
            Self::Ed25519 => Id::ED25519,
            Self::Ed448 => Id::ED448,
        }
    }
}
