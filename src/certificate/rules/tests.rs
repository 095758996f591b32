//! Tests that each finding has an input that causes it, and that an ordinary chain has no findings.

use openssl::asn1::{Asn1Integer, Asn1Object, Asn1OctetString, Asn1Time};
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::x509::{X509, X509Builder, X509Extension};

use crate::certificate::der_reader::{DerReader, SEQUENCE};
use crate::certificate::test_pair::{self, AT, AUTHORITY, Entity, SERVER, verify};
use crate::certificate::{
    CaMark, ClientFamily, Encoding, Finding, FindingCode as Code, FindingKind as Kind, KeyAlgorithm, NameKind,
    SanError, SerialError, WeakHash,
};
use crate::clock::Timestamp;

const DAY: i64 = 86_400;
const BEGIN: i64 = 1_704_067_200;
const NOW: i64 = AT.millis() / 1000;

/// The findings about a server certificate from `certificate`, followed by the certificate of its issuer.
fn of_server(server: &Entity, certificate: impl FnOnce(&Entity) -> X509) -> Vec<Finding> {
    let [root, issuer] = ["root", "issuer"].map(Entity::new);
    let chain = [certificate(&issuer), root.certify_authority(&issuer)];
    findings(&chain, server)
}

fn findings(chain: &[X509], server: &Entity) -> Vec<Finding> {
    let text: Vec<_> = chain
        .iter()
        .flat_map(|certificate| certificate.to_pem().unwrap())
        .collect();
    let pair = verify(&text, &server.key_pem()).unwrap();
    pair.certificate().findings().to_vec()
}

fn kinds(findings: &[Finding]) -> Vec<Kind> {
    findings.iter().map(|finding| finding.kind.clone()).collect()
}

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(secs)
}

/// The finding about the first subject alternative name.
fn san(error: SanError) -> Kind {
    Kind::SanInvalid {
        position: 1,
        error,
        more: 0,
    }
}

fn unknown(oid: &str, more: usize) -> Kind {
    let oid = Some(oid.to_owned());
    let clients = ClientFamily::ALL.to_vec();
    Kind::CriticalExtensionUnknown { oid, more, clients }
}

fn unreadable(extension: &'static str, clients: &[ClientFamily]) -> Kind {
    let clients = clients.to_vec();
    Kind::ExtensionUnreadable { extension, clients }
}

fn valid(builder: &mut X509Builder, begin: i64, end: i64) {
    let time = |secs| Asn1Time::from_unix(secs).unwrap();
    builder.set_not_before(&time(begin)).unwrap();
    builder.set_not_after(&time(end)).unwrap();
}

#[test]
fn time() {
    let server = Entity::new("server");
    for (begin, end, expected) in [
        (NOW - 300 * DAY, NOW + 60 * DAY, vec![]),
        (NOW - 300 * DAY, NOW + 30 * DAY, vec![]),
        (
            NOW - 300 * DAY,
            NOW + 30 * DAY - 2,
            vec![Kind::ExpiresSoon {
                not_after: at(NOW + 30 * DAY - 2),
                days: 29,
            }],
        ),
        // This certificate is valid for six days. In the first four days it does not expire soon.
        (NOW - 3 * DAY, NOW + 3 * DAY, vec![]),
        (
            NOW - 5 * DAY,
            NOW,
            vec![Kind::ExpiresSoon {
                not_after: at(NOW),
                days: 0,
            }],
        ),
        (NOW - 5 * DAY, NOW - 1, vec![Kind::Expired { not_after: at(NOW - 1) }]),
        (NOW, NOW + 90 * DAY, vec![]),
        (
            NOW + 1,
            NOW + 90 * DAY,
            vec![Kind::NotYetValid {
                not_before: at(NOW + 1),
            }],
        ),
        (NOW - DAY, NOW + 397 * DAY - 1, vec![]),
        (
            NOW - DAY,
            NOW + 397 * DAY,
            vec![Kind::ValidityTooLong { days: 399, limit: 398 }],
        ),
    ] {
        let found = of_server(&server, |issuer| {
            issuer.certify_with(&server, SERVER, |builder| valid(builder, begin, end))
        });
        assert_eq!(kinds(&found), expected, "{begin} {end}");
    }
}

