//! The names of a server (RFC 5280 4.2.1.6).

use std::net::Ipv4Addr;

use x509_parser::asn1_rs::Tag;
use x509_parser::extensions::GeneralName;

use super::Findings;
use crate::certificate::FindingCode;
use crate::certificate::x509::Certificate;

pub(super) fn leaf(leaf: &Certificate<'_>, findings: &mut Findings<'_>) {
    let names = match leaf.fields.subject_alternative_name() {
        Ok(None) => {
            findings.note(
                FindingCode::SanMissing,
                Some(leaf),
                "the certificate has no subject alternative names, by which alone clients know a server",
            );
            return;
        }
        Ok(Some(extension)) => &extension.value.general_names,
        Err(_) => {
            findings.note(
                FindingCode::SanInvalid,
                Some(leaf),
                "the subject alternative names can not be read",
            );
            return;
        }
    };
    let mut faults = names
        .iter()
        .enumerate()
        .filter_map(|(place, name)| Some((place + 1, fault(name)?)));
    if let Some((place, fault)) = faults.next() {
        let more = match faults.count() {
            0 => String::new(),
            1 => " (1 more is wrong)".to_owned(),
            more => format!(" ({more} more are wrong)"),
        };
        findings.note(
            FindingCode::SanInvalid,
            Some(leaf),
            format!("subject alternative name {place} {fault}{more}"),
        );
    }
    let names_a_server = |name: &GeneralName<'_>| {
        matches!(
            name,
            GeneralName::DNSName(_) | GeneralName::IPAddress(_) | GeneralName::Invalid(Tag(2 | 7), _)
        )
    };
    if !names.iter().any(names_a_server) {
        findings.note(
            FindingCode::SanMissing,
            Some(leaf),
            "the subject alternative names hold neither a DNS name nor an IP address",
        );
    }
}

fn fault(name: &GeneralName<'_>) -> Option<&'static str> {
    match name {
        GeneralName::DNSName(name) if name.parse::<Ipv4Addr>().is_ok() => {
            Some("is an IP address written as a DNS name")
        }
        GeneralName::DNSName(name) => (!is_dns_name(name)).then_some("is not a DNS name"),
        GeneralName::IPAddress(address) => (!matches!(address.len(), 4 | 16)).then_some("is not an IP address"),
        GeneralName::RFC822Name(address) => (!is_mail_address(address)).then_some("is not a mail address"),
        GeneralName::URI(uri) => (!is_uri(uri)).then_some("is not an absolute URI"),
        GeneralName::Invalid(..) => Some("can not be read"),
        _ => None,
    }
}

/// A preferred name of RFC 1034 3.5, as RFC 1123 2.1 eased it, at most 253 characters; its whole first label may be the wildcard
/// of RFC 9525 6.3.
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

/// RFC 3986 3.1: a scheme, and something behind it.
fn is_uri(uri: &str) -> bool {
    uri.split_once(':').is_some_and(|(scheme, rest)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
            && !rest.is_empty()
            && !rest.contains(|c: char| c.is_ascii_whitespace() || c.is_control())
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
        ] {
            assert_eq!(is_uri(uri), expected, "{uri}");
        }
    }
}
