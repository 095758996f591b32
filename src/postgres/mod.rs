//! The private Postgres. certkeep finds, initialises, starts, watches and stops it.
//!
//! The data directory contains `lock`, the cluster `postgres/`, `socket/` (or a directory in /tmp if the path would be too
//! long), `pg_hba.conf` and `pg_ident.conf` (written at every start), `postgres.log` and `postgres.log.1`. If certkeep runs as
//! root, the cluster and the socket belong to the user that runs Postgres, and the rest to root.

mod access;
mod binaries;
mod cluster;
mod data_dir;
mod error;
mod instance;
mod leftover;
mod log;
mod pid_file;
mod ping;
mod postmaster;
mod run_as;
mod socket_dir;
mod supervisor;
#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use self::cluster::has_cluster;
pub use self::data_dir::DataDir;
pub use self::error::Error;

use self::access::Access;
use self::binaries::{Binaries, Wanted};
use self::cluster::Cluster;
use self::instance::{Instance, Origin};
use self::log::Log;
use self::postmaster::{FAST_TIMEOUT, IMMEDIATE_TIMEOUT};
use self::run_as::RunAs;
use self::socket_dir::SocketDir;
use self::supervisor::{Stop, supervise};

/// How long a start waits until the server is ready. The recovery after a crash can be slow.
pub const READY_WITHIN: Duration = Duration::from_secs(300);

/// The longest time that a server needs to stop: a fast shutdown, then an immediate one.
pub const STOP_WITHIN: Duration = FAST_TIMEOUT.saturating_add(IMMEDIATE_TIMEOUT);

/// The operator's settings of the private Postgres.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Directory of `postgres` and `initdb` (`--postgres-bin`). Default: certkeep searches for them.
    pub bin_dir: Option<PathBuf>,
    /// User that runs Postgres if certkeep runs as root (`--postgres-user`). Default: `postgres`.
    pub user: Option<String>,
}

/// A running Postgres of this certkeep. If Postgres dies, it is restarted. If it dies repeatedly, the pauses before a restart
/// grow.
///
/// If this is dropped without [`stop`](Self::stop), Postgres keeps running without supervision, as after a kill of certkeep. The
/// next [`start`](Self::start) on its data takes it over.
#[derive(Debug)]
pub struct PrivatePostgres {
    socket_dir: PathBuf,
    version: String,
    is_new: bool,
    origin: Origin,
    stop: oneshot::Sender<Stop>,
    supervisor: JoinHandle<()>,
}

impl PrivatePostgres {
    /// The database, owned by [`OWNER_ROLE`](Self::OWNER_ROLE).
    pub const DATABASE: &str = access::DATABASE;
    /// The role that serves, not a superuser. Peer authentication on the unix socket maps the user that runs certkeep to it, so
    /// there is no password.
    pub const ROLE: &str = access::ROLE;
    /// The role that owns the tables, not a superuser. It has no password either.
    pub const OWNER_ROLE: &str = access::OWNER_ROLE;
    /// The number in the name of the unix socket. There is no TCP port.
    pub const PORT: u16 = access::PORT;

    /// Finds PostgreSQL, creates a cluster if `data_dir` has none, takes over the server of a killed certkeep or starts one, and
    /// waits until it accepts connections.
    ///
    /// `path` is the PATH of the environment. `data_dir` must stay locked until the server is stopped. If the future is dropped
    /// early, no process that it started keeps running. After `cancel`, this stops a Postgres that it launched and waits for its end,
    /// within [`STOP_WITHIN`]. A Postgres that it took over keeps running.
    ///
    /// # Errors
    /// See [`Error`]. Each message says what to do.
    pub async fn start(
        data_dir: &DataDir,
        settings: &Settings,
        path: Option<&OsStr>,
        cancel: &CancellationToken,
    ) -> Result<Self, Error> {
        let prepared = cancel.run_until_cancelled(Self::prepare(data_dir.path(), settings, path));
        let (mut instance, is_new) = prepared.await.ok_or(Error::Stopped)??;
        let version = instance.binaries.version().to_owned();
        let (postmaster, origin) = instance.bring_up(READY_WITHIN, cancel).await?;
        let socket_dir = instance.socket_dir.path().to_path_buf();
        let (stop, stopped) = oneshot::channel();
        let supervisor = tokio::spawn(supervise(instance, postmaster, stopped));
        Ok(Self {
            socket_dir,
            version,
            is_new,
            origin,
            stop,
            supervisor,
        })
    }

    /// Everything to start a server, with a cluster, which is created if `data_dir` has none. And whether it was created.
    async fn prepare(data_dir: &Path, settings: &Settings, path: Option<&OsStr>) -> Result<(Instance, bool), Error> {
        let run_as = RunAs::resolve(settings.user.as_deref(), path).await?;
        run_as.check_access(data_dir).await?;
        let cluster = Cluster::of(data_dir);
        let major = cluster.major()?;
        let wanted = major.map_or(Wanted::Any, |major| Wanted::Major(major, cluster.path()));
        let binaries = Binaries::find(settings.bin_dir.as_deref(), path, wanted, &run_as).await?;
        cluster.remove_unfinished();
        if major.is_none() {
            cluster.make(&binaries, &run_as).await?;
        }
        let (access, log) = (Access::of(data_dir), Log::of(data_dir));
        let socket_dir = SocketDir::choose(data_dir)?;
        let instance = Instance {
            cluster,
            binaries,
            run_as,
            access,
            socket_dir,
            log,
        };
        Ok((instance, major.is_none()))
    }

    /// The directory of the unix socket: the host for a client. It does not change.
    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// The version of PostgreSQL, like `15.18`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Whether this start created the cluster.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Stops a Postgres that this start brought up. A Postgres that was taken over keeps running without supervision: it may be in
    /// the middle of a recovery, and a start that fails for another reason is no reason to end it.
    pub async fn abandon(self) {
        match self.origin {
            Origin::Launched => self.stop().await,
            Origin::TakenOver => tracing::info!("Postgres, which was taken over, keeps running"),
        }
    }

    /// Stops Postgres and waits for its end. Open connections are closed, committed data is on disk. This usually takes a
    /// fraction of a second, and at most a minute.
    pub async fn stop(self) {
        // Only this message ends the supervisor.
        let _ = self.stop.send(Stop);
        if let Err(error) = self.supervisor.await {
            tracing::error!(%error, "the supervisor of Postgres failed");
        }
    }
}
