//! Object identifiers as text.

use std::fmt::Write;

/// The dotted decimal form of an object identifier's DER content (X.690 8.19). An object identifier that is broken or
/// has an arc of more than 128 bits is written in hexadecimal. Nobody assigns an arc of this size, and the cost of its
/// decimal form grows with the square of its length.
pub(super) fn dotted(content: &[u8]) -> String {
    decimal(content).unwrap_or_else(|| hex::encode(content))
}

/// Whether an arc of an object identifier's DER content is 2^31 or more.
pub(super) fn has_large_arc(content: &[u8]) -> bool {
    let mut arc: u32 = 0;
    for &byte in content {
        if arc >= 1 << 24 {
            return true;
        }
        arc = arc << 7 | u32::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            arc = 0;
        }
    }
    false
}

fn decimal(content: &[u8]) -> Option<String> {
    let mut text = String::new();
    let mut arc: u128 = 0;
    for &byte in content {
        arc = arc.checked_mul(128)? + u128::from(byte & 0x7f);
        if byte & 0x80 != 0 {
            continue;
        }
        // Writing to a String cannot fail.
        let _ = if text.is_empty() {
            let first = (arc / 40).min(2);
            write!(text, "{first}.{}", arc - first * 40)
        } else {
            write!(text, ".{arc}")
        };
        arc = 0;
    }
    let ends_in_an_arc = content.last().is_some_and(|last| last & 0x80 == 0);
    ends_in_an_arc.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_arcs() {
        for (oid, expected) in [
            ("2a87ffffff7f", false),
            ("2a8880808000", true),
            ("2a87ffffff7f01", false),
            ("2a01ffffffffffff01", true),
            ("", false),
        ] {
            assert_eq!(has_large_arc(&hex::decode(oid).unwrap()), expected, "{oid}");
        }
    }

    #[test]
    fn writes_arcs_of_any_real_size() {
        for (content, text) in [
            ("550403", "2.5.4.3"),
            ("2b0601040182371402", "1.3.6.1.4.1.311.20.2"),
            ("883703", "2.999.3"),
            ("0000", "0.0.0"),
            // A UUID's arc (X.667 6.3).
            (
                "6983f09da7ebcfdee0c7a1a7b2c0948cc8f9d776",
                "2.25.329800735698586629295641978511506172918",
            ),
        ] {
            assert_eq!(dotted(&hex::decode(content).unwrap()), text);
        }
    }

    #[test]
    fn writes_broken_ones_in_hexadecimal() {
        for content in ["", "80", "5504ff", &format!("55{}7f", "ff".repeat(19))] {
            assert_eq!(dotted(&hex::decode(content).unwrap()), content);
        }
    }
}
