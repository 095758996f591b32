//! The issuer criterion of a certificate search.

use std::collections::BTreeSet;

use super::CriterionError;
use crate::certificate::text_of_der;

/// The maximum length of a sought issuer in octets, and its maximum number of attributes. Each certificate of a walk is compared with
/// each attribute.
const MAX_LEN: usize = 4096;
const MAX_ATTRIBUTES: usize = 64;

/// Attributes of an issuer's name. A certificate matches if its issuer has all of them, in any order. Case and repeated spaces do not
/// count (RFC 5280 7.1).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SoughtIssuer(Vec<String>);

/// A part of the text is not an attribute.
struct NoAttribute;

impl SoughtIssuer {
    /// Reads a distinguished name as certkeep or OpenSSL prints it: `CN=R3,O=Let's Encrypt`, `C = US, O = "A, B"`, `/C=US/CN=R3`, also
    /// after `issuer=` and one attribute on each line. A text without `=` is a common name. At most 4 KiB and 64 attributes.
    pub fn parse(text: &str) -> Result<Self, CriterionError> {
        let text = text.trim().replace("\r\n", "\n").replace('\n', ",");
        // No issuer in the store has a control character.
        if text.len() > MAX_LEN || text.contains(char::is_control) {
            return Err(CriterionError::Issuer);
        }
        let attributes: Result<BTreeSet<_>, _> = attributes(&text).into_iter().collect();
        let attributes = attributes.map_err(|NoAttribute| CriterionError::Issuer)?;
        match attributes.len() {
            1..=MAX_ATTRIBUTES => Ok(Self(attributes.into_iter().collect())),
            _ => Err(CriterionError::Issuer),
        }
    }

    /// Texts that [`searchable_issuer`] contains for each matching issuer.
    pub fn texts(&self) -> &[String] {
        &self.0
    }
}

/// The attributes of an issuer in the form of RFC 4514, each on a line of its own between line ends.
pub fn searchable_issuer(rfc4514: &str) -> String {
    // Each part of that form is an attribute.
    attributes(rfc4514).into_iter().flatten().collect()
}

/// The attributes in the form in which they are compared: `\ntype=value\n`.
fn attributes(text: &str) -> Vec<Result<String, NoAttribute>> {
    let text = without_label(text);
    if !text.is_empty() && !text.contains('=') {
        return vec![Ok(attribute("cn", text))];
    }
    let parts = match text.strip_prefix('/') {
        Some(parts) => split_before_types(parts, &['/']),
        None => split_before_types(text, &[',', ';', '+']),
    };
    let attribute_of = |part: &str| {
        let (kind, value) = part.split_once('=').ok_or(NoAttribute)?;
        Ok(attribute(&canonical(kind.trim()), &plain(value)))
    };
    parts.into_iter().map(attribute_of).collect()
}

fn attribute(kind: &str, value: &str) -> String {
    let value: Vec<_> = value.split_whitespace().collect();
    format!("\n{kind}={}\n", value.join(" ").to_lowercase())
}

/// Without the label that OpenSSL prints before an issuer.
fn without_label(text: &str) -> &str {
    let label = |label: &str| match text.get(..label.len()) {
        Some(start) if start.eq_ignore_ascii_case(label) => Some(text[label.len()..].trim_start()),
        _ => None,
    };
    label("issuer=").or_else(|| label("issuer:")).unwrap_or(text)
}

/// The parts between separators that are neither quoted nor escaped, and that a type and `=` follow: values of OpenSSL's forms have such
/// characters too.
fn split_before_types<'a>(text: &'a str, separators: &[char]) -> Vec<&'a str> {
    let (mut parts, mut begin) = (Vec::new(), 0);
    let (mut is_escaped, mut is_quoted) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ if !is_quoted && separators.contains(&c) && begins_with_type(&text[at + 1..]) => {
                parts.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    parts
}

