//! Opens the configured database: the private Postgres or the operator's own, migrated, and its key ring.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::app::{self, App, BootstrapError, FirstAccount, KeyRingMismatch, RecoveredKey, Recovery, Verification};
use crate::config::{DatabaseConfig, DatabaseSource};
use crate::postgres::{self, DataDir, PrivatePostgres};
use crate::seal::{KeyRing, KeyRingError};
use crate::secret::{Existing, PrivateFileError, check_private_directory};
use crate::store::{self, MigrateError, Settings, SettingsError, Store};
use crate::telemetry::{causes, metrics};

/// How long a command waits for a database that does not accept writes. The service waits until it is stopped.
const COMMAND_WAIT: Duration = Duration::from_secs(30);
/// The pause between two attempts to use a database.
const PAUSE: Duration = Duration::from_secs(1);
/// While the service waits for its database, the log says so this often.
const LOG_PAUSE: Duration = Duration::from_secs(600);
/// The pause before the log tells another cause.
const NEW_CAUSE_PAUSE: Duration = Duration::from_secs(10);

/// Why the database can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The private Postgres did not start.
    #[error(transparent)]
    Postgres(#[from] postgres::Error),
    /// The data directory has no private PostgreSQL.
    #[error("{0} has no private PostgreSQL: see data_dir and database_url")]
    ClusterAbsent(PathBuf),
    /// The database URL can't be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Other users may write to the data directory.
    #[error(transparent)]
    DataDir(#[from] PrivateFileError),
    /// The schema can't be used.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    /// The key ring can't be used.
    #[error(transparent)]
    KeyRing(#[from] KeyRingError),
    /// The key ring and the database do not belong together.
    #[error(transparent)]
    KeyRingMismatch(#[from] KeyRingMismatch),
    /// The first account could not be created.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The database is a standby or read-only.
    #[error("the database is a standby or read-only")]
    ReadOnly,
    /// The database did not accept writes within the time of a command.
    #[error(
        "the database did not accept writes within {seconds} s ({cause}): start it or promote its standby, and repeat the command"
    )]
    Away {
        /// How long the command waited.
        seconds: u64,
        /// Why the last attempt failed.
        cause: String,
    },
    /// The service was stopped before its database accepted writes.
    #[error("stopped while waiting for the database")]
    Stopped,
}

impl DatabaseError {
    /// Whether the state of the database causes the error, so that a later attempt may succeed.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Migrate(MigrateError::Store(error))
            | Self::KeyRingMismatch(KeyRingMismatch::Store(error))
            | Self::Bootstrap(BootstrapError::Store(error))
            | Self::Store(error) => error.may_pass(),
            Self::ReadOnly => true,
            _ => false,
        }
    }
}

/// An open database.
pub struct Database {
    store: Store,
    config: DatabaseConfig,
    private: Option<Private>,
    migrated: usize,
}

struct Private {
    postgres: PrivatePostgres,
    // Held until Postgres is stopped.
    _data_dir: DataDir,
}

impl Database {
    /// Opens the database for a command: starts the private Postgres if it is configured, and migrates the schema. Waits 30 seconds
    /// for a database that does not accept writes.
    pub async fn open(config: &DatabaseConfig, path_env: Option<&OsStr>) -> Result<Self, DatabaseError> {
        let mut database = Self::start(config, path_env, &CancellationToken::new(), false).await?;
        let mut wait = Wait::of_command();
        while let Err(error) = database.migrate().await {
            if let Err(error) = wait.after(error, &database).await {
                database.abandon().await;
                return Err(error);
            }
        }
        Ok(database)
    }

    /// Migrates the schema, unless the database is a standby or read-only.
    pub(super) async fn migrate(&mut self) -> Result<(), DatabaseError> {
        if self.store.access().await? != store::Access::ReadsAndWrites {
            return Err(DatabaseError::ReadOnly);
        }
        self.migrated = self.store.migrate().await?;
        Ok(())
    }

    /// Reads the key ring and opens the database as it is. Creates no ring and no cluster, and migrates nothing.
    pub async fn open_unchanged(
        config: &DatabaseConfig,
        path_env: Option<&OsStr>,
    ) -> Result<(Self, KeyRing), DatabaseError> {
        let key_ring = KeyRing::read(&config.key_ring, &config.key_providers).await?;
        if matches!(config.source, DatabaseSource::Private { .. }) && !postgres::has_cluster(&config.data_dir)? {
            return Err(DatabaseError::ClusterAbsent(config.data_dir.clone()));
        }
        let database = Self::start(config, path_env, &CancellationToken::new(), false).await?;
        Ok((database, key_ring))
    }

