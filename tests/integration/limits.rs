//! Limits of the rate of calls: of access keys, accounts, failed authentications, and calls without authentication.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use certkeep::config::Config;
use certkeep::grpc::pb;
use certkeep::grpc::pb::admin_service_client::AdminServiceClient;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

use crate::bad_input::reason;
use crate::harness::{Account, Bearer, TestServer, bearer, until};
use crate::operation::http;

type Admin = AdminServiceClient<InterceptedService<Channel, Bearer>>;

/// A connection from this address of this machine.
fn channel_from(server: &TestServer, last: u8) -> Channel {
    Endpoint::from_shared(server.endpoint())
        .unwrap()
        .local_address(Some(IpAddr::from(Ipv4Addr::new(127, 0, 0, last))))
        .connect_lazy()
}

fn client_from(server: &TestServer, last: u8, key: &str) -> Admin {
    AdminServiceClient::with_interceptor(channel_from(server, last), bearer(key))
}

fn client(server: &TestServer, key: &str) -> Admin {
    client_from(server, 1, key)
}

async fn who(client: &Admin) -> Result<pb::DescribeCallerResponse, Status> {
    let answer = client.clone().describe_caller(pb::DescribeCallerRequest {}).await?;
    Ok(answer.into_inner())
}

/// The first refusal among so many calls, and the number of calls before it.
async fn refusal(client: &Admin, calls: usize) -> Option<(usize, Status)> {
    for number in 0..calls {
        if let Err(refused) = who(client).await {
            return Some((number, refused));
        }
    }
    None
}

/// The limit that refused, and the time to wait.
fn limit(refused: &Status) -> (String, Duration) {
    assert_eq!(
        (refused.code(), reason(refused).as_str()),
        (Code::ResourceExhausted, "RATE_LIMITED"),
        "{refused}"
    );
    let details = refused.get_error_details();
    let wait = details.retry_info().unwrap().retry_delay.unwrap();
    (details.error_info().unwrap().metadata["limit"].clone(), wait)
}

