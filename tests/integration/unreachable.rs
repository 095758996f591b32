//! Endpoints that no call can be sent to: the exit code says that nothing was sent, and the error names endpoint, setting and cause.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use openssl::asn1::Asn1Time;
use openssl::hash::MessageDigest;
use openssl::x509::X509;
use openssl::x509::extension::SubjectAlternativeName;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::external::run;
use crate::harness::{temp_dir, write_secret};
use crate::pki::{self, Key, Pair, San};
use crate::process::{CERTKEEP, stderr};

/// A server on loopback that does this with each connection.
async fn serve<F>(behave: impl Fn(TcpStream) -> F + Send + 'static) -> u16
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(behave(stream));
        }
    });
    port
}

async fn serve_tls(config: ServerConfig) -> u16 {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    serve(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            // A handshake that the client ends is no error of this server.
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _ = stream.read(&mut [0; 1024]).await;
            }
        }
    })
    .await
}

fn config(pair: &Pair, client_ca: Option<&X509>) -> ServerConfig {
    let certificate = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from(ca.to_der().unwrap())).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let mut config = builder.with_single_cert(vec![certificate], key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// A self-signed pair for localhost with these times of Unix.
fn valid_between(not_before: i64, not_after: i64) -> Pair {
    let key = Key::P256.make();
    let mut builder = pki::builder(&key, "localhost");
    builder.set_issuer_name(&pki::subject("localhost")).unwrap();
    builder
        .set_not_before(&Asn1Time::from_unix(not_before).unwrap())
        .unwrap();
    builder.set_not_after(&Asn1Time::from_unix(not_after).unwrap()).unwrap();
    let names = SubjectAlternativeName::new()
        .dns("localhost")
        .build(&builder.x509v3_context(None, None));
    builder.append_extension(names.unwrap()).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    pki::pair(&key, builder.build())
}

/// A call that changes something: if it had been sent, the exit code would be 4.
fn deleting(dir: &Path, endpoint: &str, args: &[&str]) -> Command {
    let mut command = Command::new(CERTKEEP);
    command
        .args(["delete", "1_1_1_1", "--endpoint", endpoint, "--access-key-file"])
        .arg(dir.join("access.key"))
        .args(args)
        .current_dir(dir);
    command
}

struct Case {
    endpoint: String,
    args: &'static [&'static str],
    exit_code: i32,
    error: String,
}

