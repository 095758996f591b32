//! pgbench: what Postgres itself does, asked by its own leanest client.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::cpu::Split;
use crate::measured::{Measured, histogram};
use crate::postgres::Scratch;

/// A script, and what its variables are on this database.
pub struct Pgbench {
    program: PathBuf,
    scripts: PathBuf,
    database: [String; 7],
    script: &'static str,
    variables: Vec<(&'static str, String)>,
    postmaster: i32,
}

impl Pgbench {
    pub fn new(
        scratch: &Scratch,
        database: &str,
        script: &'static str,
        variables: Vec<(&'static str, String)>,
    ) -> Self {
        Self {
            program: scratch.program("pgbench"),
            scripts: scratch.dir().to_owned(),
            database: scratch.arguments(database),
            script,
            variables,
            postmaster: scratch.postmaster(),
        }
    }

    /// So many clients, each of which begins a transaction when its last one is committed.
    pub fn run(&self, clients: usize, time: Duration) -> Outcome<Measured> {
        self.run_with(clients, time, &[])
    }

    /// About so many transactions a second: a transaction's time runs from the moment at which it was due.
    pub fn run_at(&self, per_second: f64, clients: usize, time: Duration) -> Outcome<Measured> {
        self.run_with(clients, time, &["--rate", &per_second.to_string()])
    }

    fn run_with(&self, clients: usize, time: Duration, arguments: &[&str]) -> Outcome<Measured> {
        let script = self.scripts.join("script.sql");
        std::fs::write(&script, self.script)?;
        let log = self.scripts.join("transactions");
        let mut command = Command::new(&self.program);
        command
            .env("PGOPTIONS", "-c client_min_messages=warning")
            .args(["--no-vacuum", "--protocol=prepared", "--log", "--log-prefix"])
            .arg(&log)
            .arg("--file")
            .arg(&script)
            .args(["--client", &clients.to_string(), "--jobs", &clients.min(2).to_string()])
            .args(["--time", &time.as_secs().max(1).to_string()])
            .args(arguments);
        for (name, value) in &self.variables {
            command.args(["--define", &format!("{name}={value}")]);
        }
        command.args(&self.database);
        let before = Split::now(None, self.postmaster)?;
        let began = Instant::now();
        let output = command.output()?;
        let elapsed = began.elapsed();
        let cpu = Split::now(None, self.postmaster)? - before;
        let told = String::from_utf8_lossy(&output.stdout);
        let wrong = |what: &str| {
            let stderr = String::from_utf8_lossy(&output.stderr);
            format!("pgbench {what}: {told}{stderr}")
        };
        if !output.status.success() {
            return Err(wrong("failed").into());
        }
        let number = |name: &str| -> Option<f64> {
            let line = told.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        if number("number of failed transactions: ").is_some_and(|failed| failed > 0.0) {
            return Err(wrong("had failed transactions").into());
        }
        let operations = number("number of transactions actually processed: ").ok_or_else(|| wrong("said nothing"))?;
        let per_second = number("tps = ").ok_or_else(|| wrong("said nothing"))?;
        let latency = self.latency()?;
        if latency.len() != operations as u64 {
            return Err(wrong("logged another number of transactions").into());
        }
        Ok(Measured {
            operations: operations as u64,
            // Without the time in which it connects, which is pgbench's own way to count.
            elapsed: Duration::from_secs_f64(operations / per_second).min(elapsed),
            latency,
            cpu,
        })
    }

    /// Read from pgbench's log, one file for each of its threads, which are removed.
    fn latency(&self) -> Outcome<hdrhistogram::Histogram<u64>> {
        let mut latency = histogram()?;
        for entry in std::fs::read_dir(&self.scripts)? {
            let entry = entry?;
            if !entry.file_name().as_encoded_bytes().starts_with(b"transactions.") {
                continue;
            }
            for line in std::fs::read_to_string(entry.path())?.lines() {
                // Client, number, microseconds, and more.
                let micros: u64 = line
                    .split_whitespace()
                    .nth(2)
                    .ok_or("pgbench logged nothing")?
                    .parse()?;
                latency.saturating_record(micros * 1000);
            }
            std::fs::remove_file(entry.path())?;
        }
        Ok(latency)
    }
}
