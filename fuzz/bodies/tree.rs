//! The form of most inputs: a sequence of DER values. The tag of a value tells its purpose. So damage to one value leaves the
//! other values intact, and mutations can follow the structure.

/// A DER value: its tag of one byte, and its content.
pub type Value<'a> = (u8, &'a [u8]);

/// The values of an input. A value that is shorter than its stated length ends with the input.
pub fn values(mut rest: &[u8]) -> impl Iterator<Item = Value<'_>> {
    std::iter::from_fn(move || {
        let (tag, length, after) = header(rest)?;
        let (content, behind) = after.split_at(length.min(after.len()));
        rest = behind;
        Some((tag, content))
    })
}

/// The tag, the length, and the bytes after the length.
fn header(rest: &[u8]) -> Option<(u8, usize, &[u8])> {
    let (&tag, rest) = rest.split_first()?;
    let Some((&first, rest)) = rest.split_first() else {
        return Some((tag, 0, &[]));
    };
    if first < 0x80 {
        return Some((tag, usize::from(first), rest));
    }
    let (bytes, rest) = rest.split_at(usize::from(first & 3).min(rest.len()));
    let length = bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    Some((tag, length, rest))
}

/// The DER encoding of a value.
pub fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut der = vec![tag];
    let length = u32::try_from(content.len()).expect("inputs are short").to_be_bytes();
    match content.len() {
        0..0x80 => der.push(length[3]),
        0x80..0x100 => der.extend([0x81, length[3]]),
        0x100..0x1_0000 => der.extend([0x82, length[2], length[3]]),
        _ => der.extend([0x83, length[1], length[2], length[3]]),
    }
    der.extend(content);
    der
}

/// A SEQUENCE.
pub fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    der(0x30, &parts.concat())
}
