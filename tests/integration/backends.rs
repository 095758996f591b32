//! The backends of Postgres that certkeep occupies, whatever its callers do.

use std::time::{Duration, Instant};

use certkeep::grpc::pb;
use tokio::task::JoinSet;
use tonic::{Code, Request, Status};

use crate::calls::stored;
use crate::harness::{Client, TestServer, database, upload_of};
use crate::load::resumes_within;
use crate::pki::{self, Key};
use crate::proof::{figure, times};

const MAX_CONNECTIONS: usize = 6;
/// The connection of the readiness probe.
const PROBE: usize = 1;
/// Backends whose connection is closed and that are about to exit.
const ENDING: usize = 6;

fn with_deadline<T>(message: T, deadline: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(deadline);
    request
}

/// Calls again and again until `end`, each time with this deadline. Each caller makes one kind of call.
async fn call_until(end: Instant, deadline: Duration, n: usize, mut client: Client, id: String) -> usize {
    let upload = upload_of(&pki::self_signed(Key::P256, "backends.example"));
    let mut calls = 0;
    while Instant::now() < end {
        let answer: Result<(), Status> = match n % 4 {
            0 => {
                let request = with_deadline(pb::DescribeServerCertificatesRequest::default(), deadline);
                client.describe_server_certificates(request).await.map(|_| ())
            }
            1 => {
                let get = pb::GetServerCertificateRequest {
                    server_certificate_id: id.clone(),
                    ..Default::default()
                };
                let request = with_deadline(get, deadline);
                client.get_server_certificate(request).await.map(|_| ())
            }
            2 => {
                let delete = pb::DeleteServerCertificateRequest {
                    region_id: "cn-hangzhou".to_owned(),
                    server_certificate_id: id.clone(),
                    ..Default::default()
                };
                let request = with_deadline(delete, deadline);
                client.delete_server_certificate(request).await.map(|_| ())
            }
            _ => {
                let request = with_deadline(upload.clone(), deadline);
                client.upload_server_certificate(request).await.map(|_| ())
            }
        };
        let code = answer.unwrap_err().code();
        assert!(
            matches!(code, Code::DeadlineExceeded | Code::Cancelled | Code::Aborted),
            "{code}"
        );
        calls += 1;
    }
    calls
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_give_up_while_a_table_is_locked_do_not_occupy_more_backends_than_configured() {
    let database = database().await;
    let change = |config: &mut certkeep::config::Config| config.database.max_connections = MAX_CONNECTIONS;
    let server = TestServer::start_on(database, change).await;
    let id = stored(
        &server.client(),
        &upload_of(&pki::self_signed(Key::P256, "first.example")),
    )
    .await;
    let (sql, watcher) = (server.sql().await, server.sql().await);
    sql.batch_execute("begin; lock table certificate in access exclusive mode")
        .await
        .unwrap();
    let end = Instant::now() + Duration::from_secs(times(3, 60) as u64);
    let mut callers = JoinSet::new();
    for n in 0..60 {
        let call = call_until(end, Duration::from_millis(300), n, server.client(), id.clone());
        callers.spawn(call);
    }
    let count =
        "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'certkeep'";
    let mut most = 0;
    while Instant::now() < end {
        most = most.max(watcher.query_one(count, &[]).await.unwrap().get::<_, i64>(0) as usize);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let calls: usize = callers.join_all().await.into_iter().sum();
    assert!(
        most <= MAX_CONNECTIONS + PROBE + ENDING,
        "{most} backends with {MAX_CONNECTIONS} connections"
    );
    sql.batch_execute("rollback").await.unwrap();
    resumes_within(&server.client(), Duration::from_secs(5)).await;
    figure("callers that gave up while a table was locked", calls);
    figure("database_connections", MAX_CONNECTIONS);
    figure("most backends at once", most);
    server.stop().await;
}
