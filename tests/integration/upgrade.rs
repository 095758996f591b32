//! Upgrades from each schema that was released: its rows, and the statements of its binary on the schema of this one.

use certkeep::digest;
use certkeep::grpc::pb::{DomainMatch, SearchServerCertificatesRequest as Search};
use certkeep::store::{Settings, Store};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client as Sql, Row};
use uuid::Uuid;

use crate::harness::{Account, Client, REGION, TestServer, connect_to, database};

const MIGRATIONS: [&str; 1] = [include_str!("../../src/store/migrations/0001_initial.sql")];
/// The statements by which the binary of version 1 changed certificates, as it prepared them.
const STATEMENTS_OF_VERSION_1: &str = include_str!("old_statements/version_1.sql");
/// The account that the first further one in a test's database becomes.
const ACCOUNT: i64 = 2_000_000_000_000_001;

/// A database of this version: its connection string and a connection.
async fn database_of_version(version: usize) -> (String, Sql) {
    let database = database().await;
    let sql = connect_to(&database).await;
    let empty = "drop schema public cascade; create schema public;
                 create table schema_migration (
                   version int primary key, checksum bytea not null, oldest_binary int not null,
                   applied_at timestamptz not null default now()
                 )";
    sql.batch_execute(empty).await.unwrap();
    for (version, text) in (1_i32..).zip(&MIGRATIONS[..version]) {
        sql.batch_execute(text).await.unwrap();
        let checksum = digest::sha256(text.as_bytes());
        let insert = "insert into schema_migration (version, checksum, oldest_binary) values ($1, $2, 1)";
        sql.execute(insert, &[&version, &checksum.as_slice()]).await.unwrap();
    }
    (database, sql)
}

/// The text of a statement by its name in the first line.
fn statement<'a>(statements: &'a str, name: &str) -> &'a str {
    let begin = statements.find(&format!("-- store::{name}\n")).unwrap();
    let text = &statements[begin..];
    text.find("\n\n").map_or(text, |end| &text[..end])
}

async fn migrate(database: &str) -> usize {
    let settings = Settings {
        connection_string: database.to_owned(),
        danger_unverified_database: false,
        max_connections: 2,
    };
    let store = Store::new(&settings).unwrap();
    let applied = store.migrate().await.unwrap();
    store.close();
    applied
}

/// What the binary of version 1 did to certificates of the account, each known by a number.
struct Version1<'a>(&'a Sql);

impl Version1<'_> {
    async fn upload(&self, number: i64, common_name: &str, names: &[&str]) {
        let [hash, other] = [20_usize, 32].map(|len| vec![number as u8; len]);
        let text = |text: &'static str| vec![text];
        let name = format!("name-{number}");
        let chain = vec![[0x30_u8, 0].as_slice()];
        let params: [&(dyn ToSql + Sync); 36] = [
            &vec![ACCOUNT],
            &vec![number],
            &vec![number],
            &vec![REGION],
            &vec![name.as_str()],
            &vec![Uuid::from_u128(number as u128)],
            &vec![hash.as_slice()],
            &vec![other.as_slice()],
            &vec![common_name],
            &vec![0_i64],
            &vec![2_000_000_000_000 + number],
            &text("0a"),
            &text("CN=Old CA"),
            &text(""),
            &text("RSA"),
            &vec![2048],
            &text("sha256WithRSAEncryption"),
            &vec![other.as_slice()],
            &vec![b"sealed".as_slice()],
            &text("key"),
            &vec![Uuid::from_u128(number as u128)],
            &vec![true],
            &vec![1_i32],
            &vec![names.len() as i32],
            &vec![1_i32],
            &vec![1_i32],
            &names,
            &chain,
            &vec![1_i64],
            &text("env"),
            &text("old"),
            &1_i64,
            &vec![None::<&str>],
            &vec![None::<&[u8]>],
            &vec![10_000_i64],
            &"UploadServerCertificate",
        ];
        let rows = self.run("upload", &params).await;
        assert!(rows[0].get::<_, bool>("stored"));
    }

    /// Renames, deletes, undeletes or purges: the number of rows that the statement answers.
    async fn change(&self, name: &str, number: i64, value: Option<&(dyn ToSql + Sync)>) -> usize {
        let none = None::<&str>;
        let mut params: Vec<&(dyn ToSql + Sync)> = vec![&ACCOUNT, &number, &number, &none, &None::<i64>, &"key"];
        let request_id = Uuid::from_u128(u128::from_be_bytes(
            digest::sha256(format!("{name} {number}").as_bytes())[..16]
                .try_into()
                .unwrap(),
        ));
        params.push(&request_id);
        params.extend(value);
        self.run(name, &params).await.len()
    }

    /// Again after a deadlock, as the binary does.
    async fn run(&self, name: &str, params: &[&(dyn ToSql + Sync)]) -> Vec<Row> {
        loop {
            match self.0.query(statement(STATEMENTS_OF_VERSION_1, name), params).await {
                Err(error) if error.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED) => {}
                answer => return answer.unwrap(),
            }
        }
    }
}

/// The names of what is found.
async fn found(client: &Client, search: Search) -> Vec<String> {
    let answer = client.clone().search_server_certificates(search).await.unwrap();
    let found = answer.into_inner().server_certificates;
    found.into_iter().map(|one| one.server_certificate_name).collect()
}

