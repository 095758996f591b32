//! Authentication and roles, and the methods that are open to all.

use certkeep::grpc::pb;
use certkeep::grpc::pb::admin_service_client::AdminServiceClient;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::bad_input::reason;
use crate::command_line::run;
use crate::harness::{Account, Client, TestServer, bearer, until};
use crate::process::stdout;

async fn describe(mut client: Client) -> Result<(), tonic::Status> {
    client
        .describe_server_certificates(pb::DescribeServerCertificatesRequest::default())
        .await
        .map(|_| ())
}

#[tokio::test]
async fn every_call_needs_a_valid_access_key() {
    let server = TestServer::start().await;
    let (id, secret) = server.admin_key().split_once('.').unwrap();
    let other_secret = "A".repeat(secret.len());
    for authorization in [
        None,
        Some(String::new()),
        Some("Bearer".into()),
        Some("Bearer ".into()),
        Some(format!("Bearer {id}")),
        Some(format!("Bearer {id}.")),
        Some(format!("Bearer {id}.{other_secret}")),
        Some(format!("Bearer ckunknown.{secret}")),
        Some(format!("Basic {id}.{secret}")),
        Some(format!("Bearer {id}.{secret}x")),
    ] {
        let refused = describe(server.client_with(authorization.as_deref()))
            .await
            .unwrap_err();
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::Unauthenticated, "UNAUTHENTICATED"),
            "{authorization:?}"
        );
    }
    describe(server.client()).await.unwrap();
    describe(server.client_with(Some(&format!("bearer  {id}.{secret}"))))
        .await
        .unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_disabled_key_or_account_is_refused_within_two_seconds() {
    let server = TestServer::start().await;
    let sql = server.sql().await;
    let (id, _) = server.admin_key().split_once('.').unwrap();
    let wrong = format!("Bearer {id}.{}", "A".repeat(43));
    for (disable, enable, expected) in [
        (
            "update access_key set disabled = true",
            "update access_key set disabled = false",
            "ACCESS_KEY_DISABLED",
        ),
        (
            "update account set disabled = true",
            "update account set disabled = false",
            "ACCOUNT_DISABLED",
        ),
    ] {
        // A key that is enabled again works within two seconds.
        until(async || describe(server.client()).await.is_ok()).await;
        sql.execute(disable, &[]).await.unwrap();
        let disabled = std::time::Instant::now();
        until(async || describe(server.client()).await.is_err()).await;
        assert!(disabled.elapsed() < std::time::Duration::from_millis(2100));
        let refused = describe(server.client()).await.unwrap_err();
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::Unauthenticated, expected)
        );
        let refused = describe(server.client_with(Some(&wrong))).await.unwrap_err();
        assert_eq!(reason(&refused), "UNAUTHENTICATED");
        sql.execute(enable, &[]).await.unwrap();
    }
    server.stop().await;
}

/// Older tools only know v1alpha.
#[tokio::test]
async fn reflection_is_open_to_all_in_both_versions() {
    use tonic_reflection::pb::{v1, v1alpha};
    let server = TestServer::start().await;
    let message = v1::server_reflection_request::MessageRequest::ListServices(String::new());
    let request = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(message),
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(server.channel());
    let mut answers = client
        .server_reflection_info(tokio_stream::once(request))
        .await
        .unwrap()
        .into_inner();
    assert!(format!("{:?}", answers.message().await.unwrap()).contains("certkeep.v1.CertificateService"));

    let message = v1alpha::server_reflection_request::MessageRequest::ListServices(String::new());
    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(message),
    };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(server.channel());
    let mut answers = client
        .server_reflection_info(tokio_stream::once(request))
        .await
        .unwrap()
        .into_inner();
    assert!(format!("{:?}", answers.message().await.unwrap()).contains("certkeep.v1.CertificateService"));
    server.stop().await;
}

#[tokio::test]
async fn health_is_open_to_all() {
    let server = TestServer::start().await;
    for service in [
        "",
        "certkeep.v1.AdminService",
        "certkeep.v1.CertificateService",
        "certkeep.v1.OperatorService",
    ] {
        let request = HealthCheckRequest {
            service: service.into(),
        };
        let answer = HealthClient::new(server.channel())
            .check(request)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(answer.status, 1, "{service} is SERVING");
    }
    server.stop().await;
}

/// A client that watches health never ends its stream itself.
#[tokio::test]
async fn a_stop_reports_not_serving_and_ends_the_streams_that_watch_health() {
    let server = TestServer::start().await;
    let request = HealthCheckRequest {
        service: "certkeep.v1.CertificateService".into(),
    };
    let mut watch = HealthClient::new(server.channel())
        .watch(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status, 1);
    let started = std::time::Instant::now();
    server.stop().await;
    assert!(
        started.elapsed() < std::time::Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(watch.message().await.unwrap().unwrap().status, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_of_every_role_learns_who_it_is() {
    let server = TestServer::start().await;
    let sql = server.sql().await;
    let account_of = "select account_id::text from access_key where access_key_id = $1";
    for (name, account, role) in [
        ("reader", Account::First, pb::Role::Reader),
        ("editor", Account::First, pb::Role::Editor),
        ("consumer", Account::First, pb::Role::Consumer),
        ("admin", Account::New, pb::Role::Admin),
    ] {
        let key = server.add_key(name, account).await;
        let (id, _) = key.split_once('.').unwrap();
        let mut client = AdminServiceClient::with_interceptor(server.channel(), bearer(&key));
        let answer = client.describe_caller(pb::DescribeCallerRequest {}).await;
        let answer = answer.unwrap().into_inner();
        let seconds = answer.server_time.unwrap().seconds;
        let database_seconds: i64 = sql
            .query_one("select extract(epoch from now())::bigint", &[])
            .await
            .unwrap()
            .get(0);
        assert!(seconds.abs_diff(database_seconds) < 60, "{seconds}");
        let expected = pb::DescribeCallerResponse {
            request_id: answer.request_id.clone(),
            account_id: sql.query_one(account_of, &[&id]).await.unwrap().get(0),
            principal: id.to_owned(),
            role: role.into(),
            address: "127.0.0.1".to_owned(),
            server_time: answer.server_time,
            server_version: env!("CARGO_PKG_VERSION").to_owned(),
            scope: None,
            expire_time: None,
            access_key_id: id.to_owned(),
            client_identity: String::new(),
        };
        assert_eq!(answer, expected);
    }
    let shown = stdout(&run(&server, &["whoami"]));
    let (id, _) = server.admin_key().split_once('.').unwrap();
    assert!(
        shown.contains(&format!("access key    {id}\nrole          admin\n")),
        "{shown}"
    );
    server.stop().await;
}
