//! How Postgres carries out what lists and look-ups ask for: with many certificates as with few.

use certkeep::grpc::pb::{self, DescribeServerCertificatesRequest as Describe};
use serde_json::Value;
use tokio_postgres::{Client as Sql, SimpleQueryMessage};

use crate::batches::store_together;
use crate::calls::{ANY, delete, deleted, describe, fingerprints, get, purge, rename, stored, tags, undelete, upload};
use crate::harness::{Client, REGION, TestServer, connect_to, database, until, upload_of};
use crate::key_pairs::consumer;
use crate::pki::{self, Key};
use crate::proxy::Proxy;
use crate::resource_groups::{deleted_group, move_to};
use crate::tags::tag;

/// Of tables that grow with what is stored.
const GROWING: [&str; 6] = [
    "certificate",
    "private_key",
    "certificate_tag",
    "searchable_name",
    "event",
    "client_token",
];

const JOBS: [&str; 2] = ["purge_of_all_accounts", "forget_tokens_of_all_accounts"];

/// What a plan cost.
#[derive(Clone, Debug)]
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
            let read = rows * number(node, "Actual Loops");
            self.read += read;
            // Of one that is joined with nothing a row is read before that is found out.
            if read > 1.0
                && GROWING.contains(&table)
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

/// What a statement is asked, and what it may cost.
pub struct Asked {
    pub name: &'static str,
    pub parameters: String,
    /// How many rows it may read for each that it answers.
    pub read_for_each: f64,
    /// How many it may read besides.
    pub besides: f64,
    /// How many pages it may touch. `None`: for each row that it answers as many of many certificates as of few.
    pub pages: Option<f64>,
}

/// A session that has prepared certkeep's statements and planned each once, for any parameters. So have certkeep's own, which
/// keep a plan until the statistics of its tables are renewed.
pub struct Session {
    sql: Sql,
    /// What was planned for each, by its name, as EXPLAIN shows it.
    plans: Vec<(String, String)>,
}

impl Session {
    /// With the statements that came by at the proxy.
    pub async fn of(database: &str, proxy: &Proxy) -> Self {
        let sql = connect_to(database).await;
        // As those of the store.
        let mode = "set plan_cache_mode = force_generic_plan; set enable_seqscan = off; set enable_bitmapscan = off; set jit = off";
        sql.batch_execute(mode).await.unwrap();
        let mut plans = Vec::new();
        for (name, statement) in proxy.statements() {
            let prepare = format!("prepare \"{name}\" as {statement}");
            sql.batch_execute(&prepare).await.unwrap();
            let plan = plan(&sql, &name).await;
            plans.push((name, plan));
        }
        Self { sql, plans }
    }

    /// One whose plans are made while next to nothing is stored, and stay. `filling` is the session that will store more.
    pub async fn early(database: &str, proxy: &Proxy, filling: &Sql) -> Self {
        // New statistics renew plans, and so does a new schema, which a session's first temporary table makes.
        let mut quiet = "create temporary table first (); drop table first;".to_owned();
        for table in GROWING {
            quiet.push_str(&format!("alter table {table} set (autovacuum_enabled = off);"));
        }
        filling.batch_execute(&quiet).await.unwrap();
        Self::of(database, proxy).await
    }

    /// It still has the plans that it began with.
    pub async fn assert_plans_stayed(&self) {
        for (name, before) in &self.plans {
            assert_eq!(&plan(&self.sql, name).await, before, "{name} was planned again");
        }
    }

    async fn cost(&self, name: &str, parameters: &str) -> Cost {
        let explain = format!("explain (analyze, buffers, format json) {}", execute(name, parameters));
        let plan = first_column(&self.sql, &explain).await;
        Cost::of(&serde_json::from_str(&plan).unwrap())
    }

    /// What each costs.
    pub async fn costs(&self, all: &[Asked]) -> Vec<Cost> {
        self.sql.batch_execute("begin").await.unwrap();
        let mut costs = Vec::new();
        for asked in all {
            costs.push(self.cost(asked.name, &asked.parameters).await);
        }
        self.sql.batch_execute("rollback").await.unwrap();
        costs
    }

    /// The same, the second time: what the first reader of a table tidies up does not count.
    pub async fn costs_again(&self, all: &[Asked]) -> Vec<Cost> {
        self.costs(all).await;
        self.costs(all).await
    }

