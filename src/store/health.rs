//! Whether the database accepts writes, and whether it keeps what it acknowledged.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::{Error, Statement, Store};
use crate::clock::Timestamp;

/// For this long after the database refused a change as a whole, the service reports that it cannot write.
const REFUSED_FOR: Duration = Duration::from_secs(3);

/// What Postgres accepts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Access {
    /// Reads and writes.
    ReadsAndWrites,
    /// Reads only.
    Reads,
}

impl Store {
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

    /// The time of Postgres's clock.
    pub async fn time(&self) -> Result<Timestamp, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::time",
            sql: "-- store::time\nselect (extract(epoch from clock_timestamp()) * 1000)::bigint",
        };
        let rows = self.read(STATEMENT, &[]).await?;
        let row = rows.first().ok_or(Error::Row("the clock"))?;
        Ok(Timestamp::from_millis(row.get(0)))
    }

    /// Whether Postgres accepts writes now, besides reads: it is no standby, is not read-only, and refused no change as a whole in the last
    /// three seconds. An error: it does not answer.
    pub async fn access(&self) -> Result<Access, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::access",
            sql: "-- store::access
                  select not pg_is_in_recovery() and current_setting('transaction_read_only') = 'off'",
        };
        let probe = Self {
            pool: self.probe.clone(),
            ..self.clone()
        };
        let accepts_writes = probe.read(STATEMENT, &[]).await?.first().is_some_and(|row| row.get(0));
        let refused = *self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(
            match accepts_writes && refused.is_none_or(|at| at.elapsed() > REFUSED_FOR) {
                true => Access::ReadsAndWrites,
                false => Access::Reads,
            },
        )
    }

    /// Records that the database as a whole refused a change.
    pub(super) fn record_refusal(&self) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Records that the database made a change.
    pub(super) fn record_write(&self) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
