//! Processes of a postmaster that was killed. Until they have ended, they keep the next postmaster from starting. Most end by
//! themselves at once, but a statement that computes, or a process that is stopped, may take hours.

use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

use super::postmaster::running;
#[cfg(target_os = "linux")]
use super::postmaster::{TITLE, command_lines, is_postmaster, works_in};

/// Interval between two checks whether the processes are gone.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How long the processes get to end by themselves, then after a request, then after a kill. Postgres too kills its processes five
/// seconds after the request.
const STEPS: [(Option<Signal>, Duration); 3] = [
    (None, Duration::from_secs(1)),
    (Some(Signal::QUIT), Duration::from_secs(5)),
    (Some(Signal::KILL), Duration::from_secs(2)),
];

/// Ends the processes that a killed postmaster of `cluster` left. The next start recovers as after a crash, so nothing that was
/// committed is lost. Does nothing while a postmaster of `cluster` runs.
pub async fn end(cluster: &Path) {
    for (signal, within) in STEPS {
        let left = left(cluster);
        if left.is_empty() || running(cluster).is_some() {
            return;
        }
        if let Some(signal) = signal {
            tracing::warn!(processes = left.len(), ?signal, "ending processes of a killed Postgres");
            for pid in left {
                // It may have ended meanwhile.
                let _ = kill_process(pid, signal);
            }
        }
        let began = Instant::now();
        while began.elapsed() < within && !self::left(cluster).is_empty() {
            sleep(POLL_INTERVAL).await;
        }
    }
}

/// Postgres's processes work in the cluster's directory and name themselves `postgres: ...`. The children of a postmaster that runs
/// are not left.
#[cfg(target_os = "linux")]
fn left(cluster: &Path) -> Vec<Pid> {
    let is_child = |pid| parent(pid).is_some_and(|parent| is_postmaster(parent, cluster));
    command_lines()
        .filter(|(pid, line)| line.starts_with(TITLE) && works_in(*pid, line, cluster) == Some(true) && !is_child(*pid))
        .map(|(pid, _)| pid)
        .collect()
}

/// The parent of a process: the fourth field of proc_pid_stat(5). The second field, a name in parentheses, may contain spaces.
#[cfg(target_os = "linux")]
fn parent(pid: Pid) -> Option<Pid> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    Pid::from_raw(after_name.split_ascii_whitespace().nth(1)?.parse().ok()?)
}

/// Other systems do not show a process's directory without another program. There, a start waits for these processes.
#[cfg(not(target_os = "linux"))]
fn left(_cluster: &Path) -> Vec<Pid> {
    Vec::new()
}