    /// What an upload costs, and each change of the model, and how many rows of growing tables it reads, with its triggers and
    /// constraints. Nothing of it stays.
    async fn changes(&self) -> Vec<(&'static str, Cost)> {
        let account = account(&self.sql).await;
        let id = "select concat_ws(', ', account_id, created_ms, random),
                    format('%s, ''{%s}'', ''{%s}''', account_id, created_ms, random)
                  from certificate where name = 'model' and account_id <> 7";
        let row = self.sql.query_one(id, &[]).await.unwrap();
        let (id, ids): (String, String) = (row.get(0), row.get(1));
        let of_it = format!("{id}, null, null, null, '', gen_random_uuid(), null, null, null, null");
        let tags = "'{env}', '{prod}', '{team}', '', gen_random_uuid(), null";
        let changes = [
            ("upload", new_certificate(&self.sql, 1, true).await),
            ("upload_together", new_certificate(&self.sql, 2, false).await),
            ("tagged", format!("{ids}, '{REGION}', null, null, null")),
            ("set_tags", format!("{ids}, '{{1}}', {tags}")),
            ("rename", format!("{of_it}, 'new'")),
            ("move_to_group", format!("{of_it}, null")),
            ("delete", format!("{of_it}, false")),
            ("undelete", format!("{of_it}, 1000000")),
            ("delete", format!("{of_it}, false")),
            ("current_state", format!("{id}, 'server', null, null, null")),
            ("purge", of_it),
            (
                "delete_resource_group",
                format!("{account}, {account}, '', gen_random_uuid(), null, 'rg-empty'"),
            ),
        ];
        let empty_group = format!(
            "begin; insert into resource_group (account_id, resource_group_id, name) values ({account}, 'rg-empty', 'empty')"
        );
        self.sql.batch_execute(&empty_group).await.unwrap();
        let mut costs = Vec::new();
        for (name, parameters) in changes {
            let before = self.rows_so_far().await;
            let mut cost = self.cost(name, &parameters).await;
            let constraints = "set constraints all immediate; set constraints all deferred";
            self.sql.batch_execute(constraints).await.unwrap();
            cost.read = cost.read.max(self.rows_so_far().await - before);
            costs.push((name, cost));
        }
        self.sql.batch_execute("rollback").await.unwrap();
        costs
    }

    /// How many rows of growing tables this transaction has read.
    async fn rows_so_far(&self) -> f64 {
        let read = "select coalesce(sum(seq_tup_read + idx_tup_fetch), 0)::float8 from pg_stat_xact_user_tables
                    where relname = any($1)";
        let growing = GROWING.as_slice();
        self.sql.query_one(read, &[&growing]).await.unwrap().get(0)
    }
}

fn execute(name: &str, parameters: &str) -> String {
    match parameters {
        "" => format!("execute \"{name}\""),
        _ => format!("execute \"{name}\"({parameters})"),
    }
}

async fn first_column(sql: &Sql, query: &str) -> String {
    let answer = sql.simple_query(query).await.unwrap();
    let rows = answer.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    rows.collect::<Vec<_>>().join("\n")
}

/// The plan of a prepared statement for any parameters.
async fn plan(sql: &Sql, name: &str) -> String {
    let nulls = "select array_to_string(array_fill('null'::text, array[cardinality(parameter_types)]), ', ')
                 from pg_prepared_statements where name = $1";
    let nulls: String = sql.query_one(nulls, &[&name]).await.unwrap().get(0);
    first_column(sql, &format!("explain {}", execute(name, &nulls))).await
}

/// The parameters of the upload of one more certificate that is the model's, with this number, alone or in a batch.
async fn new_certificate(sql: &Sql, number: i64, is_alone: bool) -> String {
    let of_row = format!(
        "account_id, 2100000000000, {number}, kind, region_id, 'new', key_id, fingerprint, fingerprint_sha256, common_name,
         not_before_ms, not_after_ms,
         chain_not_after_ms, serial_number, issuer, searchable_issuer, subject, key_algorithm, key_size, signature_algorithm, spki_sha256,
         chain_length, null::text, null::text, null::text, null::text, cardinality(subject_alternative_names),
         cardinality(searchable_names), ''::bytea, 'key', gen_random_uuid(), '192.0.2.1'::inet,
         false, 'UploadServerCertificate', 'new token {number}', sha256(''), 1000000"
    );
    let (begin, end) = match is_alone {
        true => ("quote_nullable(", ")"),
        false => ("quote_nullable(array[", "])"),
    };
    let of_row: Vec<_> = of_row
        .split(',')
        .map(|column| format!("{begin}{column}{end}"))
        .collect();
    let parameters = format!(
        "select concat_ws(', ', {}, quote_literal(subject_alternative_names), quote_literal(chain),
           quote_literal(searchable_names), $$'{{1}}', '{{team}}', '{{shop}}'$$)
         from certificate where name = 'model' and account_id <> 7",
        of_row.join(", ")
    );
    first_column(sql, &parameters).await
}

