//! Key pairs and odd encodings for tests, made anew by OpenSSL.

use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::{X509, X509Builder, X509Extension, X509NameBuilder};

use super::key_type::MlDsa;
use super::{Authorities, CertificateFacts, PairError, Policy, UnverifiedPair, VerifiedPair};
use crate::clock::Timestamp;
use crate::secret::Secret;

/// A private key with a self-signed certificate for `localhost`.
pub(crate) struct TestPair {
    pub(crate) key: PKey<Private>,
    pub(crate) certificate: X509,
}

impl TestPair {
    pub(crate) fn of(key: PKey<Private>) -> Self {
        Self::with_extensions(key, &[])
    }

    /// Extensions in OpenSSL's configuration syntax: name and value.
    pub(crate) fn with_extensions(key: PKey<Private>, extensions: &[(&str, &str)]) -> Self {
        let mut builder = builder(&key);
        for (name, value) in extensions {
            #[expect(deprecated, reason = "the one way to write odd extensions in a line")]
            let extension = X509Extension::new(None, Some(&builder.x509v3_context(None, None)), name, value).unwrap();
            builder.append_extension(extension).unwrap();
        }
        let certificate = sign(builder, &key);
        Self { key, certificate }
    }

    pub(crate) fn certificate_pem(&self) -> Vec<u8> {
        self.certificate.to_pem().unwrap()
    }

    pub(crate) fn key_pem(&self) -> Vec<u8> {
        self.key.private_key_to_pem_pkcs8().unwrap()
    }

    pub(crate) fn verify(&self) -> VerifiedPair {
        verify(&self.certificate_pem(), &self.key_pem()).unwrap()
    }

    pub(crate) fn facts(&self) -> CertificateFacts {
        self.verify().certificate().facts().clone()
    }
}

/// 2024-06-01: the time at which pairs of tests are verified.
pub(crate) const AT: Timestamp = Timestamp::from_secs(1_717_200_000);

/// Verifies by the default policy.
pub(crate) fn verify(certificate: &[u8], key: &[u8]) -> Result<VerifiedPair, PairError> {
    UnverifiedPair::read(certificate, &Secret::from(key.to_vec())).verify(
        AT,
        &Policy::default(),
        &Authorities::default(),
    )
}

/// Who has a name and a key, and may certify others.
pub(crate) struct Entity {
    pub(crate) name: String,
    pub(crate) key: PKey<Private>,
}

impl Entity {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            key: ec_key(Nid::X9_62_PRIME256V1),
        }
    }

    pub(crate) fn key_pem(&self) -> Vec<u8> {
        self.key.private_key_to_pem_pkcs8().unwrap()
    }

    /// A certificate for another, signed by this one, with extensions in OpenSSL's configuration syntax.
    pub(crate) fn certify(&self, subject: &Self, extensions: &[(&str, &str)]) -> X509 {
        self.certify_with(subject, extensions, |_| {})
    }

    pub(crate) fn certify_with(
        &self,
        subject: &Self,
        extensions: &[(&str, &str)],
        change: impl FnOnce(&mut X509Builder),
    ) -> X509 {
        let name = |name: &str| {
            let mut builder = X509NameBuilder::new().unwrap();
            builder.append_entry_by_text("CN", name).unwrap();
            builder.build()
        };
        let mut builder = builder(&subject.key);
        builder.set_subject_name(&name(&subject.name)).unwrap();
        builder.set_issuer_name(&name(&self.name)).unwrap();
        for (name, value) in extensions {
            #[expect(deprecated, reason = "the one way to write odd extensions in a line")]
            let extension = X509Extension::new(None, Some(&builder.x509v3_context(None, None)), name, value).unwrap();
            builder.append_extension(extension).unwrap();
        }
        change(&mut builder);
        sign(builder, &self.key)
    }

    /// The ordinary certificate of an authority.
    pub(crate) fn certify_authority(&self, subject: &Self) -> X509 {
        self.certify(subject, AUTHORITY)
    }

    /// The ordinary certificate of a server, for a time that browsers accept.
    pub(crate) fn certify_server(&self, subject: &Self) -> X509 {
        self.certify_with(subject, SERVER, |builder| {
            builder
                .set_not_after(&Asn1Time::from_unix(1_704_067_200 + 397 * 86_400).unwrap())
                .unwrap();
        })
    }
}

pub(crate) const AUTHORITY: &[(&str, &str)] = &[
    ("basicConstraints", "critical,CA:TRUE"),
    ("keyUsage", "critical,keyCertSign,cRLSign"),
];

pub(crate) const SERVER: &[(&str, &str)] = &[
    ("basicConstraints", "critical,CA:FALSE"),
    ("keyUsage", "critical,digitalSignature"),
    ("extendedKeyUsage", "serverAuth"),
    ("subjectAltName", "DNS:a.example"),
];

/// A certificate for `localhost` with the serial number 1, from 2024-01-01 to 2034-01-01, not signed yet.
pub(crate) fn builder(key: &PKey<Private>) -> X509Builder {
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", "localhost").unwrap();
    let name = name.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    let serial = Asn1Integer::from_bn(&BigNum::from_u32(1).unwrap()).unwrap();
    builder.set_serial_number(&serial).unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_issuer_name(&name).unwrap();
    builder
        .set_not_before(&Asn1Time::from_unix(1_704_067_200).unwrap())
        .unwrap();
    builder
        .set_not_after(&Asn1Time::from_unix(2_019_686_400).unwrap())
        .unwrap();
    builder.set_pubkey(key).unwrap();
    builder
}

