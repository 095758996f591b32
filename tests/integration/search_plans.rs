//! How Postgres carries out searches: of 50,000 certificates as of 7,000.

use certkeep::grpc::pb::{self, DomainMatch, KeyAlgorithm, SearchOrder, SearchServerCertificatesRequest as Search};
use tokio_postgres::Client as Sql;

use crate::calls::{stored, tags};
use crate::harness::{Client, TestServer, connect_to, database, upload_of};
use crate::pki::{self, Key};
use crate::plans::{Asked, Session, account, faults};
use crate::proxy::Proxy;

/// So many that more than 2,000 meet what three tenths meet: no fewer are walked.
const SMALL: i64 = 7000;
const LARGE: i64 = 50_000;
const PAGE: i64 = 101;

/// So many certificates of the account and some of another, each with a name, an expiry, a fingerprint and a serial number of its
/// own, in ORDERS that have nothing to do with each other; all of one issuer, half of one key type, three tenths of
/// one key, of one domain and with one tag; the rest below one domain. The 3,000 that expire last have a tag of their own.
async fn fill(sql: &Sql, certificates: i64) {
    let fill = format!(
        "begin;
         create temporary table model as select c.*, sealed from certificate c
           join private_key using (account_id, created_ms, random, key_id) where name = 'model' limit 1;
         create temporary table row as
           select n, account_id, 2000000000000 + n as created_ms, n * 7919 as random
           from model, generate_series(0, {certificates} - 1) as n
           union all
           select n, 7, 2000000000000 + n, n from generate_series(0, {certificates} / 5) as n;
         insert into private_key (account_id, created_ms, random, key_id, sealed)
           select row.account_id, row.created_ms, row.random, key_id, sealed from row, model;
         insert into certificate (
           account_id, created_ms, random, kind, region_id, name, revision, version, key_id, fingerprint, fingerprint_sha256,
           common_name, subject_alternative_names, searchable_names, not_before_ms, not_after_ms,
           chain_not_after_ms, serial_number, issuer, searchable_issuer, subject,
           key_algorithm, key_size, signature_algorithm, spki_sha256, chain, chain_length
         )
           select row.account_id, row.created_ms, row.random, kind, case when n % 10 = 0 then 'eu-central-1' else 'cn-hangzhou' end,
             'n' || lpad((n * 31 % {certificates})::text, 6, '0'), revision, version, key_id,
             substr(sha256(n::text::bytea), 1, 20), sha256(n::text::bytea), common_name,
             case when n % 10 < 3 then '{{shop.example}}' else array['h' || n || '.below.example'] end,
             case when n % 10 < 3 then '{{example.shop}}' else array['example.below.h' || n] end, not_before_ms,
             3000000000000 + n * 37 % {certificates} * 1000, 3000000000000 + n * 37 % {certificates} * 1000,
             lpad(to_hex(n + 4096), 6, '0'), 'CN=Only CA', E'\\ncn=only ca\\n', subject,
             case when n % 2 = 0 then 'RSA' else key_algorithm end, case when n % 2 = 0 then 2048 else key_size end,
             signature_algorithm, case when n % 10 < 3 then sha256('shared') else sha256(n::text::bytea) end, chain, chain_length
           from row, model;
         insert into searchable_name (account_id, searchable_name, created_ms, random)
           select account_id, case when n % 10 < 3 then 'example.shop' else 'example.below.h' || n end, created_ms, random from row;
         insert into certificate_tag (account_id, created_ms, random, kind, key, value)
           select account_id, created_ms, random, 'server', 'env', 'prod' from row where n % 10 < 3
           union all
           select account_id, created_ms, random, 'server', 'number', n::text from row
           union all
           select account_id, created_ms, random, 'server', 'late', 'yes' from row where n * 37 % {certificates} >= {certificates} - 3000;
         drop table row; drop table model;
         commit"
    );
    sql.batch_execute(&fill).await.unwrap();
}

