//! The versions of the schema: numbered, frozen by checksum, applied under an advisory lock.

use std::time::Duration;

use deadpool_postgres::{Object, Transaction};

use super::error::{Cause, Error, Failure};
use super::{Statement, Store, role};
use crate::digest;

/// One step of the schema. A released step never changes.
struct Migration {
    version: i32,
    /// The oldest schema version whose binary still runs on this one.
    oldest_binary: i32,
    sql: &'static str,
}

const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    oldest_binary: 1,
    sql: include_str!("migrations/0001_initial.sql"),
}];

/// How often the migration is tried while other transactions are in the way. Each attempt takes a second, Postgres's
/// deadlock_timeout.
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
        /// The oldest schema version whose binary can run on it.
        oldest_binary: i32,
        /// The newest version that this binary knows.
        ours: i32,
    },
    /// The database has a migration with another text.
    #[error(
        "migration {0} was applied from another text than this certkeep has: it is not the database of a released certkeep"
    )]
    Changed(i32),
    /// The database cannot store every text.
    #[error(
        "the database has the encoding {0}, and certkeep needs UTF8: create it with `create database ... encoding 'UTF8' template template0`"
    )]
    Encoding(String),
    /// The role that serves and the owner of the tables are one role.
    #[error(
        "the role {0} of the database owner URL is the role of the database URL: use another role, or set no owner URL"
    )]
    SameRole(String),
    /// The tables belong to another role than the one of the owner's connection string.
    #[error(
        "the role {role} of the database owner URL does not own certkeep's tables: as a superuser, run `reassign owned by {owner} to \
         {role}` in the database"
    )]
    NotTheOwner {
        /// The role of the owner's connection string.
        role: String,
        /// The role that owns the tables.
        owner: String,
    },
    /// The schema is older than this binary needs, or absent.
    #[error("the database's schema is version {found}, and this certkeep needs version {ours}: run `certkeep migrate`")]
    TooOld {
        /// The schema's version. 0: the database has no schema of certkeep.
        found: i32,
        /// The version that this binary needs.
        ours: i32,
    },
    /// A statement failed.
    #[error("the schema could not be migrated")]
    Store(#[from] Error),
}

impl Store {
    /// Brings the schema to the newest version that this binary knows. Answers how many steps were applied. Steps of a newer binary
    /// stay, if this binary can run on them. All steps are one transaction, which also gives the role that serves its privileges.
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

    /// Refuses a schema on which this binary cannot run. Changes nothing.
    pub async fn check_schema(&self) -> Result<(), MigrateError> {
        const IS_ABSENT: Statement = Statement {
            name: "store::check_schema",
            sql: "-- store::check_schema\nselect to_regclass('schema_migration') is null",
        };
        const NEWEST: Statement = Statement {
            name: "store::check_schema",
            sql: "-- store::check_schema
                  select version, oldest_binary from schema_migration order by version desc limit 1",
        };
        let ours = schema_version();
        let is_absent = self.read(IS_ABSENT, &[]).await?;
        if is_absent.first().is_none_or(|row| row.get(0)) {
            return Err(MigrateError::TooOld { found: 0, ours });
        }
        let newest = self.read(NEWEST, &[]).await?;
        let (found, oldest_binary) = newest.first().map_or((0, 0), |row| (row.get(0), row.get(1)));
        match () {
            () if found < ours => Err(MigrateError::TooOld { found, ours }),
            () if oldest_binary > ours => Err(MigrateError::TooNew {
                found,
                oldest_binary,
                ours,
            }),
            () => Ok(()),
        }
    }

    async fn migrate_once(&self) -> Result<usize, Stopped> {
        let serving = self.serving_role().await.map_err(MigrateError::from)?;
        let owner = self.owner.as_ref().unwrap_or(&self.pool);
        let mut connection = owner.get().await?;
        let applied = self.migrate_on(connection.connection_mut(), &serving).await;
        match &applied {
            Ok(_) => connection.give_back(),
            // The connection may be dead, or lead to a server that became read-only.
            Err(_) => connection.discard(),
        }
        applied
    }

    async fn migrate_on(&self, connection: &mut Object, serving: &str) -> Result<usize, Stopped> {
        let transaction = connection.transaction().await?;
        if self.has_owner() {
            role::check_owner(&transaction, serving).await?;
        }
        let applied = migrate(&transaction).await?;
        role::grant(&transaction, serving).await?;
        transaction.commit().await?;
        Ok(applied)
    }
}

/// Names the migration in errors.
const MIGRATE: Statement = Statement {
    name: "store::migrate",
    sql: "",
};

async fn migrate(transaction: &Transaction<'_>) -> Result<usize, Stopped> {
    let encoding = "-- store::migrate\nselect current_setting('server_encoding')";
    let encoding: String = transaction.query_one(encoding, &[]).await?.get(0);
    if encoding != "UTF8" {
        return Err(MigrateError::Encoding(encoding).into());
    }
    // Building an index may take longer than a call may.
    let prepare = format!(
        "-- store::migrate
         set local statement_timeout = 0;
         set local lock_timeout = 0;
         select pg_advisory_xact_lock({LOCK})"
    );
    transaction.batch_execute(&prepare).await?;
    // A role that may not create tables can serve a schema that is up to date.
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
    let mut applied = 0;
    for migration in MIGRATIONS.iter().filter(|migration| migration.version > newest) {
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
pub(super) enum Stopped {
    /// Other transactions were in the way: it may be repeated.
    ByOthers(Cause),
    /// A repetition would not help.
    For(MigrateError),
}

impl From<MigrateError> for Stopped {
    fn from(error: MigrateError) -> Self {
        Self::For(error)
    }
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Repeat(cause) => Self::ByOthers(cause),
            // The transaction is rolled back, or the next start sees the outcome of its commit.
            failure => Self::For(MIGRATE.error(failure).into()),
        }
    }
}

impl From<tokio_postgres::Error> for Stopped {
    fn from(error: tokio_postgres::Error) -> Self {
        Failure::from(error).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A released migration never changes: another one follows it.
    #[test]
    fn released_migrations_are_frozen() {
        let checksums = MIGRATIONS
            .iter()
            .map(|migration| hex::encode(digest::sha256(migration.sql.as_bytes())));
        assert_eq!(
            checksums.collect::<Vec<_>>(),
            ["66844df88365bd52301be949b47947eb9741ea51861ece520bcf31f6a4835661"]
        );
    }
}
