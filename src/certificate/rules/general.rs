//! What holds for every certificate that is served, and for those of authorities.

use x509_parser::extensions::{ParsedExtension, X509Extension};
use x509_parser::x509::X509Version;

use super::Findings;
use crate::certificate::FindingCode;
use crate::certificate::object_identifier::dotted;
use crate::certificate::public_key::{KeyAlgorithm, PublicKey};
use crate::certificate::signature_algorithm::Strength;
use crate::certificate::x509::Certificate;

/// RFC 5280 4.1.2.2: a serial number has at most 20 bytes.
const MAX_SERIAL_BYTES: usize = 20;
const MIN_RSA_BITS: u32 = 2048;

/// Whether clients look at a certificate's signature: not at a root's, which they have been given.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Signature {
    Matters,
    DoesNotMatter,
}

pub(super) fn certificate(certificate: &Certificate<'_>, signature: Signature, findings: &mut Findings<'_>) {
    let fields = &certificate.fields;
    let mut note = |code, message: &str| findings.note(code, Some(certificate), message);
    if fields.version() != X509Version::V3 {
        note(FindingCode::VersionNot3, "the certificate is not of version 3");
    }
    if let Some(fault) = serial_fault(fields.raw_serial()) {
        note(FindingCode::SerialInvalid, fault);
    }
    match certificate.signature_strength {
        Strength::Sound => {}
        _ if signature == Signature::DoesNotMatter => {}
        Strength::Weak => note(FindingCode::SignatureWeak, "the certificate is signed over SHA-1"),
        Strength::Forgeable => note(FindingCode::SignatureWeak, "the certificate is signed over MD5"),
        Strength::Unverifiable => note(FindingCode::SignatureWeak, "the certificate is signed over MD2"),
    }
    if let Ok(key) = certificate.public_key()
        && is_small_rsa(key)
    {
        let bits = key.size();
        note(
            FindingCode::RsaKeySmall,
            &format!("the certificate's RSA key has {bits} bits"),
        );
    }
    let (poison, unknown): (Vec<_>, Vec<_>) = fields
        .iter_extensions()
        .filter(|extension| extension.critical && !is_understood(extension))
        .map(|extension| extension.oid.as_bytes())
        .partition(|oid| *oid == POISON);
    if !poison.is_empty() {
        note(
            FindingCode::CriticalExtensionUnknown,
            "it is a precertificate, which is no certificate for a server",
        );
    }
    // Thousands fit into a certificate: one finding tells them all.
    if let [first, more @ ..] = &unknown[..] {
        let oid = dotted(first);
        let oid = if oid.len() > 64 { "of a long identifier" } else { &oid };
        let more = match more.len() {
            0 => String::new(),
            more => format!(" (nor {more} more)"),
        };
        note(
            FindingCode::CriticalExtensionUnknown,
            &format!("the critical extension {oid} is not known to clients, or can not be read by them{more}"),
        );
    }
}

fn is_understood(extension: &X509Extension<'_>) -> bool {
    is_known(extension.oid.as_bytes()) && !matches!(extension.parsed_extension(), ParsedExtension::ParseError { .. })
}

fn is_small_rsa(key: &PublicKey) -> bool {
    matches!(key.algorithm(), KeyAlgorithm::Rsa | KeyAlgorithm::RsaPss) && key.size() < MIN_RSA_BITS
}

/// What is wrong with the DER content of a serial number.
fn serial_fault(serial: &[u8]) -> Option<&'static str> {
    match serial {
        [0x80..=0xff, ..] => Some("the serial number is negative"),
        _ if serial.iter().all(|byte| *byte == 0) => Some("the serial number is zero"),
        _ if serial.len() > MAX_SERIAL_BYTES => Some("the serial number has more than 20 bytes"),
        _ => None,
    }
}

/// Certificate Transparency's (RFC 6962 3.1).
const POISON: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0xd6, 0x79, 0x02, 0x04, 0x03];

/// The extensions of RFC 5280 4.2 that it lets be critical, and what clients know beside them.
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
