//! A factory of pairs, made when the tests run.

use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Name};

/// A certificate and its key in PEM.
#[derive(Clone)]
pub struct Pair {
    pub certificate: String,
    pub key: String,
    pub x509: X509,
}

#[derive(Clone, Copy, Debug)]
pub enum Key {
    Rsa(u32),
    P256,
    P384,
    P521,
    Secp256k1,
    Ed25519,
    Ed448,
}

impl Key {
    pub fn make(self) -> PKey<Private> {
        let curve = |nid| {
            let group = EcGroup::from_curve_name(nid).unwrap();
            PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
        };
        match self {
            Self::Rsa(bits) => PKey::from_rsa(Rsa::generate(bits).unwrap()).unwrap(),
            Self::P256 => curve(Nid::X9_62_PRIME256V1),
            Self::P384 => curve(Nid::SECP384R1),
            Self::P521 => curve(Nid::SECP521R1),
            Self::Secp256k1 => curve(Nid::SECP256K1),
            Self::Ed25519 => PKey::generate_ed25519().unwrap(),
            Self::Ed448 => PKey::generate_ed448().unwrap(),
        }
    }
}

/// A self-signed pair for this name.
pub fn self_signed(key: Key, name: &str) -> Pair {
    let key = key.make();
    pair(&key, certificate(&key, name, None))
}

/// A leaf with its key, its issuer, and the root.
pub struct Hierarchy {
    pub key: PKey<Private>,
    pub leaf: X509,
    pub issuer: X509,
    pub root: X509,
}

pub fn hierarchy(key: Key, name: &str) -> Hierarchy {
    let (root_key, issuer_key) = (Key::P256.make(), Key::P256.make());
    let root = authority(&root_key, "Test Root", (&root_key, "Test Root"));
    let issuer = authority(&issuer_key, "Test CA", (&root_key, "Test Root"));
    let key = key.make();
    let leaf = certificate(&key, name, Some((&issuer, &issuer_key)));
    Hierarchy {
        key,
        leaf,
        issuer,
        root,
    }
}

/// A pair for this name behind a certificate authority, whose certificate stands behind the leaf.
pub fn issued(key: Key, name: &str) -> Pair {
    let Hierarchy { key, leaf, issuer, .. } = hierarchy(key, name);
    let mut pair = pair(&key, leaf);
    pair.certificate.push_str(&pem(&issuer));
    pair
}

/// A pair of that many certificates, whose issuers are no authorities and have long names.
pub fn long_chain(len: usize, name: &str) -> Pair {
    let keys: Vec<_> = (0..=len).map(|_| Key::P256.make()).collect();
    let mut text = String::new();
    for place in 0..len {
        let (name, issuer) = (format!("{place}.{name}"), format!("{}.{name}", place + 1));
        let issuer = certificate(&keys[place + 1], &issuer, None);
        text.push_str(&pem(&certificate(
            &keys[place],
            &name,
            Some((&issuer, &keys[place + 1])),
        )));
    }
    let mut pair = pair(&keys[0], X509::from_pem(text.as_bytes()).unwrap());
    pair.certificate = text;
    pair
}

/// A pair whose leaf and whose issuer expire in so many days. The issuer stands behind the leaf.
pub fn issued_until(name: &str, leaf_days: u32, issuer_days: u32) -> Pair {
    let (root_key, issuer_key, key) = (Key::P256.make(), Key::P256.make(), Key::P256.make());
    let end = |days| Asn1Time::days_from_now(days).unwrap();
    let issuer = authority_until(&issuer_key, "Test CA", (&root_key, "Test Root"), &end(issuer_days));
    let mut builder = builder(&key, name);
    builder.set_issuer_name(issuer.subject_name()).unwrap();
    builder.set_not_after(&end(leaf_days)).unwrap();
    builder.sign(&issuer_key, MessageDigest::sha256()).unwrap();
    let mut pair = pair(&key, builder.build());
    pair.certificate.push_str(&pem(&issuer));
    pair
}

/// The root of an authority, in PEM, that expires in so many days.
pub fn root_expiring(name: &str, days: u32) -> String {
    let key = Key::P256.make();
    pem(&authority_until(
        &key,
        name,
        (&key, name),
        &Asn1Time::days_from_now(days).unwrap(),
    ))
}

/// A self-signed pair that expires in so many days.
pub fn expiring(name: &str, days: u32) -> Pair {
    expiring_with(Key::P256, name, days)
}

/// A self-signed pair with a key of this type that expires in so many days.
pub fn expiring_with(key: Key, name: &str, days: u32) -> Pair {
    let key = key.make();
    let mut builder = builder(&key, name);
    builder.set_issuer_name(&subject(name)).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(days).unwrap()).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    pair(&key, builder.build())
}

pub fn pair(key: &PKey<Private>, x509: X509) -> Pair {
    Pair {
        certificate: pem(&x509),
        key: String::from_utf8(key.private_key_to_pem_pkcs8().unwrap()).unwrap(),
        x509,
    }
}

pub fn pem(certificate: &X509) -> String {
    String::from_utf8(certificate.to_pem().unwrap()).unwrap()
}

/// The root of an authority, and its key.
pub fn root(name: &str) -> Pair {
    let key = Key::P256.make();
    pair(&key, authority(&key, name, (&key, name)))
}