async fn check(dir: &Path, cases: Vec<Case>) {
    let mut calls = JoinSet::new();
    for case in cases {
        let command = deleting(dir, &case.endpoint, case.args);
        calls.spawn(async move {
            let output = run(command).await;
            let told = (output.status.code(), stderr(&output));
            assert_eq!(told, (Some(case.exit_code), format!("error: {}\n", case.error)));
        });
    }
    calls.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_to_a_server_that_speaks_no_grpc() {
    let dir = temp_dir();
    write_secret(dir.path().join("access.key"), "ck1.secret");
    let localhost = pki::self_signed(Key::P256, "localhost");
    std::fs::write(dir.path().join("ca.pem"), &localhost.certificate).unwrap();
    let closed = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let tls = serve_tls(config(&localhost, None)).await;
    let http1 = serve(async |mut stream: TcpStream| {
        let _ = stream.read(&mut [0; 1024]).await;
        let _ = stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            .await;
    })
    .await;
    let closing = serve(async |stream: TcpStream| drop(stream)).await;
    let silent = serve(async |mut stream: TcpStream| {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let http2 = serve(async |stream: TcpStream| {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            let answer = http::Response::builder()
                .status(404)
                .header("content-type", "text/html");
            respond.send_response(answer.body(()).unwrap(), true).unwrap();
        }
    })
    .await;
    let case = |endpoint: String, args, exit_code, why: &str| Case {
        error: format!("{endpoint} (--endpoint) {why}"),
        endpoint,
        args,
        exit_code,
    };
    let ca = ["--ca-file", "ca.pem"].as_slice();
    let http = |port: u16| format!("http://127.0.0.1:{port}");
    let https = |port: u16| format!("https://localhost:{port}");
    let no_url = |url: &str| format!("is no URL: it needs http:// or https://, for example {url}");
    let cases = vec![
        case(format!("127.0.0.1:{tls}"), &[], 2, &no_url(&http(tls))),
        case("grpc://a.example".into(), &[], 2, &no_url("https://a.example")),
        case(http(closed), &[], 3, "cannot be reached: connection refused"),
        case(
            "https://nowhere.invalid:50051".into(),
            ca,
            3,
            "cannot be reached: the address of its host is not found",
        ),
        case(
            http(tls),
            &[],
            2,
            &format!("cannot be reached: the server expects TLS; use https://127.0.0.1:{tls}"),
        ),
        case(
            https(http1),
            ca,
            2,
            &format!("cannot be reached: the server does not speak TLS; use http://localhost:{http1}"),
        ),
        case(
            http(http1),
            &[],
            3,
            "cannot be reached: the server does not speak gRPC; check the port",
        ),
        case(
            http(closing),
            &[],
            3,
            "cannot be reached: the server closed the connection before it answered; it may expect TLS, or speak another protocol",
        ),
        case(http(silent), &[], 3, "cannot be reached: no connection within 5 s"),
        case(
            http(http2),
            &[],
            3,
            "cannot be reached: the server answers with HTTP status 404, not with gRPC; check the host and the port",
        ),
    ];
    check(dir.path(), cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_tls_are_told_in_plain_words() {
    let dir = temp_dir();
    write_secret(dir.path().join("access.key"), "ck1.secret");
    let now = certkeep::clock::now().millis() / 1000;
    const DAY: i64 = 86_400;
    let authority = pki::ClientAuthority::new("Clients");
    let good = pki::self_signed(Key::P256, "localhost");
    let unknown = pki::self_signed(Key::P256, "localhost");
    let other_algorithm = pki::self_signed(Key::Rsa(2048), "localhost");
    let authority_as_server = pki::root("localhost");
    let expired = valid_between(now - 30 * DAY, now - 3 * DAY - 60);
    let early = valid_between(now + 2 * DAY + 60, now + 30 * DAY);
    let other = pki::self_signed(Key::P256, "other.example");
    let trusted = [&good, &authority_as_server, &expired, &early, &other];
    let trusted: String = trusted.iter().map(|pair| pair.certificate.as_str()).collect();
    std::fs::write(dir.path().join("ca.pem"), trusted).unwrap();
    let stranger = pki::ClientAuthority::new("Strangers").issue("stranger", &[San::Dns("stranger")]);
    std::fs::write(dir.path().join("client.pem"), &stranger.certificate).unwrap();
    write_secret(dir.path().join("client-key.pem"), &stranger.key);
    const CA: &[&str] = &["--ca-file", "ca.pem"];
    const CLIENT: &[&str] = &[
        "--ca-file",
        "ca.pem",
        "--client-cert",
        "client.pem",
        "--client-key",
        "client-key.pem",
    ];
    let mut cases = Vec::new();
    for (config, args, why) in [
        (
            config(&unknown, None),
            CA,
            "its certificate comes from an unknown CA; name the certificate of its CA with --ca-file",
        ),
        (
            config(&other_algorithm, None),
            CA,
            "its certificate comes from an unknown CA; name the certificate of its CA with --ca-file",
        ),
        (
            config(&authority_as_server, None),
            CA,
            "its certificate is a CA certificate, and no server may use one; create it with basicConstraints=critical,CA:FALSE",
        ),
        (config(&expired, None), CA, "its certificate expired 3 days ago"),
        (
            config(&early, None),
            CA,
            "its certificate is not valid before 2 days from now; check the clock",
        ),
        (
            config(&other, None),
            CA,
            "its certificate is not for localhost, but for other.example, www.other.example",
        ),
        (
            config(&good, Some(&authority.certificate)),
            CA,
            "the server wants a client certificate; see --client-cert",
        ),
        (
            config(&good, Some(&authority.certificate)),
            CLIENT,
            "the server does not accept the client certificate",
        ),
    ] {
        let endpoint = format!("https://localhost:{}", serve_tls(config).await);
        cases.push(Case {
            error: format!("{endpoint} (--endpoint) cannot be reached: {why}"),
            endpoint,
            args,
            exit_code: 3,
        });
    }
    // The files themselves.
    cases.push(Case {
        error: "access.key: there is no CA certificate in PEM".to_owned(),
        endpoint: "https://localhost:1".to_owned(),
        args: &["--ca-file", "access.key"],
        exit_code: 2,
    });
    check(dir.path(), cases).await;
}