    /// Starts the private Postgres if it is configured. Asks a database nothing, and migrates nothing. `cancel` ends the start: see
    /// [`PrivatePostgres::start`]. Only the service remembers the timeline of its database: a command may be given a restored copy.
    pub async fn start(
        config: &DatabaseConfig,
        path_env: Option<&OsStr>,
        cancel: &CancellationToken,
        remembers_timeline: bool,
    ) -> Result<Self, DatabaseError> {
        let (settings, private) = match &config.source {
            DatabaseSource::Url {
                url,
                owner_url,
                danger_unverified_database,
            } => {
                check_private_directory(&config.data_dir)?;
                let settings = Settings {
                    connection_string: url.clone(),
                    owner_connection_string: owner_url.clone(),
                    danger_unverified_database: *danger_unverified_database,
                    max_connections: config.max_connections,
                    timeline_file: remembers_timeline.then(|| config.data_dir.join("database-timeline")),
                };
                (settings, None)
            }
            DatabaseSource::Private {
                postgres_bin,
                postgres_user,
            } => {
                let data_dir = DataDir::lock(&config.data_dir)?;
                let settings = postgres::Settings {
                    bin_dir: postgres_bin.clone(),
                    user: postgres_user.clone(),
                };
                let postgres = PrivatePostgres::start(&data_dir, &settings, path_env, cancel).await?;
                let settings = Settings {
                    connection_string: connection_string(postgres.socket_dir(), PrivatePostgres::ROLE),
                    owner_connection_string: Some(connection_string(
                        postgres.socket_dir(),
                        PrivatePostgres::OWNER_ROLE,
                    )),
                    danger_unverified_database: false,
                    max_connections: config.max_connections,
                    timeline_file: None,
                };
                (
                    settings,
                    Some(Private {
                        postgres,
                        _data_dir: data_dir,
                    }),
                )
            }
        };
        match Store::new(&settings) {
            Ok(store) => Ok(Self {
                store,
                config: config.clone(),
                private,
                migrated: 0,
            }),
            Err(error) => {
                if let Some(private) = private {
                    private.postgres.abandon().await;
                }
                Err(error.into())
            }
        }
    }

    /// The store of this database.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The number of migrations that the opening applied.
    pub fn migrated(&self) -> usize {
        self.migrated
    }

    /// Whether it is the private Postgres.
    pub fn is_private(&self) -> bool {
        self.private.is_some()
    }

    /// A short description for the operator.
    pub fn description(&self) -> String {
        match &self.private {
            Some(private) => format!("private PostgreSQL {}", private.postgres.version()),
            None => "the database of --database-url".to_owned(),
        }
    }

    /// The key ring. With the private Postgres, an absent ring is created if nothing was sealed yet. A new ring could not open what
    /// was sealed before.
    pub async fn key_ring(&self) -> Result<KeyRing, DatabaseError> {
        if self.is_private() {
            self.key_ring_or_new().await
        } else {
            Ok(KeyRing::read(&self.config.key_ring, &self.config.key_providers).await?)
        }
    }

    /// The key ring, created if it is absent and nothing was sealed yet.
    pub async fn key_ring_or_new(&self) -> Result<KeyRing, DatabaseError> {
        match KeyRing::read(&self.config.key_ring, &self.config.key_providers).await {
            Err(KeyRingError::Absent(_)) if self.store.has_sealed_nothing().await? => {
                Ok(KeyRing::create(&self.config.key_ring)?)
            }
            read => Ok(read?),
        }
    }

    /// Creates the first account, its admin key and the key ring, unless the database has an access key.
    pub async fn bootstrap(&self) -> Result<FirstAccount, DatabaseError> {
        if self.store.has_access_key_of_all_accounts().await? {
            return Ok(FirstAccount::Existed);
        }
        let key_ring = self.key_ring_or_new().await?;
        // Notes in the database that this ring belongs to it.
        let app = App::open(self.store.clone(), key_ring, app::Settings::default(), &super::host()).await?;
        app.leave().await;
        let existing = if self.is_private() {
            Existing::Replace
        } else {
            Existing::Keep
        };
        Ok(FirstAccount::make(&self.store, &self.config.admin_key, existing).await?)
    }

