//! Uploads that wait while others are under way are stored together, and each stands or falls on its own.

use std::collections::BTreeSet;
use std::time::Duration;

use certkeep::grpc::pb;
use tokio::task::JoinSet;
use tokio_postgres::Client as Sql;
use tonic::{Code, Status};

use crate::calls::{counters, describe, refusal, stored, tags, upload};
use crate::harness::{Account, Client, REGION, TestServer, connect_to, database, rows, until_waiting, upload_of};
use crate::pki::{self, Key};
use crate::proxy::{Moment, Proxy, Way};

type Uploaded = Result<pb::UploadServerCertificateResponse, Status>;

/// An upload without what counts for several, named after its certificate.
fn small(name: &str) -> pb::UploadServerCertificateRequest {
    pb::UploadServerCertificateRequest {
        server_certificate_name: name.into(),
        omit_account_fingerprints: true,
        ..upload_of(&pki::issued(Key::P256, name))
    }
}

/// How many batches are under way at once while each is slow.
const AT_ONCE: usize = 8;

/// Uploads that come while as many as may be are under way and held up.
struct HeldUp {
    sql: Sql,
    calls: JoinSet<Uploaded>,
}

impl HeldUp {
    async fn begin(sql: Sql, client: &Client) -> Self {
        sql.batch_execute("begin; grant update on event to certkeep; lock table event in exclusive mode")
            .await
            .unwrap();
        let mut held_up = Self {
            sql,
            calls: JoinSet::new(),
        };
        let first = small("first.example");
        for number in 1..=AT_ONCE {
            held_up.come(client, first.clone());
            until_waiting(&held_up.sql, "store::upload", number as i64).await;
        }
        held_up
    }

    fn come(&mut self, client: &Client, request: pb::UploadServerCertificateRequest) {
        let client = client.clone();
        self.calls.spawn(async move { upload(&client, request).await });
    }

    /// Waits until those that came wait in front of the ones under way. Nothing outside certkeep can see that.
    async fn have_come(&self) {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }

    async fn go_on(self) -> (Vec<Uploaded>, Sql) {
        self.sql.batch_execute("commit").await.unwrap();
        (self.calls.join_all().await, self.sql)
    }
}

/// Stores a few certificates in one statement.
pub async fn store_together(sql: Sql, client: &Client) {
    let mut held_up = HeldUp::begin(sql, client).await;
    for name in ["a.example", "b.example"] {
        held_up.come(client, small(name));
    }
    held_up.have_come().await;
    let (answers, sql) = held_up.go_on().await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert!(together(&sql).await > 1, "none were stored together");
}

