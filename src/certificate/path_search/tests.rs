//! Tests of the order of the paths, and of the issuers that belong to them.

use std::sync::LazyLock;

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::dsa::Dsa;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::stack::Stack;
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::verify::X509VerifyParam;
use openssl::x509::{X509, X509NameBuilder, X509PurposeId, X509StoreContext};
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::super::given::Given;
use super::super::test_pair::{self, AT, AUTHORITY, Entity, SERVER, der, dn, sequence, verify};
use super::super::{
    Authorities, CertificateError, Chain, FindingCode as Code, FindingKind as Kind, KeyIdentifierPart, PairError,
    Policy, UnsupportedKey, UnverifiedPair, VerifiedPair,
};
use crate::clock::Timestamp;

fn pem(certificates: &[&X509]) -> Vec<u8> {
    let pem = certificates
        .iter()
        .flat_map(|certificate| certificate.to_pem().unwrap());
    pem.collect()
}

/// The stored certificates, as indexes into `given`.
fn stored(given: &[&X509], server: &Entity) -> Vec<usize> {
    let pair = verify(&pem(given), &server.key_pem()).unwrap();
    let given: Vec<_> = given.iter().map(|certificate| certificate.to_der().unwrap()).collect();
    pair.certificate()
        .chain()
        .der()
        .map(|der| given.iter().position(|given| given == der).unwrap())
        .collect()
}

fn until(issuer: &Entity, subject: &Entity, not_after: i64) -> X509 {
    issuer.certify_with(subject, AUTHORITY, |builder| {
        builder.set_not_after(&Asn1Time::from_unix(not_after).unwrap()).unwrap();
    })
}

const YEAR_2030: i64 = 1_893_456_000;

#[test]
fn the_shortest_path_comes_first_and_then_what_else_leads_somewhere() {
    let [server, issuer, root, old, older] = ["server", "issuer", "root", "old", "older"].map(Entity::new);
    let leaf = issuer.certify_server(&server);
    let above = root.certify_authority(&issuer);
    let self_signed = root.certify_authority(&root);
    let crossed = old.certify_authority(&root);
    let above_crossed = older.certify_authority(&old);
    assert_eq!(
        stored(&[&above_crossed, &crossed, &self_signed, &above, &leaf], &server),
        [4, 3, 1, 0],
        "the way to the root is shorter than that to the old one"
    );
    assert_eq!(stored(&[&crossed, &above, &leaf], &server), [2, 1, 0]);
}

#[test]
fn between_equals_the_later_end_wins() {
    let [server, issuer, one, two] = ["server", "issuer", "one", "two"].map(Entity::new);
    let leaf = issuer.certify_server(&server);
    let (early, late) = (until(&one, &issuer, YEAR_2030), until(&two, &issuer, YEAR_2030 + 1));
    assert_eq!(stored(&[&leaf, &early, &late], &server), [0, 2, 1]);
    let (mut first, mut second) = (until(&one, &issuer, YEAR_2030), until(&two, &issuer, YEAR_2030));
    if first.to_der().unwrap() > second.to_der().unwrap() {
        std::mem::swap(&mut first, &mut second);
    }
    assert_eq!(stored(&[&second, &first, &leaf], &server), [2, 1, 0]);
}

#[test]
fn a_circle_ends() {
    let [server, a, b] = ["server", "a", "b"].map(Entity::new);
    let leaf = a.certify_server(&server);
    let (a_by_b, b_by_a) = (b.certify_authority(&a), a.certify_authority(&b));
    assert_eq!(stored(&[&b_by_a, &leaf, &a_by_b], &server), [1, 2, 0]);
    let self_signed = b.certify_authority(&b);
    assert_eq!(
        stored(&[&b_by_a, &leaf, &a_by_b, &self_signed], &server),
        [1, 2, 0],
        "the root is dropped"
    );
}

#[test]
fn a_forged_issuer_of_the_right_name_is_unrelated() {
    let [server, issuer, root] = ["server", "issuer", "root"].map(Entity::new);
    let leaf = issuer.certify_server(&server);
    let forged = root.certify_authority(&Entity::new("issuer"));
    let error = verify(&pem(&[&leaf, &forged]), &server.key_pem()).unwrap_err();
    assert!(matches!(
        error.certificate[..],
        [CertificateError::Unrelated { index: 2, .. }]
    ));
}

/// The pair of the leaf, and its errors.
fn checked(given: &[&X509], server: &Entity) -> Result<VerifiedPair, PairError> {
    verify(&pem(given), &server.key_pem())
}

fn kinds(pair: &VerifiedPair) -> Vec<Kind> {
    let findings = pair.certificate().findings().iter();
    findings.map(|finding| finding.kind.clone()).collect()
}

/// The findings about the chain.
fn about_the_chain(pair: &VerifiedPair) -> Vec<Kind> {
    let codes = [
        Code::ChainIncomplete,
        Code::ChainExpired,
        Code::ExpiredDropped,
        Code::ChainExpiresFirst,
        Code::IssuerUnverified,
        Code::IdentifierContradicts,
    ];
    let mut kinds = kinds(pair);
    kinds.retain(|kind| codes.contains(&kind.code()));
    kinds
}

