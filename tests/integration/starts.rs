//! Starts while the database is away, recovers or is read-only, and starts that fail.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::{connect_to, database, temp_dir, until};
use crate::load::resumes_within;
use crate::process::{CERTKEEP, Certkeep, DataDir, certkeep, children, signal, stderr};
use crate::proof::times;
use crate::proxy::{Proxy, Way};

const WAITS: &str = "waiting until the database accepts writes";

/// A `certkeep serve` that need not come up. Its lines of both outputs.
struct Starting {
    child: Child,
    address: SocketAddr,
    lines: Receiver<String>,
}

impl Starting {
    fn on(data_dir: &Path, url: &str) -> Self {
        Self::with(data_dir, &["--database-url", url])
    }

    fn with(data_dir: &Path, args: &[&str]) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut child = Command::new(CERTKEEP)
            .args(["serve", "--listen", &address.to_string(), "--data-dir"])
            .arg(data_dir)
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (send, lines) = channel();
        let send_error = send.clone();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        std::thread::spawn(move || {
            BufReader::new(out)
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| send.send(line))
        });
        std::thread::spawn(move || {
            let mut lines = BufReader::new(err).lines().map_while(Result::ok);
            lines.try_for_each(|line| send_error.send(line))
        });
        Self { child, address, lines }
    }

    /// Waits for a line that contains the text.
    fn says(&self, text: &str) -> String {
        let mut all = String::new();
        let deadline = Instant::now() + Duration::from_secs(60);
        while let Ok(line) = self
            .lines
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            if line.contains(text) {
                return line;
            }
            all.push_str(&line);
            all.push('\n');
        }
        panic!("no line with {text:?} in\n{all}");
    }

    async fn health(&self) -> i32 {
        let channel = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        let mut health = HealthClient::new(channel.connect().await.unwrap());
        let request = HealthCheckRequest {
            service: "certkeep.v1.CertificateService".into(),
        };
        health.check(request).await.unwrap().into_inner().status
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A data directory with a key ring and a database with its first account.
async fn bootstrapped() -> (tempfile::TempDir, String) {
    let (dir, url) = (temp_dir(), database().await);
    let made = certkeep(&[
        "bootstrap",
        "--data-dir",
        dir.path().to_str().unwrap(),
        "--database-url",
        &url,
    ]);
    assert!(made.status.success(), "{}", stderr(&made));
    (dir, url)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_waits_for_a_database_that_is_away() {
    let (dir, url) = bootstrapped().await;
    let (proxy, through) = Proxy::before(&url);
    proxy.set(Way::Cut);
    let starting = Starting::on(dir.path(), &through);
    let line = starting.says(WAITS);
    assert!(line.contains("SIGTERM"), "{line}");
    assert_eq!(starting.health().await, 2, "not serving");
    proxy.set(Way::Open);
    starting.says("serves gRPC on");
    assert_eq!(starting.health().await, 1, "serving");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_waits_for_a_database_that_is_read_only() {
    let (dir, url) = bootstrapped().await;
    let sql = connect_to(&url).await;
    let name: String = sql
        .query_one("select current_database()::text", &[])
        .await
        .unwrap()
        .get(0);
    let read_only = |on: bool| format!("alter database {name} set default_transaction_read_only = {on}");
    sql.batch_execute(&read_only(true)).await.unwrap();
    let starting = Starting::on(dir.path(), &url);
    assert!(starting.says(WAITS).contains("read-only"));
    sql.batch_execute("set default_transaction_read_only = off")
        .await
        .unwrap();
    sql.batch_execute(&read_only(false)).await.unwrap();
    let end = "select pg_terminate_backend(pid) from pg_stat_activity
               where datname = current_database() and pid <> pg_backend_pid()";
    sql.query(end, &[]).await.unwrap();
    starting.says("serves gRPC on");
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_the_wait_for_a_database() {
    let (dir, url) = bootstrapped().await;
    let (proxy, through) = Proxy::before(&url);
    for way in [Way::Cut, Way::Swallows] {
        proxy.set(way);
        let mut starting = Starting::on(dir.path(), &through);
        match way {
            Way::Cut => drop(starting.says(WAITS)),
            _ => until(async || TcpStream::connect(starting.address).is_ok()).await,
        }
        let since = Instant::now();
        signal(starting.child.id() as i32, Signal::TERM);
        let status = starting.child.wait().unwrap();
        assert_eq!(status.code(), Some(1), "{status}");
        assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
        starting.says("stopped while starting");
    }
}

/// A fast shutdown takes as long as the disk needs.
#[tokio::test(flavor = "multi_thread")]
async fn sigterm_during_a_start_gives_the_private_postgres_its_own_time() {
    let data_dir = DataDir::new();
    Certkeep::start(&data_dir).terminate();
    let cluster = data_dir.path().join("postgres");
    let mut settings = File::options()
        .append(true)
        .open(cluster.join("postgresql.conf"))
        .unwrap();
    settings.write_all(b"default_transaction_read_only = on\n").unwrap();
    let mut starting = Starting::with(data_dir.path(), &["--drain-seconds", "1"]);
    starting.says(WAITS);
    let postmaster = data_dir.postmaster_pid().unwrap();
    let is_checkpointer = |pid: &i32| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"postgres: checkpointer"))
    };
    let checkpointer = children(postmaster).into_iter().find(is_checkpointer).unwrap();
    signal(checkpointer, Signal::STOP);
    signal(starting.child.id() as i32, Signal::TERM);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let status = starting.child.try_wait().unwrap();
    signal(checkpointer, Signal::CONT);
    assert_eq!(status, None, "Postgres got no time");
    assert_eq!(starting.child.wait().unwrap().code(), Some(1));
    assert_eq!(data_dir.postmaster_pid(), None);
    starting.says("stopped while starting");
}

/// A host that is away, and one that refuses the database.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_waits_while_one_of_several_hosts_may_come_back() {
    let (dir, url) = bootstrapped().await;
    let (proxy, through) = Proxy::before(&url);
    let socket_dir = |text: &str| text.split('\'').nth(1).unwrap().to_owned();
    let (proxied, direct) = (socket_dir(&through), socket_dir(&url));
    let both = url
        .replace(&direct, &format!("{proxied},{direct}"))
        .replace("dbname=", "dbname=no_");
    for way in [Way::Cut, Way::Swallows] {
        proxy.set(way);
        let starting = Starting::on(dir.path(), &format!("{both} connect_timeout=2"));
        starting.says(WAITS);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_waits_for_its_database_for_a_limited_time() {
    let (dir, url) = bootstrapped().await;
    let (proxy, through) = Proxy::before(&url);
    proxy.set(Way::Cut);
    let path = dir.path().to_str().unwrap().to_owned();
    let migrate = move || certkeep(&["migrate", "--data-dir", &path, "--database-url", &through]);
    let running = tokio::task::spawn_blocking(migrate.clone());
    tokio::time::sleep(Duration::from_millis(1500)).await;
    proxy.set(Way::Open);
    let migrated = running.await.unwrap();
    assert!(migrated.status.success(), "{}", stderr(&migrated));
    // The whole time is too long for `make test`.
    if times(0, 1) > 0 {
        proxy.set(Way::Cut);
        let refused = tokio::task::spawn_blocking(migrate).await.unwrap();
        assert_eq!(refused.status.code(), Some(1));
        assert!(
            stderr(&refused).contains("did not accept writes within 30 s"),
            "{}",
            stderr(&refused)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_with_a_wrong_database_url_fails_at_once() {
    let (dir, url) = bootstrapped().await;
    let path = dir.path().to_str().unwrap();
    for (wrong, cause) in [
        (url.replace("dbname=", "dbname=no_"), "does not exist"),
        (url.replace("user=certkeep", "user=nobody"), "SQLSTATE 28000"),
    ] {
        let since = Instant::now();
        let args = [
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--data-dir",
            path,
            "--database-url",
            &wrong,
        ];
        let refused = certkeep(&args);
        assert_eq!(refused.status.code(), Some(1));
        assert!(stderr(&refused).contains(cause), "{}", stderr(&refused));
        assert!(since.elapsed() < Duration::from_secs(25), "{:?}", since.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_leaves_a_postgres_that_it_took_over() {
    let data_dir = DataDir::new();
    Certkeep::start(&data_dir).kill();
    let postmaster = data_dir.postmaster_pid().unwrap();
    let (ring, away) = (data_dir.path().join("key-ring"), data_dir.path().join("away"));
    std::fs::rename(&ring, &away).unwrap();
    let path = data_dir.path().to_str().unwrap();
    let refused = certkeep(&["serve", "--listen", "127.0.0.1:0", "--data-dir", path]);
    assert!(
        stderr(&refused).contains("there is no key ring"),
        "{}",
        stderr(&refused)
    );
    assert_eq!(data_dir.postmaster_pid(), Some(postmaster));
    connect_to(&data_dir.connection_string()).await;

    std::fs::rename(&away, &ring).unwrap();
    let server = Certkeep::start(&data_dir);
    assert_eq!(data_dir.postmaster_pid(), Some(postmaster));
    server.terminate();
    assert_eq!(data_dir.postmaster_pid(), None);
}

/// Callers hold every file descriptor that certkeep may have when its Postgres dies.
#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_dies_is_restarted_while_callers_hold_all_descriptors() {
    let data_dir = DataDir::new();
    let metrics = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    let server = Certkeep::start_with(data_dir.path(), &["--metrics-listen", &metrics]);
    let pid = server.pid();
    let open = || std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let limit = open() as u64 + 40;
    let lowered = Rlimit {
        current: Some(limit),
        maximum: Some(limit),
    };
    prlimit(Pid::from_raw(pid as i32), Resource::Nofile, lowered).unwrap();
    let held: Vec<_> = (0..80).map(|_| TcpStream::connect(&metrics).unwrap()).collect();
    until(async || open() as u64 >= limit - 1).await;

    let database = data_dir.connection_string();
    let killed = data_dir.kill_postmaster();
    data_dir.until_postgres_is_back(killed, &database).await;
    drop(held);
    resumes_within(&server.client(&data_dir), Duration::from_secs(20)).await;
    server.terminate();
}
