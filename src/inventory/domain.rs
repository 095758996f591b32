//! The domain that certificates are searched by.

use std::net::IpAddr;

/// A longer text is no host name (RFC 1035 2.3.4, without the dots' own octets), and none is kept for the search.
pub(super) const MAX_LEN: usize = 255;

/// A host name or an IP address, and which names of certificates it is to match. Names are kept for the search in lower case
/// and without a trailing dot, a host name's labels reversed, so that what matches is some ranges of that form.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SoughtDomain {
    ranges: Vec<(String, String)>,
}

/// How a domain matches a certificate's names.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum DomainMatch {
    /// A name that is it.
    #[default]
    Exact,
    /// A name that is it, or a wildcard for its first label (RFC 9525 6.3).
    Covered,
    /// A name that is it or ends with a dot and it.
    Below,
}

/// Why a text is not a domain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DomainError {
    /// It contains characters outside ASCII.
    Internationalised,
    /// It is neither a host name nor an IP address.
    Malformed,
}

impl SoughtDomain {
    /// Reads a host name, a wildcard such as `*.example.com`, or an IP address, in any case, with or without a trailing dot.
    pub fn parse(text: &str, matching: DomainMatch) -> Result<Self, DomainError> {
        if !text.is_ascii() {
            return Err(DomainError::Internationalised);
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        // What is in certificates is written as RFC 5952 says too.
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
            // No name has a slash, which is the next character behind the dot.
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

    /// The first and the last text of each range, in the form in which names are kept for the search.
    pub fn ranges(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.ranges.iter().map(|(first, last)| (first.as_str(), last.as_str()))
    }
}

fn only(text: String) -> (String, String) {
    (text.clone(), text)
}

/// The labels in reverse order: all names below a domain are then one range.
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

    /// RFC 9525 6.3: the wildcard is the whole first label, and stands for one.
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
            "[::1]",
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