/// A reason for which clients refuse an issuer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Flaw {
    Expired,
    NotYetValid,
    NotCa,
    NoCertSign,
    ClientsOnly,
    PathLength,
    NameConstraints,
    UnknownExtension,
    Sha1,
}

const FLAWS: [Flaw; 9] = [
    Flaw::Expired,
    Flaw::NotYetValid,
    Flaw::NotCa,
    Flaw::NoCertSign,
    Flaw::ClientsOnly,
    Flaw::PathLength,
    Flaw::NameConstraints,
    Flaw::UnknownExtension,
    Flaw::Sha1,
];

const NOW: i64 = AT.millis() / 1000;
const DAY: i64 = 86_400;

/// A CA certificate with this flaw. A path length is only a flaw of an issuer above another.
fn certify(by: &Entity, of: &Entity, flaw: Option<Flaw>, not_after: i64) -> X509 {
    let more: &[(&str, &str)] = match flaw {
        Some(Flaw::ClientsOnly) => &[("extendedKeyUsage", "clientAuth")],
        Some(Flaw::NameConstraints) => &[("nameConstraints", "critical,excluded;DNS:a.example")],
        Some(Flaw::UnknownExtension) => &[("1.2.3.4", "critical,DER:05:00")],
        _ => &[],
    };
    let basic: &[(&str, &str)] = match flaw {
        Some(Flaw::NotCa) => &[("basicConstraints", "critical,CA:FALSE")],
        Some(Flaw::NoCertSign) => &[
            ("basicConstraints", "critical,CA:TRUE"),
            ("keyUsage", "critical,cRLSign"),
        ],
        Some(Flaw::PathLength) => &[
            ("basicConstraints", "critical,CA:TRUE,pathlen:0"),
            ("keyUsage", "critical,keyCertSign"),
        ],
        _ => AUTHORITY,
    };
    let extensions = [basic, more].concat();
    if flaw == Some(Flaw::Sha1) {
        return by.certify_over(MessageDigest::sha1(), of, &extensions);
    }
    by.certify_with(of, &extensions, |builder| {
        let time = |secs| Asn1Time::from_unix(secs).unwrap();
        let not_after = if flaw == Some(Flaw::Expired) {
            NOW - DAY
        } else {
            not_after
        };
        builder.set_not_after(&time(not_after)).unwrap();
        if flaw == Some(Flaw::NotYetValid) {
            builder.set_not_before(&time(NOW + DAY)).unwrap();
        }
    })
}

/// Whether OpenSSL accepts the leaf at [`AT`] for `a.example`'s server at security level 2, with these issuers from the server and
/// these trusted roots.
fn is_accepted(leaf: &X509, served: &[&X509], roots: &[&X509]) -> bool {
    let mut store = X509StoreBuilder::new().unwrap();
    for root in roots {
        store.add_cert((*root).clone()).unwrap();
    }
    let mut param = X509VerifyParam::new().unwrap();
    param.set_time(NOW);
    param.set_purpose(X509PurposeId::SSL_SERVER).unwrap();
    param.set_auth_level(2);
    store.set_param(&param).unwrap();
    let mut chain = Stack::new().unwrap();
    for issuer in served {
        chain.push((*issuer).clone()).unwrap();
    }
    let mut context = X509StoreContext::new().unwrap();
    context
        .init(&store.build(), leaf, &chain, |context| context.verify_cert())
        .unwrap()
}

/// A path with a flawed issuer that is shorter than the good path. The keys of the entities are given by their names.
struct TwoPaths {
    server: Entity,
    leaf: X509,
    good: [X509; 3],
    flawed: [X509; 2],
    roots: [X509; 2],
}

impl TwoPaths {
    fn with(flaw: Option<Flaw>, flawed_key: PKey<Private>) -> Self {
        let [server, issuer, b, c, root, other_root] =
            ["server", "issuer", "b", "c", "root", "other root"].map(Entity::new);
        let a = Entity {
            key: flawed_key,
            ..Entity::new("a")
        };
        Self {
            leaf: issuer.certify_server(&server),
            good: [
                b.certify_authority(&issuer),
                c.certify_authority(&b),
                root.certify_authority(&c),
            ],
            flawed: [
                a.certify_authority(&issuer),
                certify(&other_root, &a, flaw, 2_019_686_400),
            ],
            roots: [root.certify_authority(&root), other_root.certify_authority(&other_root)],
            server,
        }
    }