/// A search that many certificates match, so that the order's index is walked.
struct Case {
    name: &'static str,
    search: Search,
    /// The criteria as parameters of the walks, by their numbers.
    parameters: Vec<(usize, String)>,
    /// How many rows are read for each that matches: those that are passed over, and those that tell whether it matches.
    read_for_each: f64,
}

fn cases() -> Vec<Case> {
    let shared = hex::encode(certkeep::digest::sha256(b"shared"));
    let shared_literal = format!("'\\x{shared}'");
    let case = |name, read_for_each, parameters: &[(usize, &str)], change: &dyn Fn(&mut Search)| {
        let mut search = Search::default();
        change(&mut search);
        Case {
            name,
            search,
            parameters: parameters
                .iter()
                .map(|(number, text)| (*number, (*text).to_owned()))
                .collect(),
            read_for_each,
        }
    };
    vec![
        case("nothing", 1.0, &[], &|_| ()),
        case("key", 4.0, &[(9, &shared_literal)], &|r| {
            r.spki_sha256.clone_from(&shared)
        }),
        case(
            "domain",
            5.0,
            &[(17, "'{example.shop}'"), (18, "'{example.shop}'")],
            &|r| {
                r.domain = "shop.example".into();
            },
        ),
        case(
            "domain covered",
            5.0,
            &[(17, "'{example.shop,example.*}'"), (18, "'{example.shop,example.*}'")],
            &|r| {
                r.domain = "shop.example".into();
                r.set_domain_match(DomainMatch::Covered);
            },
        ),
        case(
            "below a domain",
            4.0,
            &[
                (17, "'{example.below,example.below.}'"),
                (18, "'{example.below,example.below/}'"),
            ],
            &|r| {
                r.domain = "below.example".into();
                r.set_domain_match(DomainMatch::Below);
            },
        ),
        case("tag", 6.0, &[(19, "'{env}'"), (20, "'{prod}'")], &|r| {
            r.tags = tags(&[("env", "prod")])
        }),
        case("issuer", 2.0, &[(11, "array[E'\\ncn=only ca\\n']")], &|r| {
            r.issuer = "CN=Only CA".into()
        }),
        case("key type", 2.5, &[(12, "'RSA'"), (13, "2048")], &|r| {
            (r.key_algorithm, r.key_size) = (KeyAlgorithm::Rsa.into(), 2048);
        }),
        case("key type of any size", 2.5, &[(12, "'RSA'")], &|r| {
            r.key_algorithm = KeyAlgorithm::Rsa.into()
        }),
        case("expiry", 1.6, &[(14, "3000000000000"), (15, "3000080000000")], &|r| {
            let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
            (r.expire_time_from, r.expire_time_before) = (at(3_000_000_000), at(3_000_080_000));
        }),
        case("name", 1.1, &[(16, "'n0'")], &|r| {
            r.server_certificate_name_prefix = "n0".into()
        }),
        case("region", 1.3, &[(7, "'cn-hangzhou'")], &|r| {
            r.region_id = "cn-hangzhou".into()
        }),
    ]
}

const ORDERS: [SearchOrder; 3] = [SearchOrder::CreateTime, SearchOrder::ExpireTime, SearchOrder::Name];
const WALKS: [&str; 3] = [
    "search_walk_by_creation",
    "search_walk_by_expiry",
    "search_walk_by_name",
];

/// The parameters of a walk: account, cursor (expiry, name, id), size and criteria.
fn parameters(account: i64, after: (i64, &str, i64), criteria: &[(usize, String)]) -> String {
    let (expiry, name, created_ms) = after;
    let mut parameters = format!("{account}, {expiry}, '{name}', {created_ms}, 0, {PAGE}");
    for number in 7..=24 {
        let given = criteria.iter().find(|(of, _)| *of == number);
        let absent = match number {
            19 | 20 => "'{}'",
            _ => "null",
        };
        parameters.push_str(", ");
        parameters.push_str(given.map_or(absent, |(_, text)| text));
    }
    parameters
}