#[test]
fn the_limit_of_validity_is_that_of_its_day() {
    for (day, limit) in [
        ("2012-06-30", None),
        ("2012-07-01", Some(1827)),
        ("2015-04-01", Some(1188)),
        ("2018-02-28", Some(1188)),
        ("2018-03-01", Some(825)),
        ("2020-09-01", Some(398)),
        ("2026-03-14", Some(398)),
        ("2026-03-15", Some(200)),
        ("2027-03-15", Some(100)),
        ("2029-03-15", Some(47)),
    ] {
        let begin = Asn1Time::from_str(&format!("{}000000Z", day.replace('-', ""))).unwrap();
        let since = Asn1Time::from_unix(0).unwrap().diff(&begin).unwrap();
        let begin = Timestamp::from_secs(i64::from(since.days) * DAY);
        assert_eq!(super::validity::limit(begin), limit, "{day}");
    }
}

/// The extensions of a server certificate, with one of them replaced or omitted.
fn with<'a>(name: &str, value: Option<&'a str>) -> Vec<(&'static str, &'a str)> {
    SERVER
        .iter()
        .filter_map(|&(other, old)| match other == name {
            true => Some((other, value?)),
            false => Some((other, old)),
        })
        .collect()
}

fn short(builder: &mut X509Builder) {
    valid(builder, BEGIN, BEGIN + 397 * DAY);
}

#[test]
fn extensions_of_the_server() {
    let server = Entity::new("server");
    for (name, value, expected) in [
        ("basicConstraints", None, vec![]),
        ("basicConstraints", Some("critical,CA:TRUE"), vec![Kind::CaAsLeaf]),
        ("keyUsage", None, vec![]),
        ("keyUsage", Some("keyEncipherment,digitalSignature"), vec![]),
        ("keyUsage", Some("keyEncipherment"), vec![Kind::KeyUsageUnfit]),
        (
            "keyUsage",
            Some("DER:05:00"),
            vec![
                Kind::KeyUsageUnfit,
                unreadable("keyUsage", &[ClientFamily::OpenSsl, ClientFamily::Go]),
            ],
        ),
        ("extendedKeyUsage", None, vec![]),
        ("extendedKeyUsage", Some("clientAuth,serverAuth"), vec![]),
        ("extendedKeyUsage", Some("anyExtendedKeyUsage"), vec![]),
        ("extendedKeyUsage", Some("clientAuth"), vec![Kind::EkuUnfit]),
        (
            "subjectAltName",
            Some("IP:192.0.2.1,IP:2001:db8::1,URI:spiffe://a/b"),
            vec![],
        ),
        ("subjectAltName", None, vec![Kind::SanMissing]),
        (
            "subjectAltName",
            Some("email:a@b.example"),
            vec![Kind::SanWithoutServer],
        ),
        (
            "subjectAltName",
            Some("DNS:a.example,DNS:b_c.example,DNS:*"),
            vec![Kind::SanInvalid {
                position: 2,
                error: SanError::NotDnsName,
                more: 1,
            }],
        ),
        (
            "subjectAltName",
            Some("DNS:192.0.2.1"),
            vec![san(SanError::AddressAsDnsName)],
        ),
        (
            "subjectAltName",
            Some("DER:30:07:87:05:01:02:03:04:05"),
            vec![san(SanError::NotIpAddress)],
        ),
        (
            "subjectAltName",
            Some("DER:30:03:82:01:ff"),
            vec![san(SanError::Unreadable)],
        ),
        ("subjectAltName", Some("DER:05:00"), vec![Kind::SanUnreadable]),
    ] {
        let extensions = with(name, value);
        let found = of_server(&server, |issuer| issuer.certify_with(&server, &extensions, short));
        assert_eq!(kinds(&found), expected, "{name} {value:?}");
    }
}

