//! The certificate of a CA, which verifies the certificates that the CA issued.

use super::given::{Given, TextError, Unread};
use super::issuing::SelfSignature;
use super::public_key::PublicKeyError;
use super::rules::{self, Findings};
use super::text::PlainText;
use super::text_notes::TextNotes;
use super::unsupported_key::UnsupportedKey;
use super::x509::{Certificate, X509Error};
use super::{Authorities, CertificateFacts, Chain, Finding, FindingCode, FindingKind, Policy, VerifiedCertificate};
use crate::clock::Timestamp;

/// The error of a CA certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CaCertificateError {
    /// The text is empty.
    Missing,
    /// There is more than one certificate.
    Several,
    /// The text contains a private key, alone or beside the certificate.
    HoldsPrivateKey,
    /// The text cannot be used.
    Text(TextError),
    /// The certificate cannot be read.
    Malformed(X509Error),
    /// The certificate names itself as its issuer, but its own key did not sign it.
    SignatureWrong,
    /// certkeep does not support the CA's key.
    UnsupportedKey(UnsupportedKey),
}

impl From<Unread> for CaCertificateError {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Missing => Self::Missing,
            Unread::TooMany => Self::Several,
            Unread::HoldsPrivateKey => Self::HoldsPrivateKey,
            Unread::Text(error) => Self::Text(error),
        }
    }
}

/// The DER of the only certificate of a text, or the error.
#[derive(Debug)]
pub struct UnverifiedCa(Result<One, CaCertificateError>);

/// The only certificate of a text.
#[derive(Debug)]
struct One {
    der: Vec<u8>,
    is_repeated: bool,
    notes: TextNotes,
}

/// A CA certificate that was verified and that the policy accepts. Only a `VerifiedCa` is stored.
#[derive(Clone, Debug)]
pub struct VerifiedCa(VerifiedCertificate);

/// Why a CA certificate is refused, and all findings. `certificate` or `rejected` is set.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CaError {
    /// The error of the certificate.
    pub certificate: Option<CaCertificateError>,
    /// The findings for which the policy refuses it, each code once.
    pub rejected: Vec<FindingCode>,
    /// All findings, the most severe first.
    pub findings: Vec<Finding>,
}

impl UnverifiedCa {
    /// Reads the PEM text of one certificate, at most 256 KiB. The text may contain the certificate more than once.
    /// [`verify`](Self::verify) returns the error of an invalid text.
    pub fn read(ca_certificate: &[u8]) -> Self {
        Self(One::of(ca_certificate))
    }

    /// Verifies the certificate, collects all findings, and applies the policy.
    pub fn verify(self, at: Timestamp, policy: &Policy, authorities: &Authorities) -> Result<VerifiedCa, CaError> {
        let refused = |error| CaError {
            certificate: Some(error),
            ..CaError::default()
        };
        let One {
            der,
            is_repeated,
            notes,
        } = self.0.map_err(refused)?;
        let certificate =
            Certificate::read(&der, authorities).map_err(|error| refused(CaCertificateError::Malformed(error)))?;
        let signature = SelfSignature::of(&certificate, authorities);
        let key = certificate.public_key();
        let mut findings = Findings::by(policy);
        notes.tell(&mut findings);
        if is_repeated {
            findings.note(FindingKind::DuplicateDropped, Some(&certificate));
        }
        rules::apply_to_authority(&certificate, key.ok(), signature, at, &mut findings);
        let findings = findings.into_noted();
        let rejected = rules::rejected(&findings);
        let error = match key {
            Err(PublicKeyError::Malformed) => Some(CaCertificateError::Malformed(X509Error::PublicKey)),
            Err(PublicKeyError::Unsupported(key)) => Some(CaCertificateError::UnsupportedKey(key.clone())),
            Ok(_) if signature == SelfSignature::Wrong => Some(CaCertificateError::SignatureWrong),
            Ok(_) => None,
        };
        match (key, error) {
            (Ok(key), None) if rejected.is_empty() => Ok(VerifiedCa(VerifiedCertificate::new(
                CertificateFacts::of(&certificate.fields, key),
                Chain::of(std::iter::once(der.clone())),
                findings,
            ))),
            (_, certificate) => Err(CaError {
                certificate,
                rejected,
                findings,
            }),
        }
    }
}

