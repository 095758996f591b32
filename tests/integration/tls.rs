//! TLS on the gRPC listener: versions, ALPN, a certificate that changes, connections up to a limit.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use certkeep::config::TlsFiles;
use certkeep::grpc::pb;
use certkeep::grpc::pb::certificate_service_client::CertificateServiceClient;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode, SslVersion};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, CommonState, NamedGroup, RootCertStore, ServerConfig};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use crate::harness::{TestServer, bearer, temp_dir, until};
use crate::pki::{self, Key, Pair};
use crate::process::{Certkeep, certkeep, stderr};

const NAME: &str = "certkeep.example";

fn files(dir: &Path) -> TlsFiles {
    TlsFiles {
        certificate: dir.join("tls.pem"),
        private_key: dir.join("tls-key.pem"),
        client_ca: None,
    }
}

fn write(dir: &Path, pair: &Pair) {
    crate::harness::write_secret(dir.join("tls-key.pem"), &pair.key);
    std::fs::write(dir.join("tls.pem"), &pair.certificate).unwrap();
}

async fn start(pair: &Pair) -> (TestServer, TempDir) {
    let dir = temp_dir();
    write(dir.path(), pair);
    let tls = files(dir.path());
    (TestServer::start_with(|config| config.tls = Some(tls)).await, dir)
}

fn channel(server: &TestServer, trusted: &Pair) -> Channel {
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(&trusted.certificate))
        .domain_name(NAME);
    Endpoint::from_shared(format!("https://{}", server.address()))
        .unwrap()
        .tls_config(tls)
        .unwrap()
        .connect_lazy()
}

async fn describe(server: &TestServer, channel: Channel) -> Result<(), tonic::Status> {
    let mut client = CertificateServiceClient::with_interceptor(channel, bearer(server.admin_key()));
    client
        .describe_server_certificates(pb::DescribeServerCertificatesRequest::default())
        .await
        .map(|_| ())
}

