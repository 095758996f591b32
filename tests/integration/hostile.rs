//! Callers that mean harm, over loopback: they do not read, send nothing, or come in great numbers. Others are served meanwhile.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use certkeep::config::TlsFiles;
use certkeep::grpc::pb;
use certkeep::grpc::pb::certificate_service_client::CertificateServiceClient;
use h2::SendStream;
use h2::client::{ResponseFuture, SendRequest};
use http::Request;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use prost::Message;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_types::StatusExt;

use crate::bad_input::reason;
use crate::harness::{Client, REGION, TestServer, bearer, temp_dir, until, upload_of, write_secret};
use crate::operation::{http, metric};
use crate::pki::{self, Key};
use crate::process::{Certkeep, DataDir};
use crate::proof::{figure, times};

const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
/// Long enough for a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// A caller whose HTTP/2 windows are 0: it takes no byte of any answer.
struct Deaf {
    calls: SendRequest<Bytes>,
    /// The calls stay open.
    open: Vec<(ResponseFuture, SendStream<Bytes>)>,
    connection: tokio::task::JoinHandle<Result<(), h2::Error>>,
}

impl Deaf {
    /// A connection from one of many addresses of this machine.
    async fn connect(address: SocketAddr, number: usize) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        let from = Ipv4Addr::new(127, 0, (number / 200) as u8 + 1, (number % 200) as u8 + 1);
        socket.bind((from, 0).into()).unwrap();
        let stream = socket.connect(address).await.unwrap();
        let (calls, connection) = h2::client::Builder::new()
            .initial_window_size(0)
            .handshake(stream)
            .await
            .unwrap();
        Self {
            calls,
            open: Vec::new(),
            connection: tokio::spawn(connection),
        }
    }

    /// Begins a call. Without a message, the server waits for it.
    async fn call(&mut self, path: &str, key: Option<&str>, message: Option<&[u8]>) -> Result<(), h2::Error> {
        let mut request = Request::post(format!("http://certkeep{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some(key) = key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let mut calls = self.calls.clone().ready().await?;
        let (answer, mut body) = calls.send_request(request.body(()).unwrap(), false)?;
        if let Some(message) = message {
            let mut framed = BytesMut::new();
            framed.put_u8(0);
            framed.put_u32(message.len() as u32);
            framed.put_slice(message);
            body.send_data(framed.freeze(), false)?;
        }
        self.open.push((answer, body));
        Ok(())
    }

    /// Asks for a file of the schema: 45 bytes for 78 KB.
    async fn ask_reflection(&mut self) -> Result<(), h2::Error> {
        let symbol = b"certkeep.v1.CertificateService";
        let message = [&[0x22, symbol.len() as u8], symbol.as_slice()].concat();
        self.call(REFLECTION, None, Some(&message)).await?;
        // Further answers wait behind the first.
        let framed = [&[0, 0, 0, 0, message.len() as u8], message.as_slice()].concat();
        let (_, body) = self.open.last_mut().unwrap();
        body.send_data([framed.as_slice(), &framed].concat().into(), false)
    }
}

/// Connections need files.
fn allow_many_files() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    )
    .unwrap();
}

fn metrics_address(server: &Certkeep) -> SocketAddr {
    let line = server
        .banner
        .lines()
        .find_map(|line| line.strip_prefix("metrics   http://")?.strip_suffix("/metrics"));
    line.unwrap().parse().unwrap()
}

async fn metrics(address: SocketAddr) -> String {
    tokio::task::spawn_blocking(move || http(address, "/metrics").1)
        .await
        .unwrap()
}

async fn call_memory(address: SocketAddr) -> f64 {
    metric(&metrics(address).await, "certkeep_call_memory_bytes")
}

async fn refused_for_memory(address: SocketAddr) -> f64 {
    let text = metrics(address).await;
    metric(&text, "certkeep_rate_limited_total{limit=\"call_memory\"}")
}

