//! Subject alternative names as text (RFC 5280 4.2.1.6).

use std::net::{Ipv4Addr, Ipv6Addr};

use x509_parser::asn1_rs::Tag;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use super::distinguished_name::printable;

/// The DNS names, IP addresses, URIs and mail addresses of a certificate, in the order of the certificate. Omits other
/// kinds of names, IP addresses of an invalid length, and an extension that cannot be parsed. Control characters and
/// invalid bytes are replaced by U+FFFD.
pub(super) fn subject_alternative_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    match certificate.subject_alternative_name() {
        Ok(Some(extension)) => extension.value.general_names.iter().filter_map(text).collect(),
        Ok(None) | Err(_) => Vec::new(),
    }
}

fn text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(text) | GeneralName::URI(text) | GeneralName::RFC822Name(text) => Some(printable(text)),
        // A name of one of the three kinds above whose bytes are not UTF-8.
        GeneralName::Invalid(Tag(1 | 2 | 6), bytes) => Some(printable(&String::from_utf8_lossy(bytes))),
        GeneralName::IPAddress(bytes) => ip_address(bytes),
        _ => None,
    }
}

/// RFC 5952.
fn ip_address(bytes: &[u8]) -> Option<String> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(v4).to_string());
    }
    <[u8; 16]>::try_from(bytes)
        .ok()
        .map(|v6| Ipv6Addr::from(v6).to_string())
}
