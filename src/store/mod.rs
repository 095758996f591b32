//! Every SQL statement, the transactions and their retries, the migrations, rows to types and back. Nothing above speaks
//! SQL.
//!
//! A use case's change is one statement with data-modifying CTEs, which is a transaction of its own, READ COMMITTED. Its
//! event row is what tells afterwards whether it took effect.

mod access_key;
mod batches;
mod certificate;
mod client_token;
mod connect;
mod error;
mod fingerprint;
mod homes;
mod hosts;
mod insert;
mod lease;
mod list;
mod migrate;
mod read;
mod resource_group;
mod reuse;
mod search;
mod service_key;
mod tag;
mod upload;
mod url;

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool_postgres::Object;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

pub use access_key::{AccessKey, NewAccount};
pub use certificate::{Changing, Standing, Undeletion};
pub use client_token::{ClientToken, UsedToken};
pub use connect::{Settings, SettingsError};
pub use error::{Cause, Constraint, Error};
pub use fingerprint::AccountFingerprints;
pub use list::{Filter, Page};
pub use migrate::{MigrateError, schema_version};
pub use read::{Liveness, Position, StoredCertificate};
pub use resource_group::{GroupDeletion, GroupRenaming, ResourceGroup};
pub use reuse::Reuse;
pub use search::{Cursor, FoundPage, Order, SortKey};
pub use tag::{Tagged, Tagging};
pub use upload::{FIRST, NewCertificate, NewContent, UploadOutcome};

use crate::inventory::{CertificateId, CertificateKind};
use batches::{Batches, Undone};
use error::Failure;
use homes::Homes;
use lease::Lease;
use upload::Uploads;

type Params<'a> = &'a [&'a (dyn ToSql + Sync)];
type Running<'a> = Pin<Box<dyn Future<Output = Result<Vec<Row>, Failure>> + Send + 'a>>;

/// How often a statement is tried before its failure is answered.
const ATTEMPTS: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// How long a lost change is looked up while the database is away: a restart with recovery takes a few seconds.
const LOOK_UP_TIME: Duration = Duration::from_secs(8);
/// How long the service counts as unable to write after a change was refused.
const REFUSED_FOR: Duration = Duration::from_secs(3);
const LOOK_UP_PAUSE: Duration = Duration::from_millis(200);

/// How many one statement looks up at most.
const MAX_LOOKUPS: usize = 64;

/// certkeep's database.
#[derive(Clone)]
pub struct Store {
    homes: Arc<Homes>,
    /// When a change was refused last for want of something, such as room on the disk.
    refused: Arc<Mutex<Option<Instant>>>,
    uploads: Arc<Uploads>,
}

/// A statement and the name of the function that it belongs to, which its first line repeats for Postgres's own views.
#[derive(Clone, Copy)]
struct Statement {
    name: &'static str,
    sql: &'static str,
}

impl Statement {
    /// Its text for certificates of this kind. It is written for server certificates: the tables of the others have the same
    /// columns, and are called by their kind. Private keys are only those of server certificates, so that what removes keys
    /// with their certificate finds none of others.
    fn text(self, kind: CertificateKind) -> Cow<'static, str> {
        match kind {
            CertificateKind::Server => Cow::Borrowed(self.sql),
            CertificateKind::Ca => Cow::Owned(self.sql.replace("server_certificate", "ca_certificate")),
        }
    }
}

/// Who changes which certificate in which request: what its event says.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// The certificate that is changed.
    pub id: CertificateId,
    /// The access key of the caller.
    pub access_key_id: &'a str,
    /// The request that asks for it.
    pub request_id: Uuid,
}

/// Whether the connection of an earlier attempt at a change was lost, so that it may have taken effect.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Lost {
    No,
    Before,
}

/// What became of a change.
enum Changed {
    /// The statement's rows.
    Now(Vec<Row>),
    /// An attempt whose connection was lost had taken effect: the certificate's revision after it.
    Before { revision: i64 },
}

impl Store {
    /// The database of these settings. Nothing is connected yet.
    pub fn new(settings: &Settings) -> Result<Self, SettingsError> {
        Ok(Self {
            homes: Arc::new(Homes::new(&connect::opener(settings)?, settings.max_connections)?),
            refused: Arc::default(),
            uploads: Arc::new(upload::uploads()),
        })
    }

