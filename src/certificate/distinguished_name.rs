//! Distinguished names as text (RFC 4514).

use x509_parser::asn1_rs::{Any, FromDer, Tag, ToDer};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use super::object_identifier::dotted;

/// `id-at-commonName` (X.520): the content of its DER encoding.
const COMMON_NAME: &[u8] = &[0x55, 4, 3];

/// The short names of RFC 4514 3.
const SHORT_NAMES: &[(&[u8], &str)] = &[
    (COMMON_NAME, "CN"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 9], "STREET"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1], "UID"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], "DC"),
];

/// The name in the form of RFC 4514: the last part first, control characters escaped. The text is for people to read.
/// Code compares the DER of the parts.
pub(super) fn rfc4514(name: &X509Name<'_>) -> String {
    let parts: Vec<_> = name.iter_rdn().collect();
    let mut text = String::new();
    for (i, part) in parts.iter().rev().enumerate() {
        if i > 0 {
            text.push(',');
        }
        for (i, attribute) in part.iter().enumerate() {
            if i > 0 {
                text.push('+');
            }
            push_attribute(&mut text, attribute);
        }
    }
    text
}

/// Whether the text is a name in exactly the form of RFC 4514 that certkeep writes. Another form never equals the subject of a certificate.
pub fn is_distinguished_name(text: &str) -> bool {
    !text.is_empty() && split_unescaped(text, &[',', '+']).into_iter().all(is_attribute)
}

/// The parts of the text between separators that no backslash precedes.
fn split_unescaped<'a>(text: &'a str, separators: &[char]) -> Vec<&'a str> {
    let (mut parts, mut begin, mut is_escaped) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        if !is_escaped && separators.contains(&c) {
            parts.push(&text[begin..at]);
            begin = at + c.len_utf8();
        }
        is_escaped = !is_escaped && c == '\\';
    }
    parts.push(&text[begin..]);
    parts
}

fn is_attribute(text: &str) -> bool {
    let Some((kind, value)) = text.split_once('=') else {
        return false;
    };
    let is_hex = value.strip_prefix('#').is_some_and(|digits| {
        let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        digits.len() >= 4 && digits.len() % 2 == 0 && digits.bytes().all(is_digit)
    });
    if SHORT_NAMES.iter().any(|(_, name)| *name == kind) {
        is_hex
            || unescaped(value).is_some_and(|plain| {
                let mut escaped = String::new();
                push_escaped(&mut escaped, &plain);
                escaped == value
            })
    } else {
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        is_hex && kind.contains('.') && kind.split('.').all(is_number)
    }
}

/// The text that [`push_escaped`] was given.
fn unescaped(value: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = value.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let taken = match (first, after) {
            (
                b'\\',
                [
                    high @ (b'0'..=b'9' | b'a'..=b'f'),
                    low @ (b'0'..=b'9' | b'a'..=b'f'),
                    ..,
                ],
            ) => {
                bytes.extend(hex::decode([*high, *low]).ok()?);
                3
            }
            (b'\\', [special, ..]) => {
                bytes.push(*special);
                2
            }
            (b'\\', []) => return None,
            (byte, _) => {
                bytes.push(byte);
                1
            }
        };
        rest = &rest[taken..];
    }
    String::from_utf8(bytes).ok()
}

/// The last common name, or `""`. Control characters and invalid bytes are replaced by U+FFFD.
pub(super) fn common_name(name: &X509Name<'_>) -> String {
    let last = name
        .iter_attributes()
        .filter(|attribute| attribute.attr_type().as_bytes() == COMMON_NAME)
        .last();
    last.map(|attribute| printable(&lossy(attribute.attr_value())))
        .unwrap_or_default()
}

/// The text with each control character replaced by U+FFFD.
pub(super) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
        .collect()
}

/// RFC 4514 2.3 and 2.4: a type in the table is written with its string, any other type with the hexadecimal form of
/// its value.
fn push_attribute(text: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    let oid = attribute.attr_type().as_bytes();
    let value = attribute.attr_value();
    match SHORT_NAMES.iter().find(|(known, _)| *known == oid) {
        Some((_, name)) => {
            text.push_str(name);
            text.push('=');
            match exact(value) {
                Some(value) => push_escaped(text, &value),
                None => push_hex(text, value),
            }
        }
        None => {
            text.push_str(&dotted(oid));
            text.push('=');
            push_hex(text, value);
        }
    }
}

