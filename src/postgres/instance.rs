//! An instance: everything that it takes to run a server on the cluster, again and again in the same place.

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

/// How often it is asked whether a server is ready.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// For how long a server that calls itself ready may refuse connections, before its socket counts as lost.
const REFUSES_AT_MOST: Duration = Duration::from_secs(10);

/// How long what is left of a killed server may be in the way: a process of it ends with the statement it is at.
const CLEARS_WITHIN: Duration = Duration::from_secs(60);

/// What Postgres says when another server, or what is left of a killed one, still uses the cluster.
const IN_THE_WAY: [&str; 2] = [
    "pre-existing shared memory block",
    "lock file \"postmaster.pid\" already exists",
];

/// The cluster, the programs that run it, and where its socket and its log are.
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
    /// It ended.
    Ended(Ended),
    /// It calls itself ready, and its socket does not answer: the socket was removed, or lies in a /tmp that is not ours.
    Unreachable,
    /// It takes too long.
    Slow,
}

/// Where a server that is waited for comes from. The end of one that was taken over says nothing about the next.
enum Origin {
    TakenOver,
    Launched,
}

impl Instance {
    /// Takes over the server that an earlier certkeep left, or starts one, and waits up to `within` until it accepts
    /// connections.
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
                    let may_clear = IN_THE_WAY.iter().any(|sign| tail.contains(sign));
                    if !may_clear || began.elapsed() > CLEARS_WITHIN {
                        return Err(Error::Died {
                            log: self.log.path().to_path_buf(),
                            tail,
                        });
                    }
                    sleep(Duration::from_millis(200)).await;
                }
                (Err(NotReady::Unreachable), _) => {
                    tracing::warn!("the socket of Postgres is lost, Postgres is started anew");
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

    /// The server that runs on the cluster, if there is one with a socket that can be ours. One that is shutting down,
    /// or has its socket elsewhere, is seen to its end.
    async fn take_over(&mut self) -> Option<Postmaster> {
        loop {
            let file = PidFile::read(self.cluster.path())?;
            let recognise = |path| SocketDir::recognise(path, self.cluster.data_dir());
            let socket_dir = file.socket_dir.as_deref().and_then(recognise);
            let Some(mut postmaster) = Postmaster::running(file.pid, self.cluster.path()) else {
                self.forget_socket_dir(socket_dir);
                return None;
            };
            // Until it is known whose it is, it is left alone.
            postmaster.let_run();
            match (file.status, socket_dir) {
                (Status::Stopping, _) => {
                    postmaster.ended().await;
                }
                (Status::Starting, None) if file.socket_dir.is_none() => sleep(LOOK_EVERY).await,
                (_, None) => {
                    tracing::warn!(pid = %file.pid, "a Postgres that certkeep did not start uses its data and is stopped");
                    postmaster.stop().await;
                }
                (_, Some(socket_dir)) => {
                    tracing::info!(pid = %file.pid, "takes over the running Postgres");
                    self.socket_dir = socket_dir;
                    return Some(postmaster);
                }
            }
        }
    }

    /// Removes the socket directory of a server that was killed, unless it is the one that will be made anew.
    fn forget_socket_dir(&self, left: Option<SocketDir>) {
        let Some(left) = left.filter(|left| left.path() != self.socket_dir.path()) else {
            return;
        };
        if let Err(error) = left.remove() {
            tracing::warn!(path = %left.path().display(), %error, "the socket directory of an earlier Postgres stays");
        }
    }

    /// Starts a server, with its socket in the same directory as the one before.
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

    /// Removes a `postmaster.pid` whose number another process has by now: Postgres takes any living process of the
    /// same user for a postmaster. One whose process is dead is left to Postgres, which learns from it what to clean up.
    fn remove_misleading_pid_file(&self) {
        let Some(file) = PidFile::read(self.cluster.path()) else {
            return;
        };
        if test_kill_process(file.pid).is_ok() && !is_postmaster(file.pid, self.cluster.path()) {
            let path = PidFile::path(self.cluster.path());
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "the file of an earlier Postgres stays");
            }
        }
    }

    /// Waits until `postmaster` accepts connections. Then, and when it is only slow, it may run on without this process.
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

    /// The status comes first: a server that recovers from a crash accepts connections too, and turns them away.
    async fn answers(&self, pid: Option<Pid>) -> Result<(), NotReady> {
        let mut ready_since = None;
        loop {
            let file = PidFile::read(self.cluster.path()).filter(|file| Some(file.pid) == pid);
            if file.is_some_and(|file| file.status == Status::Ready) {
                if UnixStream::connect(self.socket_dir.socket()).await.is_ok() {
                    return Ok(());
                }
                if ready_since.get_or_insert_with(Instant::now).elapsed() > REFUSES_AT_MOST {
                    return Err(NotReady::Unreachable);
                }
            }
            sleep(LOOK_EVERY).await;
        }
    }
}
