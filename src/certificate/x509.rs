//! One parsed certificate (RFC 5280 4.1).

use std::cell::OnceCell;
use std::cmp::Ordering;

use openssl::x509::{X509, X509NameRef};
use pkcs8::der::asn1::AnyRef;
use pkcs8::der::{Decode, ErrorKind, Tag, Tagged};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{ParsedExtension, X509Extension};
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Version;

use super::authorities::{Authorities, Hash};
use super::der_reader::{BOOLEAN, DerReader, INTEGER, SEQUENCE, constructed, split_value};
use super::distinguished_name::rfc4514;
use super::public_key::{PublicKey, PublicKeyError};
use super::signature_algorithm::{self, Strength};
use crate::clock::Timestamp;
use crate::digest;

/// The maximum number of attributes of a subject or an issuer.
pub(super) const MAX_NAME_ATTRIBUTES: usize = 256;

/// Why a certificate cannot be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum X509Error {
    /// The certificate is not one DER SEQUENCE.
    NotDer,
    /// More bytes follow the SEQUENCE.
    TrailingBytes,
    /// The certificate does not have the structure of RFC 5280 4.1.
    Unreadable,
    /// Its subject or its issuer has more than 256 attributes. OpenSSL takes a microsecond for each, and many thousands fit
    /// into a certificate.
    LongName,
    /// The certificate has an extension twice. RFC 5280 4.2 forbids this.
    DuplicateExtension,
    /// The public key is not encoded as its algorithm requires, or its point is not on its curve.
    PublicKey,
}

/// A certificate in strict DER with the structure of X.509 and without duplicate extensions.
pub(super) struct Certificate<'a> {
    pub(super) der: &'a [u8],
    pub(super) fields: X509Certificate<'a>,
    /// OpenSSL's form, for comparing names and verifying signatures.
    pub(super) openssl: X509,
    /// The SHA-256 of a CA certificate, which is its key in the cache of [`Authorities`].
    pub(super) authority: Option<Hash>,
    pub(super) signature_strength: Strength,
    public_key: OnceCell<Result<PublicKey, PublicKeyError>>,
    subject: OnceCell<String>,
}