fn push_hex(text: &mut String, value: &Any<'_>) {
    text.push('#');
    // Encoding into memory fails only for tags that no parser yields.
    text.push_str(&hex::encode(value.to_der_vec().unwrap_or_default()));
}

/// RFC 4514 2.4.
fn push_escaped(text: &mut String, value: &str) {
    let last = value.chars().count().saturating_sub(1);
    for (i, c) in value.chars().enumerate() {
        match c {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => text.extend(['\\', c]),
            '#' if i == 0 => text.push_str("\\#"),
            ' ' if i == 0 || i == last => text.push_str("\\ "),
            c if c.is_control() => {
                // `format!` would take longer, and there can be many control characters.
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    let digit = |half| char::from_digit(u32::from(half), 16);
                    text.push('\\');
                    text.extend(digit(byte >> 4));
                    text.extend(digit(byte & 15));
                }
            }
            c => text.push(c),
        }
    }
}

/// The text of a string in DER. `None` if it is not a string, or the string is invalid.
pub fn text_of_der(der: &[u8]) -> Option<String> {
    match Any::from_der(der) {
        Ok(([], value)) => exact(&value),
        _ => None,
    }
}

/// The string in a value. `None` if the value is not a string or the string is invalid.
fn exact(value: &Any<'_>) -> Option<String> {
    let bytes = value.data;
    match value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::NumericString | Tag::VisibleString => {
            String::from_utf8(bytes.to_vec()).ok()
        }
        // Encoders write Latin-1 into a T61String, although T.61 defines another character set.
        Tag::T61String => Some(bytes.iter().copied().map(char::from).collect()),
        Tag::BmpString => {
            let (units, []) = bytes.as_chunks() else { return None };
            char::decode_utf16(units.iter().copied().map(u16::from_be_bytes))
                .collect::<Result<_, _>>()
                .ok()
        }
        Tag::UniversalString => {
            let (units, []) = bytes.as_chunks() else { return None };
            units
                .iter()
                .copied()
                .map(|unit| char::from_u32(u32::from_be_bytes(unit)))
                .collect()
        }
        _ => None,
    }
}