/// What costs more than it may, of few certificates and of many, and of many with plans that were made early. Of many more may
/// be asked: the first are those asked of few.
pub fn faults(few: (&[Asked], Vec<Cost>), many: (&[Asked], Vec<Cost>), early: Vec<Cost>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut hold = |of: &str, asked: &Asked, cost: &Cost, most_pages: f64| {
        let most = cost.answered * asked.read_for_each + asked.besides;
        if !cost.whole_tables.is_empty() || cost.read > most || cost.pages > most_pages {
            faults.push(format!("{}({}) of {of}: {cost:?}", asked.name, asked.parameters));
        }
    };
    let pages_for_each = |cost: &Cost| cost.pages / (cost.answered + 1.0);
    for (asked, cost) in few.0.iter().zip(&few.1) {
        hold("few", asked, cost, asked.pages.unwrap_or(f64::INFINITY));
    }
    for (place, (asked, cost)) in many.0.iter().zip(&many.1).enumerate() {
        let most_pages = match (asked.pages, few.1.get(place)) {
            (Some(pages), _) => pages,
            // Indexes are deeper.
            (None, Some(few)) => (3.0 * pages_for_each(few) + 2.0) * (cost.answered + 1.0),
            (None, None) => f64::INFINITY,
        };
        hold("many", asked, cost, most_pages);
        // Before the first vacuum a row is looked up behind each entry of an index.
        let of_early = &early[place];
        let most_pages = 3.0 * cost.pages + 2.0 * of_early.read + 50.0;
        hold("many, planned early", asked, of_early, most_pages);
    }
    faults
}

/// So many certificates of the account, every hundredth of them tagged and every tenth in another region, and for each a token
/// and an event; 1,000 deleted ones; and some of another account.
async fn fill(sql: &Sql, certificates: i64) {
    let fill = format!(
        "begin;
         create temporary table model as select c.*, sealed from certificate c
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
         insert into certificate (
           account_id, created_ms, random, kind, region_id, name, revision, version, key_id, fingerprint, fingerprint_sha256,
           common_name, subject_alternative_names, searchable_names, not_before_ms, not_after_ms,
           chain_not_after_ms, serial_number, issuer, searchable_issuer, subject,
           key_algorithm, key_size, signature_algorithm, spki_sha256, chain, chain_length, deleted_at, resource_group_id
         )
           select row.account_id, row.created_ms, row.random, kind, case when n % 10 = 0 then 'eu-central-1' else 'cn-hangzhou' end,
             'n' || n, revision, version, key_id, fingerprint, fingerprint_sha256,
             common_name, subject_alternative_names, searchable_names, not_before_ms, not_after_ms,
             chain_not_after_ms, serial_number, issuer, searchable_issuer, subject,
             key_algorithm, key_size, signature_algorithm, spki_sha256, chain, chain_length, row.deleted_at,
             case when n % 100 = 0 and row.account_id <> 7 then 'rg-1' end
           from row, model;
         insert into searchable_name (account_id, searchable_name, created_ms, random)
           select row.account_id, unnest(searchable_names), row.created_ms, row.random from row, model;
         insert into certificate_tag (account_id, created_ms, random, kind, key, value)
           select account_id, created_ms, random, 'server', key, value
           from row, (values ('team', 'shop'), ('env', 'prod')) as tag(key, value) where n % 100 = 0
           union all
           select account_id, created_ms, random, 'server', 'number', n::text from row where n % 100 <> 0;
         insert into event (account_id, position, created_ms, random, certificate_kind, kind, revision, version, principal, request_id)
           select account_id, 1000 + row_number() over (), created_ms, random, 'server', 'uploaded', 1, 1, '', gen_random_uuid() from row;
         insert into stream as s (account_id, name, position)
           select account_id, 'certificates', max(position) from event group by account_id
           on conflict (account_id, name) do update set position = excluded.position;
         update certificate_count set deleted = 1000 where kind = 'server' and region_id = 'cn-hangzhou';
         insert into client_token (account_id, method, client_token, created_ms, random, request_mac)
           select account_id, 'UploadServerCertificate', 'token ' || n, created_ms, random, sha256('')
           from row where deleted_at is null;
         drop table row; drop table model;
         commit"
    );
    sql.batch_execute(&fill).await.unwrap();
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
    rename(client, &gone, "renamed", ANY).await.unwrap();
    tag(client, &[&gone], &[("team", "shop")]).await.unwrap();
    let default_group = get(client, &gone).await.unwrap().resource_group_id;
    move_to(client, &gone, &default_group).await.unwrap();
    delete(client, &gone, ANY).await.unwrap();
    undelete(client, &gone, ANY).await.unwrap();
    delete(client, &gone, ANY).await.unwrap();
    purge(client, &gone, ANY).await.unwrap();
    purge(client, &gone, ANY).await.unwrap_err();
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
    let of_group = Describe {
        resource_group_id: default_group.clone(),
        ..Default::default()
    };
    let of_small_region = Describe {
        region_id: REGION.into(),
        resource_group_id: default_group.clone(),
        tags: tags(&[("team", "shop")]),
        ..Default::default()
    };
    let nowhere = Describe {
        region_id: "eu-central-1".into(),
        ..of_small_region.clone()
    };
    assert_eq!(describe(client, nowhere).await.0.len(), 0);
    for request in [
        Describe::default(),
        of_region,
        of_group,
        of_small_region,
        deleted(),
        tagged,
        by_id,
    ] {
        assert_eq!(describe(client, request).await.0.len(), 1);
    }
}

