//! The certkeep binary as a process, on a private Postgres.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use certkeep::grpc::pb::certificate_service_client::CertificateServiceClient;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

use crate::harness::{Client, bearer, temp_dir};

pub const CERTKEEP: &str = env!("CARGO_BIN_EXE_certkeep");

/// A data directory. What still runs on it when the test is over, or has failed, is stopped.
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

    /// A connection to the private Postgres.
    pub fn connection_string(&self) -> String {
        let text = std::fs::read_to_string(self.path().join("postgres/postmaster.pid")).unwrap();
        let socket_dir = text.lines().nth(4).unwrap().to_owned();
        format!("host='{socket_dir}' port=5432 user=certkeep dbname=certkeep")
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
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// A running `certkeep serve`.
pub struct Certkeep {
    child: Child,
    pub address: SocketAddr,
    pub banner: String,
}

impl Certkeep {
    pub fn start(data_dir: &DataDir) -> Self {
        let mut child = Command::new(CERTKEEP)
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(data_dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut banner = String::new();
        for _ in 0..4 {
            out.read_line(&mut banner).unwrap();
        }
        let first = banner.lines().next().unwrap_or_default();
        let address = first
            .rsplit(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap_or_else(|_| panic!("certkeep did not start: {banner:?}"));
        Self { child, address, banner }
    }

    pub fn client(&self, data_dir: &DataDir) -> Client {
        let key = std::fs::read_to_string(data_dir.admin_key_file()).unwrap();
        CertificateServiceClient::with_interceptor(self.channel(), bearer(key.trim()))
    }

    pub fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address))
            .unwrap()
            .connect_lazy()
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop and waits until it has.
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

/// Runs a command of certkeep to its end.
pub fn certkeep(args: &[&str]) -> Output {
    Command::new(CERTKEEP).args(args).output().unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}
