//! How Postgres carries out what lists and look-ups ask for: with many certificates as with few.

use certkeep::grpc::pb::{self, DescribeServerCertificatesRequest as Describe};
use serde_json::Value;
use tokio_postgres::{Client as Sql, SimpleQueryMessage};

use crate::calls::{ANY, delete, deleted, describe, fingerprints, get, stored, tags, upload};
use crate::harness::{Client, REGION, TestServer, connect_to, database, upload_of};
use crate::pki::{self, Key};
use crate::proxy::Proxy;

/// Of tables that grow with what is stored.
const GROWING: [&str; 6] = [
    "server_certificate",
    "private_key",
    "server_certificate_tag",
    "server_certificate_domain",
    "event",
    "client_token",
];

/// What a plan cost.
#[derive(Debug)]
pub struct Cost {
    /// How many rows it answered.
    pub answered: f64,
    /// How many rows it looked at.
    pub read: f64,
    /// How many pages it touched.
    pub pages: f64,
    /// Of the tables that grow, those that it read from one end to the other.
    pub whole_tables: Vec<String>,
}

impl Cost {
    fn of(plan: &Value) -> Self {
        let top = &plan[0]["Plan"];
        let mut cost = Self {
            answered: number(top, "Actual Rows"),
            read: 0.0,
            pages: number(top, "Shared Hit Blocks") + number(top, "Shared Read Blocks"),
            whole_tables: Vec::new(),
        };
        cost.add(top);
        cost
    }

    fn add(&mut self, node: &Value) {
        if let Some(table) = node["Relation Name"].as_str() {
            let rows = number(node, "Actual Rows")
                + number(node, "Rows Removed by Filter")
                + number(node, "Rows Removed by Index Recheck");
            self.read += rows * number(node, "Actual Loops");
            if GROWING.contains(&table)
                && node["Node Type"]
                    .as_str()
                    .is_some_and(|kind| kind.ends_with("Seq Scan"))
            {
                self.whole_tables.push(table.to_owned());
            }
        }
        for child in node["Plans"].as_array().into_iter().flatten() {
            self.add(child);
        }
    }
}

fn number(node: &Value, name: &str) -> f64 {
    node[name].as_f64().unwrap_or_default()
}

/// What the statement costs: as Postgres plans it for these parameters, and as it plans it for any.
pub async fn costs(sql: &Sql, statement: &str, parameters: &str) -> [Cost; 2] {
    let mut costs = Vec::new();
    for mode in ["force_custom_plan", "force_generic_plan"] {
        let prepare = format!("set plan_cache_mode = {mode}; prepare asked as {statement}");
        sql.batch_execute(&prepare).await.unwrap();
        let parameters = if parameters.is_empty() {
            String::new()
        } else {
            format!("({parameters})")
        };
        let explain = format!("explain (analyze, buffers, format json) execute asked{parameters}");
        // Once before, so that what the first reader of a table tidies up does not count.
        sql.simple_query(&explain).await.unwrap();
        let answer = sql.simple_query(&explain).await.unwrap();
        let text = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        let plan: Value = serde_json::from_str(text.unwrap()).unwrap();
        costs.push(Cost::of(&plan));
        sql.batch_execute("deallocate asked").await.unwrap();
    }
    costs.try_into().unwrap()
}

/// So many certificates of the account, every hundredth of them tagged and every tenth in another region, and for each a token
/// and an event; 1,000 deleted ones; and some of another account.
async fn fill(sql: &Sql, certificates: i64) {
    let fill = format!(
        "begin;
         create temporary table model as select c.*, sealed from server_certificate c
           join private_key using (account_id, created_ms, random, key_id) where name = 'model' limit 1;
         create temporary table row as
           select n, account_id, 2000000000000 + n as created_ms, n * 7919 as random, null::timestamptz as deleted_at
           from model, generate_series(1, {certificates}) as n
           union all
           select n, account_id, 1900000000000 + n, n, now() - n * interval '1 second' from model, generate_series(1, 1000) as n
           union all
           select n, 7, 2000000000000 + n, n, null from generate_series(1, {certificates} / 5) as n;
         insert into resource_group (account_id, resource_group_id, name) select account_id, 'rg-1', 'one' from model;
         insert into private_key (account_id, created_ms, random, key_id, sealed)
           select row.account_id, row.created_ms, row.random, key_id, sealed from row, model;
         insert into server_certificate (
           account_id, created_ms, random, region_id, name, revision, version, key_id, fingerprint, fingerprint_sha256,
           common_name, subject_alternative_names, not_before_ms, not_after_ms, serial_number, issuer, subject,
           key_algorithm, key_size, signature_algorithm, spki_sha256, chain, chain_length, deleted_at, resource_group_id
         )
           select row.account_id, row.created_ms, row.random, case when n % 10 = 0 then 'eu-central-1' else 'cn-hangzhou' end,
             'n' || n, revision, version, key_id, fingerprint, fingerprint_sha256,
             common_name, subject_alternative_names, not_before_ms, not_after_ms, serial_number, issuer, subject,
             key_algorithm, key_size, signature_algorithm, spki_sha256, chain, chain_length, row.deleted_at,
             case when n % 100 = 0 and row.account_id <> 7 then 'rg-1' end
           from row, model;
         insert into server_certificate_tag (account_id, created_ms, random, key, value)
           select account_id, created_ms, random, key, value
           from row, (values ('team', 'shop'), ('env', 'prod')) as tag(key, value) where n % 100 = 0
           union all
           select account_id, created_ms, random, 'number', n::text from row where n % 100 <> 0;
         insert into event (account_id, created_ms, random, revision, kind, access_key_id, request_id)
           select account_id, created_ms, random, 1, 'uploaded', '', gen_random_uuid() from row;
         insert into client_token (account_id, method, client_token, created_ms, random, request_mac)
           select account_id, 'UploadServerCertificate', 'token ' || n, created_ms, random, sha256('')
           from row where deleted_at is null;
         drop table row; drop table model;
         commit"
    );
    sql.batch_execute(&fill).await.unwrap();
    // As autovacuum does sooner or later.
    sql.batch_execute("vacuum analyze").await.unwrap();
}

