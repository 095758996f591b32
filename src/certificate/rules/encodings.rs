//! Encodings that families of clients refuse. `tests/integration/clients` compares these rules with OpenSSL, Go and GnuTLS. For browsers
//! the sources of Firefox (mozilla::pkix) and Chrome (BoringSSL's pki) tell.

use x509_parser::x509::X509Name;

use super::{Findings, extensions};
use crate::certificate::der_reader::{DerReader, OBJECT_IDENTIFIER, SEQUENCE, primitive};
use crate::certificate::finding::ClientFamily::{self, Browsers, GnuTls, Go, OpenSsl};
use crate::certificate::finding::{Encoding, FindingKind};
use crate::certificate::object_identifier::has_large_arc;
use crate::certificate::public_key::KeyAlgorithm;
use crate::certificate::x509::Certificate;

const UTF8_STRING: u8 = 0x0c;
const NUMERIC_STRING: u8 = 0x12;
const PRINTABLE_STRING: u8 = 0x13;
const T61_STRING: u8 = 0x14;
const IA5_STRING: u8 = 0x16;
const UTC_TIME: u8 = 0x17;
const BMP_STRING: u8 = 0x1e;

/// `rsaEncryption` (RFC 8017 A.1): the content of its DER encoding.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
/// `id-ecPublicKey` (RFC 5480 2.1.1): the content of its DER encoding.
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
/// The user principal name of Windows, `1.3.6.1.4.1.311.20.2.3`, which GnuTLS compares.
const PRINCIPAL_NAME: &[u8] = &[0x2b, 6, 1, 4, 1, 0x82, 0x37, 0x14, 2, 3];

/// Notes each peculiarity of the encoding that some clients refuse, at most once.
pub(super) fn check(certificate: &Certificate<'_>, findings: &mut Findings<'_>) {
    let mut note = |encoding, clients: &[ClientFamily]| {
        let clients = clients.to_vec();
        findings.note(FindingKind::EncodingRefusedBy { encoding, clients }, Some(certificate));
    };
    if let Some(fields) = certificate.raw_fields() {
        let (inner, outer) = (fields.inner_algorithm, fields.outer_algorithm);
        if inner != outer {
            let oid = |algorithm| DerReader::new(algorithm).value(OBJECT_IDENTIFIER);
            let clients: &[_] = match oid(inner) == oid(outer) {
                // Only the parameters differ, for example NULL is missing in one of them.
                true => &[OpenSsl, Go],
                false => &[OpenSsl, Go, GnuTls, Browsers],
            };
            note(Encoding::SignatureAlgorithmsDiffer, clients);
        }
        let times = fields.times.map(Time);
        let refuses = |client: &ClientFamily| !times.iter().all(|time| time.is_read_by(*client));
        let refusing: Vec<_> = ClientFamily::ALL.into_iter().filter(refuses).collect();
        if !refusing.is_empty() {
            note(Encoding::Time, &refusing);
        }
    }
    let fields = &certificate.fields;
    if fields.issuer().iter_rdn().next().is_none() {
        note(Encoding::EmptyIssuer, &[Browsers]);
    }
    let names = [fields.subject(), fields.issuer()];
    for encoding in [
        Encoding::PrintableString,
        Encoding::StringCharacters,
        Encoding::StringType,
    ] {
        if names.iter().any(|name| odd_strings(name).any(|odd| odd == encoding)) {
            note(encoding, &[Go]);
        }
    }
    if has_large_identifier(certificate) {
        note(Encoding::LargeObjectIdentifier, &[Go]);
    }
    key(certificate, &mut note);
    name_constraints(certificate, &mut note);
}

/// The tag and the content of a time.
struct Time<'a>((u8, &'a [u8]));