fn below(domain: &str) -> Search {
    Search {
        domain: domain.into(),
        domain_match: DomainMatch::Below.into(),
        ..Default::default()
    }
}

/// Number and name, ordered.
async fn domains(sql: &Sql) -> Vec<(i64, String)> {
    let domains = "select created_ms, domain from server_certificate_domain order by 1, 2";
    let rows = sql.query(domains, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_version_1_stored_and_stores_is_searched() {
    let (database, sql) = database_of_version(1).await;
    let old = Version1(&sql);
    let long = format!("{}.shop.example", "a".repeat(250));
    old.upload(
        1,
        "cn.example",
        &["WWW.shop.example.", "www.shop.example", &long, "192.0.2.1"],
    )
    .await;
    old.upload(
        2,
        "Only.example",
        &["2001:db8::1", "https://uri.example/", "a@mail.example"],
    )
    .await;
    old.upload(3, "no host", &[]).await;
    assert_eq!(old.change("delete", 1, None).await, 1);

    assert_eq!(migrate(&database).await, certkeep::store::schema_version() as usize - 1);
    let first = [
        (1, "192.0.2.1".to_owned()),
        (1, "example.shop.www".to_owned()),
        (2, "2001:db8::1".to_owned()),
        (2, "example.only".to_owned()),
    ];
    assert_eq!(domains(&sql).await, first);

    // The old binary goes on while the new one serves.
    let server = TestServer::start_on(database, |_| {}).await;
    let key = server.add_key("reader", Account::New).await;
    let client = server.client_with(Some(&format!("Bearer {key}")));
    assert_eq!(found(&client, below("shop.example")).await, [""; 0]);
    assert_eq!(found(&client, below("only.example")).await, ["name-2"]);
    old.upload(4, "", &["*.shop.example", "b.example"]).await;
    assert_eq!(old.change("rename", 4, Some(&"renamed")).await, 1);
    assert_eq!(old.change("undelete", 1, Some(&10_000_i64)).await, 1);
    assert_eq!(found(&client, below("shop.example")).await, ["name-1", "renamed"]);
    for search in [
        Search {
            issuer: "CN=Old CA".into(),
            ..Default::default()
        },
        Search {
            serial_number: "A".into(),
            ..Default::default()
        },
        Search {
            key_algorithm: "RSA".into(),
            key_size: 2048,
            ..Default::default()
        },
    ] {
        assert_eq!(found(&client, search).await, ["name-1", "name-2", "name-3", "renamed"]);
    }
    let renamed = Search {
        server_certificate_name_prefix: "re".into(),
        ..Default::default()
    };
    assert_eq!(found(&client, renamed).await, ["renamed"]);

    // Its deletes for good take the domains with them.
    assert_eq!(old.change("delete_for_good", 4, None).await, 1);
    assert_eq!(old.change("delete", 2, None).await, 1);
    assert_eq!(found(&client, below("only.example")).await, [""; 0]);
    assert_eq!(old.change("purge", 2, None).await, 1);
    assert_eq!(domains(&sql).await, first[..2]);
    server.stop().await;
}

/// As a renewal will.
#[tokio::test]
async fn a_certificate_whose_names_change_is_found_by_the_new_ones() {
    let database = database().await;
    let sql = connect_to(&database).await;
    Version1(&sql)
        .upload(1, "cn.example", &["a.example", "b.example"])
        .await;
    Version1(&sql).upload(2, "cn.example", &["a.example"]).await;
    let renew = "update server_certificate set subject_alternative_names = '{b.example,C.example}', common_name = 'x'
                 where created_ms = 1";
    sql.execute(renew, &[]).await.unwrap();
    let expected = [(1, "example.b"), (1, "example.c"), (2, "example.a")];
    assert_eq!(
        domains(&sql).await,
        expected.map(|(number, name)| (number, name.to_owned()))
    );
}

/// Each locks the tables of the other in another order, so that one of the two is sent back now and then: the old binary's
/// statement, which it repeats, or the migration, which is repeated too.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_migrated_while_the_old_binary_uploads_and_deletes() {
    let (database, sql) = database_of_version(1).await;
    for number in 1..=40 {
        Version1(&sql).upload(number, "old.example", &[]).await;
    }
    let other = connect_to(&database).await;
    let stop = tokio_util::sync::CancellationToken::new();
    let stopped = stop.clone();
    let working = tokio::spawn(async move {
        let old = Version1(&other);
        let mut uploaded = 40;
        while !stopped.is_cancelled() || uploaded < 60 {
            uploaded += 1;
            old.upload(uploaded, "old.example", &[]).await;
            old.change("delete", uploaded - 40, None).await;
            old.change("undelete", uploaded - 40, Some(&10_000_i64)).await;
        }
        uploaded
    });
    assert_eq!(migrate(&database).await, certkeep::store::schema_version() as usize - 1);
    stop.cancel();
    let uploaded = working.await.unwrap();
    let live =
        "select count(*) from server_certificate_domain join server_certificate using (account_id, created_ms, random)
                where deleted_at is null and domain = 'example.old'";
    let live: i64 = sql.query_one(live, &[]).await.unwrap().get(0);
    assert_eq!(live, uploaded);
}
