//! Signature algorithms: their names and their strength.

use pkcs8::ObjectIdentifier;
use x509_parser::signature_algorithm::RsaSsaPssParams;
use x509_parser::x509::AlgorithmIdentifier;

use super::object_identifier::dotted;

/// The strength of a signature.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Strength {
    /// Nobody can forge the signature.
    Sound,
    /// SHA-1: clients refuse the signature, and a rich attacker may forge it.
    Weak,
    /// MD5: anybody can forge the signature.
    Forgeable,
    /// MD2: anybody can forge the signature, and no library verifies it any more.
    Unverifiable,
}

/// The strength of signatures of this algorithm. Old tools write the identifiers of the OIW (1.3.14.3.2).
pub(super) fn strength(algorithm: &AlgorithmIdentifier<'_>) -> Strength {
    match dotted(algorithm.algorithm.as_bytes()).as_str() {
        "1.2.840.113549.1.1.2" => Strength::Unverifiable,
        "1.2.840.113549.1.1.4" | "1.3.14.3.2.3" => Strength::Forgeable,
        "1.2.840.10040.4.3" | "1.2.840.10045.4.1" | "1.2.840.113549.1.1.5" | "1.3.14.3.2.27" | "1.3.14.3.2.29" => {
            Strength::Weak
        }
        PSS => pss_strength(algorithm),
        _ => Strength::Sound,
    }
}

/// `id-RSASSA-PSS` (RFC 8017 A.2.3): the parameters name the hash. The default is SHA-1.
const PSS: &str = "1.2.840.113549.1.1.10";

fn pss_strength(algorithm: &AlgorithmIdentifier<'_>) -> Strength {
    let parameters = algorithm.parameters.as_ref();
    let parameters = parameters.and_then(|any| RsaSsaPssParams::try_from(any).ok());
    match parameters.map(|parameters| dotted(parameters.hash_algorithm_oid().as_bytes())) {
        Some(hash) if hash == "1.2.840.113549.2.5" => Strength::Forgeable,
        Some(hash) if hash != "1.3.14.3.2.26" => Strength::Sound,
        _ => Strength::Weak,
    }
}

/// The type of a key and of its signatures.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Family {
    Rsa,
    Ec,
    Dsa,
    /// Keys and their signatures have the same object identifier.
    Same,
    Unknown,
}

/// Whether a key of this algorithm can make a signature of that algorithm, as far as certkeep knows both.
pub(super) fn is_made_by(signature: &AlgorithmIdentifier<'_>, key: &AlgorithmIdentifier<'_>) -> bool {
    let (signature, key) = (signature.algorithm.as_bytes(), key.algorithm.as_bytes());
    match (family(signature), family(key)) {
        (Family::Same, _) | (_, Family::Same) => signature == key,
        (of_signature, of_key) => of_signature == of_key,
    }
}

/// The family of a key or of a signature with this object identifier.
fn family(oid: &[u8]) -> Family {
    let mut families = FAMILIES.iter();
    let family = families.find_map(|(arc, family)| oid.strip_prefix(arc.as_bytes()).map(family));
    family.unwrap_or(Family::Unknown)
}

/// An arc of object identifiers. The function returns the family for the rest of the identifier.
type Arc = (ObjectIdentifier, fn(&[u8]) -> Family);

const FAMILIES: &[Arc] = &[
    // RFC 8017 C. A key for RSAES-OAEP (7) makes no signatures.
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1"), |rest| match rest {
        [7] => Family::Same,
        _ => Family::Rsa,
    }),
    // RIPEMD-160 of TeleTrusT.
    (ObjectIdentifier::new_unwrap("1.3.36.3.3.1"), |_| Family::Rsa),
    // RFC 3279 2.3.5.
    (ObjectIdentifier::new_unwrap("1.2.840.10045"), |_| Family::Ec),
    // BSI TR-03111 5.2.1.
    (ObjectIdentifier::new_unwrap("0.4.0.127.0.7.1.1.4.1"), |_| Family::Ec),
    // SM2 signatures (GM/T 0006). The keys are EC keys.
    (ObjectIdentifier::new_unwrap("1.2.156.10197.1.501"), |_| Family::Ec),
    // RFC 3279 2.3.2.
    (ObjectIdentifier::new_unwrap("1.2.840.10040.4"), |_| Family::Dsa),
    // The OIW.
    (ObjectIdentifier::new_unwrap("1.3.14.3.2"), |rest| match rest {
        [12 | 13 | 27 | 28] => Family::Dsa,
        _ => Family::Rsa,
    }),
    // RFC 8410 3.
    (ObjectIdentifier::new_unwrap("1.3.101"), |_| Family::Same),
    // NIST: with SHA-2 and SHA-3, then ML-DSA and SLH-DSA.
    (
        ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3"),
        |rest| match rest {
            [1..=8] => Family::Dsa,
            [9..=12] => Family::Ec,
            [13..=16] => Family::Rsa,
            _ => Family::Same,
        },
    ),
];

/// The name of the signature algorithm with this object identifier (dotted decimal), as its specification writes it.
/// Returns the object identifier if certkeep does not know the name.
pub(super) fn name(oid: &str) -> String {
    let name = NAMES.iter().find(|(known, _)| *known == oid);
    name.map_or(oid, |(_, name)| name).to_owned()
}