pub(crate) fn sign(mut builder: X509Builder, key: &PKey<Private>) -> X509 {
    // Keys of OpenSSL's providers, such as ML-DSA's, have no number.
    let digest = if matches!(key.id(), Id::ED25519 | Id::ED448) || key.id().as_raw() < 0 {
        MessageDigest::null()
    } else {
        MessageDigest::sha256()
    };
    builder.sign(key, digest).unwrap();
    builder.build()
}

/// A key of this parameter set, and its seed.
pub(super) fn ml_dsa_key(set: MlDsa) -> (PKey<Private>, Vec<u8>) {
    use pkcs8::der::Encode;
    let seed = crate::digest::random::<32>().unwrap().to_vec();
    let algorithm = sequence(&[&set.oid().to_der().unwrap()]);
    let pkcs8 = sequence(&[&integer(&[]), &algorithm, &der(4, &der(0x80, &seed))]);
    (PKey::private_key_from_pkcs8(&pkcs8).unwrap(), seed)
}

pub(crate) fn rsa() -> TestPair {
    TestPair::of(rsa_key(2048))
}

pub(crate) fn rsa_key(bits: u32) -> PKey<Private> {
    PKey::from_rsa(Rsa::generate(bits).unwrap()).unwrap()
}

/// `id-sha256` (RFC 4055 2.1) in hexadecimal DER.
pub(crate) const SHA256: &str = "0609608648016503040201";
/// `id-sha384` (RFC 4055 2.1) in hexadecimal DER.
pub(crate) const SHA384: &str = "0609608648016503040202";
/// `id-mgf1` (RFC 4055 2.2) in hexadecimal DER.
pub(crate) const MGF1: &str = "06092a864886f70d010108";

/// `RSASSA-PSS-params` (RFC 8017 A.2.3) of one hash, an `AlgorithmIdentifier`'s content in hexadecimal DER.
pub(crate) fn pss_parameters(hash: &str, salt_length: u8) -> Vec<u8> {
    let hash = sequence(&[&hex::decode(hash).unwrap()]);
    let mask = sequence(&[&hex::decode(MGF1).unwrap(), &hash]);
    let salt_length = integer(&[salt_length]);
    sequence(&[&der(0xa0, &hash), &der(0xa1, &mask), &der(0xa2, &salt_length)])
}

/// `id-RSASSA-PSS` with those parameters, which may be none.
fn rsa_pss_algorithm(parameters: &[u8]) -> Vec<u8> {
    sequence(&[&hex::decode("06092a864886f70d01010a").unwrap(), parameters])
}

/// The numbers of an RSA key as an RSA-PSS key in PKCS#8.
pub(crate) fn rsa_pss_pkcs8(rsa: &PKey<Private>, parameters: &[u8]) -> Vec<u8> {
    let body = rsa.rsa().unwrap().private_key_to_der().unwrap();
    sequence(&[&integer(&[]), &rsa_pss_algorithm(parameters), &der(4, &body)])
}

/// The numbers of an RSA key as the `SubjectPublicKeyInfo` of an RSA-PSS key.
pub(crate) fn rsa_pss_spki(rsa: &PKey<Private>, parameters: &[u8]) -> Vec<u8> {
    let body = rsa.rsa().unwrap().public_key_to_der_pkcs1().unwrap();
    sequence(&[&rsa_pss_algorithm(parameters), &der(3, &[&[0], &body[..]].concat())])
}

pub(crate) fn rsa_pss_key(bits: u32, parameters: &[u8]) -> PKey<Private> {
    PKey::private_key_from_pkcs8(&rsa_pss_pkcs8(&rsa_key(bits), parameters)).unwrap()
}

pub(crate) fn ec() -> TestPair {
    TestPair::of(ec_key(Nid::X9_62_PRIME256V1))
}

pub(crate) fn ec_key(curve: Nid) -> PKey<Private> {
    PKey::from_ec_key(EcKey::generate(&EcGroup::from_curve_name(curve).unwrap()).unwrap()).unwrap()
}

pub(crate) fn ed25519() -> TestPair {
    TestPair::of(PKey::generate_ed25519().unwrap())
}

/// One DER value of that tag.
pub(crate) fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut der = vec![tag];
    match u8::try_from(content.len()) {
        Ok(len @ 0..=0x7f) => der.push(len),
        Ok(len) => der.extend([0x81, len]),
        Err(_) => {
            der.push(0x82);
            der.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
        }
    }
    der.extend(content);
    der
}

/// A SEQUENCE of DER values.
pub(crate) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    der(0x30, &parts.concat())
}

/// A DER INTEGER that is not negative.
pub(crate) fn integer(number: &[u8]) -> Vec<u8> {
    match number.first() {
        None => der(2, &[0]),
        Some(0x80..) => der(2, &[&[0], number].concat()),
        Some(_) => der(2, number),
    }
}

/// A distinguished name of parts, each of attributes: an object identifier in hexadecimal DER, and a value in DER.
pub(crate) fn dn(parts: &[Vec<(&str, Vec<u8>)>]) -> Vec<u8> {
    let part = |attributes: &Vec<(&str, Vec<u8>)>| {
        let attributes = attributes
            .iter()
            .map(|(oid, value)| sequence(&[&hex::decode(oid).unwrap(), value]));
        der(0x31, &attributes.collect::<Vec<_>>().concat())
    };
    der(0x30, &parts.iter().map(part).collect::<Vec<_>>().concat())
}

/// A PEM block.
pub(crate) fn pem(label: &str, der: &[u8]) -> Vec<u8> {
    use base64::Engine;
    let text = base64::prelude::BASE64_STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n").into_bytes()
}
