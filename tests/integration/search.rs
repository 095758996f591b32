//! Searches at the wire: by each criterion, in each order, over pages.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use certkeep::grpc::pb::{self, DomainMatch, KeyAlgorithm, SearchOrder, SearchServerCertificatesRequest as Search};
use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::SubjectAlternativeName;
use openssl::x509::{X509, X509Name};
use prost_types::Timestamp;
use tonic::Code;
use tonic_types::StatusExt;

use crate::calls::{ANY, delete, refusal, rename, stored, tags, undelete};
use crate::harness::{Account, Client, REGION, TestServer, upload_of};
use crate::pki::{self, Key, Pair};

const ELSEWHERE: &str = "eu-central-1";
const DAY: i64 = 24 * 60 * 60;
/// From when on the certificates here expire, in seconds since 1970.
const FIRST_DAY: i64 = 2_000_000_000;

/// What a certificate here can differ in.
struct Made<'a> {
    key: PKey<Private>,
    common_name: &'a str,
    /// As OpenSSL's configuration writes them.
    names: &'a [&'a str],
    serial: &'a str,
    issuer: &'a str,
    days: i64,
}

impl Default for Made<'_> {
    fn default() -> Self {
        Self {
            key: Key::P256.make(),
            common_name: "a.example",
            names: &["DNS:a.example"],
            serial: "01",
            issuer: "Test CA",
            days: 0,
        }
    }
}

/// So many seconds after 1970.
fn at(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos: 0 })
}

impl Made<'_> {
    fn pair(self) -> Pair {
        let name = |text: &str| {
            let mut name = X509Name::builder().unwrap();
            name.append_entry_by_text("CN", text).unwrap();
            name.build()
        };
        let mut builder = X509::builder().unwrap();
        builder.set_version(2).unwrap();
        let serial = Asn1Integer::from_bn(&BigNum::from_hex_str(self.serial).unwrap()).unwrap();
        builder.set_serial_number(&serial).unwrap();
        builder.set_subject_name(&name(self.common_name)).unwrap();
        builder.set_issuer_name(&name(self.issuer)).unwrap();
        builder.set_pubkey(&self.key).unwrap();
        builder
            .set_not_before(&Asn1Time::from_unix(1_700_000_000).unwrap())
            .unwrap();
        let not_after = Asn1Time::from_unix(FIRST_DAY + self.days * DAY).unwrap();
        builder.set_not_after(&not_after).unwrap();
        if !self.names.is_empty() {
            let mut names = SubjectAlternativeName::new();
            for name in self.names {
                match name.split_once(':').unwrap() {
                    ("DNS", name) => names.dns(name),
                    ("IP", name) => names.ip(name),
                    ("URI", name) => names.uri(name),
                    (_, name) => names.email(name),
                };
            }
            let names = names.build(&builder.x509v3_context(None, None)).unwrap();
            builder.append_extension(names).unwrap();
        }
        let digest = match self.key.id() {
            openssl::pkey::Id::ED25519 => MessageDigest::null(),
            _ => MessageDigest::sha256(),
        };
        builder.sign(&self.key, digest).unwrap();
        pki::pair(&self.key, builder.build())
    }
}