/// The string in a value. Invalid bytes are replaced by U+FFFD.
fn lossy(value: &Any<'_>) -> String {
    exact(value).unwrap_or_else(|| String::from_utf8_lossy(value.data).into_owned())
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::FromDer;

    use super::super::test_pair::{der, dn};
    use super::*;

    fn read<T>(name: &[u8], f: fn(&X509Name<'_>) -> T) -> T {
        let (rest, name) = X509Name::from_der(name).unwrap();
        assert!(rest.is_empty());
        f(&name)
    }

    const CN: &str = "0603550403";
    const OU: &str = "060355040b";
    const DC: &str = "060a0992268993f22c640119";
    const UID: &str = "060a0992268993f22c640101";

    fn utf8(text: &str) -> Vec<u8> {
        der(0x0c, text.as_bytes())
    }

    /// The examples of RFC 4514 4.
    #[test]
    fn writes_the_examples_of_the_rfc() {
        let net = (DC, utf8("net"));
        let example = (DC, utf8("example"));
        let part = |a: &(&'static str, Vec<u8>)| vec![a.clone()];
        let under_example = |parts: Vec<(&'static str, Vec<u8>)>| dn(&[part(&net), part(&example), parts]);

        for (name, text) in [
            (
                under_example(vec![(UID, utf8("jsmith"))]),
                "UID=jsmith,DC=example,DC=net",
            ),
            (
                under_example(vec![(OU, utf8("Sales")), (CN, utf8("J.  Smith"))]),
                "OU=Sales+CN=J.  Smith,DC=example,DC=net",
            ),
            (
                under_example(vec![(CN, utf8("James \"Jim\" Smith, III"))]),
                "CN=James \\\"Jim\\\" Smith\\, III,DC=example,DC=net",
            ),
            (
                under_example(vec![(CN, utf8("Before\rAfter"))]),
                "CN=Before\\0dAfter,DC=example,DC=net",
            ),
            (
                dn(&[vec![("06082b060104018b3a00", der(4, b"Hi"))]]),
                "1.3.6.1.4.1.1466.0=#04024869",
            ),
            (dn(&[vec![(CN, utf8("Lučić"))]]), "CN=Lučić"),
        ] {
            assert_eq!(read(&name, rfc4514), text);
        }
    }

    #[test]
    fn escapes_what_would_be_read_otherwise() {
        for (value, text) in [
            (" a ", "CN=\\ a\\ "),
            (" ", "CN=\\ "),
            ("#a#", "CN=\\#a#"),
            ("a+b;c<d>e\\f", "CN=a\\+b\\;c\\<d\\>e\\\\f"),
            ("\u{0}\u{85}", "CN=\\00\\c2\\85"),
            ("", "CN="),
        ] {
            assert_eq!(read(&dn(&[vec![(CN, utf8(value))]]), rfc4514), text);
        }
    }

    #[test]
    fn reads_every_string_type() {
        for (value, text) in [
            (der(0x13, b"a"), "CN=a"),
            (der(0x16, b"a@b"), "CN=a@b"),
            (der(0x14, b"Z\xfcrich"), "CN=Zürich"),
            (der(0x1e, &[0x8b, 0xc1, 0x4e, 0x66]), "CN=证书"),
            (der(0x1e, &[0xd8, 0x3d, 0xde, 0x00]), "CN=😀"),
            (der(0x1c, &[0, 1, 0xf6, 0]), "CN=😀"),
            (der(0x1e, &[0xd8, 0x3d]), "CN=#1e02d83d"),
            (der(0x1e, &[0]), "CN=#1e0100"),
            (der(0x0c, &[0xff]), "CN=#0c01ff"),
            (der(0x02, &[1]), "CN=#020101"),
        ] {
            assert_eq!(read(&dn(&[vec![(CN, value)]]), rfc4514), text);
        }
    }

    #[test]
    fn the_common_name_is_the_last_and_holds_no_control_character() {
        let two = dn(&[
            vec![(CN, utf8("first"))],
            vec![(OU, utf8("x"))],
            vec![(CN, utf8("la\u{0}st"))],
        ]);
        assert_eq!(read(&two, common_name), "la\u{fffd}st");
        assert_eq!(read(&dn(&[vec![(OU, utf8("x"))]]), common_name), "");
        assert_eq!(read(&dn(&[vec![(CN, der(0x0c, b"a\xff"))]]), common_name), "a\u{fffd}");
    }

    #[test]
    fn a_text_that_no_certificate_has_is_no_distinguished_name() {
        for name in [
            "UID=jsmith,DC=example,DC=net",
            "OU=Sales+CN=J.  Smith,DC=example,DC=net",
            "CN=James \\\"Jim\\\" Smith\\, III,DC=example,DC=net",
            "CN=Before\\0dAfter,DC=example,DC=net",
            "1.3.6.1.4.1.1466.0=#04024869,CN=a",
            "CN=Lučić",
            "CN=\\ a\\ ",
            "CN=\\#a#",
            "CN=a=b",
            "CN=#1e02d83d",
            "CN=",
        ] {
            assert!(is_distinguished_name(name), "{name}");
        }
        for name in [
            "",
            "a",
            "CN=a, O=b",
            "CN=a,",
            "cn=a",
            "emailAddress=a@example.com",
            "CN= a",
            "CN=a\\",
            "CN=\\a",
            "CN=#1E02D83D",
            "CN=a;b",
            "CN=a\\3b",
            "CN=\\ff",
            "1.2.3=a",
            "/CN=a/O=b",
        ] {
            assert!(!is_distinguished_name(name), "{name}");
        }
    }

    #[test]
    fn an_empty_name_is_empty() {
        assert_eq!(read(&dn(&[]), rfc4514), "");
    }
}
