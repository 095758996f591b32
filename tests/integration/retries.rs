//! client_token: an upload that is tried again is done once.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use certkeep::grpc::pb;
use tokio::sync::Barrier;
use tonic::Code;
use tonic_types::StatusExt;

use crate::calls::{ANY, counters, delete, fingerprints, purge, refusal, rename, stored, tags, undelete, upload};
use crate::harness::{Account, REGION, TestServer, database, rows, until, until_waiting, upload_of};
use crate::pki::{self, Key};
use crate::process::Certkeep;
use crate::proxy::{Moment, Proxy, Way};

fn with_token(token: &str) -> pb::UploadServerCertificateRequest {
    pb::UploadServerCertificateRequest {
        client_token: token.into(),
        tags: tags(&[("team", "shop")]),
        ..upload_of(&pki::self_signed(Key::P256, "a.example"))
    }
}

fn reused() -> (Code, String) {
    (Code::AlreadyExists, "CLIENT_TOKEN_REUSED".into())
}

fn not_found() -> (Code, String) {
    (Code::NotFound, "SERVER_CERTIFICATE_NOT_FOUND".into())
}

fn over_quota() -> (Code, String) {
    (Code::ResourceExhausted, "QUOTA_EXCEEDED".into())
}

async fn tokens(sql: &tokio_postgres::Client) -> Vec<String> {
    let all = "select client_token from client_token order by client_token";
    let rows = sql.query(all, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn a_retried_upload_answers_with_the_first_ones_certificate_as_it_is_now() {
    let server = TestServer::start().await;
    let client = server.client();
    let request = with_token("retry 1");
    let first = upload(&client, request.clone()).await.unwrap();
    let other = upload(&client, upload_of(&pki::self_signed(Key::P256, "b.example"))).await;
    assert_eq!(
        rename(&client, &first.server_certificate_id, "renamed", ANY)
            .await
            .unwrap(),
        "2"
    );

    let again = upload(&client, request.clone()).await.unwrap();
    assert_ne!(again.request_id, first.request_id);
    let expected = pb::UploadServerCertificateResponse {
        request_id: again.request_id.clone(),
        server_certificate_name: "renamed".into(),
        etag: "2".into(),
        account_fingerprints: vec![first.fingerprint.clone(), other.unwrap().fingerprint],
        ..first.clone()
    };
    assert_eq!(again, expected);
    // Whether fingerprints are asked for is no part of what is stored.
    let without_fingerprints = pb::UploadServerCertificateRequest {
        omit_account_fingerprints: true,
        ..request
    };
    let again = upload(&client, without_fingerprints).await.unwrap();
    let expected = pb::UploadServerCertificateResponse {
        request_id: again.request_id.clone(),
        account_fingerprints: Vec::new(),
        ..expected
    };
    assert_eq!(again, expected);
    assert_eq!(server.rows().await, [2, 2, 1, 3]);
    assert_eq!(counters(&server.sql().await).await, [(REGION.into(), 2, 2)]);
    server.stop().await;
}

#[tokio::test]
async fn a_token_is_refused_with_any_other_request() {
    let server = TestServer::start().await;
    let client = server.client();
    let request = with_token("retry 1");
    let id = stored(&client, &request).await;
    let other_pair = pki::self_signed(Key::P256, "a.example");
    let changes: [&dyn Fn(&mut pb::UploadServerCertificateRequest); 7] = [
        &|r| r.region_id = "eu-central-1".into(),
        &|r| r.server_certificate_name = "other".into(),
        &|r| r.tags.clear(),
        &|r| r.tags[0].value = "other".into(),
        &|r| r.tags = tags(&[("teams", "hop")]),
        &|r| r.server_certificate.push('\n'),
        &|r| {
            r.server_certificate = other_pair.certificate.clone();
            r.private_key = other_pair.key.clone();
        },
    ];
    for (number, change) in changes.iter().enumerate() {
        let mut other = request.clone();
        change(&mut other);
        assert_eq!(refusal(upload(&client, other).await), reused(), "change {number}");
    }
    // One whose request would be refused otherwise too.
    let mut wrong = request.clone();
    wrong.server_certificate_name = "\u{1}".into();
    assert_eq!(refusal(upload(&client, wrong).await), reused());
    assert_eq!(stored(&client, &request).await, id);
    assert_eq!(server.rows().await, [1, 1, 1, 1]);
    server.stop().await;
}

#[tokio::test]
async fn a_retry_finds_nothing_while_its_certificate_is_deleted() {
    let server = TestServer::start().await;
    let client = server.client();
    let request = with_token("retry 1");
    let id = stored(&client, &request).await;
    delete(&client, &id, ANY).await.unwrap();
    let refused = upload(&client, request.clone()).await;
    let details = refused.as_ref().unwrap_err().get_error_details();
    assert_eq!(details.error_info().unwrap().metadata["server_certificate_id"], id);
    assert_eq!(refusal(refused), not_found());
    undelete(&client, &id, ANY).await.unwrap();
    let again = upload(&client, request.clone()).await.unwrap();
    assert_eq!((again.server_certificate_id, again.etag.as_str()), (id.clone(), "3"));
    delete(&client, &id, ANY).await.unwrap();
    purge(&client, &id, ANY).await.unwrap();
    assert_eq!(refusal(upload(&client, request).await), not_found());
    assert_eq!(server.rows().await, [0, 0, 0, 5]);
    server.stop().await;
}

#[tokio::test]
async fn a_token_is_the_accounts_own() {
    let server = TestServer::start().await;
    let request = with_token("retry 1");
    let first = stored(&server.client(), &request).await;
    let other = server.add_key("editor", Account::New).await;
    let other = server.client_with(Some(&format!("Bearer {other}")));
    let second = upload(&other, request.clone()).await.unwrap();
    assert_ne!(second.server_certificate_id, first);
    assert_eq!(second.account_fingerprints, [second.fingerprint]);
    assert_eq!(stored(&other, &request).await, second.server_certificate_id);
    // Another key of the same account is the same caller.
    let same = server.add_key("editor", Account::First).await;
    let same = server.client_with(Some(&format!("Bearer {same}")));
    assert_eq!(stored(&same, &request).await, first);
    // One that may not upload learns nothing.
    let reader = server.add_key("reader", Account::First).await;
    let reader = server.client_with(Some(&format!("Bearer {reader}")));
    let denied = (Code::PermissionDenied, "PERMISSION_DENIED".into());
    assert_eq!(refusal(upload(&reader, request).await), denied);
    assert_eq!(server.rows().await, [2, 2, 2, 2]);
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_token_is_refused_with_every_other_wrong_field() {
    let server = TestServer::start().await;
    let client = server.client();
    let fields = |refused: &tonic::Status| -> Vec<String> {
        let details = refused.get_error_details();
        let violations = &details.bad_request().unwrap().field_violations;
        violations
            .iter()
            .map(|violation| format!("{} {}", violation.field, violation.reason))
            .collect()
    };
    let longest = "x".repeat(64);
    for (token, name, violations) in [
        ("x".repeat(65).as_str(), "", &["client_token FIELD_INVALID"][..]),
        ("a\u{1f}b", "", &["client_token FIELD_INVALID"]),
        ("a\u{7f}", "", &["client_token FIELD_INVALID"]),
        ("a\n", "", &["client_token FIELD_INVALID"]),
        ("é", "", &["client_token FIELD_INVALID"]),
        (
            "é",
            "\u{1}",
            &["server_certificate_name NAME_INVALID", "client_token FIELD_INVALID"],
        ),
    ] {
        let request = pb::UploadServerCertificateRequest {
            server_certificate_name: name.into(),
            ..with_token(token)
        };
        let refused = upload(&client, request).await.unwrap_err();
        assert_eq!(
            (refused.code(), fields(&refused)),
            (
                Code::InvalidArgument,
                violations.iter().map(|text| (*text).to_owned()).collect()
            ),
            "{token:?}"
        );
        assert!(!refused.message().contains(token), "it is not repeated");
    }
    for token in [longest.as_str(), "é"] {
        let request = pb::UploadServerCertificateRequest {
            validate_only: true,
            ..with_token(token)
        };
        let refused = upload(&client, request).await.unwrap_err();
        assert_eq!(fields(&refused), ["client_token FIELD_INVALID"], "{token:?}");
    }
    assert_eq!(server.rows().await, [0; 4]);
    // The widest that is one.
    let request = with_token(&longest);
    let id = stored(&client, &request).await;
    assert_eq!(stored(&client, &request).await, id);
    let request = with_token(" ~");
    let id = stored(&client, &request).await;
    assert_eq!(stored(&client, &request).await, id);
    server.stop().await;
}

#[tokio::test]
async fn an_upload_that_is_refused_leaves_its_token_free() {
    let server = TestServer::start_with(|config| config.server_certificate_quota = 1).await;
    let client = server.client();
    let good = with_token("retry 1");
    let wrong = pb::UploadServerCertificateRequest {
        server_certificate_name: "\u{1}".into(),
        ..good.clone()
    };
    let refused = (Code::InvalidArgument, "NAME_INVALID".into());
    assert_eq!(refusal(upload(&client, wrong).await), refused);
    let first = stored(&client, &good).await;
    // At its quota, and in the midst of its statement.
    let second = with_token("retry 2");
    assert_eq!(refusal(upload(&client, second.clone()).await), over_quota());
    assert_eq!(refusal(upload(&client, second.clone()).await), over_quota());
    // The quota does not hinder a retry of what is stored.
    assert_eq!(stored(&client, &good).await, first);
    delete(&client, &first, ANY).await.unwrap();
    let another = pb::UploadServerCertificateRequest {
        server_certificate_name: "another".into(),
        ..second.clone()
    };
    let id = stored(&client, &another).await;
    assert_eq!(stored(&client, &another).await, id);
    assert_eq!(refusal(upload(&client, second).await), reused());
    assert_eq!(server.rows().await, [2, 2, 2, 3]);
    let sql = server.sql().await;
    assert_eq!(counters(&sql).await, [(REGION.into(), 1, 1)]);
    // A statement that fails.
    delete(&client, &id, ANY).await.unwrap();
    sql.batch_execute(
        "create function fault() returns trigger language plpgsql as $$ begin raise 'a fault'; end $$;
         create trigger fault before insert on event for each row execute function fault()",
    )
    .await
    .unwrap();
    let third = with_token("retry 3");
    assert_eq!(
        refusal(upload(&client, third.clone()).await),
        (Code::Internal, "INTERNAL".into())
    );
    sql.batch_execute("drop trigger fault on event").await.unwrap();
    let id = stored(&client, &third).await;
    assert_eq!(stored(&client, &third).await, id);
    server.stop().await;
}

#[tokio::test]
async fn many_retries_beyond_the_quota_at_once_are_all_told_so() {
    let server = TestServer::start_with(|config| config.server_certificate_quota = 0).await;
    let request = with_token("retry 1");
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..24 {
        let (client, request) = (server.client(), request.clone());
        calls.spawn(async move { upload(&client, request).await });
    }
    for answer in calls.join_all().await {
        assert_eq!(refusal(answer), over_quota());
    }
    assert_eq!(server.rows().await, [0; 4]);
    server.stop().await;
}

/// Holds whoever uploads up in the midst of the statement: its token is written, and nothing else of it. Two that have the
/// same token then wait for each other.
async fn hold_up(sql: &tokio_postgres::Client) {
    sql.batch_execute("begin; select from certificate_count for update")
        .await
        .unwrap();
}

/// Two servers on one database, which has a certificate.
async fn replicas() -> (TestServer, TestServer, tokio_postgres::Client) {
    let server = TestServer::start().await;
    stored(&server.client(), &with_token("first")).await;
    let replica = server.replica(|_| {}).await;
    let sql = server.sql().await;
    (server, replica, sql)
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_calls_at_once_store_one_certificate_and_all_get_its_id() {
    let (server, replica, sql) = replicas().await;
    for (one, other, number) in [(&server, &server, 2), (&server, &replica, 3)] {
        let request = with_token(&format!("retry {number}"));
        hold_up(&sql).await;
        let mut calls = tokio::task::JoinSet::new();
        for server in [one, other] {
            let (client, request) = (server.client(), request.clone());
            calls.spawn(async move { upload(&client, request).await.unwrap() });
        }
        until_waiting(&sql, "store::upload", 2).await;
        sql.batch_execute("commit").await.unwrap();
        let answers = calls.join_all().await;
        assert_eq!(answers[0].server_certificate_id, answers[1].server_certificate_id);
        assert_ne!(answers[0].request_id, answers[1].request_id);
        assert_eq!(rows(&sql).await, [number; 4]);
        assert_eq!(counters(&sql).await, [(REGION.into(), number, number)]);
        for answer in answers {
            assert_eq!(answer.account_fingerprints.len() as i64, number);
        }
    }
    replica.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_equal_calls_at_once_store_one_certificate() {
    let server = TestServer::start().await;
    let replica = server.replica(|_| {}).await;
    let request = with_token("retry 1");
    let barrier = Arc::new(Barrier::new(16));
    let mut calls = tokio::task::JoinSet::new();
    for server in [&server, &replica].repeat(8) {
        let (client, request, barrier) = (server.client(), request.clone(), barrier.clone());
        calls.spawn(async move {
            barrier.wait().await;
            stored(&client, &request).await
        });
    }
    let ids: HashSet<_> = calls.join_all().await.into_iter().collect();
    assert_eq!(ids.len(), 1);
    let sql = server.sql().await;
    assert_eq!(rows(&sql).await, [1; 4]);
    assert_eq!(counters(&sql).await, [(REGION.into(), 1, 1)]);
    replica.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_different_requests_with_one_token_at_once_one_is_stored_and_the_other_refused() {
    let (server, replica, sql) = replicas().await;
    hold_up(&sql).await;
    let mut calls = tokio::task::JoinSet::new();
    for server in [&server, &replica] {
        let (client, request) = (server.client(), with_token("retry 1"));
        calls.spawn(async move { upload(&client, request).await });
    }
    until_waiting(&sql, "store::upload", 2).await;
    sql.batch_execute("commit").await.unwrap();
    let (stored, refused): (Vec<_>, Vec<_>) = calls.join_all().await.into_iter().partition(Result::is_ok);
    assert_eq!((stored.len(), refused.len()), (1, 1));
    for refused in refused {
        assert_eq!(refusal(refused), reused());
    }
    assert_eq!(rows(&sql).await, [2; 4]);
    replica.stop().await;
    server.stop().await;
}

/// The one that the other waits for fails: its token was never used.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_waits_for_an_equal_one_that_fails_is_stored_itself() {
    let (server, replica, sql) = replicas().await;
    let request = with_token("retry 1");
    // Only the first to come meets the fault.
    sql.batch_execute(
        "create sequence attempts;
         create function fail_once() returns trigger language plpgsql as $$
         begin if nextval('attempts') = 1 then raise 'a fault'; end if; return null; end $$;
         create constraint trigger fail_once after insert on event deferrable initially deferred
           for each row execute function fail_once()",
    )
    .await
    .unwrap();
    hold_up(&sql).await;
    let mut calls = tokio::task::JoinSet::new();
    for (number, server) in (1..).zip([&server, &replica]) {
        let (client, request) = (server.client(), request.clone());
        calls.spawn(async move { (number, upload(&client, request).await) });
        until_waiting(&sql, "store::upload", number).await;
    }
    sql.batch_execute("commit").await.unwrap();
    for (number, answer) in calls.join_all().await {
        match number {
            1 => assert_eq!(refusal(answer), (Code::Internal, "INTERNAL".into())),
            _ => assert_eq!(answer.unwrap().account_fingerprints.len(), 2),
        }
    }
    assert_eq!(rows(&sql).await, [2; 4]);
    assert_eq!(counters(&sql).await, [(REGION.into(), 2, 2)]);
    replica.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_answer_was_lost_is_found_by_its_token() {
    let database = database().await;
    let server = TestServer::start_on(database.clone(), |_| {}).await;
    let (proxy, through) = Proxy::before(&database);
    let behind_proxy = server.replica_on(through, "", |_| {}).await;
    let sql = server.sql().await;
    for (number, moment) in (1..).zip([Moment::BeforeStatement, Moment::BeforeAnswer]) {
        let request = with_token(["lost 1", "lost 2"][number - 1]);
        proxy.cut_at(["lost 1", "lost 2"][number - 1], moment, Way::Cut);
        let mut lost = tonic::Request::new(request.clone());
        lost.set_timeout(Duration::from_millis(500));
        behind_proxy.client().upload_server_certificate(lost).await.unwrap_err();
        assert!(proxy.has_cut());
        let committed = if moment == Moment::BeforeAnswer {
            number
        } else {
            number - 1
        };
        assert_eq!(rows(&sql).await, [committed as i64; 4], "{moment:?}");
        // Before the first server has found out itself what became of it.
        let answer = upload(&server.client(), request.clone()).await.unwrap();
        assert_eq!(answer.account_fingerprints.len(), number);
        // And when it has.
        proxy.set(Way::Open);
        until(async || upload(&behind_proxy.client(), request.clone()).await.is_ok()).await;
        assert_eq!(
            stored(&behind_proxy.client(), &request).await,
            answer.server_certificate_id
        );
        assert_eq!(rows(&sql).await, [number as i64; 4], "{moment:?}");
        assert_eq!(counters(&sql).await, [(REGION.into(), number as i64, number as i64)]);
        assert_eq!(fingerprints(&server.client()).await.len(), number);
    }
    behind_proxy.stop().await;
    server.stop().await;
}

/// Its backend is still at work, and commits: the retry waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_replica_was_killed_before_its_commit_is_found_by_its_token() {
    let server = TestServer::start().await;
    stored(&server.client(), &with_token("first")).await;
    let sql = server.sql().await;
    let replica = Certkeep::start_replica(&server);
    let request = with_token("retry 1");
    hold_up(&sql).await;
    let client = replica.client_with_key(server.admin_key());
    let lost = tokio::spawn({
        let request = request.clone();
        async move { upload(&client, request).await }
    });
    until_waiting(&sql, "store::upload", 1).await;
    replica.kill();
    lost.await.unwrap().unwrap_err();
    let retry = tokio::spawn({
        let (client, request) = (server.client(), request.clone());
        async move { upload(&client, request).await }
    });
    until_waiting(&sql, "store::upload", 2).await;
    sql.batch_execute("commit").await.unwrap();
    let answer = retry.await.unwrap().unwrap();
    // It is the killed one's: no other upload got as far as to an event.
    let event = "select count(*) from event where request_id = $1::text::uuid";
    let events: i64 = sql.query_one(event, &[&answer.request_id]).await.unwrap().get(0);
    assert_eq!(events, 0);
    assert_eq!(stored(&server.client(), &request).await, answer.server_certificate_id);
    assert_eq!(rows(&sql).await, [2; 4]);
    assert_eq!(counters(&sql).await, [(REGION.into(), 2, 2)]);
    server.stop().await;
}

#[tokio::test]
async fn a_token_counts_for_24_hours() {
    let server = TestServer::start().await;
    let client = server.client();
    let sql = server.sql().await;
    let request = with_token("retry 1");
    let first = stored(&client, &request).await;
    let age = async |age: &str| {
        let set = format!("update client_token set used_at = now() - interval '{age}'");
        sql.execute(&set, &[]).await.unwrap();
    };
    age("23 hours 59 minutes").await;
    assert_eq!(stored(&client, &request).await, first);
    age("24 hours 1 second").await;
    let second = stored(&client, &request).await;
    assert_ne!(second, first);
    // And then for 24 hours again.
    assert_eq!(stored(&client, &request).await, second);
    age("24 hours 1 second").await;
    let other = pb::UploadServerCertificateRequest {
        server_certificate_name: "other".into(),
        ..request.clone()
    };
    let third = stored(&client, &other).await;
    assert_eq!(stored(&client, &other).await, third);
    assert_eq!(refusal(upload(&client, request).await), reused());
    assert_eq!(server.rows().await, [3; 4]);
    server.stop().await;
}

#[tokio::test]
async fn tokens_are_forgotten_after_24_hours() {
    let server = TestServer::start().await;
    let sql = server.sql().await;
    for token in ["new", "old"] {
        stored(&server.client(), &with_token(token)).await;
    }
    assert_eq!(tokens(&sql).await, ["new", "old"]);
    let age = "update client_token set used_at = now() - interval '24 hours 1 second' where client_token = 'old'";
    sql.execute(age, &[]).await.unwrap();
    // The job runs when a server starts.
    let replica = server.replica(|_| {}).await;
    until(async || tokens(&sql).await == ["new"]).await;
    assert_eq!(server.rows().await, [2; 4]);
    replica.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn a_retry_answers_though_the_upload_would_be_refused_now() {
    let server = TestServer::start().await;
    let request = with_token("retry 1");
    let first = upload(&server.client(), request.clone()).await.unwrap();
    let strict = server.replica_with_policy("strict", |_| {}).await;
    let client = strict.client();
    let again = upload(&client, request.clone()).await.unwrap();
    let expected = pb::UploadServerCertificateResponse {
        request_id: again.request_id.clone(),
        // Those of a refused pair are not worked out.
        findings: again.findings.clone(),
        ..first
    };
    assert_eq!(again, expected);
    let another = pb::UploadServerCertificateRequest {
        client_token: "retry 2".into(),
        ..request
    };
    let refused = (Code::InvalidArgument, "POLICY_REJECTED".into());
    assert_eq!(refusal(upload(&client, another).await), refused);
    assert_eq!(tokens(&server.sql().await).await, ["retry 1"]);
    strict.stop().await;
    server.stop().await;
}

/// Neither the pair nor anything that a key could be guessed by stands beside the token.
#[tokio::test]
async fn a_token_keeps_no_more_of_its_request_than_a_keyed_digest() {
    let server = TestServer::start().await;
    let other = TestServer::start().await;
    let request = with_token("retry 1");
    let mut digests = Vec::new();
    for server in [&server, &other] {
        stored(&server.client(), &request).await;
        let mac = "select request_mac from client_token";
        let mac: Vec<u8> = server.sql().await.query_one(mac, &[]).await.unwrap().get(0);
        digests.push(mac);
    }
    assert_eq!((digests[0].len(), digests[0] == digests[1]), (32, false));
    other.stop().await;
    server.stop().await;
}
