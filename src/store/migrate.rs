//! The schema's versions: numbered, frozen by checksum, applied under an advisory lock.

use deadpool_postgres::Transaction;

use super::Store;
use super::error::{Error, Failure};
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
];

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
        let mut connection = self.connection().await?;
        let transaction = connection.transaction().await.map_err(failed)?;
        let applied = migrate(&transaction).await?;
        transaction.commit().await.map_err(failed)?;
        Ok(applied)
    }
}

async fn migrate(transaction: &Transaction<'_>) -> Result<usize, MigrateError> {
    // Building an index may take longer than any call may.
    let prepare = format!(
        "-- store::migrate
         set local statement_timeout = 0;
         set local lock_timeout = 0;
         select pg_advisory_xact_lock({LOCK})"
    );
    transaction.batch_execute(&prepare).await.map_err(failed)?;
    // Asked first: a role that may make no tables can serve a schema that is up to date.
    let is_new = "-- store::migrate\nselect to_regclass('schema_migration') is null";
    if transaction.query_one(is_new, &[]).await.map_err(failed)?.get(0) {
        let create = "-- store::migrate
            create table schema_migration (
              version int primary key,
              checksum bytea not null,
              oldest_binary int not null,
              applied_at timestamptz not null default now()
            )";
        transaction.batch_execute(create).await.map_err(failed)?;
    }
    let rows = transaction
        .query(
            "-- store::migrate\nselect version, checksum, oldest_binary from schema_migration order by version",
            &[],
        )
        .await
        .map_err(failed)?;
    let ours = MIGRATIONS.last().map_or(0, |migration| migration.version);
    let mut newest = 0;
    for row in rows {
        let (version, checksum, oldest_binary): (i32, Vec<u8>, i32) = (row.get(0), row.get(1), row.get(2));
        match MIGRATIONS.iter().find(|migration| migration.version == version) {
            Some(known) if checksum != digest::sha256(known.sql.as_bytes()) => {
                return Err(MigrateError::Changed(version));
            }
            Some(_) => {}
            None if oldest_binary > ours => {
                return Err(MigrateError::TooNew {
                    found: version,
                    oldest_binary,
                    ours,
                });
            }
            None => {}
        }
        newest = version;
    }
    let missing = MIGRATIONS.iter().filter(|migration| migration.version > newest);
    let mut applied = 0;
    for migration in missing {
        transaction.batch_execute(migration.sql).await.map_err(failed)?;
        let checksum = digest::sha256(migration.sql.as_bytes());
        transaction
            .execute(
                "-- store::migrate\ninsert into schema_migration (version, checksum, oldest_binary) values ($1, $2, $3)",
                &[&migration.version, &checksum.as_slice(), &migration.oldest_binary],
            )
            .await
            .map_err(failed)?;
        applied += 1;
    }
    Ok(applied)
}

/// The version of the schema that a newly migrated database has.
pub fn schema_version() -> i32 {
    MIGRATIONS.last().map_or(0, |migration| migration.version)
}

fn failed(error: tokio_postgres::Error) -> Error {
    match Failure::from(error) {
        // The transaction is rolled back, or its commit's outcome is seen at the next start.
        Failure::Repeat(cause) | Failure::Elsewhere(cause) | Failure::Lost(cause) | Failure::Unavailable(cause) => {
            Error::Unavailable(cause)
        }
        Failure::Fault(cause) => Error::Statement {
            statement: "store::migrate",
            cause,
        },
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
                "55d01aa0ce9ae853afc5eb6bb9ad43488eccd920b3abb55dca8b1199ed04b4ee",
            ]
        );
    }
}
