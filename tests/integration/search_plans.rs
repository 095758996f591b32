//! How Postgres carries out searches: of 100,000 certificates as of 7,000.

use certkeep::grpc::pb::{self, DomainMatch, SearchOrder, SearchServerCertificatesRequest as Search};
use prost_types::Timestamp;
use tokio_postgres::Client as Sql;

use crate::calls::{stored, tags};
use crate::harness::{Client, TestServer, connect_to, database, upload_of};
use crate::pki::{self, Key};
use crate::plans::{Asked, Session, account, faults};
use crate::proxy::Proxy;

/// So many that more than 2,000 meet what three tenths meet: no fewer are walked.
const SMALL: i64 = 7000;
const LARGE: i64 = 100_000;
const PAGE: i64 = 101;

/// So many certificates of the account and some of another, each with a name, an expiry, a fingerprint and a serial number of its
/// own, in orders that have nothing to do with each other; all of one issuer, half of one key type, three tenths of
/// one key, of one domain and with one tag; the rest below one domain. The 3,000 that expire last have a tag of their own.
async fn fill(sql: &Sql, certificates: i64) {
    let fill = format!(
        "begin;
         create temporary table model as select c.*, sealed from server_certificate c
           join private_key using (account_id, created_ms, random, key_id) where name = 'model' limit 1;
         create temporary table row as
           select n, account_id, 2000000000000 + n as created_ms, n * 7919 as random
           from model, generate_series(0, {certificates} - 1) as n
           union all
           select n, 7, 2000000000000 + n, n from generate_series(0, {certificates} / 5) as n;
         insert into private_key (account_id, created_ms, random, key_id, sealed)
           select row.account_id, row.created_ms, row.random, key_id, sealed from row, model;
         insert into server_certificate (
           account_id, created_ms, random, region_id, name, revision, version, key_id, fingerprint, fingerprint_sha256,
           common_name, subject_alternative_names, not_before_ms, not_after_ms, serial_number, issuer, subject,
           key_algorithm, key_size, signature_algorithm, spki_sha256, chain, chain_length
         )
           select row.account_id, row.created_ms, row.random, case when n % 10 = 0 then 'eu-central-1' else 'cn-hangzhou' end,
             'n' || lpad((n * 31 % {certificates})::text, 6, '0'), revision, version, key_id,
             substr(sha256(n::text::bytea), 1, 20), sha256(n::text::bytea), common_name,
             case when n % 10 < 3 then '{{shop.example}}' else array['h' || n || '.below.example'] end, not_before_ms,
             3000000000000 + n * 37 % {certificates} * 1000, to_hex(n + 4096), 'CN=Only CA', subject,
             case when n % 2 = 0 then 'RSA' else key_algorithm end, case when n % 2 = 0 then 2048 else key_size end,
             signature_algorithm, case when n % 10 < 3 then sha256('shared') else sha256(n::text::bytea) end, chain, chain_length
           from row, model;
         insert into server_certificate_tag (account_id, created_ms, random, key, value)
           select account_id, created_ms, random, 'env', 'prod' from row where n % 10 < 3
           union all
           select account_id, created_ms, random, 'number', n::text from row
           union all
           select account_id, created_ms, random, 'late', 'yes' from row where n * 37 % {certificates} >= {certificates} - 3000;
         drop table row; drop table model;
         commit"
    );
    sql.batch_execute(&fill).await.unwrap();
}

/// What is searched by: as it is asked for at the wire, and as parameters 6 to 19 of each page.
struct Case {
    name: &'static str,
    search: Search,
    /// Which parameters are not null, and what they are.
    given: Vec<(usize, String)>,
    /// How many rows are looked at for each that is answered: the next that meets it, with what tells that it does.
    looked_at: f64,
    /// What is walked in the order of creation, and what is sought there.
    walk: (&'static str, &'static str),
}

