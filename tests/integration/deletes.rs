//! Deleting, undeleting and purging, by callers and by the job.

use std::time::Duration;

use certkeep::grpc::pb;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::calls::{
    ANY, counters, delete, deleted, describe, fingerprints, get, ids, purge, refusal, rename, stored, tags, undelete,
    upload,
};
use crate::harness::{Account, REGION, TestServer, rows, until, until_waiting, upload_of};
use crate::pki::{self, Key};
use crate::proxy::Proxy;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// What the job takes so that only one replica purges at a time.
const PURGE_LOCK: i64 = 27984153445295973;

fn request(name: &str) -> pb::UploadServerCertificateRequest {
    pb::UploadServerCertificateRequest {
        tags: tags(&[("env", "test"), ("team", "shop")]),
        ..upload_of(&pki::issued(Key::P256, name))
    }
}

fn by_id(id: &str) -> pb::DescribeServerCertificatesRequest {
    pb::DescribeServerCertificatesRequest {
        server_certificate_id: id.into(),
        ..Default::default()
    }
}

fn not_found() -> (Code, String) {
    (Code::NotFound, "SERVER_CERTIFICATE_NOT_FOUND".into())
}

fn not_deleted() -> (Code, String) {
    (Code::FailedPrecondition, "NOT_DELETED".into())
}

