//! Fingerprints of certificates.

use std::fmt;

use crate::digest;

/// A hash of a certificate's DER encoding. [`Display`](fmt::Display) writes it in lower-case hexadecimal with a colon
/// between the bytes.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Fingerprint<const N: usize>([u8; N]);

/// The SHA-1 of a certificate's DER encoding. The hash identifies a certificate, but proves nothing.
pub type Sha1Fingerprint = Fingerprint<20>;

/// The SHA-256 of a certificate's DER encoding.
pub type Sha256Fingerprint = Fingerprint<32>;

impl<const N: usize> Fingerprint<N> {
    /// The fingerprint that consists of these bytes.
    pub const fn from_bytes(bytes: [u8; N]) -> Self {
        Self(bytes)
    }

    /// The bytes of the hash.
    pub const fn as_bytes(&self) -> &[u8; N] {
        &self.0
    }
}

impl Sha1Fingerprint {
    /// The SHA-1 of a certificate's DER encoding.
    pub fn of_der(der: &[u8]) -> Self {
        Self(digest::sha1(der))
    }
}

impl Sha256Fingerprint {
    /// The SHA-256 of a certificate's DER encoding.
    pub fn of_der(der: &[u8]) -> Self {
        Self(digest::sha256(der))
    }
}

impl<const N: usize> fmt::Display for Fingerprint<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Writes the whole text at once, because a response can have tens of thousands of fingerprints.
        let mut text = [b':'; 3 * 32];
        for (place, byte) in text.as_chunks_mut::<3>().0.iter_mut().zip(self.0) {
            const DIGITS: &[u8; 16] = b"0123456789abcdef";
            place[0] = DIGITS[usize::from(byte >> 4)];
            place[1] = DIGITS[usize::from(byte & 15)];
        }
        let text = &text[..(3 * N).saturating_sub(1)];
        f.write_str(std::str::from_utf8(text).map_err(|_| fmt::Error)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-4's examples: the hashes of "abc".
    #[test]
    fn is_written_in_lower_case_with_colons() {
        assert_eq!(
            Sha1Fingerprint::of_der(b"abc").to_string(),
            "a9:99:3e:36:47:06:81:6a:ba:3e:25:71:78:50:c2:6c:9c:d0:d8:9d"
        );
        assert_eq!(
            Sha256Fingerprint::of_der(b"abc").to_string(),
            "ba:78:16:bf:8f:01:cf:ea:41:41:40:de:5d:ae:22:23:b0:03:61:a3:96:17:7a:9c:b4:10:ff:61:f2:00:15:ad"
        );
    }
}
