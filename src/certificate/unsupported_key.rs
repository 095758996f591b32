//! Keys that are sound but not supported.

use std::borrow::Cow;

use pkcs8::ObjectIdentifier;

/// The keys that are supported, as the answers to others list them.
pub(super) const SUPPORTED_KEYS: &str =
    "RSA or RSA-PSS of 1024 to 16384 bits, ECDSA P-256, P-384, P-521 or secp256k1, Ed25519, Ed448, or ML-DSA";

/// What a key is, when it is none of the supported ones.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum UnsupportedKey {
    /// A key of another algorithm.
    #[error("a key of algorithm {name}")]
    Algorithm {
        /// The algorithm's name, or its object identifier in dotted decimal where certkeep knows no name.
        name: Cow<'static, str>,
    },
    /// An elliptic-curve key on another named curve.
    #[error("an EC key on curve {name}")]
    Curve {
        /// The curve's name, or its object identifier in dotted decimal where certkeep knows no name.
        name: Cow<'static, str>,
    },
    /// An elliptic-curve key whose curve is described by its parameters instead of its name, which RFC 5480 2.1.1 forbids.
    #[error("an EC key with explicit curve parameters")]
    ExplicitCurve,
    /// An RSA key with a modulus shorter or longer than supported.
    #[error("an RSA key of {bits} bits")]
    RsaSize {
        /// The bits of the modulus.
        bits: u32,
    },
    /// An RSA key of more than two primes (RFC 8017 3.2).
    #[error("an RSA key of more than two primes")]
    MultiPrimeRsa,
    /// A key in a form of its own.
    #[error("a key in {name}'s own format")]
    Format {
        /// The program whose form it is.
        name: &'static str,
    },
}

impl UnsupportedKey {
    pub(super) fn algorithm(oid: ObjectIdentifier) -> Self {
        Self::Algorithm {
            name: name_of(oid, ALGORITHMS),
        }
    }

    pub(super) fn curve(oid: ObjectIdentifier) -> Self {
        Self::Curve {
            name: name_of(oid, CURVES),
        }
    }
}

fn name_of(oid: ObjectIdentifier, names: &[(&str, &'static str)]) -> Cow<'static, str> {
    let dotted = oid.to_string();
    match names.iter().find(|(known, _)| *known == dotted) {
        Some((_, name)) => Cow::Borrowed(name),
        None => Cow::Owned(dotted),
    }
}

const ALGORITHMS: &[(&str, &str)] = &[
    ("1.2.840.10040.4.1", "DSA"),
    ("1.2.840.10046.2.1", "DH"),
    ("1.2.840.113549.1.1.7", "RSA-OAEP"),
    ("1.2.840.113549.1.3.1", "DH"),
    ("1.2.643.7.1.1.1.1", "GOST R 34.10-2012"),
    ("1.2.643.7.1.1.1.2", "GOST R 34.10-2012"),
    ("1.3.101.110", "X25519"),
    ("1.3.101.111", "X448"),
    ("2.16.840.1.101.3.4.3.17", "ML-DSA-44"),
    ("2.16.840.1.101.3.4.3.18", "ML-DSA-65"),
    ("2.16.840.1.101.3.4.3.19", "ML-DSA-87"),
];

const CURVES: &[(&str, &str)] = &[
    ("1.2.156.10197.1.301", "SM2"),
    ("1.2.840.10045.3.1.1", "P-192"),
    ("1.3.132.0.33", "P-224"),
    ("1.3.36.3.3.2.8.1.1.7", "brainpoolP256r1"),
    ("1.3.36.3.3.2.8.1.1.11", "brainpoolP384r1"),
    ("1.3.36.3.3.2.8.1.1.13", "brainpoolP512r1"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_algorithm_is_named_by_its_object_identifier() {
        let known = UnsupportedKey::algorithm(ObjectIdentifier::new_unwrap("1.2.840.10040.4.1"));
        let unknown = UnsupportedKey::curve(ObjectIdentifier::new_unwrap("1.2.3.4"));
        assert_eq!(known.to_string(), "a key of algorithm DSA");
        assert_eq!(unknown.to_string(), "an EC key on curve 1.2.3.4");
    }
}