    /// Whatever the order, the good path is served first, and then what has not expired of the flawed one.
    fn check(&self, what: &str, is_expired: bool) {
        let roots: Vec<_> = self.roots.iter().collect();
        assert!(is_accepted(&self.leaf, &self.good.each_ref(), &roots), "{what}");
        assert!(!is_accepted(&self.leaf, &self.flawed.each_ref(), &roots), "{what}");

        let [first, second, third] = &self.good;
        let [below, flawed] = &self.flawed;
        let all = [&self.leaf, first, second, third, below, flawed];
        let with_roots = [&all[..], &roots].concat();
        for given in [&all[..], &with_roots] {
            let mut given = given.to_vec();
            for _ in 0..2 {
                for _ in 0..given.len() {
                    given.rotate_left(1);
                    let pair = checked(&given, &self.server).unwrap();
                    let chain: Vec<_> = pair.certificate().chain().der().map(<[u8]>::to_vec).collect();
                    let served = if is_expired { &all[..5] } else { &all };
                    let expected: Vec<_> = served.iter().map(|certificate| certificate.to_der().unwrap()).collect();
                    assert_eq!(chain, expected, "{what}");
                    let has_dropped = kinds(&pair).iter().any(|kind| kind.code() == Code::ExpiredDropped);
                    assert_eq!(has_dropped, is_expired, "{what}");
                }
                given.reverse();
            }
        }
    }
}

#[test]
fn a_path_that_clients_refuse_never_comes_first() {
    for flaw in FLAWS {
        let paths = TwoPaths::with(Some(flaw), test_pair::ec_key(Nid::X9_62_PRIME256V1));
        paths.check(&format!("{flaw:?}"), flaw == Flaw::Expired);
    }
    TwoPaths::with(None, test_pair::rsa_key(1024)).check("RSA of 1024 bits", false);
}

#[test]
fn without_a_flaw_the_shorter_path_comes_first() {
    let TwoPaths {
        server,
        leaf,
        good: [first, second, third],
        flawed: [below, above],
        ..
    } = TwoPaths::with(None, test_pair::ec_key(Nid::X9_62_PRIME256V1));
    assert_eq!(
        stored(&[&leaf, &first, &second, &third, &below, &above], &server),
        [0, 4, 5, 1, 2, 3]
    );
}

#[test]
fn a_given_root_comes_before_a_missing_issuer() {
    let [server, issuer, a, b, root] = ["server", "issuer", "a", "b", "root"].map(Entity::new);
    let leaf = issuer.certify_server(&server);
    let (in_the_open, below) = (a.certify_authority(&issuer), b.certify_authority(&issuer));
    let (above, top) = (root.certify_authority(&b), root.certify_authority(&root));
    assert_eq!(
        stored(&[&leaf, &in_the_open, &below, &above, &top], &server),
        [0, 2, 3, 1]
    );
    assert_eq!(stored(&[&leaf, &in_the_open, &below, &above], &server), [0, 1, 2, 3]);
}

#[test]
fn the_latest_earliest_end_wins() {
    let [server, issuer, one, two, root] = ["server", "issuer", "one", "two", "root"].map(Entity::new);
    let leaf = issuer.certify_server(&server);
    let (late, early_above) = (until(&one, &issuer, YEAR_2030 + 9), until(&root, &one, YEAR_2030));
    let (early, late_above) = (until(&two, &issuer, YEAR_2030 + 1), until(&root, &two, YEAR_2030 + 9));
    assert_eq!(
        stored(&[&leaf, &late, &early_above, &early, &late_above], &server),
        [0, 3, 4, 1, 2]
    );
}

#[test]
fn an_expired_twin_is_dropped_only_beside_a_valid_path() {
    let [server, issuer, root] = ["server", "issuer", "root"].map(Entity::new);
    let leaf = issuer.certify_server(&server);
    let (old, new) = (until(&root, &issuer, NOW - 1), root.certify_authority(&issuer));
    let expired = Kind::ChainExpired {
        not_before: Timestamp::from_secs(1_704_067_200),
        not_after: Timestamp::from_secs(NOW - 1),
    };
    let dropped = Kind::ExpiredDropped {
        not_after: Timestamp::from_secs(NOW - 1),
    };
    assert_eq!(stored(&[&leaf, &old, &new], &server), [0, 2]);
    assert_eq!(
        about_the_chain(&checked(&[&leaf, &old, &new], &server).unwrap()),
        [dropped]
    );
    let older = until(&root, &issuer, NOW - 2);
    assert_eq!(stored(&[&leaf, &older, &old], &server), [0, 2, 1], "nothing is valid");
    assert_eq!(about_the_chain(&checked(&[&leaf, &old], &server).unwrap()), [expired]);
}

#[test]
fn a_path_to_an_expired_root_comes_last() {
    let [server, issuer, root, other] = ["server", "issuer", "root", "other"].map(Entity::new);
    let leaf = issuer.certify_server(&server);
    let (below, expired) = (root.certify_authority(&issuer), until(&root, &root, NOW - 1));
    let crossed = other.certify_authority(&root);
    let given = [&leaf, &below, &expired, &crossed];
    assert_eq!(stored(&given, &server), [0, 1, 3]);
    assert_eq!(about_the_chain(&checked(&given, &server).unwrap()), []);
    let alone = checked(&given[..3], &server).unwrap();
    assert_eq!(
        about_the_chain(&alone).iter().map(Kind::code).collect::<Vec<_>>(),
        [Code::ChainExpired]
    );
}