impl Time<'_> {
    /// RFC 5280 4.1.2.5: UTCTime is `YYMMDDHHMMSSZ` and GeneralizedTime is `YYYYMMDDHHMMSSZ`. Some clients also read BER.
    fn is_read_by(&self, client: ClientFamily) -> bool {
        let Self((tag, content)) = *self;
        let digits = content.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (number, zone) = content.split_at(digits);
        let with_seconds = if tag == UTC_TIME { 12 } else { 14 };
        let has_seconds = number.len() == with_seconds;
        let may_lack_seconds = has_seconds || number.len() + 2 == with_seconds;
        let is_zulu = zone == b"Z";
        match client {
            OpenSsl | Browsers => has_seconds && is_zulu,
            // Go writes the time again and compares. It writes no offset as Z.
            Go => {
                let is_offset = matches!(zone, [b'+' | b'-', _, _, _, _]) && zone[1..] != *b"0000";
                (has_seconds || (may_lack_seconds && tag == UTC_TIME)) && (is_zulu || is_offset)
            }
            GnuTls => may_lack_seconds && is_zulu,
        }
    }
}

/// The odd strings of a distinguished name. A name has at most 256 attributes.
fn odd_strings(name: &X509Name<'_>) -> impl Iterator<Item = Encoding> {
    name.iter_attributes().filter_map(|attribute| {
        let value = attribute.attr_value();
        let tag = u8::try_from(value.header.tag().0).unwrap_or(u8::MAX);
        odd_string(tag, value.data)
    })
}

/// X.680 41: the characters of each string type. Go accepts `*` and `&` in a PrintableString.
fn odd_string(tag: u8, content: &[u8]) -> Option<Encoding> {
    let is_odd = match tag {
        PRINTABLE_STRING => {
            let is_printable = |byte: &u8| byte.is_ascii_alphanumeric() || b" '()+,-./:=?*&".contains(byte);
            return (!content.iter().all(is_printable)).then_some(Encoding::PrintableString);
        }
        UTF8_STRING => std::str::from_utf8(content).is_err(),
        IA5_STRING => !content.is_ascii(),
        NUMERIC_STRING => !content.iter().all(|byte| byte.is_ascii_digit() || *byte == b' '),
        BMP_STRING => {
            let (characters, rest) = content.as_chunks::<2>();
            let is_character = |bytes: &[u8; 2]| !matches!(u16::from_be_bytes(*bytes), 0xd800..=0xdfff | 0xfdd0..=0xfdef | 0xfffe | 0xffff);
            !rest.is_empty() || !characters.iter().all(is_character)
        }
        T61_STRING => false,
        _ => return Some(Encoding::StringType),
    };
    is_odd.then_some(Encoding::StringCharacters)
}

/// Go does not read object identifiers with an arc of 2^31 or more where it compares them.
fn has_large_identifier(certificate: &Certificate<'_>) -> bool {
    let fields = &certificate.fields;
    let of_names = [fields.subject(), fields.issuer()];
    let mut attributes = of_names.into_iter().flat_map(|name| name.iter_attributes());
    fields
        .iter_extensions()
        .any(|extension| has_large_arc(extension.oid.as_bytes()))
        || attributes.any(|attribute| has_large_arc(attribute.attr_type().as_bytes()))
}

/// RFC 3279 2.3.1 and RFC 5480 2.2.
fn key(certificate: &Certificate<'_>, note: &mut impl FnMut(Encoding, &[ClientFamily])) {
    let spki = &certificate.fields.tbs_certificate.subject_pki;
    match spki.algorithm.algorithm.as_bytes() {
        RSA if spki.algorithm.parameters.is_none() => note(Encoding::RsaWithoutNull, &[Go, Browsers]),
        EC => {
            match spki.subject_public_key.data.first() {
                Some(2 | 3) => note(Encoding::CompressedPoint, &[Go, Browsers]),
                Some(6 | 7) => note(Encoding::HybridPoint, &[Go, Browsers]),
                _ => {}
            }
            let key = certificate.public_key();
            if key.is_ok_and(|key| key.algorithm() == KeyAlgorithm::EcdsaSecp256k1) {
                note(Encoding::CurveSecp256k1, &[Go, Browsers]);
            }
        }
        _ => {}
    }
}

