//! The facts about the leaf of a server certificate.

use x509_parser::certificate::X509Certificate;

use super::object_identifier::dotted;
use super::{KeyAlgorithm, Sha1Fingerprint, Sha256Fingerprint};
use super::{distinguished_name, general_name, public_key::PublicKey, signature_algorithm};
use crate::clock::Timestamp;
use crate::digest;

/// The facts about the leaf of a server certificate, as responses show them. Plain data that the store keeps with the
/// certificate.
///
/// No text contains a control character. The texts together are at most nine times as large as the certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CertificateFacts {
    /// SHA-1 of the DER encoding.
    pub fingerprint: Sha1Fingerprint,
    /// SHA-256 of the DER encoding.
    pub fingerprint_sha256: Sha256Fingerprint,
    /// The last common name of the subject, or `""`.
    pub common_name: String,
    /// DNS names, IP addresses (RFC 5952), URIs and mail addresses, in the order of the certificate.
    pub subject_alternative_names: Vec<String>,
    /// The start of the validity.
    pub not_before: Timestamp,
    /// The end of the validity. The certificate is still valid in this second (RFC 5280 4.1.2.5).
    pub not_after: Timestamp,
    /// The earliest end of the certificates that are served, including the leaf. From then on, clients that
    /// need this certificate refuse the leaf.
    pub chain_not_after: Timestamp,
    /// The bytes of the serial number's DER content in lower-case hexadecimal, two digits per byte.
    pub serial_number: String,
    /// The issuer in the form of RFC 4514.
    pub issuer: String,
    /// The subject in the form of RFC 4514, or `""` if it is empty.
    pub subject: String,
    /// The algorithm of the public key.
    pub key_algorithm: KeyAlgorithm,
    /// The size in bits of the RSA modulus, of the field of the ECDSA curve, or of the EdDSA public key.
    pub key_size: u32,
    /// The name of the signature algorithm in its specification, for example `sha256WithRSAEncryption`, or its object
    /// identifier if certkeep does not know the name.
    pub signature_algorithm: String,
    /// SHA-256 of the DER encoding of the `SubjectPublicKeyInfo`. Certificates of the same key have the same hash.
    pub spki_sha256: [u8; 32],
}

impl CertificateFacts {
    pub(super) fn of(certificate: &X509Certificate<'_>, public_key: &PublicKey) -> Self {
        Self {
            fingerprint: Sha1Fingerprint::of_der(certificate.as_raw()),
            fingerprint_sha256: Sha256Fingerprint::of_der(certificate.as_raw()),
            common_name: distinguished_name::common_name(certificate.subject()),
            subject_alternative_names: general_name::subject_alternative_names(certificate),
            not_before: Timestamp::from_secs(certificate.validity().not_before.timestamp()),
            not_after: Timestamp::from_secs(certificate.validity().not_after.timestamp()),
            chain_not_after: Timestamp::from_secs(certificate.validity().not_after.timestamp()),
            serial_number: hex::encode(certificate.raw_serial()),
            issuer: distinguished_name::rfc4514(certificate.issuer()),
            subject: distinguished_name::rfc4514(certificate.subject()),
            key_algorithm: public_key.algorithm(),
            key_size: public_key.size(),
            signature_algorithm: signature_algorithm::name(&dotted(
                certificate.signature_algorithm.algorithm.as_bytes(),
            )),
            spki_sha256: digest::sha256(certificate.public_key().raw),
        }
    }
}