/// Fields that x509-parser keeps only in its own form (RFC 5280 4.1).
pub(super) struct RawFields<'a> {
    /// The contents of `signature` and of `signatureAlgorithm`.
    pub(super) inner_algorithm: &'a [u8],
    pub(super) outer_algorithm: &'a [u8],
    /// The tags and the contents of notBefore and notAfter.
    pub(super) times: [(u8, &'a [u8]); 2],
}

impl<'a> RawFields<'a> {
    fn of(der: &'a [u8]) -> Option<Self> {
        let mut certificate = DerReader::new(der).values(SEQUENCE)?;
        let mut tbs = certificate.values(SEQUENCE)?;
        let outer_algorithm = certificate.value(SEQUENCE)?;
        tbs.optional(constructed(0))?;
        tbs.value(INTEGER)?;
        let inner_algorithm = tbs.value(SEQUENCE)?;
        tbs.value(SEQUENCE)?;
        let mut validity = tbs.values(SEQUENCE)?;
        Some(Self {
            inner_algorithm,
            outer_algorithm,
            times: [validity.any()?, validity.any()?],
        })
    }
}

impl<'a> Certificate<'a> {
    /// Reads the DER encoding of one certificate. Checks the framing itself, since OpenSSL accepts bytes after the SEQUENCE.
    pub(super) fn read(der: &'a [u8], authorities: &Authorities) -> Result<Self, X509Error> {
        match AnyRef::from_der(der) {
            Ok(outer) if outer.tag() == Tag::Sequence => {}
            Err(error) if matches!(error.kind(), ErrorKind::TrailingData { .. }) => {
                return Err(X509Error::TrailingBytes);
            }
            Ok(_) | Err(_) => return Err(X509Error::NotDer),
        }
        let (rest, fields) = X509Certificate::from_der(der).map_err(|_| X509Error::Unreadable)?;
        if !rest.is_empty() {
            return Err(X509Error::TrailingBytes);
        }
        if !is_der(der) || !are_der(&fields) {
            return Err(X509Error::NotDer);
        }
        if fields.version().0 > X509Version::V3.0 {
            return Err(X509Error::Unreadable);
        }
        for name in [fields.subject(), fields.issuer()] {
            match count_attributes(name.as_raw()) {
                Some(count) if count > MAX_NAME_ATTRIBUTES => return Err(X509Error::LongName),
                // x509-parser silently skips the attributes that follow one that it cannot read.
                Some(count) if count == name.iter_attributes().count() => {}
                _ => return Err(X509Error::Unreadable),
            }
        }
        fields.extensions_map().map_err(|_| X509Error::DuplicateExtension)?;
        let authority = fields.is_ca().then(|| digest::sha256(der));
        let openssl = match authority {
            Some(hash) => authorities.load(hash, der),
            None => X509::from_der(der),
        };
        let openssl = openssl.map_err(|_| X509Error::Unreadable)?;
        Ok(Self {
            der,
            signature_strength: signature_algorithm::strength(&fields.signature_algorithm),
            fields,
            openssl,
            authority,
            public_key: OnceCell::new(),
            subject: OnceCell::new(),
        })
    }

    pub(super) fn public_key(&self) -> Result<&PublicKey, &PublicKeyError> {
        self.public_key
            .get_or_init(|| PublicKey::from_spki(self.spki()))
            .as_ref()
    }

    /// Fields in DER. The certificate was parsed, so they are there.
    pub(super) fn raw_fields(&self) -> Option<RawFields<'a>> {
        RawFields::of(self.der)
    }

    /// The DER encoding of the `SubjectPublicKeyInfo`.
    pub(super) fn spki(&self) -> &'a [u8] {
        self.fields.tbs_certificate.subject_pki.raw
    }

    /// In the form of RFC 4514.
    pub(super) fn subject(&self) -> &str {
        self.subject.get_or_init(|| rfc4514(self.fields.subject()))
    }

    /// In the form of RFC 4514.
    pub(super) fn issuer(&self) -> String {
        rfc4514(self.fields.issuer())
    }

    pub(super) fn not_before(&self) -> Timestamp {
        Timestamp::from_secs(self.fields.validity().not_before.timestamp())
    }

    pub(super) fn not_after(&self) -> Timestamp {
        Timestamp::from_secs(self.fields.validity().not_after.timestamp())
    }

    /// Whether the subject of `issuer` is the issuer of this certificate (RFC 5280 7.1).
    pub(super) fn names_as_issuer(&self, issuer: &Self) -> bool {
        is_same_name(self.openssl.issuer_name(), issuer.openssl.subject_name())
    }

    pub(super) fn is_self_issued(&self) -> bool {
        self.names_as_issuer(self)
    }

    /// The order of two certificates that are otherwise equal: the later notAfter first, then the smaller DER.
    pub(super) fn preference(&self, other: &Self) -> Ordering {
        other
            .not_after()
            .cmp(&self.not_after())
            .then_with(|| self.der.cmp(other.der))
    }
}

/// Whether two distinguished names are the same (RFC 5280 7.1). OpenSSL ignores the case of ASCII letters, repeated spaces and string types.
pub(super) fn is_same_name(a: &X509NameRef, b: &X509NameRef) -> bool {
    matches!(a.try_cmp(b), Ok(Ordering::Equal))
}

/// Whether the parsed extensions are in DER. x509-parser also reads BER, and ignores bytes after a value.
fn are_der(fields: &X509Certificate<'_>) -> bool {
    let is_read = |extension: &&X509Extension<'_>| {
        let parsed = extension.parsed_extension();
        !parsed.unsupported() && !matches!(parsed, ParsedExtension::ParseError { .. } | ParsedExtension::Unparsed)
    };
    let mut read = fields.iter_extensions().filter(is_read);
    read.all(|extension| is_der(extension.value))
}

