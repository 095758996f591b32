//! The way to Postgres breaks, and Postgres stops and starts: nothing acknowledged is lost, nothing is half-written or
//! doubled, and the service resumes by itself.

use std::time::{Duration, Instant};

use certkeep::grpc::pb::DescribeServerCertificatesRequest;
use rustix::process::Signal;
use tonic::{Code, Status};

use crate::bad_input::reason;
use crate::harness::{Client, TestServer, connect_to, database, rows, upload_of};
use crate::load::{Load, resumes_within};
use crate::pki::{self, Key};
use crate::process::{Certkeep, DataDir, Stopped, signal};
use crate::proxy::{Moment, Proxy, Way};

const RESUMES_WITHIN: Duration = Duration::from_secs(5);

/// certkeep with a way to its Postgres that can break, and the way around.
async fn server_behind_proxy() -> (TestServer, Proxy, String) {
    let database = database().await;
    let (proxy, through) = Proxy::before(&database);
    // Fewer than a test's callers: no dead one stays idle.
    let change = |config: &mut certkeep::config::Config| config.database.max_connections = 4;
    (TestServer::start_on(through, change).await, proxy, database)
}

async fn upload(client: &Client, name: &str, deadline: Duration) -> Result<String, Status> {
    let mut request = tonic::Request::new(upload_of(&pki::self_signed(Key::P256, name)));
    request.set_timeout(deadline);
    let answer = client.clone().upload_server_certificate(request).await?;
    Ok(answer.into_inner().server_certificate_id)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_connection_is_cut_before_or_after_its_commit_is_acknowledged_and_stored_once() {
    let (server, proxy, database) = server_behind_proxy().await;
    let sql = connect_to(&database).await;
    for (number, moment) in (1..).zip([Moment::BeforeStatement, Moment::BeforeAnswer]) {
        proxy.cut_at("cut.example", moment, Way::Open);
        let uploaded = upload(&server.client(), "cut.example", RESUMES_WITHIN).await;
        assert!(uploaded.is_ok(), "{moment:?}: {uploaded:?}");
        assert!(proxy.has_cut(), "{moment:?}");
        assert_eq!(rows(&sql).await, [number, number, 0, number], "{moment:?}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_answer_is_lost_for_long_is_said_to_be_of_unknown_outcome() {
    let (server, proxy, database) = server_behind_proxy().await;
    let sql = connect_to(&database).await;
    proxy.cut_at("cut.example", Moment::BeforeAnswer, Way::Cut);
    let refused = upload(&server.client(), "cut.example", Duration::from_secs(25)).await;
    let refused = refused.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused)),
        (Code::Unknown, "OUTCOME_UNKNOWN".into())
    );
    assert_eq!(rows(&sql).await, [1, 1, 0, 1]);
    proxy.set(Way::Open);
    resumes_within(&server.client(), RESUMES_WITHIN).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_way_to_postgres_under_load_loses_nothing_and_is_over_when_it_is_over() {
    let (server, proxy, database) = server_behind_proxy().await;
    let load = Load::start(&server.client());
    load.acknowledges(50).await;
    proxy.set(Way::Cut);
    // Longer than a checked access key is remembered.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let asked = Instant::now();
    let refused = upload(&server.client(), "cut.example", RESUMES_WITHIN)
        .await
        .unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused)),
        (Code::Unavailable, "DATABASE_UNAVAILABLE".into())
    );
    assert!(asked.elapsed() < Duration::from_secs(1), "it is refused at once");
    proxy.set(Way::Open);
    resumes_within(&server.client(), RESUMES_WITHIN).await;
    let outcome = load.stop().await;
    outcome.refused_only_as(&["DATABASE_UNAVAILABLE", "OUTCOME_UNKNOWN"]);
    outcome.is_whole(server.client(), &database).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_that_swallows_everything_costs_callers_their_deadline_and_no_more() {
    let (server, proxy, _) = server_behind_proxy().await;
    let client = server.client();
    // Until the pool has connections.
    let mut warm = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let client = client.clone();
        warm.spawn(async move { upload(&client, "before.example", RESUMES_WITHIN).await.unwrap() });
    }
    warm.join_all().await;
    proxy.set(Way::Swallows);
    let deadline = Duration::from_millis(800);
    let mut callers = tokio::task::JoinSet::new();
    for n in 0..8 {
        let mut client = client.clone();
        callers.spawn(async move {
            let asked = Instant::now();
            let refused = match n {
                0 => upload(&client, "swallowed.example", deadline).await.unwrap_err(),
                _ => {
                    let mut describe = tonic::Request::new(DescribeServerCertificatesRequest::default());
                    describe.set_timeout(deadline);
                    client.describe_server_certificates(describe).await.unwrap_err()
                }
            };
            (refused.code(), asked.elapsed())
        });
    }
    for (code, time) in callers.join_all().await {
        // On a busy machine, the timer of tonic's client is sometimes faster than the answer.
        assert!(matches!(code, Code::DeadlineExceeded | Code::Cancelled), "{code:?}");
        assert!(time < deadline + Duration::from_millis(500), "{time:?}");
    }
    proxy.set(Way::Open);
    resumes_within(&client, RESUMES_WITHIN).await;
    // Nobody gets a connection that was given up.
    for _ in 0..12 {
        upload(&client, "after.example", Duration::from_secs(1)).await.unwrap();
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_way_to_postgres_makes_uploads_slow_and_refuses_none() {
    let (server, proxy, database) = server_behind_proxy().await;
    proxy.set(Way::Slow(Duration::from_millis(100)));
    for _ in 0..3 {
        upload(&server.client(), "slow.example", RESUMES_WITHIN).await.unwrap();
    }
    let sql = connect_to(&database).await;
    assert_eq!(rows(&sql).await, [3, 3, 0, 3]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_stopped_for_a_while_costs_callers_their_deadline_and_nothing_acknowledged() {
    let data_dir = DataDir::new();
    let server = Certkeep::start(&data_dir);
    let client = server.client(&data_dir);
    let load = Load::with_deadline(&client, Duration::from_secs(1));
    load.acknowledges(50).await;
    let stopped = Stopped::with_children(data_dir.postmaster_pid().unwrap());
    // Until the calls that a stopped Postgres had answered already are over.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let asked = Instant::now();
    let refused = upload(&client, "stopped.example", Duration::from_secs(1))
        .await
        .unwrap_err();
    // On a busy machine, the timer of tonic's client is sometimes faster than the answer.
    if refused.code() != Code::Cancelled {
        assert_eq!(
            (refused.code(), reason(&refused)),
            (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".into())
        );
    }
    assert!(asked.elapsed() < Duration::from_millis(1500), "{:?}", asked.elapsed());
    tokio::time::sleep(Duration::from_secs(2)).await;
    drop(stopped);
    resumes_within(&client, RESUMES_WITHIN).await;
    let outcome = load.stop().await;
    outcome.refused_only_as(&["DEADLINE_EXCEEDED", "DATABASE_UNAVAILABLE", "OUTCOME_UNKNOWN", ""]);
    outcome.is_whole(client, &data_dir.connection_string()).await;
    server.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_shut_down_under_load_is_started_again_and_nothing_is_lost() {
    let data_dir = DataDir::new();
    let server = Certkeep::start(&data_dir);
    let client = server.client(&data_dir);
    let load = Load::start(&client);
    load.acknowledges(50).await;
    let database = data_dir.connection_string();
    let first = data_dir.postmaster_pid().unwrap();
    signal(first, Signal::INT);
    data_dir.until_postgres_is_back(first, &database).await;
    resumes_within(&client, RESUMES_WITHIN).await;
    load.acknowledges(50).await;
    let outcome = load.stop().await;
    outcome.refused_only_as(&["DATABASE_UNAVAILABLE", "OUTCOME_UNKNOWN"]);
    outcome.is_whole(client, &data_dir.connection_string()).await;
    server.terminate();
}