/// Whether the text begins with the name or the object identifier of a type, and `=`.
fn begins_with_type(text: &str) -> bool {
    let text = text.trim_start();
    let rest = text.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '.');
    rest.len() < text.len() && rest.trim_start().starts_with('=')
}

/// The value without quotes and escapes. A hexadecimal value is read if it is the DER encoding of a string.
fn plain(value: &str) -> String {
    let value = value.trim_start();
    if let Some(digits) = value.strip_prefix('#')
        && let Some(text) = hex::decode(digits.trim_end()).ok().and_then(|der| text_of_der(&der))
    {
        return without_controls(&text);
    }
    let quoted = value
        .strip_prefix('"')
        .and_then(|value| value.trim_end().strip_suffix('"'));
    let mut bytes = Vec::new();
    let mut rest = quoted.unwrap_or(value).as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = match (first, after) {
            // RFC 4514 2.4, and OpenSSL's old form.
            (b'\\', [b'x' | b'X', high, low, ..]) if is_hex(*high, *low) => {
                hex::decode([*high, *low]).map(|byte| (byte[0], 4)).ok()
            }
            (b'\\', [high, low, ..]) if is_hex(*high, *low) => hex::decode([*high, *low]).map(|byte| (byte[0], 3)).ok(),
            (b'\\', [special, ..]) => Some((*special, 2)),
            _ => None,
        };
        let (byte, taken) = escaped.unwrap_or((first, 1));
        bytes.push(byte);
        rest = &rest[taken..];
    }
    without_controls(&String::from_utf8_lossy(&bytes))
}

fn is_hex(high: u8, low: u8) -> bool {
    high.is_ascii_hexdigit() && low.is_ascii_hexdigit()
}