/// Counts the attributes of a name in DER. `None` if a relative distinguished name has none (RFC 5280 4.1.2.4: SIZE (1..MAX)).
pub(super) fn count_attributes(name: &[u8]) -> Option<usize> {
    let (_, mut parts, _) = split_value(name)?;
    let mut count = 0;
    while !parts.is_empty() {
        let (_, mut part, other_parts) = split_value(parts)?;
        if part.is_empty() {
            return None;
        }
        while !part.is_empty() {
            (_, _, part) = split_value(part)?;
            count += 1;
        }
        parts = other_parts;
    }
    Some(count)
}

/// Whether the bytes are one value in DER (X.690 10 and 11). Without the value's type this means: lengths are definite and the
/// shortest, and a BOOLEAN is 0 or 255.
fn is_der(bytes: &[u8]) -> bool {
    // The bytes after each open value, the innermost last.
    let mut behind = Vec::new();
    let mut rest = bytes;
    loop {
        let Some((tag, content, after)) = split_value(rest) else {
            return false;
        };
        let is_canonical = tag != BOOLEAN || matches!(content, [0 | 0xff]);
        if !is_canonical || (behind.is_empty() && !after.is_empty()) {
            return false;
        }
        behind.push(after);
        rest = if tag & CONSTRUCTED != 0 { content } else { &[] };
        while rest.is_empty() {
            match behind.pop() {
                Some(after) => rest = after,
                None => return true,
            }
        }
    }
}

/// The bit of a tag that marks a constructed value (X.690 8.1.2.5).
const CONSTRUCTED: u8 = 0x20;

#[cfg(test)]
mod tests {
    use openssl::x509::X509Extension;

    use super::super::test_pair::{self, der};
    use super::*;

    fn read(der: &[u8]) -> Result<(), X509Error> {
        Certificate::read(der, &Authorities::default()).map(drop)
    }

    #[test]
    fn framing_is_strict() {
        let good_der = test_pair::ec().certificate.to_der().unwrap();
        assert_eq!(read(&good_der), Ok(()));
        let content = &good_der[4..];
        let longer_length = [&[0x30, 0x83, 0], &good_der[2..]].concat();
        let indefinite = [&[0x30, 0x80], content, &[0, 0]].concat();
        for (bad, what) in [
            (vec![], X509Error::NotDer),
            (good_der[..good_der.len() - 1].to_vec(), X509Error::NotDer),
            (longer_length, X509Error::NotDer),
            (indefinite, X509Error::NotDer),
            (der(0x31, content), X509Error::NotDer),
            ([&good_der[..], &[0]].concat(), X509Error::TrailingBytes),
            (der(0x30, &[content, &[5, 0]].concat()), X509Error::Unreadable),
            (der(0x30, &[5, 0]), X509Error::Unreadable),
        ] {
            assert_eq!(read(&bad), Err(what), "{}", hex::encode(bad));
        }
    }

    /// The certificate with the only occurrence of `from` replaced by `to`, which has the same length.
    fn replaced(certificate: &[u8], from: &str, to: &str) -> Vec<u8> {
        let [from, to] = [from, to].map(|bytes| hex::decode(bytes).unwrap());
        let places: Vec<_> = (0..certificate.len())
            .filter(|&at| certificate[at..].starts_with(&from))
            .collect();
        let [at] = places[..] else { panic!("{places:?}") };
        [&certificate[..at], &to, &certificate[at + from.len()..]].concat()
    }

