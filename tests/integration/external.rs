//! Other clients: grpcurl through reflection, and a client generated for each language of `examples/`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use certkeep::config::TlsFiles;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::calls::{stored, versions};
use crate::harness::{REGION, TestServer, rows, temp_dir, upload_of};
use crate::pki::{self, Key};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A program that `make test` installs.
pub fn tool(path: &str) -> PathBuf {
    let directory = Path::new(ROOT).join("target/tools");
    let found = glob(&directory.join(path));
    found.unwrap_or_else(|| {
        panic!(
            "{} is missing: run `make test-tools`, which installs it",
            directory.join(path).display()
        )
    })
}

/// The file with this name, or with this name and a version.
fn glob(path: &Path) -> Option<PathBuf> {
    let prefix = path.file_name()?.to_str()?;
    let entries = std::fs::read_dir(path.parent()?).ok()?;
    entries.filter_map(|entry| Some(entry.ok()?.path())).find(|path| {
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name == prefix || name.starts_with(&format!("{prefix}-")))
    })
}

pub async fn run(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn grpcurl_finds_the_schema_uploads_and_reads_the_errors() {
    let server = TestServer::start().await;
    let address = server.address().to_string();
    let authorization = format!("authorization: Bearer {}", server.admin_key());
    let grpcurl = |args: &[&str]| {
        let mut command = Command::new(tool("bin/grpcurl"));
        command.arg("-plaintext").args(args);
        command
    };
    let listed = run(grpcurl(&[&address, "list"])).await;
    assert_eq!(
        text(&listed.stdout).lines().collect::<Vec<_>>(),
        [
            "certkeep.v1.AdminService",
            "certkeep.v1.CertificateService",
            "certkeep.v1.DeliveryService",
            "certkeep.v1.OperatorService",
            "envoy.service.secret.v3.SecretDiscoveryService",
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
        ],
        "{}",
        text(&listed.stderr)
    );
    let described = run(grpcurl(&[
        &address,
        "describe",
        "certkeep.v1.UploadServerCertificateRequest",
    ]))
    .await;
    let described = text(&described.stdout);
    assert!(
        described.contains("string private_key = 4 [debug_redact = true];"),
        "{described}"
    );
    assert!(
        described.contains("// Makes a retry of this upload safe"),
        "comments are served: {described}"
    );

    for key in [Key::Rsa(2048), Key::P256] {
        let pair = pki::issued(key, "shop.example");
        let request = serde_json::json!({
            "region_id": REGION, "server_certificate": pair.certificate, "private_key": pair.key,
        });
        let method = "certkeep.v1.CertificateService/UploadServerCertificate";
        let upload = grpcurl(&["-H", &authorization, "-d", &request.to_string(), &address, method]);
        let uploaded = run(upload).await;
        assert!(uploaded.status.success(), "{}", text(&uploaded.stderr));
        let answer: serde_json::Value = serde_json::from_slice(&uploaded.stdout).unwrap();
        assert_eq!(answer["commonName"], "shop.example");
        assert_eq!(
            answer["accountFingerprints"].as_array().unwrap().last().unwrap(),
            &answer["fingerprint"]
        );
    }
    let refused = run(grpcurl(&[
        "-H",
        &authorization,
        "-d",
        r#"{"region_id": "mars-1"}"#,
        &address,
        "certkeep.v1.CertificateService/UploadServerCertificate",
    ]))
    .await;
    let refused = text(&refused.stderr);
    for part in [
        "InvalidArgument",
        "REGION_NOT_FOUND",
        "google.rpc.BadRequest",
        "google.rpc.RequestInfo",
    ] {
        assert!(refused.contains(part), "{part} in {refused}");
    }
    server.stop().await;
}

/// The calls that README shows.
#[tokio::test]
async fn grpcurl_finds_the_schema_and_uploads_over_tls() {
    let dir = temp_dir();
    let listener = pki::self_signed(Key::P256, "localhost");
    let (certificate, private_key) = (dir.path().join("tls.pem"), dir.path().join("tls-key.pem"));
    std::fs::write(&certificate, &listener.certificate).unwrap();
    crate::harness::write_secret(&private_key, &listener.key);
    let tls = TlsFiles {
        certificate: certificate.clone(),
        private_key,
        client_ca: None,
    };
    let server = TestServer::start_with(|config| config.tls = Some(tls)).await;
    let address = format!("localhost:{}", server.address().port());
    let grpcurl = |args: &[&str]| {
        let mut command = Command::new(tool("bin/grpcurl"));
        command.args(args);
        command
    };
    let trusting = |args: &[&str]| grpcurl(&[&["-cacert", certificate.to_str().unwrap()], args].concat());
    let listed = run(trusting(&[&address, "list", "certkeep.v1.CertificateService"])).await;
    assert!(
        text(&listed.stdout).contains("certkeep.v1.CertificateService.UploadServerCertificate\n"),
        "{}",
        text(&listed.stderr)
    );
    let pair = pki::issued(Key::P256, "shop.example");
    let request = serde_json::json!({
        "region_id": REGION, "server_certificate": pair.certificate, "private_key": pair.key,
    });
    let authorization = format!("authorization: Bearer {}", server.admin_key());
    let method = "certkeep.v1.CertificateService/UploadServerCertificate";
    let upload = trusting(&["-H", &authorization, "-d", &request.to_string(), &address, method]);
    let uploaded = run(upload).await;
    assert!(uploaded.status.success(), "{}", text(&uploaded.stderr));
    let answer: serde_json::Value = serde_json::from_slice(&uploaded.stdout).unwrap();
    assert_eq!(answer["commonName"], "shop.example");

    for not_trusting in [[address.as_str(), "list"].as_slice(), &["-plaintext", &address, "list"]] {
        let refused = run(grpcurl(&[&["-max-time", "5"], not_trusting].concat())).await;
        assert!(!refused.status.success() && refused.stdout.is_empty());
    }
    server.stop().await;
}

/// The files that an example reads.
struct Files {
    dir: tempfile::TempDir,
    pair: pki::Pair,
    tls: TlsFiles,
}

impl Files {
    fn new() -> Self {
        let dir = temp_dir();
        let pair = pki::issued(Key::Rsa(2048), "shop.example");
        let other = pki::self_signed(Key::P256, "other.example");
        let listener = pki::self_signed(Key::P256, "localhost");
        for (name, content) in [
            ("cert.pem", &pair.certificate),
            ("key.pem", &pair.key),
            ("other.pem", &other.key),
            ("tls.pem", &listener.certificate),
            ("tls-key.pem", &listener.key),
        ] {
            crate::harness::write_secret(dir.path().join(name), content);
        }
        let tls = TlsFiles {
            certificate: dir.path().join("tls.pem"),
            private_key: dir.path().join("tls-key.pem"),
            client_ca: None,
        };
        Self { dir, pair, tls }
    }

    /// The output of an example that uploads the pair, or its certificate with another key.
    async fn upload(&self, mut example: Command, server: &TestServer, endpoint: &str, key: &str) -> Output {
        example
            .args(["--endpoint", endpoint, "--region", REGION, "--access-key-file"])
            .arg(server.admin_key_file())
            .args(["--cert", "cert.pem", "--key", key])
            .current_dir(self.dir.path());
        run(example).await
    }
}

/// Runs an example with a pair and with another certificate's key, in plain text and over TLS.
async fn uploads_tags_finds_and_reads_the_errors(example: impl Fn() -> Command) {
    let files = Files::new();
    let server = TestServer::start().await;
    let plain = format!("http://{}", server.address());

    // The service stores the pair, and the answer is lost.
    let (through, cutting) = cut_once_stored(&server).await;
    let uploaded = files.upload(example(), &server, &through, "key.pem").await;
    assert!(uploaded.status.success(), "{}", text(&uploaded.stderr));
    cutting.await.unwrap();
    assert_eq!(server.rows().await[0], 1, "the repetition stores nothing");

    // More than one page.
    let client = server.client();
    for _ in 0..100 {
        stored(&client, &upload_of(&files.pair)).await;
    }
    let uploaded = files.upload(example(), &server, &plain, "key.pem").await;
    assert!(uploaded.status.success(), "{}", text(&uploaded.stderr));
    let out = text(&uploaded.stdout);
    assert_eq!(out.lines().count(), 102, "{out}");
    assert!(
        out.lines()
            .all(|line| line.contains(" shop.example 20") && line.ends_with('Z')),
        "{out}"
    );
    let findings = text(&uploaded.stderr);
    assert!(findings.contains("info ALREADY_STORED: "), "{findings}");
    assert_eq!(server.rows().await[2], 2, "both uploads are tagged");

    let refused = files.upload(example(), &server, &plain, "other.pem").await;
    assert_eq!(refused.status.code(), Some(1));
    let error = text(&refused.stderr);
    for part in ["reason PRIVATE_KEY_MISMATCH", "private_key: ", "request id "] {
        assert!(error.contains(part), "{part} in {error}");
    }
    // An address for documents, which no host has.
    let refused = files
        .upload(example(), &server, "http://192.0.2.1:50051", "key.pem")
        .await;
    assert_eq!(refused.status.code(), Some(2));
    let error = text(&refused.stderr);
    assert!(error.contains("in plain text over the network: use https"), "{error}");
    server.stop().await;

    let server = TestServer::start_with(|config| config.tls = Some(files.tls.clone())).await;
    let endpoint = format!("https://localhost:{}", server.address().port());
    let mut trusting = example();
    trusting.args(["--ca-file", "tls.pem"]);
    let uploaded = files.upload(trusting, &server, &endpoint, "key.pem").await;
    assert!(uploaded.status.success(), "{}", text(&uploaded.stderr));
    assert_eq!(server.rows().await[2], 1, "it is tagged");
    server.stop().await;
}

/// The endpoint of a proxy that swallows the answers on its first connection, and cuts it as soon as a certificate is stored.
async fn cut_once_stored(server: &TestServer) -> (String, tokio::task::JoinHandle<()>) {
    /// The settings of HTTP/2 are shorter, and a request with a pair is longer.
    const REQUEST: usize = 2_000;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (endpoint, upstream) = (format!("http://{}", listener.local_addr().unwrap()), server.address());
    let sql = server.sql().await;
    let first = tokio::spawn(async move {
        let (mut client, mut server) = (
            listener.accept().await.unwrap().0,
            TcpStream::connect(upstream).await.unwrap(),
        );
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = server.split();
        let mut sent = 0;
        let (mut request, mut answer) = ([0; 4096], [0; 4096]);
        while rows(&sql).await[0] == 0 {
            tokio::select! {
                len = from_client.read(&mut request) => {
                    let len = len.unwrap();
                    sent += len;
                    to_server.write_all(&request[..len]).await.unwrap();
                }
                len = from_server.read(&mut answer) => {
                    let len = len.unwrap();
                    if sent < REQUEST {
                        to_client.write_all(&answer[..len]).await.unwrap();
                    }
                }
                () = tokio::time::sleep(Duration::from_millis(5)) => {}
            }
        }
        drop((client, server));
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut server = TcpStream::connect(upstream).await.unwrap();
                tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut server).await });
            }
        });
    });
    (endpoint, first)
}

