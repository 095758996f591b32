//! Several hosts in the database URL.

use std::time::{Duration, Instant};

use tokio::net::TcpListener;

use crate::harness::{TestServer, database, upload_of};
use crate::operation::http;
use crate::pki::{self, Key};
use crate::proxy::{Proxy, Way};

/// The port of a host that accepts connections and sends nothing.
async fn silent_host() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            kept.push(stream);
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_first_host_delays_only_the_start() {
    for timeout in ["", " connect_timeout=6"] {
        let through = database()
            .await
            .replace("host='", "host='127.0.0.1,")
            .replace("port=5432", &format!("port={},5432", silent_host().await));
        let monitored = "127.0.0.1:0".parse().unwrap();
        let starting = TestServer::start_on(through + timeout, |config| config.metrics_listen = Some(monitored));
        let server = tokio::time::timeout(Duration::from_secs(60), starting).await;
        let server = server.expect("the second host must be asked");
        let request = upload_of(&pki::self_signed(Key::P256, "hosts.example"));
        let began = Instant::now();
        let uploads: Vec<_> = (0..8)
            .map(|_| {
                let (mut client, request) = (server.client(), request.clone());
                tokio::spawn(async move { client.upload_server_certificate(request).await })
            })
            .collect();
        for upload in uploads {
            upload.await.unwrap().unwrap();
        }
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        assert_eq!(http(server.metrics_address(), "/readyz").1, "serving\n");
        server.stop().await;
    }
}

/// A caller's deadline may be shorter than the time for a host.
#[tokio::test(flavor = "multi_thread")]
async fn callers_move_to_the_next_host_before_the_time_for_a_silent_host_is_over() {
    let database = database().await;
    let (proxy, through) = Proxy::before(&database);
    let socket_dir = |text: &str| text.split('\'').nth(1).unwrap().to_owned();
    let (proxied, direct) = (socket_dir(&through), socket_dir(&database));
    let both = database.replace(&direct, &format!("{proxied},{direct}")) + " connect_timeout=600";
    let server = TestServer::start_on(both, |_| {}).await;
    let upload = async |name: &str| {
        let mut request = tonic::Request::new(upload_of(&pki::self_signed(Key::P256, name)));
        request.set_timeout(Duration::from_secs(2));
        server.client().upload_server_certificate(request).await
    };
    upload("before.example").await.unwrap();
    proxy.set(Way::Swallows);
    let began = Instant::now();
    while let Err(refused) = upload("after.example").await {
        assert!(began.elapsed() < Duration::from_secs(60), "{refused}");
    }
    server.stop().await;
}