async fn page(client: &Client, request: Search) -> (Vec<pb::ServerCertificate>, String) {
    let page = client
        .clone()
        .search_server_certificates(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(page.request_id.len(), 36);
    (page.server_certificates, page.next_page_token)
}

/// The ids of all pages.
async fn found(client: &Client, mut request: Search) -> Vec<String> {
    let mut ids = Vec::new();
    loop {
        let (page, next) = page(client, request.clone()).await;
        ids.extend(page.into_iter().map(|certificate| certificate.server_certificate_id));
        if next.is_empty() {
            return ids;
        }
        request.page_token = next;
    }
}

fn below(domain: &str, domain_match: DomainMatch) -> Search {
    Search {
        domain: domain.into(),
        domain_match: domain_match.into(),
        ..Default::default()
    }
}

/// Each with its place in this list as the last character of its name.
async fn six(client: &Client) -> Vec<pb::ServerCertificate> {
    let shared = Key::P256.make();
    let made = [
        Made {
            key: shared.clone(),
            names: &["DNS:www.Shop.example", "DNS:shop.example"],
            serial: "0A1B",
            days: 5,
            ..Default::default()
        },
        Made {
            key: shared,
            names: &["DNS:*.shop.example", "IP:192.0.2.1", "IP:2001:db8::1"],
            serial: "F00D",
            days: 1,
            ..Default::default()
        },
        Made {
            key: Key::Rsa(2048).make(),
            names: &[
                "DNS:a.b.shop.example",
                "URI:https://uri.example/",
                "email:mail@mail.example",
            ],
            issuer: "Other CA",
            days: 3,
            ..Default::default()
        },
        Made {
            key: Key::Rsa(3072).make(),
            names: &["DNS:workshop.example"],
            days: 3,
            ..Default::default()
        },
        Made {
            common_name: "Common.Example",
            names: &["IP:192.0.2.2"],
            days: 2,
            ..Default::default()
        },
        Made {
            key: Key::Ed25519.make(),
            common_name: "no host",
            names: &["DNS:deep.www.shop.example"],
            days: 0,
            ..Default::default()
        },
    ];
    let mut all = Vec::new();
    for (place, made) in made.into_iter().enumerate() {
        let request = pb::UploadServerCertificateRequest {
            region_id: if place == 3 { ELSEWHERE.into() } else { REGION.into() },
            server_certificate_name: ["Shop/0", "shop/1", "shop/2", "bank-3", "bank-4", "字-5"][place].into(),
            tags: match place {
                0 | 3 => tags(&[("env", "prod"), ("team", "shop")]),
                1 => tags(&[("env", "prod")]),
                _ => Vec::new(),
            },
            ..upload_of(&made.pair())
        };
        let id = stored(client, &request).await;
        all.push(crate::calls::get(client, &id).await.unwrap());
        // The order of creation is that of this list.
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn each_criterion_finds_what_meets_it_in_each_order_and_in_pages_of_any_size() {
    let server = TestServer::start().await;
    let client = server.client();
    let all = six(&client).await;
    // Another account's, and a deleted one, that meet what the first does.
    let other = server.add_key("editor", Account::New).await;
    let other = server.client_with(Some(&format!("Bearer {other}")));
    six(&other).await;
    let gone = six(&client).await;
    for certificate in &gone {
        delete(&client, &certificate.server_certificate_id, ANY).await.unwrap();
    }

    let first = &all[0];
    let hex = |text: &str| text.replace(':', "");
    let by = |change: &dyn Fn(&mut Search)| {
        let mut request = Search::default();
        change(&mut request);
        request
    };
    use DomainMatch::{Below, Covered, Exact, Unspecified};
    let stamp = |days: i64| at(FIRST_DAY + days * DAY);
    let cases: Vec<(Search, &[usize])> = vec![
        (Search::default(), &[0, 1, 2, 3, 4, 5]),
        (by(&|r| r.fingerprint = first.fingerprint.clone()), &[0]),
        (by(&|r| r.fingerprint = hex(&first.fingerprint).to_uppercase()), &[0]),
        (by(&|r| r.fingerprint = first.fingerprint_sha256.to_uppercase()), &[0]),
        (by(&|r| r.fingerprint = hex(&first.fingerprint_sha256)), &[0]),
        (
            by(&|r| r.fingerprint = format!("SHA256: {}", first.fingerprint_sha256.replace(':', " "))),
            &[0],
        ),
        (by(&|r| r.fingerprint = "00".repeat(20)), &[]),
        (by(&|r| r.spki_sha256 = first.spki_sha256.clone()), &[0, 1]),
        (by(&|r| r.spki_sha256 = first.spki_sha256.to_uppercase()), &[0, 1]),
        (by(&|r| r.serial_number = "a1b".into()), &[0]),
        (by(&|r| r.serial_number = "0A:1B".into()), &[0]),
        // DER puts a zero byte before it.
        (by(&|r| r.serial_number = "f00d".into()), &[1]),
        (by(&|r| r.serial_number = "00:f0:0d".into()), &[1]),
        (by(&|r| r.serial_number = "1".into()), &[2, 3, 4, 5]),
        (by(&|r| r.serial_number = "0".into()), &[]),
        (by(&|r| r.issuer = "CN=Other CA".into()), &[2]),
        (by(&|r| r.issuer = "CN=Test CA".into()), &[0, 1, 3, 4, 5]),
        (by(&|r| r.issuer = "issuer=CN = test  CA".into()), &[0, 1, 3, 4, 5]),
        (by(&|r| r.issuer = "Other CA".into()), &[2]),
        (by(&|r| r.issuer = "CN=Test".into()), &[]),
        (by(&|r| r.issuer = "O=Test CA".into()), &[]),
        (by(&|r| r.key_algorithm = KeyAlgorithm::Rsa.into()), &[2, 3]),
        (
            by(&|r| (r.key_algorithm, r.key_size) = (KeyAlgorithm::Rsa.into(), 3072)),
            &[3],
        ),
        (by(&|r| r.key_algorithm = KeyAlgorithm::EcdsaP256.into()), &[0, 1, 4]),
        (by(&|r| r.key_algorithm = KeyAlgorithm::MlDsa44.into()), &[]),
        (by(&|r| r.expire_time_from = stamp(3)), &[0, 2, 3]),
        (by(&|r| r.expire_time_before = stamp(3)), &[1, 4, 5]),
        (
            by(&|r| (r.expire_time_from, r.expire_time_before) = (stamp(1), stamp(2))),
            &[1],
        ),
        (by(&|r| r.server_certificate_name_prefix = "shop/".into()), &[1, 2]),
        (by(&|r| r.server_certificate_name_prefix = "Shop/0".into()), &[0]),
        (by(&|r| r.server_certificate_name_prefix = "字".into()), &[5]),
        (by(&|r| r.server_certificate_name_prefix = "hop".into()), &[]),
        (by(&|r| r.tags = tags(&[("env", "prod")])), &[0, 1, 3]),
        (by(&|r| r.tags = tags(&[("team", "shop"), ("env", "prod")])), &[0, 3]),
        (by(&|r| r.tags = tags(&[("env", "test")])), &[]),
        (by(&|r| r.region_id = ELSEWHERE.into()), &[3]),
        (by(&|r| r.region_id = REGION.into()), &[0, 1, 2, 4, 5]),
        (below("www.shop.example", Unspecified), &[0]),
        (below("WWW.shop.example.", Exact), &[0]),
        (below("x.shop.example", Exact), &[]),
        (below("*.shop.example", Exact), &[1]),
        (below("www.shop.example", Covered), &[0, 1]),
        (below("x.shop.example", Covered), &[1]),
        (below("shop.example", Covered), &[0]),
        (below("a.b.shop.example", Covered), &[2]),
        (below("x.b.shop.example", Covered), &[]),
        (below("*.shop.example", Covered), &[1]),
        (below("shop.example", Below), &[0, 1, 2, 5]),
        (below("www.shop.example", Below), &[0, 5]),
        (below("b.shop.example", Below), &[2]),
        (below("example", Below), &[0, 1, 2, 3, 4, 5]),
        (below("hop.example", Below), &[]),
        (below("192.0.2.1", Exact), &[1]),
        (below("192.0.2.2", Covered), &[4]),
        (below("2001:DB8:0::1", Below), &[1]),
        (below("[2001:db8::1]", Exact), &[1]),
        // Not a host name by its characters, and no subject alternative name.
        (below("uri.example", Below), &[]),
        (below("mail.example", Below), &[]),
        (below("a.example", Exact), &[]),
        // Where no subject alternative name is a host name.
        (below("common.example", Exact), &[4]),
        (
            Search {
                key_algorithm: KeyAlgorithm::EcdsaP256.into(),
                tags: tags(&[("env", "prod")]),
                issuer: "CN=Test CA".into(),
                ..below("x.shop.example", Covered)
            },
            &[1],
        ),
        (
            Search {
                spki_sha256: first.spki_sha256.clone(),
                fingerprint: all[2].fingerprint.clone(),
                ..Default::default()
            },
            &[],
        ),
        (
            Search {
                region_id: ELSEWHERE.into(),
                expire_time_from: stamp(3),
                server_certificate_name_prefix: "bank".into(),
                ..Default::default()
            },
            &[3],
        ),
    ];
    let places = |ids: Vec<String>| -> Vec<usize> {
        let place = |id: &String| all.iter().position(|one| one.server_certificate_id == *id);
        ids.iter().map(|id| place(id).expect("it is one of these")).collect()
    };
    let orders: [(SearchOrder, [usize; 6]); 4] = [
        (SearchOrder::Unspecified, [0, 1, 2, 3, 4, 5]),
        (SearchOrder::CreateTime, [0, 1, 2, 3, 4, 5]),
        // Two expire at the same moment: the older first.
        (SearchOrder::ExpireTime, [5, 1, 4, 2, 3, 0]),
        // By code point: upper case first, 字 last.
        (SearchOrder::Name, [0, 3, 4, 1, 2, 5]),
    ];
    for (request, expected) in cases {
        for (order, ordered) in orders {
            let expected: Vec<_> = ordered.into_iter().filter(|place| expected.contains(place)).collect();
            for page_size in [0, 1, 2, 3] {
                let request = Search {
                    order_by: order.into(),
                    page_size,
                    ..request.clone()
                };
                assert_eq!(places(found(&client, request.clone()).await), expected, "{request:?}");
            }
        }
    }
    // An answer is what a description answers.
    let (answered, _) = page(&client, Search::default()).await;
    let (described, _) = crate::calls::describe(&client, Default::default()).await;
    assert_eq!(answered, described);

    // What is undeleted is found again.
    undelete(&client, &gone[0].server_certificate_id, ANY).await.unwrap();
    let again = found(&client, below("www.shop.example", Exact)).await;
    assert_eq!(again, [&all[0], &gone[0]].map(|one| one.server_certificate_id.clone()));
    server.stop().await;
}

#[tokio::test]
async fn every_bad_criterion_is_told_at_once_with_what_to_do() {
    let server = TestServer::start().await;
    let client = server.client();
    let bad = Search {
        region_id: "mars-1".into(),
        fingerprint: "xy".into(),
        domain: "bücher.example".into(),
        domain_match: 9,
        spki_sha256: "ab".into(),
        serial_number: "1g".into(),
        issuer: "CN=\u{0}".into(),
        key_algorithm: 99,
        key_size: -1,
        expire_time_from: at(2),
        expire_time_before: at(2),
        server_certificate_name_prefix: "a b".into(),
        tags: tags(&[("", "")]),
        compromised: false,
        order_by: 9,
        page_size: -1,
        page_token: "x".into(),
    };
    let refused = client.clone().search_server_certificates(bad).await.unwrap_err();
    let details = refused.get_error_details();
    let told: Vec<_> = details
        .bad_request()
        .unwrap()
        .field_violations
        .iter()
        .map(|wrong| format!("{} {}: {}", wrong.field, wrong.reason, wrong.description))
        .collect();
    insta::assert_snapshot!("bad_searches", format!("{}\n{}", refused.message(), told.join("\n")));

    let alone: [(Search, &str); 7] = [
        (below("", DomainMatch::Below), "domain_match"),
        (below("a.example:443", DomainMatch::Exact), "domain"),
        (below("https://a.example", DomainMatch::Exact), "domain"),
        (
            Search {
                key_size: 2048,
                ..Default::default()
            },
            "key_size",
        ),
        (
            Search {
                expire_time_from: at(3),
                expire_time_before: at(2),
                ..Default::default()
            },
            "expire_time_before",
        ),
        (
            Search {
                server_certificate_name_prefix: "n".repeat(81),
                ..Default::default()
            },
            "server_certificate_name_prefix",
        ),
        (
            Search {
                fingerprint: format!("-{}", "ab".repeat(20)),
                ..Default::default()
            },
            "fingerprint",
        ),
    ];
    for (request, field) in alone {
        let refused = client.clone().search_server_certificates(request).await.unwrap_err();
        let details = refused.get_error_details();
        let violations = &details.bad_request().unwrap().field_violations;
        assert_eq!((violations.len(), violations[0].field.as_str()), (1, field));
        assert_eq!(violations[0].reason, "FIELD_INVALID");
    }
    server.stop().await;
}

#[tokio::test]
async fn who_may_read_may_search() {
    let server = TestServer::start().await;
    for (role, may) in [("reader", true), ("consumer", false)] {
        let key = server.add_key(role, Account::First).await;
        let client = server.client_with(Some(&format!("Bearer {key}")));
        // Authorisation comes before validation.
        for (fingerprint, expected) in [("", None), ("xy", Some("FIELD_INVALID"))] {
            let request = Search {
                fingerprint: fingerprint.into(),
                ..Default::default()
            };
            let answer = client.clone().search_server_certificates(request).await;
            match (may, expected) {
                (false, _) => assert_eq!(refusal(answer), (Code::PermissionDenied, "PERMISSION_DENIED".into())),
                (true, Some(reason)) => assert_eq!(refusal(answer), (Code::InvalidArgument, reason.into())),
                (true, None) => assert!(answer.is_ok()),
            }
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_page_token_works_with_the_same_criteria_order_and_account_only() {
    let server = TestServer::start().await;
    let client = server.client();
    six(&client).await;
    let other = server.add_key("reader", Account::New).await;
    let other = server.client_with(Some(&format!("Bearer {other}")));
    let by = |change: &dyn Fn(&mut Search)| {
        let mut request = Search {
            page_size: 1,
            ..Default::default()
        };
        change(&mut request);
        request
    };
    let searches = [
        by(&|_| {}),
        by(&|r| r.region_id = REGION.into()),
        by(&|r| (r.domain, r.domain_match) = ("example".into(), DomainMatch::Below.into())),
        by(&|r| r.serial_number = "1".into()),
        by(&|r| r.issuer = "CN=Test CA".into()),
        by(&|r| r.key_algorithm = KeyAlgorithm::Rsa.into()),
        by(&|r| r.expire_time_from = at(1)),
        by(&|r| r.expire_time_before = at(253_402_300_799)),
        by(&|r| r.server_certificate_name_prefix = "bank".into()),
        by(&|r| r.tags = tags(&[("env", "prod")])),
        by(&|r| r.order_by = SearchOrder::ExpireTime.into()),
        by(&|r| r.order_by = SearchOrder::Name.into()),
    ];
    for (place, search) in searches.iter().enumerate() {
        let (_, page_token) = page(&client, search.clone()).await;
        assert!(!page_token.is_empty(), "{place}");
        for (other_place, another) in searches.iter().enumerate() {
            let request = Search {
                page_token: page_token.clone(),
                ..another.clone()
            };
            let answer = client.clone().search_server_certificates(request.clone()).await;
            if place == other_place {
                assert_eq!(answer.unwrap().into_inner().server_certificates.len(), 1);
                let answer = other.clone().search_server_certificates(request).await;
                assert_eq!(refusal(answer).1, "PAGE_TOKEN_INVALID");
            } else {
                assert_eq!(refusal(answer).1, "PAGE_TOKEN_INVALID", "{place} {other_place}");
            }
        }
        let described = pb::DescribeServerCertificatesRequest {
            page_token,
            ..Default::default()
        };
        let answer = client.clone().describe_server_certificates(described).await;
        assert_eq!(refusal(answer).1, "PAGE_TOKEN_INVALID");
    }
    server.stop().await;
}

/// Between those that stay others come, go, come back and are renamed.
#[tokio::test(flavor = "multi_thread")]
async fn what_meets_the_criteria_throughout_is_in_the_pages_exactly_once_whatever_else_changes() {
    let server = TestServer::start().await;
    let client = server.client();
    let request = |n: usize| pb::UploadServerCertificateRequest {
        server_certificate_name: format!("n{}", n * 7 % 5),
        tags: tags(&[("env", "prod")]),
        ..upload_of(
            &Made {
                names: &["DNS:a.shop.example"],
                days: (n * 3 % 4) as i64,
                ..Default::default()
            }
            .pair(),
        )
    };
    let (mut staying, mut changing) = (Vec::new(), Vec::new());
    for n in 0..24 {
        let id = stored(&client, &request(n)).await;
        if n % 2 == 0 {
            staying.push(id)
        } else {
            changing.push(id)
        }
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut changes = tokio::task::JoinSet::new();
    for (part, ids) in changing.chunks(4).enumerate() {
        let (client, ids, stop, new) = (server.client(), ids.to_vec(), stop.clone(), request(part));
        changes.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                for id in &ids {
                    delete(&client, id, ANY).await.unwrap();
                }
                stored(&client, &new).await;
                for id in &ids {
                    undelete(&client, id, ANY).await.unwrap();
                    rename(&client, id, "zz", ANY).await.unwrap();
                    rename(&client, id, "aa", ANY).await.unwrap();
                }
            }
        });
    }
    let searches = [
        Search::default(),
        below("shop.example", DomainMatch::Below),
        Search {
            tags: tags(&[("env", "prod")]),
            ..Default::default()
        },
    ];
    for order in [SearchOrder::CreateTime, SearchOrder::ExpireTime, SearchOrder::Name] {
        for search in &searches {
            let request = Search {
                order_by: order.into(),
                page_size: 3,
                ..search.clone()
            };
            let seen = found(&client, request.clone()).await;
            let distinct: HashSet<_> = seen.iter().collect();
            // One that is renamed meanwhile may come twice by name.
            if order != SearchOrder::Name {
                assert_eq!(distinct.len(), seen.len(), "{request:?}");
            }
            for id in &staying {
                assert_eq!(seen.iter().filter(|one| *one == id).count(), 1, "{request:?}");
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    changes.join_all().await;
    server.stop().await;
}