/// RFC 5280 4.2.1.10: clients refuse critical constraints that they do not process. `minimum` is 0 and `maximum` is absent.
fn name_constraints(certificate: &Certificate<'_>, note: &mut impl FnMut(Encoding, &[ClientFamily])) {
    let mut extensions = certificate.fields.iter_extensions();
    let Some(constraints) = extensions.find(|extension| extension.oid.as_bytes() == [0x55, 0x1d, 30]) else {
        return;
    };
    let Some(both) = extensions::subtrees(DerReader::new(constraints.value)) else {
        return;
    };
    let (mut go, mut gnutls, mut has_distance) = (false, false, false);
    for mut subtrees in both.into_iter().flatten() {
        while let Some(mut subtree) = subtrees.values(SEQUENCE) {
            let Some((tag, base)) = subtree.any() else { continue };
            go |= constraints.critical && !matches!(tag, 0x81 | 0x82 | 0x86 | 0x87);
            gnutls |= match tag {
                0xa0 => DerReader::new(base).value(OBJECT_IDENTIFIER) != Some(PRINCIPAL_NAME),
                0xa3 | 0xa5 | 0x88 => true,
                _ => false,
            };
            let minimum = subtree.optional(primitive(0)).flatten();
            has_distance |= minimum.is_some_and(|minimum| minimum != [0]) || !subtree.is_empty();
        }
    }
    if go || gnutls {
        let clients = [(Go, go), (GnuTls, gnutls)].into_iter().filter(|(_, refuses)| *refuses);
        let clients: Vec<_> = clients.map(|(client, _)| client).collect();
        note(Encoding::ConstraintType, &clients);
    }
    if has_distance {
        note(Encoding::ConstraintDistance, &[OpenSsl]);
    }
}

#[cfg(test)]
mod tests {
    use openssl::ec::PointConversionForm;
    use openssl::nid::Nid;
    use openssl::pkey::{PKey, Private};

    use super::*;
    use crate::certificate::test_pair::{self, Entity, SERVER, der, dn, sequence};
    use crate::certificate::{Authorities, Policy};

    /// The peculiarities of a certificate, and the clients that refuse them.
    fn found(der: &[u8]) -> Vec<(Encoding, Vec<ClientFamily>)> {
        let authorities = Authorities::default();
        let certificate = Certificate::read(der, &authorities).unwrap();
        let policy = Policy::default();
        let mut findings = Findings::by(&policy);
        check(&certificate, &mut findings);
        let kinds = findings.into_noted().into_iter().map(|finding| finding.kind);
        let encodings = kinds.map(|kind| match kind {
            FindingKind::EncodingRefusedBy { encoding, clients } => (encoding, clients),
            other => panic!("{other:?}"),
        });
        encodings.collect()
    }

    fn server(key: PKey<Private>) -> Vec<u8> {
        let [issuer, server] = ["issuer", "server"].map(Entity::new);
        let server = Entity { key, ..server };
        issuer.certify(&server, SERVER).to_der().unwrap()
    }

    fn ec() -> PKey<Private> {
        test_pair::ec_key(Nid::X9_62_PRIME256V1)
    }

    /// The values of a certificate's TBSCertificate: version, serial number, signature, issuer, validity, subject, key, extensions.
    fn with_field(certificate: &[u8], place: usize, field: &[u8]) -> Vec<u8> {
        let mut outside = DerReader::new(certificate).values(SEQUENCE).unwrap();
        let mut tbs = outside.values(SEQUENCE).unwrap();
        let mut fields = Vec::new();
        while let Some((tag, content)) = tbs.any() {
            fields.push(der(tag, content));
        }
        fields[place] = field.to_vec();
        let mut rest = Vec::new();
        while let Some((tag, content)) = outside.any() {
            rest.extend(der(tag, content));
        }
        sequence(&[&sequence(&[&fields.concat()]), &rest])
    }

    #[test]
    fn ordinary_certificates_have_none() {
        for key in [
            ec(),
            test_pair::rsa_key(2048),
            test_pair::ed25519().key,
            test_pair::ec_key(Nid::SECP384R1),
        ] {
            assert_eq!(found(&server(key)), []);
        }
    }

