//! The tags of a certificate.

use std::collections::BTreeMap;

/// A key with its value.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Tag {
    key: String,
    value: String,
}

/// The tags of one certificate, ordered by key: at most 20, each key once. A key has 1 to 64 characters, a value has 0 to 128.
/// Neither starts with `aliyun` or `acs:`, contains `http://` or `https://`, or contains a control character.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tags(Vec<Tag>);

/// Why the tags of one certificate are invalid.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TagsError {
    /// There are more than 20.
    TooMany {
        /// The number of tags.
        count: usize,
    },
    /// One tag is invalid.
    Tag {
        /// The position of the tag in the caller's order, counted from 0.
        index: usize,
        /// Why the tag is invalid.
        error: TagError,
    },
}

/// Why one tag is invalid.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TagError {
    /// The key is empty.
    KeyEmpty,
    /// An earlier tag has the same key.
    KeyRepeated,
    /// The part has more characters than [`TagPart::max_chars`].
    TooLong {
        /// The part that is too long.
        part: TagPart,
        /// The number of its characters.
        chars: usize,
    },
    /// The part starts with `aliyun` or `acs:`.
    Reserved(TagPart),
    /// The part contains `http://` or `https://`.
    Url(TagPart),
    /// The part contains a control character (Unicode general category Cc).
    ControlCharacter(TagPart),
}

/// A part of a tag.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TagPart {
    /// The key.
    Key,
    /// The value.
    Value,
}

impl TagPart {
    /// The maximum length in Unicode characters (scalar values).
    pub const fn max_chars(self) -> usize {
        match self {
            Self::Key => 64,
            Self::Value => 128,
        }
    }

    fn check(self, text: &str) -> Result<(), TagError> {
        let chars = text.chars().count();
        if chars > self.max_chars() {
            Err(TagError::TooLong { part: self, chars })
        } else if text.starts_with("aliyun") || text.starts_with("acs:") {
            Err(TagError::Reserved(self))
        } else if text.contains("http://") || text.contains("https://") {
            Err(TagError::Url(self))
        } else if text.contains(char::is_control) {
            Err(TagError::ControlCharacter(self))
        } else {
            Ok(())
        }
    }
}

impl Tag {
    /// The key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The value, which may be empty.
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl Tags {
    /// The maximum number of tags of one certificate.
    pub const MAX: usize = 20;

    /// Whether one of the tags has this key.
    pub fn has_key(&self, key: &str) -> bool {
        self.iter().any(|tag| tag.key == key)
    }

    /// Checks keys and values. The error lists every invalid tag.
    pub fn parse(tags: Vec<(String, String)>) -> Result<Self, Vec<TagsError>> {
        if tags.len() > Self::MAX {
            return Err(vec![TagsError::TooMany { count: tags.len() }]);
        }
        let mut checked = BTreeMap::new();
        let mut errors = Vec::new();
        for (index, (key, value)) in tags.into_iter().enumerate() {
            let outcome = match key.as_str() {
                "" => Err(TagError::KeyEmpty),
                _ => TagPart::Key.check(&key).and_then(|()| TagPart::Value.check(&value)),
            };
            match outcome {
                Ok(()) if checked.contains_key(&key) => {
                    let error = TagError::KeyRepeated;
                    errors.push(TagsError::Tag { index, error });
                }
                Ok(()) => drop(checked.insert(key, value)),
                Err(error) => errors.push(TagsError::Tag { index, error }),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self::from_stored(checked.into_iter().collect()))
    }

    /// The tags from the store, ordered by key. They were checked before they were stored.
    pub fn from_stored(tags: Vec<(String, String)>) -> Self {
        Self(tags.into_iter().map(|(key, value)| Tag { key, value }).collect())
    }

    /// The tags, ordered by key.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Tag> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(tags: &[(&str, &str)]) -> Result<Vec<(String, String)>, Vec<TagsError>> {
        let owned = tags
            .iter()
            .map(|&(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        Tags::parse(owned).map(|tags| {
            tags.iter()
                .map(|tag| (tag.key().to_owned(), tag.value().to_owned()))
                .collect()
        })
    }

    #[test]
    fn tags_are_ordered_by_key() {
        assert_eq!(
            parse(&[("b", "1"), ("a", "")]),
            Ok(vec![("a".to_owned(), String::new()), ("b".to_owned(), "1".to_owned())])
        );
    }

    #[test]
    fn the_limits_themselves_are_allowed() {
        let (key, value) = ("鍵".repeat(64), "値".repeat(128));
        assert!(parse(&[(&key, &value), ("my aliyun", "an acs: http:/ /")]).is_ok());
        let twenty: Vec<_> = (0..20).map(|i| (i.to_string(), String::new())).collect();
        assert_eq!(Tags::parse(twenty).map(|tags| tags.iter().len()), Ok(20));
    }

    #[test]
    fn every_error_names_its_tag() {
        let (long_key, long_value) = ("k".repeat(65), "v".repeat(129));
        for (key, value, error) in [
            ("", "v", TagError::KeyEmpty),
            (
                &long_key,
                "v",
                TagError::TooLong {
                    part: TagPart::Key,
                    chars: 65,
                },
            ),
            ("aliyun.x", "v", TagError::Reserved(TagPart::Key)),
            ("acs:x", "v", TagError::Reserved(TagPart::Key)),
            ("xhttp://", "v", TagError::Url(TagPart::Key)),
            ("x\u{0}", "v", TagError::ControlCharacter(TagPart::Key)),
            (
                "k",
                &long_value,
                TagError::TooLong {
                    part: TagPart::Value,
                    chars: 129,
                },
            ),
            ("k", "aliyun", TagError::Reserved(TagPart::Value)),
            ("k", "acs:", TagError::Reserved(TagPart::Value)),
            ("k", "see https://example.com", TagError::Url(TagPart::Value)),
            ("k", "a\nb", TagError::ControlCharacter(TagPart::Value)),
            ("first", "v", TagError::KeyRepeated),
        ] {
            assert_eq!(
                parse(&[("first", ""), (key, value), ("", "")]),
                Err(vec![
                    TagsError::Tag { index: 1, error },
                    TagsError::Tag {
                        index: 2,
                        error: TagError::KeyEmpty
                    },
                ]),
                "{key}"
            );
        }
        let too_many: Vec<_> = (0..21).map(|i| (i.to_string(), String::new())).collect();
        assert_eq!(Tags::parse(too_many), Err(vec![TagsError::TooMany { count: 21 }]));
    }
}
