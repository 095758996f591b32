//! The postmaster: Postgres's first process, which all others follow.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;
use tokio::time::{sleep, timeout};

/// How often it is asked whether a postmaster that is no child of ours still lives.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// How long a fast shutdown may take: it ends the sessions and writes out what is in memory. systemd gives a service
/// 90 seconds.
const FAST_WITHIN: Duration = Duration::from_secs(45);

/// How long an immediate shutdown may take: Postgres kills its own processes after five seconds.
const IMMEDIATE_WITHIN: Duration = Duration::from_secs(10);

/// A postmaster that was alive when this was made.
///
/// Dropped before [`let_run`](Self::let_run), it is told to shut down: somebody pressed Ctrl-C during a long recovery.
#[derive(Debug)]
pub struct Postmaster {
    process: Process,
    when_dropped: WhenDropped,
}

#[derive(Debug)]
enum Process {
    /// One that this process started.
    Child(Child),
    /// One that an earlier certkeep started.
    TakenOver { pid: Pid, cluster: PathBuf },
}

#[derive(Debug, Eq, PartialEq)]
enum WhenDropped {
    Interrupt,
    RunOn,
}

/// How a postmaster ended. That of another process's child is not told.
#[derive(Debug)]
pub struct Ended(Option<ExitStatus>);

impl Postmaster {
    /// One that was just started.
    pub fn child(child: Child) -> Self {
        Self {
            process: Process::Child(child),
            when_dropped: WhenDropped::Interrupt,
        }
    }

    /// The postmaster of `cluster` that an earlier certkeep started; nothing when `pid` is not it.
    pub fn running(pid: Pid, cluster: &Path) -> Option<Self> {
        let process = Process::TakenOver {
            pid,
            cluster: cluster.to_path_buf(),
        };
        is_postmaster(pid, cluster).then_some(Self {
            process,
            when_dropped: WhenDropped::Interrupt,
        })
    }

    /// From now on it runs on when this is dropped, for the next certkeep to take over.
    pub fn let_run(&mut self) {
        self.when_dropped = WhenDropped::RunOn;
    }

    /// Its number, unless it has ended.
    pub fn pid(&self) -> Option<Pid> {
        match &self.process {
            Process::Child(child) => child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)),
            Process::TakenOver { pid, cluster } => is_postmaster(*pid, cluster).then_some(*pid),
        }
    }

    /// Waits for its end. May be dropped and called again.
    pub async fn ended(&mut self) -> Ended {
        match &mut self.process {
            // Waiting for a child that is ours fails only after it has been reaped.
            Process::Child(child) => Ended(child.wait().await.ok()),
            Process::TakenOver { pid, cluster } => {
                while is_postmaster(*pid, cluster) {
                    sleep(LOOK_EVERY).await;
                }
                Ended(None)
            }
        }
    }

    /// Ends it and waits for that: first with a fast shutdown, then, when that takes too long, with an immediate one,
    /// after which the next start recovers as from a crash.
    pub async fn stop(mut self) {
        self.let_run();
        self.signal(Signal::INT);
        if timeout(FAST_WITHIN, self.ended()).await.is_ok() {
            return;
        }
        tracing::warn!(
            seconds = FAST_WITHIN.as_secs(),
            "Postgres did not shut down in time, it is ended at once"
        );
        self.signal(Signal::QUIT);
        if timeout(IMMEDIATE_WITHIN, self.ended()).await.is_err() {
            tracing::error!("Postgres cannot be ended, the next start takes it over");
        }
    }

    fn signal(&self, signal: Signal) {
        let Some(pid) = self.pid() else { return };
        if let Err(error) = kill_process(pid, signal) {
            tracing::warn!(%error, "Postgres could not be sent a signal");
        }
    }
}

impl Drop for Postmaster {
    fn drop(&mut self) {
        if self.when_dropped == WhenDropped::Interrupt {
            self.signal(Signal::INT);
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(status) => status.fmt(f),
            None => f.write_str("unknown status"),
        }
    }
}

/// Whether `pid` is a living postmaster of `cluster`, and not another process that got its number later.
pub fn is_postmaster(pid: Pid, cluster: &Path) -> bool {
    let Some(command_line) = command_line(pid) else {
        return false;
    };
    let mut argument = b" -D ".to_vec();
    argument.extend_from_slice(cluster.as_os_str().as_encoded_bytes());
    argument.push(b' ');
    command_line.windows(argument.len()).any(|window| window == argument)
}

/// The command line of a process, a space behind each argument. Nothing for one that is gone, or dead and not yet
/// reaped by its parent.
#[cfg(target_os = "linux")]
fn command_line(pid: Pid) -> Option<Vec<u8>> {
    let mut line = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).ok()?;
    line.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = b' ');
    Some(line)
}

#[cfg(not(target_os = "linux"))]
fn command_line(pid: Pid) -> Option<Vec<u8>> {
    let pid = pid.as_raw_nonzero().to_string();
    let output = std::process::Command::new("/bin/ps")
        .args(["-ww", "-o", "command=", "-p", &pid])
        .output()
        .ok()?;
    let mut line = output.stdout.trim_ascii_end().to_vec();
    line.push(b' ');
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_process_is_no_postmaster() {
        let this = Pid::from_raw(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(!is_postmaster(this, Path::new("/data/postgres")));
    }
}
