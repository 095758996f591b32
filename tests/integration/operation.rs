//! The operator's view: metrics, health, settings, traces, logs.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use certkeep::grpc::pb::admin_service_client::AdminServiceClient;
use certkeep::grpc::pb::delivery_service_client::DeliveryServiceClient;
use certkeep::grpc::pb::{self, KeyPairFormat};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::{REGION, TestServer, bearer, temp_dir, upload_of};
use crate::pki::{self, Key};
use crate::process::{CERTKEEP, Certkeep, DataDir, certkeep, stderr, stdout};
use crate::slb::SlbCaller;

/// Status line and body of a response over HTTP.
pub fn http(address: SocketAddr, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

async fn start() -> TestServer {
    TestServer::start_with(|config| config.metrics_listen = Some("127.0.0.1:0".parse().unwrap())).await
}

/// The value of this metric.
pub fn metric(text: &str, line: &str) -> f64 {
    let found = text
        .lines()
        .find_map(|found| found.strip_prefix(line)?.trim().parse().ok());
    found.unwrap_or_else(|| panic!("{line} in\n{text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_calls_refusals_and_uploads_and_show_nothing_of_them() {
    let server = start().await;
    let pair = pki::self_signed(Key::P256, "metrics.example");
    // This client stays connected.
    let mut client = server.client();
    let uploaded = client
        .upload_server_certificate(upload_of(&pair))
        .await
        .unwrap()
        .into_inner();
    client
        .upload_server_certificate(pb::UploadServerCertificateRequest::default())
        .await
        .unwrap_err();
    server
        .client_with(None)
        .describe_regions(pb::DescribeRegionsRequest::default())
        .await
        .unwrap_err();
    let (status, text) = http(server.metrics_address(), "/metrics");
    assert_eq!(status, "HTTP/1.1 200 OK");
    // Other tests count in the same process.
    for line in [
        "certkeep_calls_total{method=\"UploadServerCertificate\",code=\"OK\"}",
        "certkeep_calls_total{method=\"UploadServerCertificate\",code=\"INVALID_ARGUMENT\"}",
        "certkeep_calls_total{method=\"DescribeRegions\",code=\"UNAUTHENTICATED\"}",
        "certkeep_call_duration_seconds_count{method=\"UploadServerCertificate\"}",
        "certkeep_refusals_total{reason=\"REGION_MISSING\"}",
        "certkeep_uploads_total",
        "certkeep_connections{listener=\"grpc\"}",
        "certkeep_database_up",
        "certkeep_database_connections_max",
    ] {
        assert!(metric(&text, line) >= 1.0, "{line}");
    }
    for expires_in in ["expired", "7d", "30d", "90d", "later"] {
        for kind in ["server", "ca"] {
            metric(
                &text,
                &format!("certkeep_certificates{{kind=\"{kind}\",expires_in=\"{expires_in}\"}}"),
            );
        }
    }
    for secret in [
        server.admin_key(),
        &uploaded.server_certificate_id,
        &uploaded.common_name,
        &uploaded.fingerprint,
    ] {
        assert!(!text.contains(secret));
    }
    server.stop().await;
}

/// The lists are the process's, so a process of its own shows them.
#[tokio::test(flavor = "multi_thread")]
async fn metrics_name_what_expires_next_and_nearly_full_quotas_and_describe_the_process() {
    let server = TestServer::start().await;
    let client = server.client();
    let mut ids = Vec::new();
    for (name, pair) in [
        ("in-10-days", pki::expiring("a.example", 10)),
        ("in-20-days", pki::expiring("b.example", 20)),
        ("issuer-in-5-days", pki::issued_until("c.example", 90, 5)),
        ("expired", pki::expiring("d.example", 3)),
    ] {
        let request = pb::UploadServerCertificateRequest {
            server_certificate_name: name.to_owned(),
            ..upload_of(&pair)
        };
        ids.push(crate::calls::stored(&client, &request).await);
    }
    let ca = pb::UploadCaCertificateRequest {
        region_id: REGION.to_owned(),
        ca_certificate: pki::root_expiring("Test Root", 4),
        ca_certificate_name: "ca-in-4-days".to_owned(),
        ..Default::default()
    };
    client.clone().upload_ca_certificate(ca).await.unwrap();
    let sql = server.sql().await;
    let past = "update certificate set chain_not_after_ms = 1000, not_after_ms = 1000 where name = 'expired'";
    assert_eq!(sql.execute(past, &[]).await.unwrap(), 1);

    let args = [
        ["--database-url", server.database()],
        ["--metrics-listen", "127.0.0.1:0"],
        ["--metrics-certificates", "3"],
        ["--server-certificate-quota", "5"],
    ];
    let process = Certkeep::start_with(server.data_dir(), &args.concat());
    let address = process
        .banner
        .lines()
        .find_map(|line| line.strip_prefix("metrics   http://")?.strip_suffix("/metrics"));
    let address = address.unwrap().parse().unwrap();
    let text = async || {
        tokio::task::spawn_blocking(move || http(address, "/metrics").1)
            .await
            .unwrap()
    };
    crate::harness::until(async || text().await.contains("certkeep_quota_used_ratio{")).await;
    let text = text().await;
    let listed: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("certkeep_expires_next_timestamp_seconds{"))
        .collect();
    let labels = |line: &str| -> Vec<String> { line.split('"').skip(1).step_by(2).map(str::to_owned).collect() };
    let shown: Vec<_> = listed.iter().map(|line| labels(line)).collect();
    let names: Vec<_> = shown.iter().map(|labels| labels[4].as_str()).collect();
    assert_eq!(names, ["ca-in-4-days", "issuer-in-5-days", "in-10-days"]);
    let account = shown[0][1].clone();
    let of_the_issuer = ["server", &account, REGION, &ids[2], "issuer-in-5-days", "issuer"];
    assert_eq!(shown[1], of_the_issuer);
    assert_eq!((shown[0][0].as_str(), shown[2][5].as_str()), ("ca", "leaf"));
    let days = [4.0, 5.0, 10.0];
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    for (line, days) in listed.iter().zip(days) {
        let end: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
        assert!((end - now - days * 86_400.0).abs() < 600.0, "{line}");
    }
    let quotas: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("certkeep_quota_used_ratio{"))
        .collect();
    let full = format!("certkeep_quota_used_ratio{{kind=\"server\",account=\"{account}\",region=\"{REGION}\"}} 0.8");
    assert_eq!(quotas, [full]);

    for task in ["count", "purge", "seal", "replica"] {
        let line = format!("certkeep_job_last_success_timestamp_seconds{{task=\"{task}\"}}");
        assert!((metric(&text, &line) - now).abs() < 60.0, "{line}");
    }
    assert!((metric(&text, "process_start_time_seconds ") - now).abs() < 60.0);
    assert!(metric(&text, "process_cpu_seconds_total ") > 0.0);
    assert!(metric(&text, "process_resident_memory_bytes ") > 1e6);
    let (open, max) = (metric(&text, "process_open_fds "), metric(&text, "process_max_fds "));
    assert!(open > 5.0 && open < max, "{open} of {max}");
    process.terminate();
    server.stop().await;
}

pub const SERVING: i32 = 1;
pub const NOT_SERVING: i32 = 2;

async fn health(server: &TestServer) -> i32 {
    health_of(server.channel(), "certkeep.v1.CertificateService").await
}

/// What gRPC's health service says of the service with this name.
pub async fn health_of(channel: tonic::transport::Channel, service: &str) -> i32 {
    let request = HealthCheckRequest {
        service: service.into(),
    };
    HealthClient::new(channel)
        .check(request)
        .await
        .unwrap()
        .into_inner()
        .status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_down_makes_the_replica_unready_until_it_is_back() {
    let server = start().await;
    assert_eq!(
        http(server.metrics_address(), "/readyz"),
        ("HTTP/1.1 200 OK".into(), "serving\n".into())
    );
    assert_eq!(health(&server).await, SERVING);

    let sql = server.sql().await;
    let name: String = sql
        .query_one("select current_database()::text", &[])
        .await
        .unwrap()
        .get(0);
    let read_only = |on: bool| format!("alter database {name} set default_transaction_read_only = {on}");
    let end = "select pg_terminate_backend(pid) from pg_stat_activity
               where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'";
    sql.batch_execute(&read_only(true)).await.unwrap();
    sql.query(end, &[]).await.unwrap();
    until(|| http(server.metrics_address(), "/readyz").0 == "HTTP/1.1 503 Service Unavailable").await;
    assert_eq!(health(&server).await, NOT_SERVING);
    assert_eq!(http(server.metrics_address(), "/healthz").1, "alive\n");
    // Reads go on.
    assert_eq!(
        http(server.metrics_address(), "/readyz/read"),
        ("HTTP/1.1 200 OK".into(), "the database accepts reads only\n".into())
    );
    for (service, status) in [
        ("", NOT_SERVING),
        ("certkeep.write", NOT_SERVING),
        ("certkeep.read", SERVING),
    ] {
        assert_eq!(health_of(server.channel(), service).await, status, "{service}");
    }
    let describe = certkeep::grpc::pb::DescribeServerCertificatesRequest::default();
    server.client().describe_server_certificates(describe).await.unwrap();

    sql.batch_execute(&read_only(false)).await.unwrap();
    sql.query(end, &[]).await.unwrap();
    until(|| http(server.metrics_address(), "/readyz").0 == "HTTP/1.1 200 OK").await;
    assert_eq!(health(&server).await, SERVING);
    server.stop().await;
}

/// While a migration waits for its lock, health says NOT_SERVING and calls are unavailable.
#[tokio::test(flavor = "multi_thread")]
async fn while_the_schema_is_migrated_health_is_not_serving() {
    let database = crate::harness::database().await;
    let sql = crate::harness::connect_to(&database).await;
    // "certkeep" in ASCII.
    sql.query("select pg_advisory_lock(7162256626746221936)", &[])
        .await
        .unwrap();
    let dir = temp_dir();
    let address = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut config = crate::harness::config(&dir, &database);
    config.listen = address;
    certkeep::seal::KeyRing::create(&config.database.key_ring).unwrap();
    let starting = tokio::spawn(async move {
        certkeep::server::Server::start(&config, certkeep::app::Policy::default(), None, &Default::default())
            .await
            .map_err(|error| error.to_string())
    });

    let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
    let started = Instant::now();
    let channel = loop {
        match channel.connect().await {
            Ok(channel) => break channel,
            Err(error) => assert!(started.elapsed() < Duration::from_secs(5), "{error}"),
        }
    };
    let request = || HealthCheckRequest {
        service: "certkeep.v1.CertificateService".into(),
    };
    let mut health = HealthClient::new(channel.clone());
    assert_eq!(health.check(request()).await.unwrap().into_inner().status, NOT_SERVING);
    let mut client = pb::certificate_service_client::CertificateServiceClient::new(channel);
    let refused = client
        .describe_regions(pb::DescribeRegionsRequest::default())
        .await
        .unwrap_err();
    assert_eq!(
        (refused.code(), crate::bad_input::reason(&refused)),
        (tonic::Code::Unavailable, "DATABASE_UNAVAILABLE".into())
    );

    sql.query("select pg_advisory_unlock_all()", &[]).await.unwrap();
    let server = starting.await.unwrap().unwrap_or_else(|error| panic!("{error}"));
    // The same channel is served now.
    let deadline = Instant::now() + Duration::from_secs(5);
    while health
        .check(request())
        .await
        .map_or(0, |answer| answer.into_inner().status)
        != 1
    {
        assert!(Instant::now() < deadline, "it is not served");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    server.stop().await;
}

async fn until(is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(5), "not within 5 s");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[test]
fn the_settings_in_force_are_shown_with_their_sources_and_no_secret() {
    let dir = temp_dir();
    let file = dir.path().join("certkeep.toml");
    std::fs::write(
        &file,
        "drain_seconds = 3\ndatabase_url = \"postgres://u:hunter2@localhost/db\"\n",
    )
    .unwrap();
    let args = [
        "serve",
        "--print-config",
        "--listen",
        "127.0.0.1:1",
        "--config",
        file.to_str().unwrap(),
    ];
    let shown = stdout(&certkeep(&args));
    for line in [
        "listen = \"127.0.0.1:1\"  # flag",
        "drain_seconds = 3  # file",
        "max_connections = 16384  # default",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line} in\n{shown}");
    }
    assert!(
        shown.contains("database_url = \"<redacted>\"  # file") && !shown.contains("hunter2"),
        "{shown}"
    );
}

#[test]
fn all_wrong_settings_are_reported_at_once_with_their_sources() {
    let dir = temp_dir();
    let file = dir.path().join("certkeep.toml");
    std::fs::write(&file, "lisen = 1\ndrain_seconds = 0\nlog = \"certkeep=loud\"\n").unwrap();
    let settings = [
        "--config",
        file.to_str().unwrap(),
        "--listen",
        "0.0.0.0:0",
        "--data-dir",
        dir.path().to_str().unwrap(),
    ];
    for command in [["serve"].as_slice(), &["serve", "--print-config"]] {
        let mut refused = Command::new(CERTKEEP);
        refused.args(command).args(settings);
        let refused = refused
            .env("CERTKEEP_OTLP_ENDPOINT", "localhost:4317")
            .output()
            .unwrap();
        assert_eq!(refused.status.code(), Some(2));
        assert_eq!(stdout(&refused), "");
        let told = stderr(&refused);
        for fault in [
            "file: unknown setting lisen; did you mean listen?",
            "file: drain_seconds is not between 1 and 1000000",
            "file: log is not a level or tracing directives, for example certkeep=debug",
            "environment: otlp_endpoint is not an http or https URL with a host",
            "flag: listen is not a loopback address",
        ] {
            assert_eq!(told.matches(fault).count(), 1, "{fault} in {told}");
        }
    }
}

/// A collector.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Received>>);

#[derive(Default)]
struct Received {
    spans: Vec<Span>,
    resources: Vec<Resource>,
    /// The values of the header `x-tenant`, without repetitions.
    tenants: Vec<String>,
}

fn attribute(span: &Span, key: &str) -> Option<Value> {
    let found = span.attributes.iter().find(|attribute| attribute.key == key)?;
    found.value.clone()?.value
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let mut received = self.0.lock().unwrap();
        if let Some(tenant) = request.metadata().get("x-tenant") {
            received.tenants.push(tenant.to_str().unwrap().to_owned());
            received.tenants.dedup();
        }
        for resource in request.into_inner().resource_spans {
            received.resources.extend(resource.resource);
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            received.spans.extend(spans);
        }
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Starts it, in plain text or over TLS with this pair, and returns its endpoint.
    async fn serve(&self, tls: Option<&pki::Pair>) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut server = tonic::transport::Server::builder();
        if let Some(pair) = tls {
            let identity = tonic::transport::Identity::from_pem(&pair.certificate, &pair.key);
            let tls = tonic::transport::ServerTlsConfig::new().identity(identity);
            server = server.tls_config(tls).unwrap();
        }
        let service = TraceServiceServer::new(self.clone());
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        tokio::spawn(server.add_service(service).serve_with_incoming(incoming));
        let scheme = if tls.is_some() { "https" } else { "http" };
        format!("{scheme}://localhost:{port}")
    }

    /// The spans of calls.
    fn calls(&self) -> Vec<Span> {
        let received = self.0.lock().unwrap();
        let calls = received.spans.iter().filter(|span| span.kind() == SpanKind::Server);
        calls.cloned().collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_a_span_with_opentelemetrys_attributes_and_without_secrets() {
    let collector = Collector::default();
    let endpoint = collector.serve(None).await;
    let data_dir = DataDir::new();
    let args = ["--otlp-endpoint", &endpoint, "--otlp-headers", "x-tenant=a%20b"];
    let server = Certkeep::start_as(data_dir.path(), &args, |command| {
        command.env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test");
    });
    let pair = pki::self_signed(Key::P256, "traced.example");
    server
        .client(&data_dir)
        .upload_server_certificate(upload_of(&pair))
        .await
        .unwrap();
    // The last spans are sent at the end.
    server.terminate();

    let received = collector.0.lock().unwrap();
    assert_eq!(received.tenants, ["a b"]);
    let resource = format!("{:?}", received.resources);
    for part in ["service.name", "certkeep", "deployment.environment.name", "test"] {
        assert!(resource.contains(part), "{part} in {resource}");
    }
    let spans = &received.spans;
    let roots: Vec<_> = spans.iter().filter(|span| span.parent_span_id.is_empty()).collect();
    let [call] = roots.as_slice() else {
        panic!("one call, {} spans: {spans:?}", spans.len())
    };
    assert_eq!(call.name, "certkeep.v1.CertificateService/UploadServerCertificate");
    assert_eq!(call.kind(), SpanKind::Server);
    for (key, value) in [
        ("rpc.system", "grpc"),
        ("rpc.service", "certkeep.v1.CertificateService"),
        ("rpc.method", "UploadServerCertificate"),
        ("client.address", "127.0.0.1"),
        ("code", "OK"),
    ] {
        assert_eq!(attribute(call, key), Some(Value::StringValue(value.into())), "{key}");
    }
    assert_eq!(attribute(call, "rpc.grpc.status_code"), Some(Value::IntValue(0)));
    for key in ["account", "access_key_id", "request_id"] {
        assert!(attribute(call, key).is_some(), "{key}");
    }
    assert!(call.end_time_unix_nano > call.start_time_unix_nano);
    for step in ["check", "seal", "store::upload"] {
        assert!(
            spans
                .iter()
                .any(|span| span.name == step && span.parent_span_id == call.span_id),
            "{step} is a step of the call: {spans:?}"
        );
    }
    let shown = format!("{spans:?}");
    let key = std::fs::read_to_string(data_dir.admin_key_file()).unwrap();
    let (_, secret) = key.trim().split_once('.').unwrap();
    for secret in [
        secret,
        pair.key.lines().nth(1).unwrap(),
        pair.certificate.lines().nth(1).unwrap(),
    ] {
        assert!(!shown.contains(secret));
    }
}

/// W3C Trace Context, over TLS.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_belongs_to_the_trace_that_its_caller_names() {
    let (data_dir, dir) = (DataDir::new(), temp_dir());
    let pair = pki::self_signed(Key::P256, "localhost");
    let roots = dir.path().join("roots.pem");
    std::fs::write(&roots, &pair.certificate).unwrap();
    let collector = Collector::default();
    let endpoint = collector.serve(Some(&pair)).await;
    let server = Certkeep::start_as(data_dir.path(), &["--otlp-endpoint", &endpoint], |command| {
        command.env("SSL_CERT_FILE", &roots);
    });
    let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let good = format!("00-{trace}-{parent}-01");
    let mut client = server.client(&data_dir);
    for (given, is_sampled) in [
        ([good.as_str()].as_slice(), true),
        (&[&format!("00-{trace}-{parent}-00")], false),
        (&[], true),
        (&[&format!("00-{trace}-0000000000000000-01")], true),
        (&[&format!("00-{}-{parent}-01", trace.to_uppercase())], true),
        (&["nonsense"], true),
        (&[&good, &good], true),
    ] {
        let before = collector.calls().len();
        let mut request = tonic::Request::new(pb::DescribeRegionsRequest::default());
        for value in given {
            request.metadata_mut().append("traceparent", value.parse().unwrap());
        }
        client.describe_regions(request).await.unwrap();
        if !is_sampled {
            continue;
        }
        let deadline = Instant::now() + Duration::from_secs(30);
        while collector.calls().len() == before {
            assert!(Instant::now() < deadline, "there is no span for {given:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let call = collector.calls().pop().unwrap();
        let is_child = hex::encode(&call.trace_id) == trace && hex::encode(&call.parent_span_id) == parent;
        let is_root = hex::encode(&call.trace_id) != trace && call.parent_span_id.is_empty();
        let is_right = if given == [good.as_str()] { is_child } else { is_root };
        assert!(is_right, "{given:?} {call:?}");
    }
    server.terminate();
    assert_eq!(collector.calls().len(), 6, "a trace that is not sampled has no span");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_callers_trace_the_sample_ratio_decides() {
    let data_dir = DataDir::new();
    let collector = Collector::default();
    let endpoint = collector.serve(None).await;
    let args = ["--otlp-endpoint", &endpoint, "--trace-sample-ratio", "0"];
    let server = Certkeep::start_with(data_dir.path(), &args);
    let mut client = server.client(&data_dir);
    client
        .describe_regions(pb::DescribeRegionsRequest::default())
        .await
        .unwrap();
    let mut request = tonic::Request::new(pb::DescribeRegionsRequest::default());
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    request.metadata_mut().insert("traceparent", parent.parse().unwrap());
    client.describe_regions(request).await.unwrap();
    server.terminate();
    let calls = collector.calls();
    assert_eq!(calls.len(), 1, "{calls:?}");
    assert_eq!(hex::encode(&calls[0].parent_span_id), "00f067aa0ba902b7");
}

/// The purge fails because a table is missing.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fails_is_counted() {
    let database = crate::harness::database().await;
    let sql = crate::harness::connect_to(&database).await;
    sql.batch_execute("alter table client_token rename to client_token_away")
        .await
        .unwrap();
    let server = TestServer::start_on(database, |config| {
        config.metrics_listen = Some("127.0.0.1:0".parse().unwrap());
    })
    .await;
    let line = "certkeep_job_failures_total{task=\"purge\"}";
    until(|| metric(&http(server.metrics_address(), "/metrics").1, line) >= 1.0).await;
    server.stop().await;
}

/// Starts a server with its log in this file and these environment variables.
fn start_logging(data_dir: &DataDir, log: &Path, args: &[&str], variables: &[(&str, &str)]) -> Certkeep {
    Certkeep::start_as(data_dir.path(), args, |command| {
        command
            .stderr(std::fs::File::create(log).unwrap())
            .envs(variables.iter().copied());
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_has_a_line_for_each_call_and_no_secret_with_any_filter() {
    let (data_dir, dir) = (DataDir::new(), temp_dir());
    let log = dir.path().join("log");
    let server = start_logging(&data_dir, &log, &["--log", "trace"], &[]);
    let pair = pki::self_signed(Key::P256, "logged.example");
    let mut client = server.client(&data_dir);
    let answer = client
        .upload_server_certificate(upload_of(&pair))
        .await
        .unwrap()
        .into_inner();
    let swapped = pb::UploadServerCertificateRequest {
        server_certificate: pair.key.clone(),
        private_key: pair.certificate.clone(),
        ..upload_of(&pair)
    };
    client.upload_server_certificate(swapped).await.unwrap_err();
    server
        .client_with_key("ckunknown.hunter2hunter2")
        .describe_regions(pb::DescribeRegionsRequest::default())
        .await
        .unwrap_err();
    let admin_key = std::fs::read_to_string(data_dir.admin_key_file()).unwrap();
    let mut admin = AdminServiceClient::with_interceptor(server.channel(), bearer(admin_key.trim()));
    let reader = pb::CreateAccessKeyRequest {
        role: pb::Role::Reader.into(),
        ..Default::default()
    };
    let created_secret = admin.create_access_key(reader).await.unwrap().into_inner().secret;
    // Private keys in URLs, with a right and with a wrong signature, and in a place for another text.
    let signer = pb::CreateAccessKeyRequest {
        role: pb::Role::Editor.into(),
        can_sign: true,
        ..Default::default()
    };
    let slb = SlbCaller::from(
        admin.create_access_key(signer).await.unwrap().into_inner(),
        server.slb_address(),
    );
    let (certificate, key) = (
        ("ServerCertificate", pair.certificate.as_str()),
        ("PrivateKey", pair.key.as_str()),
    );
    let region = ("RegionId", crate::harness::REGION);
    let uploaded = slb.call("UploadServerCertificate", &[region, certificate, key]);
    assert_eq!(uploaded.status, 200, "{}", uploaded.body);
    let swapped = [region, ("ServerCertificate", key.1), ("PrivateKey", certificate.1)];
    assert_eq!(slb.call("UploadServerCertificate", &swapped).status, 400);
    assert_eq!(slb.call(&pair.key, &[(&pair.key, &pair.key)]).status, 404);
    let wrong = SlbCaller {
        id: pair.key.clone(),
        secret: "hunter2hunter2".to_owned(),
        ..slb.clone()
    };
    assert_eq!(
        wrong
            .call("UploadServerCertificate", &[region, certificate, key])
            .status,
        404
    );
    // Keys that leave, in each form.
    let consumer = pb::CreateAccessKeyRequest {
        role: pb::Role::Consumer.into(),
        ..Default::default()
    };
    let consumer_key = admin.create_access_key(consumer).await.unwrap().into_inner();
    let consumer_key = format!(
        "{}.{}",
        consumer_key.access_key.unwrap().access_key_id,
        consumer_key.secret
    );
    let mut consumer = DeliveryServiceClient::with_interceptor(server.channel(), bearer(&consumer_key));
    let mut delivered = Vec::new();
    for (format, password) in [
        (KeyPairFormat::Pem, ""),
        (KeyPairFormat::PemEncrypted, "correct horse"),
        (KeyPairFormat::PemBundle, ""),
        (KeyPairFormat::Pkcs12Legacy, "correct horse"),
        (KeyPairFormat::Pkcs12Legacy, "wrong \n horse"),
    ] {
        let request = pb::GetKeyPairRequest {
            server_certificate_id: answer.server_certificate_id.clone(),
            format: format.into(),
            password: password.into(),
            ..Default::default()
        };
        if let Ok(answer) = consumer.get_key_pair(request).await {
            delivered.extend(answer.into_inner().private_key.lines().nth(1).map(str::to_owned));
        }
    }
    assert_eq!(delivered.len(), 3);
    // A call whose caller leaves.
    let sql = crate::harness::connect_to(&data_dir.connection_string()).await;
    sql.batch_execute("begin; lock table certificate in access exclusive mode")
        .await
        .unwrap();
    let describe = client.describe_server_certificates(pb::DescribeServerCertificatesRequest::default());
    tokio::time::timeout(Duration::from_millis(300), describe)
        .await
        .unwrap_err();
    sql.batch_execute("rollback").await.unwrap();
    server.terminate();

    let log = std::fs::read_to_string(log).unwrap();
    let (_, secret) = admin_key.trim().split_once('.').unwrap();
    for secret in [
        secret,
        &created_secret,
        &hex::encode(certkeep::digest::sha256(created_secret.as_bytes())),
        "hunter2hunter2",
        &slb.secret,
        "correct horse",
        "wrong ",
        pair.key.lines().nth(1).unwrap(),
        pair.certificate.lines().nth(1).unwrap(),
    ] {
        assert!(!log.contains(secret), "{secret}");
    }
    for delivered in delivered {
        assert!(!log.contains(&delivered), "{delivered}");
    }
    let lines = log
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let answered: Vec<_> = lines.filter(|line| line["fields"]["message"] == "answered").collect();
    let upload = answered
        .iter()
        .find(|line| line["span"]["request_id"] == answer.request_id.as_str())
        .unwrap();
    assert_eq!(
        (&upload["span"]["method"], &upload["span"]["code"]),
        (&"UploadServerCertificate".into(), &"OK".into())
    );
    assert!(
        upload["span"]["account"].is_string() && upload["fields"]["duration_us"].is_u64(),
        "{upload}"
    );
    let left = answered
        .iter()
        .find(|line| line["span"]["code"] == "CANCELLED")
        .unwrap();
    assert!(
        left["span"]["request_id"].is_string() && left["span"]["method"] == "DescribeServerCertificates",
        "{left}"
    );
    let refused = answered
        .iter()
        .find(|line| line["span"]["code"] == "UNAUTHENTICATED")
        .unwrap();
    assert_eq!(
        (&refused["span"]["access_key_id"], &refused["span"]["reason"]),
        (&"ckunknown".into(), &"UNAUTHENTICATED".into())
    );
    let rejected = answered
        .iter()
        .find(|line| line["span"]["code"] == "INVALID_ARGUMENT")
        .unwrap();
    assert!(rejected["span"]["reason"].is_string(), "{rejected}");
    for line in &answered {
        assert_eq!(line["span"]["address"], "127.0.0.1", "{line}");
    }
    let doors = answered.iter().filter(|line| line["span"]["door"] == "slb");
    let methods: Vec<_> = doors.map(|line| line["span"]["method"].as_str().unwrap()).collect();
    let upload = "UploadServerCertificate";
    assert_eq!(methods, [upload, upload, "unknown", upload]);
    assert_eq!(answered.len(), 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_is_told_when_it_serves_and_when_it_stops() {
    let (data_dir, dir) = (DataDir::new(), temp_dir());
    let path = dir.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let told = || {
        let mut buffer = [0; 256];
        let len = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..len].to_vec()).unwrap().trim().to_owned()
    };
    let variables = [("NOTIFY_SOCKET", path.to_str().unwrap())];
    let server = start_logging(&data_dir, &dir.path().join("log"), &[], &variables);
    assert_eq!(told(), "READY=1");
    server.terminate();
    assert_eq!(told(), "STOPPING=1");
}

/// Renames of a locked certificate hold every connection of the calls. The readiness probe has a connection of its own.
#[tokio::test(flavor = "multi_thread")]
async fn calls_that_hold_every_connection_leave_the_service_ready() {
    let server = TestServer::start().await;
    let client = server.client();
    let id = crate::calls::stored(&client, &upload_of(&pki::self_signed(Key::P256, "a.example"))).await;
    let sql = server.sql().await;
    sql.batch_execute("begin; select from certificate for update")
        .await
        .unwrap();
    let mut renames = tokio::task::JoinSet::new();
    for number in 0..24 {
        let (client, id) = (client.clone(), id.clone());
        renames.spawn(async move {
            let name = format!("name-{number}");
            crate::calls::refusal(crate::calls::rename(&client, &id, &name, crate::calls::ANY).await)
        });
    }
    while !renames.is_empty() {
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(health(&server).await, SERVING);
        while let Some(refused) = renames.try_join_next() {
            assert_eq!(refused.unwrap(), (tonic::Code::Aborted, "RESOURCE_BUSY".to_owned()));
        }
    }
    sql.batch_execute("rollback").await.unwrap();
    server.stop().await;
}

/// The drain: a call under way is answered, and a call that takes too long does not delay the stop.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_finishes_the_calls_under_way_within_its_time() {
    for (held_for, is_answered) in [(Duration::from_millis(500), true), (Duration::from_secs(4), false)] {
        let server = TestServer::start_with(|config| config.drain_time = Duration::from_secs(2)).await;
        let sql = server.sql().await;
        sql.batch_execute("begin; lock table certificate in exclusive mode")
            .await
            .unwrap();
        let mut client = server.client();
        let upload = upload_of(&pki::self_signed(Key::P256, "drained.example"));
        let call = tokio::spawn(async move { client.upload_server_certificate(upload).await });
        tokio::time::sleep(Duration::from_millis(300)).await;
        let release = tokio::spawn(async move {
            tokio::time::sleep(held_for).await;
            sql.batch_execute("commit").await.unwrap();
        });
        let began = Instant::now();
        server.stop().await;
        assert!(began.elapsed() < Duration::from_millis(3500), "{:?}", began.elapsed());
        if is_answered {
            call.await.unwrap().unwrap();
        } else {
            call.abort();
        }
        release.await.unwrap();
    }
}

/// Only the call waits for the locked certificate. The service stays ready.
#[tokio::test(flavor = "multi_thread")]
async fn a_locked_certificate_is_the_calls_own_error_and_the_service_stays_ready() {
    let server = TestServer::start().await;
    let client = server.client();
    let id = crate::calls::stored(&client, &upload_of(&pki::self_signed(Key::P256, "a.example"))).await;
    let sql = server.sql().await;
    sql.batch_execute("begin; select from certificate for update")
        .await
        .unwrap();
    let mut renames = tokio::task::JoinSet::new();
    for number in 0..3 {
        let (client, id) = (client.clone(), id.clone());
        renames.spawn(async move {
            let name = format!("name-{number}");
            crate::calls::refusal(crate::calls::rename(&client, &id, &name, crate::calls::ANY).await)
        });
    }
    while !renames.is_empty() {
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(health(&server).await, SERVING);
        crate::calls::get(&client, &id).await.unwrap();
        if let Some(refused) = renames.try_join_next() {
            assert_eq!(refused.unwrap(), (tonic::Code::Aborted, "RESOURCE_BUSY".to_owned()));
        }
    }
    // The monitor looks every second.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(health(&server).await, SERVING);
    sql.batch_execute("rollback").await.unwrap();
    crate::calls::rename(&client, &id, "new", crate::calls::ANY)
        .await
        .unwrap();
    server.stop().await;
}