    #[test]
    fn both_signature_algorithms_are_compared() {
        let algorithm = |oid: &str, parameters: &[u8]| sequence(&[&hex::decode(oid).unwrap(), parameters]);
        let ecdsa_sha256 = "06082a8648ce3d040302";
        for (inner, clients) in [
            (algorithm(ecdsa_sha256, &[]), None),
            (algorithm(ecdsa_sha256, &[5, 0]), Some(&[OpenSsl, Go][..])),
            (
                algorithm("06082a8648ce3d040303", &[]),
                Some(&[OpenSsl, Go, GnuTls, Browsers]),
            ),
        ] {
            let expected = clients.map(|clients| (Encoding::SignatureAlgorithmsDiffer, clients.to_vec()));
            let expected: Vec<_> = expected.into_iter().collect();
            assert_eq!(
                found(&with_field(&server(ec()), 2, &inner)),
                expected,
                "{}",
                hex::encode(inner)
            );
        }
    }

    #[test]
    fn an_issuer_has_a_name() {
        assert_eq!(
            found(&with_field(&server(ec()), 3, &sequence(&[]))),
            [(Encoding::EmptyIssuer, vec![Browsers])]
        );
        // A subject may be empty (RFC 5280 4.1.2.6).
        assert_eq!(found(&with_field(&server(ec()), 5, &sequence(&[]))), []);
    }

    #[test]
    fn times_are_in_der() {
        let reads = |tag, content: &str| {
            let time = Time((tag, content.as_bytes()));
            ClientFamily::ALL
                .into_iter()
                .filter(|client| !time.is_read_by(*client))
                .collect::<Vec<_>>()
        };
        for (tag, content, refusing) in [
            (UTC_TIME, "260101000000Z", &[][..]),
            (0x18, "20510101000000Z", &[]),
            (0x18, "20260101000000Z", &[]),
            (UTC_TIME, "2601010000Z", &[OpenSsl, Browsers]),
            (UTC_TIME, "260101000000+0100", &[OpenSsl, GnuTls, Browsers]),
            (UTC_TIME, "260101000000+0000", &ClientFamily::ALL),
            (UTC_TIME, "260101000000", &ClientFamily::ALL),
            (0x18, "20510101000000.5Z", &ClientFamily::ALL),
            (0x18, "205101010000Z", &[OpenSsl, Go, Browsers]),
        ] {
            assert_eq!(reads(tag, content), refusing, "{content}");
        }
    }

    #[test]
    fn strings_have_the_characters_of_their_type() {
        for (tag, content, expected) in [
            (PRINTABLE_STRING, &b"aZ09 '()+,-./:=?"[..], None),
            (PRINTABLE_STRING, b"*.a & b", None),
            (PRINTABLE_STRING, b"a@b", Some(Encoding::PrintableString)),
            (PRINTABLE_STRING, b"a_b", Some(Encoding::PrintableString)),
            (UTF8_STRING, "\u{e4}@_".as_bytes(), None),
            (T61_STRING, b"a\xe4", None),
            (IA5_STRING, b"a@b", None),
            (IA5_STRING, b"a\xe4", Some(Encoding::StringCharacters)),
            (NUMERIC_STRING, b"1 2", None),
            (NUMERIC_STRING, b"1a", Some(Encoding::StringCharacters)),
            (BMP_STRING, b"\0a", None),
            (BMP_STRING, b"\xff\xff", Some(Encoding::StringCharacters)),
            // UniversalString
            (0x1c, b"\0\0\0a", Some(Encoding::StringType)),
            (3, b"\0a", Some(Encoding::StringType)),
        ] {
            assert_eq!(odd_string(tag, content), expected, "{tag} {content:?}");
        }
        let named = |place, value: Vec<u8>| with_field(&server(ec()), place, &dn(&[vec![("060355040a", value)]]));
        for place in [3, 5] {
            let odd = named(place, der(PRINTABLE_STRING, b"a@b"));
            assert_eq!(found(&odd), [(Encoding::PrintableString, vec![Go])]);
            assert_eq!(found(&named(place, der(PRINTABLE_STRING, b"a.b"))), []);
        }
    }