/// Of how many certificates the largest transaction stored.
async fn together(sql: &Sql) -> i64 {
    let largest = "select max(uploads) from (
                     select count(*) as uploads from event where kind = 'uploaded' group by xmin::text
                   ) as transactions";
    sql.query_one(largest, &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_is_stored_or_refused_as_it_would_be_alone() {
    let server = TestServer::start().await;
    let sql = server.sql().await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let key = server.add_key("editor", Account::New).await;
        clients.push(server.client_with(Some(&format!("Bearer {key}"))));
    }
    let [client, limited, retrying] = &clients[..] else {
        unreachable!()
    };
    let quota = "insert into quota (account_id, kind, maximum)
                 select account_id, 'server', 1 from account where name = 'account 3'";
    assert_eq!(sql.execute(quota, &[]).await.unwrap(), 1);

    let mut held_up = HeldUp::begin(sql, &server.client()).await;
    let mut expected = Vec::new();
    for (number, region) in [REGION, "eu-central-1", REGION].into_iter().enumerate() {
        let number = number.to_string();
        let request = pb::UploadServerCertificateRequest {
            region_id: region.into(),
            tags: tags(&[("number", &number), ("team", "shop")]),
            ..small(&format!("n{number}.example"))
        };
        expected.push(request.clone());
        held_up.come(client, request);
    }
    for name in ["one.example", "two.example", "three.example"] {
        held_up.come(limited, small(name));
    }
    let retried = pb::UploadServerCertificateRequest {
        client_token: "retry 1".into(),
        omit_account_fingerprints: false,
        ..small("retried.example")
    };
    for _ in 0..3 {
        held_up.come(retrying, retried.clone());
    }
    held_up.have_come().await;
    let (answers, sql) = held_up.go_on().await;
    assert!(together(&sql).await > 1, "the test has stored none together");

    let (answers, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!(refused.len(), 2);
    for refused in refused {
        assert_eq!(refusal(refused), (Code::ResourceExhausted, "QUOTA_EXCEEDED".into()));
    }
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    let ids: BTreeSet<_> = answers.iter().map(|answer| &answer.server_certificate_id).collect();
    assert_eq!(
        (answers.len(), ids.len()),
        (AT_ONCE + 7, AT_ONCE + 5),
        "the retried one is one"
    );
    for answer in answers.iter().filter(|answer| answer.common_name == "retried.example") {
        assert_eq!(answer.account_fingerprints, [answer.fingerprint.as_str()]);
    }
    let listed = describe(client, Default::default()).await.0;
    assert_eq!(listed.len(), expected.len());
    for request in expected {
        let name = &request.server_certificate_name;
        let found = listed
            .iter()
            .find(|certificate| certificate.server_certificate_name == *name);
        let found = found.unwrap();
        assert_eq!((&found.region_id, &found.tags), (&request.region_id, &request.tags));
        assert_eq!(found.subject_alternative_names, [name.clone(), format!("www.{name}")]);
        let whole = crate::calls::get(client, &found.server_certificate_id).await.unwrap();
        assert_eq!(whole.certificate_chain, request.server_certificate);
    }
    assert!(counters(&sql).await.iter().all(|(_, counted, live)| counted == live));
    let stored = (AT_ONCE + 5) as i64;
    assert_eq!(rows(&sql).await, [stored, stored, 6, stored]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_the_database_fails_on_takes_no_other_along() {
    let server = TestServer::start().await;
    let sql = server.sql().await;
    sql.batch_execute(
        "create function fail() returns trigger language plpgsql as $$
         begin if new.name = 'bad.example' then raise 'a fault'; end if; return new; end $$;
         create trigger fail before insert on certificate for each row execute function fail()",
    )
    .await
    .unwrap();
    let mut held_up = HeldUp::begin(sql, &server.client()).await;
    for name in ["a.example", "b.example", "bad.example", "c.example", "d.example"] {
        held_up.come(&server.client(), small(name));
    }
    held_up.have_come().await;
    let (answers, sql) = held_up.go_on().await;
    let refused: Vec<_> = answers.into_iter().filter(Result::is_err).collect();
    assert_eq!(refused.len(), 1);
    for refused in refused {
        assert_eq!(refusal(refused), (Code::Internal, "INTERNAL".into()));
    }
    assert_eq!(rows(&sql).await, [12, 12, 0, 12]);
    assert_eq!(counters(&sql).await, [(REGION.into(), 12, 12)]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_connection_is_lost_is_stored_once() {
    let database = database().await;
    let (proxy, through) = Proxy::before(&database);
    let server = TestServer::start_on(through, |_| {}).await;
    let client = server.client();
    for (round, moment) in (1..).zip([Moment::BeforeStatement, Moment::BeforeAnswer]) {
        let mut held_up = HeldUp::begin(connect_to(&database).await, &client).await;
        proxy.cut_at("cut.example", moment, Way::Open);
        for name in ["a.example", "b.example", "cut.example", "c.example"] {
            held_up.come(&client, small(name));
        }
        held_up.have_come().await;
        let (answers, sql) = held_up.go_on().await;
        assert!(proxy.has_cut(), "{moment:?}");
        assert!(answers.iter().all(Result::is_ok), "{moment:?}: {answers:?}");
        if moment == Moment::BeforeAnswer {
            assert!(together(&sql).await > 1, "the test has stored none together");
        }
        assert_eq!(rows(&sql).await, [12 * round, 12 * round, 0, 12 * round], "{moment:?}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_of_many_accounts_to_two_replicas_at_once_are_all_stored() {
    let server = TestServer::start().await;
    let replica = server.replica(|_| {}).await;
    let mut keys = Vec::new();
    for _ in 0..4 {
        keys.push(server.add_key("editor", Account::New).await);
    }
    let request = small("a.example");
    stored(&server.client(), &request).await;
    let mut calls = JoinSet::new();
    for number in 0..16 {
        let server = if number % 2 == 0 { &server } else { &replica };
        let authorizations: Vec<_> = keys.iter().map(|key| format!("Bearer {key}")).collect();
        let clients: Vec<_> = authorizations.iter().map(|key| server.client_with(Some(key))).collect();
        let request = request.clone();
        calls.spawn(async move {
            for round in 0..10 {
                // Tokens and accounts in ever other orders, so that batches that lock them in the order in which they come meet.
                let place = (number * 7 + round * 3) % clients.len();
                let request = pb::UploadServerCertificateRequest {
                    client_token: format!("token {number} {round}"),
                    ..request.clone()
                };
                upload(&clients[place], request).await.unwrap();
            }
        });
    }
    calls.join_all().await;
    let sql = server.sql().await;
    assert!(together(&sql).await > 1, "the test has stored none together");
    assert_eq!(rows(&sql).await, [161, 161, 0, 161]);
    assert!(counters(&sql).await.iter().all(|(_, counted, live)| counted == live));
    let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
    assert_eq!(sql.query_one(deadlocks, &[]).await.unwrap().get::<_, i64>(0), 0);
    replica.stop().await;
    server.stop().await;
}

/// How many uploads a second so many callers make.
async fn rate(client: &crate::harness::Client, pair: &crate::pki::Pair, callers: usize) -> f64 {
    let time = Duration::from_secs(3);
    let begun = std::time::Instant::now();
    let mut calling = tokio::task::JoinSet::new();
    for _ in 0..callers {
        let (client, pair) = (client.clone(), pair.clone());
        calling.spawn(async move {
            let mut uploads = 0;
            while begun.elapsed() < time {
                let request = pb::UploadServerCertificateRequest {
                    omit_account_fingerprints: true,
                    ..upload_of(&pair)
                };
                client.clone().upload_server_certificate(request).await.unwrap();
                uploads += 1;
            }
            uploads
        });
    }
    let uploads: u32 = calling.join_all().await.into_iter().sum();
    f64::from(uploads) / begun.elapsed().as_secs_f64()
}

/// Uploads a second depend on the machine's processors too. So the number of connections shows that statements overlap: while one
/// statement is in flight at a time, uploads need one connection.
#[tokio::test(flavor = "multi_thread")]
async fn batches_overlap_when_the_database_is_far_away() {
    let near = TestServer::start().await;
    let (proxy, through) = Proxy::before(near.database());
    proxy.set(Way::Slow(Duration::from_millis(10)));
    let far = near.replica_on(through, "", |_| {}).await;
    let pair = pki::self_signed(Key::P256, "a.example");
    let client = far.client();
    rate(&client, &pair, 64).await;
    let (one, many) = (rate(&client, &pair, 1).await, rate(&client, &pair, 64).await);
    assert!(many > 4.0 * one, "one caller {one:.0}, 64 callers {many:.0}");
    let used = "select count(*) from pg_stat_activity
                where datname = current_database() and split_part(query, E'\n', 1) like '-- store::upload%'";
    let used: i64 = near.sql().await.query_one(used, &[]).await.unwrap().get(0);
    // Batches that wait for each other use one connection.
    assert!(used >= 2, "uploads used {used} connections");
    far.stop().await;
    near.stop().await;
}
