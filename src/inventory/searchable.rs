//! The names of a certificate that a search by domain can find.

use std::collections::BTreeSet;

use super::domain::{MAX_LEN, reversed};
use crate::certificate::{CertificateFacts, MAX_SEARCHABLE_NAMES};

/// The searchable names of a certificate, in the form of [`SoughtDomain::ranges`](super::SoughtDomain::ranges). Searchable are
/// those of its first 1,000 subject alternative names that consist of the characters of host names or IP addresses. If none of
/// them is a host name, the common name is searchable too.
pub fn searchable_names(facts: &CertificateFacts) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut has_host = false;
    for text in facts.subject_alternative_names.iter().take(MAX_SEARCHABLE_NAMES) {
        let name = searchable(text);
        has_host |= matches!(name, Some(Name::Host(_)));
        names.extend(name.map(Name::into_text));
    }
    if !has_host {
        names.extend(searchable(&facts.common_name).map(Name::into_text));
    }
    names
}

/// The names of the certificate `before` that the certificate `after` does not cover, as `before` writes them. A host name is covered
/// by itself and by the wildcard for its first label ([`DomainMatch::Covered`](super::DomainMatch)), and every other name only by
/// itself. The common name counts if no subject alternative name is a host name.
pub fn lost_names(before: &CertificateFacts, after: &CertificateFacts) -> Vec<String> {
    let after = comparable_names(&after.subject_alternative_names, &after.common_name);
    let is_covered = |name: &str| {
        let wildcard = || match searchable(name)? {
            Name::Host(reversed) => Some(format!("{}.*", reversed.rsplit_once('.')?.0)),
            Name::Address(_) => None,
        };
        after.contains(&comparable(name)) || wildcard().is_some_and(|wildcard| after.contains(&wildcard))
    };
    names(&before.subject_alternative_names, &before.common_name)
        .filter(|name| !is_covered(name))
        .map(str::to_owned)
        .collect()
}

/// The number of names that only `after` has, and the number of names that only `before` has.
pub fn changed_names(before: &CertificateFacts, after: &CertificateFacts) -> (usize, usize) {
    let of = |facts: &CertificateFacts| comparable_names(&facts.subject_alternative_names, &facts.common_name);
    let [before, after] = [of(before), of(after)];
    (after.difference(&before).count(), before.difference(&after).count())
}

/// The names of a certificate in the form in which they are compared: the same for the same names. The common name counts if no
/// subject alternative name is a host name.
pub fn comparable_names(subject_alternative_names: &[String], common_name: &str) -> BTreeSet<String> {
    names(subject_alternative_names, common_name).map(comparable).collect()
}

/// The subject alternative names, and the common name if none of them is a host name.
fn names<'a>(alternative_names: &'a [String], common_name: &'a str) -> impl Iterator<Item = &'a str> {
    let is_host = |name: &String| matches!(searchable(name), Some(Name::Host(_)));
    let has_host = alternative_names.iter().any(is_host);
    let common_name = (!has_host && searchable(common_name).is_some()).then_some(common_name);
    alternative_names.iter().map(String::as_str).chain(common_name)
}

/// The form in which two names are compared.
fn comparable(name: &str) -> String {
    searchable(name).map_or_else(|| name.to_owned(), Name::into_text)
}

enum Name {
    /// A host name with reversed labels.
    Host(String),
    /// An IP address, or another text of the characters of IP addresses.
    Address(String),
}

impl Name {
    fn into_text(self) -> String {
        match self {
            Self::Host(text) | Self::Address(text) => text,
        }
    }
}

