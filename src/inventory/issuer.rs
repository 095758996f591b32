//! The issuer criterion of a certificate search.

use super::CriterionError;

/// Attributes of an issuer's name. A certificate matches if its issuer has all of them, in any order. Case and repeated spaces do not
/// count (RFC 5280 7.1).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SoughtIssuer(Vec<String>);

impl SoughtIssuer {
    /// Reads a distinguished name as certkeep or OpenSSL prints it: `CN=R3,O=Let's Encrypt`, `C = US, O = "A, B"`, `/C=US/CN=R3`, also
    /// after `issuer=`. A text without `=` is a common name.
    pub fn parse(text: &str) -> Result<Self, CriterionError> {
        // No issuer in the store has a control character, and lines separate its attributes.
        let text = text.trim();
        if text.contains(char::is_control) {
            return Err(CriterionError::Issuer);
        }
        let attributes = attributes(text);
        match attributes.is_empty() {
            true => Err(CriterionError::Issuer),
            false => Ok(Self(attributes)),
        }
    }

    /// Texts that [`searchable_issuer`] contains for each matching issuer.
    pub fn texts(&self) -> &[String] {
        &self.0
    }
}

/// The attributes of an issuer in the form of RFC 4514, each on a line of its own between line ends.
pub fn searchable_issuer(rfc4514: &str) -> String {
    attributes(rfc4514).concat()
}

/// The attributes in the form in which they are compared: `\ntype=value\n`.
fn attributes(text: &str) -> Vec<String> {
    let text = without_label(text);
    if !text.is_empty() && !text.contains('=') {
        return vec![attribute("cn", text)];
    }
    let parts = match text.strip_prefix('/') {
        Some(parts) => by_slash(parts),
        None => by_separator(text),
    };
    let attributes = parts.into_iter().filter_map(|part| {
        let (kind, value) = part.split_once('=')?;
        Some(attribute(&canonical(kind.trim()), &plain(value.trim())))
    });
    attributes.collect()
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

/// The parts of OpenSSL's old form. A slash begins a part if a type and `=` follow.
fn by_slash(text: &str) -> Vec<&str> {
    let (mut parts, mut begin) = (Vec::new(), 0);
    for (at, _) in text.match_indices('/') {
        let kind = text[at + 1..].split('=').next().unwrap_or_default();
        if kind.len() < text[at + 1..].len() && is_kind(kind) {
            parts.push(&text[begin..at]);
            begin = at + 1;
        }
    }
    parts.push(&text[begin..]);
    parts
}

/// The parts between separators that are neither quoted nor escaped. A separator begins a part if a type and `=` follow.
fn by_separator(text: &str) -> Vec<&str> {
    let (mut parts, mut begin) = (Vec::new(), 0);
    let (mut is_escaped, mut is_quoted) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            ',' | ';' | '+' if !is_quoted => {
                let kind = text[at + 1..].split('=').next().unwrap_or_default();
                if kind.len() < text[at + 1..].len() && is_kind(kind.trim()) {
                    parts.push(&text[begin..at]);
                    begin = at + 1;
                }
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    parts
}

/// Whether the text can be the type of an attribute: a name or an object identifier.
fn is_kind(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.')
}

/// The value without quotes and escapes. A hexadecimal value is read if it is the DER encoding of a string.
fn plain(value: &str) -> String {
    if let Some(text) = value.strip_prefix('#').and_then(string_of_der) {
        return text;
    }
    let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    let mut bytes = Vec::new();
    let mut rest = quoted.unwrap_or(value).as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = match (first, after) {
            (b'\\', [high, low, ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                hex::decode([*high, *low]).map(|byte| (byte[0], 3)).ok()
            }
            (b'\\', [special, ..]) => Some((*special, 2)),
            _ => None,
        };
        let (byte, taken) = escaped.unwrap_or((first, 1));
        bytes.push(byte);
        rest = &rest[taken..];
    }
    // Lines separate the attributes.
    String::from_utf8_lossy(&bytes).replace(char::is_control, " ")
}

/// The text of a short UTF8String, PrintableString or IA5String (X.690 8.1).
fn string_of_der(digits: &str) -> Option<String> {
    match hex::decode(digits).ok()?.as_slice() {
        [0x0c | 0x13 | 0x16, len @ 0..=0x7f, text @ ..] if usize::from(*len) == text.len() => {
            String::from_utf8(text.to_vec()).ok()
        }
        _ => None,
    }
}

/// One name for each type of attribute: RFC 4514 3, RFC 5280 A.1, and OpenSSL's names.
fn canonical(kind: &str) -> String {
    let kind = kind.to_ascii_lowercase();
    let kind = kind.strip_prefix("oid.").unwrap_or(&kind);
    const NAMES: [(&str, &[&str]); 17] = [
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
        ("gn", &["2.5.4.42", "givenname"]),
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
        assert_eq!(SoughtIssuer::parse("CN=a\u{0}"), Err(CriterionError::Issuer));
        assert_eq!(SoughtIssuer::parse("issuer="), Err(CriterionError::Issuer));
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
