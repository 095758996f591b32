//! Reads DER values one by one (X.690 8.1). For rules about encodings that a parser reads, or refuses, without a reason.

use pkcs8::der::{Decode, Length, Reader, SliceReader};

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;

/// A context-specific tag with this number, primitive (X.690 8.1.2).
pub(super) const fn primitive(number: u8) -> u8 {
    0x80 | number
}

/// A context-specific tag with this number, constructed (X.690 8.1.2).
pub(super) const fn constructed(number: u8) -> u8 {
    0xa0 | number
}

/// The DER values that have not been read yet.
#[derive(Clone, Copy)]
pub(super) struct DerReader<'a>(&'a [u8]);

impl<'a> DerReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// Reads the next value: the first byte of its tag, and its content.
    pub(super) fn any(&mut self) -> Option<(u8, &'a [u8])> {
        let (tag, content, rest) = split_value(self.0)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// Reads the content of the next value, which has this tag.
    pub(super) fn value(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (found, content, rest) = split_value(self.0)?;
        (found == tag).then(|| {
            self.0 = rest;
            content
        })
    }

    /// Reads the values inside the next value, which has this tag.
    pub(super) fn values(&mut self, tag: u8) -> Option<Self> {
        self.value(tag).map(Self)
    }

    /// Reads the content of the next value if it has this tag.
    pub(super) fn optional(&mut self, tag: u8) -> Option<Option<&'a [u8]>> {
        match self.0.first() {
            Some(first) if *first == tag => self.value(tag).map(Some),
            _ => Some(None),
        }
    }

    /// Whether all values have this tag, and `is_read` holds for each content.
    pub(super) fn all(mut self, tag: u8, is_read: impl Fn(&'a [u8]) -> bool) -> bool {
        while !self.is_empty() {
            if !self.value(tag).is_some_and(&is_read) {
                return false;
            }
        }
        true
    }
}

/// The first byte of the tag, the content, and the bytes after the value. `None` if the length is not in DER or too long.
pub(super) fn split_value(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    // Most values are short, and an extension may have tens of thousands.
    if let [tag, length @ 0..=0x7f, rest @ ..] = bytes
        && tag & 0x1f != 0x1f
    {
        let (content, after) = rest.split_at_checked(usize::from(*length))?;
        return Some((*tag, content, after));
    }
    let (tag, mut rest) = bytes.split_first()?;
    // A tag number above 30 ends with the first byte without the high bit (X.690 8.1.2.4).
    if tag & 0x1f == 0x1f {
        let last = rest.iter().position(|byte| byte & 0x80 == 0)?;
        rest = &rest[last + 1..];
    }
    let mut reader = SliceReader::new(rest).ok()?;
    let length = usize::try_from(Length::decode(&mut reader).ok()?).ok()?;
    let (content, after) = rest
        .get(usize::try_from(reader.position()).ok()?..)?
        .split_at_checked(length)?;
    Some((*tag, content, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_in_order() {
        let mut reader = DerReader::new(&[0x02, 1, 7, 0x30, 3, 0x04, 1, 9, 0x80, 0]);
        assert_eq!(reader.value(OCTET_STRING), None);
        assert_eq!(reader.optional(OCTET_STRING), Some(None));
        assert_eq!(reader.optional(INTEGER), Some(Some(&[7][..])));
        assert!(
            reader
                .values(SEQUENCE)
                .unwrap()
                .all(OCTET_STRING, |content| content == [9])
        );
        assert_eq!(reader.any(), Some((primitive(0), &[][..])));
        assert!(reader.is_empty());
        assert_eq!(reader.any(), None);
        assert!(!DerReader::new(&[4, 2, 0]).all(OCTET_STRING, |_| true));
    }
}
