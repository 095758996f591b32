//! The schema's versions: numbered, frozen by checksum, applied under an advisory lock.

use std::time::Duration;

use deadpool_postgres::Transaction;

use super::Store;
use super::error::{Cause, Error, Failure};
use crate::digest;

/// One step of the schema. A step that landed is never changed.
struct Migration {
    version: i32,
    /// The oldest schema version whose binary still runs on this one.
    oldest_binary: i32,
    sql: &'static str,
}

const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        oldest_binary: 1,
        sql: include_str!("migrations/0001_initial.sql"),
    },
    Migration {
        version: 2,
        oldest_binary: 1,
        sql: include_str!("migrations/0002_reuse.sql"),
    },
    Migration {
        version: 3,
        oldest_binary: 1,
        sql: include_str!("migrations/0003_ca_certificates.sql"),
    },
    Migration {
        version: 4,
        oldest_binary: 1,
        sql: include_str!("migrations/0004_resource_groups.sql"),
    },
    Migration {
        version: 5,
        oldest_binary: 1,
        sql: include_str!("migrations/0005_search.sql"),
    },
    Migration {
        version: 6,
        oldest_binary: 1,
        sql: include_str!("migrations/0006_domains.sql"),
    },
    Migration {
        version: 7,
        oldest_binary: 1,
        sql: include_str!("migrations/0007_upload_order.sql"),
    },
];

/// How often it is tried while others are in the way, a second of Postgres's deadlock_timeout each time.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// "certkeep" in ASCII.
const LOCK: i64 = 0x6365_7274_6b65_6570;

/// Why the schema can't be used.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The schema is newer than this binary can run on.
    #[error(
        "the database's schema is version {found} and needs a certkeep of schema version {oldest_binary} or newer; this one \
         has {ours}: upgrade it"
    )]
    TooNew {
        /// The schema's version.
        found: i32,
        /// What it asks for.
        oldest_binary: i32,
        /// The newest version that this binary knows.
        ours: i32,
    },
    /// A migration that was applied is not the one that this binary has.
    #[error(
        "migration {0} was applied from another text than this certkeep has: it is not the database of a released certkeep"
    )]
    Changed(i32),
    /// A statement failed.
    #[error("the schema could not be migrated")]
    Store(#[from] Error),
}

impl Store {
    /// Brings the schema to the newest version that this binary knows; answers how many steps were applied. Steps of a newer
    /// binary are left as they are, if this one can run on them. All steps are one transaction.
    pub async fn migrate(&self) -> Result<usize, MigrateError> {
        let mut attempt = 1;
        loop {
            match self.migrate_once().await {
                Err(Stopped::ByOthers(cause)) if attempt < ATTEMPTS => {
                    tracing::info!(attempt, %cause, "migrating again");
                    tokio::time::sleep(PAUSE).await;
                }
                Err(Stopped::ByOthers(cause)) => return Err(Error::Unavailable(cause).into()),
                Err(Stopped::For(error)) => return Err(error),
                Ok(applied) => return Ok(applied),
            }
            attempt += 1;
        }
    }

    async fn migrate_once(&self) -> Result<usize, Stopped> {
        let mut connection = self.connection().await.map_err(MigrateError::Store)?;
        let transaction = connection.transaction().await?;
        let applied = migrate(&transaction).await?;
        transaction.commit().await?;
        Ok(applied)
    }
}