/// The names of RFC 3279 2.2, RFC 4055 5, RFC 5758 3, RFC 8410 3 (without `id-`) and RFC 9881 2.
const NAMES: &[(&str, &str)] = &[
    ("1.2.840.10040.4.3", "dsa-with-sha1"),
    ("1.2.840.10045.4.1", "ecdsa-with-SHA1"),
    ("1.2.840.10045.4.3.1", "ecdsa-with-SHA224"),
    ("1.2.840.10045.4.3.2", "ecdsa-with-SHA256"),
    ("1.2.840.10045.4.3.3", "ecdsa-with-SHA384"),
    ("1.2.840.10045.4.3.4", "ecdsa-with-SHA512"),
    ("1.2.840.113549.1.1.2", "md2WithRSAEncryption"),
    ("1.2.840.113549.1.1.4", "md5WithRSAEncryption"),
    ("1.2.840.113549.1.1.5", "sha1WithRSAEncryption"),
    ("1.2.840.113549.1.1.10", "id-RSASSA-PSS"),
    ("1.2.840.113549.1.1.11", "sha256WithRSAEncryption"),
    ("1.2.840.113549.1.1.12", "sha384WithRSAEncryption"),
    ("1.2.840.113549.1.1.13", "sha512WithRSAEncryption"),
    ("1.2.840.113549.1.1.14", "sha224WithRSAEncryption"),
    ("1.3.101.112", "Ed25519"),
    ("1.3.101.113", "Ed448"),
    ("2.16.840.1.101.3.4.3.2", "dsa-with-sha256"),
    ("2.16.840.1.101.3.4.3.17", "id-ml-dsa-44"),
    ("2.16.840.1.101.3.4.3.18", "id-ml-dsa-65"),
    ("2.16.840.1.101.3.4.3.19", "id-ml-dsa-87"),
];

#[cfg(test)]
mod tests {
    use pkcs8::der::Encode;
    use x509_parser::prelude::FromDer;

    use super::super::test_pair::sequence;
    use super::*;

    #[test]
    fn sha1_and_md5_are_known_by_every_identifier() {
        for (oid, expected) in [
            ("06082a8648ce3d040302", Strength::Sound),
            ("06092a864886f70d010105", Strength::Weak),
            ("06052b0e03021b", Strength::Weak),
            ("06052b0e03021d", Strength::Weak),
            ("06052b0e030203", Strength::Forgeable),
            ("06092a864886f70d010104", Strength::Forgeable),
            ("06092a864886f70d010102", Strength::Unverifiable),
        ] {
            let der = sequence(&[&hex::decode(oid).unwrap()]);
            let (_, algorithm) = AlgorithmIdentifier::from_der(&der).unwrap();
            assert_eq!(strength(&algorithm), expected, "{oid}");
        }
    }

    #[test]
    fn a_signature_is_made_by_a_key_of_its_type() {
        let algorithm = |oid: &str| sequence(&[&ObjectIdentifier::new_unwrap(oid).to_der().unwrap()]);
        let is_made_by = |signature: &str, key: &str| {
            let (signature, key) = (algorithm(signature), algorithm(key));
            let read = |der| AlgorithmIdentifier::from_der(der).unwrap().1;
            super::is_made_by(&read(&signature), &read(&key))
        };
        let keys = [
            ("1.2.840.113549.1.1.1", "RSA"),
            ("1.2.840.113549.1.1.10", "RSA"),
            ("1.2.840.10045.2.1", "EC"),
            ("1.2.840.10040.4.1", "DSA"),
            ("1.3.101.112", "Ed25519"),
            ("1.3.101.110", "X25519"),
            ("1.2.840.113549.1.1.7", "RSAES-OAEP"),
            ("2.16.840.1.101.3.4.3.20", "SLH-DSA"),
            ("1.2.643.7.1.1.1.1", "GOST"),
        ];
        for (signature, expected) in [
            ("1.2.840.113549.1.1.11", "RSA"),
            ("1.2.840.113549.1.1.2", "RSA"),
            ("1.3.14.3.2.29", "RSA"),
            ("1.3.36.3.3.1.2", "RSA"),
            ("2.16.840.1.101.3.4.3.14", "RSA"),
            ("1.2.840.10045.4.3.2", "EC"),
            ("0.4.0.127.0.7.1.1.4.1.3", "EC"),
            ("1.2.156.10197.1.501", "EC"),
            ("2.16.840.1.101.3.4.3.10", "EC"),
            ("1.2.840.10040.4.3", "DSA"),
            ("1.3.14.3.2.27", "DSA"),
            ("2.16.840.1.101.3.4.3.2", "DSA"),
            ("1.3.101.112", "Ed25519"),
            ("2.16.840.1.101.3.4.3.20", "SLH-DSA"),
            ("2.16.840.1.101.3.4.3.17", "ML-DSA"),
            ("1.2.643.7.1.1.3.2", "GOST"),
            ("1.2.3.4", "GOST"),
        ] {
            for (key, name) in keys {
                assert_eq!(is_made_by(signature, key), name == expected, "{signature} {name}");
            }
        }
    }

    #[test]
    fn an_unknown_algorithm_is_named_by_its_object_identifier() {
        assert_eq!(name("1.2.840.10045.4.3.2"), "ecdsa-with-SHA256");
        assert_eq!(name("1.2.3.4"), "1.2.3.4");
    }
}
