//! The private Postgres: found, initialised, started, watched and stopped by certkeep.
//!
//! The data directory holds `lock`, the cluster `postgres/`, `socket/` (or a directory below /tmp where its path would
//! be too long), `pg_hba.conf` and `pg_ident.conf` (written at every start), `postgres.log` and `postgres.log.1`. When
//! certkeep is root, cluster and socket belong to the user that runs Postgres, and the rest to root.

mod access;
mod binaries;
mod cluster;
mod data_dir;
mod error;
mod instance;
mod log;
mod pid_file;
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

pub use self::data_dir::DataDir;
pub use self::error::Error;

use self::access::Access;
use self::binaries::{Binaries, Wanted};
use self::cluster::Cluster;
use self::instance::Instance;
use self::log::Log;
use self::run_as::RunAs;
use self::socket_dir::SocketDir;
use self::supervisor::{Stop, supervise};

/// How long a start waits for a server to be ready: a recovery after a crash takes its time.
pub const READY_WITHIN: Duration = Duration::from_secs(300);

/// What an operator may say about the private Postgres.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The directory of `postgres` and `initdb` (`--postgres-bin`). Default: they are looked for.
    pub bin_dir: Option<PathBuf>,
    /// The user that runs Postgres when certkeep runs as root (`--postgres-user`). Default: `postgres`.
    pub user: Option<String>,
}

/// A Postgres that belongs to this certkeep, and runs as long as this is not stopped: whenever it dies it is started
/// again, with growing pauses when it dies again and again.
///
/// Dropped without [`stop`](Self::stop), as by a certkeep that is killed, it is no longer watched and runs on; the
/// next [`start`](Self::start) on its data takes it over.
#[derive(Debug)]
pub struct PrivatePostgres {
    socket_dir: PathBuf,
    version: String,
    is_new: bool,
    stop: oneshot::Sender<Stop>,
    supervisor: JoinHandle<()>,
}

impl PrivatePostgres {
    /// The database, owned by [`ROLE`](Self::ROLE).
    pub const DATABASE: &str = access::DATABASE;
    /// The role to connect as. The unix socket's peer authentication knows it by the user that runs certkeep, so
    /// there is no password. It is no superuser.
    pub const ROLE: &str = access::ROLE;
    /// The number in the name of the unix socket. There is no TCP port.
    pub const PORT: u16 = access::PORT;

    /// Finds PostgreSQL, makes a cluster when `data_dir` has none, takes over the server that a killed certkeep left
    /// or starts one, and waits until it accepts connections.
    ///
    /// `path` is the PATH of the environment. `data_dir` must stay locked until the server is stopped. Dropped
    /// before it is done, this leaves nothing running that it started.
    ///
    /// # Errors
    /// Each says what to do, see [`Error`].
    pub async fn start(data_dir: &DataDir, settings: &Settings, path: Option<&OsStr>) -> Result<Self, Error> {
        let data_dir = data_dir.path();
        let run_as = RunAs::resolve(settings.user.as_deref(), path).await?;
        run_as.check_way(data_dir).await?;
        let cluster = Cluster::of(data_dir);
        let major = cluster.major()?;
        let wanted = major.map_or(Wanted::Any, |major| Wanted::Major(major, cluster.path()));
        let binaries = Binaries::find(settings.bin_dir.as_deref(), path, wanted, &run_as).await?;
        cluster.remove_unfinished();
        if major.is_none() {
            cluster.make(&binaries, &run_as).await?;
        }
        let version = binaries.version().to_owned();
        let (access, log) = (Access::of(data_dir), Log::of(data_dir));
        let socket_dir = SocketDir::choose(data_dir)?;
        let mut instance = Instance {
            cluster,
            binaries,
            run_as,
            access,
            socket_dir,
            log,
        };
        let postmaster = instance.bring_up(READY_WITHIN).await?;
        let socket_dir = instance.socket_dir.path().to_path_buf();
        let (stop, stopped) = oneshot::channel();
        let supervisor = tokio::spawn(supervise(instance, postmaster, stopped));
        Ok(Self {
            socket_dir,
            version,
            is_new: major.is_none(),
            stop,
            supervisor,
        })
    }

    /// The directory of the unix socket, to be given to a client as its host. It stays the same as long as this lives.
    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// The version of PostgreSQL, like `15.18`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Whether the cluster was made by this very start.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Ends Postgres and waits for that: open connections are cut, what was committed is on disk. Takes up to a
    /// minute when a shutdown is slow, commonly a fraction of a second.
    pub async fn stop(self) {
        // The supervisor ends only through this message.
        let _ = self.stop.send(Stop);
        if let Err(error) = self.supervisor.await {
            tracing::error!(%error, "the supervisor of Postgres failed");
        }
    }
}
