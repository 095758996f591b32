//! An instance: everything needed to start a server on the cluster, repeatedly and with the same socket.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, test_kill_process};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::Error;
use super::access::Access;
use super::binaries::Binaries;
use super::cluster::Cluster;
use super::log::Log;
use super::pid_file::{PidFile, Status};
use super::postmaster::{Ended, Postmaster, is_postmaster};
use super::run_as::RunAs;
use super::socket_dir::SocketDir;

/// Interval between two checks whether a server is ready.
const POLL_INTERVAL: Duration = Duration::from_millis(25);

/// How long a server with status ready may refuse connections. Then its socket counts as lost.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(10);

/// How long processes of a killed server may block a start. Each ends with its current statement.
const LEFTOVER_TIMEOUT: Duration = Duration::from_secs(60);

/// Messages of Postgres if another server, or a process of a killed server, still uses the cluster.
const CLUSTER_IN_USE: [&str; 2] = [
    "pre-existing shared memory block",
    "lock file \"postmaster.pid\" already exists",
];

/// The cluster, its programs, its socket and its log.
#[derive(Debug)]
pub struct Instance {
    pub cluster: Cluster,
    pub binaries: Binaries,
    pub run_as: RunAs,
    pub access: Access,
    pub socket_dir: SocketDir,
    pub log: Log,
}

/// Why a server is not ready.
#[derive(Debug)]
pub enum NotReady {
    /// It exited.
    Ended(Ended),
    /// Its status is ready, but its socket does not answer: the socket was removed, or is in another /tmp.
    Unreachable,
    /// It is not ready in time.
    Slow,
}

/// The origin of a server. The exit of a server that was taken over says nothing about the next server.
enum Origin {
    TakenOver,
    Launched,
}

impl Instance {
    /// Takes over the server of an earlier certkeep or starts one, and waits up to `within` until it accepts connections.
    pub async fn bring_up(&mut self, within: Duration) -> Result<Postmaster, Error> {
        let began = Instant::now();
        let log_start = self.log.end();
        loop {
            let launch_start = self.log.end();
            let Ok(running) = timeout_at(began + within, self.take_over()).await else {
                return Err(self.not_ready(within, log_start));
            };
            let (mut postmaster, origin) = match running {
                Some(postmaster) => (postmaster, Origin::TakenOver),
                None => (self.launch()?, Origin::Launched),
            };
            match (self.ready(&mut postmaster, began + within).await, origin) {
                (Ok(()), _) => return Ok(postmaster),
                (Err(NotReady::Ended(_)), Origin::TakenOver) => {}
                (Err(NotReady::Ended(_)), Origin::Launched) => {
                    let tail = self.log.tail(launch_start);
                    let may_resolve = CLUSTER_IN_USE.iter().any(|sign| tail.contains(sign));
                    if !may_resolve || began.elapsed() > LEFTOVER_TIMEOUT {
                        return Err(Error::Died {
                            log: self.log.path().to_path_buf(),
                            tail,
                        });
                    }
                    sleep(Duration::from_millis(200)).await;
                }
                (Err(NotReady::Unreachable), _) => {
                    tracing::warn!("the socket of Postgres is lost; restarting Postgres");
                    postmaster.stop().await;
                }
                (Err(NotReady::Slow), _) => return Err(self.not_ready(within, log_start)),
            }
        }
    }

    fn not_ready(&self, within: Duration, log_start: u64) -> Error {
        let (log, tail) = (self.log.path().to_path_buf(), self.log.tail(log_start));
        Error::NotReady {
            seconds: within.as_secs(),
            log,
            tail,
        }
    }

