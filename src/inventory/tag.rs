//! The tags of a certificate.

use std::collections::BTreeMap;

/// The longest key, in Unicode characters.
const MAX_KEY_CHARS: usize = 64;
/// The longest value, in Unicode characters.
const MAX_VALUE_CHARS: usize = 128;

/// A key with its value.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Tag {
    key: String,
    value: String,
}

/// The tags of one certificate, ordered by key: at most 20, each key once. A key has 1 to 64 characters, a value 0 to 128;
/// neither begins with `aliyun` or `acs:`, contains `http://` or `https://`, or has a control character.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tags(Vec<Tag>);

/// Why tags are refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TagError {
    /// There are more than 20.
    #[error("there are {count} tags: give at most 20")]
    TooMany {
        /// How many there are.
        count: usize,
    },
    /// One of them is wrong.
    #[error("tags[{index}]: {fault}")]
    Invalid {
        /// Which one, counted from 0 in the caller's order.
        index: usize,
        /// What is wrong with it.
        fault: TagFault,
    },
}

/// What is wrong with one tag.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TagFault {
    /// The key is empty.
    #[error("the key is empty: give 1 to 64 characters")]
    KeyEmpty,
    /// The key has more than 64 characters.
    #[error("the key has {chars} characters: give at most 64")]
    KeyTooLong {
        /// How many it has.
        chars: usize,
    },
    /// The value has more than 128 characters.
    #[error("the value has {chars} characters: give at most 128")]
    ValueTooLong {
        /// How many it has.
        chars: usize,
    },
    /// The key begins with a reserved prefix.
    #[error("the key begins with aliyun or acs:, which are reserved: choose another")]
    KeyReserved,
    /// The value begins with a reserved prefix.
    #[error("the value begins with aliyun or acs:, which are reserved: choose another")]
    ValueReserved,
    /// The key contains a URL's scheme.
    #[error("the key contains http:// or https://: leave it out")]
    KeyUrl,
    /// The value contains a URL's scheme.
    #[error("the value contains http:// or https://: leave it out")]
    ValueUrl,
    /// The key has a control character (Unicode general category Cc).
    #[error("the key has a control character: leave it out")]
    KeyControl,
    /// The value has a control character (Unicode general category Cc).
    #[error("the value has a control character: leave it out")]
    ValueControl,
    /// An earlier tag has the same key.
    #[error("the key is that of an earlier tag: give each key once")]
    KeyRepeated,
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
    /// The most tags of one certificate.
    pub const MAX: usize = 20;

    /// Whether one of them has this key.
    pub fn has_key(&self, key: &str) -> bool {
        self.iter().any(|tag| tag.key == key)
    }

    /// Checks keys with their values; what is wrong with any of them is told at once.
    pub fn parse(tags: Vec<(String, String)>) -> Result<Self, Vec<TagError>> {
        if tags.len() > Self::MAX {
            return Err(vec![TagError::TooMany { count: tags.len() }]);
        }
        let mut checked = BTreeMap::new();
        let mut errors = Vec::new();
        for (index, (key, value)) in tags.into_iter().enumerate() {
            let fault = key_fault(&key).or_else(|| value_fault(&value));
            match fault.or_else(|| checked.contains_key(&key).then_some(TagFault::KeyRepeated)) {
                Some(fault) => errors.push(TagError::Invalid { index, fault }),
                None => drop(checked.insert(key, value)),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self::from_stored(checked.into_iter().collect()))
    }

    /// The tags that the store holds, ordered by key: they were checked before they were stored.
    pub fn from_stored(tags: Vec<(String, String)>) -> Self {
        Self(tags.into_iter().map(|(key, value)| Tag { key, value }).collect())
    }

    /// The tags, ordered by key.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Tag> {
        self.0.iter()
    }
}

fn key_fault(key: &str) -> Option<TagFault> {
    match key.chars().count() {
        0 => Some(TagFault::KeyEmpty),
        chars if chars > MAX_KEY_CHARS => Some(TagFault::KeyTooLong { chars }),
        _ if is_reserved(key) => Some(TagFault::KeyReserved),
        _ if has_url(key) => Some(TagFault::KeyUrl),
        _ if key.contains(char::is_control) => Some(TagFault::KeyControl),
        _ => None,
    }
}

fn value_fault(value: &str) -> Option<TagFault> {
    match value.chars().count() {
        chars if chars > MAX_VALUE_CHARS => Some(TagFault::ValueTooLong { chars }),
        _ if is_reserved(value) => Some(TagFault::ValueReserved),
        _ if has_url(value) => Some(TagFault::ValueUrl),
        _ if value.contains(char::is_control) => Some(TagFault::ValueControl),
        _ => None,
    }
}

fn is_reserved(text: &str) -> bool {
    text.starts_with("aliyun") || text.starts_with("acs:")
}

fn has_url(text: &str) -> bool {
    text.contains("http://") || text.contains("https://")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(tags: &[(&str, &str)]) -> Result<Vec<(String, String)>, Vec<TagError>> {
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
    fn are_ordered_by_key() {
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
    fn each_fault_names_its_tag() {
        let (long_key, long_value) = ("k".repeat(65), "v".repeat(129));
        for (key, value, fault) in [
            ("", "v", TagFault::KeyEmpty),
            (&long_key, "v", TagFault::KeyTooLong { chars: 65 }),
            ("aliyun.x", "v", TagFault::KeyReserved),
            ("acs:x", "v", TagFault::KeyReserved),
            ("xhttp://", "v", TagFault::KeyUrl),
            ("x\u{0}", "v", TagFault::KeyControl),
            ("k", &long_value, TagFault::ValueTooLong { chars: 129 }),
            ("k", "aliyun", TagFault::ValueReserved),
            ("k", "acs:", TagFault::ValueReserved),
            ("k", "see https://example.com", TagFault::ValueUrl),
            ("k", "a\nb", TagFault::ValueControl),
            ("first", "v", TagFault::KeyRepeated),
        ] {
            assert_eq!(
                parse(&[("first", ""), (key, value), ("", "")]),
                Err(vec![
                    TagError::Invalid { index: 1, fault },
                    TagError::Invalid {
                        index: 2,
                        fault: TagFault::KeyEmpty
                    },
                ]),
                "{key}"
            );
        }
        let too_many: Vec<_> = (0..21).map(|i| (i.to_string(), String::new())).collect();
        assert_eq!(Tags::parse(too_many), Err(vec![TagError::TooMany { count: 21 }]));
    }
}
