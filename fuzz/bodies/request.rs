//! Inputs with certificates, keys, a policy and a time, each as a DER value.

use certkeep::app;
use certkeep::certificate::Policy;
use certkeep::clock::Timestamp;
use certkeep::secret::Secret;

use super::{AT, MAX_CERTIFICATES, MAX_KEY, again, signing, tree};

/// A `TBSCertificate`. The tag is this base plus the number of the key that signs it.
pub const SIGNED: u8 = 0xa0;
/// A complete certificate.
pub const CERTIFICATE: u8 = 0xa8;
/// Text among the certificates.
pub const TEXT: u8 = 0xa9;
/// Text next to the key.
pub const KEY_TEXT: u8 = 0xaa;
/// The text of a policy.
pub const POLICY: u8 = 0xab;
/// Seconds since 1970, big-endian.
pub const TIME: u8 = 0xac;
/// A private key. The tag is this base plus the index of its form in [`FORMS`].
pub const KEY: u8 = 0xb0;
/// A private key among the certificates, with its form in the same way.
pub const KEY_AMONG_CERTIFICATES: u8 = 0xb8;

/// The labels of private keys.
pub const FORMS: [&str; 4] = ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "EC PARAMETERS"];

/// The end of the year 9999, in seconds since 1970. No certificate can state a later time (RFC 5280 4.1.2.5).
const END_OF_TIME: i64 = 253_402_300_800;

/// The data to check.
struct Request {
    /// The text of each certificate, in the given order.
    certificates: Vec<Vec<u8>>,
    key: Vec<u8>,
    policy: Policy,
    at: Timestamp,
}

impl Request {
    /// `None` if the texts are too long. certkeep refuses them, and this needs no fuzzing.
    fn read(input: &[u8]) -> Option<Self> {
        let mut request = Self {
            certificates: Vec::new(),
            key: Vec::new(),
            policy: Policy::default(),
            at: AT,
        };
        for (tag, content) in tree::values(input) {
            match tag {
                SIGNED..CERTIFICATE => {
                    let der = signing::certificate(content, tag - SIGNED);
                    request.certificates.push(again::pem("CERTIFICATE", &der));
                }
                CERTIFICATE => request.certificates.push(again::pem("CERTIFICATE", content)),
                TEXT => request.certificates.push(content.to_vec()),
                KEY_TEXT => request.key.extend(content),
                POLICY => {
                    let policy = std::str::from_utf8(content).ok().and_then(|text| text.parse().ok());
                    request.policy = policy.unwrap_or_default();
                    assert_eq!(request.policy.to_string().parse(), Ok(request.policy.clone()));
                }
                TIME => {
                    let secs = content
                        .iter()
                        .take(8)
                        .fold(0, |secs, byte| secs << 8 | i64::from(*byte));
                    request.at = Timestamp::from_secs(secs.rem_euclid(END_OF_TIME));
                }
                _ => match (form(tag, KEY), form(tag, KEY_AMONG_CERTIFICATES)) {
                    (Some(label), _) => request.key.extend(again::pem(label, content)),
                    (_, Some(label)) => request.certificates.push(again::pem(label, content)),
                    (None, None) => {}
                },
            }
        }
        let length: usize = request.certificates.iter().map(Vec::len).sum();
        (length <= MAX_CERTIFICATES && request.key.len() <= MAX_KEY).then_some(request)
    }
}

/// The PEM label of a key's form.
pub fn form(tag: u8, base: u8) -> Option<&'static str> {
    FORMS.get(usize::from(tag.checked_sub(base)?)).copied()
}

/// Certificates without a key. The order of the result must not depend on the order of the input, and the result must be in order.
pub fn chain(input: &[u8]) {
    let Some(Request {
        certificates,
        policy,
        at,
        ..
    }) = Request::read(input)
    else {
        return;
    };
    let none = Secret::from(Vec::new());
    let first = again::report(&certificates.concat(), &none, at, &policy);
    again::chain(&first, &none, at, &policy);

    let reversed: Vec<_> = certificates.iter().rev().map(Vec::as_slice).collect();
    let reversed = again::report(&reversed.concat(), &none, at, &policy);
    // In malformed text, the order matters.
    if first.error.certificate.is_empty() && reversed.error.certificate.is_empty() {
        assert_eq!(reversed.chain, first.chain);
        assert_eq!(reversed.leaf, first.leaf);
        assert_eq!(reversed.listing, first.listing);
    }
}

/// The complete check: certificates and key, by a policy.
pub fn check(input: &[u8]) {
    let Some(Request {
        certificates,
        key,
        policy,
        at,
    }) = Request::read(input)
    else {
        return;
    };
    let (certificates, key) = (certificates.concat(), Secret::from(key));
    if let Some((pair, first)) = again::verify(&certificates, &key, at, &policy) {
        again::pair(&pair, &first, at, &policy);
    }
    // The check of the command line, at the current time. An accepted pair must have no violations.
    let request = app::CheckServerCertificate {
        server_certificate: Secret::from(certificates),
        private_key: key,
    };
    let checked = app::check(&request, &policy);
    assert!(!checked.report.is_accepted || checked.violations.is_empty());
}