    /// A warning for each setting of Postgres with which acknowledged writes can be lost.
    pub async fn check_durability(&self) -> Result<Vec<&'static str>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::check_durability",
            sql: "-- store::check_durability\nselect current_setting('fsync'), current_setting('synchronous_commit')",
        };
        let rows = self.read(STATEMENT, &[]).await?;
        let mut warnings = Vec::new();
        for row in rows {
            if row.get::<_, &str>(0) == "off" {
                warnings.push("Postgres runs with fsync off: a crash of its machine can lose acknowledged uploads");
            }
            if row.get::<_, &str>(1) == "off" {
                warnings.push("Postgres runs with synchronous_commit off: a crash of it can lose acknowledged uploads");
            }
        }
        Ok(warnings)
    }

    /// Whether Postgres takes writes now: it is reached, no standby, not read-only, and has refused no change in the last moments.
    pub async fn can_write(&self) -> Result<bool, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::can_write",
            sql: "-- store::can_write
                  select not pg_is_in_recovery() and current_setting('transaction_read_only') = 'off'",
        };
        let takes_writes = self.read(STATEMENT, &[]).await?.first().is_some_and(|row| row.get(0));
        let refused = *self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(takes_writes && refused.is_none_or(|at| at.elapsed() > REFUSED_FOR))
    }

    fn note(&self, refused: Option<Instant>) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = refused;
    }

    /// The connections to Postgres: open, of these idle, open at most, and callers that wait for one.
    pub fn connections(&self) -> [usize; 4] {
        self.homes.counts()
    }

    /// Closes all connections; statements under way are finished.
    pub fn close(&self) {
        self.homes.close();
    }

    async fn connection(&self) -> Result<Object, Error> {
        let connection = self.homes.connection().await;
        connection.map_err(|error| Error::Unavailable(Cause::from(error)))
    }

    /// Runs a statement's text once. Boxed: it is large, and what waits for it is moved before it is begun.
    fn run<'a>(&'a self, connection: Object, sql: &'a str, params: Params<'a>) -> Running<'a> {
        Box::pin(async move {
            let lease = Lease::of(connection);
            let answer = tokio::time::timeout(connect::CALL_TIMEOUT, async {
                let connection = lease.connection();
                let prepared = connection.prepare_cached(sql).await?;
                connection.query(&prepared, params).await
            });
            let failure = match answer.await {
                Ok(Ok(rows)) => {
                    lease.give_back();
                    return Ok(rows);
                }
                Ok(Err(error)) => Failure::from(error),
                Err(_) => Failure::Lost(Cause::timeout()),
            };
            match failure {
                Failure::Repeat(_) | Failure::Fault(_) => lease.give_back(),
                Failure::Lost(_) | Failure::Unavailable(_) => lease.discard(),
                Failure::Elsewhere(_) => {
                    lease.discard();
                    // The others to that server are no better.
                    self.homes.renew();
                }
            }
            Err(failure)
        })
    }

    /// Runs a statement that changes nothing, or nothing when it is repeated, again if its connection is lost.
    async fn read(&self, statement: Statement, params: Params<'_>) -> Result<Vec<Row>, Error> {
        self.read_of(CertificateKind::Server, statement, params).await
    }

    /// The same, of certificates of this kind.
    async fn read_of(
        &self,
        kind: CertificateKind,
        statement: Statement,
        params: Params<'_>,
    ) -> Result<Vec<Row>, Error> {
        let sql = statement.text(kind);
        let mut attempt = 1;
        loop {
            let connection = self.connection().await?;
            match self.run(connection, &sql, params).await {
                Ok(rows) => return Ok(rows),
                Err(Failure::Repeat(_) | Failure::Elsewhere(_) | Failure::Lost(_)) if attempt < ATTEMPTS => {
                    pause(statement, attempt).await
                }
                Err(
                    Failure::Repeat(cause)
                    | Failure::Elsewhere(cause)
                    | Failure::Lost(cause)
                    | Failure::Unavailable(cause),
                ) => {
                    return Err(Error::Unavailable(cause));
                }
                Err(Failure::Fault(cause)) => {
                    return Err(Error::of_statement(statement.name, cause));
                }
            }
            attempt += 1;
        }
    }

    /// Looks one up together with others that wait for the same. `all` answers for each that it is given, in their order.
    async fn look_up_together<T, R, F>(
        &self,
        batches: &Arc<Batches<T, Result<R, Cause>>>,
        wanted: T,
        all: impl Fn(Self, Vec<T>) -> F + Clone + Send + 'static,
    ) -> Result<R, Error>
    where
        T: Clone + Send + 'static,
        R: Send + 'static,
        F: Future<Output = Result<Vec<R>, Error>> + Send + 'static,
    {
        let (store, of_several) = (self.clone(), all.clone());
        let work = move |wanted: Vec<T>| {
            let count = wanted.len();
            let found = of_several(store.clone(), wanted);
            async move {
                match found.await {
                    Ok(found) => found.into_iter().map(Ok).collect(),
                    Err(Error::Unavailable(cause)) => vec![cause; count].into_iter().map(Err).collect(),
                    // It may be one that the others fail for.
                    Err(_) => Vec::new(),
                }
            }
        };
        match batches.done(wanted.clone(), 1, work).await {
            Ok(found) => found.map_err(Error::Unavailable),
            Err(Undone::NotBegun) => Err(Error::Unavailable(Cause::timeout())),
            Err(Undone::Failed) => {
                let found = all(self.clone(), vec![wanted]).await?.pop();
                found.ok_or(Error::Row("what was looked up"))
            }
        }
    }

    /// Runs a statement that makes a change and writes its event. It is repeated when Postgres rolled it back for the sake
    /// of others, and, when its connection was lost, after its event was looked up and is not there. After a loss only a
    /// look-up or an answer settles what became of it: the lost backend may still be at work.
    async fn write(&self, statement: Statement, change: Change<'_>, params: Params<'_>) -> Result<Changed, Error> {
        self.write_after(Lost::No, statement, change, params).await
    }

    /// The same, after an attempt.
    async fn write_after(
        &self,
        lost: Lost,
        statement: Statement,
        change: Change<'_>,
        params: Params<'_>,
    ) -> Result<Changed, Error> {
        let sql = statement.text(change.id.kind);
        let mut lost = lost == Lost::Before;
        if lost && let Some(revision) = self.look_up(change).await? {
            return Ok(Changed::Before { revision });
        }
        let mut attempt = 1;
        loop {
            let failure = match self.connection().await {
                Ok(connection) => self.run(connection, &sql, params).await,
                Err(Error::Unavailable(cause)) => Err(Failure::Unavailable(cause)),
                Err(error) => return Err(error),
            };
            let cause = match failure {
                // What changes nothing now may have changed it before.
                Ok(rows) if rows.is_empty() && lost => match self.look_up(change).await {
                    Ok(Some(revision)) => return Ok(Changed::Before { revision }),
                    Ok(None) => return Ok(Changed::Now(rows)),
                    Err(error) => return Err(error),
                },
                Ok(rows) => {
                    self.note(None);
                    return Ok(Changed::Now(rows));
                }
                Err(Failure::Lost(cause)) => {
                    tracing::warn!(statement = statement.name, %cause, "connection lost in a change");
                    lost = true;
                    if let Some(revision) = self.look_up(change).await? {
                        return Ok(Changed::Before { revision });
                    }
                    cause
                }
                Err(Failure::Repeat(cause) | Failure::Elsewhere(cause)) => cause,
                Err(Failure::Unavailable(cause)) if lost => return Err(Error::OutcomeUnknown(cause)),
                Err(Failure::Unavailable(cause)) => {
                    self.note(Some(Instant::now()));
                    return Err(Error::Unavailable(cause));
                }
                // Its event is there already, or worse: only a look-up tells.
                Err(Failure::Fault(cause)) if lost => match self.look_up(change).await? {
                    Some(revision) => return Ok(Changed::Before { revision }),
                    None => return Err(Error::OutcomeUnknown(cause)),
                },
                Err(Failure::Fault(cause)) => {
                    return Err(Error::of_statement(statement.name, cause));
                }
            };
            if attempt == ATTEMPTS {
                return Err(if lost {
                    Error::OutcomeUnknown(cause)
                } else {
                    Error::Unavailable(cause)
                });
            }
            pause(statement, attempt).await;
            attempt += 1;
        }
    }

    /// The revision that this request gave the certificate, if it took effect. A database that restarts is waited for.
    async fn look_up(&self, change: Change<'_>) -> Result<Option<i64>, Error> {
        let looking = async {
            loop {
                match self.revision_after(change).await {
                    Ok(revision) => return revision,
                    Err(error) => tracing::debug!(%error, "a change could not be looked up yet"),
                }
                tokio::time::sleep(LOOK_UP_PAUSE).await;
            }
        };
        let found = tokio::time::timeout(LOOK_UP_TIME, looking).await;
        found.map_err(|_| Error::OutcomeUnknown(Cause::timeout()))
    }

    async fn revision_after(&self, change: Change<'_>) -> Result<Option<i64>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::revision_after",
            sql: "-- store::revision_after
                  select revision from event
                  where account_id = $1 and created_ms = $2 and random = $3 and request_id = $4
                  order by revision desc limit 1",
        };
        let (account, created, random) = id_columns(change.id);
        let rows = self
            .read(STATEMENT, &[&account, &created, &random, &change.request_id])
            .await?;
        Ok(rows.first().map(|row| row.get(0)))
    }
}

/// Doubles with each attempt.
async fn pause(statement: Statement, attempt: u32) {
    tracing::info!(statement = statement.name, attempt, "trying again");
    tokio::time::sleep(FIRST_PAUSE * 2_u32.pow(attempt)).await;
}

fn id_columns(id: CertificateId) -> (i64, i64, i64) {
    (id.account.as_i64(), id.created.millis(), id.random)
}