/// The root of an authority whose RSA exponent is longer than 64 bits.
pub fn unsafe_exponent(name: &str) -> Pair {
    let exponent = BigNum::from_dec_str("36893488147419103363").unwrap();
    let key = PKey::from_rsa(Rsa::generate_with_e(2048, &exponent).unwrap()).unwrap();
    pair(&key, authority(&key, name, (&key, name)))
}

/// An authority of client certificates.
pub struct ClientAuthority {
    pub certificate: X509,
    key: PKey<Private>,
}

/// A subject alternative name.
#[derive(Clone, Copy)]
pub enum San<'a> {
    Dns(&'a str),
    Uri(&'a str),
}

impl ClientAuthority {
    pub fn new(name: &str) -> Self {
        let key = Key::P256.make();
        let certificate = authority(&key, name, (&key, name));
        Self { certificate, key }
    }

    /// The certificate of a client and its key.
    pub fn issue(&self, common_name: &str, names: &[San<'_>]) -> Pair {
        self.issue_until(common_name, names, 4_000_000_000)
    }

    /// The certificate of a client that is valid until this second of Unix time, and its key.
    pub fn issue_until(&self, common_name: &str, names: &[San<'_>], not_after: i64) -> Pair {
        let key = Key::P256.make();
        let mut builder = builder(&key, common_name);
        builder.set_issuer_name(self.certificate.subject_name()).unwrap();
        builder.set_not_after(&Asn1Time::from_unix(not_after).unwrap()).unwrap();
        if !names.is_empty() {
            let mut san = SubjectAlternativeName::new();
            for name in names {
                match name {
                    San::Dns(name) => san.dns(name),
                    San::Uri(uri) => san.uri(uri),
                };
            }
            let san = san.build(&builder.x509v3_context(None, None)).unwrap();
            builder.append_extension(san).unwrap();
        }
        builder.sign(&self.key, MessageDigest::sha256()).unwrap();
        pair(&key, builder.build())
    }
}

fn authority(key: &PKey<Private>, name: &str, issuer: (&PKey<Private>, &str)) -> X509 {
    authority_until(key, name, issuer, &Asn1Time::from_unix(4_000_000_000).unwrap())
}

fn authority_until(
    key: &PKey<Private>,
    name: &str,
    (issuer_key, issuer): (&PKey<Private>, &str),
    not_after: &Asn1Time,
) -> X509 {
    let mut builder = builder(key, name);
    builder.set_not_after(not_after).unwrap();
    builder.set_issuer_name(&subject(issuer)).unwrap();
    builder
        .append_extension(BasicConstraints::new().critical().ca().build().unwrap())
        .unwrap();
    builder.sign(issuer_key, MessageDigest::sha256()).unwrap();
    builder.build()
}

pub fn certificate(key: &PKey<Private>, name: &str, issuer: Option<(&X509, &PKey<Private>)>) -> X509 {
    let mut builder = builder(key, name);
    let issuer_name = issuer.map_or_else(
        || subject(name),
        |(issuer, _)| issuer.subject_name().to_owned().unwrap(),
    );
    builder.set_issuer_name(&issuer_name).unwrap();
    let context = builder.x509v3_context(None, None);
    let names = SubjectAlternativeName::new()
        .dns(name)
        .dns(&format!("www.{name}"))
        .build(&context)
        .unwrap();
    builder.append_extension(names).unwrap();
    let signer = issuer.map_or(key, |(_, key)| key);
    let digest = match signer.id() {
        openssl::pkey::Id::ED25519 | openssl::pkey::Id::ED448 => MessageDigest::null(),
        _ => MessageDigest::sha256(),
    };
    builder.sign(signer, digest).unwrap();
    builder.build()
}

pub fn builder(key: &PKey<Private>, name: &str) -> openssl::x509::X509Builder {
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    let mut serial = BigNum::new().unwrap();
    serial.rand(120, MsbOption::ONE, false).unwrap();
    builder
        .set_serial_number(&Asn1Integer::from_bn(&serial).unwrap())
        .unwrap();
    builder.set_subject_name(&subject(name)).unwrap();
    builder.set_pubkey(key).unwrap();
    builder
        .set_not_before(&Asn1Time::from_unix(1_700_000_000).unwrap())
        .unwrap();
    builder
        .set_not_after(&Asn1Time::from_unix(4_000_000_000).unwrap())
        .unwrap();
    builder
}

pub fn subject(name: &str) -> X509Name {
    let mut subject = X509Name::builder().unwrap();
    subject.append_entry_by_nid(Nid::COMMONNAME, name).unwrap();
    subject.build()
}

/// The key of an upload.
pub fn key_of(upload: &certkeep::grpc::pb::UploadServerCertificateRequest) -> PKey<Private> {
    PKey::private_key_from_pem(upload.private_key.as_bytes()).unwrap()
}

/// The key encrypted under a passphrase, as PKCS#8.
pub fn encrypted(key: &PKey<Private>) -> String {
    let pem = key
        .private_key_to_pem_pkcs8_passphrase(openssl::symm::Cipher::aes_256_cbc(), b"passphrase")
        .unwrap();
    String::from_utf8(pem).unwrap()
}
