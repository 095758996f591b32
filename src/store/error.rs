//! What can go wrong between a statement and its answer.

use std::fmt;

use deadpool_postgres::PoolError;
use tokio_postgres::error::SqlState;

/// What Postgres, or the way to it, said: its SQLSTATE and its message, without the detail, which can hold rows and
/// parameters.
#[derive(Clone, Debug)]
pub struct Cause {
    sqlstate: Option<String>,
    constraint: Option<Constraint>,
    message: String,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.sqlstate {
            Some(sqlstate) => write!(f, "{} (SQLSTATE {sqlstate})", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Cause {}

impl From<&tokio_postgres::Error> for Cause {
    fn from(error: &tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(error) => Self {
                sqlstate: Some(error.code().code().to_owned()),
                constraint: error.constraint().and_then(Constraint::named),
                message: error.message().to_owned(),
            },
            None => Self::new(match std::error::Error::source(error) {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            }),
        }
    }
}

impl Cause {
    fn new(message: impl Into<String>) -> Self {
        Self {
            sqlstate: None,
            constraint: None,
            message: message.into(),
        }
    }

    pub(super) fn timeout() -> Self {
        Self::new("no answer within the time limit")
    }
}

/// A constraint of the schema that refuses a change where two calls meet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Constraint {
    /// The resource group of a certificate exists.
    ResourceGroupOfCertificate,
    /// The name of a resource group is unique in its account.
    ResourceGroupName,
}

impl Constraint {
    fn named(name: &str) -> Option<Self> {
        match name {
            "resource_group_of_certificate" => Some(Self::ResourceGroupOfCertificate),
            "resource_group_name" => Some(Self::ResourceGroupName),
            _ => None,
        }
    }
}

/// Why the store did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Postgres can't be reached, can't write, or was too slow. Nothing was changed; trying again may help.
    #[error("the database is unavailable")]
    Unavailable(#[source] Cause),
    /// The connection was lost in a commit, and whether it took effect could not be learnt.
    #[error("the outcome is unknown")]
    OutcomeUnknown(#[source] Cause),
    /// A statement failed in a way that none should: a fault of certkeep or of the schema.
    #[error("the statement {statement} failed")]
    Statement {
        /// The function that the statement belongs to.
        statement: &'static str,
        /// What Postgres said.
        #[source]
        cause: Cause,
    },
    /// A constraint refused the change. Nothing was changed.
    #[error("the constraint {0:?} refused the change")]
    Constraint(Constraint, #[source] Cause),
    /// A row does not hold what its table promises.
    #[error("a row of {0} is damaged")]
    Row(&'static str),
}

impl Error {
    /// The error of a statement that failed and will fail again.
    pub(super) fn of_statement(statement: &'static str, cause: Cause) -> Self {
        match cause.constraint {
            Some(constraint) => Self::Constraint(constraint, cause),
            None => Self::Statement { statement, cause },
        }
    }
}

/// What to do about a failed statement.
pub(super) enum Failure {
    /// It was rolled back and may be repeated: a serialization failure or a deadlock.
    Repeat(Cause),
    /// It was not executed, since its server takes no writes: another one may.
    Elsewhere(Cause),
    /// The connection was lost: the outcome must be looked up.
    Lost(Cause),
    /// It was certainly not executed, and the database is to blame.
    Unavailable(Cause),
    /// It should not have failed.
    Fault(Cause),
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        let cause = Cause::from(&error);
        let Some(code) = error.code() else {
            // A statement that can't be encoded or decoded is a fault of ours; whatever else has no SQLSTATE is a
            // connection's death.
            let ours = error.to_string().starts_with("error serializing parameter")
                || error.to_string().starts_with("expected ");
            return if ours { Self::Fault(cause) } else { Self::Lost(cause) };
        };
        match *code {
            SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED => Self::Repeat(cause),
            // A backend that is told to go may have committed before.
            SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN | SqlState::IDLE_SESSION_TIMEOUT => Self::Lost(cause),
            SqlState::QUERY_CANCELED | SqlState::LOCK_NOT_AVAILABLE | SqlState::CANNOT_CONNECT_NOW => {
                Self::Unavailable(cause)
            }
            SqlState::READ_ONLY_SQL_TRANSACTION => Self::Elsewhere(cause),
            // Class 08, connection exceptions; class 53, insufficient resources: the disk, memory, connections;
            // class 58, system errors: what the file system refused.
            ref code if code.code().starts_with("08") => Self::Lost(cause),
            ref code if code.code().starts_with("53") || code.code().starts_with("58") => Self::Unavailable(cause),
            _ => Self::Fault(cause),
        }
    }
}

impl From<PoolError> for Cause {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => Self::from(&error),
            error => Self::new(error.to_string()),
        }
    }
}