/// An authority key identifier (RFC 5280 4.2.1.1) of these parts, in OpenSSL's configuration syntax.
fn authority_key_identifier(parts: &[u8]) -> String {
    let hex: Vec<_> = sequence(&[parts]).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("DER:{}", hex.join(":"))
}

/// `authorityCertIssuer` with this common name of this string type, and `authorityCertSerialNumber`.
fn issuer_and_serial(tag: u8, name: &str, serial: u8) -> Vec<u8> {
    let name = dn(&[vec![("0603550403", der(tag, name.as_bytes()))]]);
    [der(0xa1, &der(0xa4, &name)), der(0x82, &[serial])].concat()
}

#[test]
fn an_identifier_that_contradicts_a_right_signature_is_a_finding() {
    let [server, issuer, root] = ["server", "issuer", "root"].map(Entity::new);
    let above = root.certify(&issuer, &[AUTHORITY, &[("subjectKeyIdentifier", "01")]].concat());
    let top = root.certify_authority(&root);
    for (parts, contradiction) in [
        (der(0x80, &[1]), None),
        (der(0x80, &[2]), Some(KeyIdentifierPart::KeyIdentifier)),
        (issuer_and_serial(0x0c, "root", 1), None),
        // RFC 5280 7.1: case, spaces and string types do not matter.
        (issuer_and_serial(0x13, "  ROOT ", 1), None),
        (
            issuer_and_serial(0x0c, "root", 2),
            Some(KeyIdentifierPart::IssuerAndSerial),
        ),
        (
            issuer_and_serial(0x0c, "other", 1),
            Some(KeyIdentifierPart::IssuerAndSerial),
        ),
    ] {
        let identifier = authority_key_identifier(&parts);
        let leaf = issuer.certify(&server, &[SERVER, &[("2.5.29.35", &identifier)]].concat());
        let pair = checked(&[&leaf, &above, &top], &server).unwrap();
        let expected: Vec<_> = contradiction
            .map(|part| Kind::IdentifierContradicts { part })
            .into_iter()
            .collect();
        assert_eq!(about_the_chain(&pair), expected, "{identifier}");
        assert_eq!(
            is_accepted(&leaf, &[&above], &[&top]),
            expected.is_empty(),
            "{identifier}"
        );
    }
}

#[test]
fn a_path_without_contradiction_is_preferred() {
    let [server, issuer, root] = ["server", "issuer", "root"].map(Entity::new);
    let with = |id: &str, not_after: i64| {
        let extensions = [AUTHORITY, &[("subjectKeyIdentifier", id)]].concat();
        root.certify_with(&issuer, &extensions, |builder| {
            builder.set_not_after(&Asn1Time::from_unix(not_after).unwrap()).unwrap();
        })
    };
    let identifier = authority_key_identifier(&der(0x80, &[1]));
    let leaf = issuer.certify(&server, &[SERVER, &[("2.5.29.35", &identifier)]].concat());
    let (fitting, other) = (with("01", YEAR_2030), with("02", YEAR_2030 + 1));
    let top = root.certify_authority(&root);
    let given = [&leaf, &other, &fitting, &top];
    assert_eq!(stored(&given, &server), [0, 2, 1]);
    let pair = checked(&given, &server).unwrap();
    assert_eq!(
        about_the_chain(&pair),
        [Kind::ChainExpiresFirst {
            not_after: Timestamp::from_secs(YEAR_2030)
        }],
        "the leaf of this test ends in 2034"
    );
}

#[test]
fn a_self_signed_root_with_a_contradicting_identifier_is_a_root() {
    let [server, root] = ["server", "root"].map(Entity::new);
    let identifier = authority_key_identifier(&der(0x80, &[2]));
    let odd = [("subjectKeyIdentifier", "01"), ("2.5.29.35", &identifier)];
    let top = root.certify(&root, &[AUTHORITY, &odd].concat());
    assert_eq!(stored(&[&root.certify_server(&server), &top], &server), [0]);
}

#[test]
fn an_identifier_still_excludes_an_issuer_whose_signature_proves_nothing() {
    let [server, issuer, root] = ["server", "issuer", "root"].map(Entity::new);
    let identifier = authority_key_identifier(&der(0x80, &[2]));
    let identified = [AUTHORITY, &[("subjectKeyIdentifier", "01")]].concat();
    for forged in [
        Entity::new("issuer"),
        Entity {
            key: test_pair::ec_key(Nid::BRAINPOOL_P256R1),
            ..Entity::new("issuer")
        },
    ] {
        let leaf = issuer.certify(&server, &[SERVER, &[("2.5.29.35", &identifier)]].concat());
        let error = checked(&[&leaf, &root.certify(&forged, &identified)], &server).unwrap_err();
        let [
            CertificateError::Unrelated {
                has_name_of_issuer: true,
                ..
            },
        ] = error.certificate[..]
        else {
            panic!("{error:?}");
        };
        let is_missing = |kind: &Kind| matches!(kind, Kind::ChainIncomplete { .. });
        let mut found = error.findings.iter();
        assert!(!found.any(|finding| is_missing(&finding.kind)), "the issuer was given");
    }
}

