//! An instance: everything needed to start a server on the cluster, repeatedly and with the same socket.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, test_kill_process};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::Error;
use super::access::Access;
use super::binaries::Binaries;
use super::cluster::Cluster;
use super::leftover;
use super::log::Log;
use super::pid_file::{PidFile, Status};
use super::ping::{self, Answer};
use super::postmaster::{Ended, FAST_TIMEOUT, Postmaster, may_be_postmaster, running};
use super::run_as::RunAs;
use super::socket_dir::SocketDir;

/// Interval between two checks whether a server is ready.
const POLL_INTERVAL: Duration = Duration::from_millis(25);

/// Interval between two questions to a server that recovers. It starts a process for each.
const ASK_INTERVAL: Duration = Duration::from_millis(100);

/// Interval between two checks of a server that was ready.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// How long a server may run without `postmaster.pid`: it writes the file at its start and removes it at its end.
const PID_FILE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the socket of a server with status ready may be missing. Then it counts as lost.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(3);

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
    /// Its status is ready, but it has no socket: the socket was removed, or is in another /tmp.
    Unreachable,
    /// It is shutting down.
    Stopping,
    /// It is not ready in time.
    Slow,
}

/// The origin of a server. The exit of a server that was taken over says nothing about the next server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Origin {
    /// An earlier certkeep started it.
    TakenOver,
    /// This certkeep started it.
    Launched,
}

impl Instance {
    /// Takes over the server of an earlier certkeep or starts one, and waits up to `within` until it accepts connections. A server
    /// that recovers from a crash is left alone, also if it is not ready in time. If `cancel` ends the wait, a server that this start
    /// launched is stopped, and this waits for its end.
    pub async fn bring_up(
        &mut self,
        within: Duration,
        cancel: &CancellationToken,
    ) -> Result<(Postmaster, Origin), Error> {
        let began = Instant::now();
        let log_start = self.log.end();
        loop {
            let launch_start = self.log.end();
            let running = timeout_at(began + within, self.take_over());
            let running = match cancel.run_until_cancelled(running).await {
                Some(Ok(running)) => running,
                Some(Err(_)) => return Err(self.not_ready(within, log_start)),
                None => return Err(Error::Stopped),
            };
            let (mut postmaster, origin) = match running {
                Some(postmaster) => (postmaster, Origin::TakenOver),
                None => {
                    let ended = cancel.run_until_cancelled(leftover::end(self.cluster.path())).await;
                    ended.ok_or(Error::Stopped)?;
                    (self.launch()?, Origin::Launched)
                }
            };
            let ready = cancel
                .run_until_cancelled(self.ready(&mut postmaster, began + within))
                .await;
            let Some(ready) = ready else {
                if origin == Origin::Launched {
                    self.stop(postmaster).await;
                }
                return Err(Error::Stopped);
            };
            match (ready, origin) {
                (Ok(()), _) => return Ok((postmaster, origin)),
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
                (Err(NotReady::Stopping), _) => postmaster.end_within(FAST_TIMEOUT).await,
                (Err(NotReady::Slow), _) => return Err(self.not_ready(within, log_start)),
            }
        }
    }

    /// Stops a server for good.
    pub async fn stop(&self, mut postmaster: Postmaster) {
        postmaster.stop().await;
        self.remove_socket_dir();
    }

    /// Removes the socket directory. Only for a cluster without a postmaster.
    pub fn remove_socket_dir(&self) {
        if let Err(error) = self.socket_dir.remove() {
            tracing::warn!(%error, "removing the socket directory of Postgres failed");
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
            let Some(file) = PidFile::read(self.cluster.path()) else {
                let pid = running(self.cluster.path())?;
                let mut postmaster = Postmaster::running(pid, self.cluster.path())?;
                postmaster.let_run();
                // It may be about to write the file, or about to end.
                let ended = timeout(PID_FILE_TIMEOUT, postmaster.ended()).await;
                if ended.is_err() && PidFile::read(self.cluster.path()).is_none() {
                    tracing::warn!("stopping a Postgres whose postmaster.pid is lost");
                    postmaster.stop().await;
                }
                continue;
            };
            let recognise = |path| SocketDir::recognise(path, self.cluster.data_dir());
            let socket_dir = file.socket_dir.as_deref().and_then(recognise);
            let Some(mut postmaster) = Postmaster::running(file.pid, self.cluster.path()) else {
                self.forget_socket_dir(socket_dir);
                return None;
            };
            // Do not stop it before its owner is known.
            postmaster.let_run();
            match (file.status, socket_dir) {
                (Status::Stopping, _) => postmaster.end_within(FAST_TIMEOUT).await,
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

    /// Removes a `postmaster.pid` that names no process, or if another process has its pid now: Postgres would mistake any process of
    /// the same user for a postmaster. If the process is dead, the file stays: Postgres needs it for the clean-up.
    fn remove_misleading_pid_file(&self) {
        let Some(file) = PidFile::read(self.cluster.path()) else {
            if running(self.cluster.path()).is_none() {
                PidFile::remove_unreadable(self.cluster.path());
            }
            return;
        };
        if test_kill_process(file.pid).is_ok() && !may_be_postmaster(file.pid, self.cluster.path()) {
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

    /// Asks the server, because its status is not enough: a server whose process crashed recovers with the status ready.
    async fn answers(&self, pid: Option<Pid>) -> Result<(), NotReady> {
        let mut lost_since = None;
        loop {
            match self.status(pid) {
                Some(Status::Ready) => match ping::ask(&self.socket_dir.socket()).await {
                    Answer::Accepts => return Ok(()),
                    Answer::NotNow => {
                        lost_since = None;
                        sleep(ASK_INTERVAL).await;
                    }
                    Answer::NoSocket => {
                        if lost_since.get_or_insert_with(Instant::now).elapsed() > SOCKET_TIMEOUT {
                            return Err(NotReady::Unreachable);
                        }
                    }
                },
                Some(Status::Stopping) => return Err(NotReady::Stopping),
                Some(Status::Starting) | None => {}
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    fn status(&self, pid: Option<Pid>) -> Option<Status> {
        let file = PidFile::read(self.cluster.path())?;
        (Some(file.pid) == pid).then_some(file.status)
    }

    /// Waits until a server that was ready is shutting down or has lost its socket.
    pub async fn failing(&self, pid: Option<Pid>) -> NotReady {
        let mut lost_since = None;
        loop {
            sleep(CHECK_INTERVAL).await;
            if self.status(pid) == Some(Status::Stopping) {
                return NotReady::Stopping;
            }
            // A question would start a process each time.
            if self.socket_dir.has_socket() {
                lost_since = None;
            } else if lost_since.get_or_insert_with(Instant::now).elapsed() >= SOCKET_TIMEOUT {
                return NotReady::Unreachable;
            }
        }
    }
}