async fn pages(client: &Client, mut request: Search, most: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..most {
        let page = client
            .clone()
            .search_server_certificates(request.clone())
            .await
            .unwrap()
            .into_inner();
        ids.extend(
            page.server_certificates
                .into_iter()
                .map(|one| one.server_certificate_id),
        );
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    ids
}

/// The statements of searches of so many certificates.
async fn asked(sql: &Sql, certificates: i64) -> Vec<Asked> {
    let account = account(sql).await;
    let hash = |text: &str| format!("'\\x{}'", hex::encode(certkeep::digest::sha256(text.as_bytes())));
    let domains = |first: &str, last: &str| format!("'{{{first}}}', '{{{last}}}'");
    let mut all = Vec::new();
    // Look-ups of values that many certificates have, that one has, and that none has.
    for (name, value) in [
        ("search_fingerprint", "'\\x00'".to_owned()),
        ("search_fingerprint_sha256", hash("77")),
        ("search_serial", "'{00104d,104d}'".into()),
        ("search_serial", "'{none,nil}'".into()),
        ("search_key", hash("shared")),
        ("search_key", hash("none")),
        ("search_domain", domains("example.shop", "example.shop")),
        (
            "search_domain",
            domains("example.below.h77,example.*", "example.below.h77,example.*"),
        ),
        (
            "search_domain",
            domains("example.below,example.below.", "example.below,example.below/"),
        ),
        ("search_domain", domains("none", "none")),
    ] {
        let most = if name == "search_domain" { 10_020.0 } else { 2010.0 };
        all.push(Asked {
            name,
            parameters: format!("{account}, {value}"),
            read_for_each: 0.0,
            besides: most,
            pages: Some(most * 1.3 + 20.0),
        });
    }
    // A page of each search in each order, from the first certificate and from the first third.
    for case in cases() {
        for n in [0, certificates / 3] {
            for (order, name) in WALKS.into_iter().enumerate() {
                let after = match order {
                    0 => (0, "", 2_000_000_000_000 + n),
                    1 => (3_000_000_000_000 + n * 1000, "", 0),
                    _ => (0, &*format!("n{n:06}"), 0),
                };
                // Each row of the answer is read again, with its tags; and the walk passes the end by two steps.
                let read_for_each = case.read_for_each + 4.0;
                all.push(Asked {
                    name,
                    parameters: parameters(account, after, &case.parameters),
                    read_for_each,
                    besides: 20.0 * read_for_each,
                    pages: None,
                });
            }
        }
    }
    // As many ids as one page may read, in each order.
    let ids = "select array_agg(created_ms)::text, array_agg(random)::text from (
                 select created_ms, random from certificate where account_id <> 7 limit 2000
               ) as few";
    let row = sql.query_one(ids, &[]).await.unwrap();
    let (created_ms, random): (String, String) = (row.get(0), row.get(1));
    for order in ["false, false", "true, false", "false, true"] {
        let parameters = parameters(account, (0, "", 0), &[]);
        all.push(Asked {
            name: "search_ids",
            parameters: format!("{parameters}, '{created_ms}', '{random}', {order}"),
            read_for_each: 0.0,
            besides: 2000.0 + 3.0 * PAGE as f64,
            pages: Some(12_000.0),
        });
    }
    if certificates == LARGE {
        // A search without a match stops after 10,000 rows, and the next page goes on from there.
        let nothing = [17, 18].map(|number| (number, "'{none}'".to_owned()));
        for name in WALKS {
            all.push(Asked {
                name,
                parameters: parameters(account, (0, "", 0), &nothing),
                read_for_each: 0.0,
                besides: 10_010.0,
                pages: Some(60_000.0),
            });
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_a_search_costs_the_same_however_many_certificates_there_are() {
    let (small, large) = (database().await, database().await);
    let (proxy, through) = Proxy::before(&small);
    let small_server = TestServer::start_on(through, |_| {}).await;
    let server = TestServer::start_on(large.clone(), |_| {}).await;
    let model = pb::UploadServerCertificateRequest {
        server_certificate_name: "model".into(),
        ..upload_of(&pki::issued(Key::P256, "model.example"))
    };
    stored(&server.client(), &model).await;
    stored(&small_server.client(), &model).await;
    let (of_small, of_large) = (connect_to(&small).await, connect_to(&large).await);
    fill(&of_small, SMALL).await;
    // As autovacuum does sooner or later.
    of_small.batch_execute("vacuum analyze").await.unwrap();

    // Each statement comes by once, and is the one that is expected.
    let client = small_server.client();
    for case in cases() {
        for order in ORDERS {
            let search = Search {
                order_by: order.into(),
                page_size: 100,
                ..case.search.clone()
            };
            assert_eq!(pages(&client, search, 1).await.len(), 100, "{} {order:?}", case.name);
        }
    }
    let few = [
        Search {
            fingerprint: hex::encode(&certkeep::digest::sha256(b"77")[..20]),
            ..Default::default()
        },
        Search {
            fingerprint: hex::encode(certkeep::digest::sha256(b"77")),
            ..Default::default()
        },
        Search {
            serial_number: format!("{:x}", 77 + 4096),
            ..Default::default()
        },
    ];
    for search in few {
        for order in ORDERS {
            let search = Search {
                order_by: order.into(),
                ..search.clone()
            };
            assert_eq!(pages(&client, search, 1).await.len(), 1);
        }
    }

    let session = Session::early(&large, &proxy, &of_large).await;
    fill(&of_large, LARGE).await;
    let of_many = asked(&of_large, LARGE).await;
    let early = session.costs(&of_many).await;
    session.assert_plans_stayed().await;
    of_large.batch_execute("vacuum analyze").await.unwrap();
    let of_few = asked(&of_small, SMALL).await;
    let few = Session::of(&small, &proxy).await.costs_again(&of_few).await;
    let many = Session::of(&large, &proxy).await.costs_again(&of_many).await;
    let of_nothing = [&early[of_few.len()..], &many[of_few.len()..]].concat();
    assert!(of_nothing.iter().all(|cost| cost.answered == 1.0), "{of_nothing:?}");
    let failures = faults((&of_few, few), (&of_many, many), early);
    assert!(failures.is_empty(), "{}", failures.join("\n"));

    // Each certificate once, over all pages, where many meet the criterion.
    let client = server.client();
    for order in ORDERS {
        let search = Search {
            domain: "shop.example".into(),
            order_by: order.into(),
            page_size: 1000,
            ..Default::default()
        };
        let mut ids = pages(&client, search, 100).await;
        assert_eq!(ids.len() as i64, LARGE * 3 / 10);
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len() as i64, LARGE * 3 / 10);
    }

    // Where what many certificates meet stands at the other end of the order, pages are empty until it comes.
    let mut late = Search {
        tags: tags(&[("late", "yes")]),
        order_by: SearchOrder::ExpireTime.into(),
        page_size: 1000,
        ..Default::default()
    };
    let (mut found, mut empty) = (Vec::new(), 0);
    loop {
        let page = client
            .clone()
            .search_server_certificates(late.clone())
            .await
            .unwrap()
            .into_inner();
        empty += usize::from(page.server_certificates.is_empty());
        found.extend(page.server_certificates);
        late.page_token = page.next_page_token;
        if late.page_token.is_empty() {
            break;
        }
    }
    assert_eq!((found.len(), empty), (3000, 4));
    let is_later =
        |one: &pb::ServerCertificate, next: &pb::ServerCertificate| one.expire_time_stamp < next.expire_time_stamp;
    assert!(found.is_sorted_by(is_later));

    small_server.stop().await;
    server.stop().await;
}