fn python() -> Command {
    let mut command = Command::new(tool("python/bin/python"));
    command.arg(Path::new(ROOT).join("examples/python/upload.py"));
    command.env("PYTHONPATH", tool("python/gen"));
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_generated_for_python_uploads_tags_finds_and_reads_the_errors() {
    uploads_tags_finds_and_reads_the_errors(python).await;
}

fn go() -> Command {
    Command::new(tool("go/upload"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_generated_for_go_uploads_tags_finds_and_reads_the_errors() {
    uploads_tags_finds_and_reads_the_errors(go).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_generated_for_java_uploads_tags_finds_and_reads_the_errors() {
    uploads_tags_finds_and_reads_the_errors(|| {
        let class_path = [tool("java/classes"), tool("java/lib").join("*")];
        let mut command = Command::new("java");
        command.arg("-cp").arg(std::env::join_paths(class_path).unwrap());
        command.arg("io.certkeep.examples.Upload");
        command
    })
    .await;
}

fn typescript() -> Command {
    let mut command = Command::new("node");
    command.arg(tool("typescript/dist/upload.js"));
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_generated_for_typescript_uploads_tags_finds_and_reads_the_errors() {
    uploads_tags_finds_and_reads_the_errors(typescript).await;
}

/// Cargo builds the examples of the client with the tests.
fn rust() -> Command {
    let tests = std::env::current_exe().unwrap();
    Command::new(tests.ancestors().nth(2).unwrap().join("examples/upload"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_the_client_uploads_tags_finds_and_reads_the_errors() {
    uploads_tags_finds_and_reads_the_errors(rust).await;
}

/// OpenSSL, Go and rustls read the system's roots from the file that this variable names.
#[tokio::test(flavor = "multi_thread")]
async fn examples_trust_the_roots_of_the_system() {
    let files = Files::new();
    let server = TestServer::start_with(|config| config.tls = Some(files.tls.clone())).await;
    let endpoint = format!("https://localhost:{}", server.address().port());
    for example in [python, go, typescript, rust] {
        let mut trusting = example();
        trusting.env("SSL_CERT_FILE", "tls.pem");
        let uploaded = files.upload(trusting, &server, &endpoint, "key.pem").await;
        assert!(uploaded.status.success(), "{}", text(&uploaded.stderr));
    }
    server.stop().await;
}

/// The version of each renewal is in the output of exactly one process.
#[tokio::test(flavor = "multi_thread")]
async fn eight_go_processes_that_renew_under_an_etag_lose_no_version() {
    const PROCESSES: usize = 8;
    const COUNT: usize = 5;
    let server = TestServer::start().await;
    let (client, dir) = (server.client(), temp_dir());
    let id = stored(&client, &upload_of(&pki::self_signed(Key::P256, "a.example"))).await;
    let mut processes = JoinSet::new();
    for process in 0..PROCESSES {
        let prefix = dir.path().join(process.to_string());
        for number in 0..2 {
            let pair = pki::self_signed(Key::P256, "a.example");
            std::fs::write(format!("{}-{number}.pem", prefix.display()), &pair.certificate).unwrap();
            std::fs::write(format!("{}-{number}.key", prefix.display()), &pair.key).unwrap();
        }
        let mut command = Command::new(tool("go/renew"));
        command.args([
            &server.address().to_string(),
            server.admin_key(),
            &id,
            &COUNT.to_string(),
        ]);
        command.arg(prefix);
        processes.spawn(run(command));
    }
    let mut told = Vec::new();
    for output in processes.join_all().await {
        assert!(output.status.success(), "{}", text(&output.stderr));
        told.extend(text(&output.stdout).lines().map(|line| line.parse::<i64>().unwrap()));
    }
    told.sort_unstable();
    let last = (PROCESSES * COUNT) as i64 + 1;
    assert_eq!(told, (2..=last).collect::<Vec<_>>());
    let kept = versions(&client, &id).await.unwrap();
    assert_eq!((kept[0].version, kept[0].is_present), (last, true));
    server.stop().await;
}