/// The largest resident memory that the process has had, in MiB.
fn peak_memory(server: &Certkeep) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// A caller with an access key, on a new connection, is served within this time.
async fn is_served(address: SocketAddr, key: &str) {
    let channel = Endpoint::from_shared(format!("http://{address}"))
        .unwrap()
        .connect_lazy();
    let mut client = CertificateServiceClient::with_interceptor(channel, bearer(key));
    let began = Instant::now();
    let request = pb::DescribeServerCertificatesRequest {
        page_size: 1,
        ..Default::default()
    };
    while let Err(refused) = client.describe_server_certificates(request.clone()).await {
        assert!(began.elapsed() < SOON, "{refused}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    figure("another caller was served after, ms", began.elapsed().as_millis());
}

async fn is_healthy(channel: Channel) {
    let mut health = HealthClient::new(channel);
    let began = Instant::now();
    while let Err(refused) = health.check(HealthCheckRequest::default()).await {
        assert!(began.elapsed() < SOON, "{refused}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn key_of(data_dir: &DataDir) -> String {
    let key = std::fs::read_to_string(data_dir.admin_key_file()).unwrap();
    key.trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_do_not_read_the_schema_hold_little_memory() {
    allow_many_files();
    let (data_dir, connections) = (DataDir::new(), times(100, 1000));
    let memory = times(8, 192);
    let args = [
        "--metrics-listen",
        "127.0.0.1:0",
        "--call-memory-mib",
        &memory.to_string(),
    ];
    let server = Certkeep::start_with(data_dir.path(), &args);
    let mut deaf = Vec::new();
    for number in 0..connections {
        deaf.push(Deaf::connect(server.address, number).await);
    }
    for deaf in &mut deaf {
        for _ in 0..10 {
            // A connection may be closed meanwhile.
            let _ = deaf.ask_reflection().await;
        }
    }
    let address = metrics_address(&server);
    let part = (memory / 4 * 1024 * 1024) as f64;
    // A debug build answers slowly, and each connection lives for 10 seconds.
    until(async || call_memory(address).await > 1024.0 * 1024.0).await;
    is_served(server.address, &key_of(&data_dir)).await;
    is_healthy(server.channel()).await;
    let held = call_memory(address).await;
    // With the answers that are being refused.
    assert!(held <= part + 512.0 * 1024.0, "{held}");
    if connections == 100 {
        until(async || refused_for_memory(address).await > 0.0).await;
    }
    figure("deaf connections", connections);
    figure("peak memory with reflection unread, MiB", peak_memory(&server));
    assert!(peak_memory(&server) < 512);
    // All connections end without a call that is authenticated, whatever their callers do.
    for deaf in deaf {
        let _ = tokio::time::timeout(2 * SOON, deaf.connection).await.unwrap();
    }
    until(async || call_memory(address).await == 0.0).await;
    server.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_whose_pages_are_not_read_holds_a_quarter_of_the_memory() {
    let (data_dir, connections) = (DataDir::new(), times(4, 1000));
    let memory = times(32, 192);
    let args = [
        "--metrics-listen",
        "127.0.0.1:0",
        "--call-memory-mib",
        &memory.to_string(),
    ];
    let server = Certkeep::start_with(data_dir.path(), &args);
    let (key, address) = (key_of(&data_dir), metrics_address(&server));
    let mut client = server.client(&data_dir);
    let pair = pki::issued(Key::P256, "page.example");
    for number in 0..times(50, 200) {
        let upload = pb::UploadServerCertificateRequest {
            server_certificate_name: format!("page-{number}"),
            ..upload_of(&pair)
        };
        client.upload_server_certificate(upload).await.unwrap();
    }
    let admin = pb::admin_service_client::AdminServiceClient::with_interceptor(server.channel(), bearer(&key));
    let request = pb::CreateAccessKeyRequest {
        role: pb::Role::Reader.into(),
        ..Default::default()
    };
    let created = admin.clone().create_access_key(request).await.unwrap().into_inner();
    let reader = format!("{}.{}", created.access_key.unwrap().access_key_id, created.secret);

    let page = pb::DescribeServerCertificatesRequest {
        page_size: 1000,
        ..Default::default()
    };
    let page = page.encode_to_vec();
    let mut deaf = Vec::new();
    for number in 0..connections {
        let mut caller = Deaf::connect(server.address, number).await;
        for _ in 0..times(100, 10) {
            let path = "/certkeep.v1.CertificateService/DescribeServerCertificates";
            let _ = caller.call(path, Some(&reader), Some(&page)).await;
            let (_, body) = caller.open.last_mut().unwrap();
            let _ = body.send_data(Bytes::new(), true);
        }
        deaf.push(caller);
    }
    let part = (memory / 4 * 1024 * 1024) as f64;
    until(async || call_memory(address).await > 1024.0 * 1024.0).await;
    is_served(server.address, &key).await;
    if connections == 4 {
        // A debug build answers slowly.
        until(async || refused_for_memory(address).await > 0.0).await;
    }
    assert!(call_memory(address).await <= part + 1024.0 * 1024.0);
    figure("peak memory with pages unread, MiB", peak_memory(&server));
    assert!(peak_memory(&server) < 512);
    if times(0, 1) == 1 {
        for deaf in deaf {
            let _ = tokio::time::timeout(2 * SOON, deaf.connection).await.unwrap();
        }
        assert!(call_memory(address).await < 1024.0 * 1024.0);
    }
    server.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_large_uploads_at_once_are_stored_or_refused_with_a_time_to_wait() {
    let (data_dir, uploads) = (DataDir::new(), times(100, 1000));
    let memory = times(32, 192).to_string();
    let args = ["--metrics-listen", "127.0.0.1:0", "--call-memory-mib", &memory];
    let server = Certkeep::start_with(data_dir.path(), &args);
    let pair = pki::issued(Key::P256, "large.example");
    let filler = format!("{}\n", "x".repeat(79)).repeat(228 * 1024 / 80);
    let clients: Vec<Client> = (0..10).map(|_| server.client(&data_dir)).collect();
    let mut calls = JoinSet::new();
    for number in 0..uploads {
        let mut client = clients[number % clients.len()].clone();
        let upload = pb::UploadServerCertificateRequest {
            server_certificate: format!("{filler}{}", pair.certificate),
            server_certificate_name: format!("large-{number}"),
            region_id: REGION.to_owned(),
            private_key: pair.key.clone(),
            ..Default::default()
        };
        calls.spawn(async move {
            let mut refusals = 0_u64;
            loop {
                let Err(refused) = client.upload_server_certificate(upload.clone()).await else {
                    return refusals;
                };
                let details = refused.get_error_details();
                let limit = details.error_info().and_then(|info| info.metadata.get("limit"));
                assert_eq!(limit.map(String::as_str), Some("call_memory"), "{refused}");
                let wait = details.retry_info().unwrap().retry_delay.unwrap();
                refusals += 1;
                assert!(refusals < 300);
                tokio::time::sleep(wait).await;
            }
        });
    }
    let refusals: u64 = calls.join_all().await.into_iter().sum();
    assert!(refusals > 0, "the load was no load");
    let stored = metric(&metrics(metrics_address(&server)).await, "certkeep_uploads_total");
    assert_eq!(stored, uploads as f64);
    figure("uploads of 228 KB at once, all stored", uploads);
    figure("refused meanwhile", refusals);
    figure("peak memory with large uploads, MiB", peak_memory(&server));
    assert!(peak_memory(&server) < 512);
    server.terminate();
}

/// Whether the server has closed the connection.
fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    loop {
        match stream.read(&mut [0; 1024]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_that_send_one_byte_keep_nobody_out() {
    allow_many_files();
    // With 10 places for callers without an access key.
    let server = TestServer::start_with(|config| config.max_connections = 40).await;
    let mut sockets: Vec<_> = (0..times(100, 1024))
        .map(|_| {
            let mut stream = TcpStream::connect(server.address()).unwrap();
            stream.write_all(b"P").unwrap();
            stream
        })
        .collect();
    is_served(server.address(), server.admin_key()).await;
    is_healthy(server.channel()).await;
    let open = |sockets: &mut Vec<TcpStream>| sockets.iter_mut().filter_map(|s| (!is_closed(s)).then_some(())).count();
    until(async || open(&mut sockets) <= 10).await;
    // Nor do they keep their own places.
    let began = Instant::now();
    while open(&mut sockets) > 0 {
        assert!(began.elapsed() < 2 * SOON);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_that_send_one_byte_after_the_tls_handshake_keep_nobody_out() {
    allow_many_files();
    let dir = temp_dir();
    let pair = pki::self_signed(Key::P256, "certkeep.example");
    write_secret(dir.path().join("tls-key.pem"), &pair.key);
    std::fs::write(dir.path().join("tls.pem"), &pair.certificate).unwrap();
    let tls = TlsFiles {
        certificate: dir.path().join("tls.pem"),
        private_key: dir.path().join("tls-key.pem"),
        client_ca: None,
    };
    let server = TestServer::start_with(|config| {
        config.tls = Some(tls);
        config.max_connections = 40;
    })
    .await;
    let address = server.address();
    let sockets = tokio::task::spawn_blocking(move || {
        let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
        builder.set_verify(SslVerifyMode::NONE);
        let connector = builder.build();
        let connect = |_| {
            let stream = TcpStream::connect(address).unwrap();
            let mut stream = connector.connect("certkeep.example", stream).unwrap();
            stream.write_all(b"P").unwrap();
            stream
        };
        (0..times(60, 1024)).map(connect).collect::<Vec<_>>()
    })
    .await
    .unwrap();
    let channel = Endpoint::from_shared(format!("https://{address}"))
        .unwrap()
        .tls_config(
            ClientTlsConfig::new()
                .ca_certificate(tonic::transport::Certificate::from_pem(&pair.certificate))
                .domain_name("certkeep.example"),
        )
        .unwrap()
        .connect_lazy();
    is_healthy(channel.clone()).await;
    let mut client = CertificateServiceClient::with_interceptor(channel, bearer(server.admin_key()));
    let described = client.describe_server_certificates(pb::DescribeServerCertificatesRequest::default());
    described.await.unwrap();
    drop(sockets);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_without_an_access_key_do_not_hold_up_a_stop() {
    let data_dir = DataDir::new();
    let server = Certkeep::start_with(data_dir.path(), &["--drain-seconds", "120"]);
    let mut deaf = Deaf::connect(server.address, 0).await;
    deaf.ask_reflection().await.unwrap();
    // A check whose message never comes.
    let check = "/grpc.health.v1.Health/Check";
    deaf.call(check, None, None).await.unwrap();
    let mut health = HealthClient::new(server.channel());
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    watch.message().await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let began = Instant::now();
    tokio::task::spawn_blocking(|| server.terminate()).await.unwrap();
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_for_metrics_harm_neither_calls_nor_metrics() {
    allow_many_files();
    let data_dir = DataDir::new();
    let server = Certkeep::start_with(data_dir.path(), &["--metrics-listen", "127.0.0.1:0"]);
    let address = metrics_address(&server);
    let mut silent: Vec<_> = (0..times(200, 1100))
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    is_served(server.address, &key_of(&data_dir)).await;
    let text = metrics(address).await;
    let evicted = metric(
        &text,
        "certkeep_connections_refused_total{listener=\"metrics\",reason=\"crowded\"}",
    );
    assert!(evicted > 50.0, "{evicted}");
    until(async || silent.iter_mut().filter_map(|s| (!is_closed(s)).then_some(())).count() <= 64).await;
    server.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_no_more_connections_than_the_setting_says() {
    let server = TestServer::start_with(|config| config.max_connections_per_address = Some(2)).await;
    let mut sockets: Vec<_> = (0..3).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
    until(async || is_closed(&mut sockets[2])).await;
    assert!(!is_closed(&mut sockets[0]) && !is_closed(&mut sockets[1]));
    let elsewhere = Endpoint::from_shared(server.endpoint())
        .unwrap()
        .local_address(Some(IpAddr::from(Ipv4Addr::new(127, 0, 0, 9))))
        .connect_lazy();
    is_healthy(elsewhere).await;
    // A place that is left can be taken.
    drop(sockets);
    is_served(server.address(), server.admin_key()).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_has_few_calls_of_health_at_once() {
    let server = TestServer::start().await;
    let health = HealthClient::new(server.channel());
    let mut watches = Vec::new();
    let refused = loop {
        match health.clone().watch(HealthCheckRequest::default()).await {
            Ok(watch) => watches.push(watch),
            Err(refused) => break refused,
        }
        assert!(watches.len() < 100);
    };
    assert_eq!(watches.len(), 8);
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::ResourceExhausted, "RATE_LIMITED")
    );
    watches.clear();
    is_healthy(server.channel()).await;
    server.stop().await;
}

async fn asks_reflection(channel: Channel) -> Result<(), Status> {
    let request = tonic_reflection::pb::v1::ServerReflectionRequest {
        message_request: Some(
            tonic_reflection::pb::v1::server_reflection_request::MessageRequest::ListServices(String::new()),
        ),
        ..Default::default()
    };
    let mut client = ServerReflectionClient::new(channel);
    let answers = client.server_reflection_info(tokio_stream::once(request)).await?;
    answers.into_inner().message().await.map(|_| ())
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_can_be_switched_off() {
    let server = TestServer::start().await;
    asks_reflection(server.channel()).await.unwrap();
    server.stop().await;
    let server = TestServer::start_with(|config| config.reflection = false).await;
    let refused = asks_reflection(server.channel()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    is_healthy(server.channel()).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_without_an_access_key_write_few_lines_to_the_log() {
    let data_dir = DataDir::new();
    let log = data_dir.path().join("log");
    let file = std::fs::File::create(&log).unwrap();
    let server = Certkeep::start_as(data_dir.path(), &[], |command| {
        command.stderr(file);
    });
    for _ in 0..10 {
        let client = CertificateServiceClient::new(server.channel());
        let mut calls = JoinSet::new();
        for _ in 0..50 {
            let mut client = client.clone();
            calls.spawn(async move {
                let request = pb::DescribeServerCertificatesRequest::default();
                client.describe_server_certificates(request).await.unwrap_err()
            });
        }
        calls.join_all().await;
    }
    // Calls that are given up at once.
    let mut deaf = Deaf::connect(server.address, 0).await;
    let path = "/certkeep.v1.CertificateService/DescribeServerCertificates";
    for _ in 0..200 {
        if deaf.call(path, None, None).await.is_err() {
            break;
        }
        deaf.open.clear();
    }
    is_served(server.address, &key_of(&data_dir)).await;
    server.terminate();
    let log = std::fs::read_to_string(log).unwrap();
    let lines = log.lines().filter(|line| line.contains("\"answered\"")).count();
    // Ten of each address and code, the 100th, and the call of the caller with the key.
    assert!((11..=60).contains(&lines), "{lines}\n{log}");
    assert!(log.contains("\"repeated\":100"), "{log}");
}
