//! Certificates for any public key, and odd ones.

use std::sync::OnceLock;

use openssl::hash::MessageDigest;
use openssl::pkey::{HasPublic, PKey, PKeyRef};
use openssl::x509::X509;
use openssl::x509::extension::{BasicConstraints, ExtendedKeyUsage, KeyUsage};

use super::{Case, pem};
use crate::differential::der::Value;
use crate::pki::{self, Key};

/// Where the SubjectPublicKeyInfo stands in a certificate (RFC 5280 4.1).
pub const SPKI: [usize; 2] = [0, 6];

/// A server's certificate for this SubjectPublicKeyInfo. Nobody has its issuer, so that nobody verifies its signature.
pub fn of_spki(spki: &[u8]) -> Value {
    static TEMPLATE: OnceLock<Vec<u8>> = OnceLock::new();
    let template = TEMPLATE.get_or_init(|| {
        let key = Key::P256.make();
        let mut builder = pki::builder(&key, "shop.example");
        builder.set_issuer_name(&pki::subject("Test CA")).unwrap();
        let names = openssl::x509::extension::SubjectAlternativeName::new()
            .dns("shop.example")
            .ip("192.0.2.1")
            .build(&builder.x509v3_context(None, None));
        for extension in [
            BasicConstraints::new().critical().build(),
            KeyUsage::new().critical().digital_signature().build(),
            ExtendedKeyUsage::new().server_auth().build(),
            names,
        ] {
            builder.append_extension(extension.unwrap()).unwrap();
        }
        builder.sign(&Key::P256.make(), MessageDigest::sha256()).unwrap();
        builder.build().to_der().unwrap()
    });
    let mut certificate = Value::read(template);
    *certificate.at(&SPKI) = Value::read(spki);
    certificate
}

pub fn pem_of_spki(spki: &[u8]) -> String {
    pem("CERTIFICATE", &of_spki(spki).encode())
}

pub fn pem_of(key: &PKeyRef<impl HasPublic>) -> String {
    pem_of_spki(&key.public_key_to_der().unwrap())
}

/// Pairs whose certificates are odd as a whole.
pub fn cases() -> Vec<Case> {
    let key = Key::P256.make();
    let other = Key::P256.make();
    let expired = pki::expiring("shop.example", 0);
    let own = pem_of(&key);
    let text = String::from_utf8(key.private_key_to_pem_pkcs8().unwrap()).unwrap();
    let pki::Hierarchy {
        key: leaf_key,
        leaf,
        issuer,
        root,
    } = pki::hierarchy(Key::P256, "shop.example");
    let leaf_key = String::from_utf8(leaf_key.private_key_to_pem_pkcs8().unwrap()).unwrap();
    let chain = |certificates: &[&X509]| certificates.iter().map(|x509| pki::pem(x509)).collect::<String>();
    let case =
        |place, change, certificate: String, key: &str| Case::new(["certificate", place, change], certificate, key);
    vec![
        case("whole", "ordinary", own.clone(), &text),
        case(
            "whole",
            "self-signed",
            pki::pem(&pki::certificate(&key, "a.example", None)),
            &text,
        ),
        case("whole", "expired", expired.certificate, &expired.key),
        case("names", "257 attributes", many_names(&key), &text),
        case("chain", "in order", chain(&[&leaf, &issuer, &root]), &leaf_key),
        case("chain", "leaf last", chain(&[&root, &issuer, &leaf]), &leaf_key),
        case("chain", "leaf twice", chain(&[&leaf, &leaf]), &leaf_key),
        case(
            "chain",
            "another server's after it",
            own.clone() + &pem_of(&other),
            &text,
        ),
        case("chain", "21 certificates", own.repeat(21), &text),
        case(
            "chain",
            "two for the key",
            own.clone() + &pki::pem(&pki::certificate(&key, "a.example", None)),
            &text,
        ),
        case(
            "chain",
            "broken one after it",
            own.clone() + &pem("CERTIFICATE", &[0x30, 0]),
            &text,
        ),
    ]
}

fn many_names(key: &PKey<openssl::pkey::Private>) -> String {
    let mut certificate = of_spki(&key.public_key_to_der().unwrap());
    let name = certificate.at(&[0, 5, 0]).clone();
    *certificate.at(&[0, 5]) = Value::new(0x30, vec![name; 257]);
    pem("CERTIFICATE", &certificate.encode())
}
