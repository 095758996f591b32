//! The name of a certificate.

use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

use super::CertificateId;
use crate::certificate::CertificateFacts;

/// The longest name, in Unicode characters (scalar values).
const MAX_CHARS: usize = 80;

/// The name of a certificate: 1 to 80 characters, each a letter of any script (Unicode general categories L and M),
/// an ASCII digit, `-`, `/`, `.`, `_` or `*`. It need not be unique.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CertificateName(String);

/// Why a text is not a name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NameError {
    /// The text is empty.
    Empty,
    /// The text has more than 80 characters.
    TooLong {
        /// The number of its characters.
        chars: usize,
    },
    /// The text contains an invalid character.
    Character {
        /// The position of the character, counted from 1.
        position: usize,
    },
}

impl CertificateName {
    /// Checks a name.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let chars = text.chars().count();
        match chars {
            0 => return Err(NameError::Empty),
            1..=MAX_CHARS => {}
            _ => return Err(NameError::TooLong { chars }),
        }
        match text.chars().position(|c| !is_allowed(c)) {
            Some(index) => Err(NameError::Character { position: index + 1 }),
            None => Ok(Self(text.to_owned())),
        }
    }

    /// The name from the store. It was checked before it was stored.
    pub fn from_stored(name: String) -> Self {
        Self(name)
    }

    /// The name of a certificate that was uploaded without a name: the leaf's last common name, else its first subject alternative
    /// name. Invalid characters become `_`, and the name is cut at 80 characters. `None` if the leaf has no common name and no
    /// subject alternative name.
    /// The caller then takes the certificate's id as its name.
    pub fn default_for(facts: &CertificateFacts) -> Option<Self> {
        let text = std::iter::once(&facts.common_name)
            .chain(&facts.subject_alternative_names)
            .find(|text| !text.is_empty())?;
        Some(Self(fitting(text.chars()).collect()))
    }

    /// The name of a certificate that is named after its file: the last 80 characters of the path. Paths differ most at their end.
    /// `None` if the path is empty.
    pub fn of_path(path: &str) -> Option<Self> {
        let beyond = path.chars().count().saturating_sub(MAX_CHARS);
        let name: String = fitting(path.chars().skip(beyond)).collect();
        (!name.is_empty()).then_some(Self(name))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<CertificateId> for CertificateName {
    /// At most 57 digits, letters, `-` and `_`.
    fn from(id: CertificateId) -> Self {
        Self(id.to_string())
    }
}

/// The first 80 characters. Characters that are not allowed become `_`.
fn fitting(text: impl Iterator<Item = char>) -> impl Iterator<Item = char> {
    text.take(MAX_CHARS).map(|c| if is_allowed(c) { c } else { '_' })
}

fn is_allowed(c: char) -> bool {
    matches!(c, '0'..='9' | '-' | '/' | '.' | '_' | '*')
        || matches!(
            c.general_category_group(),
            GeneralCategoryGroup::Letter | GeneralCategoryGroup::Mark
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::AccountId;
    use crate::certificate::test_pair;
    use crate::clock::Timestamp;

    fn parse(text: &str) -> Result<String, NameError> {
        CertificateName::parse(text).map(|name| name.as_str().to_owned())
    }

    #[test]
    fn letters_of_any_script_digits_and_five_marks_are_allowed() {
        for name in [
            "a",
            "*.example.com",
            "证书/2024_a-b",
            "é",
            "e\u{301}",
            "हिन्दी",
            &"字".repeat(80),
        ] {
            assert_eq!(parse(name), Ok(name.to_owned()));
        }
    }

    #[test]
    fn anything_else_is_named_by_its_place() {
        for (name, position) in [("a b", 2), ("a\u{0}", 2), ("£", 1), ("ab٣", 3), ("a@b", 2), ("😀", 1)] {
            assert_eq!(parse(name), Err(NameError::Character { position }), "{name}");
        }
    }

    #[test]
    fn length_is_counted_in_characters() {
        assert_eq!(parse(""), Err(NameError::Empty));
        assert_eq!(parse(&"字".repeat(81)), Err(NameError::TooLong { chars: 81 }));
    }

    #[test]
    fn a_path_becomes_a_name_of_its_end() {
        let name = |path: &str| CertificateName::of_path(path).map(|name| name.0);
        assert_eq!(name("shops/a b.example"), Some("shops/a_b.example".to_owned()));
        assert_eq!(
            name(&format!("x{}y", "字".repeat(79))),
            Some(format!("{}y", "字".repeat(79)))
        );
        assert_eq!(name(""), None);
    }

    #[test]
    fn the_default_is_common_name_then_alternative_name_then_id() {
        let id = CertificateId::new(AccountId::from_random([0; 8]), Timestamp::from_millis(255), [0; 8]);
        let mut facts = test_pair::rsa().facts();
        facts.common_name = "My site (new)".to_owned();
        facts.subject_alternative_names = vec![String::new(), "a@example.com".to_owned()];
        let default =
            |facts: &CertificateFacts| CertificateName::default_for(facts).map(|name| name.as_str().to_owned());
        assert_eq!(default(&facts).as_deref(), Some("My_site__new_"));
        facts.common_name.clear();
        assert_eq!(default(&facts).as_deref(), Some("a_example.com"));
        facts.subject_alternative_names.clear();
        assert_eq!(default(&facts), None);
        assert_eq!(CertificateName::from(id).as_str(), "1000000000000000_ff_0_0");
        facts.common_name = "x".repeat(81);
        assert_eq!(default(&facts), Some("x".repeat(80)));
    }
}