impl One {
    fn of(text: &[u8]) -> Result<Self, CaCertificateError> {
        let text = PlainText::of(text);
        let given = Given::read(&text)?;
        if !given.keys.is_empty() {
            return Err(CaCertificateError::HoldsPrivateKey);
        }
        let mut decoded = Vec::new();
        for block in &given.certificates {
            let der = block.decode();
            let mut der = der.map_err(|error| CaCertificateError::Text(TextError::Pem(error)))?;
            decoded.push(std::mem::take(&mut *der));
        }
        let is_repeated = decoded.len() > 1;
        decoded.dedup();
        match <[_; 1]>::try_from(decoded) {
            Ok([der]) => Ok(Self {
                der,
                is_repeated,
                notes: given.notes,
            }),
            Err(_) => Err(CaCertificateError::Several),
        }
    }
}

impl VerifiedCa {
    /// The certificate. The chain is the certificate alone.
    pub fn certificate(&self) -> &VerifiedCertificate {
        &self.0
    }

    /// The certificate, without the proof that it is a CA certificate.
    pub fn into_certificate(self) -> VerifiedCertificate {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use openssl::asn1::{Asn1Integer, Asn1Time};
    use openssl::bn::BigNum;
    use openssl::hash::MessageDigest;
    use openssl::nid::Nid;
    use openssl::x509::{X509, X509Builder};

    use super::super::finding::CaMark;
    use super::super::test_pair::{self, AT, AUTHORITY, Entity, SERVER, TestPair, pem};
    use super::super::{PemError, UnsupportedKey};
    use super::*;
    use FindingCode as Code;

    fn verify(text: &[u8]) -> Result<VerifiedCa, CaError> {
        UnverifiedCa::read(text).verify(AT, &Policy::default(), &Authorities::default())
    }

    fn found(certificate: &X509) -> Vec<FindingKind> {
        let verified = verify(&certificate.to_pem().unwrap()).unwrap();
        let told = verified.certificate().findings().iter();
        told.map(|finding| finding.kind.clone()).collect()
    }

    fn codes(certificate: &X509) -> Vec<Code> {
        found(certificate).iter().map(FindingKind::code).collect()
    }

    fn error(text: &[u8]) -> CaCertificateError {
        verify(text).unwrap_err().certificate.unwrap()
    }

    /// A root with these extensions and this change.
    fn root(extensions: &[(&str, &str)], change: impl FnOnce(&mut X509Builder)) -> X509 {
        let root = Entity::new("root");
        root.certify_with(&root, extensions, change)
    }

    #[test]
    fn a_root_and_an_issuer_below_it_are_verified_with_nothing_noticed() {
        let [root, issuer] = ["root", "issuer"].map(Entity::new);
        for (certificate, subject) in [
            (root.certify_authority(&root), "CN=root"),
            (root.certify_authority(&issuer), "CN=issuer"),
        ] {
            let verified = verify(&certificate.to_pem().unwrap()).unwrap();
            let (facts, chain, findings) = verified.into_certificate().into_parts();
            assert_eq!((facts.subject.as_str(), findings), (subject, vec![]));
            assert_eq!(chain.der().collect::<Vec<_>>(), [certificate.to_der().unwrap()]);
        }
    }

    #[test]
    fn a_root_of_every_supported_key_is_verified() {
        for key in [
            test_pair::rsa_key(2048),
            test_pair::rsa_pss_key(2048, &[]),
            test_pair::ec_key(Nid::SECP384R1),
            test_pair::ec_key(Nid::SECP521R1),
            openssl::pkey::PKey::generate_ed25519().unwrap(),
            openssl::pkey::PKey::generate_ed448().unwrap(),
            test_pair::ml_dsa_key(super::super::key_type::MlDsa::MlDsa65).0,
        ] {
            assert_eq!(codes(&TestPair::with_extensions(key, AUTHORITY).certificate), []);
        }
        let unusual = test_pair::ec_key(Nid::SECP256K1);
        let unusual = TestPair::with_extensions(unusual, AUTHORITY);
        assert_eq!(codes(&unusual.certificate), [Code::EncodingRefusedBy]);
    }

    #[test]
    fn what_should_not_certify_is_noticed() {
        let no_ca = CaMark::BasicConstraints;
        for (extensions, expected) in [
            (&[][..], no_ca),
            (SERVER, no_ca),
            (
                &[
                    ("basicConstraints", "critical,CA:TRUE"),
                    ("keyUsage", "digitalSignature"),
                ],
                CaMark::KeyCertSign,
            ),
        ] {
            let certificate = root(extensions, |_| {});
            assert_eq!(found(&certificate), [FindingKind::IssuerNotCa { lacks: expected }]);
        }
        // certkeep does not ask for which clients the CA certificate is.
        let for_clients = [AUTHORITY, &[("extendedKeyUsage", "clientAuth")]].concat();
        assert_eq!(codes(&root(&for_clients, |_| {})), []);
    }

    #[test]
    fn time_and_form_are_noticed() {
        let at = AT.millis() / 1000;
        let time = |secs| Asn1Time::from_unix(secs).unwrap();
        let ends = |secs| root(AUTHORITY, |builder| builder.set_not_after(&time(secs)).unwrap());
        assert_eq!(codes(&ends(at - 1)), [Code::Expired]);
        assert_eq!(codes(&ends(at + 86_400)), [Code::ExpiresSoon]);
        let to_come = root(AUTHORITY, |builder| builder.set_not_before(&time(at + 60)).unwrap());
        assert_eq!(codes(&to_come), [Code::NotYetValid]);
        let zero = Asn1Integer::from_bn(&BigNum::new().unwrap()).unwrap();
        let unnumbered = root(AUTHORITY, |builder| builder.set_serial_number(&zero).unwrap());
        assert_eq!(codes(&unnumbered), []);
        let [above, issuer] = ["root", "issuer"].map(Entity::new);
        let unnumbered = above.certify_with(&issuer, AUTHORITY, |builder| builder.set_serial_number(&zero).unwrap());
        assert_eq!(codes(&unnumbered), [Code::SerialInvalid]);
        let odd = [AUTHORITY, &[("1.2.3.4", "critical,DER:05:00")]].concat();
        assert_eq!(codes(&root(&odd, |_| {})), [Code::CriticalExtensionUnknown]);
        let old = root(&[], |builder| builder.set_version(0).unwrap());
        assert_eq!(codes(&old), [Code::VersionNot3, Code::IssuerNotCa]);
        let small = TestPair::with_extensions(test_pair::rsa_key(1024), AUTHORITY);
        assert_eq!(codes(&small.certificate), [Code::RsaKeySmall]);
    }

    #[test]
    fn a_weak_signature_is_noticed_unless_it_is_its_own() {
        let [above, issuer] = ["root", "issuer"].map(Entity::new);
        for (subject, expected) in [(&issuer, &[Code::SignatureWeak][..]), (&above, &[])] {
            let mut builder = test_pair::builder(&subject.key);
            let name = |entity: &Entity| {
                let mut name = openssl::x509::X509Name::builder().unwrap();
                name.append_entry_by_text("CN", &entity.name).unwrap();
                name.build()
            };
            builder.set_subject_name(&name(subject)).unwrap();
            builder.set_issuer_name(&name(&above)).unwrap();
            let authority = openssl::x509::extension::BasicConstraints::new().ca().build().unwrap();
            builder.append_extension(authority).unwrap();
            builder.sign(&above.key, MessageDigest::sha1()).unwrap();
            assert_eq!(codes(&builder.build()), expected);
        }
    }

    #[test]
    fn what_says_to_be_self_signed_is_signed_by_its_own_key() {
        let [one, other] = ["root", "root"].map(Entity::new);
        assert_eq!(
            error(&one.certify_authority(&other).to_pem().unwrap()),
            CaCertificateError::SignatureWrong
        );
        let mut der = one.certify_authority(&one).to_der().unwrap();
        *der.last_mut().unwrap() ^= 1;
        assert_eq!(error(&pem("CERTIFICATE", &der)), CaCertificateError::SignatureWrong);
        // The new key of a CA, certified by its old key (RFC 4210 4.4). The certificate names the old key.
        let renewed = [
            AUTHORITY,
            &[
                ("subjectKeyIdentifier", "01:02"),
                ("authorityKeyIdentifier", "DER:30:04:80:02:03:04"),
            ],
        ]
        .concat();
        assert_eq!(codes(&one.certify(&other, &renewed)), []);
    }

    #[test]
    fn a_self_signature_that_nothing_verifies_is_noticed() {
        let key = test_pair::rsa_key(2048);
        let mut builder = test_pair::builder(&key);
        let authority = openssl::x509::extension::BasicConstraints::new().ca().build().unwrap();
        builder.append_extension(authority).unwrap();
        builder.sign(&key, MessageDigest::md5()).unwrap();
        let mut der = builder.build().to_der().unwrap();
        // The last byte tells md2WithRSAEncryption from md5WithRSAEncryption (RFC 8017 A.2.4).
        let md5 = hex::decode("2a864886f70d010104").unwrap();
        for place in 0..der.len() - md5.len() {
            if der[place..].starts_with(&md5) {
                der[place + md5.len() - 1] = 2;
            }
        }
        let verified = verify(&pem("CERTIFICATE", &der)).unwrap();
        let told: Vec<_> = verified
            .certificate()
            .findings()
            .iter()
            .map(|finding| finding.code())
            .collect();
        assert_eq!(told, [Code::SignatureWeak]);
    }

    #[test]
    fn exactly_one_certificate_is_read() {
        let (one, other) = (test_pair::ec(), test_pair::ec());
        let (text, other_text) = (one.certificate_pem(), other.certificate_pem());
        let twice = verify(&text.repeat(2)).unwrap();
        assert_eq!(twice.certificate().chain().len(), 1);
        assert!(
            twice
                .certificate()
                .findings()
                .iter()
                .any(|finding| finding.code() == Code::DuplicateDropped)
        );
        for (text, expected) in [
            (Vec::new(), CaCertificateError::Missing),
            (b" \n".to_vec(), CaCertificateError::Missing),
            ([&text[..], &other_text].concat(), CaCertificateError::Several),
            (text.repeat(21), CaCertificateError::Several),
            (one.key_pem(), CaCertificateError::HoldsPrivateKey),
            (
                [&text[..], &one.key_pem()].concat(),
                CaCertificateError::HoldsPrivateKey,
            ),
            (
                b"garbage".to_vec(),
                CaCertificateError::Text(TextError::Pem(PemError::NoBlock)),
            ),
            (pem("PKCS7", b"x"), CaCertificateError::Text(TextError::Pkcs7)),
            (
                pem("CERTIFICATE", b"x"),
                CaCertificateError::Malformed(X509Error::NotDer),
            ),
            (
                pem("CERTIFICATE", &[one.certificate.to_der().unwrap(), vec![0]].concat()),
                CaCertificateError::Malformed(X509Error::TrailingBytes),
            ),
            (
                TestPair::of(test_pair::ec_key(Nid::BRAINPOOL_P256R1)).certificate_pem(),
                CaCertificateError::UnsupportedKey(UnsupportedKey::Curve {
                    name: "brainpoolP256r1".into(),
                }),
            ),
        ] {
            assert_eq!(error(&text), expected);
        }
    }

    #[test]
    fn a_policy_refuses_what_it_is_told_to() {
        let text = test_pair::ec().certificate_pem();
        let refused = UnverifiedCa::read(&text).verify(AT, &"strict".parse().unwrap(), &Authorities::default());
        assert_eq!(refused.unwrap_err().rejected, [Code::IssuerNotCa]);
        let accepted = UnverifiedCa::read(&text).verify(
            AT,
            &"strict,ISSUER_NOT_CA=report".parse().unwrap(),
            &Authorities::default(),
        );
        assert!(accepted.is_ok());
    }
}