fn rates(access_key_rate: u32, account_rate: u32) -> impl FnOnce(&mut Config) {
    move |config| {
        config.access_key_rate = access_key_rate;
        config.account_rate = account_rate;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_key_has_its_own_limit_and_learns_how_long_to_wait() {
    let server = TestServer::start_with(rates(5, 1000)).await;
    let key = server.add_key("reader", Account::First).await;
    let (first, second) = (client(&server, server.admin_key()), client(&server, &key));
    let (number, refused) = refusal(&first, 20).await.unwrap();
    let (name, wait) = limit(&refused);
    assert!((5..10).contains(&number), "{number} calls");
    assert_eq!(name, "access_key");
    assert!(wait > Duration::ZERO && wait <= Duration::from_millis(200), "{wait:?}");
    assert!(refused.message().contains("5 calls a second"), "{refused}");
    who(&second).await.expect("another key of the account is served");
    tokio::time::sleep(wait).await;
    who(&first).await.expect("after the wait");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keys_of_an_account_share_the_limit_of_the_account() {
    let server = TestServer::start_with(rates(1000, 5)).await;
    let key = server.add_key("reader", Account::First).await;
    let (first, second) = (client(&server, server.admin_key()), client(&server, &key));
    let elsewhere = client(&server, &server.add_key("reader", Account::New).await);
    assert_eq!(limit(&refusal(&first, 20).await.unwrap().1).0, "account");
    assert_eq!(limit(&refusal(&second, 3).await.unwrap().1).0, "account");
    who(&elsewhere).await.expect("another account is served");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_replaces_a_rate_within_two_seconds() {
    let server = TestServer::start_with(rates(1000, 1000)).await;
    let (sql, admin) = (server.sql().await, client(&server, server.admin_key()));
    assert!(refusal(&admin, 50).await.is_none());
    for (kind, expected) in [
        ("calls_per_second_per_key", "access_key"),
        ("calls_per_second", "account"),
    ] {
        let set = "insert into quota (account_id, kind, maximum) select account_id, $1, 3 from account where name = 'default'";
        assert_eq!(sql.execute(set, &[&kind]).await.unwrap(), 1);
        let changed = Instant::now();
        let mut refused = None;
        until(async || {
            refused = refusal(&admin, 50).await;
            refused.is_some()
        })
        .await;
        assert!(changed.elapsed() < Duration::from_secs(3), "{:?}", changed.elapsed());
        assert_eq!(limit(&refused.unwrap().1).0, expected);
        sql.execute("delete from quota", &[]).await.unwrap();
        until(async || refusal(&admin, 50).await.is_none()).await;
    }
    // No calls at all.
    let set = "insert into quota (account_id, kind, maximum) select account_id, 'calls_per_second', 0 from account";
    sql.execute(set, &[]).await.unwrap();
    until(async || refusal(&admin, 1).await.is_some()).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(limit(&who(&admin).await.unwrap_err()).0, "account");
    server.stop().await;
}

/// Wrong access keys, all of them different.
async fn guess(server: &TestServer, last: u8, guesses: std::ops::Range<usize>) -> Vec<Status> {
    let (id, _) = server.admin_key().split_once('.').unwrap();
    let mut answers = Vec::new();
    for number in guesses {
        let client = client_from(server, last, &format!("{id}.{number:043}"));
        answers.push(who(&client).await.unwrap_err());
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_guesses_is_slowed_and_known_keys_from_it_are_served() {
    let server = TestServer::start().await;
    let (known, fresh) = (
        server.add_key("reader", Account::First).await,
        server.add_key("reader", Account::First).await,
    );
    who(&client_from(&server, 2, &known)).await.unwrap();
    // The key is no longer in the cache. It was right before.
    tokio::time::sleep(Duration::from_millis(2100)).await;

    let answers = guess(&server, 2, 0..60).await;
    assert!(answers[..20].iter().all(|refused| reason(refused) == "UNAUTHENTICATED"));
    let limited: Vec<_> = answers
        .iter()
        .filter(|refused| reason(refused) == "RATE_LIMITED")
        .collect();
    assert!(limited.len() > 10, "{} of 60", limited.len());
    let (name, wait) = limit(limited[0]);
    assert_eq!(name, "failed_authentications");
    assert!(wait > Duration::ZERO && wait <= Duration::from_secs(1), "{wait:?}");

    who(&client_from(&server, 2, &known))
        .await
        .expect("a known key from the same address");
    who(&client_from(&server, 3, &fresh))
        .await
        .expect("a key from another address");
    // A key that this replica has not seen waits for its turn.
    // A slow machine guesses more slowly than the address regains its attempts.
    let mut waiting = None;
    for attempt in 2..20 {
        let other = server.add_key("reader", Account::First).await;
        let other = client_from(&server, 2, &other);
        guess(&server, 2, 40 * attempt..40 * attempt + 40).await;
        if let Err(refused) = who(&other).await {
            waiting = Some((limit(&refused).1, other));
            break;
        }
    }
    let (wait, other) = waiting.expect("a key that waits");
    tokio::time::sleep(wait).await;
    who(&other).await.expect("after the wait");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_repeats_a_wrong_key_does_not_use_up_its_address() {
    let server = TestServer::start().await;
    let (id, _) = server.admin_key().split_once('.').unwrap();
    let wrong = client_from(&server, 2, &format!("{id}.{}", "A".repeat(43)));
    for _ in 0..100 {
        assert_eq!(reason(&who(&wrong).await.unwrap_err()), "UNAUTHENTICATED");
    }
    who(&client_from(&server, 2, server.admin_key())).await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_without_an_access_key_are_bounded_and_callers_with_a_key_are_served() {
    let server = TestServer::start().await;
    let mut health = HealthClient::new(channel_from(&server, 2));
    let request = HealthCheckRequest::default();
    let mut refused = None;
    for _ in 0..5000 {
        if let Err(status) = health.check(request.clone()).await {
            refused = Some(status);
            break;
        }
    }
    assert_eq!(limit(&refused.unwrap()).0, "unauthenticated");
    // The same bucket counts failed authentications.
    let nobody = AdminServiceClient::new(channel_from(&server, 2));
    let mut limited = 0;
    for _ in 0..50 {
        let refused = nobody
            .clone()
            .describe_caller(pb::DescribeCallerRequest {})
            .await
            .unwrap_err();
        limited += usize::from(reason(&refused) == "RATE_LIMITED");
    }
    assert!(limited > 0);
    who(&client_from(&server, 2, server.admin_key()))
        .await
        .expect("an access key from the same address");
    HealthClient::new(channel_from(&server, 3))
        .check(request)
        .await
        .expect("health from another address");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_count_refused_calls_and_failed_authentications() {
    let server = TestServer::start_with(|config| {
        rates(5, 1000)(config);
        config.metrics_listen = Some("127.0.0.1:0".parse().unwrap());
    })
    .await;
    // Other tests of this process count too.
    let read = async || {
        let address = server.metrics_address();
        let text = tokio::task::spawn_blocking(move || http(address, "/metrics").1)
            .await
            .unwrap();
        [
            "rate_limited_total{limit=\"access_key\"}",
            "failed_authentications_total{credential=\"access_key\"}",
        ]
        .map(|name| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(&format!("certkeep_{name} ")));
            line.unwrap().parse::<u64>().unwrap()
        })
    };
    let before = read().await;
    refusal(&client(&server, server.admin_key()), 20).await.unwrap();
    guess(&server, 4, 0..1).await;
    let after = read().await;
    assert!(after[0] > before[0] && after[1] > before[1], "{before:?} {after:?}");
    server.stop().await;
}