fn add(builder: &mut X509Builder, oid: &str, is_critical: bool) {
    let oid = Asn1Object::from_str(oid).unwrap();
    let value = Asn1OctetString::new_from_bytes(&[5, 0]).unwrap();
    let extension = X509Extension::new_from_der(&oid, is_critical, &value).unwrap();
    builder.append_extension(extension).unwrap();
}

#[test]
fn many_critical_extensions_are_one_finding() {
    let server = Entity::new("server");
    let found = of_server(&server, |issuer| {
        issuer.certify_with(&server, SERVER, |builder| {
            short(builder);
            for last in 1..=3 {
                add(builder, &format!("1.2.3.{last}"), true);
            }
        })
    });
    assert_eq!(kinds(&found), [unknown("1.2.3.1", 2)]);
}

#[test]
fn critical_extensions() {
    let server = Entity::new("server");
    for (oid, is_critical, expected) in [
        ("1.2.3.4", false, vec![]),
        ("1.2.3.4", true, vec![unknown("1.2.3.4", 0)]),
        ("1.3.6.1.4.1.11129.2.4.3", true, vec![Kind::Precertificate]),
        ("1.3.6.1.5.5.7.1.24", false, vec![]),
        (
            "1.3.6.1.5.5.7.1.24",
            true,
            vec![Kind::CriticalExtensionUnknown {
                oid: Some("1.3.6.1.5.5.7.1.24".to_owned()),
                more: 0,
                clients: vec![ClientFamily::OpenSsl, ClientFamily::Go, ClientFamily::Browsers],
            }],
        ),
    ] {
        let found = of_server(&server, |issuer| {
            issuer.certify_with(&server, SERVER, |builder| {
                short(builder);
                add(builder, oid, is_critical);
            })
        });
        assert_eq!(kinds(&found), expected, "{oid} {is_critical}");
    }
}

#[test]
fn serial_numbers_and_versions() {
    let server = Entity::new("server");
    for (serial, is_negative, expected) in [
        (&[0x7f; 20][..], false, None),
        (&[0x80; 20], false, Some(SerialError::TooLong)),
        (&[0], false, Some(SerialError::Zero)),
        (&[1], true, Some(SerialError::Negative)),
    ] {
        let found = of_server(&server, |issuer| {
            issuer.certify_with(&server, SERVER, |builder| {
                short(builder);
                let mut number = BigNum::from_slice(serial).unwrap();
                number.set_negative(is_negative);
                builder
                    .set_serial_number(&Asn1Integer::from_bn(&number).unwrap())
                    .unwrap();
            })
        });
        let expected: Vec<_> = expected
            .map(|error| Kind::SerialInvalid { error })
            .into_iter()
            .collect();
        assert_eq!(kinds(&found), expected);
    }
    let found = of_server(&server, |issuer| {
        issuer.certify_with(&server, &[], |builder| {
            short(builder);
            builder.set_version(0).unwrap();
        })
    });
    assert_eq!(
        found.iter().map(|finding| finding.code()).collect::<Vec<_>>(),
        [Code::SanMissing, Code::VersionNot3]
    );
}

