//! The domain criterion of a certificate search.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::Bound::Included;

/// The maximum length of a searchable name. A longer text is not a host name (RFC 1035 2.3.4; the octets that the encoding adds to
/// the text are not counted).
pub(super) const MAX_LEN: usize = 255;

/// A host name or an IP address, as ranges of the stored names that match it. The store keeps searchable names in lower case,
/// without a trailing dot, and host names with reversed labels. In this form, all matching names are one or two ranges.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SoughtDomain {
    ranges: Vec<(String, String)>,
}

/// How a domain matches a certificate's names.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum DomainMatch {
    /// Names that equal the domain.
    #[default]
    Exact,
    /// Names that equal the domain, and the wildcard for its first label (RFC 9525 6.3).
    Covered,
    /// Names that equal the domain, and names that end with a dot and the domain.
    Below,
}

/// How a name matches a domain. The better one is less.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum DomainFit {
    /// The name equals the domain.
    Exact,
    /// The name matches as [`DomainMatch`] allows: the wildcard for the domain's first label, or a name below the domain.
    Other,
}

/// Why a text is not a domain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DomainError {
    /// The text contains characters outside ASCII.
    Internationalised,
    /// The text is not a host name and not an IP address.
    Malformed,
}

impl SoughtDomain {
    /// Reads a host name, a wildcard such as `*.example.com`, or an IP address, in any case, with or without a trailing dot
    /// or, for IPv6, brackets.
    pub fn parse(text: &str, matching: DomainMatch) -> Result<Self, DomainError> {
        if !text.is_ascii() {
            return Err(DomainError::Internationalised);
        }
        // URLs have IPv6 addresses in brackets (RFC 3986 3.2.2).
        let address = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        if let Some(Ok(address)) = address.map(str::parse::<Ipv6Addr>) {
            return Ok(Self::of([only(address.to_string())]));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        // The names of stored certificates also have the form of RFC 5952.
        if let Ok(address) = name.parse::<IpAddr>() {
            return Ok(Self::of([only(address.to_string())]));
        }
        let is_label = |label: &str| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_*".contains(&byte))
        };
        let is_number = name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if name.len() > MAX_LEN || is_number || !name.split('.').all(is_label) {
            return Err(DomainError::Malformed);
        }
        let reversed = reversed(&name);
        Ok(match (matching, name.split_once('.')) {
            (DomainMatch::Exact, _) | (DomainMatch::Covered, None) => Self::of([only(reversed)]),
            (DomainMatch::Covered, Some((_, parent))) => {
                Self::of([only(reversed), only(self::reversed(&format!("*.{parent}")))])
            }
            // In ASCII, the slash follows the dot. No name contains a slash.
            (DomainMatch::Below, _) => {
                let below = (format!("{reversed}."), format!("{reversed}/"));
                Self::of([only(reversed), below])
            }
        })
    }

    fn of<const N: usize>(ranges: [(String, String); N]) -> Self {
        let mut ranges = Vec::from(ranges);
        ranges.dedup();
        Self { ranges }
    }

    /// How one of these [`searchable_names`](super::searchable_names) matches. `None`: no name matches.
    pub fn best_match(&self, names: &BTreeSet<String>) -> Option<DomainFit> {
        let has = |(first, last): &(String, String)| {
            let range = (Included(first.as_str()), Included(last.as_str()));
            names.range::<str, _>(range).next().is_some()
        };
        let (exact, others) = self.ranges.split_first()?;
        match has(exact) {
            true => Some(DomainFit::Exact),
            false => others.iter().any(has).then_some(DomainFit::Other),
        }
    }

    /// The first and the last text of each range, in the form of the stored searchable names.
    pub fn ranges(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.ranges.iter().map(|(first, last)| (first.as_str(), last.as_str()))
    }
}

fn only(text: String) -> (String, String) {
    (text.clone(), text)
}

/// The labels in reverse order. In this form, all names below a domain are one range.
pub(super) fn reversed(name: &str) -> String {
    name.split('.').rev().collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(text: &str, matching: DomainMatch) -> Vec<(String, String)> {
        SoughtDomain::parse(text, matching).unwrap().ranges
    }

    #[test]
    fn a_host_name_is_read_in_any_case_and_reversed() {
        for text in ["www.Example.COM", "www.example.com."] {
            assert_eq!(ranges(text, DomainMatch::Exact), [only("com.example.www".into())]);
        }
        assert_eq!(
            ranges("*.a_b.example", DomainMatch::Exact),
            [only("example.a_b.*".into())]
        );
        assert_eq!(ranges("1.example", DomainMatch::Exact), [only("example.1".into())]);
    }

    /// RFC 9525 6.3: a wildcard is the complete first label, and matches exactly one label.
    #[test]
    fn a_name_is_covered_by_itself_and_by_the_wildcard_of_its_parent() {
        let wildcard = only("com.example.*".into());
        assert_eq!(
            ranges("www.example.com", DomainMatch::Covered),
            [only("com.example.www".into()), wildcard.clone()]
        );
        assert_eq!(ranges("*.example.com", DomainMatch::Covered), [wildcard]);
        assert_eq!(ranges("localhost", DomainMatch::Covered), [only("localhost".into())]);
    }

    #[test]
    fn an_exact_name_fits_better_than_a_wildcard() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let sought = SoughtDomain::parse("www.example.com", DomainMatch::Covered).unwrap();
        let both = names(&["com.example.*", "com.example.www"]);
        assert_eq!(sought.best_match(&both), Some(DomainFit::Exact));
        assert_eq!(sought.best_match(&names(&["com.example.*"])), Some(DomainFit::Other));
        for others in [
            names(&[]),
            names(&["com.example", "com.example.www.a", "com.*", "com.example.w"]),
        ] {
            assert_eq!(sought.best_match(&others), None, "{others:?}");
        }
        assert!(DomainFit::Exact < DomainFit::Other);
    }

    #[test]
    fn what_is_below_a_domain_is_a_range() {
        assert_eq!(
            ranges("example.com", DomainMatch::Below),
            [
                only("com.example".into()),
                ("com.example.".into(), "com.example/".into())
            ]
        );
    }

    #[test]
    fn an_address_is_read_in_any_form_and_has_nothing_below() {
        for matching in [DomainMatch::Exact, DomainMatch::Covered, DomainMatch::Below] {
            assert_eq!(ranges("192.0.2.1", matching), [only("192.0.2.1".into())]);
            assert_eq!(ranges("2001:DB8:0:0::1", matching), [only("2001:db8::1".into())]);
            assert_eq!(ranges("[2001:DB8::1]", matching), [only("2001:db8::1".into())]);
        }
    }

    #[test]
    fn what_no_certificate_can_have_is_refused() {
        for text in [
            ".",
            "a..b",
            ".a",
            "a b",
            "https://a.example",
            "a.example:443",
            "a@b.example",
            "1.2.3",
            "a\u{0}",
            "[192.0.2.1]",
            "[::1]:443",
            &format!("{}.a", "a".repeat(254)),
        ] {
            assert_eq!(
                SoughtDomain::parse(text, DomainMatch::Exact),
                Err(DomainError::Malformed),
                "{text}"
            );
        }
        assert_eq!(
            SoughtDomain::parse("bücher.example", DomainMatch::Exact),
            Err(DomainError::Internationalised)
        );
    }
}
