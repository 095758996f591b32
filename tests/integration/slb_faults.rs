//! The door for clients of Alibaba Cloud's SLB API while something fails.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use certkeep::grpc::pb;

use crate::harness::TestServer;
use crate::proof::times;
use crate::proxy::{Moment, Proxy, Way};
use crate::slb::{SlbCaller, start};

/// A replica whose database is behind a proxy, and a caller of it.
async fn behind_proxy(server: &TestServer) -> (Proxy, TestServer, SlbCaller) {
    let (proxy, through) = Proxy::before(server.database());
    let listen = "127.0.0.1:0".parse().unwrap();
    let replica = server
        .replica_on(through, "", |config| config.slb_listen = Some(listen))
        .await;
    let caller = SlbCaller::new(server, pb::Role::Reader).await;
    let caller = SlbCaller {
        address: replica.slb_address(),
        ..caller
    };
    (proxy, replica, caller)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_nonce_was_recorded_with_a_lost_answer_is_no_replay() {
    let server = start().await;
    let (proxy, replica, caller) = behind_proxy(&server).await;
    // Now only the statement about the nonce names the access key.
    assert_eq!(caller.call("DescribeRegions", &[]).status, 200);
    proxy.cut_at(caller.id.clone().leak(), Moment::BeforeAnswer, Way::Open);
    let answer = caller.call("DescribeRegions", &[]);
    assert_eq!((answer.status, answer.code().as_str()), (503, "ServiceUnavailable"));
    assert!(proxy.has_cut());
    assert_eq!(caller.call("DescribeRegions", &[]).status, 200);
    replica.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_is_not_blamed_for_a_database_that_is_away() {
    let server = start().await;
    let (proxy, replica, caller) = behind_proxy(&server).await;
    proxy.set(Way::Cut);
    for _ in 0..300 {
        let answer = caller.call("DescribeRegions", &[]);
        assert_eq!((answer.status, answer.code().as_str()), (503, "ServiceUnavailable"));
    }
    proxy.set(Way::Open);
    replica.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_heads_of_unknown_callers_take_a_quarter_of_the_memory_and_lock_nobody_out() {
    const MIB: usize = 1024 * 1024;
    let server = TestServer::start_with(|config| {
        config.slb_listen = Some("127.0.0.1:0".parse().unwrap());
        config.call_memory = 8 * MIB;
    })
    .await;
    let caller = SlbCaller::new(&server, pb::Role::Reader).await;
    // Each waits for a form, and takes 3 times 56,000 octets of 2 MiB.
    let head = format!(
        "POST /?Action={} HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n",
        "a".repeat(60_000)
    );
    let connections = (0..20).map(|_| {
        let mut stream = TcpStream::connect(caller.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream
    });
    let mut connections: Vec<_> = connections.collect();
    let answered = connections.iter_mut().filter_map(|stream| {
        let mut octets = [0; 4096];
        match stream.read(&mut octets) {
            Ok(len) => Some(String::from_utf8_lossy(&octets[..len]).into_owned()),
            Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => None,
            Err(error) => panic!("{error}"),
        }
    });
    let answered: Vec<_> = answered.collect();
    assert!((6..=12).contains(&answered.len()), "{}", answered.len());
    assert!(
        answered.iter().all(|answer| answer.contains("Throttling")),
        "{answered:?}"
    );
    assert_eq!(caller.call("DescribeRegions", &[]).status, 200);
    server.stop().await;
}

/// The time is too long for `make test`, which sends the form at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_does_not_arrive_in_time_is_refused_by_its_own_error() {
    let server = start().await;
    let caller = SlbCaller::new(&server, pb::Role::Reader).await;
    let mut stream = TcpStream::connect(caller.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut octets = [0; 4096];
    let mut answer = |stream: &mut TcpStream| {
        let len = stream.read(&mut octets).unwrap();
        String::from_utf8_lossy(&octets[..len]).into_owned()
    };
    // The connection has an authenticated call, and may wait longer than others.
    let (target, headers, _) = caller.request("DescribeRegions", &[]).signed();
    let headers: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    stream
        .write_all(format!("GET {target} HTTP/1.1\r\n{headers}\r\n").as_bytes())
        .unwrap();
    assert!(answer(&mut stream).starts_with("HTTP/1.1 200 "));
    let form = "a=b".repeat(times(3, 2));
    let head = format!("POST /?Format=XML HTTP/1.1\r\n{headers}Content-Length: 9\r\n\r\n");
    stream.write_all(format!("{head}{form}").as_bytes()).unwrap();
    let refused = answer(&mut stream);
    let expected = match times(0, 1) {
        0 => ("400 ", "MissingAction"),
        _ => ("408 ", "<Code>RequestTimeout</Code>"),
    };
    assert!(
        refused.contains(expected.0) && refused.contains(expected.1),
        "{refused}"
    );
    server.stop().await;
}
