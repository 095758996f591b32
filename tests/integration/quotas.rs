//! How many server certificates an account may have in a region: exactly so many, whoever else is at work.

use std::sync::{Arc, Mutex};

use certkeep::grpc::pb;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::calls::{ANY, counters, delete, deleted, get, ids, purge, refusal, stored, undelete, upload};
use crate::harness::{Account, REGION, TestServer, connect_to, database, rows, until_waiting, upload_of};
use crate::pki::{self, Key};
use crate::proxy::{Moment, Proxy, Way};

const ELSEWHERE: &str = "eu-central-1";

fn request() -> pb::UploadServerCertificateRequest {
    pb::UploadServerCertificateRequest {
        omit_account_fingerprints: true,
        ..upload_of(&pki::self_signed(Key::P256, "a.example"))
    }
}

fn in_region(region: &str) -> pb::UploadServerCertificateRequest {
    pb::UploadServerCertificateRequest {
        region_id: region.into(),
        ..request()
    }
}

async fn server(quota: u32) -> TestServer {
    TestServer::start_with(|config| config.server_certificate_quota = quota).await
}

async fn replica(server: &TestServer, quota: u32) -> TestServer {
    server.replica(|config| config.server_certificate_quota = quota).await
}

fn over_quota() -> (Code, String) {
    (Code::ResourceExhausted, "QUOTA_EXCEEDED".into())
}

/// Holds up every statement that changes how many are counted.
async fn hold_counters(sql: &tokio_postgres::Client) {
    sql.batch_execute("begin; select from certificate_count for update")
        .await
        .unwrap();
}

#[tokio::test]
async fn an_upload_beyond_the_quota_is_refused_with_what_it_is_about() {
    let server = server(1).await;
    let client = server.client();
    stored(&client, &request()).await;
    let refused = upload(&client, request()).await.unwrap_err();
    assert_eq!(refusal(Err::<(), Status>(refused.clone())), over_quota());
    let mut dry = request();
    dry.validate_only = true;
    assert_eq!(refusal(upload(&client, dry).await), over_quota());
    let details = refused.get_error_details();
    let violations = &details.quota_failure().unwrap().violations;
    assert_eq!(violations.len(), 1);
    assert_eq!(
        violations[0].subject,
        "server certificates of the account in cn-hangzhou"
    );
    assert_eq!(violations[0].description, refused.message());
    assert!(
        refused
            .message()
            .starts_with("quota exceeded: 1 of 1 server certificates in cn-hangzhou; "),
        "{}",
        refused.message()
    );
    let metadata = &details.error_info().unwrap().metadata;
    assert_eq!(
        ["region_id", "used", "limit"].map(|name| metadata[name].as_str()),
        [REGION, "1", "1"]
    );
    assert_eq!(server.rows().await, [1, 1, 0, 1]);
    server.stop().await;
}

