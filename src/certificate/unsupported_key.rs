//! Keys that certkeep does not support.

use std::borrow::Cow;

use pkcs8::ObjectIdentifier;

/// The kind of a key that certkeep does not support.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum UnsupportedKey {
    /// A key of another algorithm.
    Algorithm {
        /// The name of the algorithm, or its object identifier in dotted decimal if certkeep does not know the name.
        name: Cow<'static, str>,
    },
    /// An elliptic-curve key on another named curve.
    Curve {
        /// The name of the curve, or its object identifier in dotted decimal if certkeep does not know the name.
        name: Cow<'static, str>,
    },
    /// An elliptic-curve key that describes its curve by parameters instead of a name. RFC 5480 2.1.1 forbids this.
    ExplicitCurve,
    /// An RSA key with a modulus shorter or longer than supported.
    RsaSize {
        /// The bits of the modulus.
        bits: u32,
    },
    /// An RSA key with a public exponent of more than 64 bits.
    RsaExponent,
    /// An RSA key of more than two primes (RFC 8017 3.2).
    MultiPrimeRsa,
    /// A key in the format of another program.
    Format {
        /// The program.
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
    ("2.16.840.1.101.3.4.3.20", "SLH-DSA-SHA2-128s"),
    ("2.16.840.1.101.3.4.3.21", "SLH-DSA-SHA2-128f"),
    ("2.16.840.1.101.3.4.3.22", "SLH-DSA-SHA2-192s"),
    ("2.16.840.1.101.3.4.3.23", "SLH-DSA-SHA2-192f"),
    ("2.16.840.1.101.3.4.3.24", "SLH-DSA-SHA2-256s"),
    ("2.16.840.1.101.3.4.3.25", "SLH-DSA-SHA2-256f"),
    ("2.16.840.1.101.3.4.3.26", "SLH-DSA-SHAKE-128s"),
    ("2.16.840.1.101.3.4.3.27", "SLH-DSA-SHAKE-128f"),
    ("2.16.840.1.101.3.4.3.28", "SLH-DSA-SHAKE-192s"),
    ("2.16.840.1.101.3.4.3.29", "SLH-DSA-SHAKE-192f"),
    ("2.16.840.1.101.3.4.3.30", "SLH-DSA-SHAKE-256s"),
    ("2.16.840.1.101.3.4.3.31", "SLH-DSA-SHAKE-256f"),
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
        assert_eq!(known, UnsupportedKey::Algorithm { name: "DSA".into() });
        assert_eq!(unknown, UnsupportedKey::Curve { name: "1.2.3.4".into() });
    }
}
