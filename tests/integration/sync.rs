//! `certkeep sync`: the files, the links, the command, and nginx and HAProxy that serve them.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use certkeep::grpc::pb;
use certkeep::grpc::pb::delivery_service_client::DeliveryServiceClient;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use openssl::x509::X509;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::calls::{ANY, delete, rename, stored, undelete};
use crate::external::tool;
use crate::harness::{Account, REGION, TestServer, bearer, temp_dir, until, upload_of};
use crate::pki::{self, Key, Pair};
use crate::process::{CERTKEEP, signal, stderr, stdout};

/// A folder, the key of its consumer, and the service.
struct Site {
    server: TestServer,
    dir: TempDir,
    key_file: PathBuf,
    key: String,
}

impl Site {
    async fn new() -> Self {
        let (server, dir) = (TestServer::start().await, temp_dir());
        let key = server.add_key("consumer", Account::First).await;
        let key_file = dir.path().join("consumer.key");
        crate::harness::write_secret(&key_file, &key);
        Self {
            server,
            dir,
            key_file,
            key,
        }
    }

    fn certs(&self) -> PathBuf {
        self.dir.path().join("certs")
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.certs().join(name)).unwrap_or_default()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(CERTKEEP);
        command.arg("sync").arg(self.certs()).args(args);
        command
            .args(["--endpoint", &self.server.endpoint(), "--access-key-file"])
            .arg(&self.key_file);
        command.args(["--holder", "host-1"]);
        command
    }

    async fn once(&self, args: &[&str]) -> Output {
        let mut command = self.command(args);
        command.arg("--once");
        crate::external::run(command).await
    }

    fn start(&self, args: &[&str]) -> Running {
        let child = self.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Running(child.unwrap())
    }

    async fn upload(&self, pair: &Pair, name: &str) -> String {
        let request = pb::UploadServerCertificateRequest {
            server_certificate_name: name.into(),
            ..upload_of(pair)
        };
        stored(&self.server.client(), &request).await
    }

    /// Who holds what, with the served version.
    async fn leases(&self) -> Vec<(String, i64)> {
        let mut client = DeliveryServiceClient::with_interceptor(self.server.channel(), bearer(&self.key));
        let listed = client.list_leases(pb::ListLeasesRequest::default()).await.unwrap();
        let leases = listed.into_inner().leases.into_iter();
        leases
            .map(|lease| (lease.server_certificate_id, lease.served_version))
            .collect()
    }
}

/// A process that is ended when it is dropped.
struct Running(Child);

impl Running {
    fn pid(&self) -> i32 {
        self.0.id() as i32
    }

