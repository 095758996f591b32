//! Each value of a certificate or a key, changed in each way.

use openssl::pkey::PKey;

use super::certificates::{SPKI, of_spki, pem_of};
use super::keys::pkcs8;
use super::{Case, pem};
use crate::differential::der::{Change, Value};
use crate::pki::Key;

pub fn cases() -> Vec<Case> {
    // OpenSSL tests the primes of each RSA key, which takes long for long ones.
    let (rsa, ec, ed) = (Key::Rsa(1024).make(), Key::P256.make(), Key::Ed25519.make());
    let mut cases = Vec::new();
    // Of the other kinds, only what is their own.
    for (input, key, within) in [
        ("EC certificate", &ec, &[][..]),
        ("RSA certificate", &rsa, &SPKI),
        ("Ed25519 certificate", &ed, &SPKI),
    ] {
        let text = key.private_key_to_pem_pkcs8().unwrap();
        let certificate = of_spki(&key.public_key_to_der().unwrap());
        for (kind, der) in changed(input, &certificate, within, in_certificate) {
            cases.push(Case {
                kind,
                certificate: pem("CERTIFICATE", &der).into(),
                key: text.clone(),
            });
        }
    }
    let ed_body = Value::primitive(4, &ed.raw_private_key().unwrap()).encode();
    let ed_v2 = pkcs8(
        vec![Value::primitive(6, &[0x2b, 0x65, 0x70])],
        &ed_body,
        Some(&ed.raw_public_key().unwrap()),
    );
    let sec1 = ec.ec_key().unwrap().private_key_to_der().unwrap();
    let in_pkcs8 = |key: &PKey<_>| key.private_key_to_pkcs8().unwrap();
    for (input, label, key, der, name) in [
        (
            "RSA key",
            "PRIVATE KEY",
            &rsa,
            in_pkcs8(&rsa),
            in_rsa_pkcs8 as fn(&[usize]) -> &'static str,
        ),
        ("EC key", "PRIVATE KEY", &ec, in_pkcs8(&ec), in_ec_pkcs8),
        ("SEC1 key", "EC PRIVATE KEY", &ec, sec1, in_sec1),
        ("Ed25519 key", "PRIVATE KEY", &ed, ed_v2, in_edwards_pkcs8),
    ] {
        let certificate = pem_of(key);
        for (kind, der) in changed(input, &Value::read(&der), &[], name) {
            cases.push(Case {
                kind,
                certificate: certificate.clone().into(),
                key: pem(label, &der).into(),
            });
        }
    }
    cases
}

/// What comes of each change to each value within that one, and of bytes that are cut off or put behind.
fn changed(
    input: &str,
    value: &Value,
    within: &[usize],
    name: fn(&[usize]) -> &'static str,
) -> Vec<([String; 3], Vec<u8>)> {
    let kind = |place: &str, change: &str| [input, place, change].map(str::to_owned);
    let mut changed = Vec::new();
    for path in value.paths().iter().filter(|path| path.starts_with(within)) {
        let changes = Change::ALL
            .into_iter()
            .filter_map(|change| Some((change, value.changed(path, change)?)));
        changed.extend(changes.map(|(change, der)| (kind(name(path), change.as_str()), der)));
    }
    if within.is_empty() {
        let der = value.encode();
        changed.push((kind("whole", "a byte appended"), [&der[..], &[0]].concat()));
        changed.push((kind("whole", "cut in half"), der[..der.len() / 2].to_vec()));
        changed.push((kind("whole", "twice"), der.repeat(2)));
    }
    changed
}

/// The fields of RFC 5280 4.1.
fn in_certificate(path: &[usize]) -> &'static str {
    match path {
        [] => "whole",
        [0] => "tbsCertificate",
        [0, 0, ..] => "version",
        [0, 1] => "serialNumber",
        [0, 2, ..] => "signature",
        [0, 3] => "issuer",
        [0, 5] => "subject",
        [0, 3 | 5, _] => "RelativeDistinguishedName",
        [0, 3 | 5, _, _] => "AttributeTypeAndValue",
        [0, 3 | 5, _, _, 0] => "attribute's type",
        [0, 3 | 5, ..] => "attribute's value",
        [0, 4] => "validity",
        [0, 4, ..] => "validity's times",
        [0, 6] => "subjectPublicKeyInfo",
        [0, 6, 0, ..] => "algorithm",
        [0, 6, 1] => "subjectPublicKey",
        [0, 6, 1, ..] => "key in subjectPublicKey",
        [0, 7] | [0, 7, 0] => "extensions",
        [0, 7, 0, _] => "extension",
        [0, 7, 0, _, 0] => "extnID",
        // The template's first two are critical.
        [0, 7, 0, 0 | 1, 1] => "critical",
        [0, 7, 0, 0 | 1, 2] | [0, 7, 0, _, 1] => "extnValue",
        [0, 7, ..] => "in extnValue",
        [1, ..] => "signatureAlgorithm",
        [2, ..] => "signatureValue",
        _ => "?",
    }
}

/// The fields of RFC 5958 2.
fn in_pkcs8(path: &[usize]) -> &'static str {
    match path {
        [] => "whole",
        [0] => "version",
        [1] => "privateKeyAlgorithm",
        [1, 0] => "algorithm",
        [1, ..] => "parameters",
        [2] => "privateKey",
        [3, ..] => "publicKey or attributes",
        _ => "?",
    }
}

/// And of RFC 8017 A.1.2.
fn in_rsa_pkcs8(path: &[usize]) -> &'static str {
    match path {
        [2, 0] => "RSAPrivateKey",
        [2, 0, 0] => "version inside",
        [2, 0, 1] => "modulus",
        [2, 0, 2] => "publicExponent",
        [2, 0, 3] => "privateExponent",
        [2, 0, 4] => "prime1",
        [2, 0, 5] => "prime2",
        [2, 0, 6] => "exponent1",
        [2, 0, 7] => "exponent2",
        [2, 0, 8] => "coefficient",
        path => in_pkcs8(path),
    }
}

/// And of RFC 5915 3.
fn in_ec_pkcs8(path: &[usize]) -> &'static str {
    match path {
        [2, 0] => "ECPrivateKey",
        [2, 0, inside @ ..] => in_sec1(inside),
        path => in_pkcs8(path),
    }
}

/// The fields of RFC 5915 3.
fn in_sec1(path: &[usize]) -> &'static str {
    match path {
        [] => "whole",
        [0] => "version inside",
        [1] => "number",
        [2, ..] | [3, ..] => "curve or public key inside",
        _ => "?",
    }
}

/// And of RFC 8410 7.
fn in_edwards_pkcs8(path: &[usize]) -> &'static str {
    match path {
        [2, 0] => "CurvePrivateKey",
        path => in_pkcs8(path),
    }
}
