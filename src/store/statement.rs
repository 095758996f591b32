//! A statement, and how it runs: on a connection of the pool, and again after a failure that may pass.

use std::pin::Pin;
use std::time::{Duration, Instant};

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use tracing::Instrument;

use super::error::{Cause, Failure};
use super::pooled::Pooled;
use super::{Error, Store, connect};
use crate::account::AccountId;
use crate::telemetry::{self, metrics};

pub(super) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];
type Running<'a> = Pin<Box<dyn Future<Output = Result<Vec<Row>, Failure>> + Send + 'a>>;

/// How often a statement is tried before its error is returned.
pub(super) const ATTEMPTS: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// The lock allows the foreign-key checks of the account's rows.
const LOCK_ACCOUNT: &str = "-- store::lock_account
    select from account where account_id = $1 for no key update";

/// Waits like every commit for the synchronous standby, and so until the standby has all commits before. A commit that writes nothing,
/// or takes only a transaction id, does not wait. Every role may call this function.
const CONFIRM: Statement = Statement {
    name: "store::confirm",
    sql: "-- store::confirm
          select pg_logical_emit_message(true, 'certkeep', '')",
};

/// A statement and the name of its function. The first line of the text repeats the name, for Postgres's own views.
#[derive(Clone, Copy)]
pub(super) struct Statement {
    pub(super) name: &'static str,
    pub(super) sql: &'static str,
}

/// When the rows of a statement are confirmed: when its answer waits until the synchronous standby has every commit that they show.
/// Postgres shows a commit that its standby lacks if the wait for the standby was cut short.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Confirm {
    /// When there are rows. They answer for a commit of another call.
    Rows,
    /// Also when there are none.
    Always,
}

/// The steps around a statement.
#[derive(Clone, Copy)]
enum Around {
    Nothing,
    /// First locks the row of the account, in the same transaction.
    Lock(AccountId),
    /// Afterwards confirms its rows, on the same connection.
    Confirm(Confirm),
}

impl Statement {
    /// Waits before the next attempt. The pause doubles with each attempt.
    pub(super) async fn pause(self, attempt: u32) {
        tracing::info!(statement = self.name, attempt, "trying again");
        metrics::statement_repeated(self.name);
        tokio::time::sleep(FIRST_PAUSE * 2_u32.pow(attempt)).await;
    }

    /// The error of a statement that will not be tried again and was not executed.
    pub(super) fn error(self, failure: Failure) -> Error {
        match failure {
            Failure::Repeat(cause) | Failure::Busy(cause) => Error::Busy(cause),
            Failure::Elsewhere(cause) | Failure::Lost(cause) | Failure::Unavailable(cause) => Error::Unavailable(cause),
            Failure::Unconfirmed(cause) => Error::OutcomeUnknown(cause),
            Failure::Fault(cause) => Error::of_statement(self.name, cause),
        }
    }
}

impl Store {
    /// Runs a statement once. The future is boxed because it is large and would be moved several times.
    pub(super) fn run<'a>(&'a self, statement: Statement, params: Params<'a>) -> Running<'a> {
        self.run_with(Around::Nothing, statement, params)
    }