fn cases() -> Vec<Case> {
    let case = |name, search, given: &[(usize, &str)], looked_at, walk| Case {
        name,
        search,
        given: given
            .iter()
            .map(|(number, text)| (*number, (*text).to_owned()))
            .collect(),
        looked_at,
        walk,
    };
    const CREATION: (&str, &str) = ("search_walk_by_creation", "0");
    let shared = hex::encode(certkeep::digest::sha256(b"shared"));
    let shared_literal = format!("'\\x{shared}'");
    vec![
        case("nothing", Search::default(), &[], 1.0, CREATION),
        case(
            "key",
            Search {
                spki_sha256: shared,
                ..Default::default()
            },
            &[(8, shared_literal.as_str())],
            4.0,
            CREATION,
        ),
        case(
            "domain",
            Search {
                domain: "shop.example".into(),
                ..Default::default()
            },
            &[(16, "'{example.shop}'"), (17, "'{example.shop}'")],
            5.0,
            CREATION,
        ),
        case(
            "domain covered",
            Search {
                domain: "shop.example".into(),
                domain_match: DomainMatch::Covered.into(),
                ..Default::default()
            },
            &[(16, "'{example.shop,example.*}'"), (17, "'{example.shop,example.*}'")],
            5.0,
            CREATION,
        ),
        case(
            "below a domain",
            Search {
                domain: "below.example".into(),
                domain_match: DomainMatch::Below.into(),
                ..Default::default()
            },
            &[
                (16, "'{example.below,example.below.}'"),
                (17, "'{example.below,example.below/}'"),
            ],
            4.0,
            CREATION,
        ),
        case(
            "tag",
            Search {
                tags: tags(&[("env", "prod")]),
                ..Default::default()
            },
            &[(18, "'{env}'"), (19, "'{prod}'")],
            6.0,
            ("search_walk_of_tag", "'prod'"),
        ),
        case(
            "issuer",
            Search {
                issuer: "CN=Only CA".into(),
                ..Default::default()
            },
            &[(10, "'CN=Only CA'")],
            1.0,
            ("search_walk_of_issuer", "'CN=Only CA'"),
        ),
        case(
            "key type",
            Search {
                key_algorithm: pb::KeyAlgorithm::Rsa.into(),
                key_size: 2048,
                ..Default::default()
            },
            &[(11, "'RSA'"), (12, "2048")],
            2.5,
            ("search_walk_of_key_type", "2048"),
        ),
        case(
            "key type of any size",
            Search {
                key_algorithm: pb::KeyAlgorithm::Rsa.into(),
                ..Default::default()
            },
            &[(11, "'RSA'")],
            2.5,
            CREATION,
        ),
        case(
            "expiry",
            Search {
                expire_time_from: Some(Timestamp {
                    seconds: 3_000_000_000,
                    nanos: 0,
                }),
                expire_time_before: Some(Timestamp {
                    seconds: 3_000_080_000,
                    nanos: 0,
                }),
                ..Default::default()
            },
            &[(13, "3000000000000"), (14, "3000080000000")],
            1.6,
            CREATION,
        ),
        case(
            "name",
            Search {
                server_certificate_name_prefix: "n0".into(),
                ..Default::default()
            },
            &[(15, "'n0'")],
            1.1,
            CREATION,
        ),
        case(
            "region",
            Search {
                region_id: "cn-hangzhou".into(),
                ..Default::default()
            },
            &[(6, "'cn-hangzhou'")],
            1.3,
            ("search_walk_of_region", "'cn-hangzhou'"),
        ),
    ]
}

