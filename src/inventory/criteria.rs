//! The criteria of a certificate search.

use super::domain::{DomainError, SoughtDomain};
use super::issuer::SoughtIssuer;
use super::{CertificateName, RegionId, Tags};
use crate::certificate::KeyAlgorithm;

/// Search criteria. A certificate matches if it meets every criterion that is set.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Criteria {
    /// The region of the certificate.
    pub region: Option<RegionId>,
    /// The SHA-1 or SHA-256 fingerprint.
    pub fingerprint: Option<SoughtFingerprint>,
    /// A domain that must match one of the certificate's names.
    pub domain: Option<SoughtDomain>,
    /// The SHA-256 of the `SubjectPublicKeyInfo`.
    pub spki_sha256: Option<[u8; 32]>,
    /// The serial number.
    pub serial_number: Option<SoughtSerial>,
    /// The issuer.
    pub issuer: Option<SoughtIssuer>,
    /// The type of the key.
    pub key_type: Option<SoughtKeyType>,
    /// The time range of the expiry.
    pub expiry: Option<ExpiryWindow>,
    /// The start of the certificate's name in the store.
    pub name_prefix: Option<String>,
    /// The certificate must have all of these tags.
    pub tags: Tags,
    /// Whether the key must be on a list of compromised keys.
    pub is_compromised: bool,
}

/// A fingerprint of either hash.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SoughtFingerprint {
    /// SHA-1.
    Sha1([u8; 20]),
    /// SHA-256.
    Sha256([u8; 32]),
}

/// A serial number, in both forms that a certificate can contain: with and without a leading zero byte.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SoughtSerial([String; 2]);

/// A key algorithm and a key size.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SoughtKeyType {
    /// The algorithm.
    pub algorithm: KeyAlgorithm,
    /// The size in bits; `None`: any size.
    pub size: Option<i32>,
}

/// A half-open time range in milliseconds since 1970: `from` is included, `to` is not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ExpiryWindow {
    /// The start; `i64::MIN`: no lower limit.
    pub from: i64,
    /// The end; `i64::MAX`: no upper limit.
    pub to: i64,
}

/// Why a criterion is invalid.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CriterionError {
    /// The fingerprint is not 40 or 64 hexadecimal digits.
    Fingerprint,
    /// The domain is invalid.
    Domain(DomainError),
    /// The domain match mode is unknown.
    DomainMatch,
    /// A domain match mode is set without a domain.
    DomainMatchAlone,
    /// The hash of a key is not 64 hexadecimal digits.
    SpkiSha256,
    /// The serial number is not hexadecimal.
    SerialNumber,
    /// The issuer is too long, has too many attributes or none, has a part that is not an attribute, or contains a control character.
    Issuer,
    /// The key algorithm is unknown.
    KeyAlgorithm,
    /// The key size is negative.
    KeySize,
    /// A key size is set without a key algorithm.
    KeySizeAlone,
    /// The time is not a valid timestamp.
    ExpireTime,
    /// The end of the window is not later than its start.
    ExpiryWindow,
    /// No valid name starts with the text.
    NamePrefix,
    /// The sort order is unknown.
    Order,
}

impl SoughtFingerprint {
    /// Reads hexadecimal digits in upper or lower case, with a colon between all bytes or without colons.
    pub fn parse(text: &str) -> Result<Self, CriterionError> {
        let digits = digits(text).ok_or(CriterionError::Fingerprint)?;
        bytes(&digits)
            .map(Self::Sha1)
            .or_else(|| bytes(&digits).map(Self::Sha256))
            .ok_or(CriterionError::Fingerprint)
    }

    /// The hash.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Sha1(hash) => hash,
            Self::Sha256(hash) => hash,
        }
    }
}

impl SoughtSerial {
    /// Reads hexadecimal digits in upper or lower case, with a colon between all bytes or without colons.
    pub fn parse(text: &str) -> Result<Self, CriterionError> {
        let digits = digits(text).ok_or(CriterionError::SerialNumber)?;
        let digits = digits.trim_start_matches('0');
        // A DER integer has at least one byte. A zero byte precedes a first byte that has its highest bit set (X.690 8.3).
        let bytes = match digits.len() {
            0 => "00".to_owned(),
            len if len % 2 == 1 => format!("0{digits}"),
            _ => digits.to_owned(),
        };
        Ok(Self([format!("00{bytes}"), bytes]))
    }

    /// The values of [`CertificateFacts::serial_number`](crate::certificate::CertificateFacts) that mean this number.
    pub fn texts(&self) -> &[String] {
        &self.0
    }
}

/// Reads the SHA-256 of a `SubjectPublicKeyInfo`. The accepted forms are those of a fingerprint.
pub fn parse_spki_sha256(text: &str) -> Result<[u8; 32], CriterionError> {
    digits(text)
        .and_then(|digits| bytes(&digits))
        .ok_or(CriterionError::SpkiSha256)
}

/// Reads the start of a name. The rules of a full name apply, because every prefix of a name is a valid name.
pub fn parse_name_prefix(text: &str) -> Result<String, CriterionError> {
    match CertificateName::parse(text) {
        Ok(name) => Ok(name.as_str().to_owned()),
        Err(_) => Err(CriterionError::NamePrefix),
    }
}