    #[test]
    fn everything_inside_is_der_too() {
        let good = test_pair::TestPair::with_extensions(
            test_pair::ec().key,
            &[
                ("basicConstraints", "critical,CA:TRUE"),
                ("subjectAltName", "DNS:a.example"),
            ],
        );
        let good = good.certificate.to_der().unwrap();
        assert_eq!(read(&good), Ok(()));
        for (what, from, to) in [
            ("critical", "0603551d130101ff", "0603551d1301017f"),
            ("cA", "30030101ff", "3003010101"),
            ("the names", "8209612e6578616d706c65", "828108612e6578616d706c"),
            (
                "what is behind them",
                "300b8209612e6578616d706c65",
                "30098207612e65786174700500",
            ),
        ] {
            assert_eq!(read(&replaced(&good, from, to)), Err(X509Error::NotDer), "{what}");
        }
        assert_eq!(
            read(&replaced(&good, "a003020102", "a003020103")),
            Err(X509Error::Unreadable),
            "a version that there is not"
        );
    }

    #[test]
    fn a_name_is_read_to_its_end() {
        let key = test_pair::ec().key;
        let good = test_pair::sign(test_pair::builder(&key), &key).to_der().unwrap();
        let attribute = |value: &[u8]| vec![("0603550403", der(0x0c, value))];
        let name = test_pair::dn(&[attribute(b"localhost")]);
        let (_, inside, _) = split_value(&good).unwrap();
        let (_, tbs, signature) = split_value(inside).unwrap();
        // The first occurrence is the issuer.
        let at = tbs.windows(name.len()).position(|window| window == name).unwrap();
        let named = |issuer: &[Vec<_>]| {
            let issuer = test_pair::dn(issuer);
            let tbs = test_pair::sequence(&[&tbs[..at], &issuer, &tbs[at + name.len()..]]);
            read(&test_pair::sequence(&[&tbs, signature]))
        };
        assert_eq!(named(&[attribute(b"a"), attribute(b"b")]), Ok(()));
        assert_eq!(named(&[attribute(b"a"), vec![]]), Err(X509Error::Unreadable));
        let hidden = [vec![vec![]], vec![attribute(b"a"); 257]].concat();
        assert_eq!(named(&hidden), Err(X509Error::Unreadable));
    }

    #[test]
    fn the_encoding_is_walked_through() {
        for (bytes, expected) in [
            ("0500", true),
            ("3000", true),
            ("30060101ff020100", true),
            ("300530030101ff", true),
            ("7f810003020100", true),
            ("1f", false),
            ("7f8100", false),
            ("", false),
            ("05", false),
            ("050000", false),
            ("058100", false),
            ("30800000", false),
            ("3003010101", false),
            ("3003010200", false),
            ("300201", false),
            ("010100", true),
            ("01020000", false),
            ("3005300301010f", false),
        ] {
            assert_eq!(is_der(&hex::decode(bytes).unwrap()), expected, "{bytes}");
        }
    }

    #[test]
    fn a_name_has_at_most_256_attributes() {
        let key = test_pair::ec().key;
        for (attributes, expected) in [(256, Ok(())), (257, Err(X509Error::LongName))] {
            let mut name = openssl::x509::X509NameBuilder::new().unwrap();
            for _ in 0..attributes {
                name.append_entry_by_text("CN", "a").unwrap();
            }
            let mut builder = test_pair::builder(&key);
            builder.set_subject_name(&name.build()).unwrap();
            let der = test_pair::sign(builder, &key).to_der().unwrap();
            assert_eq!(read(&der), expected, "{attributes}");
        }
    }

    #[test]
    fn an_extension_must_not_stand_twice() {
        let key = test_pair::ec().key;
        let mut builder = test_pair::builder(&key);
        for name in ["a.example", "b.example"] {
            let san = der(0x30, &der(0x82, name.as_bytes()));
            let oid = openssl::asn1::Asn1Object::from_str("2.5.29.17").unwrap();
            let san = openssl::asn1::Asn1OctetString::new_from_bytes(&san).unwrap();
            builder
                .append_extension(X509Extension::new_from_der(&oid, false, &san).unwrap())
                .unwrap();
        }
        let der = test_pair::sign(builder, &key).to_der().unwrap();
        assert_eq!(read(&der), Err(X509Error::DuplicateExtension));
    }
}
