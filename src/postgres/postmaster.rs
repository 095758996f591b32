//! The postmaster: Postgres's first process, the parent of all others.

use std::fmt;
#[cfg(target_os = "linux")]
use std::fs;
#[cfg(target_os = "linux")]
use std::io;
#[cfg(target_os = "linux")]
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
#[cfg(target_os = "linux")]
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;
use tokio::time::{sleep, timeout};

/// Ends each argument of a command line.
#[cfg(target_os = "linux")]
const SEPARATOR: u8 = 0;
#[cfg(not(target_os = "linux"))]
const SEPARATOR: u8 = b' ';

/// The beginning of the command line of a postmaster's children.
pub const TITLE: &[u8] = b"postgres: ";

/// Interval between two checks whether a postmaster that is not our child is still alive.
const POLL_INTERVAL: Duration = Duration::from_millis(300);

/// Time limit of a fast shutdown: it ends the sessions and writes memory to disk. systemd gives a service 90 seconds.
pub const FAST_TIMEOUT: Duration = Duration::from_secs(if cfg!(test) { 12 } else { 45 });

/// Time limit of an immediate shutdown: Postgres kills its own processes after five seconds.
pub const IMMEDIATE_TIMEOUT: Duration = Duration::from_secs(10);

/// A postmaster that was alive when this value was created.
///
/// If this is dropped before [`let_run`](Self::let_run), the postmaster gets a signal to shut down, for example after Ctrl-C
/// during a long recovery.
#[derive(Debug)]
pub struct Postmaster {
    process: Process,
    when_dropped: WhenDropped,
}

#[derive(Debug)]
enum Process {
    /// This process started it.
    Child(Child),
    /// An earlier certkeep started it.
    TakenOver { pid: Pid, cluster: PathBuf },
}

#[derive(Debug, Eq, PartialEq)]
enum WhenDropped {
    Interrupt,
    RunOn,
}

/// The exit status of a postmaster. Unknown if it was not our child.
#[derive(Debug)]
pub struct Ended(Option<ExitStatus>);

impl Postmaster {
    /// A postmaster that was just started.
    pub fn child(child: Child) -> Self {
        Self {
            process: Process::Child(child),
            when_dropped: WhenDropped::Interrupt,
        }
    }

    /// The postmaster of `cluster` from an earlier certkeep. `None` if `pid` is another process.
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

    /// From now on, the postmaster keeps running when this is dropped, and the next certkeep takes it over.
    pub fn let_run(&mut self) {
        self.when_dropped = WhenDropped::RunOn;
    }

    /// Its process id. `None` after its exit.
    pub fn pid(&self) -> Option<Pid> {
        match &self.process {
            Process::Child(child) => child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)),
            Process::TakenOver { pid, cluster } => is_postmaster(*pid, cluster).then_some(*pid),
        }
    }

    /// Waits for its exit. The future may be dropped and this called again.
    pub async fn ended(&mut self) -> Ended {
        match &mut self.process {
            // Waiting for our child fails only after it has been reaped.
            Process::Child(child) => Ended(child.wait().await.ok()),
            Process::TakenOver { pid, cluster } => {
                while is_postmaster(*pid, cluster) {
                    sleep(POLL_INTERVAL).await;
                }
                Ended(None)
            }
        }
    }

    /// Stops it and waits for its exit: first with a fast shutdown, then with an immediate shutdown.
    pub async fn stop(&mut self) {
        self.let_run();
        self.signal(Signal::INT);
        self.end_within(FAST_TIMEOUT).await;
    }

    /// Waits for the exit of a server that is shutting down, and shuts it down immediately after `limit`. A fast shutdown that
    /// arrives during a recovery can hang forever. After an immediate shutdown, the next start recovers as after a crash.
    pub async fn end_within(&mut self, limit: Duration) {
        if timeout(limit, self.ended()).await.is_ok() {
            return;
        }
        tracing::warn!(
            seconds = limit.as_secs(),
            "Postgres did not shut down in time; shutting it down immediately"
        );
        self.signal(Signal::QUIT);
        if timeout(IMMEDIATE_TIMEOUT, self.ended()).await.is_err() {
            tracing::error!("Postgres does not stop; the next start takes it over");
        }
    }

    fn signal(&self, signal: Signal) {
        let Some(pid) = self.pid() else { return };
        if let Err(error) = kill_process(pid, signal) {
            tracing::warn!(%error, "sending a signal to Postgres failed");
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

/// Whether `pid`, which `postmaster.pid` names, is a running postmaster of `cluster`, and not another process with the same pid. If
/// the system does not show where the process works, its argument `-D` decides.
pub fn is_postmaster(pid: Pid, cluster: &Path) -> bool {
    command_line(pid).is_some_and(|line| {
        is_server(&line) && works_in(pid, &line, cluster).unwrap_or_else(|| names_cluster(&line, cluster))
    })
}

/// Whether `pid` is a running postmaster of `cluster`, or a postmaster of which the system does not show where it works.
pub fn may_be_postmaster(pid: Pid, cluster: &Path) -> bool {
    command_line(pid).is_some_and(|line| is_server(&line) && works_in(pid, &line, cluster).unwrap_or(true))
}

/// Whether the command line is that of a postmaster. A single-user server has no postmaster.
fn is_server(line: &[u8]) -> bool {
    let program = line.split(|&byte| byte == SEPARATOR).next().unwrap_or_default();
    let name = program.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    let is_single = contains(line, &[&[SEPARATOR], &b"--single"[..], &[SEPARATOR]].concat());
    (name == b"postgres" || name == b"postmaster") && !program.starts_with(TITLE) && !is_single
}

fn names_cluster(line: &[u8], cluster: &Path) -> bool {
    let (option, cluster) = (b"-D", cluster.as_os_str().as_encoded_bytes());
    contains(
        line,
        &[&[SEPARATOR], &option[..], &[SEPARATOR], cluster, &[SEPARATOR]].concat(),
    )
}

/// Whether a process works in the directory of `cluster`, as a postmaster and its children do. `None` if this process may not know.
#[cfg(target_os = "linux")]
pub fn works_in(pid: Pid, _line: &[u8], cluster: &Path) -> Option<bool> {
    let Ok(cluster) = fs::metadata(cluster) else {
        return Some(false);
    };
    let process = format!("/proc/{}", pid.as_raw_nonzero());
    match fs::metadata(format!("{process}/cwd")) {
        Ok(dir) => Some((dir.dev(), dir.ino()) == (cluster.dev(), cluster.ino())),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            // Postgres runs as the owner of its cluster.
            let may_be_ours = fs::metadata(process).is_ok_and(|process| process.uid() == cluster.uid());
            if may_be_ours && !HIDDEN.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    %pid,
                    "the directory of a PostgreSQL process cannot be read, so certkeep does not repair what a crash left: run certkeep \
                     as the user that runs PostgreSQL, or with CAP_SYS_PTRACE"
                );
            }
            None
        }
        Err(_) => Some(false),
    }
}

