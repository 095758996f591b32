//! Texts as people have them, made plain for [`pem`](super::pem): UTF-16, byte order marks, line breaks written as `\n`, and base64 of a whole PEM
//! text.
//!
//! Each step takes linear time and never makes the text longer. No step changes the octets of a PEM block, except those that base64 does not have.

use std::ops::Deref;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

use super::pem;

/// A text without the peculiarities that this module knows. It may contain a private key.
pub(super) enum PlainText<'a> {
    Given(&'a [u8]),
    Made(Zeroizing<Vec<u8>>),
}

impl Deref for PlainText<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Given(text) => text,
            Self::Made(text) => text,
        }
    }
}

/// The times that base64 is decoded. Kubernetes encodes once, and people who encode for Kubernetes encode again.
const MAX_LAYERS: usize = 2;

impl<'a> PlainText<'a> {
    /// Reads a text of any kind. A text without a peculiarity is not copied.
    pub(super) fn of(text: &'a [u8]) -> Self {
        let mut plain = Self::Given(text);
        plain.change(from_utf_16);
        plain.change(unescaped);
        for _ in 0..MAX_LAYERS {
            if !plain.change(of_base64) {
                break;
            }
            plain.change(from_utf_16);
            plain.change(unescaped);
        }
        plain
    }

    fn change(&mut self, step: impl Fn(&[u8]) -> Option<Zeroizing<Vec<u8>>>) -> bool {
        let changed = step(self);
        let is_changed = changed.is_some();
        if let Some(text) = changed {
            *self = Self::Made(text);
        }
        is_changed
    }
}

/// A text in UTF-16, or partly in UTF-16, in either byte order: its ASCII characters. PEM has no others.
fn from_utf_16(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    memchr::memmem::find(text, b"B\0E\0G\0I\0N")?;
    let mut ascii = Zeroizing::new(Vec::with_capacity(text.len()));
    ascii.extend(text.iter().copied().filter(|byte| !matches!(byte, 0 | 0xfe | 0xff)));
    Some(ascii)
}

/// The text without byte order marks, with its escaped line breaks as line breaks, and with other escapes of base64's characters resolved.
/// JSON, shells and environment files write these.
fn unescaped(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    const MARK: &[u8] = b"\xef\xbb\xbf";
    memchr::memchr3(b'\\', 0xef, 0xc2, text)?;
    let mut plain = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text;
    while let Some(place) = memchr::memchr3(b'\\', 0xef, 0xc2, rest) {
        plain.extend_from_slice(&rest[..place]);
        rest = &rest[place..];
        rest = match rest {
            [0xef, 0xbb, 0xbf, ..] => &rest[MARK.len()..],
            // A space without a line break.
            [0xc2, 0xa0, after @ ..] => {
                plain.push(b' ');
                after
            }
            [b'\\', ..] => {
                let slashes = rest.iter().take_while(|byte| **byte == b'\\').count();
                match &rest[slashes..] {
                    [b'n' | b'r' | b't', after @ ..] => {
                        plain.push(b'\n');
                        after
                    }
                    // The backslash before a line break, a quotation mark or a slash says nothing.
                    after @ ([b'\r' | b'\n' | b'"' | b'\'' | b'/', ..] | []) => after,
                    after => {
                        plain.extend_from_slice(&rest[..slashes]);
                        after
                    }
                }
            }
            [other, after @ ..] => {
                plain.push(*other);
                after
            }
            [] => &[],
        };
    }
    plain.extend_from_slice(rest);
    Some(plain)
}

/// The PEM text of which the whole text is the base64 encoding, as in a Secret of Kubernetes.
fn of_base64(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let decoded = decode_base64(text)?;
    let is_pem = pem::begins(&decoded) || from_utf_16(&decoded).is_some_and(|ascii| pem::begins(&ascii));
    (is_pem || decode_base64(&decoded).is_some_and(|inner| pem::begins(&inner))).then_some(decoded)
}

/// The octets of which the whole text is the base64 encoding. Quotation marks around it and white space do not matter.
pub(super) fn decode_base64(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    /// A shorter text is no certificate and no key.
    const MIN_LEN: usize = 40;
    let is_around = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'');
    let first = text.iter().position(|byte| !is_around(byte))?;
    let last = text.iter().rposition(|byte| !is_around(byte))?;
    let text = &text[first..=last];
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    if text.len() < MIN_LEN || !text.iter().all(|byte| is_base64(byte) || byte.is_ascii_whitespace()) {
        return None;
    }
    let mut digits = Zeroizing::new(Vec::with_capacity(text.len()));
    digits.extend(text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()));
    let mut bytes = Zeroizing::new(vec![0; base64::decoded_len_estimate(digits.len())]);
    let len = BASE64_STANDARD.decode_slice(&*digits, &mut bytes).ok()?;
    bytes.truncate(len);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &str = "-----BEGIN A-----\naGVsbG8+/w==\n-----END A-----\n";

    fn plain(text: impl AsRef<[u8]>) -> String {
        String::from_utf8(PlainText::of(text.as_ref()).to_vec()).unwrap()
    }

    fn utf_16(text: &str, encode: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(encode).collect()
    }

    #[test]
    fn utf_16_is_read_in_both_orders_with_and_without_a_mark_and_after_other_text() {
        for encode in [u16::to_le_bytes, u16::to_be_bytes] {
            for text in [format!("\u{feff}{PEM}"), PEM.to_owned()] {
                assert_eq!(plain(utf_16(&text, encode)), PEM);
                let after = [PEM.as_bytes(), &utf_16(&text, encode)].concat();
                assert_eq!(plain(after), PEM.repeat(2));
            }
        }
    }

    #[test]
    fn byte_order_marks_and_escapes_are_resolved() {
        let marked = PEM.replace('\n', "\u{feff}\n");
        assert_eq!(plain(format!("\u{feff}{marked}\u{feff}")), PEM);
        for line_break in ["\\n", "\\\\n", "\\\n", "\\r\\n", "\\t"] {
            let text = PEM.replace('\n', line_break).replace('/', "\\/");
            let read = plain(text).replace("\n\n", "\n");
            assert_eq!(read, PEM, "{line_break}");
        }
        assert_eq!(plain("C:\\keys \\"), "C:\\keys ");
        assert_eq!(plain("a\u{a0}b"), "a b");
    }

    #[test]
    fn base64_of_pem_is_decoded_at_most_twice() {
        let encode = |text: &str| BASE64_STANDARD.encode(text);
        let (once, twice) = (encode(PEM), encode(&encode(PEM)));
        for text in [
            once.clone(),
            format!("\"{once}\"\n"),
            once.as_bytes().chunks(10).fold(String::new(), |text, line| {
                text + std::str::from_utf8(line).unwrap() + "\r\n"
            }),
            twice.clone(),
        ] {
            assert_eq!(plain(text), PEM);
        }
        let wide = BASE64_STANDARD.encode(utf_16(PEM, u16::to_le_bytes));
        assert_eq!(plain(wide), PEM);
        assert_ne!(plain(encode(&twice)), PEM);
    }

    #[test]
    fn other_texts_stay_as_they_are() {
        for text in [PEM, "", "no PEM", &BASE64_STANDARD.encode([7; 60])] {
            assert!(matches!(PlainText::of(text.as_bytes()), PlainText::Given(same) if same == text.as_bytes()));
        }
    }
}