    /// The running server on the cluster, if its socket can belong to this data directory. This waits for the end of a server that
    /// is shutting down, and stops a server with another socket directory.
    async fn take_over(&mut self) -> Option<Postmaster> {
        loop {
            let file = PidFile::read(self.cluster.path())?;
            let recognise = |path| SocketDir::recognise(path, self.cluster.data_dir());
            let socket_dir = file.socket_dir.as_deref().and_then(recognise);
            let Some(mut postmaster) = Postmaster::running(file.pid, self.cluster.path()) else {
                self.forget_socket_dir(socket_dir);
                return None;
            };
            // Do not stop it before its owner is known.
            postmaster.let_run();
            match (file.status, socket_dir) {
                (Status::Stopping, _) => {
                    postmaster.ended().await;
                }
                (Status::Starting, None) if file.socket_dir.is_none() => sleep(POLL_INTERVAL).await,
                (_, None) => {
                    tracing::warn!(pid = %file.pid, "stopping a Postgres that uses the data but was not started by certkeep");
                    postmaster.stop().await;
                }
                (_, Some(socket_dir)) => {
                    tracing::info!(pid = %file.pid, "taking over the running Postgres");
                    self.socket_dir = socket_dir;
                    return Some(postmaster);
                }
            }
        }
    }

    /// Removes the socket directory of a killed server, unless the next server uses the same directory.
    fn forget_socket_dir(&self, left: Option<SocketDir>) {
        let Some(left) = left.filter(|left| left.path() != self.socket_dir.path()) else {
            return;
        };
        if let Err(error) = left.remove() {
            tracing::warn!(path = %left.path().display(), %error, "removing the socket directory of an earlier Postgres failed");
        }
    }

    /// Starts a server with its socket in the same directory as before.
    pub fn launch(&self) -> Result<Postmaster, Error> {
        self.remove_misleading_pid_file();
        self.access.write(&self.run_as)?;
        self.socket_dir.make(&self.run_as)?;
        let log = self.log.open()?;
        let program = self.binaries.postgres();
        let child = self
            .run_as
            .command(&program)
            .args(self.access.arguments(self.cluster.path(), self.socket_dir.path()))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(Error::program(program))?;
        Ok(Postmaster::child(child))
    }

    /// Removes a `postmaster.pid` if another process has its pid now: Postgres would mistake any process of the same user for a
    /// postmaster. If the process is dead, the file stays: Postgres needs it for the clean-up.
    fn remove_misleading_pid_file(&self) {
        let Some(file) = PidFile::read(self.cluster.path()) else {
            return;
        };
        if test_kill_process(file.pid).is_ok() && !is_postmaster(file.pid, self.cluster.path()) {
            let path = PidFile::path(self.cluster.path());
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "removing postmaster.pid of an earlier Postgres failed");
            }
        }
    }

    /// Waits until `postmaster` accepts connections. After success, or if it is only slow, it may outlive this process.
    pub async fn ready(&self, postmaster: &mut Postmaster, deadline: Instant) -> Result<(), NotReady> {
        let pid = postmaster.pid();
        let outcome = tokio::select! {
            ended = postmaster.ended() => Err(NotReady::Ended(ended)),
            outcome = self.answers(pid) => outcome,
            () = sleep_until(deadline) => Err(NotReady::Slow),
        };
        if matches!(outcome, Ok(()) | Err(NotReady::Slow)) {
            postmaster.let_run();
        }
        outcome
    }

    /// Checks the status first: during crash recovery, a server accepts connections and then rejects them.
    async fn answers(&self, pid: Option<Pid>) -> Result<(), NotReady> {
        let mut ready_since = None;
        loop {
            let file = PidFile::read(self.cluster.path()).filter(|file| Some(file.pid) == pid);
            if file.is_some_and(|file| file.status == Status::Ready) {
                if UnixStream::connect(self.socket_dir.socket()).await.is_ok() {
                    return Ok(());
                }
                if ready_since.get_or_insert_with(Instant::now).elapsed() > SOCKET_TIMEOUT {
                    return Err(NotReady::Unreachable);
                }
            }
            sleep(POLL_INTERVAL).await;
        }
    }
}