/// Once where there is no counter yet, which all of them want to make, and once where there is one, which all wait for.
#[tokio::test(flavor = "multi_thread")]
async fn of_uploads_to_two_replicas_at_once_exactly_the_quota_is_stored() {
    let server = server(5).await;
    let replica = replica(&server, 5).await;
    let sql = server.sql().await;
    // What waits here waits for the same moment to begin.
    for (gate, there) in [
        (
            "begin; grant update on event to certkeep; lock table event in exclusive mode",
            0,
        ),
        ("begin; select from certificate_count for update", 2),
    ] {
        for id in ids(&server.client(), Default::default()).await.iter().skip(there) {
            delete(&server.client(), id, ANY).await.unwrap();
        }
        let [certificates, keys, _, _] = rows(&sql).await;
        sql.batch_execute(gate).await.unwrap();
        let mut calls = tokio::task::JoinSet::new();
        for server in [&server, &replica].repeat(6) {
            let client = server.client();
            calls.spawn(async move { upload(&client, request()).await });
        }
        // One of each and those that came behind it: they go without waiting for its end when it is slow.
        until_waiting(&sql, "store::upload", 4).await;
        sql.batch_execute("commit").await.unwrap();
        let (stored, refused): (Vec<_>, Vec<_>) = calls.join_all().await.into_iter().partition(Result::is_ok);
        assert_eq!((stored.len(), refused.len()), (5 - there, 7 + there));
        for refused in refused {
            assert_eq!(refusal(refused), over_quota());
        }
        assert_eq!(counters(&sql).await, [(REGION.into(), 5, 5)]);
        let added = (5 - there) as i64;
        let [certificates_now, keys_now, _, _] = rows(&sql).await;
        assert_eq!((certificates_now, keys_now), (certificates + added, keys + added));
    }
    replica.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn an_accounts_own_quota_counts_before_the_services() {
    let server = server(2).await;
    let client = server.client();
    let sql = server.sql().await;
    let set = async |maximum: i64| {
        let set = "insert into quota (account_id, kind, maximum) select account_id, 'server', $1 from account
                   where name = 'default' on conflict (account_id, kind) do update set maximum = $1";
        sql.execute(set, &[&maximum]).await.unwrap();
    };
    // None at all, in an account that has none yet.
    set(0).await;
    assert_eq!(refusal(upload(&client, request()).await), over_quota());
    assert_eq!(counters(&sql).await, []);
    set(3).await;
    let mut stored_ids = Vec::new();
    for _ in 0..3 {
        stored_ids.push(stored(&client, &request()).await);
    }
    assert_eq!(refusal(upload(&client, request()).await), over_quota());
    // Fewer than it has: nothing is taken away.
    set(1).await;
    delete(&client, &stored_ids[0], ANY).await.unwrap();
    assert_eq!(refusal(upload(&client, request()).await), over_quota());
    assert_eq!(refusal(undelete(&client, &stored_ids[0], ANY).await), over_quota());
    assert_eq!(ids(&client, Default::default()).await, stored_ids[1..]);
    assert_eq!(counters(&sql).await, [(REGION.into(), 2, 2)]);
    set(3).await;
    undelete(&client, &stored_ids[0], ANY).await.unwrap();
    sql.execute("delete from quota", &[]).await.unwrap();
    assert_eq!(refusal(upload(&client, request()).await), over_quota());
    assert_eq!(counters(&sql).await, [(REGION.into(), 3, 3)]);
    server.stop().await;
}

#[tokio::test]
async fn each_region_and_account_has_its_own() {
    let server = server(1).await;
    let client = server.client();
    let sql = server.sql().await;
    let other = server.add_key("editor", Account::New).await;
    let other = server.client_with(Some(&format!("Bearer {other}")));
    let none = "insert into quota (account_id, kind, maximum) select account_id, 'server', 0 from account
                where name <> 'default'";
    for region in [REGION, ELSEWHERE] {
        stored(&client, &in_region(region)).await;
        assert_eq!(refusal(upload(&client, in_region(region)).await), over_quota());
    }
    stored(&other, &in_region(REGION)).await;
    // Nobody else's quota is meant.
    sql.execute(none, &[]).await.unwrap();
    assert_eq!(refusal(upload(&other, in_region(ELSEWHERE)).await), over_quota());
    stored(&client, &in_region("eu-west-1")).await;
    let expected = [(REGION, 1), (REGION, 1), (ELSEWHERE, 1), ("eu-west-1", 1)];
    let expected = expected.map(|(region, live)| (region.to_owned(), live, live));
    assert_eq!(counters(&sql).await, expected);
    server.stop().await;
}

#[tokio::test]
async fn a_deleted_one_does_not_count_until_it_is_undeleted() {
    let server = server(1).await;
    let client = server.client();
    let sql = server.sql().await;
    let first = stored(&client, &request()).await;
    delete(&client, &first, ANY).await.unwrap();
    assert_eq!(counters(&sql).await, [(REGION.into(), 0, 0)]);
    let second = stored(&client, &request()).await;
    let refused = undelete(&client, &first, ANY).await;
    let details = refused.as_ref().unwrap_err().get_error_details();
    assert_eq!(details.error_info().unwrap().metadata["region_id"], REGION);
    assert_eq!(details.quota_failure().unwrap().violations.len(), 1);
    assert_eq!(refusal(refused), over_quota());
    // It is as it was, with no event.
    assert_eq!(ids(&client, deleted()).await, [first.as_str()]);
    assert_eq!(rows(&sql).await, [2, 2, 0, 3]);
    delete(&client, &second, ANY).await.unwrap();
    undelete(&client, &first, ANY).await.unwrap();
    assert_eq!(counters(&sql).await, [(REGION.into(), 1, 1)]);
    // What is gone for good was not counted any more.
    purge(&client, &second, ANY).await.unwrap();
    assert_eq!(counters(&sql).await, [(REGION.into(), 1, 1)]);
    assert_eq!(refusal(upload(&client, request()).await), over_quota());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_upload_and_an_undeletion_at_once_one_takes_the_last_place() {
    let server = server(1).await;
    let replica = replica(&server, 1).await;
    let sql = server.sql().await;
    let first = stored(&server.client(), &request()).await;
    for upload_comes_first in [true, false] {
        delete(&server.client(), &first, ANY).await.unwrap();
        hold_counters(&sql).await;
        let (one, other) = (server.client(), replica.client());
        let id = first.clone();
        let uploading = async move { upload(&one, request()).await };
        let undeleting = async move { undelete(&other, &id, ANY).await };
        let (uploading, undeleting) = if upload_comes_first {
            let uploading = tokio::spawn(uploading);
            until_waiting(&sql, "store::upload", 1).await;
            let undeleting = tokio::spawn(undeleting);
            until_waiting(&sql, "store::undelete", 1).await;
            (uploading, undeleting)
        } else {
            let undeleting = tokio::spawn(undeleting);
            until_waiting(&sql, "store::undelete", 1).await;
            let uploading = tokio::spawn(uploading);
            until_waiting(&sql, "store::upload", 1).await;
            (uploading, undeleting)
        };
        sql.batch_execute("commit").await.unwrap();
        let (uploaded, undeleted) = (uploading.await.unwrap(), undeleting.await.unwrap());
        assert_eq!(counters(&sql).await, [(REGION.into(), 1, 1)]);
        match (uploaded, undeleted) {
            (Ok(uploaded), undeleted) => {
                assert_eq!(refusal(undeleted), over_quota());
                assert_eq!(ids(&server.client(), deleted()).await, [first.as_str()]);
                delete(&server.client(), &uploaded.server_certificate_id, ANY)
                    .await
                    .unwrap();
                purge(&server.client(), &uploaded.server_certificate_id, ANY)
                    .await
                    .unwrap();
                undelete(&server.client(), &first, ANY).await.unwrap();
            }
            (uploaded, undeleted) => {
                assert_eq!(refusal(uploaded), over_quota());
                undeleted.unwrap();
                assert_eq!(ids(&server.client(), Default::default()).await, [first.as_str()]);
            }
        }
    }
    replica.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_counters_are_exact_after_a_mixture_of_all_changes() {
    const QUOTA: u32 = 8;
    let server = server(QUOTA).await;
    let replica = replica(&server, QUOTA).await;
    let sql = server.sql().await;
    // Any statement that passed it, if only for a moment, would fail.
    sql.batch_execute(&format!("alter table certificate_count add check (live <= {QUOTA})"))
        .await
        .unwrap();
    let known = Arc::new(Mutex::new(Vec::<String>::new()));
    let mut tasks = tokio::task::JoinSet::new();
    for (seed, server) in (1_u64..).zip([&server, &replica].repeat(3)) {
        let (client, known) = (server.client(), known.clone());
        let requests = [in_region(REGION), in_region(ELSEWHERE)];
        tasks.spawn(async move {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut random = |below: usize| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 33) as usize % below
            };
            let mut done = [0; 4];
            for _ in 0..60 {
                let which = random(8);
                let place = random(1 << 30);
                let id = {
                    let known = known.lock().unwrap();
                    (!known.is_empty()).then(|| known[place % known.len()].clone())
                };
                let (change, answer) = match (which, id) {
                    (3 | 4, Some(id)) => (1, delete(&client, &id, ANY).await.map(drop)),
                    (5 | 6, Some(id)) => (2, undelete(&client, &id, ANY).await.map(drop)),
                    (7, Some(id)) => (3, purge(&client, &id, ANY).await),
                    _ => {
                        let uploaded = upload(&client, requests[place % 2].clone()).await;
                        (
                            0,
                            uploaded.map(|new| known.lock().unwrap().push(new.server_certificate_id)),
                        )
                    }
                };
                match answer {
                    Ok(()) => done[change] += 1,
                    refused => {
                        let (_, reason) = refusal(refused);
                        let expected = ["QUOTA_EXCEEDED", "SERVER_CERTIFICATE_NOT_FOUND", "NOT_DELETED"];
                        assert!(expected.contains(&reason.as_str()), "{reason}");
                    }
                }
            }
            done
        });
    }
    let mut done = [0; 4];
    for of_task in tasks.join_all().await {
        for (all, of_task) in done.iter_mut().zip(of_task) {
            *all += of_task;
        }
    }
    assert!(done.iter().all(|count| *count > 0), "it was no mixture: {done:?}");
    let [uploads, deletes, undeletes, purges] = done;
    for (_, counted, live) in counters(&sql).await {
        assert_eq!(counted, live);
    }
    let live: i64 = counters(&sql).await.iter().map(|(_, _, live)| live).sum();
    assert_eq!(live, uploads - deletes + undeletes);
    let [certificates, keys, _, events] = rows(&sql).await;
    assert_eq!((certificates, keys), (uploads - purges, uploads - purges));
    assert_eq!(events, uploads + deletes + undeletes + purges);
    // One event for each revision.
    let gaps = "select count(*) from (
                  select count(*) <> max(revision) or min(revision) <> 1 as has_gap from event
                  group by account_id, created_ms, random
                ) as of_certificate where has_gap";
    assert_eq!(sql.query_one(gaps, &[]).await.unwrap().get::<_, i64>(0), 0);
    let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
    assert_eq!(sql.query_one(deadlocks, &[]).await.unwrap().get::<_, i64>(0), 0);
    replica.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_connection_is_cut_is_counted_once() {
    let database = database().await;
    let (proxy, through) = Proxy::before(&database);
    let server = TestServer::start_on(through, |config| config.server_certificate_quota = 2).await;
    let sql = connect_to(&database).await;
    // The second takes the last place.
    for (number, moment) in (1..).zip([Moment::BeforeStatement, Moment::BeforeAnswer]) {
        proxy.cut_at("cut.example", moment, Way::Open);
        let cut = upload_of(&pki::self_signed(Key::P256, "cut.example"));
        stored(&server.client(), &cut).await;
        assert!(proxy.has_cut(), "{moment:?}");
        assert_eq!(rows(&sql).await, [number, number, 0, number], "{moment:?}");
        assert_eq!(counters(&sql).await, [(REGION.into(), number, number)], "{moment:?}");
    }
    assert_eq!(refusal(upload(&server.client(), request()).await), over_quota());
    server.stop().await;
}

/// The way is cut while the statement waits, and the statement goes on: its repetition finds the last place taken, by itself.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_took_the_last_place_before_its_repetition_is_no_upload_beyond_the_quota() {
    let database = database().await;
    let (proxy, through) = Proxy::before(&database);
    let server = TestServer::start_on(through, |config| config.server_certificate_quota = 2).await;
    let sql = connect_to(&database).await;
    stored(&server.client(), &request()).await;
    for client_token in ["", "retry 1"] {
        let request = pb::UploadServerCertificateRequest {
            client_token: client_token.into(),
            ..request()
        };
        hold_counters(&sql).await;
        let client = server.client();
        let uploading = tokio::spawn(async move { upload(&client, request).await });
        until_waiting(&sql, "store::upload", 1).await;
        proxy.cut_all().await;
        until_waiting(&sql, "store::upload", 2).await;
        sql.batch_execute("commit").await.unwrap();
        let uploaded = uploading.await.unwrap().unwrap();
        assert_eq!(counters(&sql).await, [(REGION.into(), 2, 2)]);
        get(&server.client(), &uploaded.server_certificate_id).await.unwrap();
        delete(&server.client(), &uploaded.server_certificate_id, ANY)
            .await
            .unwrap();
    }
    assert_eq!(rows(&sql).await, [3, 3, 0, 5]);
    server.stop().await;
}
