//! The connections to the database, and a connection while a call uses it. The call can be cancelled at any moment.

use std::pin::pin;
use std::time::Duration;

use deadpool_postgres::{Object, Pool, PoolError, Status};
use postgres_openssl::MakeTlsConnector;

use super::error::{Cause, Failure};
use super::timeline::Timelines;

/// A statement whose caller left may run for this long before it is cancelled. Most statements end sooner, and their connections
/// stay open.
const PATIENCE: Duration = Duration::from_millis(200);
/// The statement is cancelled again after this time: a cancellation that arrives between two statements has no effect.
const CANCELS_EVERY: Duration = Duration::from_secs(1);
/// After this time without an answer to the cancellation, a connection counts as dead.
const CANCELLED_WITHIN: Duration = Duration::from_secs(3);

/// The connections to one database as one role.
#[derive(Clone)]
pub(super) struct Connections {
    pool: Pool,
    /// A cancellation travels like the connection itself.
    tls: MakeTlsConnector,
    timelines: Timelines,
}

impl Connections {
    pub(super) fn new(pool: Pool, tls: MakeTlsConnector, timelines: Timelines) -> Self {
        Self { pool, tls, timelines }
    }

    /// A connection: an idle one, or a new one while there are fewer than the maximum. A caller that leaves ends its wait.
    pub(super) async fn get(&self) -> Result<Pooled, Failure> {
        let connection = self
            .pool
            .get()
            .await
            .map_err(|error| match (&error, self.timelines.refusal()) {
                (PoolError::Backend(_), Some(refusal)) => Failure::Unavailable(refusal),
                _ => Failure::from(error),
            })?;
        Ok(Pooled {
            connection: Some(connection),
            tls: self.tls.clone(),
        })
    }

    pub(super) fn status(&self) -> Status {
        self.pool.status()
    }

    /// Closes the idle connections.
    pub(super) fn close_idle(&self) {
        self.pool.retain(|_, _| false);
    }

    /// Closes all connections when their statements have ended.
    pub(super) fn close(&self) {
        self.pool.close();
    }
}

/// A connection in use. If it is dropped before the answer arrives, the connection keeps its slot in the pool until its backend has
/// ended the statement. So Postgres never has more backends of certkeep than the pool has slots, except for those that just end.
pub(super) struct Pooled {
    connection: Option<Object>,
    tls: MakeTlsConnector,
}

impl Pooled {
    pub(super) fn connection(&self) -> &Object {
        // Only `give_back`, `discard` and `drop` take the connection out, and each of them ends this value.
        self.connection
            .as_ref()
            .unwrap_or_else(|| unreachable!("the connection was given back"))
    }

    /// For a transaction. A transaction that is dropped is rolled back before the connection returns to the pool.
    pub(super) fn connection_mut(&mut self) -> &mut Object {
        self.connection
            .as_mut()
            .unwrap_or_else(|| unreachable!("the connection was given back"))
    }

    /// Returns the connection to the pool. No statement runs on it.
    pub(super) fn give_back(mut self) {
        drop(self.connection.take());
    }

    /// Closes the connection, because its server is unusable. No statement runs on it.
    pub(super) fn discard(mut self) {
        self.connection.take().map(Object::take);
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                runtime.spawn(return_when_it_answers(connection, self.tls.clone()));
            }
            Err(_) => drop(Object::take(connection)),
        }
    }
}

/// Waits for the answer to an empty query. It arrives after the answer to the statement. A slow statement is cancelled. Its
/// connection is then closed, because a cancellation can arrive late and would cancel the next statement.
async fn return_when_it_answers(connection: Object, tls: MakeTlsConnector) {
    let is_idle = {
        let mut answer = pin!(connection.simple_query(""));
        match tokio::time::timeout(PATIENCE, &mut answer).await {
            Ok(answer) => answer.is_ok(),
            Err(_) => {
                tokio::select! {
                    _ = answer => {}
                    () = cancel(&connection, &tls) => {}
                    () = tokio::time::sleep(CANCELLED_WITHIN) => {
                        tracing::warn!("a connection to the database did not answer a cancellation");
                    }
                }
                false
            }
        }
    };
    if !is_idle {
        drop(Object::take(connection));
    }
}

/// Cancels the statement on the connection again and again. Does not return.
async fn cancel(connection: &Object, tls: &MakeTlsConnector) {
    let token = connection.cancel_token();
    loop {
        let cancelling = token.cancel_query(tls.clone());
        match tokio::time::timeout(CANCELS_EVERY, cancelling).await {
            Ok(Ok(())) => tokio::time::sleep(CANCELS_EVERY).await,
            Ok(Err(error)) => {
                tracing::debug!(cause = %Cause::from(&error), "a statement could not be cancelled");
                tokio::time::sleep(CANCELS_EVERY).await;
            }
            Err(_) => {}
        }
    }
}
