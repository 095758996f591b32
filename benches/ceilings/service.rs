//! certkeep as its users run it: the release binary, a process of its own.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};

use crate::Outcome;
use crate::child::KeptChild;

pub const CERTKEEP: &str = env!("CARGO_BIN_EXE_certkeep");

pub struct Service {
    child: KeptChild,
    address: SocketAddr,
    /// Kept open: what certkeep prints has somewhere to go.
    _out: BufReader<ChildStdout>,
}

impl Service {
    /// Returns when it serves. It logs at its default level, to a file.
    pub fn start(data_dir: &Path, arguments: &[&str]) -> Outcome<Self> {
        let log = data_dir.join("certkeep.log");
        let mut command = command("serve", data_dir);
        command
            // Whoever is measured has hung up before it is told to stop.
            .args(["--listen", "127.0.0.1:0", "--drain-seconds", "1"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(OpenOptions::new().create(true).append(true).open(&log)?);
        let mut child = KeptChild::spawn(&mut command)?;
        let out = child.child.stdout.take().ok_or("certkeep has no standard output")?;
        let mut out = BufReader::new(out);
        let mut first = String::new();
        out.read_line(&mut first)?;
        let address = first.trim_end().rsplit(' ').next().and_then(|text| text.parse().ok());
        let Some(address) = address else {
            return Err(format!("certkeep did not start: {}", std::fs::read_to_string(log)?).into());
        };
        Ok(Self {
            child,
            address,
            _out: out,
        })
    }

    pub fn pid(&self) -> i32 {
        self.child.pid()
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Brings a database to certkeep's schema, and makes its key ring.
pub fn bootstrap(data_dir: &Path, database_url: &str) -> Outcome<()> {
    let output = command("bootstrap", data_dir)
        .args(["--database-url", database_url])
        .output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("certkeep bootstrap failed: {}", String::from_utf8_lossy(&output.stderr)).into()),
    }
}

/// Nothing of the caller's environment configures it.
fn command(subcommand: &str, data_dir: &Path) -> Command {
    let mut command = Command::new(CERTKEEP);
    #[expect(
        clippy::disallowed_methods,
        reason = "a private Postgres is searched for as a user would"
    )]
    let path = std::env::var_os("PATH").unwrap_or_default();
    command
        .env_clear()
        .env("PATH", path)
        .arg(subcommand)
        .arg("--data-dir")
        .arg(data_dir);
    command
}