impl CertificateFacts {
    /// The names of the fields in which these facts differ from `other`, as the columns of the store are called.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let Self {
            fingerprint,
            fingerprint_sha256,
            common_name,
            subject_alternative_names,
            not_before,
            not_after,
            chain_not_after,
            serial_number,
            issuer,
            subject,
            key_algorithm,
            key_size,
            signature_algorithm,
            spki_sha256,
        } = self;
        let differs = [
            ("fingerprint", *fingerprint != other.fingerprint),
            ("fingerprint_sha256", *fingerprint_sha256 != other.fingerprint_sha256),
            ("common_name", *common_name != other.common_name),
            (
                "subject_alternative_names",
                *subject_alternative_names != other.subject_alternative_names,
            ),
            ("not_before", *not_before != other.not_before),
            ("not_after", *not_after != other.not_after),
            ("chain_not_after", *chain_not_after != other.chain_not_after),
            ("serial_number", *serial_number != other.serial_number),
            ("issuer", *issuer != other.issuer),
            ("subject", *subject != other.subject),
            ("key_algorithm", *key_algorithm != other.key_algorithm),
            ("key_size", *key_size != other.key_size),
            ("signature_algorithm", *signature_algorithm != other.signature_algorithm),
            ("spki_sha256", *spki_sha256 != other.spki_sha256),
        ];
        differs
            .into_iter()
            .filter(|(_, differs)| *differs)
            .map(|(name, _)| name)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use openssl::asn1::{Asn1Integer, Asn1Object, Asn1OctetString};
    use openssl::bn::BigNum;
    use openssl::nid::Nid;
    use openssl::pkey::{PKey, Private};
    use openssl::x509::{X509Extension, X509NameBuilder};

    use super::super::key_type::MlDsa;
    use super::super::test_pair::{self, TestPair, der, ml_dsa_key};
    use super::*;

    #[test]
    fn are_what_the_leaf_says() {
        let pair = TestPair::with_extensions(
            test_pair::rsa_key(2048),
            &[(
                "subjectAltName",
                "URI:https://example.com/a,DNS:*.example.com,IP:2001:db8:0:0:1:0:0:1,IP:192.0.2.1,email:a@example.com,\
                 RID:1.2.3.4,DNS:xn--fsq.example",
            )],
        );
        let der = pair.certificate.to_der().unwrap();
        assert_eq!(
            pair.facts(),
            CertificateFacts {
                fingerprint: Sha1Fingerprint::of_der(&der),
                fingerprint_sha256: Sha256Fingerprint::of_der(&der),
                common_name: "localhost".to_owned(),
                subject_alternative_names: [
                    "https://example.com/a",
                    "*.example.com",
                    "2001:db8::1:0:0:1",
                    "192.0.2.1",
                    "a@example.com",
                    "xn--fsq.example",
                ]
                .map(str::to_owned)
                .into(),
                not_before: Timestamp::from_secs(1_704_067_200),
                not_after: Timestamp::from_secs(2_019_686_400),
                chain_not_after: Timestamp::from_secs(2_019_686_400),
                serial_number: "01".to_owned(),
                issuer: "CN=localhost".to_owned(),
                subject: "CN=localhost".to_owned(),
                key_algorithm: KeyAlgorithm::Rsa,
                key_size: 2048,
                signature_algorithm: "sha256WithRSAEncryption".to_owned(),
                spki_sha256: digest::sha256(&pair.key.public_key_to_der().unwrap()),
            }
        );
    }

    #[test]
    fn name_algorithm_and_size_of_each_key() {
        for (key, algorithm, size, signature) in [
            (test_pair::rsa_key(1024), "RSA", 1024, "sha256WithRSAEncryption"),
            (test_pair::rsa_pss_key(2048, &[]), "RSA-PSS", 2048, "id-RSASSA-PSS"),
            (
                test_pair::ec_key(Nid::X9_62_PRIME256V1),
                "ECDSA P-256",
                256,
                "ecdsa-with-SHA256",
            ),
            (
                test_pair::ec_key(Nid::SECP384R1),
                "ECDSA P-384",
                384,
                "ecdsa-with-SHA256",
            ),
            (
                test_pair::ec_key(Nid::SECP521R1),
                "ECDSA P-521",
                521,
                "ecdsa-with-SHA256",
            ),
            (
                test_pair::ec_key(Nid::SECP256K1),
                "ECDSA secp256k1",
                256,
                "ecdsa-with-SHA256",
            ),
            (PKey::generate_ed25519().unwrap(), "Ed25519", 256, "Ed25519"),
            (PKey::generate_ed448().unwrap(), "Ed448", 456, "Ed448"),
            (ml_dsa_key(MlDsa::MlDsa44).0, "ML-DSA-44", 10_496, "id-ml-dsa-44"),
            (ml_dsa_key(MlDsa::MlDsa65).0, "ML-DSA-65", 15_616, "id-ml-dsa-65"),
            (ml_dsa_key(MlDsa::MlDsa87).0, "ML-DSA-87", 20_736, "id-ml-dsa-87"),
        ] {
            let facts = TestPair::of(key).facts();
            assert_eq!(facts.key_algorithm.as_str(), algorithm);
            assert_eq!(algorithm.parse(), Ok(facts.key_algorithm));
            assert_eq!((facts.key_size, facts.signature_algorithm.as_str()), (size, signature));
        }
    }

    /// A control character takes one byte in a T61String, six bytes in the text of the subject, and three bytes
    /// (U+FFFD) in the common name.
    #[test]
    fn the_texts_are_at_most_nine_times_as_large() {
        let value = vec![0x80; 20_000];
        let name = test_pair::dn(&[vec![("0603550403", der(20, &value))]]);
        let name = openssl::x509::X509Name::from_der(&name).unwrap();
        let key = test_pair::ec().key;
        let mut builder = test_pair::builder(&key);
        builder.set_subject_name(&name).unwrap();
        let certificate = test_pair::sign(builder, &key);
        let der = certificate.to_der().unwrap();
        let facts = TestPair { key, certificate }.facts();
        assert_eq!(facts.subject, format!("CN={}", "\\c2\\80".repeat(value.len())));
        let length = facts.subject.len() + facts.common_name.len() + facts.issuer.len();
        assert!(
            (8 * der.len()..9 * der.len()).contains(&length),
            "{length} of {}",
            der.len()
        );
    }

    fn odd(key: PKey<Private>, serial: &[u8], negative: bool, san: &[u8]) -> CertificateFacts {
        let mut builder = test_pair::builder(&key);
        let mut number = BigNum::from_slice(serial).unwrap();
        number.set_negative(negative);
        builder
            .set_serial_number(&Asn1Integer::from_bn(&number).unwrap())
            .unwrap();
        builder
            .set_subject_name(&X509NameBuilder::new().unwrap().build())
            .unwrap();
        let oid = Asn1Object::from_str("2.5.29.17").unwrap();
        let san = Asn1OctetString::new_from_bytes(san).unwrap();
        builder
            .append_extension(X509Extension::new_from_der(&oid, false, &san).unwrap())
            .unwrap();
        let certificate = test_pair::sign(builder, &key);
        TestPair { key, certificate }.facts()
    }

    #[test]
    fn odd_certificates_are_shown_as_they_are() {
        let san = [
            der(0x82, b"a\x00b\n"),
            der(0x81, b"\xff@x"),
            der(0x87, b"123"),
            der(0x86, b""),
        ]
        .concat();
        let facts = odd(test_pair::ec().key, &[0x80; 30], false, &der(0x30, &san));
        assert_eq!(
            facts.subject_alternative_names,
            ["a\u{fffd}b\u{fffd}", "\u{fffd}@x", ""]
        );
        assert_eq!(facts.serial_number, format!("00{}", "80".repeat(30)));
        assert_eq!((facts.common_name.as_str(), facts.subject.as_str()), ("", ""));

        let facts = odd(test_pair::ec().key, &[1], true, b"\x30\x05broken");
        assert_eq!(facts.subject_alternative_names, [] as [&str; 0]);
        assert_eq!(facts.serial_number, "ff");
    }
}
