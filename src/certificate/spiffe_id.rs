//! SPIFFE IDs (the specifications SPIFFE-ID and X.509-SVID).

use std::fmt;

const SCHEME: &str = "spiffe://";
/// SPIFFE-ID 2.3.
const MAX_LEN: usize = 2048;
/// SPIFFE-ID 2.1.
const MAX_TRUST_DOMAIN_LEN: usize = 255;
/// The maximum number of path segments of a pattern. The limit counts because all patterns of an id are looked up.
const MAX_PATTERN_SEGMENTS: usize = 16;
const WILDCARD: &str = "/*";

/// The SPIFFE ID of a workload: a trust domain and a path with at least one segment (X.509-SVID 3.1).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct SpiffeId(String);

impl SpiffeId {
    /// Reads `spiffe://trust-domain/path`. `None`: the text is not the SPIFFE ID of a workload.
    pub fn parse(text: &str) -> Option<Self> {
        let (_, path) = split(text)?;
        (!path.is_empty() && path.split('/').all(is_segment)).then(|| Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The patterns that match this id, the longest first: `spiffe://a/b/*` and `spiffe://a/*` for `spiffe://a/b/c`.
    pub fn patterns(&self) -> impl Iterator<Item = String> {
        let path = &self.0[SCHEME.len()..];
        let ends: Vec<_> = path
            .match_indices('/')
            .take(MAX_PATTERN_SEGMENTS + 1)
            .map(|(at, _)| at)
            .collect();
        ends.into_iter()
            .rev()
            .map(move |end| format!("{SCHEME}{}{WILDCARD}", &path[..end]))
    }
}

/// Whether the text is a pattern that matches all ids below it: a trust domain and up to 16 segments, and `/*`.
pub fn is_spiffe_pattern(text: &str) -> bool {
    let Some(prefix) = text.strip_suffix(WILDCARD) else {
        return false;
    };
    let is_path = |path: &str| path.split('/').all(is_segment) && path.split('/').count() <= MAX_PATTERN_SEGMENTS;
    match split(&format!("{prefix}/")) {
        Some((_, "")) => true,
        Some((_, path)) => path.strip_suffix('/').is_some_and(is_path),
        None => false,
    }
}

/// The trust domain and the text after the slash that follows it.
fn split(text: &str) -> Option<(&str, &str)> {
    let (trust_domain, path) = text.strip_prefix(SCHEME)?.split_once('/')?;
    let is_valid = text.len() <= MAX_LEN
        && (1..=MAX_TRUST_DOMAIN_LEN).contains(&trust_domain.len())
        && trust_domain
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte));
    is_valid.then_some((trust_domain, path))
}

/// SPIFFE-ID 2.2.
fn is_segment(segment: &str) -> bool {
    !matches!(segment, "" | "." | "..")
        && segment
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_a_trust_domain_and_a_path() {
        for good in [
            "spiffe://example.org/a",
            "spiffe://example.org/ns/web/sa/Front-End_1.2",
            "spiffe://1.2.3.4/x",
            "spiffe://a/...",
        ] {
            assert_eq!(SpiffeId::parse(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "spiffe://example.org",
            "spiffe://example.org/",
            "spiffe:///a",
            "https://example.org/a",
            "SPIFFE://example.org/a",
            "spiffe://Example.org/a",
            "spiffe://user@example.org/a",
            "spiffe://example.org:80/a",
            "spiffe://example.org/a/",
            "spiffe://example.org//a",
            "spiffe://example.org/a/./b",
            "spiffe://example.org/a/../b",
            "spiffe://example.org/a%41",
            "spiffe://example.org/a?b",
            "spiffe://example.org/a#b",
            "spiffe://example.org/*",
            "spiffe://example.org/\u{e9}",
            &format!("spiffe://{}/a", "a".repeat(256)),
            &format!("spiffe://a/{}", "a".repeat(2048)),
        ] {
            assert_eq!(SpiffeId::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_patterns_of_an_id_are_its_parents_from_the_longest_on() {
        let patterns = |id| SpiffeId::parse(id).unwrap().patterns().collect::<Vec<_>>();
        assert_eq!(
            patterns("spiffe://example.org/ns/web/sa"),
            [
                "spiffe://example.org/ns/web/*",
                "spiffe://example.org/ns/*",
                "spiffe://example.org/*"
            ]
        );
        assert_eq!(patterns("spiffe://a/b"), ["spiffe://a/*"]);
        let deep = patterns(&format!("spiffe://a{}", "/b".repeat(100)));
        assert_eq!((deep.len(), deep[0].len()), (17, "spiffe://a".len() + 2 * 16 + 2));
    }

    #[test]
    fn a_pattern_is_a_parent_of_some_id() {
        for good in [
            "spiffe://a/*",
            "spiffe://a/b/*",
            &format!("spiffe://a{}/*", "/b".repeat(16)),
        ] {
            assert!(is_spiffe_pattern(good), "{good}");
            let below = SpiffeId::parse(&good.replace('*', "x")).unwrap();
            assert_eq!(below.patterns().next().as_deref(), Some(good));
        }
        for bad in [
            "spiffe://*",
            "spiffe:///*",
            "spiffe://a*",
            "spiffe://a/b*",
            "spiffe://a/*/b",
            "spiffe://a/*/*",
            "spiffe://a//*",
            "spiffe://a/../*",
            "spiffe://a/b",
            "/*",
            &format!("spiffe://a{}/*", "/b".repeat(17)),
        ] {
            assert!(!is_spiffe_pattern(bad), "{bad}");
        }
    }
}