    /// Runs a statement once, in a transaction that first locks the row of the account. So the statement sees everything that
    /// earlier holders of the lock committed.
    pub(super) fn run_with_lock<'a>(
        &'a self,
        account: AccountId,
        statement: Statement,
        params: Params<'a>,
    ) -> Running<'a> {
        self.run_with(Around::Lock(account), statement, params)
    }

    fn run_with<'a>(&'a self, around: Around, statement: Statement, params: Params<'a>) -> Running<'a> {
        Box::pin(async move {
            let mut pooled = self.pool.get().await?;
            let begun = Instant::now();
            let query = async {
                let Around::Lock(account) = around else {
                    let connection = pooled.connection();
                    let prepared = connection.prepare_cached(statement.sql).await?;
                    return connection.query(&prepared, params).await;
                };
                let transaction = pooled.connection_mut().transaction().await?;
                let prepared = transaction.prepare_cached(LOCK_ACCOUNT).await?;
                transaction.query(&prepared, &[&account.as_i64()]).await?;
                let prepared = transaction.prepare_cached(statement.sql).await?;
                let rows = transaction.query(&prepared, params).await?;
                transaction.commit().await?;
                Ok(rows)
            };
            let query = query.instrument(telemetry::statement(statement.name));
            let answer = tokio::time::timeout(connect::CALL_TIMEOUT, query).await;
            metrics::statement_ended(statement.name, begun.elapsed());
            let confirm = |rows: &[Row]| match around {
                Around::Confirm(Confirm::Always) => true,
                Around::Confirm(Confirm::Rows) => !rows.is_empty(),
                Around::Nothing | Around::Lock(_) => false,
            };
            let failure = match answer {
                Ok(Ok(rows)) if confirm(&rows) => match confirmed(&pooled).await {
                    Ok(()) => {
                        pooled.give_back();
                        return Ok(rows);
                    }
                    Err(Failure::Elsewhere(cause)) => Failure::Elsewhere(cause),
                    Err(failure) => Failure::Unconfirmed(failure.into_cause()),
                },
                Ok(Ok(rows)) => {
                    pooled.give_back();
                    return Ok(rows);
                }
                Ok(Err(error)) => Failure::from(error),
                Err(_) => Failure::Lost(Cause::timeout()),
            };
            match failure {
                Failure::Repeat(_) | Failure::Busy(_) | Failure::Fault(_) => pooled.give_back(),
                Failure::Unavailable(_) => pooled.discard(),
                // The backend may still be at work.
                Failure::Lost(_) | Failure::Unconfirmed(_) => drop(pooled),
                Failure::Elsewhere(_) => {
                    pooled.discard();
                    // The other connections lead to the same server.
                    self.pool.close_idle();
                }
            }
            Err(failure)
        })
    }

    /// Runs a statement that changes nothing, or nothing when it is repeated. A lost connection is a reason to run it again.
    pub(super) async fn read(&self, statement: Statement, params: Params<'_>) -> Result<Vec<Row>, Error> {
        self.read_with(Around::Nothing, statement, params).await
    }

    /// Reads what another commit made, for an answer that says that it is made. If the standby does not confirm it, the outcome is
    /// unknown.
    pub(super) async fn read_confirmed(
        &self,
        confirm: Confirm,
        statement: Statement,
        params: Params<'_>,
    ) -> Result<Vec<Row>, Error> {
        let turn = tokio::time::timeout(connect::WAIT_FOR_CONNECTION, self.confirming.acquire());
        let _turn = turn.await.map_err(|_| Error::busy())?;
        self.read_with(Around::Confirm(confirm), statement, params).await
    }

    async fn read_with(&self, around: Around, statement: Statement, params: Params<'_>) -> Result<Vec<Row>, Error> {
        let mut attempt = 1;
        loop {
            match self.run_with(around, statement, params).await {
                Ok(rows) => return Ok(rows),
                Err(Failure::Repeat(_) | Failure::Elsewhere(_) | Failure::Lost(_)) if attempt < ATTEMPTS => {
                    statement.pause(attempt).await;
                }
                Err(failure) => return Err(statement.error(failure)),
            }
            attempt += 1;
        }
    }
}

/// Waits until the synchronous standby has every commit that this connection has seen.
async fn confirmed(pooled: &Pooled) -> Result<(), Failure> {
    let begun = Instant::now();
    let query = async {
        let connection = pooled.connection();
        let prepared = connection.prepare_cached(CONFIRM.sql).await?;
        connection.query(&prepared, &[]).await
    };
    let query = query.instrument(telemetry::statement(CONFIRM.name));
    let answer = tokio::time::timeout(connect::CALL_TIMEOUT, query).await;
    metrics::statement_ended(CONFIRM.name, begun.elapsed());
    match answer {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(Failure::from(error)),
        Err(_) => Err(Failure::Lost(Cause::timeout())),
    }
}