/// Each call once, so that its statement has come by.
async fn call_all(client: &Client) {
    let model = pb::UploadServerCertificateRequest {
        server_certificate_name: "model".into(),
        client_token: "token".into(),
        tags: tags(&[("team", "shop")]),
        ..upload_of(&pki::issued(Key::P256, "a.example"))
    };
    let id = stored(client, &model).await;
    upload(client, model.clone()).await.unwrap();
    let dry = pb::UploadServerCertificateRequest {
        client_token: String::new(),
        validate_only: true,
        ..model
    };
    upload(client, dry).await.unwrap();
    let gone = stored(client, &upload_of(&pki::self_signed(Key::P256, "gone.example"))).await;
    delete(client, &gone, ANY).await.unwrap();
    get(client, &id).await.unwrap();
    fingerprints(client).await;
    let by_id = Describe {
        server_certificate_id: id,
        ..Default::default()
    };
    let of_region = Describe {
        region_id: REGION.into(),
        ..Default::default()
    };
    let tagged = Describe {
        tags: tags(&[("team", "shop")]),
        ..Default::default()
    };
    let group = get(client, &by_id.server_certificate_id)
        .await
        .unwrap()
        .resource_group_id;
    let of_group = Describe {
        resource_group_id: group,
        ..Default::default()
    };
    for request in [Describe::default(), of_region, of_group, deleted(), tagged, by_id] {
        assert_eq!(describe(client, request).await.0.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_costs_what_it_answers_however_many_certificates_there_are() {
    let (small, large) = (database().await, database().await);
    let (proxy, through) = Proxy::before(&small);
    let server = TestServer::start_on(through, |_| {}).await;
    call_all(&server.client()).await;
    let large_server = TestServer::start_on(large.clone(), |_| {}).await;
    call_all(&large_server.client()).await;
    let (small, large) = (connect_to(&small).await, connect_to(&large).await);
    fill(&small, 1000).await;
    fill(&large, 100_000).await;

    // After the start, and after three quarters.
    let from = |certificates: i64| {
        let quarters = 2_000_000_000_000 + certificates * 3 / 4;
        [(i64::MIN, i64::MIN), (quarters, 0)]
    };
    const ELSEWHERE: &str = "'eu-central-1'";
    // The function, its parameters behind account and position, and how many rows are read for each that is answered: with
    // itself its tags, at most two, and for a tagged one what finds it.
    let pages = [
        ("page", "101", 3.0),
        ("page_of_region", "101, 'cn-hangzhou'", 3.0),
        ("page_of_region", &format!("101, {ELSEWHERE}"), 3.0),
        ("page_of_group", "101, null, ''", 3.0),
        ("page_of_group", "101, null, 'rg-1'", 3.0),
        ("page_of_tagged", "101, null, null, '{team}', '{shop}', false", 6.0),
        (
            "page_of_tagged",
            "101, null, null, '{team,env}', '{shop,prod}', false",
            8.0,
        ),
        ("page_of_tagged", "101, null, null, '{number}', '{77}', false", 6.0),
        ("page_of_tagged", "101, null, null, '{number}', '{none}', false", 6.0),
        ("fingerprint_page", "1001", 1.0),
        ("fingerprint_page", "50001", 1.0),
        ("page_of_deleted", "101, null, null", 3.0),
    ];
    let mut failures = Vec::new();
    for (name, parameters, read_for_each) in pages {
        let statement = proxy.statement(name).unwrap();
        for place in 0..2 {
            let mut all = Vec::new();
            for (sql, certificates) in [(&small, 1000), (&large, 100_000)] {
                let account = account(sql).await;
                // Those that an account may have deleted may be passed over, and of few all may be read and sorted.
                let besides = match (certificates, place, name) {
                    (100_000, 1, "page_of_deleted") => 1000.0,
                    (100_000, 1, _) => 10.0,
                    _ => 1010.0,
                };
                let (created_ms, random) = match name {
                    "page_of_deleted" if place == 1 => (1_900_000_000_750, 0),
                    _ => from(certificates)[place],
                };
                let parameters = format!("{account}, '{created_ms}', '{random}', {parameters}");
                let costs = costs(sql, &statement, &parameters).await;
                for cost in &costs {
                    let fault = !cost.whole_tables.is_empty() || cost.read > cost.answered * read_for_each + besides;
                    if fault {
                        failures.push(format!("{name}({parameters}) of {certificates}: {cost:?}"));
                    }
                }
                all.push(costs);
            }
            for (small, large) in all[0].iter().zip(&all[1]) {
                // For each row, with deeper indexes.
                let for_each = |cost: &Cost| cost.pages / (cost.answered + 1.0);
                if for_each(large) > 3.0 * for_each(small) + 2.0 {
                    failures.push(format!("{name}({parameters}) from {place}: {small:?} {large:?}"));
                }
            }
        }
    }
    // One row, or none.
    for (name, parameters) in [
        ("find", "'{2000000000500}', '{3959500}', '{null}', '{false}'"),
        ("find", "'{2000000000500}', '{3959500}', '{cn-hangzhou}', '{false}'"),
        ("find", "'{1900000000500}', '{500}', '{null}', '{true}'"),
        ("find", "'{2000000000500}', '{1}', '{null}', '{false}'"),
        ("find_with_chain", "2000000000500, 3959500, null"),
        ("used_token", "'UploadServerCertificate', 'token 500'"),
        ("used_token", "'UploadServerCertificate', 'none'"),
    ] {
        let statement = proxy.statement(name).unwrap();
        for sql in [&small, &large] {
            let account = account(sql).await;
            let account = if name == "find" {
                format!("'{{{account}}}'")
            } else {
                account.to_string()
            };
            let parameters = format!("{account}, {parameters}");
            for cost in costs(sql, &statement, &parameters).await {
                if !cost.whole_tables.is_empty() || cost.read > 4.0 || cost.pages > 20.0 {
                    failures.push(format!("{name}({parameters}): {cost:?}"));
                }
            }
        }
    }
    // All of them are of one leaf and one key, and of another leaf with that key there is none.
    let statement = proxy.statement("reuse").unwrap();
    for sql in [&small, &large] {
        let hashes =
            "select quote_literal(spki_sha256) || ', ' || quote_literal(fingerprint_sha256) from server_certificate
                      where created_ms = 2000000000500 and account_id <> 7";
        let hashes: String = sql.query_one(hashes, &[]).await.unwrap().get(0);
        let parameters = format!("{}, {hashes}, 2000000000500, 3959500", account(sql).await);
        for cost in costs(sql, &statement, &parameters).await {
            if !cost.whole_tables.is_empty() || cost.read > 4.0 || cost.pages > 20.0 {
                failures.push(format!("reuse: {cost:?}"));
            }
        }
    }
    // What the job looks for, of which there is nothing here.
    for (name, parameters) in [
        ("purge_of_all_accounts", "604800"),
        ("forget_tokens_of_all_accounts", ""),
    ] {
        let statement = proxy.statement(name).unwrap();
        large.batch_execute("begin").await.unwrap();
        for cost in costs(&large, &statement, parameters).await {
            if !cost.whole_tables.is_empty() || cost.read > 1010.0 {
                failures.push(format!("{name}({parameters}): {cost:?}"));
            }
        }
        large.batch_execute("rollback").await.unwrap();
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    large_server.stop().await;
    server.stop().await;
}

/// The same statements serve both kinds, so that their plans are the same with the same indexes.
#[tokio::test]
async fn the_tables_of_ca_certificates_have_the_indexes_that_lists_and_look_ups_ask_for() {
    let sql = connect_to(&database().await).await;
    let indexes = async |kind: &str| -> Vec<String> {
        // Of the account's fingerprints, which are read from an index alone, there are none of authorities.
        let all = "select replace(replace(indexdef, $1, 'certificate'), ' INCLUDE (fingerprint)', '') from pg_indexes
                   where tablename in ($1, $1 || '_count', $1 || '_tag') order by indexname";
        let rows = sql.query(all, &[&kind]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    };
    let (of_authorities, of_servers) = (indexes("ca_certificate").await, indexes("server_certificate").await);
    assert_eq!(of_authorities.len(), 10, "{of_authorities:#?}");
    for index in &of_authorities {
        assert!(of_servers.contains(index), "{index} is none of {of_servers:#?}");
    }
}

pub async fn account(sql: &Sql) -> i64 {
    let account = "select account_id from account where name = 'default'";
    sql.query_one(account, &[]).await.unwrap().get(0)
}
