//! Name constraints: the names for which a CA may issue certificates (RFC 5280 4.2.1.10).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;

use x509_parser::asn1_rs::Tag;
use x509_parser::extensions::{GeneralName, GeneralSubtree};
use x509_parser::x509::X509Name;

use super::subject_names;
use crate::certificate::finding::{FindingKind, NameKind};
use crate::certificate::x509::Certificate;

/// The maximum number of bytes to compare. A certificate may have many names and constraints.
const MAX_COMPARED: usize = 4 * 1024 * 1024;

/// Checking the names would take more than [`MAX_COMPARED`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::certificate) struct TooManyNames;

/// The name constraints of the issuers on paths. Compares each pair of certificates once.
pub(super) struct NameConstraints {
    /// The names outside the constraints, by the index of the issuer and the index of the certificate below it.
    violations: HashMap<(usize, usize), Option<NameKind>>,
    /// The number of bytes that may still be compared.
    left: usize,
}

impl NameConstraints {
    pub(super) fn new() -> Self {
        Self {
            violations: HashMap::new(),
            left: MAX_COMPARED,
        }
    }

    /// RFC 5280 6.1.3 (b) and (c): the constraints of an issuer apply to every certificate below it on the path from the leaf, except
    /// self-issued certificates that are not the leaf. Each finding comes with the index of its certificate.
    pub(super) fn of_issuer(
        &mut self,
        certificates: &[Certificate<'_>],
        path: &[usize],
        issuer: usize,
    ) -> Result<Vec<(FindingKind, usize)>, TooManyNames> {
        let constraints = match certificates[issuer].fields.name_constraints() {
            Ok(None) => return Ok(Vec::new()),
            Ok(Some(constraints)) => constraints.value,
            Err(_) => return Ok(vec![(FindingKind::NameConstraintsUnreadable, issuer)]),
        };
        let mut found = Vec::new();
        for (below, &index) in path.iter().enumerate() {
            let subject = &certificates[index];
            if below > 0 && subject.is_self_issued() {
                continue;
            }
            let violation = match self.violations.entry((issuer, index)) {
                Entry::Occupied(violation) => *violation.get(),
                Entry::Vacant(entry) => *entry.insert(violation(constraints, subject, &mut self.left)?),
            };
            found.extend(violation.map(|name| (FindingKind::NameConstraintViolated { name }, index)));
        }
        Ok(found)
    }
}

/// The kind of the first name of the certificate that the constraints do not permit.
fn violation(
    constraints: &x509_parser::extensions::NameConstraints<'_>,
    certificate: &Certificate<'_>,
    left: &mut usize,
) -> Result<Option<NameKind>, TooManyNames> {
    let permitted = constraints.permitted_subtrees.as_deref().unwrap_or_default();
    let excluded = constraints.excluded_subtrees.as_deref().unwrap_or_default();
    for name in names(certificate) {
        if !is_permitted(&name, permitted, left)? || is_excluded(&name, excluded, left)? {
            return Ok(Some(name.kind()));
        }
    }
    Ok(None)
}

/// A name that constraints can restrict.
#[derive(Clone, Copy)]
enum Name<'a> {
    Dns(&'a str),
    /// The local part and the host of a mail address. `None` if the address has no `@`. No constraint permits this
    /// address.
    Mail(Option<(&'a str, &'a str)>),
    /// The host of a URI. `None` if the host is not a name. No constraint permits this URI.
    Host(Option<&'a str>),
    Address(&'a [u8]),
    Directory(&'a [u8]),
}

fn names<'a>(certificate: &'a Certificate<'_>) -> impl Iterator<Item = Name<'a>> {
    let subject = certificate.fields.subject();
    let subject = (subject.iter_rdn().next().is_some()).then(|| Name::Directory(parts(subject)));
    let alternative = certificate.fields.subject_alternative_name().ok().flatten();
    let alternative: &[_] = alternative.map_or(&[], |extension| &extension.value.general_names);
    // RFC 5280 4.2.1.10: constraints of mail addresses apply to the subject if no alternative name is a mail address.
    let has_mail = alternative
        .iter()
        .any(|name| matches!(name, GeneralName::RFC822Name(_)));
    let attributes = certificate.fields.subject().iter_email().filter(move |_| !has_mail);
    let addresses = attributes.filter_map(|attribute| Some(Name::Mail(attribute.as_str().ok()?.rsplit_once('@'))));
    // OpenSSL and GnuTLS apply constraints of DNS names to a server's common name if no alternative name is a DNS name.
    let has_host = alternative.iter().any(|name| matches!(name, GeneralName::DNSName(_)));
    let is_server = !has_host && !certificate.fields.is_ca();
    let hosts =
        subject_names::server_names(certificate).filter(move |name| is_server && name.parse::<IpAddr>().is_err());
    subject
        .into_iter()
        .chain(alternative.iter().filter_map(Name::of))
        .chain(addresses)
        .chain(hosts.map(Name::Dns))
}

/// The content of a distinguished name without its outer SEQUENCE.
fn parts<'a>(name: &'a X509Name<'_>) -> &'a [u8] {
    let raw = name.as_raw();
    // The length has the short form or the long form, which states its number of bytes (X.690 8.1.3). The name was
    // already parsed, so its length is valid.
    let header = match raw.get(1) {
        Some(length @ 0x80..) => 2 + usize::from(length & 0x7f),
        _ => 2,
    };
    raw.get(header..).unwrap_or_default()
}

fn is_permitted(name: &Name<'_>, permitted: &[GeneralSubtree<'_>], left: &mut usize) -> Result<bool, TooManyNames> {
    let mut is_constrained = false;
    for subtree in permitted {
        match name.is_within(&subtree.base, left)? {
            Some(true) => return Ok(true),
            Some(false) => is_constrained = true,
            None => {}
        }
    }
    Ok(!is_constrained)
}

fn is_excluded(name: &Name<'_>, excluded: &[GeneralSubtree<'_>], left: &mut usize) -> Result<bool, TooManyNames> {
    for subtree in excluded {
        if name.is_within(&subtree.base, left)? == Some(true) || name.may_stand_for(&subtree.base) {
            return Ok(true);
        }
    }
    Ok(false)
}

impl<'a> Name<'a> {
    fn of(name: &'a GeneralName<'_>) -> Option<Self> {
        match name {
            GeneralName::DNSName(name) => Some(Self::Dns(name)),
            GeneralName::RFC822Name(address) => Some(Self::Mail(address.rsplit_once('@'))),
            GeneralName::URI(uri) => Some(Self::Host(host(uri))),
            GeneralName::IPAddress(address) => Some(Self::Address(address)),
            GeneralName::DirectoryName(name) => Some(Self::Directory(parts(name))),
            _ => None,
        }
    }

    fn kind(&self) -> NameKind {
        match self {
            Self::Dns(_) => NameKind::DnsName,
            Self::Mail(_) => NameKind::MailAddress,
            Self::Host(_) => NameKind::Uri,
            Self::Address(_) => NameKind::IpAddress,
            Self::Directory(_) => NameKind::Subject,
        }
    }

    /// Whether the name is within a subtree. `None` if the subtree is of another kind. The cost depends only on the
    /// length of the subtree.
    fn is_within(&self, base: &GeneralName<'_>, left: &mut usize) -> Result<Option<bool>, TooManyNames> {
        let cost = 16
            + match base {
                GeneralName::DNSName(base) | GeneralName::RFC822Name(base) | GeneralName::URI(base) => base.len(),
                GeneralName::DirectoryName(base) => base.as_raw().len(),
                GeneralName::IPAddress(base) => base.len(),
                _ => 0,
            };
        *left = left.checked_sub(cost).ok_or(TooManyNames)?;
        Ok(match (self, base) {
            (Self::Dns(name), GeneralName::DNSName(base)) => {
                // Some CAs write a dot first. RFC 5280 does not. Clients then want a label before the dot.
                Some(match base.strip_prefix('.') {
                    Some(base) => is_below(name, base),
                    None => is_below_or_at(name, base),
                })
            }
            (Self::Mail(address), GeneralName::RFC822Name(base)) => {
                Some(address.is_some_and(|address| is_mail_within(address, base)))
            }
            (Self::Host(host), GeneralName::URI(base)) => Some(host.is_some_and(|host| is_host_within(host, base))),
            (Self::Address(address), GeneralName::IPAddress(base)) => Some(is_address_within(address, base)),
            (Self::Directory(name), GeneralName::DirectoryName(base)) => Some(name.starts_with(parts(base))),
            // Nothing is within a subtree whose characters are not ASCII.
            (Self::Mail(_), GeneralName::Invalid(Tag(1), _))
            | (Self::Dns(_), GeneralName::Invalid(Tag(2), _))
            | (Self::Host(_), GeneralName::Invalid(Tag(6), _)) => Some(false),
            _ => None,
        })
    }

    /// Whether a wildcard may stand for the excluded name itself.
    fn may_stand_for(&self, base: &GeneralName<'_>) -> bool {
        match (self, base) {
            (Self::Dns(name), GeneralName::DNSName(base)) => match (name.strip_prefix("*."), base.split_once('.')) {
                (Some(parent), Some((_, base_parent))) => parent.eq_ignore_ascii_case(base_parent),
                _ => false,
            },
            _ => false,
        }
    }
}

fn is_below_or_at(name: &str, base: &str) -> bool {
    base.is_empty() || name.eq_ignore_ascii_case(base) || is_below(name, base)
}

fn is_below(name: &str, base: &str) -> bool {
    let (name, base) = (name.as_bytes(), base.as_bytes());
    name.len() > base.len()
        && name[name.len() - base.len() - 1] == b'.'
        && name[name.len() - base.len()..].eq_ignore_ascii_case(base)
}

/// Whether the constraint is this host, or starts with a dot and the host is below it.
fn is_host_within(host: &str, base: &str) -> bool {
    match base.strip_prefix('.') {
        Some(base) => is_below(host, base),
        None => host.eq_ignore_ascii_case(base),
    }
}

fn is_mail_within((local, host): (&str, &str), base: &str) -> bool {
    match base.rsplit_once('@') {
        Some((base_local, base_host)) => local == base_local && host.eq_ignore_ascii_case(base_host),
        None => is_host_within(host, base),
    }
}

/// The constraint is a network address and its mask.
fn is_address_within(address: &[u8], base: &[u8]) -> bool {
    if base.len() != address.len() * 2 {
        return false;
    }
    let (net, mask) = base.split_at(address.len());
    (0..address.len()).all(|byte| (address[byte] ^ net[byte]) & mask[byte] == 0)
}

/// The host of a URI (RFC 3986 3.2.2), if it is a name.
fn host(uri: &str) -> Option<&str> {
    let (_, rest) = uri.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = host.split_once(':').map_or(host, |(host, _)| host);
    let is_name = !host.is_empty() && !host.starts_with('[') && host.parse::<std::net::Ipv4Addr>().is_err();
    is_name.then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_within(name: Name<'_>, base: &GeneralName<'_>) -> Option<bool> {
        name.is_within(base, &mut 1000).unwrap()
    }

    #[test]
    fn dns_names() {
        for (name, base, expected) in [
            ("a.example.com", "example.com", true),
            ("A.EXAMPLE.COM", "example.com", true),
            ("example.com", "example.com", true),
            ("example.com", ".example.com", false),
            ("a.example.com", ".example.com", true),
            ("*.example.com", "example.com", true),
            ("anexample.com", "example.com", false),
            ("example.com", "a.example.com", false),
            ("anything", "", true),
        ] {
            assert_eq!(
                is_within(Name::Dns(name), &GeneralName::DNSName(base)),
                Some(expected),
                "{name} {base}"
            );
        }
        assert_eq!(is_within(Name::Dns("a"), &GeneralName::URI("a")), None);
        let invalid = |tag| GeneralName::Invalid(Tag(tag), b"\xe4");
        assert_eq!(is_within(Name::Dns("a"), &invalid(2)), Some(false));
        assert_eq!(is_within(Name::Dns("a"), &invalid(6)), None);
        assert!(Name::Dns("*.example.com").may_stand_for(&GeneralName::DNSName("secret.example.com")));
        assert!(!Name::Dns("a.example.com").may_stand_for(&GeneralName::DNSName("secret.example.com")));
    }

    #[test]
    fn mail_addresses() {
        for (address, base, expected) in [
            ("a@example.com", "a@EXAMPLE.com", true),
            ("A@example.com", "a@example.com", false),
            ("a@example.com", "example.com", true),
            ("a@b.example.com", "example.com", false),
            ("a@b.example.com", ".example.com", true),
            ("a@example.com", ".example.com", false),
            ("example.com", "example.com", false),
        ] {
            let base = GeneralName::RFC822Name(base);
            let name = GeneralName::RFC822Name(address);
            assert_eq!(
                is_within(Name::of(&name).unwrap(), &base),
                Some(expected),
                "{address} {base}"
            );
        }
    }

    #[test]
    fn uris() {
        for (uri, base, expected) in [
            ("https://u@a.example.com:1/x", "a.example.com", true),
            ("https://a.example.com", ".example.com", true),
            ("https://example.com", ".example.com", false),
            ("https://192.0.2.1/", "192.0.2.1", false),
            ("https://[::1]/", "", false),
            ("urn:x", "x", false),
        ] {
            let base = GeneralName::URI(base);
            assert_eq!(is_within(Name::Host(host(uri)), &base), Some(expected), "{uri} {base}");
        }
    }

    #[test]
    fn addresses() {
        let net = [10, 0, 0, 0, 255, 0, 0, 0];
        for (address, expected) in [
            (&[10, 1, 2, 3][..], true),
            (&[11, 1, 2, 3], false),
            (&[10; 16], false),
            (&[], false),
        ] {
            let base = GeneralName::IPAddress(&net);
            assert_eq!(is_within(Name::Address(address), &base), Some(expected), "{address:?}");
        }
    }
}