/// The parameters of a page: account, place, size, criteria.
fn parameters(account: i64, place: (&str, i64, i64), given: &[(usize, String)]) -> String {
    let (key, created_ms, random) = place;
    let mut parameters = vec![
        account.to_string(),
        key.into(),
        format!("'{created_ms}'"),
        format!("'{random}'"),
        PAGE.to_string(),
    ];
    for number in 6..20 {
        let found = given.iter().find(|(of, _)| *of == number).map(|(_, text)| text.clone());
        let nothing = if number < 18 { "null" } else { "'{}'" };
        parameters.push(found.unwrap_or_else(|| nothing.into()));
    }
    parameters.join(", ")
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

/// What searches ask of a database with so many certificates.
async fn asked(sql: &Sql, certificates: i64) -> Vec<Asked> {
    let account = account(sql).await;
    let mut all = Vec::new();
    // What asks for the ids of a criterion, of many and of none, and how many rows it may look at.
    let hash = |text: &str| format!("'\\x{}'", hex::encode(certkeep::digest::sha256(text.as_bytes())));
    let lookups = [
        ("search_fingerprint", "'\\x00'".to_owned()),
        ("search_fingerprint_sha256", hash("77")),
        ("search_serial", "'104d'".into()),
        ("search_serial", "'none'".into()),
        ("search_key", hash("shared")),
        ("search_key", hash("none")),
        ("search_domain", "'{example.shop}', '{example.shop}'".into()),
        (
            "search_domain",
            "'{example.below.h77,example.*}', '{example.below.h77,example.*}'".into(),
        ),
        (
            "search_domain",
            "'{example.below,example.below.}', '{example.below,example.below/}'".into(),
        ),
        ("search_domain", "'{none}', '{none}'".into()),
        ("search_tag", "'env', 'prod'".into()),
        ("search_tag", "'number', '77'".into()),
        ("search_tag", "'env', 'none'".into()),
        ("search_name", "'n0'".into()),
        ("search_name", "'n00007'".into()),
        ("search_expiry", "'-9223372036854775808', '9223372036854775807'".into()),
        ("search_expiry", "3000000000000, 3000000100000".into()),
        ("search_issuer", "'CN=Only CA'".into()),
        ("search_issuer", "'CN=None'".into()),
        ("search_key_type", "'RSA', 0, 2147483647".into()),
        ("search_key_type", "'RSA', 1024, 1024".into()),
        ("search_region", "'eu-central-1'".into()),
        ("search_region", "'none'".into()),
    ];
    for (name, parameters) in lookups {
        let most = if name == "search_domain" { 10_020.0 } else { 2010.0 };
        all.push(Asked {
            name,
            parameters: format!("{account}, {parameters}"),
            read_for_each: 0.0,
            besides: most,
            pages: Some(most * 1.3 + 20.0),
        });
    }
    // A page of each criterion that many meet, in each order, from the first and from the middle on.
    for case in cases() {
        for (place, order) in (0..2).flat_map(|place| (0..3).map(move |order| (place, order))) {
            // What is behind the middle is enough for a page.
            let n = certificates / 3 * place;
            let key = [
                case.walk.1.to_owned(),
                format!("'{}'", 3_000_000_000_000 + n * 1000),
                format!("'n{n:06}'"),
            ];
            let created_ms = if order == 0 { 2_000_000_000_000 + n } else { 0 };
            // With two steps of the walk, and the row of each that is answered with its tags.
            let read_for_each = case.looked_at + 4.0;
            all.push(Asked {
                name: [case.walk.0, "search_walk_by_expiry", "search_walk_by_name"][order],
                parameters: parameters(account, (&key[order], created_ms, 0), &case.given),
                read_for_each,
                besides: 20.0 * read_for_each,
                pages: None,
            });
        }
    }
    // As many as may drive a page.
    let ids = "select array_agg(created_ms)::text, array_agg(random)::text from (
                 select created_ms, random from server_certificate where account_id <> 7 limit 2000
               ) as few";
    let row = sql.query_one(ids, &[]).await.unwrap();
    let (created_ms, random): (String, String) = (row.get(0), row.get(1));
    for (name, key) in [
        ("search_few_by_creation", "0"),
        ("search_few_by_expiry", "0"),
        ("search_few_by_name", "''"),
    ] {
        let parameters = parameters(account, (key, 0, 0), &[]);
        all.push(Asked {
            name,
            parameters: format!("{parameters}, '{created_ms}', '{random}'"),
            read_for_each: 0.0,
            besides: 2000.0 + 3.0 * PAGE as f64,
            pages: Some(12_000.0),
        });
    }
    if certificates == LARGE {
        // What none meets is looked for no further than 10,000 rows, and the next page goes on from there.
        let nothing = [(16, "'{none}'".to_owned()), (17, "'{none}'".to_owned())];
        for (name, key) in [
            ("search_walk_by_creation", "0"),
            ("search_walk_by_expiry", "0"),
            ("search_walk_by_name", "''"),
        ] {
            all.push(Asked {
                name,
                parameters: parameters(account, (key, 0, 0), &nothing),
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
    let orders = [SearchOrder::CreateTime, SearchOrder::ExpireTime, SearchOrder::Name];
    for case in cases() {
        for order in orders {
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
        for order in orders {
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
    for order in orders {
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
    assert_eq!((found.len(), empty), (3000, 9));
    let is_later =
        |one: &pb::ServerCertificate, next: &pb::ServerCertificate| one.expire_time_stamp < next.expire_time_stamp;
    assert!(found.is_sorted_by(is_later));

    small_server.stop().await;
    server.stop().await;
}
