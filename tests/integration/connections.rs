//! The limits of a connection: calls at once, age, silence.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use certkeep::grpc::pb;

use tonic::codec::CompressionEncoding;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::bad_input::reason;
use crate::harness::{Client, TestServer, upload_of};
use crate::operation::{http, metric};
use crate::pki::{self, Key};
use crate::process::{Certkeep, DataDir};

// RFC 9113, 6 and 6.5.2.
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const MAX_CONCURRENT_STREAMS: u16 = 3;

/// A caller that opens an HTTP/2 connection and then sends nothing: no call, no answer to a ping.
struct SilentCaller(TcpStream);

impl SilentCaller {
    fn connect(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        stream.write_all(&[0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]).unwrap();
        Self(stream)
    }

    /// Type and payload of the next frame; `None` when the connection is closed.
    fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut header = [0; 9];
        self.0.read_exact(&mut header).ok()?;
        let mut payload = vec![0; u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize];
        self.0.read_exact(&mut payload).ok()?;
        Some((header[3], payload))
    }

    /// The payload of the next frame of this type.
    fn frame_of(&mut self, wanted: u8) -> Vec<u8> {
        loop {
            let (kind, payload) = self.frame().expect("the connection was closed before");
            if kind == wanted && !payload.is_empty() {
                return payload;
            }
        }
    }
}

async fn describe(mut client: Client) -> Result<(), tonic::Status> {
    client
        .describe_server_certificates(pb::DescribeServerCertificatesRequest::default())
        .await
        .map(|_| ())
}

/// Waits until the question has this answer.
async fn until<T: PartialEq + std::fmt::Debug>(wanted: T, mut question: impl AsyncFnMut() -> T) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = question().await;
        if answer == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{answer:?} instead of {wanted:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_beyond_the_limit_of_a_connection_wait_and_are_answered() {
    let server = TestServer::start_with(|config| config.max_streams = 2).await;
    let settings = SilentCaller::connect(server.address()).frame_of(SETTINGS);
    let setting = settings
        .chunks(6)
        .find(|setting| setting[..2] == MAX_CONCURRENT_STREAMS.to_be_bytes());
    assert_eq!(setting.unwrap()[2..], 2_u32.to_be_bytes());

    let client = server.client();
    // After the first call, the client knows the limit.
    describe(client.clone()).await.unwrap();
    let (sql, watcher) = (server.sql().await, server.sql().await);
    let at_work = async || -> i64 {
        let count = "select count(*) from pg_stat_activity
                     where datname = current_database() and wait_event_type = 'Lock' and query like '-- store::page%'";
        watcher.query_one(count, &[]).await.unwrap().get(0)
    };
    sql.batch_execute("begin; lock table certificate in access exclusive mode")
        .await
        .unwrap();
    let calls: Vec<_> = (0..10).map(|_| tokio::spawn(describe(client.clone()))).collect();
    until(2, at_work).await;
    // The database has connections for more.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(at_work().await, 2);
    sql.batch_execute("rollback").await.unwrap();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_at_its_age_is_told_to_go_away_and_no_call_fails() {
    let server = TestServer::start_with(|config| config.max_connection_age = Duration::from_secs(1)).await;
    let address = server.address();
    let told = tokio::task::spawn_blocking(move || SilentCaller::connect(address).frame_of(GOAWAY));

    let client = server.client();
    describe(client.clone()).await.unwrap();
    let sql = server.sql().await;
    sql.batch_execute("begin; lock table certificate in access exclusive mode")
        .await
        .unwrap();
    let under_way = tokio::spawn(describe(client.clone()));
    tokio::time::sleep(Duration::from_millis(1500)).await;
    sql.batch_execute("rollback").await.unwrap();
    under_way.await.unwrap().expect("a call under way is finished");
    // Not at the same moment: unlike other clients, tonic's does not repeat a call that a closing connection refused.
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        describe(client.clone())
            .await
            .expect("calls go on over a new connection");
    }
    // The error code follows the last stream: NO_ERROR.
    assert_eq!(told.await.unwrap()[4..8], [0; 4]);
    server.stop().await;
}

/// A client that watches health never ends its stream itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_when_its_connection_reaches_its_age() {
    let server = TestServer::start_with(|config| {
        config.max_connection_age = Duration::from_secs(1);
        config.metrics_listen = Some("127.0.0.1:0".parse().unwrap());
    })
    .await;
    let mut health = HealthClient::new(server.channel());
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status, 1);
    let ended = tokio::time::timeout(Duration::from_secs(10), watch.message())
        .await
        .unwrap();
    assert_eq!(ended.unwrap_err().code(), tonic::Code::Unavailable);
    let line = "certkeep_calls_total{method=\"Watch\",code=\"UNAVAILABLE\"}";
    assert!(metric(&http(server.metrics_address(), "/metrics").1, line) >= 1.0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_may_be_gzip_within_the_same_limit() {
    let server = TestServer::start().await;
    let mut client = server.client().send_compressed(CompressionEncoding::Gzip);
    let pair = pki::self_signed(Key::P256, "gzip.example");
    client.upload_server_certificate(upload_of(&pair)).await.unwrap();
    // 2 MiB that compress to 2 KiB.
    let bomb = pb::UploadServerCertificateRequest {
        server_certificate: " ".repeat(2 * 1024 * 1024),
        ..upload_of(&pair)
    };
    let refused = client.upload_server_certificate(bomb).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (tonic::Code::ResourceExhausted, "MESSAGE_TOO_LARGE")
    );
    // As large as a request may be, decompressed.
    let large = pb::UploadServerCertificateRequest {
        server_certificate: " ".repeat(1000 * 1024),
        ..upload_of(&pair)
    };
    let refused = client.upload_server_certificate(large).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_answers_no_ping_is_disconnected() {
    let data_dir = DataDir::new();
    let settings = ["--keepalive-seconds", "1", "--metrics-listen", "127.0.0.1:0"];
    let server = Certkeep::start_with(data_dir.path(), &settings);
    let metrics = server
        .banner
        .lines()
        .find_map(|line| line.strip_prefix("metrics   http://")?.strip_suffix("/metrics"));
    let metrics: SocketAddr = metrics.unwrap().parse().unwrap();
    let connections = async || metric(&http(metrics, "/metrics").1, "certkeep_connections{listener=\"grpc\"}");

    let client = server.client(&data_dir);
    describe(client.clone()).await.unwrap();
    let mut silent = SilentCaller::connect(server.address);
    until(2.0, connections).await;
    until(1.0, connections).await;
    while silent.frame().is_some() {}
    describe(client.clone()).await.unwrap();
    assert_eq!(connections().await, 1.0, "the other connection is still open");
    server.terminate();
}
