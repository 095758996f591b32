//! Signature algorithms: their names and their strength.

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
    fn an_unknown_algorithm_is_named_by_its_object_identifier() {
        assert_eq!(name("1.2.840.10045.4.3.2"), "ecdsa-with-SHA256");
        assert_eq!(name("1.2.3.4"), "1.2.3.4");
    }
}