async fn events(sql: &tokio_postgres::Client) -> Vec<(i64, String)> {
    let all = "select revision, kind from event order by created_ms, random, revision";
    let rows = sql.query(all, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// So that the job's run can be waited for: what it forgets last.
pub async fn old_token(sql: &tokio_postgres::Client) {
    let old = "insert into client_token (account_id, method, client_token, created_ms, random, request_mac, used_at)
               values (1, 'UploadServerCertificate', 'old', 1, 1, sha256(''), now() - interval '2 days')";
    sql.execute(old, &[]).await.unwrap();
}

pub async fn until_the_job_has_run(sql: &tokio_postgres::Client) {
    let old = "select count(*) from client_token where client_token = 'old'";
    until(async || sql.query_one(old, &[]).await.unwrap().get::<_, i64>(0) == 0).await;
}

async fn deleted_for(sql: &tokio_postgres::Client, name: &str, time: &str) {
    let set = format!("update certificate set deleted_at = now() - interval '{time}' where name = $1");
    assert_eq!(sql.execute(&set, &[&name]).await.unwrap(), 1);
}

#[tokio::test]
async fn a_deleted_one_is_gone_from_every_read_but_the_list_of_the_deleted() {
    let server = TestServer::start().await;
    let client = server.client();
    let id = stored(&client, &request("a.example")).await;
    let kept = upload(&client, request("b.example")).await.unwrap();
    let before = get(&client, &id).await.unwrap();
    assert_eq!(delete(&client, &id, ANY).await.unwrap(), "2");

    assert_eq!(refusal(get(&client, &id).await), not_found());
    assert_eq!(
        ids(&client, Default::default()).await,
        [kept.server_certificate_id.as_str()]
    );
    assert_eq!(describe(&client, by_id(&id)).await, (vec![], String::new()));
    let of_region = pb::DescribeServerCertificatesRequest {
        region_id: REGION.into(),
        ..Default::default()
    };
    assert_eq!(ids(&client, of_region).await, [kept.server_certificate_id.as_str()]);
    let tagged = pb::DescribeServerCertificatesRequest {
        tags: tags(&[("team", "shop")]),
        ..Default::default()
    };
    assert_eq!(ids(&client, tagged).await, [kept.server_certificate_id.as_str()]);
    assert_eq!(fingerprints(&client).await, [kept.fingerprint.as_str()]);
    let new = upload(&client, request("c.example")).await.unwrap();
    assert_eq!(
        new.account_fingerprints,
        [kept.fingerprint.clone(), new.fingerprint.clone()]
    );
    let validated = pb::UploadServerCertificateRequest {
        validate_only: true,
        ..request("d.example")
    };
    let validated = upload(&client, validated).await.unwrap();
    assert_eq!(
        validated.account_fingerprints,
        [kept.fingerprint, new.fingerprint, validated.fingerprint]
    );
    assert_eq!(refusal(rename(&client, &id, "new", ANY).await), not_found());
    assert_eq!(refusal(delete(&client, &id, ANY).await), not_found());

    let listed = describe(&client, deleted()).await.0;
    let by_id = pb::DescribeServerCertificatesRequest {
        deleted: true,
        ..by_id(&id)
    };
    assert_eq!(describe(&client, by_id).await, (listed.clone(), String::new()));
    let delete_time = listed[0].delete_time.unwrap();
    let expected = pb::ServerCertificate {
        etag: "2".into(),
        delete_time: Some(delete_time),
        certificate_chain: String::new(),
        ..before
    };
    assert_eq!(listed, [expected]);
    let sql = server.sql().await;
    let written = "select floor(extract(epoch from deleted_at))::bigint, deleted_at > now() - interval '1 minute'
                   from certificate where deleted_at is not null";
    let row = sql.query_one(written, &[]).await.unwrap();
    assert_eq!(
        (row.get::<_, i64>(0), row.get::<_, bool>(1)),
        (delete_time.seconds, true)
    );
    // Nothing of it is lost yet.
    assert_eq!(rows(&sql).await, [3, 3, 6, 4]);
    server.stop().await;
}

#[tokio::test]
async fn an_undeleted_one_is_as_it_was_but_for_its_etag() {
    let server = TestServer::start().await;
    let client = server.client();
    let id = stored(&client, &request("a.example")).await;
    let later = stored(&client, &request("b.example")).await;
    rename(&client, &id, "renamed", ANY).await.unwrap();
    let before = get(&client, &id).await.unwrap();
    let fingerprints_before = fingerprints(&client).await;
    assert_eq!(delete(&client, &id, ANY).await.unwrap(), "3");
    assert_eq!(undelete(&client, &id, ANY).await.unwrap(), "4");

    let expected = pb::ServerCertificate {
        etag: "4".into(),
        ..before
    };
    let after = get(&client, &id).await.unwrap();
    assert_eq!(after, expected);
    assert_eq!(
        (
            after.server_certificate_name.as_str(),
            after.tags.len(),
            after.chain_length
        ),
        ("renamed", 2, 2)
    );
    assert_eq!(fingerprints(&client).await, fingerprints_before);
    assert_eq!(ids(&client, Default::default()).await, [id.as_str(), later.as_str()]);
    assert_eq!(ids(&client, deleted()).await, [""; 0]);
    // And may be deleted again.
    assert_eq!(delete(&client, &id, ANY).await.unwrap(), "5");
    let kinds: Vec<_> = events(&server.sql().await)
        .await
        .into_iter()
        .map(|(_, kind)| kind)
        .collect();
    assert_eq!(
        kinds,
        ["uploaded", "renamed", "deleted", "undeleted", "deleted", "uploaded"]
    );
    server.stop().await;
}

#[tokio::test]
async fn what_is_not_deleted_or_not_there_can_be_neither_undeleted_nor_purged() {
    let server = TestServer::start().await;
    let client = server.client();
    let live = stored(&client, &request("a.example")).await;
    let gone = stored(&client, &request("b.example")).await;
    delete(&client, &gone, ANY).await.unwrap();
    for refused in [
        undelete(&client, &live, ANY).await.unwrap_err(),
        undelete(&client, &live, "1").await.unwrap_err(),
        undelete(&client, &live, "77").await.unwrap_err(),
        purge(&client, &live, ANY).await.unwrap_err(),
        purge(&client, &live, "1").await.unwrap_err(),
    ] {
        let details = refused.get_error_details();
        let violations = &details.precondition_failure().unwrap().violations;
        assert_eq!(violations.len(), 1);
        assert_eq!(
            (violations[0].r#type.as_str(), &violations[0].subject),
            ("NOT_DELETED", &live)
        );
        assert_eq!(details.error_info().unwrap().metadata["server_certificate_id"], live);
        assert_eq!(refusal(Err::<(), Status>(refused)), not_deleted());
    }
    let other = server.add_key("admin", Account::New).await;
    let other = server.client_with(Some(&format!("Bearer {other}")));
    let mut parts: Vec<_> = gone.split('_').collect();
    parts[3] = "1";
    let unknown = parts.join("_");
    for (client, id) in [
        (&client, unknown.as_str()),
        (&client, "none"),
        (&other, &gone),
        (&other, &live),
    ] {
        assert_eq!(refusal(undelete(client, id, ANY).await), not_found(), "{id}");
        assert_eq!(refusal(purge(client, id, ANY).await), not_found(), "{id}");
    }
    for id in [&gone, &live] {
        let (region_id, server_certificate_id) = ("eu-central-1".to_owned(), id.clone());
        let elsewhere = pb::UndeleteServerCertificateRequest {
            region_id: region_id.clone(),
            server_certificate_id: server_certificate_id.clone(),
            ..Default::default()
        };
        let answer = client.clone().undelete_server_certificate(elsewhere).await;
        assert_eq!(refusal(answer), not_found());
        let elsewhere = pb::PurgeServerCertificateRequest {
            region_id,
            server_certificate_id,
            ..Default::default()
        };
        let answer = client.clone().purge_server_certificate(elsewhere).await;
        assert_eq!(refusal(answer), not_found());
    }
    for region in ["nowhere", "CN-HANGZHOU"] {
        let nowhere = pb::UndeleteServerCertificateRequest {
            region_id: region.into(),
            server_certificate_id: gone.clone(),
            ..Default::default()
        };
        let answer = client.clone().undelete_server_certificate(nowhere).await;
        assert_eq!(refusal(answer), (Code::InvalidArgument, "REGION_NOT_FOUND".into()));
    }
    let missing = (Code::InvalidArgument, "FIELD_INVALID".into());
    assert_eq!(refusal(undelete(&client, "", ANY).await), missing);
    assert_eq!(refusal(purge(&client, "", ANY).await), missing);
    assert_eq!(server.rows().await, [2, 2, 4, 3]);
    // In its own region it is found.
    let here = pb::UndeleteServerCertificateRequest {
        region_id: REGION.into(),
        server_certificate_id: gone,
        ..Default::default()
    };
    client.clone().undelete_server_certificate(here).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn an_editor_deletes_and_undeletes_but_only_an_admin_purges() {
    let server = TestServer::start().await;
    let admin = server.client();
    let id = stored(&admin, &request("a.example")).await;
    let client_of = async |role: &str| {
        let key = server.add_key(role, Account::First).await;
        server.client_with(Some(&format!("Bearer {key}")))
    };
    let (editor, reader, consumer) = (
        client_of("editor").await,
        client_of("reader").await,
        client_of("consumer").await,
    );
    let denied = (Code::PermissionDenied, "PERMISSION_DENIED".to_owned());
    for other in [&reader, &consumer] {
        assert_eq!(refusal(delete(other, &id, ANY).await), denied);
    }
    assert_eq!(delete(&editor, &id, ANY).await.unwrap(), "2");
    for other in [&reader, &consumer] {
        assert_eq!(refusal(undelete(other, &id, ANY).await), denied);
        assert_eq!(refusal(purge(other, &id, ANY).await), denied);
    }
    assert_eq!(ids(&reader, deleted()).await, [id.as_str()]);
    assert_eq!(undelete(&editor, &id, ANY).await.unwrap(), "3");
    delete(&editor, &id, ANY).await.unwrap();
    let refused = purge(&editor, &id, ANY).await;
    let details = refused.as_ref().unwrap_err().get_error_details();
    assert_eq!(details.error_info().unwrap().metadata["roles"], "admin");
    assert_eq!(refusal(refused), denied);
    purge(&admin, &id, ANY).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_purged_one_leaves_its_events_and_nothing_else() {
    let server = TestServer::start().await;
    let client = server.client();
    let id = stored(&client, &request("a.example")).await;
    let kept = stored(&client, &request("b.example")).await;
    delete(&client, &id, ANY).await.unwrap();
    purge(&client, &id, "2").await.unwrap();
    let sql = server.sql().await;
    assert_eq!(rows(&sql).await, [1, 1, 2, 4]);
    assert_eq!(counters(&sql).await, [(REGION.into(), 1, 1)]);
    let of_it = [(1, "uploaded".into()), (2, "deleted".into()), (3, "purged".into())];
    assert_eq!(events(&sql).await[..3], of_it);
    assert_eq!(ids(&client, deleted()).await, [""; 0]);
    assert_eq!(ids(&client, Default::default()).await, [kept.as_str()]);
    for refused in [
        refusal(purge(&client, &id, ANY).await),
        refusal(undelete(&client, &id, ANY).await),
        refusal(delete(&client, &id, ANY).await),
        refusal(get(&client, &id).await),
    ] {
        assert_eq!(refused, not_found());
    }
    server.stop().await;
}

#[tokio::test]
async fn with_no_retention_a_delete_removes_at_once() {
    let server = TestServer::start_with(|config| config.delete_retention = Duration::ZERO).await;
    let client = server.client();
    let id = stored(&client, &request("a.example")).await;
    assert_eq!(
        refusal(delete(&client, &id, "9").await),
        (Code::Aborted, "ETAG_MISMATCH".into())
    );
    assert_eq!(delete(&client, &id, "1").await.unwrap(), "");
    let sql = server.sql().await;
    assert_eq!(rows(&sql).await, [0, 0, 0, 3]);
    let expected = [(1, "uploaded"), (2, "deleted"), (3, "purged")];
    assert_eq!(
        events(&sql).await,
        expected.map(|(revision, kind)| (revision, kind.into()))
    );
    assert_eq!(counters(&sql).await, [(REGION.into(), 0, 0)]);
    assert_eq!(ids(&client, deleted()).await, [""; 0]);
    for refused in [
        refusal(undelete(&client, &id, ANY).await),
        refusal(delete(&client, &id, ANY).await),
        refusal(get(&client, &id).await),
    ] {
        assert_eq!(refused, not_found());
    }
    server.stop().await;
}

#[tokio::test]
async fn the_job_removes_what_was_deleted_longer_ago_than_it_is_kept() {
    let server = TestServer::start_with(|config| config.delete_retention = DAY).await;
    let client = server.client();
    let sql = server.sql().await;
    let mut certificates = Vec::new();
    for name in ["old.example", "young.example", "live.example", "older.example"] {
        certificates.push(stored(&client, &request(name)).await);
    }
    let [old, young, live, older] = &certificates[..] else {
        unreachable!()
    };
    for id in [old, young, older] {
        delete(&client, id, ANY).await.unwrap();
    }
    deleted_for(&sql, "old.example", "1 day 2 seconds").await;
    deleted_for(&sql, "young.example", "23 hours 59 minutes").await;
    deleted_for(&sql, "older.example", "100 days").await;
    old_token(&sql).await;
    let longer = server.replica(|config| config.delete_retention = 200 * DAY).await;
    until_the_job_has_run(&sql).await;
    assert_eq!(
        ids(&client, deleted()).await,
        [old.as_str(), young.as_str(), older.as_str()]
    );
    longer.stop().await;
    old_token(&sql).await;
    let replica = server.replica(|config| config.delete_retention = DAY).await;
    until_the_job_has_run(&sql).await;
    assert_eq!(ids(&client, deleted()).await, [young.as_str()]);
    assert_eq!(ids(&client, Default::default()).await, [live.as_str()]);
    assert_eq!(rows(&sql).await, [2, 2, 4, 9]);
    assert_eq!(counters(&sql).await, [(REGION.into(), 1, 1)]);
    // By nobody's key.
    let purged = "select revision, kind, principal from event where kind = 'purged'";
    for row in sql.query(purged, &[]).await.unwrap() {
        assert_eq!((row.get::<_, i64>(0), row.get::<_, &str>(2)), (3, ""));
    }
    assert_eq!(refusal(undelete(&client, old, ANY).await), not_found());
    undelete(&client, young, ANY).await.unwrap();
    replica.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn of_more_than_1000_deleted_ones_of_an_account_the_job_keeps_those_deleted_last() {
    let server = TestServer::start().await;
    let client = server.client();
    let sql = server.sql().await;
    let other = server.add_key("admin", Account::New).await;
    let other = server.client_with(Some(&format!("Bearer {other}")));
    for client in [&client, &other] {
        let id = stored(client, &request("a.example")).await;
        stored(client, &request("live.example")).await;
        delete(client, &id, ANY).await.unwrap();
    }
    // The younger their id, the longer ago they were deleted; of 2300 the other account has one.
    sql.batch_execute(
        "begin;
         insert into private_key (account_id, created_ms, random, key_id, sealed)
         select k.account_id, n, n, k.key_id, k.sealed
         from private_key k join certificate using (account_id, created_ms, random), generate_series(1, 2299) as n
         where name = 'a.example' and account_id = (select account_id from account where name = 'default');
         insert into certificate
         select row.* from certificate c, generate_series(1, 2299) as n, jsonb_populate_record(c, jsonb_build_object(
           'created_ms', n, 'random', n, 'name', 'n' || n, 'deleted_at', now() - n * interval '1 minute')) as row
         where c.name = 'a.example' and c.account_id = (select account_id from account where name = 'default');
         update certificate_count set deleted = deleted + 2299
         where account_id = (select account_id from account where name = 'default');
         commit",
    )
    .await
    .unwrap();
    old_token(&sql).await;
    let replica = server.replica(|_| {}).await;
    until_the_job_has_run(&sql).await;
    let kept =
        "select count(*), max(created_ms) filter (where c.name like 'n%'), count(*) filter (where c.name = 'a.example')
                from certificate as c join account using (account_id)
                where deleted_at is not null group by account.name order by account.name";
    let kept: Vec<(i64, Option<i64>, i64)> = sql
        .query(kept, &[])
        .await
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect();
    assert_eq!(kept, [(1, None, 1), (1000, Some(999), 1)]);
    assert_eq!(rows(&sql).await, [1003, 1003, 8, 6 + 1300]);
    assert_eq!(ids(&client, deleted()).await.len(), 1000);
    assert_eq!(counters(&sql).await, [(REGION.into(), 1, 1), (REGION.into(), 1, 1)]);
    replica.stop().await;
    server.stop().await;
}

/// What it reads depends on what it removes, not on how many deleted certificates there are.
#[tokio::test]
async fn a_purge_reads_in_proportion_to_what_it_removes() {
    let server = TestServer::start().await;
    let client = server.client();
    let (proxy, through) = Proxy::before(server.database());
    let store = certkeep::store::Store::new(&certkeep::store::Settings {
        connection_string: through,
        owner_connection_string: None,
        danger_unverified_database: false,
        max_connections: 1,
        timeline_file: None,
    })
    .unwrap();
    let a_week_ago = certkeep::clock::now().millis() - 7 * 24 * 60 * 60 * 1000;
    let a_week_ago = certkeep::clock::Timestamp::from_millis(a_week_ago);
    assert_eq!(store.purge_of_all_accounts(a_week_ago).await.unwrap(), 0);
    let id = stored(&client, &request("a.example")).await;
    delete(&client, &id, ANY).await.unwrap();
    let sql = server.sql().await;
    // 20 accounts keep 1,000 deleted certificates each.
    sql.batch_execute(
        "begin;
         insert into private_key (account_id, created_ms, random, key_id, sealed)
         select account, n, n, k.key_id, '' from private_key k, generate_series(1, 20) as account, generate_series(1, 1000) as n;
         insert into certificate
         select row.* from certificate c, generate_series(1, 20) as account, generate_series(1, 1000) as n,
         jsonb_populate_record(c, jsonb_build_object(
           'account_id', account, 'created_ms', n, 'random', n, 'deleted_at', now() - n * interval '1 minute')) as row;
         insert into certificate_count (account_id, kind, region_id, live, deleted)
         select account, 'server', region_id, 0, 1000 from certificate_count, generate_series(1, 20) as account;
         commit;
         analyze;
         set plan_cache_mode = force_generic_plan; set enable_seqscan = off; set enable_bitmapscan = off; set jit = off",
    )
    .await
    .unwrap();
    let statement = &proxy.statements()["purge_of_all_accounts"];
    sql.batch_execute(&format!("prepare purge as {statement}"))
        .await
        .unwrap();
    let pages = async || {
        // The first run plans.
        let explain = format!("explain (analyze, buffers) execute purge({})", a_week_ago.millis());
        let mut pages = 0;
        for _ in 0..2 {
            sql.batch_execute("begin").await.unwrap();
            let rows = sql.query(&explain, &[]).await.unwrap();
            sql.batch_execute("rollback").await.unwrap();
            let first = rows
                .iter()
                .map(|row| row.get::<_, String>(0))
                .find(|line| line.contains("Buffers:"));
            let first = first.unwrap();
            let numbers = first
                .split(' ')
                .filter_map(|word| word.split_once('='))
                .filter(|(what, _)| ["hit", "read"].contains(what));
            pages = numbers.map(|(_, number)| number.parse::<u32>().unwrap()).sum();
        }
        pages
    };
    let of_none = pages().await;
    assert!(of_none < 20, "a purge that removes nothing reads {of_none} pages");
    sql.batch_execute(
        "update certificate set deleted_at = deleted_at - interval '8 days' where account_id = 3 and created_ms <= 10",
    )
    .await
    .unwrap();
    sql.batch_execute("update certificate_count set deleted = deleted + 10 where account_id = 4")
        .await
        .unwrap();
    let of_20 = pages().await;
    assert!(of_20 < 20 * 100, "a purge of 20 reads {of_20} pages");
    assert_eq!(store.purge_of_all_accounts(a_week_ago).await.unwrap(), 20);
    server.stop().await;
}

#[tokio::test]
async fn one_replica_purges_at_a_time() {
    let server = TestServer::start().await;
    let client = server.client();
    let sql = server.sql().await;
    // First of all: the job of this server may not have run yet.
    let another = server.sql().await;
    another
        .execute("select pg_advisory_lock($1)", &[&PURGE_LOCK])
        .await
        .unwrap();
    let id = stored(&client, &request("a.example")).await;
    delete(&client, &id, ANY).await.unwrap();
    deleted_for(&sql, "a.example", "8 days").await;
    old_token(&sql).await;
    let replica = server.replica(|_| {}).await;
    until_the_job_has_run(&sql).await;
    assert_eq!(ids(&client, deleted()).await, [id.as_str()]);
    another
        .execute("select pg_advisory_unlock($1)", &[&PURGE_LOCK])
        .await
        .unwrap();
    replica.stop().await;
    old_token(&sql).await;
    let replica = server.replica(|_| {}).await;
    until_the_job_has_run(&sql).await;
    assert_eq!(ids(&client, deleted()).await, [""; 0]);
    assert_eq!(rows(&sql).await, [0, 0, 0, 3]);
    replica.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_undeletion_and_a_purge_at_once_one_happens() {
    let server = TestServer::start().await;
    let replica = server.replica(|_| {}).await;
    let sql = server.sql().await;
    for purge_comes_first in [true, false] {
        let id = stored(&server.client(), &request("a.example")).await;
        delete(&server.client(), &id, ANY).await.unwrap();
        let before = rows(&sql).await;
        sql.batch_execute("begin; select from certificate for update")
            .await
            .unwrap();
        let (one, other) = (server.client(), replica.client());
        let (its, id_) = (id.clone(), id.clone());
        let purging = async move { purge(&one, &its, ANY).await };
        let undeleting = async move { undelete(&other, &id_, ANY).await };
        let (purging, undeleting) = if purge_comes_first {
            let purging = tokio::spawn(purging);
            until_waiting(&sql, "store::purge", 1).await;
            let undeleting = tokio::spawn(undeleting);
            until_waiting(&sql, "store::undelete", 1).await;
            (purging, undeleting)
        } else {
            let undeleting = tokio::spawn(undeleting);
            until_waiting(&sql, "store::undelete", 1).await;
            let purging = tokio::spawn(purging);
            until_waiting(&sql, "store::purge", 1).await;
            (purging, undeleting)
        };
        sql.batch_execute("commit").await.unwrap();
        let after = match (purging.await.unwrap(), undeleting.await.unwrap()) {
            (Ok(()), undeleted) => {
                assert_eq!(refusal(undeleted), not_found());
                assert_eq!(refusal(get(&server.client(), &id).await), not_found());
                [before[0] - 1, before[1] - 1, before[2] - 2, before[3] + 1]
            }
            (purged, undeleted) => {
                assert_eq!((refusal(purged), undeleted.unwrap().as_str()), (not_deleted(), "3"));
                get(&server.client(), &id).await.unwrap();
                [before[0], before[1], before[2], before[3] + 1]
            }
        };
        assert_eq!(rows(&sql).await, after);
        let [(_, counted, live)] = &counters(&sql).await[..] else {
            panic!("one region")
        };
        assert_eq!(counted, live);
    }
    replica.stop().await;
    server.stop().await;
}

/// The job has found it due, and waits for it: it is looked at again.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_undeleted_in_the_last_moment_is_not_purged() {
    let server = TestServer::start().await;
    let client = server.client();
    let sql = server.sql().await;
    let id = stored(&client, &request("a.example")).await;
    let due = stored(&client, &request("due.example")).await;
    for (id, name) in [(&id, "a.example"), (&due, "due.example")] {
        delete(&client, id, ANY).await.unwrap();
        deleted_for(&sql, name, "8 days").await;
    }
    old_token(&sql).await;
    sql.batch_execute("begin; select from certificate_count for update")
        .await
        .unwrap();
    let undeleting = tokio::spawn({
        let (client, id) = (client.clone(), id.clone());
        async move { undelete(&client, &id, ANY).await }
    });
    until_waiting(&sql, "store::undelete", 1).await;
    let replica = server.replica(|_| {}).await;
    until_waiting(&sql, "store::purge_of_all_accounts", 1).await;
    sql.batch_execute("commit").await.unwrap();
    assert_eq!(undeleting.await.unwrap().unwrap(), "3");
    until_the_job_has_run(&sql).await;
    assert_eq!(ids(&client, Default::default()).await, [id.as_str()]);
    assert_eq!(get(&client, &id).await.unwrap().tags.len(), 2);
    assert_eq!(ids(&client, deleted()).await, [""; 0]);
    assert_eq!(rows(&sql).await, [1, 1, 2, 6]);
    assert_eq!(counters(&sql).await, [(REGION.into(), 1, 1)]);
    replica.stop().await;
    server.stop().await;
}
