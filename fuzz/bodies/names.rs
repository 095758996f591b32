//! The names of server certificates, and the names in certificates.

use std::str;

use certkeep::certificate::Policy;
use certkeep::inventory::{CertificateId, CertificateName};
use certkeep::secret::Secret;

use super::tree::{self, der, sequence};
use super::{AT, again, signing};

/// A subject (RFC 5280 4.1.2.6).
pub const SUBJECT: u8 = 0xa0;
/// An issuer.
pub const ISSUER: u8 = 0xa1;
/// `GeneralNames` of the subject (RFC 5280 4.2.1.6).
pub const ALTERNATIVE: u8 = 0xa2;
/// A server certificate's name or id.
pub const TEXT: u8 = 0xa3;

/// Checks that names in a certificate are shown completely and without control characters. Checks names of server certificates too.
pub fn names(input: &[u8]) {
    let (mut subject, mut issuer, mut alternative) = (sequence(&[]), sequence(&[]), None);
    for (tag, content) in tree::values(input) {
        match tag {
            SUBJECT => subject = content.to_vec(),
            ISSUER => issuer = content.to_vec(),
            ALTERNATIVE => alternative = Some(content),
            TEXT => server_certificate(&String::from_utf8_lossy(content)),
            _ => {}
        }
    }
    let certificate = signing::certificate(&tbs(&subject, &issuer, alternative), 0);
    let text = again::pem("CERTIFICATE", &certificate);
    let key = signing::key(0)
        .private_key_to_pem_pkcs8()
        .expect("OpenSSL writes its key");
    let (key, policy) = (Secret::from(key), Policy::default());
    let Some((pair, first)) = again::verify(&text, &key, AT, &policy) else {
        return;
    };
    let facts = pair.certificate().facts();
    for name in [&facts.subject, &facts.issuer] {
        is_rfc4514(name);
    }
    let texts = [&facts.common_name, &facts.issuer, &facts.subject];
    let length: usize = texts
        .into_iter()
        .chain(&facts.subject_alternative_names)
        .map(String::len)
        .sum();
    assert!(length <= 9 * certificate.len(), "{length} of {}", certificate.len());
    again::pair(&pair, &first, AT, &policy);
}

/// A valid name must parse to itself. A name that is made from an invalid text must be valid.
fn server_certificate(text: &str) {
    if let Ok(name) = CertificateName::parse(text) {
        assert_eq!(name.as_str(), text);
        assert_eq!(CertificateName::of_path(text), Some(name));
    }
    if let Some(name) = CertificateName::of_path(text) {
        assert_eq!(CertificateName::parse(name.as_str()), Ok(name));
    }
    if let Ok(id) = CertificateId::parse(text) {
        assert_eq!(id.to_string(), text);
        let name = CertificateName::from(id);
        assert_eq!(CertificateName::parse(name.as_str()), Ok(name));
    }
}

/// A `TBSCertificate` for the key 0 with these names.
fn tbs(subject: &[u8], issuer: &[u8], alternative: Option<&[u8]>) -> Vec<u8> {
    let key = signing::key(0).public_key_to_der().expect("OpenSSL writes its key");
    let validity = sequence(&[&der(0x17, b"240101000000Z"), &der(0x17, b"241231000000Z")]);
    let extensions = alternative.map_or_else(Vec::new, |names| {
        let names = sequence(&[&[6, 3, 0x55, 0x1d, 17], &der(4, names)]);
        der(0xa3, &sequence(&[&names]))
    });
    let (version, serial) = (der(0xa0, &[2, 1, 2]), [2, 1, 1]);
    sequence(&[
        &version,
        &serial,
        &signing::ED25519,
        issuer,
        &validity,
        subject,
        &key,
        &extensions,
    ])
}

/// RFC 4514 3: commas and plus signs separate attributes. Each attribute has a type and a value. Special characters are escaped.
fn is_rfc4514(name: &str) {
    if name.is_empty() {
        return;
    }
    let mut attributes = vec![String::new()];
    let mut rest = name.chars();
    while let Some(c) = rest.next() {
        let last = attributes.last_mut().expect("one");
        match c {
            ',' | '+' => attributes.push(String::new()),
            '\\' => match rest.next() {
                Some(c) if " \"#+,;<=>\\".contains(c) => last.push('x'),
                Some(c) if c.is_ascii_hexdigit() && rest.next().is_some_and(|c| c.is_ascii_hexdigit()) => {
                    last.push('x');
                }
                _ => panic!("{name:?} has an escape of nothing"),
            },
            '"' | ';' | '<' | '>' | '\0' => panic!("{name:?} has {c:?} in it"),
            c => last.push(c),
        }
    }
    for attribute in attributes {
        let (kind, value) = attribute.split_once('=').expect("a type and a value");
        let is_keyword = kind.chars().all(|c| c.is_ascii_uppercase());
        // Dotted decimal, or hexadecimal if an arc is too long.
        let is_identifier = kind
            .split('.')
            .all(|arc| !arc.is_empty() && arc.bytes().all(|b| b.is_ascii_digit()))
            || kind.bytes().all(|b| b.is_ascii_hexdigit());
        assert!(
            !kind.is_empty() && (is_keyword || is_identifier),
            "{kind:?} of {name:?}"
        );
        assert!(
            !value.starts_with(' ') && !value.ends_with(' '),
            "{value:?} of {name:?}"
        );
        if let Some(value) = value.strip_prefix('#') {
            assert!(
                value.len() % 2 == 0 && value.bytes().all(|b| b.is_ascii_hexdigit()),
                "{name:?}"
            );
        }
    }
}