#[test]
fn an_unreadable_issuer_is_not_missing() {
    let [server, issuer, root] = ["server", "issuer", "root"].map(Entity::new);
    let (leaf, above) = (issuer.certify_server(&server), root.certify_authority(&issuer));
    let broken = [&above.to_der().unwrap()[..], &[0]].concat();
    let text = [pem(&[&leaf]), test_pair::pem("CERTIFICATE", &broken)].concat();
    let error = verify(&text, &server.key_pem()).unwrap_err();
    assert!(matches!(error.certificate[..], [CertificateError::Malformed { .. }]));
    assert_eq!(error.findings, []);
}

/// Keys of issuers whose signatures are not verified, with their kinds. The first key makes signatures of the same type.
fn unverified_keys() -> Vec<(PKey<Private>, PKey<openssl::pkey::Public>, UnsupportedKey)> {
    let public = |key: PKey<Private>| PKey::public_key_from_der(&key.public_key_to_der().unwrap()).unwrap();
    let rsa = |bits: i32, exponent: &[u8]| {
        let mut modulus = BigNum::new().unwrap();
        modulus.set_bit(bits - 1).unwrap();
        modulus.add_word(1).unwrap();
        let exponent = BigNum::from_slice(exponent).unwrap();
        PKey::from_rsa(Rsa::from_public_components(modulus, exponent).unwrap()).unwrap()
    };
    let curve = |name: &'static str| UnsupportedKey::Curve { name: name.into() };
    let ec = || test_pair::ec_key(Nid::X9_62_PRIME256V1);
    let dsa = PKey::from_dsa(Dsa::generate(1024).unwrap()).unwrap();
    vec![
        (
            ec(),
            public(test_pair::ec_key(Nid::BRAINPOOL_P256R1)),
            curve("brainpoolP256r1"),
        ),
        (ec(), public(test_pair::ec_key(Nid::SECP224R1)), curve("P-224")),
        (
            dsa.clone(),
            public(dsa),
            UnsupportedKey::Algorithm { name: "DSA".into() },
        ),
        (
            test_pair::rsa_key(2048),
            rsa(8193, &[1, 0, 1]),
            UnsupportedKey::RsaSize { bits: 8193 },
        ),
        (
            test_pair::rsa_key(2048),
            rsa(2048, &[1, 0, 0, 0, 0, 0, 0, 0, 1]),
            UnsupportedKey::RsaExponent,
        ),
    ]
}

#[test]
fn an_issuer_whose_signature_is_not_verified_stays_in_the_chain() {
    let [server, issuer, far, two, three, four] = ["server", "issuer", "far", "two", "three", "four"].map(Entity::new);
    for (signer, key, kind) in unverified_keys() {
        let root = Entity {
            key: signer,
            ..Entity::new("root")
        };
        let with_key = |by: &Entity| by.certify_with(&root, AUTHORITY, |builder| builder.set_pubkey(&key).unwrap());
        let leaf = root.certify_server(&server);
        let above = with_key(&far);
        assert_eq!(stored(&[&above, &leaf], &server), [1, 0], "{kind:?}");
        let unverified = [Kind::IssuerUnverified { key: kind.clone() }];
        assert_eq!(
            about_the_chain(&checked(&[&leaf, &above], &server).unwrap()),
            unverified
        );

        // A root of this kind.
        let leaf = issuer.certify_server(&server);
        let (below, top) = (root.certify_authority(&issuer), with_key(&root));
        let given = [&leaf, &below, &top];
        assert_eq!(stored(&given, &server), [0, 1]);
        assert_eq!(about_the_chain(&checked(&given, &server).unwrap()), unverified);

        // A proved path comes first, even if it is longer.
        let proved = [(&two, &issuer), (&three, &two), (&four, &three)].map(|(by, of)| by.certify_authority(of));
        let [first, second, third] = proved.each_ref();
        assert_eq!(
            stored(&[&leaf, &below, &above, first, second, third], &server),
            [0, 3, 4, 5, 1, 2],
            "{kind:?}"
        );
    }
}

#[test]
fn a_path_that_clients_refuse_comes_after_one_that_is_not_verified() {
    let [server, sub, old] = ["server", "sub", "old"].map(Entity::new);
    let new = Entity {
        key: test_pair::ec_key(Nid::BRAINPOOL_P256R1),
        ..Entity::new("new")
    };
    let leaf = sub.certify_server(&server);
    let (expired, old_root) = (until(&old, &sub, NOW - 1), old.certify_authority(&old));
    let (valid, new_root) = (new.certify_authority(&sub), new.certify_authority(&new));
    let given = [&leaf, &expired, &old_root, &valid, &new_root];
    assert_eq!(stored(&given, &server), [0, 3]);
    let name = "brainpoolP256r1".into();
    assert_eq!(
        about_the_chain(&checked(&given, &server).unwrap()),
        [
            Kind::IssuerUnverified {
                key: UnsupportedKey::Curve { name }
            },
            Kind::ExpiredDropped {
                not_after: Timestamp::from_secs(NOW - 1)
            },
        ]
    );
}