    /// Sends SIGTERM and waits for the exit code.
    fn terminate(mut self) -> Option<i32> {
        signal(self.pid(), Signal::TERM);
        self.0.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn versions(certs: &Path) -> usize {
    fs::read_dir(certs.join(".versions")).unwrap().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn once_brings_a_folder_up_to_date() {
    let site = Site::new().await;
    let [a, b] = [pki::issued(Key::P256, "a.example"), pki::issued(Key::P256, "b.example")];
    let (id_a, id_b) = (site.upload(&a, "a/../../b").await, site.upload(&b, "b.example").await);
    let link = format!("web={id_a}");
    let log = site.dir.path().join("log");
    let exec = format!(
        "echo \"$CERTKEEP_CHANGED|$CERTKEEP_CHANGED_NAMES|$CERTKEEP_ACCESS_KEY\" >> {}",
        log.display()
    );
    let read_log = || fs::read_to_string(&log).unwrap_or_default();
    let args = ["--link", &link, "--exec", &exec];

    // Links without a filter: only their certificates.
    let output = site.once(&args).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output), format!("{id_a} version 1 a/../../b\n"));
    assert_eq!(read_log(), format!("{id_a}|a/../../b|\n"));
    assert_eq!(site.file("web/fullchain.pem"), a.certificate);
    assert_eq!(site.file("web/privkey.pem"), a.key);
    assert_eq!(site.file("web/bundle.pem"), format!("{}{}", a.key, a.certificate));
    assert!(!site.certs().join(&id_b).exists());
    assert_eq!(site.leases().await, [(id_a.clone(), 1)]);

    // Nothing changed: no key leaves, and no command runs.
    let delivered = "select count(*) from audit_event where outcome = 'delivered'";
    let sql = site.server.sql().await;
    let count = async || sql.query_one(delivered, &[]).await.unwrap().get::<_, i64>(0);
    assert_eq!(count().await, 1);
    let output = site.once(&args).await;
    assert_eq!((output.status.code(), stdout(&output)), (Some(0), String::new()));
    assert_eq!((count().await, read_log().lines().count()), (1, 1));

    // A failed command runs again. Files that somebody removed come back.
    fs::remove_dir_all(site.certs().join(".versions")).unwrap();
    let output = site.once(&["--link", &link, "--exec", "exit 7"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("the command failed: exit status: 7"),
        "{}",
        stderr(&output)
    );
    assert_eq!(site.once(&args).await.status.code(), Some(0));
    assert_eq!((count().await, read_log().lines().count()), (2, 2));
    assert_eq!(versions(&site.certs()), 1);

    // Deleted: kept, until --prune. The lease has ended.
    let client = site.server.client();
    let refused = delete(&client, &id_a, ANY).await.unwrap_err();
    assert!(refused.message().contains("in use by host-1"), "{}", refused.message());
    let force = pb::DeleteServerCertificateRequest {
        server_certificate_id: id_a.clone(),
        force: true,
        ..Default::default()
    };
    client.clone().delete_server_certificate(force).await.unwrap();
    let all = ["--region", REGION, "--link", &link];
    assert_eq!(site.once(&all).await.status.code(), Some(0));
    assert_eq!(site.file("web/privkey.pem"), a.key);
    assert_eq!(site.file(&format!("{id_b}/privkey.pem")), b.key);
    let output = site.once(&[&all[..], &["--prune"]].concat()).await;
    assert_eq!(output.status.code(), Some(1), "the link has no certificate");
    assert!(!site.certs().join("web").exists() && !site.certs().join(&id_a).exists());
    assert_eq!(versions(&site.certs()), 1);

    // Wrong command lines.
    for args in [
        &["--link", "..=x"][..],
        &["--link", &format!("{id_a}={id_b}")],
        &["--link", &format!("a={id_a}"), "--link", &format!("a={id_b}")],
        &["--mode", "0755"],
        &["--owner", "nobody-of-this-name:root"],
    ] {
        assert_eq!(site.once(args).await.status.code(), Some(2), "{args:?}");
    }
    let lost = Command::new(CERTKEEP)
        .args([
            "sync",
            "--once",
            "--endpoint",
            "http://127.0.0.1:1",
            "--access-key-file",
        ])
        .args([&site.key_file, &site.certs()])
        .output();
    assert_eq!(lost.unwrap().status.code(), Some(3));
    site.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_follows_changes_and_a_restart_fetches_only_what_changed() {
    let site = Site::new().await;
    let client = site.server.client();
    let [a, b] = [pki::issued(Key::P256, "a.example"), pki::issued(Key::P256, "b.example")];
    let id_a = site.upload(&a, "a.example").await;
    let (log, gate) = (site.dir.path().join("log"), site.dir.path().join("gate"));
    // The command says how many of it run at once, and waits while the gate is shut.
    let exec = format!(
        "mkdir {log}.lock || echo twice >> {log}; echo $CERTKEEP_CHANGED >> {log}; while [ -e {gate} ]; do sleep 0.02; done; rmdir {log}.lock",
        log = log.display(),
        gate = gate.display()
    );
    let lines = || fs::read_to_string(&log).unwrap_or_default();
    let sync = site.start(&["--exec", &exec]);
    until(async || lines() == format!("{id_a}\n")).await;
    until(async || site.leases().await == [(id_a.clone(), 1)]).await;
    // A second one on the folder.
    let second = site.once(&[]).await;
    assert_eq!(second.status.code(), Some(1));
    assert!(
        stderr(&second).contains("another `certkeep sync` uses the folder"),
        "{}",
        stderr(&second)
    );

    // What changes while the command runs is one more run.
    fs::write(&gate, "").unwrap();
    let id_b = site.upload(&b, "b.example").await;
    until(async || lines().lines().count() == 2).await;
    let more = [site.upload(&a, "c.example").await, site.upload(&b, "d.example").await];
    for id in &more {
        until(async || site.certs().join(id).join("privkey.pem").exists()).await;
    }
    fs::remove_file(&gate).unwrap();
    until(async || lines().lines().count() == 3).await;
    let mut last: Vec<_> = lines().lines().last().unwrap().split(' ').map(str::to_owned).collect();
    last.sort();
    let mut expected = more.to_vec();
    expected.sort();
    assert_eq!(last, expected);
    rename(&client, &id_b, "renamed", ANY).await.unwrap();
    until(async || site.leases().await.len() == 4).await;
    assert_eq!(sync.terminate(), Some(0));
    assert!(!lines().contains("twice"));

    // While it is away: one more, and one is deleted and comes back.
    let delivered = "select count(*) from audit_event where outcome = 'delivered'";
    let sql = site.server.sql().await;
    assert_eq!(sql.query_one(delivered, &[]).await.unwrap().get::<_, i64>(0), 4);
    let force = pb::DeleteServerCertificateRequest {
        server_certificate_id: id_b.clone(),
        force: true,
        ..Default::default()
    };
    client.clone().delete_server_certificate(force).await.unwrap();
    undelete(&client, &id_b, ANY).await.unwrap();
    let id_e = site.upload(&a, "e.example").await;
    let sync = site.start(&["--exec", &exec]);
    until(async || lines().lines().last() == Some(&id_e)).await;
    assert_eq!(sql.query_one(delivered, &[]).await.unwrap().get::<_, i64>(0), 5);
    drop(sync);
    site.server.stop().await;
}

fn free_port() -> SocketAddr {
    // The program binds the port a moment later.
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// One request over a new connection. Answers the leaf that the server showed.
fn request(address: SocketAddr) -> Result<X509, String> {
    let failed = |error: &dyn std::fmt::Display| error.to_string();
    let mut connector = SslConnector::builder(SslMethod::tls()).map_err(|error| failed(&error))?;
    connector.set_verify(SslVerifyMode::NONE);
    let stream = TcpStream::connect(address).map_err(|error| failed(&error))?;
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .map_err(|error| failed(&error))?;
    let configured = connector
        .build()
        .configure()
        .map_err(|error| failed(&error))?
        .verify_hostname(false);
    let mut stream = configured
        .connect("a.example", stream)
        .map_err(|error| failed(&error))?;
    let leaf = stream.ssl().peer_certificate().ok_or("no certificate")?;
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
        .map_err(|error| failed(&error))?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(|error| failed(&error))?;
    match answer.starts_with(b"HTTP/1.1 200") {
        true => Ok(leaf),
        false => Err(String::from_utf8_lossy(&answer).into_owned()),
    }
}

fn leaf(pair: &Pair) -> X509 {
    pair.x509.clone()
}

/// The example's configuration, at another address and in another folder.
fn example(site: &Site, path: &str, from: &str, address: SocketAddr) -> PathBuf {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(path)).unwrap();
    assert!(text.contains(from), "{text}");
    let file = site.dir.path().join(Path::new(path).file_name().unwrap());
    fs::write(&file, text.replace(from, &address.to_string())).unwrap();
    file
}

async fn serves(address: SocketAddr, pair: &Pair) {
    until(async || request(address).is_ok_and(|shown| shown == leaf(pair))).await;
}

/// nginx and HAProxy show a new pair, and no request fails, although four clients open new connections all the time.
async fn renews_under_load(program: &str) {
    let site = Site::new().await;
    let [old, new] = [
        pki::issued(Key::P256, "a.example"),
        pki::issued(Key::Rsa(2048), "a.example"),
    ];
    let id = site.upload(&old, "a.example").await;
    let link = format!("web={id}");
    assert_eq!(site.once(&["--link", &link]).await.status.code(), Some(0));
    let address = free_port();
    let mut command = Command::new(tool(&format!("bin/{program}")));
    command.current_dir(site.dir.path());
    let reload = match program {
        "nginx" => {
            let file = example(&site, "nginx/nginx.conf", "127.0.0.1:8443", address);
            fs::create_dir(site.dir.path().join("tmp")).unwrap();
            command
                .arg("-p")
                .arg(site.dir.path())
                .arg("-c")
                .arg(file)
                .args(["-g", "daemon off;"]);
            "HUP"
        }
        _ => {
            let file = example(&site, "haproxy/haproxy.cfg", "127.0.0.1:8444", address);
            command.args(["-W", "-f"]).arg(file);
            "USR2"
        }
    };
    let running = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    serves(address, &old).await;
    let exec = format!("kill -{reload} {}", running.pid());
    let sync = site.start(&["--link", &link, "--exec", &exec]);
    until(async || site.leases().await == [(id.clone(), 1)]).await;

    let (stop, requests) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (stop, requests) = (stop.clone(), requests.clone());
            std::thread::spawn(move || {
                let mut failed = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    failed.extend(request(address).err());
                    requests.fetch_add(1, Ordering::Relaxed);
                }
                failed
            })
        })
        .collect();
    let count = || requests.load(Ordering::Relaxed);
    until(async || count() > 50).await;
    let renew = pb::RenewServerCertificateRequest {
        server_certificate_id: id.clone(),
        server_certificate: new.certificate.clone(),
        private_key: new.key.clone(),
        ..Default::default()
    };
    site.server.client().renew_server_certificate(renew).await.unwrap();
    serves(address, &new).await;
    let after = count() + 50;
    until(async || count() > after).await;
    stop.store(true, Ordering::Relaxed);
    let failed: Vec<_> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    assert_eq!(failed, Vec::<String>::new(), "of {} requests", count());
    until(async || site.leases().await == [(id.clone(), 2)]).await;
    // HAProxy's workers end with their master.
    signal(running.pid(), Signal::TERM);
    drop(sync);
    drop(running);
    site.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_serves_a_renewed_certificate_without_a_failed_request() {
    renews_under_load("nginx").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_serves_a_renewed_certificate_without_a_failed_request() {
    renews_under_load("haproxy").await;
}