/// The hexadecimal digits in lower case, from a text as people copy it: with a label such as `SHA256:` or `serial=`, with `0x`, with
/// colons, dashes or spaces between bytes, with marks that nobody sees. `None` if the text contains anything else.
fn digits(text: &str) -> Option<String> {
    const LABELS: [&str; 7] = [
        "sha256:",
        "sha-256:",
        "sha1:",
        "sha-1:",
        "serial number:",
        "serial:",
        "0x",
    ];
    let text: String = text.chars().filter(|c| !is_invisible(*c)).collect();
    // OpenSSL prints `sha256 Fingerprint=` and `serial=`.
    let mut text = text.rsplit('=').next().unwrap_or_default().trim_start();
    for label in LABELS {
        if let Some(start) = text.get(..label.len())
            && start.eq_ignore_ascii_case(label)
        {
            text = text[label.len()..].trim_start();
        }
    }
    let is_separator = |c: char| c == ':' || c == '-' || c.is_whitespace();
    let bytes: Vec<_> = text.split(is_separator).filter(|bytes| !bytes.is_empty()).collect();
    // A negative number is no hash and no serial number.
    if text.starts_with('-') || bytes.len() > 1 && bytes.iter().any(|bytes| bytes.len() % 2 == 1) {
        return None;
    }
    let digits = bytes.concat();
    (!digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_hexdigit())).then(|| digits.to_ascii_lowercase())
}

/// Whether nobody sees the character: Windows copies such marks with a fingerprint.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{feff}')
}

fn bytes<const N: usize>(digits: &str) -> Option<[u8; N]> {
    hex::decode(digits).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_read_in_any_case_with_or_without_colons() {
        let sha1 = Ok(SoughtFingerprint::Sha1([0xab; 20]));
        let sha256 = Ok(SoughtFingerprint::Sha256([0xab; 32]));
        for byte in ["ab", "AB", "aB"] {
            assert_eq!(SoughtFingerprint::parse(&byte.repeat(20)), sha1);
            assert_eq!(SoughtFingerprint::parse(&[byte; 20].join(":")), sha1);
            assert_eq!(SoughtFingerprint::parse(&byte.repeat(32)), sha256);
            assert_eq!(SoughtFingerprint::parse(&[byte; 32].join(":")), sha256);
            assert_eq!(parse_spki_sha256(&[byte; 32].join(":")), Ok([0xab; 32]));
        }
        let mixed = format!("a:b{}", "ab".repeat(19));
        for wrong in [
            "",
            ":",
            "xy",
            &"ab".repeat(21),
            &"ab".repeat(19),
            &mixed,
            "sha256:",
            &format!("-{}", "ab".repeat(20)),
            &format!("{}=", "ab".repeat(20)),
        ] {
            assert_eq!(
                SoughtFingerprint::parse(wrong),
                Err(CriterionError::Fingerprint),
                "{wrong}"
            );
            assert_eq!(parse_spki_sha256(wrong), Err(CriterionError::SpkiSha256), "{wrong}");
        }
        assert_eq!(parse_spki_sha256(&"ab".repeat(20)), Err(CriterionError::SpkiSha256));
    }

    #[test]
    fn hashes_are_read_as_people_copy_them() {
        let sha256 = Ok(SoughtFingerprint::Sha256([0xab; 32]));
        for text in [
            format!("SHA256:{}", "ab".repeat(32)),
            format!("sha256 Fingerprint={}", ["AB"; 32].join(":")),
            format!("SHA-256: {}", ["AB"; 32].join(" ")),
            format!("\u{200e}{}\u{feff}", ["ab"; 32].join(" ")),
            ["abab"; 16].join("-"),
            format!("{}:\n  {}", ["ab"; 16].join(":"), ["ab"; 16].join(":")),
            format!("0x{}", "ab".repeat(32)),
        ] {
            assert_eq!(SoughtFingerprint::parse(&text), sha256, "{text}");
        }
    }

    #[test]
    fn a_serial_number_is_found_with_any_leading_zeros() {
        for (text, bytes) in [
            ("0A1B", "0a1b"),
            ("00:0a:1b", "0a1b"),
            ("a1b", "0a1b"),
            ("f00d", "f00d"),
            ("0xA1B", "0a1b"),
            ("serial=0A1B", "0a1b"),
            ("Serial Number: 0a:1b:", "0a1b"),
            (" 0a 1b ", "0a1b"),
            ("00", "00"),
            ("0", "00"),
        ] {
            let serial = SoughtSerial::parse(text).unwrap();
            assert_eq!(serial.texts(), [format!("00{bytes}"), bytes.to_owned()], "{text}");
        }
        for wrong in ["", "0x", "-1", "a:1b", "1 2", "1g"] {
            assert_eq!(SoughtSerial::parse(wrong), Err(CriterionError::SerialNumber), "{wrong}");
        }
    }

    #[test]
    fn a_prefix_is_the_beginning_of_a_name() {
        assert_eq!(parse_name_prefix("字/a."), Ok("字/a.".to_owned()));
        for wrong in ["a b", "a%", "a\u{0}", &"a".repeat(81)] {
            assert_eq!(parse_name_prefix(wrong), Err(CriterionError::NamePrefix), "{wrong}");
        }
    }
}