/// What lists, look-ups and jobs ask of a database with so many certificates.
async fn asked(sql: &Sql, certificates: i64) -> Vec<Asked> {
    const LARGE: i64 = 100_000;
    let account = account(sql).await;
    // After the start, and after three quarters.
    let places = [(i64::MIN, i64::MIN), (2_000_000_000_000 + certificates * 3 / 4, 0)];
    const ELSEWHERE: &str = "'eu-central-1'";
    // The function, its parameters behind account and position, and how many rows are read for each that is answered: with
    // itself its tags, at most two, and for a tagged one what finds it.
    let pages = [
        ("page", "101, null, null, null, null", 3.0),
        (
            "page_of_region",
            "101, null, null, null, null, 'server', 'cn-hangzhou'",
            3.0,
        ),
        (
            "page_of_region",
            &format!("101, null, null, null, null, 'server', {ELSEWHERE}"),
            3.0,
        ),
        ("page_of_region", "101, null, null, null, null, 'server', 'none'", 3.0),
        ("page_of_group", "101, null, null, null, null, 'server', null, ''", 3.0),
        (
            "page_of_group",
            "101, null, null, null, null, 'server', null, 'none'",
            3.0,
        ),
        (
            "page_of_group",
            "101, null, null, null, null, 'server', null, 'rg-1'",
            3.0,
        ),
        (
            "page_of_tagged",
            "101, null, null, null, null, 'server', null, null, '{team}', '{shop}', false",
            6.0,
        ),
        (
            "page_of_tagged",
            "101, null, null, null, null, 'server', null, null, '{team,env}', '{shop,prod}', false",
            8.0,
        ),
        (
            "page_of_tagged",
            "101, null, null, null, null, 'server', null, null, '{number}', '{77}', false",
            6.0,
        ),
        (
            "page_of_tagged",
            "101, null, null, null, null, 'server', null, null, '{number}', '{none}', false",
            6.0,
        ),
        // Its other certificates are in this group, and have this tag, in other regions.
        (
            "page_of_small_region",
            "101, null, null, null, null, 'server', 'none', '', '{}', '{}'",
            3.0,
        ),
        (
            "page_of_small_region",
            "101, null, null, null, null, 'server', 'none', null, '{number}', '{77}'",
            3.0,
        ),
        ("fingerprint_page", "1001", 1.0),
        ("fingerprint_page", "50001", 1.0),
        (
            "page_of_deleted",
            "101, null, null, null, null, 'server', null, null",
            3.0,
        ),
    ];
    let mut all = Vec::new();
    for (name, parameters, read_for_each) in pages {
        for (place, (created_ms, random)) in places.into_iter().enumerate() {
            let (created_ms, random) = match name {
                "page_of_deleted" if place == 1 => (1_900_000_000_750, 0),
                _ => (created_ms, random),
            };
            all.push(Asked {
                name,
                parameters: format!("{account}, '{created_ms}', '{random}', {parameters}"),
                read_for_each,
                // Those that an account may have deleted may be passed over, and of few all may be read and sorted.
                besides: match (certificates, place, name) {
                    (LARGE, 1, "page_of_deleted") => 1000.0,
                    (LARGE, 1, _) => 10.0,
                    _ => 1010.0,
                },
                pages: None,
            });
        }
    }
    // One row, or none.
    let one = |name, parameters: String| Asked {
        name,
        parameters,
        read_for_each: 0.0,
        besides: 4.0,
        pages: Some(20.0),
    };
    for parameters in [
        "'{2000000000500}', '{3959500}', '{server}', '{null}', '{false}'",
        "'{2000000000500}', '{3959500}', '{server}', '{cn-hangzhou}', '{false}'",
        "'{1900000000500}', '{500}', '{server}', '{null}', '{true}'",
        "'{2000000000500}', '{1}', '{server}', '{null}', '{false}'",
    ] {
        all.push(one("find", format!("'{{{account}}}', {parameters}")));
    }
    for (name, parameters) in [
        ("find_with_chain", "2000000000500, 3959500, null, 'server'"),
        ("find_key_pair", "2000000000500, 3959500, null, 0, 0"),
        ("find_key_pair", "2000000000500, 3959500, null, 9, 0"),
        ("find_key_pair", "2000000000500, 3959500, null, 0, 1"),
        ("find_name", "'n500', null, null, null, null, 1000"),
        ("find_name", "'none', null, null, null, null, 1000"),
        ("used_token", "'UploadServerCertificate', 'token 500'"),
        ("used_token", "'UploadServerCertificate', 'none'"),
    ] {
        all.push(one(name, format!("{account}, {parameters}")));
    }
    // All of them are of one leaf and one key, and of another leaf with that key there is none.
    let hashes = "select quote_literal(spki_sha256) || ', ' || quote_literal(fingerprint_sha256) from certificate
                  where created_ms = 2000000000500 and account_id <> 7";
    let hashes: String = sql.query_one(hashes, &[]).await.unwrap().get(0);
    all.push(one(
        "reuse",
        format!("{account}, {hashes}, 2000000000500, 3959500, 'server'"),
    ));
    // What the jobs look for. Of the account's deleted ones, which are read to count them, one is too many.
    if certificates == LARGE {
        let (a_week_ago, a_day_ago) = (milliseconds_before_now(7), milliseconds_before_now(1));
        for (name, (parameters, besides)) in JOBS.into_iter().zip([(a_week_ago, 2020.0), (a_day_ago, 10.0)]) {
            all.push(Asked {
                name,
                parameters,
                read_for_each: 0.0,
                besides,
                pages: None,
            });
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_costs_what_it_answers_however_many_certificates_there_are() {
    let (small, large) = (database().await, database().await);
    let (proxy, through) = Proxy::before(&small);
    let server = TestServer::start_on(through, |_| {}).await;
    call_all(&server.client()).await;
    deleted_group(&server).await;
    let by_name = pb::GetKeyPairRequest {
        server_certificate_name: "model".into(),
        ..Default::default()
    };
    consumer(&server).await.get_key_pair(by_name).await.unwrap();
    store_together(connect_to(&small).await, &server.client()).await;
    let large_server = TestServer::start_on(large.clone(), |_| {}).await;
    call_all(&large_server.client()).await;
    let (of_small, of_large) = (connect_to(&small).await, connect_to(&large).await);
    until(async || JOBS.iter().all(|job| proxy.statements().contains_key(*job))).await;
    let session = Session::early(&large, &proxy, &of_large).await;
    // What constraints ask is planned when it is asked first.
    session.changes().await;
    fill(&of_small, 1000).await;
    fill(&of_large, 100_000).await;
    let (of_few, of_many) = (asked(&of_small, 1000).await, asked(&of_large, 100_000).await);
    let early = session.costs(&of_many).await;
    let mut changes = session.changes().await;
    session.assert_plans_stayed().await;

    // As autovacuum does sooner or later.
    for sql in [&of_small, &of_large] {
        sql.batch_execute("vacuum analyze").await.unwrap();
    }
    let few = Session::of(&small, &proxy).await.costs_again(&of_few).await;
    let session = Session::of(&large, &proxy).await;
    let many = session.costs_again(&of_many).await;
    changes.extend(session.changes().await);
    let mut failures = faults((&of_few, few), (&of_many, many), early);
    for (name, cost) in changes {
        if !cost.whole_tables.is_empty() || cost.read > 50.0 || cost.pages > 500.0 {
            failures.push(format!("{name}: {cost:?}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    large_server.stop().await;
    server.stop().await;
}

pub async fn account(sql: &Sql) -> i64 {
    let account = "select account_id from account where name = 'default'";
    sql.query_one(account, &[]).await.unwrap().get(0)
}

/// A parameter: milliseconds since 1970, so many days ago.
fn milliseconds_before_now(days: i64) -> String {
    format!("(extract(epoch from now() - interval '{days} days') * 1000)::bigint")
}