#[test]
fn keys_and_signatures() {
    let short_rsa = Entity {
        key: test_pair::rsa_key(1024),
        ..Entity::new("server")
    };
    let found = of_server(&short_rsa, |issuer| issuer.certify_server(&short_rsa));
    assert_eq!(
        kinds(&found),
        [
            Kind::KeyTypeUnsupportedByEnvoy {
                algorithm: KeyAlgorithm::Rsa,
                bits: 1024,
                versions: vec!["1.36", "1.40"],
            },
            Kind::RsaKeySmall { bits: 1024 }
        ]
    );
    let edwards = Entity {
        key: PKey::generate_ed448().unwrap(),
        ..Entity::new("server")
    };
    let found = of_server(&edwards, |issuer| issuer.certify_server(&edwards));
    assert_eq!(
        kinds(&found),
        [Kind::KeyTypeUnsupportedByEnvoy {
            algorithm: KeyAlgorithm::Ed448,
            bits: 456,
            versions: vec!["1.36", "1.40"],
        }]
    );

    let edwards = Entity {
        key: PKey::generate_ed25519().unwrap(),
        ..Entity::new("server")
    };
    assert_eq!(of_server(&edwards, |issuer| issuer.certify_server(&edwards)), []);

    let server = Entity::new("server");
    for (digest, hash) in [
        (MessageDigest::sha1(), WeakHash::Sha1),
        (MessageDigest::md5(), WeakHash::Md5),
    ] {
        let issuer = Entity {
            key: test_pair::rsa_key(2048),
            ..Entity::new("issuer")
        };
        let root = Entity::new("root");
        let ordinary = issuer.certify_server(&server);
        let mut builder = test_pair::builder(&server.key);
        builder.set_subject_name(ordinary.subject_name()).unwrap();
        builder.set_issuer_name(ordinary.issuer_name()).unwrap();
        for (name, value) in SERVER {
            #[expect(deprecated, reason = "the one way to write extensions in a line")]
            let extension = X509Extension::new(None, None, name, value).unwrap();
            builder.append_extension(extension).unwrap();
        }
        short(&mut builder);
        builder.sign(&issuer.key, digest).unwrap();
        let found = findings(&[builder.build(), root.certify_authority(&issuer)], &server);
        assert_eq!(kinds(&found), [Kind::SignatureWeak { hash }]);
    }
}

#[test]
fn a_self_signed_server() {
    let server = Entity::new("server");
    let found = findings(&[server.certify_server(&server)], &server);
    assert_eq!(kinds(&found), [Kind::SelfSigned]);
}

/// The findings about an issuer with these extensions that is valid until `end`.
fn of_issuer(extensions: &[(&str, &str)], end: i64) -> Vec<Finding> {
    let [root, issuer, server] = ["root", "issuer", "server"].map(Entity::new);
    let above = root.certify_with(&issuer, extensions, |builder| valid(builder, BEGIN, end));
    findings(&[issuer.certify_server(&server), above], &server)
}

#[test]
fn issuers() {
    let far = BEGIN + 9 * 365 * DAY;
    let not_ca = |lacks| vec![Kind::IssuerNotCa { lacks }];
    let ca = ("basicConstraints", "critical,CA:TRUE");
    for (extensions, end, expected) in [
        (AUTHORITY.to_vec(), far, vec![]),
        (vec![ca], far, vec![]),
        (vec![], far, not_ca(CaMark::BasicConstraints)),
        (
            vec![("basicConstraints", "CA:FALSE")],
            far,
            not_ca(CaMark::BasicConstraints),
        ),
        (
            vec![ca, ("keyUsage", "digitalSignature")],
            far,
            not_ca(CaMark::KeyCertSign),
        ),
        (vec![ca, ("extendedKeyUsage", "serverAuth,clientAuth")], far, vec![]),
        (
            vec![ca, ("extendedKeyUsage", "emailProtection")],
            far,
            vec![Kind::EkuUnfit],
        ),
        (
            AUTHORITY.to_vec(),
            NOW - 1,
            vec![Kind::ChainExpired {
                not_before: at(BEGIN),
                not_after: at(NOW - 1),
            }],
        ),
        (
            AUTHORITY.to_vec(),
            NOW,
            vec![Kind::ChainExpiresFirst { not_after: at(NOW) }],
        ),
        (AUTHORITY.to_vec(), BEGIN + 397 * DAY, vec![]),
    ] {
        assert_eq!(kinds(&of_issuer(&extensions, end)), expected, "{extensions:?} {end}");
    }
}