/// Other systems do not show a process's directory without another program.
#[cfg(not(target_os = "linux"))]
pub fn works_in(_pid: Pid, line: &[u8], cluster: &Path) -> Option<bool> {
    Some(names_cluster(line, cluster))
}

/// Whether the log says that the directory of a process cannot be read.
#[cfg(target_os = "linux")]
static HIDDEN: AtomicBool = AtomicBool::new(false);

fn contains(line: &[u8], part: &[u8]) -> bool {
    line.windows(part.len()).any(|window| window == part)
}

/// A running postmaster of `cluster`. For a cluster whose `postmaster.pid` is missing or cannot be read.
pub fn running(cluster: &Path) -> Option<Pid> {
    let mut all = command_lines();
    all.find(|(pid, line)| is_server(line) && works_in(*pid, line, cluster) == Some(true))
        .map(|(pid, _)| pid)
}

/// All processes of this machine, with their command lines.
#[cfg(target_os = "linux")]
pub fn command_lines() -> impl Iterator<Item = (Pid, Vec<u8>)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
        Some((pid, command_line(pid)?))
    })
}

#[cfg(not(target_os = "linux"))]
pub fn command_lines() -> impl Iterator<Item = (Pid, Vec<u8>)> {
    let output = std::process::Command::new("/bin/ps")
        .args(["-axww", "-o", "pid=,command="])
        .output();
    let output = output.map(|output| output.stdout).unwrap_or_default();
    let lines: Vec<_> = output.split(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
    lines.into_iter().filter_map(|line| {
        let line = line.trim_ascii();
        let end = line.iter().position(|&byte| byte == b' ')?;
        let pid = Pid::from_raw(std::str::from_utf8(&line[..end]).ok()?.parse().ok()?)?;
        let mut command = line[end..].trim_ascii().to_vec();
        command.push(b' ');
        Some((pid, command))
    })
}

/// The command line of a process, with [`SEPARATOR`] after each argument. `None` if the process is gone. Empty if it is dead and not
/// yet reaped by its parent.
#[cfg(target_os = "linux")]
fn command_line(pid: Pid) -> Option<Vec<u8>> {
    fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).ok()
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
    fn another_process_is_not_a_postmaster() {
        let this = Pid::from_raw(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(!is_postmaster(this, Path::new("/data/postgres")));
    }

    #[test]
    fn postmasters_are_told_from_their_children_and_from_single_user_servers() {
        let line = |arguments: &[&str]| {
            let ended = arguments
                .iter()
                .flat_map(|argument| [argument.as_bytes(), &[SEPARATOR]]);
            ended.collect::<Vec<_>>().concat()
        };
        for postmaster in [
            &["/usr/bin/postgres", "-D", "/data"][..],
            &["postgres"],
            &["postmaster"],
        ] {
            assert!(is_server(&line(postmaster)), "{postmaster:?}");
        }
        let others = [
            &["postgres: certkeep a/postgres"][..],
            &["/usr/bin/postgres", "--single", "-D", "/data"],
            &["/usr/bin/pg_ctl", "-D", "/data", "postgres"],
            &[],
        ];
        for other in others {
            assert!(!is_server(&line(other)), "{other:?}");
        }
    }

    /// A process with the command line of a postmaster of `cluster`, that works in `dir`.
    #[cfg(target_os = "linux")]
    fn pretender(arguments: &[&str], dir: &Path) -> std::process::Child {
        use std::os::unix::process::CommandExt;
        let process = std::process::Command::new("/bin/sh")
            .arg0("/usr/bin/postgres")
            .args(["-c", "read -r end"])
            .args(arguments)
            .current_dir(dir)
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // The kernel reports the start of a program a moment before its arguments can be read.
        while std::fs::read(format!("/proc/{}/cmdline", process.id()))
            .unwrap()
            .is_empty()
        {
            std::thread::yield_now();
        }
        process
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_postmaster_works_in_its_cluster_whatever_its_arguments_say() {
        let (cluster, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = cluster.path();
        for (dir, arguments, expected) in [
            (elsewhere.path(), &["-D", path.to_str().unwrap()][..], false),
            (path, &[], true),
        ] {
            let mut process = pretender(arguments, dir);
            let pid = Pid::from_raw(i32::try_from(process.id()).unwrap()).unwrap();
            let found = (running(path), is_postmaster(pid, path), may_be_postmaster(pid, path));
            process.kill().unwrap();
            process.wait().unwrap();
            assert_eq!(found, (expected.then_some(pid), expected, expected));
        }
    }
}
