//! The errors between a statement and its answer.

use std::error::Error as StdError;
use std::fmt;

use deadpool_postgres::{PoolError, TimeoutType};
use tokio_postgres::error::SqlState;

/// The source of an error: the SQLSTATE and message of Postgres, or the chain of errors of the connection. It does not contain
/// Postgres's detail, which can hold rows and parameters.
#[derive(Clone, Debug)]
pub struct Cause {
    sqlstate: Option<String>,
    constraint: Option<Constraint>,
    message: String,
    /// Whether a new attempt meets it again until somebody changes a setting.
    is_lasting: bool,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.sqlstate {
            Some(sqlstate) => write!(f, "{} (SQLSTATE {sqlstate})", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl StdError for Cause {}

impl From<&tokio_postgres::Error> for Cause {
    fn from(error: &tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(error) => Self {
                sqlstate: Some(error.code().code().to_owned()),
                constraint: error.constraint().and_then(Constraint::named),
                message: error.message().to_owned(),
                is_lasting: is_about_settings(error.code().code()),
            },
            None => Self {
                is_lasting: is_about_our_settings(error),
                ..Self::new(chain(error))
            },
        }
    }
}

/// Whether a server refused a connection for its parameters: user, password, database, options.
fn is_about_settings(sqlstate: &str) -> bool {
    ["28", "3D", "42", "22", "0A"]
        .iter()
        .any(|class| sqlstate.starts_with(class))
}

/// Whether an attempt to connect failed before the server could refuse it: a wrong certificate, or no password. An error of input
/// or output is no such error.
fn is_about_our_settings(error: &tokio_postgres::Error) -> bool {
    let text = chain(error);
    let mut source = error.source();
    while let Some(error) = source {
        if error.is::<std::io::Error>() {
            return false;
        }
        source = error.source();
    }
    let kinds = [
        "error performing TLS handshake",
        "invalid configuration",
        "authentication error",
    ];
    kinds.iter().any(|kind| text.starts_with(kind)) && !text.contains("unexpected EOF")
}

/// The text of an error and of all its sources. A source that the text before already contains is left out.
fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        source = error.source();
    }
    text
}

impl Cause {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self {
            sqlstate: None,
            constraint: None,
            message: message.into(),
            is_lasting: false,
        }
    }

    /// Whether a new attempt fails until somebody changes a setting.
    pub(super) fn is_lasting(&self) -> bool {
        self.is_lasting
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
    /// The name of an account is unique.
    AccountName,
}

impl Constraint {
    fn named(name: &str) -> Option<Self> {
        match name {
            "resource_group_of_certificate" => Some(Self::ResourceGroupOfCertificate),
            "resource_group_name" => Some(Self::ResourceGroupName),
            "account_name" => Some(Self::AccountName),
            _ => None,
        }
    }
}

/// Why the store did not do what the caller asked for.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Postgres cannot be reached, cannot write, or was too slow. Nothing was changed. A retry may succeed.
    #[error("the database is unavailable")]
    Unavailable(#[source] Cause),
    /// Another transaction held a lock for too long, or the statement took too long. Nothing was changed. A retry may succeed.
    #[error("the statement waited too long for other statements")]
    Busy(#[source] Cause),
    /// The connection was lost during a commit, and the outcome could not be learnt.
    #[error("the outcome is unknown")]
    OutcomeUnknown(#[source] Cause),
    /// A statement failed in a way that no statement should: a bug of certkeep or of the schema.
    #[error("the statement {statement} failed")]
    Statement {
        /// The function of the statement.
        statement: &'static str,
        /// The error of Postgres.
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
    /// Other transactions did not end in time.
    pub fn busy() -> Self {
        Self::Busy(Cause::timeout())
    }

    /// Whether the state of the database causes the error, so that a later attempt may succeed although nobody changes a setting.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unavailable(cause) | Self::Busy(cause) | Self::OutcomeUnknown(cause) => !cause.is_lasting,
            Self::Statement { .. } | Self::Constraint(..) | Self::Row(_) => false,
        }
    }

    /// The error of a look-up after a change that took effect. "Nothing was changed" would be wrong.
    pub(super) fn after_change(self) -> Self {
        match self {
            Self::Unavailable(cause) | Self::Busy(cause) => Self::OutcomeUnknown(cause),
            error => error,
        }
    }

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
    /// Postgres rolled it back, and it may be repeated: a serialization failure or a deadlock.
    Repeat(Cause),
    /// It ran into its time limit, or waited too long for a lock. It was rolled back. Only this call is concerned.
    Busy(Cause),
    /// It was not executed because its server is read-only. Another server may accept it.
    Elsewhere(Cause),
    /// The connection was lost: the outcome must be looked up.
    Lost(Cause),
    /// It was not executed, because of the database as a whole.
    Unavailable(Cause),
    /// It was executed, and the synchronous standby did not confirm the commits that its rows show.
    Unconfirmed(Cause),
    /// It should not have failed.
    Fault(Cause),
}

impl Failure {
    pub(super) fn into_cause(self) -> Cause {
        match self {
            Self::Repeat(cause)
            | Self::Busy(cause)
            | Self::Elsewhere(cause)
            | Self::Lost(cause)
            | Self::Unavailable(cause)
            | Self::Unconfirmed(cause)
            | Self::Fault(cause) => cause,
        }
    }

    /// Whether other statements would fail for the same reason, so that the service is not ready.
    pub(super) fn is_of_the_database(&self) -> bool {
        matches!(self, Self::Elsewhere(_) | Self::Unavailable(_))
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        let cause = Cause::from(&error);
        let Some(code) = error.code() else {
            // A statement that cannot be encoded or decoded is a bug of certkeep. Any other error without an SQLSTATE is a lost
            // connection.
            let ours = error.to_string().starts_with("error serializing parameter")
                || error.to_string().starts_with("expected ");
            return if ours { Self::Fault(cause) } else { Self::Lost(cause) };
        };
        match *code {
            SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED => Self::Repeat(cause),
            SqlState::QUERY_CANCELED | SqlState::LOCK_NOT_AVAILABLE => Self::Busy(cause),
            SqlState::READ_ONLY_SQL_TRANSACTION => Self::Elsewhere(cause),
            SqlState::CANNOT_CONNECT_NOW => Self::Unavailable(cause),
            // A backend that is terminated may have committed before.
            SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN | SqlState::IDLE_SESSION_TIMEOUT => Self::Lost(cause),
            ref code => match code.code().get(..2) {
                // Connection exceptions.
                Some("08") => Self::Lost(cause),
                // Insufficient resources (disk, memory, connections), and errors of the file system.
                Some("53" | "58") => Self::Unavailable(cause),
                _ => Self::Fault(cause),
            },
        }
    }
}

/// No connection: the statement was not sent.
impl From<PoolError> for Failure {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => Self::Unavailable(Cause::from(&error)),
            PoolError::Timeout(TimeoutType::Wait) => {
                Self::Busy(Cause::new("no connection to the database became free"))
            }
            PoolError::Timeout(_) => {
                Self::Unavailable(Cause::new("no connection to the database within the time limit"))
            }
            error => Self::Unavailable(Cause::new(error.to_string())),
        }
    }
}