    /// Creates an access key and writes it to a new file, after a proof that this host has the key ring of the database.
    pub async fn recover(&self, recovery: &Recovery, file: &Path) -> Result<RecoveredKey, DatabaseError> {
        let key_ring = KeyRing::read(&self.config.key_ring, &self.config.key_providers).await?;
        // Opens the service's own keys, which the ring sealed.
        let app = App::open(self.store.clone(), key_ring, app::Settings::default(), &super::host()).await?;
        app.leave().await;
        Ok(RecoveredKey::make(&self.store, recovery, file).await?)
    }

    /// Ends after a failed start: closes the connections, and stops the private Postgres if this start brought it up.
    pub(super) async fn abandon(self) {
        self.store.close();
        if let Some(private) = self.private {
            private.postgres.abandon().await;
        }
    }

    /// The key ring in the file.
    pub async fn read_key_ring(&self) -> Result<KeyRing, KeyRingError> {
        KeyRing::read(&self.config.key_ring, &self.config.key_providers).await
    }

    /// Begins to verify everything that the key ring protects. Changes nothing, and registers no replica.
    pub async fn verification(&self, key_ring: KeyRing) -> Result<Verification, DatabaseError> {
        self.store.check_schema().await?;
        Ok(Verification::begin(&self.store, key_ring).await?)
    }

    /// Closes the connections and stops the private Postgres.
    pub async fn close(self) {
        self.store.close();
        if let Some(private) = self.private {
            private.postgres.stop().await;
        }
    }
}

/// The wait for a database that does not accept writes.
pub(super) struct Wait {
    began: Instant,
    limit: Option<Duration>,
    logged: Option<Logged>,
}

/// The last line in the log.
struct Logged {
    at: Instant,
    cause: String,
}

impl Logged {
    fn is_due_again(&self, cause: &str, now: Instant) -> bool {
        let pause = match self.cause == cause {
            true => LOG_PAUSE,
            false => NEW_CAUSE_PAUSE,
        };
        now.duration_since(self.at) >= pause
    }
}

impl Wait {
    /// Without limit: the service waits for its database, as it does while it runs.
    pub(super) fn of_service() -> Self {
        Self {
            began: Instant::now(),
            limit: None,
            logged: None,
        }
    }

    fn of_command() -> Self {
        Self {
            limit: Some(COMMAND_WAIT),
            ..Self::of_service()
        }
    }

    /// Pauses before the next attempt to use the database. Fails if another attempt would not help, or the time is over.
    pub(super) async fn after(&mut self, error: DatabaseError, database: &Database) -> Result<(), DatabaseError> {
        if !error.may_pass() {
            return Err(error);
        }
        let cause = causes(&error);
        if let Some(limit) = self.limit.filter(|limit| self.began.elapsed() >= *limit) {
            let seconds = limit.as_secs();
            return Err(DatabaseError::Away { seconds, cause });
        }
        metrics::database_up(false);
        let now = Instant::now();
        if self
            .logged
            .as_ref()
            .is_none_or(|logged| logged.is_due_again(&cause, now))
        {
            tracing::warn!(
                cause,
                database = database.description(),
                "waiting until the database accepts writes: start it or promote its standby; SIGTERM or Ctrl-C ends the wait"
            );
            self.logged = Some(Logged { at: now, cause });
        }
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }
}

fn connection_string(socket_dir: &Path, role: &str) -> String {
    let directory = socket_dir
        .display()
        .to_string()
        .replace('\\', r"\\")
        .replace('\'', r"\'");
    format!(
        "host='{directory}' port={} user={role} dbname={}",
        PrivatePostgres::PORT,
        PrivatePostgres::DATABASE
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_cause_is_logged_soon_and_the_same_seldom() {
        let logged = Logged {
            at: Instant::now(),
            cause: "refused".into(),
        };
        let due = |cause, seconds| logged.is_due_again(cause, logged.at + Duration::from_secs(seconds));
        assert_eq!([9, 10].map(|seconds| due("read-only", seconds)), [false, true]);
        assert_eq!(
            [10, 599, 600].map(|seconds| due("refused", seconds)),
            [false, false, true]
        );
    }
}
