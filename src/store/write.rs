//! Statements that make a change, and whether a change took effect after all when its connection was lost.

use std::time::Duration;

use tokio_postgres::Row;
use uuid::Uuid;

use super::error::{Cause, Failure};
use super::statement::{ATTEMPTS, Confirm};
use super::{Error, Params, Statement, Store, id_columns};
use crate::account::AccountId;
use crate::inventory::CertificateId;

/// How long a lost change is looked up while the database is away: a restart with recovery takes a few seconds.
const LOOK_UP_TIME: Duration = Duration::from_secs(8);
const LOOK_UP_PAUSE: Duration = Duration::from_millis(200);

/// Whether the connection of an earlier attempt at a change was lost, so that it may have taken effect.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Lost {
    No,
    Before,
}

/// The row that shows afterwards that a request made its change.
#[derive(Clone, Copy)]
pub(super) enum Trace {
    /// The event of a certificate.
    Event(CertificateId, Uuid),
    /// The audit event of an account.
    AuditEvent(AccountId, Uuid),
}

/// The outcome of a change.
pub(super) enum Outcome {
    /// The statement's rows.
    Rows(Vec<Row>),
    /// An attempt whose connection was lost took effect. The number is the certificate's revision after it, or the position of the
    /// audit event.
    Earlier(i64),
}

impl Store {
    /// Runs a statement that makes a change and inserts the row that shows it. The statement runs again when Postgres
    /// rolled it back because of other transactions, and after a lost connection if that row does not exist. After a lost
    /// connection only an answer or that row shows the outcome: the old backend may still be at work.
    pub(super) async fn write(
        &self,
        lost: Lost,
        statement: Statement,
        trace: Trace,
        params: Params<'_>,
    ) -> Result<Outcome, Error> {
        let mut lost = lost == Lost::Before;
        if lost && let Some(number) = self.number_of_change(trace).await? {
            return Ok(Outcome::Earlier(number));
        }
        let mut attempt = 1;
        loop {
            let run = match trace {
                Trace::Event(..) => self.run(statement, params),
                Trace::AuditEvent(account, _) => self.run_with_lock(account, statement, params),
            };
            let failure = match run.await {
                // An earlier attempt may have made the change.
                Ok(rows) if rows.is_empty() && lost => {
                    return Ok(match self.number_of_change(trace).await? {
                        Some(number) => Outcome::Earlier(number),
                        None => Outcome::Rows(rows),
                    });
                }
                Ok(rows) => {
                    self.record_write();
                    if let Trace::Event(id, _) = trace {
                        self.commits.announce(id.account);
                    }
                    return Ok(Outcome::Rows(rows));
                }
                Err(failure) => failure,
            };
            if failure.is_of_the_database() {
                self.record_refusal();
            }
            match &failure {
                Failure::Lost(cause) => {
                    tracing::warn!(statement = statement.name, %cause, "connection lost during a change");
                    lost = true;
                    if let Some(number) = self.number_of_change(trace).await? {
                        return Ok(Outcome::Earlier(number));
                    }
                }
                Failure::Repeat(_) | Failure::Elsewhere(_) => {}
                // The row may exist already, which is one possible cause.
                Failure::Fault(_) if lost => {
                    if let Some(number) = self.number_of_change(trace).await? {
                        return Ok(Outcome::Earlier(number));
                    }
                    return Err(Error::OutcomeUnknown(failure.into_cause()));
                }
                Failure::Busy(_) | Failure::Unavailable(_) | Failure::Unconfirmed(_) | Failure::Fault(_) => {
                    attempt = ATTEMPTS;
                }
            }
            if attempt == ATTEMPTS {
                return Err(match lost {
                    true => Error::OutcomeUnknown(failure.into_cause()),
                    false => statement.error(failure),
                });
            }
            statement.pause(attempt).await;
            attempt += 1;
        }
    }

    /// The number of the row that shows the change, if the change took effect and the synchronous standby has it. Waits for a database
    /// that restarts and for the standby.
    pub(super) async fn number_of_change(&self, trace: Trace) -> Result<Option<i64>, Error> {
        const REVISION: Statement = Statement {
            name: "store::revision_of_request",
            sql: "-- store::revision_of_request
                  select revision from event
                  where account_id = $1 and created_ms = $2 and random = $3 and request_id = $4
                  order by revision desc limit 1",
        };
        const POSITION: Statement = Statement {
            name: "store::audit_event_of_request",
            sql: "-- store::audit_event_of_request
                  select position from audit_event where account_id = $1 and request_id = $2 and outcome = 'done'
                  order by position limit 1",
        };
        let looking_up = async {
            loop {
                let found = match trace {
                    Trace::Event(id, request_id) => {
                        let (account, created, random) = id_columns(id);
                        let params: Params<'_> = &[&account, &created, &random, &request_id];
                        self.read_confirmed(Confirm::Rows, REVISION, params).await
                    }
                    Trace::AuditEvent(account, request_id) => {
                        let params: Params<'_> = &[&account.as_i64(), &request_id];
                        self.read_confirmed(Confirm::Rows, POSITION, params).await
                    }
                };
                match found {
                    Ok(rows) => return rows.first().map(|row| row.get(0)),
                    Err(error) => tracing::debug!(%error, "a change could not be looked up yet"),
                }
                tokio::time::sleep(LOOK_UP_PAUSE).await;
            }
        };
        let found = tokio::time::timeout(LOOK_UP_TIME, looking_up).await;
        found.map_err(|_| Error::OutcomeUnknown(Cause::timeout()))
    }
}
