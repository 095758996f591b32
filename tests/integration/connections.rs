//! What a caller's connection may do: how many calls at once, for how long, and how silently.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use certkeep::grpc::pb;

use crate::harness::{Client, TestServer};
use crate::operation::{http, metric};
use crate::process::{Certkeep, DataDir};

// RFC 9113, 6 and 6.5.2.
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const MAX_CONCURRENT_STREAMS: u16 = 3;

/// A caller that connects as HTTP/2 asks for and then says no more: no call, no answer to a ping.
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

/// Waits until the question is answered so.
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
async fn calls_beyond_those_that_a_connection_carries_wait_and_are_answered() {
    let server = TestServer::start_with(|config| config.max_streams = 2).await;
    let settings = SilentCaller::connect(server.address()).frame_of(SETTINGS);
    let setting = settings
        .chunks(6)
        .find(|setting| setting[..2] == MAX_CONCURRENT_STREAMS.to_be_bytes());
    assert_eq!(setting.unwrap()[2..], 2_u32.to_be_bytes());

    let client = server.client();
    // One first: its connection has learnt the limit afterwards.
    describe(client.clone()).await.unwrap();
    let (sql, watcher) = (server.sql().await, server.sql().await);
    let at_work = async || -> i64 {
        let count = "select count(*) from pg_stat_activity
                     where datname = current_database() and wait_event_type = 'Lock' and query like '-- store::page%'";
        watcher.query_one(count, &[]).await.unwrap().get(0)
    };
    sql.batch_execute("begin; lock table server_certificate in access exclusive mode")
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
async fn a_connection_that_has_reached_its_age_is_told_to_go_and_no_call_notices() {
    let server = TestServer::start_with(|config| config.max_connection_age = Duration::from_secs(1)).await;
    let address = server.address();
    let told = tokio::task::spawn_blocking(move || SilentCaller::connect(address).frame_of(GOAWAY));

    let client = server.client();
    describe(client.clone()).await.unwrap();
    let sql = server.sql().await;
    sql.batch_execute("begin; lock table server_certificate in access exclusive mode")
        .await
        .unwrap();
    let under_way = tokio::spawn(describe(client.clone()));
    tokio::time::sleep(Duration::from_millis(1500)).await;
    sql.batch_execute("rollback").await.unwrap();
    under_way.await.unwrap().expect("what is under way is finished");
    // Not at the very moment: tonic's client, unlike others, does not repeat a call that a closing connection never took.
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        describe(client.clone())
            .await
            .expect("calls go on over a new connection");
    }
    // Its error code, after the last stream: NO_ERROR.
    assert_eq!(told.await.unwrap()[4..8], [0; 4]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_answers_no_ping_is_dropped_and_one_that_does_is_not() {
    let data_dir = DataDir::new();
    let settings = ["--keepalive-seconds", "1", "--metrics-listen", "127.0.0.1:0"];
    let server = Certkeep::start_with(data_dir.path(), &settings);
    let metrics = server
        .banner
        .lines()
        .find_map(|line| line.strip_prefix("metrics   http://")?.strip_suffix("/metrics"));
    let metrics: SocketAddr = metrics.unwrap().parse().unwrap();
    let connections = async || metric(&http(metrics, "/metrics").1, "certkeep_connections");

    let client = server.client(&data_dir);
    describe(client.clone()).await.unwrap();
    let mut silent = SilentCaller::connect(server.address);
    until(2.0, connections).await;
    until(1.0, connections).await;
    while silent.frame().is_some() {}
    describe(client.clone()).await.unwrap();
    assert_eq!(connections().await, 1.0, "it is the connection that stood");
    server.terminate();
}
