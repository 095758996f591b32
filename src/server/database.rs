//! Opens the configured database: the private Postgres or the operator's own, migrated, and its key ring.

use std::ffi::OsStr;
use std::path::Path;

use crate::app::{self, App, BootstrapError, FirstAccount, KeyRingMismatch, RecoveredKey, Recovery};
use crate::config::{DatabaseConfig, DatabaseSource};
use crate::postgres::{self, DataDir, PrivatePostgres};
use crate::seal::{KeyRing, KeyRingError};
use crate::secret::Existing;
use crate::store::{self, MigrateError, Settings, SettingsError, Store};

/// Why the database can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The private Postgres did not start.
    #[error(transparent)]
    Postgres(#[from] postgres::Error),
    /// The database URL can't be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
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
    /// Starts the private Postgres if it is configured, connects, and migrates the schema.
    pub async fn open(config: &DatabaseConfig, path_env: Option<&OsStr>) -> Result<Self, DatabaseError> {
        let (settings, private) = match &config.source {
            DatabaseSource::Url {
                url,
                owner_url,
                danger_unverified_database,
            } => {
                let settings = Settings {
                    connection_string: url.clone(),
                    owner_connection_string: owner_url.clone(),
                    danger_unverified_database: *danger_unverified_database,
                    max_connections: config.max_connections,
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
                let postgres = PrivatePostgres::start(&data_dir, &settings, path_env).await?;
                let settings = Settings {
                    connection_string: connection_string(postgres.socket_dir(), PrivatePostgres::ROLE),
                    owner_connection_string: Some(connection_string(
                        postgres.socket_dir(),
                        PrivatePostgres::OWNER_ROLE,
                    )),
                    danger_unverified_database: false,
                    max_connections: config.max_connections,
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
        let store = Store::new(&settings)?;
        let mut database = Self {
            store,
            config: config.clone(),
            private,
            migrated: 0,
        };
        match database.store.migrate().await {
            Ok(migrated) => {
                database.migrated = migrated;
                Ok(database)
            }
            Err(error) => {
                database.close().await;
                Err(error.into())
            }
        }
    }

    /// The store of this database.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The number of migrations that [`open`](Self::open) applied.
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

    /// Closes the connections and stops the private Postgres.
    pub async fn close(self) {
        self.store.close();
        if let Some(private) = self.private {
            private.postgres.stop().await;
        }
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