    #[test]
    fn object_identifiers_have_numbers_of_31_bits() {
        let named = |oid: &str| with_field(&server(ec()), 5, &dn(&[vec![(oid, der(UTF8_STRING, b"a"))]]));
        assert_eq!(found(&named("06062a87ffffff7f")), []);
        assert_eq!(
            found(&named("06062a8880808000")),
            [(Encoding::LargeObjectIdentifier, vec![Go])]
        );
    }

    #[test]
    fn keys_are_encoded_as_clients_expect() {
        let rsa = test_pair::rsa_key(2048);
        let public = rsa.rsa().unwrap().public_key_to_der_pkcs1().unwrap();
        let algorithm = der(OBJECT_IDENTIFIER, RSA);
        let spki = |parameters: &[u8]| {
            sequence(&[
                &sequence(&[&algorithm, parameters]),
                &der(3, &[&[0], &public[..]].concat()),
            ])
        };
        assert_eq!(found(&with_field(&server(ec()), 6, &spki(&[5, 0]))), []);
        assert_eq!(
            found(&with_field(&server(ec()), 6, &spki(&[]))),
            [(Encoding::RsaWithoutNull, vec![Go, Browsers])]
        );

        for (form, expected) in [
            (PointConversionForm::UNCOMPRESSED, None),
            (PointConversionForm::COMPRESSED, Some(Encoding::CompressedPoint)),
            (PointConversionForm::HYBRID, Some(Encoding::HybridPoint)),
        ] {
            let key = ec();
            let point = key.ec_key().unwrap();
            let mut context = openssl::bn::BigNumContext::new().unwrap();
            let point = point.public_key().to_bytes(point.group(), form, &mut context).unwrap();
            let p256 = hex::decode("06082a8648ce3d030107").unwrap();
            let algorithm = sequence(&[&der(OBJECT_IDENTIFIER, EC), &p256]);
            let spki = sequence(&[&algorithm, &der(3, &[&[0], &point[..]].concat())]);
            let expected: Vec<_> = expected
                .map(|encoding| (encoding, vec![Go, Browsers]))
                .into_iter()
                .collect();
            assert_eq!(found(&with_field(&server(ec()), 6, &spki)), expected);
        }
        let bitcoin = server(test_pair::ec_key(Nid::SECP256K1));
        assert_eq!(found(&bitcoin), [(Encoding::CurveSecp256k1, vec![Go, Browsers])]);
    }

    #[test]
    fn constraints_are_of_types_that_clients_process() {
        for (constraints, expected) in [
            ("critical,permitted;DNS:example", None),
            ("critical,permitted;IP:192.0.2.0/255.255.255.0", None),
            (
                "critical,DER:30:07:a0:05:30:03:88:01:2a",
                Some((Encoding::ConstraintType, &[Go, GnuTls][..])),
            ),
            (
                "DER:30:07:a0:05:30:03:88:01:2a",
                Some((Encoding::ConstraintType, &[GnuTls])),
            ),
            (
                "critical,DER:30:06:a0:04:30:02:a4:00",
                Some((Encoding::ConstraintType, &[Go])),
            ),
            ("DER:30:06:a0:04:30:02:a4:00", None),
            ("DER:30:0a:a0:08:30:06:82:01:61:80:01:00", None),
            (
                "DER:30:0a:a0:08:30:06:82:01:61:80:01:01",
                Some((Encoding::ConstraintDistance, &[OpenSsl])),
            ),
            (
                "DER:30:0a:a0:08:30:06:82:01:61:81:01:01",
                Some((Encoding::ConstraintDistance, &[OpenSsl])),
            ),
        ] {
            let [issuer, server] = ["issuer", "server"].map(Entity::new);
            let extensions = [
                ("basicConstraints", "critical,CA:TRUE"),
                ("nameConstraints", constraints),
            ];
            let certificate = issuer.certify(&server, &extensions).to_der().unwrap();
            let expected: Vec<_> = expected
                .map(|(encoding, clients)| (encoding, clients.to_vec()))
                .into_iter()
                .collect();
            assert_eq!(found(&certificate), expected, "{constraints}");
        }
    }
}