#[test]
fn an_issuer_that_cannot_have_signed_is_unrelated() {
    let [server, far] = ["server", "far"].map(Entity::new);
    let with_name = |name: &str, key| Entity {
        key,
        ..Entity::new(name)
    };
    let issuer = with_name("issuer", test_pair::rsa_key(2048));
    let other = with_name("issuer", test_pair::ec_key(Nid::BRAINPOOL_P256R1));
    let (sound, brainpool) = (far.certify_authority(&issuer), far.certify_authority(&other));
    let unrelated = |given: &[&X509], place: usize| {
        let error = checked(given, &server).unwrap_err();
        assert!(
            matches!(error.certificate[..], [CertificateError::Unrelated { index, .. }] if index == place + 1),
            "{error:?}"
        );
    };
    // The signature is that of an RSA key.
    let leaf = issuer.certify_server(&server);
    unrelated(&[&leaf, &brainpool], 1);
    unrelated(&[&leaf, &brainpool, &sound], 1);
    let self_signed = other.certify_authority(&other);
    unrelated(&[&leaf, &self_signed, &sound], 1);

    // The signature may be that of a brainpool key, but the key that signed is given.
    let issuer = Entity::new("issuer");
    let (leaf, sound) = (issuer.certify_server(&server), far.certify_authority(&issuer));
    assert_eq!(stored(&[&leaf, &brainpool], &server), [0, 1], "it may have signed");
    unrelated(&[&leaf, &brainpool, &sound], 1);
    // The same, if the identifier contradicts the key that signed.
    let identifier = authority_key_identifier(&der(0x80, &[2]));
    let leaf = issuer.certify(&server, &[SERVER, &[("2.5.29.35", &identifier)]].concat());
    let sound = far.certify(&issuer, &[AUTHORITY, &[("subjectKeyIdentifier", "01")]].concat());
    assert_eq!(stored(&[&leaf, &brainpool], &server), [0, 1], "it may have signed");
    unrelated(&[&leaf, &brainpool, &sound], 1);

    // A new key of a CA, certified by its old key, is no root.
    let new = with_name("issuer", test_pair::ec_key(Nid::BRAINPOOL_P256R1));
    let below = new.certify_authority(&far);
    let (crossed, old) = (issuer.certify_authority(&new), issuer.certify_authority(&issuer));
    let leaf = far.certify_server(&server);
    assert_eq!(stored(&[&leaf, &below, &crossed, &old], &server), [0, 1, 2]);
    assert_eq!(stored(&[&leaf, &below, &new.certify_authority(&new)], &server), [0, 1]);
}

#[test]
fn signatures_that_run_out_for_contradicted_issuers_refuse_nothing_else() {
    let [server, issuer] = ["server", "issuer"].map(Entity::new);
    let with_identifier = |by: &Entity, of: &Entity, identifier: u8| {
        let identifier = authority_key_identifier(&der(0x80, &[identifier]));
        by.certify(of, &[AUTHORITY, &[("2.5.29.35", &identifier)]].concat())
    };
    let leaf = issuer.certify_server(&server);
    // Its issuer is missing.
    let open = with_identifier(&Entity::new("root"), &issuer, 9);
    let roots = [1, 2, 3].map(|number| {
        let root = Entity {
            key: test_pair::ec_key(Nid::SECP521R1),
            ..Entity::new("root")
        };
        let identified = format!("{number:02}");
        let extensions = [AUTHORITY, &[("subjectKeyIdentifier", &identified[..])]].concat();
        (
            with_identifier(&root, &issuer, number),
            root.certify(&root, &extensions),
        )
    });
    // Each P-521 signature counts as five. There are six, and three more if those of the contradicted roots are tried.
    let [first, second, third] = roots.each_ref();
    let given = [
        &leaf, &open, &first.0, &first.1, &second.0, &second.1, &third.0, &third.1,
    ];
    let expected = checked(&given, &server).unwrap();
    assert_eq!(expected.certificate().chain().der().count(), 5);
    let mut rotated = given;
    for _ in &given {
        rotated.rotate_left(1);
        let pair = checked(&rotated, &server).unwrap();
        assert_eq!(pair.certificate().chain(), expected.certificate().chain());
    }
    // One more certificate may belong to the chain, or not.
    let other = with_identifier(&Entity::new("root"), &Entity::new("root"), 8);
    let error = checked(&[&given[..], &[&other]].concat(), &server).unwrap_err();
    assert_eq!(error.certificate, [CertificateError::TooComplex]);
}