/// Line ends separate the attributes.
fn without_controls(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// One name for each type of attribute: RFC 4514 3, RFC 5280 A.1, and OpenSSL's names.
fn canonical(kind: &str) -> String {
    let kind = kind.to_ascii_lowercase();
    let kind = kind.strip_prefix("oid.").unwrap_or(&kind);
    const NAMES: [(&str, &[&str]); 22] = [
        ("cn", &["2.5.4.3", "commonname"]),
        ("sn", &["2.5.4.4", "surname"]),
        ("serialnumber", &["2.5.4.5"]),
        ("c", &["2.5.4.6", "countryname"]),
        ("l", &["2.5.4.7", "localityname"]),
        ("st", &["2.5.4.8", "s", "sp", "stateorprovincename"]),
        ("street", &["2.5.4.9", "streetaddress"]),
        ("o", &["2.5.4.10", "organizationname"]),
        ("ou", &["2.5.4.11", "organizationalunitname"]),
        ("title", &["2.5.4.12", "t"]),
        ("businesscategory", &["2.5.4.15"]),
        ("postalcode", &["2.5.4.17"]),
        ("name", &["2.5.4.41"]),
        ("gn", &["2.5.4.42", "givenname"]),
        ("initials", &["2.5.4.43"]),
        ("generationqualifier", &["2.5.4.44"]),
        ("dnqualifier", &["2.5.4.46"]),
        ("pseudonym", &["2.5.4.65"]),
        ("organizationidentifier", &["2.5.4.97"]),
        ("uid", &["0.9.2342.19200300.100.1.1", "userid"]),
        ("dc", &["0.9.2342.19200300.100.1.25", "domaincomponent"]),
        ("emailaddress", &["1.2.840.113549.1.9.1", "e", "email"]),
    ];
    let known = NAMES
        .iter()
        .find(|(name, others)| *name == kind || others.contains(&kind));
    known.map_or(kind, |(name, _)| name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finds(sought: &str, issuer: &str) -> bool {
        let stored = searchable_issuer(issuer);
        let sought = SoughtIssuer::parse(sought).unwrap();
        sought.texts().iter().all(|text| stored.contains(text))
    }

    #[test]
    fn an_issuer_is_found_as_certkeep_and_openssl_write_it() {
        let issuer = "CN=R3,O=Let's Encrypt,C=US";
        for sought in [
            issuer,
            "C = US, O = Let's Encrypt, CN = R3",
            "C=US, O=Let's Encrypt, CN=R3",
            "issuer=C = US, O = Let's Encrypt, CN = R3",
            "issuer= /C=US/O=Let's Encrypt/CN=R3",
            "Issuer: C=US, O=Let's  Encrypt, CN=R3",
            "cn=r3,o=LET'S ENCRYPT,c=us",
            "R3",
            " r3 ",
            "O=Let's Encrypt",
            "2.5.4.3=R3",
            "OID.2.5.4.3=R3",
            "CN = R3\r\nO = Let's Encrypt\r\nC = US",
            "CN=R3,CN=R3",
        ] {
            assert!(finds(sought, issuer), "{sought}");
        }
        for sought in [
            "R",
            "R33",
            "Let's Encrypt",
            "CN=R3,C=DE",
            "O=R3",
            "CN=R3,OU=x",
            "C=US/O=x",
        ] {
            assert!(!finds(sought, issuer), "{sought}");
        }
    }

    #[test]
    fn quotes_escapes_and_separators_in_values_are_read() {
        let issuer = r"CN=a\=b/c,OU=x+L=y,O=Foo\, Inc.";
        for sought in [
            r#"O = "Foo, Inc.", L = y + OU = x, CN = a=b/c"#,
            "O = Foo, Inc., CN = a=b/c",
            "/O=Foo, Inc./L=y/OU=x/CN=a=b/c",
            r"O=Foo\2C Inc.",
        ] {
            assert!(finds(sought, issuer), "{sought}");
        }
        assert!(finds("O = Stra\\C3\\9Fe", "O=Straße"));
        assert!(finds("/O=Stra\\xC3\\x9Fe", "O=Straße"));
        assert!(finds("CN = \"a \"", "CN=a\\ "));
        assert!(finds("a", "CN=a\\ "));
        assert!(finds("O=ÉCOLE", "O=école"));
    }

    #[test]
    fn an_address_of_mail_is_found_by_its_text() {
        let issuer = "CN=Test,1.2.840.113549.1.9.1=#160b6140622e6578616d706c65";
        assert_eq!(searchable_issuer(issuer), "\ncn=test\n\nemailaddress=a@b.example\n");
        assert!(finds("CN = Test, emailAddress = a@b.example", issuer));
        assert!(finds("/CN=Test/Email=A@b.example", issuer));
        assert!(finds(issuer, issuer));
    }

    #[test]
    fn lines_in_a_name_separate_nothing() {
        assert_eq!(searchable_issuer("CN=a\\0ao=b"), "\ncn=a o=b\n");
        let many: String = (0..65).map(|number| format!("CN={number},")).collect();
        for wrong in [
            "CN=a\u{0}",
            "issuer=",
            "",
            "R3, C=US",
            "/R3/C=US",
            many.trim_end_matches(','),
            &format!("CN={}", "a".repeat(4096)),
        ] {
            assert_eq!(SoughtIssuer::parse(wrong), Err(CriterionError::Issuer), "{wrong}");
        }
        // A value of more than 127 octets, and a BMPString.
        let long = hex::encode([&[0x16, 0x81, 200][..], &[b'a'; 200]].concat());
        assert!(finds(
            &format!("emailAddress={}", "a".repeat(200)),
            &format!("1.2.840.113549.1.9.1=#{long}")
        ));
        assert!(finds("dnQualifier = ab", "2.5.4.46=#1e0400610062"));
    }

    proptest::proptest! {
        #[test]
        fn every_issuer_is_found_by_its_own_text(issuer in ".{0,40}(,[A-Z]{1,2}=.{0,20}){0,3}") {
            let issuer = issuer.replace(char::is_control, "");
            if let Ok(sought) = SoughtIssuer::parse(&issuer) {
                let stored = searchable_issuer(&issuer);
                proptest::prop_assert!(sought.texts().iter().all(|text| stored.contains(text)));
            }
        }
    }
}
