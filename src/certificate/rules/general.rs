//! The rules for every certificate that is served, and for CA certificates.

use x509_parser::x509::X509Version;

use super::{Findings, encodings, extensions};
use crate::certificate::finding::{FindingKind, SerialError, WeakHash};
use crate::certificate::public_key::{KeyAlgorithm, PublicKey};
use crate::certificate::signature_algorithm::Strength;
use crate::certificate::x509::Certificate;

/// RFC 5280 4.1.2.2: a serial number has at most 20 bytes.
const MAX_SERIAL_BYTES: usize = 20;
const MIN_RSA_BITS: u32 = 2048;

/// Whether clients verify the signature of a certificate. They do not verify that of a root.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Signature {
    Matters,
    DoesNotMatter,
}

pub(super) fn certificate(certificate: &Certificate<'_>, signature: Signature, findings: &mut Findings<'_>) {
    let fields = &certificate.fields;
    let mut note = |kind| findings.note(kind, Some(certificate));
    if fields.version() != X509Version::V3 {
        note(FindingKind::VersionNot3);
    }
    // RFC 5280 4.1.2.2 forbids 0, but roots have it, and no client refuses it.
    let is_root = signature == Signature::DoesNotMatter || (certificate.is_self_issued() && fields.is_ca());
    if let Some(error) = serial_error(fields.raw_serial())
        && !(is_root && error == SerialError::Zero)
    {
        note(FindingKind::SerialInvalid { error });
    }
    let weak_hash = match certificate.signature_strength {
        Strength::Sound => None,
        Strength::Weak => Some(WeakHash::Sha1),
        Strength::Forgeable => Some(WeakHash::Md5),
        Strength::Unverifiable => Some(WeakHash::Md2),
    };
    if let Some(hash) = weak_hash
        && signature == Signature::Matters
    {
        note(FindingKind::SignatureWeak { hash });
    }
    if let Ok(key) = certificate.public_key()
        && is_small_rsa(key)
    {
        note(FindingKind::RsaKeySmall { bits: key.size() });
    }
    extensions::check(certificate, findings);
    encodings::check(certificate, findings);
}

fn is_small_rsa(key: &PublicKey) -> bool {
    matches!(key.algorithm(), KeyAlgorithm::Rsa | KeyAlgorithm::RsaPss) && key.size() < MIN_RSA_BITS
}

/// The error of a serial number, given as its DER content.
fn serial_error(serial: &[u8]) -> Option<SerialError> {
    match serial {
        [0x80..=0xff, ..] => Some(SerialError::Negative),
        _ if serial.iter().all(|byte| *byte == 0) => Some(SerialError::Zero),
        _ if serial.len() > MAX_SERIAL_BYTES => Some(SerialError::TooLong),
        _ => None,
    }
}