#[test]
fn an_issuer_without_a_name_is_found_by_its_signature() {
    let [server, issuer, root] = ["server", "issuer", "root"].map(Entity::new);
    let nameless = X509NameBuilder::new().unwrap().build();
    let leaf = issuer.certify_with(&server, SERVER, |builder| builder.set_issuer_name(&nameless).unwrap());
    assert_eq!(stored(&[&root.certify_authority(&issuer), &leaf], &server), [1, 0]);
    let error = checked(&[&leaf, &root.certify_authority(&Entity::new("issuer"))], &server).unwrap_err();
    assert!(matches!(error.certificate[..], [CertificateError::Unrelated { .. }]));
}

#[test]
fn a_certificate_that_names_two_signature_algorithms_keeps_its_issuer() {
    let [server, issuer, root] = ["server", "issuer", "root"].map(Entity::new);
    let (leaf, above) = (issuer.certify_server(&server), root.certify_authority(&issuer));
    let bytes = leaf.to_der().unwrap();
    // ecdsa-with-SHA256 becomes ecdsa-with-SHA384 in the outer identifier, which is the last.
    let algorithm = hex::decode("06082a8648ce3d040302").unwrap();
    let at = (0..bytes.len())
        .rfind(|&at| bytes[at..].starts_with(&algorithm))
        .unwrap();
    let mut odd = bytes.clone();
    odd[at + algorithm.len() - 1] = 3;
    let odd = X509::from_der(&odd).unwrap();
    assert_eq!(stored(&[&above, &odd], &server), [1, 0]);
}

#[test]
fn a_forgeable_link_counts_less_than_any_other_path() {
    let [server, issuer, two, far] = ["server", "issuer", "two", "far"].map(Entity::new);
    let one = Entity {
        key: test_pair::rsa_key(2048),
        ..Entity::new("one")
    };
    let leaf = issuer.certify_server(&server);
    let forgeable = one.certify_over(MessageDigest::md5(), &issuer, AUTHORITY);
    let (sound, above) = (two.certify_authority(&issuer), far.certify_authority(&two));
    assert_eq!(stored(&[&leaf, &forgeable, &sound, &above], &server), [0, 2, 3, 1]);
    assert_eq!(stored(&[&forgeable, &leaf], &server), [1, 0], "it is read");
    let (not_ca, expired) = (two.certify(&issuer, &[]), until(&far, &two, NOW - 1));
    assert_eq!(
        stored(&[&leaf, &forgeable, &not_ca, &expired], &server),
        [0, 2, 3, 1],
        "clients refuse both"
    );
}

#[test]
fn more_than_forty_signatures_are_too_many() {
    let server = Entity::new("server");
    let issuers: Vec<_> = (0..19).map(|_| Entity::new("issuer")).collect();
    let leaf = issuers[0].certify_server(&server);
    let all: Vec<_> = issuers
        .iter()
        .map(|issuer| issuers[0].certify_authority(issuer))
        .collect();
    let text = pem(&[&[&leaf][..], &all.iter().collect::<Vec<_>>()].concat());
    // 19 signatures for the leaf, and at most 19 for its issuer, which is self-signed.
    assert!(matches!(
        verify(&text, &server.key_pem()).unwrap_err().certificate[..],
        [CertificateError::Unrelated { .. }, ..]
    ));
    let chain: Vec<_> = (0..19)
        .map(|i| issuers[(i + 1) % 19].certify_authority(&issuers[i]))
        .collect();
    let text = pem(&[&[&leaf][..], &chain.iter().collect::<Vec<_>>()].concat());
    assert_eq!(
        verify(&text, &server.key_pem()).unwrap_err().certificate,
        [CertificateError::TooComplex]
    );
}

/// A line of CAs. Each CA may be certified by any CA above it and by itself.
fn graphs() -> impl Strategy<Value = (Vec<(usize, usize)>, Vec<Index>)> {
    let links = (2_usize..6).prop_flat_map(|authorities| {
        let spine = (1..authorities).map(|above| (above, above - 1)).collect::<Vec<_>>();
        let more = (0..authorities).flat_map(move |of| (of..authorities).map(move |by| (by, of)));
        let more = proptest::sample::subsequence(more.collect::<Vec<_>>(), 0..=3);
        (Just(spine), more).prop_map(|(mut links, more)| {
            links.extend(more);
            links.sort_unstable();
            links.dedup();
            links
        })
    });
    (links, proptest::collection::vec(any::<Index>(), 40))
}

/// The 1024-bit key of one authority.
static SMALL_KEY: LazyLock<PKey<Private>> = LazyLock::new(|| test_pair::rsa_key(1024));

/// The paths of links that lead from this authority upwards, also those that stop early.
fn upwards(links: &[(usize, usize)], from: usize, path: &[usize], found: &mut Vec<Vec<usize>>) {
    found.push(path.to_vec());
    for (index, &(by, of)) in links.iter().enumerate() {
        let was_there = path.iter().any(|&link| links[link].1 == by);
        if of == from && by != of && !was_there {
            upwards(links, by, &[path, &[index]].concat(), found);
        }
    }
}

