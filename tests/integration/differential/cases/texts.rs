//! PEM texts as they are found, and as they are not read.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use openssl::symm::Cipher;
use openssl::x509::X509Req;

use super::certificates::pem_of;
use super::{Case, pem};
use crate::differential::der::Value;
use crate::pki::{self, Key};

pub fn cases() -> Vec<Case> {
    [dressed(), misplaced(), other_blocks()].into_iter().flatten().collect()
}

type Dress<'a> = &'a dyn Fn(&str) -> String;

/// Both texts in the same dress.
fn dressed() -> Vec<Case> {
    let key = Key::P256.make();
    let certificate = pem_of(&key);
    let text = String::from_utf8(key.private_key_to_pem_pkcs8().unwrap()).unwrap();
    let body = |text: &str| {
        text.lines()
            .filter(|line| !line.starts_with("-----"))
            .collect::<String>()
    };
    let rewrapped = |text: &str, width: usize| {
        let lines: Vec<_> = text.lines().collect();
        let body: Vec<_> = body(text).into_bytes();
        let body: Vec<_> = body
            .chunks(width)
            .map(|line| std::str::from_utf8(line).unwrap())
            .collect();
        format!("{}\n{}\n{}\n", lines[0], body.join("\n"), lines[lines.len() - 1])
    };
    // Padding is there in each run: the lengths are always the same.
    let dresses: [(&str, Dress<'_>); 27] = [
        ("plain", &str::to_owned),
        ("CRLF", &|text| text.replace('\n', "\r\n")),
        ("CR alone", &|text| text.replace('\n', "\r")),
        ("blank lines", &|text| text.replace('\n', "\n\n")),
        ("indented", &|text| {
            format!("  {}", text.trim_end().replace('\n', "\n  "))
        }),
        ("tab indented", &|text| {
            format!("\t{}", text.trim_end().replace('\n', "\n\t"))
        }),
        ("indented base64", &|text| {
            rewrapped(text, 64)
                .replace('\n', "\n ")
                .replace("\n -----", "\n-----")
                .trim_end()
                .to_owned()
                + "\n"
        }),
        ("blanks at line ends", &|text| text.replace('\n', " \t\n")),
        ("blanks within lines", &|text| {
            rewrapped(text, 60).replacen("MI", "M I", 1).replacen("MF", "M F", 1)
        }),
        ("byte order mark", &|text| format!("\u{feff}{text}")),
        ("text around", &|text| {
            format!("Bag Attributes\n    localKeyID: 01\n{text}the end\n")
        }),
        ("binary around", &|text| format!("\u{1}\u{0}\n{text}\u{0}\n")),
        ("no newline at the end", &|text| text.trim_end().to_owned()),
        ("one line of base64", &|text| rewrapped(text, 100_000)),
        ("lines of 76", &|text| rewrapped(text, 76)),
        ("lines of 63", &|text| rewrapped(text, 63)),
        ("lines of 1", &|text| rewrapped(text, 1)),
        ("a header", &|text| text.replacen("-----\n", "-----\nComment: x\n\n", 1)),
        ("no padding", &|text| text.replace('=', "")),
        ("too much padding", &|text| {
            text.replacen("\n-----END", "=\n-----END", 1)
        }),
        ("a dash in the base64", &|text| {
            text.replacen("-----\nM", "-----\nM-", 1)
        }),
        ("a NUL in the base64", &|text| {
            text.replacen("-----\nM", "-----\nM\0", 1)
        }),
        ("lower-case begin", &|text| text.replacen("BEGIN", "begin", 1)),
        ("another END", &|text| text.replacen("END ", "END X", 1)),
        ("no END", &|text| text.split("-----END").next().unwrap().to_owned()),
        ("all in one line", &|text| text.replace('\n', " ")),
        ("escaped newlines", &|text| text.replace('\n', "\\n")),
    ];
    let mut cases: Vec<_> = dresses
        .iter()
        .map(|(change, dress)| Case::new(["text", "both", change], dress(&certificate), dress(&text)))
        .collect();
    let binary = |text: &str| BASE64_STANDARD.decode(body(text)).unwrap();
    cases.push(Case::new(
        ["text", "certificate", "DER"],
        binary(&certificate),
        text.clone(),
    ));
    cases.push(Case::new(
        ["text", "private key", "DER"],
        certificate.clone(),
        binary(&text),
    ));
    let long = "x".repeat(79) + "\n";
    cases.push(Case::new(
        ["text", "certificate", "above 256 KiB"],
        long.repeat(3300) + &certificate,
        text.clone(),
    ));
    cases.push(Case::new(
        ["text", "private key", "above 64 KiB"],
        certificate.clone(),
        long.repeat(830) + &text,
    ));
    cases.push(Case::new(["text", "certificate", "empty"], "", text));
    cases.push(Case::new(["text", "private key", "empty"], certificate, ""));
    cases
}

/// Keys among certificates, and the other way round.
fn misplaced() -> Vec<Case> {
    let (key, other) = (Key::P256.make(), Key::P256.make());
    let certificate = pem_of(&key);
    let [text, other_text] =
        [&key, &other].map(|key| String::from_utf8(key.private_key_to_pem_pkcs8().unwrap()).unwrap());
    let sec1 = String::from_utf8(key.ec_key().unwrap().private_key_to_pem().unwrap()).unwrap();
    let both = [certificate.clone(), text.clone()].concat();
    let case = |place, change, certificate: &str, key: &str| Case::new(["text", place, change], certificate, key);
    vec![
        case("certificate", "with the key and no other", &both, ""),
        case("certificate", "with the key", &both, &text),
        case(
            "certificate",
            "key before it",
            &[text.clone(), certificate.clone()].concat(),
            &text,
        ),
        case(
            "certificate",
            "with another key",
            &[certificate.clone(), other_text.clone()].concat(),
            &text,
        ),
        case("private key", "certificate beside it", &certificate, &both),
        case(
            "private key",
            "certificate after it",
            &certificate,
            &[text.clone(), certificate.clone()].concat(),
        ),
        case("private key", "twice", &certificate, &text.repeat(2)),
        case(
            "private key",
            "in two forms",
            &certificate,
            &[text.clone(), sec1].concat(),
        ),
        case(
            "private key",
            "another after it",
            &certificate,
            &[text.clone(), other_text.clone()].concat(),
        ),
        case(
            "private key",
            "another before it",
            &certificate,
            &[other_text.clone(), text.clone()].concat(),
        ),
        case("both", "swapped", &text, &certificate),
        case("private key", "another's", &certificate, &other_text),
    ]
}

/// Blocks of other kinds, and of other labels.
fn other_blocks() -> Vec<Case> {
    let key = Key::P256.make();
    let (certificate, text) = (
        pem_of(&key),
        String::from_utf8(key.private_key_to_pem_pkcs8().unwrap()).unwrap(),
    );
    let x509 = pki::certificate(&key, "a.example", None);
    let der = x509.to_der().unwrap();
    let relabelled = |text: &str, from: &str, to: &str| text.replace(from, to);
    let mut request = X509Req::builder().unwrap();
    request.set_pubkey(&key).unwrap();
    request.sign(&key, openssl::hash::MessageDigest::sha256()).unwrap();
    let request = request.build().to_der().unwrap();
    // A certificate and OpenSSL's settings for it, which allow all.
    let trusted = [&der[..], &[0x30, 0]].concat();
    let public = String::from_utf8(key.public_key_to_pem().unwrap()).unwrap();
    let encrypted = pki::encrypted(&key);
    let rsa = Key::Rsa(1024).make();
    let rsa_pem = |encrypted: bool| {
        let rsa = rsa.rsa().unwrap();
        let pem = match encrypted {
            true => rsa.private_key_to_pem_passphrase(Cipher::aes_128_cbc(), b"passphrase"),
            false => rsa.private_key_to_pem(),
        };
        String::from_utf8(pem.unwrap()).unwrap()
    };
    let block = |change, certificate: &str| Case::new(["text", "certificate", change], certificate, text.clone());
    let key_block = |change, key: &str| Case::new(["text", "private key", change], certificate.clone(), key);
    vec![
        block(
            "X509 CERTIFICATE",
            &relabelled(&certificate, "CERTIFICATE", "X509 CERTIFICATE"),
        ),
        block("TRUSTED CERTIFICATE", &pem("TRUSTED CERTIFICATE", &trusted)),
        block(
            "TRUSTED CERTIFICATE without settings",
            &pem("TRUSTED CERTIFICATE", &der),
        ),
        block("CERTIFICATE with trust settings", &pem("CERTIFICATE", &trusted)),
        block("PKCS7", &pem("PKCS7", &bundle(&der))),
        block("PKCS7 after it", &(certificate.clone() + &pem("PKCS7", &bundle(&der)))),
        block("CERTIFICATE REQUEST", &pem("CERTIFICATE REQUEST", &request)),
        block("PUBLIC KEY", &public),
        block(
            "DH PARAMETERS after it",
            &(certificate.clone() + &pem("DH PARAMETERS", &[0x30, 0])),
        ),
        block("an unknown label", &relabelled(&certificate, "CERTIFICATE", "CERT")),
        block("an empty block", &pem("CERTIFICATE", &[])),
        key_block("PUBLIC KEY", &public),
        key_block("PUBLIC KEY after it", &(text.clone() + &public)),
        key_block("DH PARAMETERS before it", &(pem("DH PARAMETERS", &[0x30, 0]) + &text)),
        key_block("ENCRYPTED PRIVATE KEY", &encrypted),
        key_block("an unknown label", &relabelled(&text, "PRIVATE KEY", "SECRET KEY")),
        key_block(
            "PKCS#8 as EC PRIVATE KEY",
            &relabelled(&text, "PRIVATE KEY", "EC PRIVATE KEY"),
        ),
        key_block(
            "PKCS#8 as RSA PRIVATE KEY",
            &relabelled(&text, "PRIVATE KEY", "RSA PRIVATE KEY"),
        ),
        key_block("an empty block", &pem("PRIVATE KEY", &[])),
        Case::new(
            ["text", "private key", "Proc-Type ENCRYPTED"],
            pem_of(&rsa),
            rsa_pem(true),
        ),
        Case::new(
            ["text", "private key", "PKCS#1 as PRIVATE KEY"],
            pem_of(&rsa),
            relabelled(&rsa_pem(false), "RSA PRIVATE", "PRIVATE"),
        ),
    ]
}

/// SignedData of nothing but a certificate (RFC 2315 9.1).
fn bundle(certificate: &[u8]) -> Vec<u8> {
    let oid = |last: u8| Value::primitive(6, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, last]);
    let set = || Value::new(0x31, vec![]);
    let signed = Value::new(
        0x30,
        vec![
            Value::primitive(2, &[1]),
            set(),
            Value::new(0x30, vec![oid(1)]),
            Value::new(0xa0, vec![Value::read(certificate)]),
            set(),
        ],
    );
    Value::new(0x30, vec![oid(2), Value::new(0xa0, vec![signed])]).encode()
}
