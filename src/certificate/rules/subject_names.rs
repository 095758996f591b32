//! The subject alternative names of a server certificate (RFC 5280 4.2.1.6).

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};

use x509_parser::asn1_rs::Tag;
use x509_parser::extensions::GeneralName;

use super::{Findings, cut};
use crate::certificate::finding::{FindingKind, SanError};
use crate::certificate::x509::Certificate;

pub(super) fn leaf(leaf: &Certificate<'_>, findings: &mut Findings<'_>) {
    let names = match leaf.fields.subject_alternative_name() {
        Ok(None) => return findings.note(FindingKind::SanMissing, Some(leaf)),
        Ok(Some(extension)) => &extension.value.general_names,
        Err(_) => return findings.note(FindingKind::SanUnreadable, Some(leaf)),
    };
    let mut errors = names
        .iter()
        .enumerate()
        .filter_map(|(index, name)| Some((index + 1, error_of(name)?)));
    if let Some((position, error)) = errors.next() {
        let more = errors.count();
        findings.note(FindingKind::SanInvalid { position, error, more }, Some(leaf));
    }
    let names_a_server = |name: &GeneralName<'_>| {
        matches!(
            name,
            GeneralName::DNSName(_) | GeneralName::IPAddress(_) | GeneralName::Invalid(Tag(2 | 7), _)
        )
    };
    if !names.iter().any(names_a_server) {
        findings.note(FindingKind::SanWithoutServer, Some(leaf));
    }
    let mut common_names = server_names(leaf).peekable();
    if common_names.peek().is_none() {
        return;
    }
    let covered = Covered::by(names);
    if let Some(name) = common_names.find(|name| !covered.has(name)) {
        let common_name = cut(name);
        findings.note(FindingKind::NameNotInSan { common_name }, Some(leaf));
    }
}

/// The common names of the subject that look like the name of a server.
pub(super) fn server_names<'a>(certificate: &'a Certificate<'_>) -> impl Iterator<Item = &'a str> {
    let common_names = certificate.fields.subject().iter_common_name();
    common_names
        .filter_map(|name| name.as_str().ok())
        .filter(|name| is_server_name(name))
}

/// Whether a common name looks like the name of a server: an IP address, or a DNS name of several labels whose last one is not a number.
fn is_server_name(name: &str) -> bool {
    let is_top = |label: &str| label.starts_with(|c: char| c.is_ascii_alphabetic());
    let is_host = || is_dns_name(name) && name.rsplit_once('.').is_some_and(|(_, last)| is_top(last));
    name.parse::<IpAddr>().is_ok() || is_host()
}

/// The names of servers that clients accept because of the subject alternative names (RFC 9525 6.3). There can be tens of thousands.
#[derive(Default)]
struct Covered<'a> {
    /// In lower case.
    names: HashSet<String>,
    addresses: HashSet<&'a [u8]>,
}

impl<'a> Covered<'a> {
    fn by(names: &[GeneralName<'a>]) -> Self {
        let mut covered = Self::default();
        for name in names {
            match *name {
                GeneralName::DNSName(name) => drop(covered.names.insert(name.to_ascii_lowercase())),
                GeneralName::IPAddress(address) => drop(covered.addresses.insert(address)),
                _ => {}
            }
        }
        covered
    }

    fn has(&self, name: &str) -> bool {
        match name.parse() {
            Ok(IpAddr::V4(address)) => self.addresses.contains(&address.octets()[..]),
            Ok(IpAddr::V6(address)) => self.addresses.contains(&address.octets()[..]),
            Err(_) => {
                let name = name.to_ascii_lowercase();
                let wildcard = name.split_once('.').map(|(_, parent)| format!("*.{parent}"));
                self.names.contains(&name) || wildcard.is_some_and(|wildcard| self.names.contains(&wildcard))
            }
        }
    }
}

fn error_of(name: &GeneralName<'_>) -> Option<SanError> {
    let (is_valid, error) = match name {
        GeneralName::DNSName(name) if name.parse::<Ipv4Addr>().is_ok() => (false, SanError::AddressAsDnsName),
        GeneralName::DNSName(name) => (is_dns_name(name), SanError::NotDnsName),
        GeneralName::IPAddress(address) => (matches!(address.len(), 4 | 16), SanError::NotIpAddress),
        GeneralName::RFC822Name(address) => (is_mail_address(address), SanError::NotMailAddress),
        GeneralName::URI(uri) => (is_uri(uri), SanError::NotUri),
        GeneralName::Invalid(..) => (false, SanError::Unreadable),
        _ => return None,
    };
    (!is_valid).then_some(error)
}

/// A preferred name of RFC 1034 3.5 with the relaxation of RFC 1123 2.1, at most 253 characters. Its first label may be the wildcard of
/// RFC 9525 6.3.
fn is_dns_name(name: &str) -> bool {
    let (name, min_labels) = match name.strip_prefix("*.") {
        Some(rest) => (rest, 2),
        None => (name, 1),
    };
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    name.len() <= 253 && name.split('.').count() >= min_labels && name.split('.').all(is_label)
}

fn is_mail_address(address: &str) -> bool {
    address
        .rsplit_once('@')
        .is_some_and(|(local, host)| !local.is_empty() && !local.contains(' ') && is_dns_name(host))
}

/// RFC 3986 3.1: a scheme and more text after it. 2.1: two hexadecimal digits follow each percent sign. 3.2.2: brackets enclose an IPv6 address.
fn is_uri(uri: &str) -> bool {
    let is_escape = |text: &str| {
        text.get(..2)
            .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    uri.split_once(':').is_some_and(|(scheme, rest)| {
        let host = rest
            .strip_prefix("//")
            .and_then(|rest| rest.split(['/', '?', '#']).next())
            .unwrap_or_default();
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
            && !rest.is_empty()
            && !rest.contains(|c: char| c.is_ascii_whitespace() || c.is_control())
            && rest.split('%').skip(1).all(is_escape)
            && host.contains('[') == host.contains(']')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dns_names() {
        let label = "a".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}", &label[..61]);
        for (name, expected) in [
            ("a.example", true),
            ("localhost", true),
            ("*.example.com", true),
            ("xn--fsq.example", true),
            ("1.2.example", true),
            (&longest, true),
            (&format!("{longest}a"), false),
            (&format!("{label}a.example"), false),
            ("", false),
            ("*", false),
            ("*.com", false),
            ("a.*.example", false),
            ("a*.example.com", false),
            ("a_b.example", false),
            ("a.example.", false),
            (".a.example", false),
            ("a..example", false),
            ("-a.example", false),
            ("a-.example", false),
            ("a b.example", false),
            ("ä.example", false),
        ] {
            assert_eq!(is_dns_name(name), expected, "{name}");
        }
    }

    #[test]
    fn mail_addresses_and_uris() {
        for (address, expected) in [
            ("a@b.example", true),
            ("a@", false),
            ("@b.example", false),
            ("a", false),
        ] {
            assert_eq!(is_mail_address(address), expected, "{address}");
        }
        for (uri, expected) in [
            ("https://a.example/b", true),
            ("urn:uuid:1", true),
            ("spiffe://a/b", true),
            ("a.example", false),
            (":a", false),
            ("a:", false),
            ("http://a b", false),
            ("http://a/%2f", true),
            ("http://a/%zz", false),
            ("http://a/%2", false),
            ("http://[2001:db8::1]/", true),
            ("http://[2001:db8::1/", false),
        ] {
            assert_eq!(is_uri(uri), expected, "{uri}");
        }
    }
}