fn flaws() -> impl Strategy<Value = Vec<Option<Flaw>>> {
    proptest::collection::vec(proptest::option::weighted(0.3, select(FLAWS.to_vec())), 12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn openssl_accepts_the_served_chain_if_it_accepts_any((links, order) in graphs(), flaws in flaws(), small in 0_usize..12) {
        let server = Entity::new("server");
        let mut authorities: Vec<_> = (0..6).map(|i| Entity::new(format!("authority {i}"))).collect();
        if let Some(small) = authorities.get_mut(small) {
            small.key = SMALL_KEY.clone();
        }
        let leaf = authorities[0].certify_server(&server);
        // The roots have no flaws of their own: OpenSSL stops at the first trusted certificate.
        let issuers: Vec<_> = links.iter().zip(&flaws).enumerate().map(|(i, (&(by, of), flaw))| {
            let flaw = flaw.filter(|_| by != of);
            certify(&authorities[by], &authorities[of], flaw, YEAR_2030 + i as i64)
        }).collect();
        let roots: Vec<_> = issuers.iter().zip(&links).filter(|(_, (by, of))| by == of).map(|(root, _)| root).collect();
        let mut paths = Vec::new();
        upwards(&links, 0, &[], &mut paths);
        let is_one_accepted = paths.iter().any(|path| {
            let served: Vec<_> = path.iter().map(|&link| &issuers[link]).collect();
            is_accepted(&leaf, &served, &roots)
        });

        let mut given: Vec<_> = std::iter::once(&leaf).chain(&issuers).collect();
        for place in (1..given.len()).rev() {
            given.swap(place, order[place].index(place + 1));
        }
        let pair = checked(&given, &server).unwrap();
        let served: Vec<_> = pair.certificate().chain().der().skip(1).map(|der| X509::from_der(der).unwrap()).collect();
        let is_accepted = is_accepted(&leaf, &served.iter().collect::<Vec<_>>(), &roots);
        prop_assert_eq!(is_accepted, is_one_accepted, "{:?} {:?}", links, flaws);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_order_gives_the_same_chain((links, order) in graphs(), flaws in flaws(), repeated in any::<Index>(), end in select(vec![0, 1])) {
        let server = Entity::new("server");
        let authorities: Vec<_> = (0..6).map(|i| Entity::new(format!("authority {i}"))).collect();
        let mut all = vec![authorities[0].certify_server(&server)];
        // With `end` 0 all certificates expire at the same time, with `end` 1 they do not.
        all.extend(links.iter().zip(&flaws).enumerate().map(|(i, (&(by, of), flaw))| {
            certify(&authorities[by], &authorities[of], *flaw, YEAR_2030 + end * i as i64)
        }));
        let given: Vec<_> = all.iter().collect();
        let chain = |given: &[&X509]| verify(&pem(given), &server.key_pem()).map(|pair| pair.certificate().chain().clone());
        let expected = chain(&given).unwrap();
        prop_assert_eq!(expected.der().next(), Some(&all[0].to_der().unwrap()[..]));

        let mut shuffled = given.clone();
        shuffled.push(given[repeated.index(given.len())]);
        for place in (1..shuffled.len()).rev() {
            shuffled.swap(place, order[place].index(place + 1));
        }
        prop_assert_eq!(&chain(&shuffled).unwrap(), &expected);

        // The stored chain, written as text and read again, is the same chain.
        let text = expected.to_pem();
        let given = Given::read(text.as_bytes()).unwrap().certificates;
        let read = Chain::of(given.iter().map(|block| block.decode().unwrap().to_vec()));
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn what_is_remembered_of_authorities_changes_nothing((links, order) in graphs(), bent in any::<Index>()) {
        let server = Entity::new("server");
        // Two CAs for each name. One may replace the other.
        let authorities: Vec<_> = (0..12).map(|i| Entity::new(format!("authority {}", i / 2))).collect();
        let leaf = authorities[0].certify_server(&server);
        let certify = |with_twins: bool| {
            let links = links.iter().zip(&order);
            let certificates = links.map(|(&(by, of), twin)| {
                let twin = usize::from(with_twins) * twin.index(2);
                until(&authorities[2 * by + twin], &authorities[2 * of + twin], YEAR_2030)
            });
            certificates.collect::<Vec<_>>()
        };
        let (true_ones, twins) = (certify(false), certify(true));
        let mut broken = true_ones.clone();
        let broken_one = bent.get_mut(&mut broken);
        let mut der = broken_one.to_der().unwrap();
        *der.last_mut().unwrap() ^= 1;
        *broken_one = X509::from_der(&der).unwrap();

        let warm = Authorities::default();
        for issuers in [&true_ones, &twins, &broken, &true_ones, &twins, &broken] {
            let given: Vec<_> = std::iter::once(&leaf).chain(issuers).collect();
            let outcome = |authorities: &Authorities| {
                let pair = UnverifiedPair::read(&pem(&given), &server.key_pem().into());
                let verified = pair.verify(AT, &Policy::default(), authorities);
                verified.map(|pair| (pair.certificate().chain().clone(), pair.certificate().findings().to_vec()))
            };
            prop_assert_eq!(outcome(&warm), outcome(&Authorities::default()));
        }
    }
}