async fn migrate(transaction: &Transaction<'_>) -> Result<usize, Stopped> {
    // Building an index may take longer than any call may.
    let prepare = format!(
        "-- store::migrate
         set local statement_timeout = 0;
         set local lock_timeout = 0;
         select pg_advisory_xact_lock({LOCK})"
    );
    transaction.batch_execute(&prepare).await?;
    // Asked first: a role that may make no tables can serve a schema that is up to date.
    let is_new = "-- store::migrate\nselect to_regclass('schema_migration') is null";
    if transaction.query_one(is_new, &[]).await?.get(0) {
        let create = "-- store::migrate
            create table schema_migration (
              version int primary key,
              checksum bytea not null,
              oldest_binary int not null,
              applied_at timestamptz not null default now()
            )";
        transaction.batch_execute(create).await?;
    }
    let rows = transaction
        .query(
            "-- store::migrate\nselect version, checksum, oldest_binary from schema_migration order by version",
            &[],
        )
        .await?;
    let ours = MIGRATIONS.last().map_or(0, |migration| migration.version);
    let mut newest = 0;
    for row in rows {
        let (version, checksum, oldest_binary): (i32, Vec<u8>, i32) = (row.get(0), row.get(1), row.get(2));
        match MIGRATIONS.iter().find(|migration| migration.version == version) {
            Some(known) if checksum != digest::sha256(known.sql.as_bytes()) => {
                return Err(MigrateError::Changed(version).into());
            }
            Some(_) => {}
            None if oldest_binary > ours => {
                return Err(MigrateError::TooNew {
                    found: version,
                    oldest_binary,
                    ours,
                }
                .into());
            }
            None => {}
        }
        newest = version;
    }
    let missing: Vec<_> = MIGRATIONS
        .iter()
        .filter(|migration| migration.version > newest)
        .collect();
    if newest > 0 && !missing.is_empty() {
        // Before anything is built: binaries of the version before lock the same tables, in the order of each statement, and
        // who loses a deadlock has lost nothing yet.
        let lock = "-- store::migrate
            lock table client_token, quota, server_certificate_count, server_certificate, private_key,
              server_certificate_tag, event in access exclusive mode";
        transaction.batch_execute(lock).await?;
    }
    let mut applied = 0;
    for migration in missing {
        transaction.batch_execute(migration.sql).await?;
        let checksum = digest::sha256(migration.sql.as_bytes());
        transaction
            .execute(
                "-- store::migrate\ninsert into schema_migration (version, checksum, oldest_binary) values ($1, $2, $3)",
                &[&migration.version, &checksum.as_slice(), &migration.oldest_binary],
            )
            .await?;
        applied += 1;
    }
    Ok(applied)
}

/// The version of the schema that a newly migrated database has.
pub fn schema_version() -> i32 {
    MIGRATIONS.last().map_or(0, |migration| migration.version)
}

/// Why an attempt ended.
enum Stopped {
    /// Others were in the way: it may be repeated.
    ByOthers(Cause),
    /// It is of no use to repeat it now.
    For(MigrateError),
}

impl From<MigrateError> for Stopped {
    fn from(error: MigrateError) -> Self {
        Self::For(error)
    }
}

impl From<tokio_postgres::Error> for Stopped {
    fn from(error: tokio_postgres::Error) -> Self {
        let error = match Failure::from(error) {
            Failure::Repeat(cause) => return Self::ByOthers(cause),
            // The transaction is rolled back, or its commit's outcome is seen at the next start.
            Failure::Elsewhere(cause) | Failure::Lost(cause) | Failure::Unavailable(cause) => Error::Unavailable(cause),
            Failure::Fault(cause) => Error::Statement {
                statement: "store::migrate",
                cause,
            },
        };
        Self::For(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A migration that landed is never changed: another one follows it.
    #[test]
    fn landed_migrations_are_frozen() {
        let checksums = MIGRATIONS
            .iter()
            .map(|migration| hex::encode(digest::sha256(migration.sql.as_bytes())));
        assert_eq!(
            checksums.collect::<Vec<_>>(),
            [
                "a9f720bd34c74eca9fa3d2b1881ee68fdc95aeaf86739ce1d4a3499db71a55bc",
                "08911b34ae78f8e97909ae011eb02823364d15254353fd089c0027609ad75945",
                "48bb90846f38672d52a6e0e76fec6fd3cf168129aab88580a3cc948d665c9a68",
                "21485ac9a17bf91fe1113b1b36a27e3f3cc2a307c57f8b1f795262abf4f3357d",
                "b5303fecaf8de3cf1b758b5b2264b6daca126efa8f50a09950d118382cb74018",
                "a26c5c8eb87b3a99f6bd6e5c51acb95250274605c51d532ca00bd78e590bfb43",
                "5691c0afbb956663f1608f888453470b021a7c862d50f38e4b1de99f2009dfb3",
            ]
        );
    }
}