/// The certificate and the protocol that the listener chooses.
fn handshake(server: &TestServer, version: SslVersion) -> Result<(Vec<u8>, String), String> {
    let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
    builder.set_verify(SslVerifyMode::NONE);
    builder.set_min_proto_version(Some(version)).unwrap();
    builder.set_max_proto_version(Some(version)).unwrap();
    builder.set_alpn_protos(b"\x08http/1.1\x02h2").unwrap();
    let stream = std::net::TcpStream::connect(server.address()).unwrap();
    let stream = builder
        .build()
        .connect(NAME, stream)
        .map_err(|error| error.to_string())?;
    let protocol = stream.ssl().selected_alpn_protocol().unwrap_or_default();
    let certificate = stream.ssl().peer_certificate().unwrap().to_der().unwrap();
    Ok((certificate, String::from_utf8(protocol.to_vec()).unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_over_tls_work_and_calls_in_plain_text_fail() {
    let pair = pki::self_signed(Key::P256, NAME);
    let (server, _dir) = start(&pair).await;
    describe(&server, channel(&server, &pair)).await.unwrap();
    describe(&server, server.channel()).await.unwrap_err();
    let stranger = pki::self_signed(Key::P256, NAME);
    describe(&server, channel(&server, &stranger)).await.unwrap_err();
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        assert_eq!(
            handshake(&server, version).unwrap(),
            (pair.x509.to_der().unwrap(), "h2".to_owned())
        );
    }
    assert!(handshake(&server, SslVersion::TLS1_1).is_err());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_changes_is_served_within_seconds_and_a_broken_one_is_not() {
    let first = pki::self_signed(Key::P256, NAME);
    let (server, dir) = start(&first).await;
    let kept = channel(&server, &first);
    describe(&server, kept.clone()).await.unwrap();

    // Half of a change: the old pair is still served. certkeep looks at the files every second.
    std::fs::write(dir.path().join("tls.pem"), "broken").unwrap();
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(
        handshake(&server, SslVersion::TLS1_3).unwrap().0,
        first.x509.to_der().unwrap()
    );

    let second = pki::self_signed(Key::Rsa(2048), NAME);
    write(dir.path(), &second);
    let second = second.x509.to_der().unwrap();
    let changed = Instant::now();
    until(async || handshake(&server, SslVersion::TLS1_3).unwrap().0 == second).await;
    assert!(
        changed.elapsed() < Duration::from_millis(2500),
        "{:?}",
        changed.elapsed()
    );
    describe(&server, kept).await.expect("open connections continue");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_speaks_tls() {
    let pair = pki::self_signed(Key::P256, "localhost");
    let (server, dir) = start(&pair).await;
    let endpoint = format!("https://localhost:{}", server.address().port());
    let key_file = server.admin_key_file();
    let ca_file = dir.path().join("tls.pem");
    let mut args = vec![
        "describe",
        "--endpoint",
        &endpoint,
        "--access-key-file",
        key_file.to_str().unwrap(),
    ];
    let untrusted = certkeep(&args);
    assert_eq!(untrusted.status.code(), Some(3), "{}", stderr(&untrusted));
    args.extend(["--ca-file", ca_file.to_str().unwrap()]);
    let described = certkeep(&args);
    assert!(
        described.status.success() && stderr(&described) == "no server certificates\n",
        "{}",
        stderr(&described)
    );
    server.stop().await;
}

/// A hybrid of X25519 and ML-KEM-768: a recording of the connection stays secret from a quantum computer.
#[tokio::test(flavor = "multi_thread")]
async fn both_sides_prefer_a_post_quantum_key_exchange() {
    let pair = pki::self_signed(Key::P256, "localhost");
    let (server, dir) = start(&pair).await;
    let ca_file = dir.path().join("tls.pem");
    let certificate = CertificateDer::from_pem_file(&ca_file).unwrap();

    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let client = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(server.address()).await.unwrap();
    let name = "localhost".try_into().unwrap();
    let stream = TlsConnector::from(Arc::new(client))
        .connect(name, stream)
        .await
        .unwrap();
    assert_eq!(group(stream.get_ref().1), Some(NamedGroup::X25519MLKEM768));

    let key = PrivateKeyDer::from_pem_file(dir.path().join("tls-key.pem")).unwrap();
    let acceptor = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let key_file = server.admin_key_file();
    let called = tokio::task::spawn_blocking(move || {
        let [ca_file, key_file] = [ca_file, key_file].map(|file| file.to_str().unwrap().to_owned());
        let mut args = vec!["describe", "--endpoint", &endpoint, "--ca-file", &ca_file];
        args.extend(["--access-key-file", &key_file]);
        certkeep(&args)
    });
    let accepted = tokio::time::timeout(Duration::from_secs(20), listener.accept()).await;
    let (stream, _) = accepted.expect("the command connects").unwrap();
    let stream = TlsAcceptor::from(Arc::new(acceptor)).accept(stream).await.unwrap();
    assert_eq!(group(stream.get_ref().1), Some(NamedGroup::X25519MLKEM768));
    drop((stream, listener));
    called.await.unwrap();
    server.stop().await;
}

fn group(connection: &CommonState) -> Option<NamedGroup> {
    Some(connection.negotiated_key_exchange_group()?.name())
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_limit_wait() {
    let server = TestServer::start_with(|config| config.max_connections = 2).await;
    let first = server.channel();
    describe(&server, first.clone()).await.unwrap();
    let second = server.channel();
    describe(&server, second.clone()).await.unwrap();
    let third = server.channel();
    let waiting = tokio::time::timeout(Duration::from_millis(300), describe(&server, third.clone())).await;
    assert!(waiting.is_err(), "the limit is reached");
    drop(first);
    tokio::time::timeout(Duration::from_secs(5), describe(&server, third))
        .await
        .unwrap()
        .unwrap();
    server.stop().await;
}

/// rustls serves a certificate that has expired.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_listeners_certificate_is_logged_and_measured() {
    let server = TestServer::start().await;
    let dir = temp_dir();
    let [certificate, key, ca, log] = ["tls.pem", "tls-key.pem", "ca.pem", "log"].map(|name| dir.path().join(name));
    write(dir.path(), &pki::expiring(NAME, 0));
    std::fs::write(&ca, pki::expiring("ca.example", 5).certificate).unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let metrics = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let args = [
        "--database-url",
        server.database(),
        "--tls-certificate",
        certificate.to_str().unwrap(),
        "--tls-private-key",
        key.to_str().unwrap(),
        "--client-ca",
        ca.to_str().unwrap(),
        "--metrics-listen",
        &metrics.to_string(),
    ];
    let replica = Certkeep::start_as(server.data_dir(), &args, |command| {
        command.stderr(std::fs::File::create(&log).unwrap());
    });
    let logged = || std::fs::read_to_string(&log).unwrap();
    let lines = logged();
    let says = |setting: &str, text: &str| {
        let lines = logged();
        lines.lines().any(|line| line.contains(setting) && line.contains(text))
    };
    assert!(says("tls_certificate", "has expired"), "{lines}");
    assert!(says("client_ca", "ends within 7 days"), "{lines}");
    let not_after = |setting: &str| -> f64 {
        let (_, text) = crate::operation::http(metrics, "/metrics");
        let name = format!("certkeep_tls_not_after_timestamp_seconds{{setting=\"{setting}\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&name));
        line.unwrap_or_else(|| panic!("{setting} in {text}")).parse().unwrap()
    };
    let days = (not_after("client_ca") - not_after("tls_certificate")) / 86400.0;
    assert!((4.9..5.1).contains(&days), "{days}");

    write(dir.path(), &pki::self_signed(Key::P256, NAME));
    until(async || not_after("tls_certificate") == 4_000_000_000.0).await;
    assert_eq!(logged().matches("has expired").count(), 1);
    replica.terminate();
    server.stop().await;
}