#[test]
fn the_issuer_that_expires_first_is_named_once() {
    let [root, first, second, server] = ["root", "first", "second", "server"].map(Entity::new);
    let until = |by: &Entity, of: &Entity, end| by.certify_with(of, AUTHORITY, |builder| valid(builder, BEGIN, end));
    let chain = [
        second.certify_server(&server),
        until(&first, &second, NOW + 3 * DAY),
        until(&root, &first, NOW + 2 * DAY),
        until(&root, &root, NOW + DAY),
    ];
    let found = findings(&chain, &server);
    let expected = Kind::ChainExpiresFirst {
        not_after: at(NOW + 2 * DAY),
    };
    assert_eq!(kinds(&found), [expected, Kind::RootDropped]);
    assert_eq!(found[0].subject, "CN=first");
}

#[test]
fn a_root_is_not_asked_what_it_is_for() {
    let [root, issuer, server] = ["root", "issuer", "server"].map(Entity::new);
    let old_root = root.certify_with(&root, &[], |builder| builder.set_version(0).unwrap());
    let chain = [
        issuer.certify_server(&server),
        root.certify_authority(&issuer),
        old_root,
    ];
    assert_eq!(kinds(&findings(&chain, &server)), [Kind::RootDropped]);
}

#[test]
fn path_lengths() {
    let [root, first, second, server] = ["root", "first", "second", "server"].map(Entity::new);
    let ca = |length: &'static str| [("basicConstraints", length)];
    for (length, is_exceeded) in [("CA:TRUE,pathlen:1", false), ("CA:TRUE,pathlen:0", true)] {
        let chain = [
            second.certify_server(&server),
            first.certify(&second, &ca("CA:TRUE,pathlen:0")),
            root.certify(&first, &ca(length)),
        ];
        let found = findings(&chain, &server);
        let expected = [Kind::PathLengthExceeded { limit: 0, below: 1 }];
        assert_eq!(kinds(&found), expected[..usize::from(is_exceeded)], "{length}");
    }
    // A self-issued certificate does not count. The limit of the root also applies.
    let again = Entity::new("first");
    let chain = [
        again.certify_server(&server),
        first.certify(&again, &ca("CA:TRUE")),
        root.certify(&first, &ca("CA:TRUE,pathlen:0")),
        root.certify(&root, &ca("CA:TRUE,pathlen:0")),
    ];
    assert_eq!(
        findings(&chain, &server)
            .iter()
            .map(|finding| finding.code())
            .collect::<Vec<_>>(),
        [Code::PathLengthExceeded, Code::RootDropped]
    );
}

#[test]
fn name_constraints() {
    let ca = ("basicConstraints", "critical,CA:TRUE");
    for (constraints, name) in [
        ("permitted;DNS:example", None),
        ("permitted;DNS:a.example", None),
        ("permitted;DNS:b.example", Some(NameKind::DnsName)),
        ("excluded;DNS:b.example", None),
        ("excluded;DNS:example", Some(NameKind::DnsName)),
        ("permitted;IP:192.0.2.0/255.255.255.0", None),
        ("permitted;dirName:subtree", None),
        ("excluded;dirName:subtree", Some(NameKind::Subject)),
    ] {
        let [root, issuer, server] = ["root", "issuer", "server"].map(Entity::new);
        let value = match constraints.strip_suffix(";dirName:subtree") {
            // CN=server
            Some(kind) => {
                let tag = if kind == "permitted" { "a0" } else { "a1" };
                let name = "a4:13:30:11:31:0f:30:0d:06:03:55:04:03:0c:06:73:65:72:76:65:72";
                format!("DER:30:19:{tag}:17:30:15:{name}")
            }
            None => format!("critical,{constraints}"),
        };
        let above = root.certify(&issuer, &[ca, ("nameConstraints", &value)]);
        let found = findings(&[issuer.certify_server(&server), above], &server);
        let expected: Vec<_> = name
            .map(|name| Kind::NameConstraintViolated { name })
            .into_iter()
            .collect();
        assert_eq!(kinds(&found), expected, "{constraints}");
    }
}

