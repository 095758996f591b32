//! The rules for every certificate that is served, and for CA certificates.

use x509_parser::extensions::{ParsedExtension, X509Extension};
use x509_parser::x509::X509Version;

use super::Findings;
use crate::certificate::finding::{FindingKind, SerialError, WeakHash};
use crate::certificate::object_identifier::dotted;
use crate::certificate::public_key::{KeyAlgorithm, PublicKey};
use crate::certificate::signature_algorithm::Strength;
use crate::certificate::x509::Certificate;

/// RFC 5280 4.1.2.2: a serial number has at most 20 bytes.
const MAX_SERIAL_BYTES: usize = 20;
const MIN_RSA_BITS: u32 = 2048;
/// A longer object identifier does not fit into a finding.
const MAX_OID_CHARS: usize = 64;

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
    if let Some(error) = serial_error(fields.raw_serial()) {
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
    let (poison, unknown): (Vec<_>, Vec<_>) = fields
        .iter_extensions()
        .filter(|extension| extension.critical && !is_understood(extension))
        .map(|extension| extension.oid.as_bytes())
        .partition(|oid| *oid == POISON);
    if !poison.is_empty() {
        note(FindingKind::Precertificate);
    }
    // A certificate may have thousands of unknown critical extensions. They are one finding.
    if let [first, more @ ..] = &unknown[..] {
        let oid = Some(dotted(first)).filter(|oid| oid.len() <= MAX_OID_CHARS);
        let more = more.len();
        note(FindingKind::CriticalExtensionUnknown { oid, more });
    }
}

fn is_understood(extension: &X509Extension<'_>) -> bool {
    is_known(extension.oid.as_bytes()) && !matches!(extension.parsed_extension(), ParsedExtension::ParseError { .. })
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

/// The poison extension of Certificate Transparency (RFC 6962 3.1).
const POISON: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0xd6, 0x79, 0x02, 0x04, 0x03];

/// The extensions that may be critical by RFC 5280 4.2, and others that clients know.
fn is_known(oid: &[u8]) -> bool {
    match oid {
        // id-ce (4.2.1): subjectDirectoryAttributes, subjectKeyIdentifier, keyUsage, the alternative names, basicConstraints,
        // nameConstraints, cRLDistributionPoints, the policies, authorityKeyIdentifier, extKeyUsage, freshestCRL.
        [0x55, 0x1d, last] => matches!(last, 9 | 14 | 15 | 17..=19 | 30..=33 | 35..=37 | 46 | 54),
        // id-pe (4.2.2): authorityInfoAccess, subjectInfoAccess, and tlsfeature (RFC 7633 6).
        [0x2b, 6, 1, 5, 5, 7, 1, last] => matches!(last, 1 | 11 | 24),
        _ => false,
    }
}