/// The name in lower case and without trailing dots. `None` if it contains characters that host names and IP addresses do not
/// contain.
fn searchable(text: &str) -> Option<Name> {
    let name = text.trim_end_matches('.').to_ascii_lowercase();
    let is_searchable = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"*._:-".contains(&byte);
    if name.is_empty() || name.len() > MAX_LEN || !name.bytes().all(is_searchable) {
        return None;
    }
    let is_host = name.contains(|c: char| !c.is_ascii_digit() && c != '.') && !name.contains(':');
    Some(if is_host {
        Name::Host(reversed(&name))
    } else {
        Name::Address(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::test_pair;
    use crate::inventory::{DomainMatch, SoughtDomain};

    fn names(common_name: &str, alternative_names: &[&str]) -> Vec<String> {
        let mut facts = test_pair::rsa().facts();
        facts.common_name = common_name.to_owned();
        facts.subject_alternative_names = alternative_names.iter().map(|&name| name.to_owned()).collect();
        searchable_names(&facts).into_iter().collect()
    }

    #[test]
    fn host_names_are_reversed_in_lower_case_and_without_a_trailing_dot() {
        let given = [
            "www.Shop.Example",
            "*.a_b.example.",
            "localhost",
            "1-2.3",
            "WWW.shop.example",
        ];
        let expected = ["3.1-2", "example.a_b.*", "example.shop.www", "localhost"];
        assert_eq!(names("", &given), expected);
    }

    #[test]
    fn addresses_are_kept_as_they_are() {
        assert_eq!(names("", &["192.0.2.1", "2001:db8::1"]), ["192.0.2.1", "2001:db8::1"]);
    }

    #[test]
    fn texts_that_are_no_host_name_and_no_address_are_left_out() {
        let long = "a".repeat(256);
        let given = [
            "https://a.example/",
            "a@b.example",
            "b\u{fc}cher.example",
            "a b",
            "a\0",
            "",
            ".",
            &long,
        ];
        assert_eq!(names("", &given), Vec::<String>::new());
        assert_eq!(names("", &[&long[1..]]), [&long[1..]]);
    }

    #[test]
    fn the_common_name_counts_where_no_alternative_name_is_a_host_name() {
        assert_eq!(names("Common.Example", &[]), ["example.common"]);
        assert_eq!(names("common.example", &["192.0.2.1"]), ["192.0.2.1", "example.common"]);
        assert_eq!(
            names("common.example", &["a.example", "192.0.2.1"]),
            ["192.0.2.1", "example.a"]
        );
        assert_eq!(names("A Person", &[]), Vec::<String>::new());
    }

    #[test]
    fn a_wildcard_covers_one_label() {
        let facts = |names: &[&str]| {
            let mut facts = test_pair::rsa().facts();
            facts.common_name = String::new();
            facts.subject_alternative_names = names.iter().map(|&name| name.to_owned()).collect();
            facts
        };
        let before = facts(&[
            "a.example",
            "A.b.example",
            "c.a.b.example",
            "*.b.example",
            "192.0.2.1",
            "urn:x",
        ]);
        let lost = |after: &[&str]| lost_names(&before, &facts(after));
        assert_eq!(lost(&[]), before.subject_alternative_names);
        assert_eq!(
            lost(&["*.b.example", "*.example"]),
            ["c.a.b.example", "192.0.2.1", "urn:x"]
        );
        assert_eq!(
            lost(&["a.b.example", "a.example.", "*.a.b.example", "*.0.2.1", "urn:x"]),
            ["*.b.example", "192.0.2.1"]
        );
        assert_eq!(lost_names(&before, &before), Vec::<String>::new());
        let after = facts(&["A.example", "192.0.2.1", "new.example"]);
        assert_eq!(changed_names(&before, &after), (1, 4));
        // The common name counts where no alternative name is a host name.
        let mut named = facts(&["192.0.2.1"]);
        named.common_name = "Common.example".to_owned();
        assert_eq!(lost_names(&named, &facts(&["192.0.2.1"])), ["Common.example"]);
    }

    #[test]
    fn the_first_thousand_names_are_searchable() {
        let many: Vec<_> = (0..1001).map(|number| format!("h{number:04}")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        assert_eq!(names("common.example", &many), many[..1000]);
        // A host name after the first 1,000 names does not hide the common name.
        let addresses = vec!["192.0.2.1"; 1000];
        let given = [&addresses[..], &["late.example"]].concat();
        assert_eq!(names("common.example", &given), ["192.0.2.1", "example.common"]);
    }

    #[test]
    fn a_certificate_is_found_by_each_of_its_names() {
        for name in [
            "Www.shop.example",
            "*.shop.example.",
            "192.0.2.1",
            "2001:db8::1",
            "localhost",
        ] {
            let searchable = names("", &[name]);
            let sought = SoughtDomain::parse(name, DomainMatch::Exact).unwrap();
            let is_in = |(first, last): (&str, &str)| (first..=last).contains(&searchable[0].as_str());
            assert!(sought.ranges().any(is_in), "{name}");
        }
    }
}