#[test]
fn a_mail_address_of_the_subject_is_constrained_unless_an_alternative_name_is_one() {
    for (constraint, address, san, is_violated) in [
        ("permitted;email:example.com", "a@example.com", "DNS:a.example", false),
        ("permitted;email:example.com", "a@b.example", "DNS:a.example", true),
        ("permitted;email:example.com", "no address", "DNS:a.example", true),
        ("excluded;email:example.com", "a@example.com", "DNS:a.example", true),
        ("excluded;email:example.com", "a@b.example", "DNS:a.example", false),
        (
            "permitted;email:example.com",
            "a@b.example",
            "DNS:a.example,email:a@example.com",
            false,
        ),
    ] {
        let [root, issuer, server] = ["root", "issuer", "server"].map(Entity::new);
        let above = root.certify(
            &issuer,
            &[
                ("basicConstraints", "critical,CA:TRUE"),
                ("nameConstraints", constraint),
            ],
        );
        let leaf = issuer.certify_with(&server, &with("subjectAltName", Some(san)), |builder| {
            short(builder);
            let mut name = openssl::x509::X509Name::builder().unwrap();
            name.append_entry_by_text("emailAddress", address).unwrap();
            builder.set_subject_name(&name.build()).unwrap();
        });
        let expected = [Kind::NameConstraintViolated {
            name: NameKind::MailAddress,
        }];
        let found = findings(&[leaf, above], &server);
        assert_eq!(
            kinds(&found),
            expected[..usize::from(is_violated)],
            "{constraint} {address} {san}"
        );
    }
}

#[test]
fn a_common_name_is_constrained_as_a_dns_name_if_no_alternative_name_is_one() {
    for (common_name, san, is_violated) in [
        ("a.example.com", "IP:192.0.2.1", false),
        ("evil.example", "IP:192.0.2.1", true),
        ("evil.example", "DNS:a.example.com", false),
        ("Our server", "IP:192.0.2.1", false),
        ("192.0.2.1", "IP:192.0.2.1", false),
    ] {
        let [root, issuer, server] = ["root", "issuer", common_name].map(Entity::new);
        let constraints = [
            ("basicConstraints", "critical,CA:TRUE"),
            ("nameConstraints", "permitted;DNS:example.com"),
        ];
        let above = root.certify(&issuer, &constraints);
        let leaf = issuer.certify_with(&server, &with("subjectAltName", Some(san)), short);
        let expected = Kind::NameConstraintViolated {
            name: NameKind::DnsName,
        };
        let found = kinds(&findings(&[leaf, above], &server));
        assert_eq!(found.contains(&expected), is_violated, "{common_name} {san}");
    }
}

