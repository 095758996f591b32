//! The certkeep binary as a process, on a private Postgres.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use certkeep::grpc::pb::certificate_service_client::CertificateServiceClient;
use rustix::process::{Pid, Signal};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

use crate::harness::{Client, TestServer, bearer, temp_dir};

pub const CERTKEEP: &str = env!("CARGO_BIN_EXE_certkeep");

/// A data directory. When it is dropped, it stops the processes that still use it.
pub struct DataDir(TempDir);

impl DataDir {
    pub fn new() -> Self {
        Self(temp_dir())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn admin_key_file(&self) -> PathBuf {
        self.path().join("admin.key")
    }

    pub fn postmaster_pid(&self) -> Option<i32> {
        let text = std::fs::read_to_string(self.path().join("postgres/postmaster.pid")).ok()?;
        text.lines().next()?.parse().ok()
    }

    pub fn kill_postmaster(&self) -> i32 {
        let pid = self.postmaster_pid().expect("Postgres runs");
        kill(pid);
        pid
    }

    /// Waits until a postmaster other than this one accepts connections there.
    pub async fn until_postgres_is_back(&self, before: i32, connection_string: &str) {
        let began = Instant::now();
        while self.postmaster_pid().is_none_or(|pid| pid == before)
            || tokio_postgres::connect(connection_string, tokio_postgres::NoTls)
                .await
                .is_err()
        {
            assert!(began.elapsed() < Duration::from_secs(60), "Postgres is not back");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A connection to the private Postgres, as the owner of the tables.
    pub fn connection_string(&self) -> String {
        let text = std::fs::read_to_string(self.path().join("postgres/postmaster.pid")).unwrap();
        let socket_dir = text.lines().nth(4).unwrap().to_owned();
        format!("host='{socket_dir}' port=5432 user=certkeep_owner dbname=certkeep")
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        if let Some(pid) = self.postmaster_pid().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::QUIT);
            let deadline = Instant::now() + Duration::from_secs(5);
            while rustix::process::test_kill_process(pid).is_ok() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

pub fn kill(pid: i32) {
    signal(pid, Signal::KILL);
}

pub fn signal(pid: i32, signal: Signal) {
    rustix::process::kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// The child processes of this process.
pub fn children(pid: i32) -> Vec<i32> {
    let pgrep = Command::new("pgrep").args(["-P", &pid.to_string()]).output().unwrap();
    stdout(&pgrep).lines().map(|line| line.parse().unwrap()).collect()
}

/// Suspends a process and its children until this value is dropped.
pub struct Stopped(Vec<i32>);

impl Stopped {
    pub fn with_children(pid: i32) -> Self {
        let mut stopped = Self(vec![pid]);
        // The parent comes first, so that it starts no more children.
        signal(pid, Signal::STOP);
        stopped.0.extend(children(pid));
        for pid in &stopped.0[1..] {
            // The process may have ended.
            let _ = rustix::process::kill_process(Pid::from_raw(*pid).unwrap(), Signal::STOP);
        }
        stopped
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        for pid in self.0.iter().rev() {
            let _ = rustix::process::kill_process(Pid::from_raw(*pid).unwrap(), Signal::CONT);
        }
    }
}

/// A running `certkeep serve`.
pub struct Certkeep {
    child: Child,
    pub address: SocketAddr,
    pub banner: String,
}

impl Certkeep {
    pub fn start(data_dir: &DataDir) -> Self {
        Self::start_with(data_dir.path(), &[])
    }

    /// Starts a replica on this server's database.
    pub fn start_replica(server: &TestServer) -> Self {
        Self::start_with(server.data_dir(), &["--database-url", server.database()])
    }

    /// Starts a replica on this server's database at this address, for callers that know the address.
    pub fn start_replica_at(server: &TestServer, address: SocketAddr) -> Self {
        let args = ["--database-url", server.database()];
        Self::start_listening(address, server.data_dir(), &args, |_| {})
    }

    pub fn start_with(data_dir: &Path, args: &[&str]) -> Self {
        Self::start_as(data_dir, args, |_| {})
    }

    /// Starts a server at this address, for callers that know the address.
    pub fn start_at(data_dir: &DataDir, address: SocketAddr) -> Self {
        Self::start_listening(address, data_dir.path(), &[], |_| {})
    }

    /// Starts a server after `change` has changed its command.
    pub fn start_as(data_dir: &Path, args: &[&str], change: impl FnOnce(&mut Command)) -> Self {
        Self::start_listening(([127, 0, 0, 1], 0).into(), data_dir, args, change)
    }

    fn start_listening(address: SocketAddr, data_dir: &Path, args: &[&str], change: impl FnOnce(&mut Command)) -> Self {
        let mut command = Command::new(CERTKEEP);
        command
            // Tests call as fast as they can.
            .args(["serve", "--access-key-rate", "1000000", "--account-rate", "1000000"])
            .args(["--listen", &address.to_string(), "--data-dir"])
            .arg(data_dir)
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        change(&mut command);
        let mut child = command.spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut banner = String::new();
        // Its last line is an example of an upload.
        while !banner.contains("\nupload") && out.read_line(&mut banner).unwrap() > 0 {}
        let first = banner.lines().next().unwrap_or_default();
        let address = first
            .rsplit(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap_or_else(|_| panic!("certkeep did not start: {banner:?}"));
        Self { child, address, banner }
    }

    /// The address for clients of Alibaba Cloud.
    pub fn slb_address(&self) -> SocketAddr {
        let address = self
            .banner
            .lines()
            .find_map(|line| line.strip_prefix("SLB API   http://"));
        address.unwrap().parse().unwrap()
    }

    pub fn client(&self, data_dir: &DataDir) -> Client {
        let key = std::fs::read_to_string(data_dir.admin_key_file()).unwrap();
        self.client_with_key(key.trim())
    }

    pub fn client_with_key(&self, key: &str) -> Client {
        CertificateServiceClient::with_interceptor(self.channel(), bearer(key))
    }

    pub fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address))
            .unwrap()
            .connect_lazy()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends SIGTERM and waits until the process has ended.
    pub fn terminate(mut self) {
        let pid = rustix::process::Pid::from_raw(self.child.id() as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}

impl Drop for Certkeep {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command of certkeep and waits for its end.
pub fn certkeep(args: &[&str]) -> Output {
    Command::new(CERTKEEP).args(args).output().unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}