#[test]
fn a_common_name_that_looks_like_a_server_is_a_subject_alternative_name() {
    for (common_name, san, is_covered) in [
        ("a.example", "DNS:a.example", true),
        ("A.Example", "DNS:b.example,DNS:a.example", true),
        ("a.example", "DNS:b.example", false),
        ("a.example.com", "DNS:*.example.com", true),
        ("a.b.example.com", "DNS:*.example.com", false),
        ("*.example.com", "DNS:*.example.com", true),
        ("*.example.com", "DNS:a.example.com", false),
        ("192.0.2.1", "IP:192.0.2.1", true),
        ("192.0.2.1", "DNS:a.example", false),
        ("2001:db8::1", "IP:2001:db8:0::1", true),
        ("2001:db8::1", "IP:192.0.2.1", false),
        // These are no names of servers.
        ("Our server", "DNS:a.example", true),
        ("server", "DNS:a.example", true),
        ("Release 1.2", "DNS:a.example", true),
        ("1.2", "DNS:a.example", true),
        ("a@b.example", "DNS:a.example", true),
        ("b\u{fc}cher.example", "DNS:xn--bcher-kva.example", true),
    ] {
        let server = Entity::new(common_name);
        let found = of_server(&server, |issuer| {
            issuer.certify_with(&server, &with("subjectAltName", Some(san)), short)
        });
        let expected = [Kind::NameNotInSan {
            common_name: common_name.to_owned(),
        }];
        assert_eq!(
            kinds(&found),
            expected[usize::from(is_covered)..],
            "{common_name} {san}"
        );
    }
    let server = Entity::new("a.example");
    let found = of_server(&server, |issuer| {
        issuer.certify_with(&server, &with("subjectAltName", None), short)
    });
    assert_eq!(kinds(&found), [Kind::SanMissing]);
}

#[test]
fn must_staple_needs_an_ocsp_responder() {
    let ocsp = ("authorityInfoAccess", "OCSP;URI:http://ocsp.example");
    let issuers = ("authorityInfoAccess", "caIssuers;URI:http://ca.example");
    let status_request = ("tlsfeature", "status_request");
    for (extensions, is_reported) in [
        (&[status_request][..], true),
        (&[status_request, issuers], true),
        (&[status_request, ocsp], false),
        (&[("tlsfeature", "status_request_v2")], false),
        (&[issuers], false),
    ] {
        let server = Entity::new("server");
        let all = [SERVER, extensions].concat();
        let found = of_server(&server, |issuer| issuer.certify_with(&server, &all, short));
        assert_eq!(
            kinds(&found),
            [Kind::MustStapleWithoutOcsp][..usize::from(is_reported)],
            "{extensions:?}"
        );
    }
}

#[test]
fn an_issuer_is_found_although_the_signature_algorithms_differ() {
    let [root, issuer, server] = ["root", "issuer", "server"].map(Entity::new);
    let leaf = issuer.certify_with(&server, SERVER, short).to_der().unwrap();
    let mut fields = DerReader::new(&leaf).values(SEQUENCE).unwrap();
    let tbs = test_pair::sequence(&[fields.value(SEQUENCE).unwrap()]);
    // ecdsa-with-SHA256 and ecdsa-with-SHA384 (RFC 5758 3.2).
    let [sha256, sha384] = ["06082a8648ce3d040302", "06082a8648ce3d040303"].map(|oid| hex::decode(oid).unwrap());
    let place = tbs.windows(sha256.len()).position(|window| window == sha256).unwrap();
    let mut other = tbs.clone();
    other[place..place + sha384.len()].copy_from_slice(&sha384);
    let signed = |tbs: &[u8], outer: &[u8], digest| {
        let mut signer = openssl::sign::Signer::new(digest, &issuer.key).unwrap();
        let signature = signer.sign_oneshot_to_vec(tbs).unwrap();
        let signature = test_pair::der(3, &[&[0], &signature[..]].concat());
        let der = test_pair::sequence(&[tbs, &test_pair::sequence(&[outer]), &signature]);
        [X509::from_der(&der).unwrap(), root.certify_authority(&issuer)]
    };
    let expected = Kind::EncodingRefusedBy {
        encoding: Encoding::SignatureAlgorithmsDiffer,
        clients: ClientFamily::ALL.to_vec(),
    };
    for (tbs, outer, digest, expected) in [
        (&tbs, &sha256, MessageDigest::sha256(), vec![]),
        (&other, &sha256, MessageDigest::sha256(), vec![expected.clone()]),
        (&tbs, &sha384, MessageDigest::sha384(), vec![expected]),
    ] {
        assert_eq!(kinds(&findings(&signed(tbs, outer, digest), &server)), expected);
    }
}
