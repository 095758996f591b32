//! Why a call failed, and what its caller must know.

use std::fmt;
use std::time::Duration;

use prost::Message;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::connect_error::ConnectError;
use crate::pb::{self, Reason};

/// A call that failed.
#[derive(Debug)]
pub struct CallError {
    /// What happened on the other side.
    pub outcome: Outcome,
    /// The reason that the service gives. `None`: the service gave none, or this client is older than the reason.
    pub reason: Option<Reason>,
    /// Every wrong field.
    pub violations: Vec<Violation>,
    /// The findings about a refused certificate.
    pub findings: Vec<pb::Finding>,
    /// The id in the service's log. Empty: the service did not answer.
    pub request_id: String,
    /// The time after which a repetition may succeed, if the service says it.
    pub retry_after: Option<Duration>,
    /// The answer itself.
    pub status: Status,
}

/// What a failed call did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The service refused the call, and refuses it again. Nothing was changed.
    Refused,
    /// The call was not sent, or the service could not serve it now. Nothing was changed. A repetition may succeed.
    Unchanged,
    /// The call took effect or did not: the connection broke, the deadline passed, or the service lost its database (`OUTCOME_UNKNOWN`). With a
    /// `client_token`, repeat it: the answer is that of the first call. Without one, look up whether the change is there.
    Unknown,
}

/// A wrong field of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    /// The name of the field in the schema.
    pub field: String,
    /// What is wrong with it.
    pub description: String,
}

impl Outcome {
    /// What the call with this status did.
    pub fn of(status: &Status) -> Self {
        if ConnectError::of(status).is_some() {
            return Self::Unchanged;
        }
        let details = status.get_error_details();
        // Only the service itself gives a reason.
        let Some(info) = details.error_info() else {
            return Self::Unknown;
        };
        let is_busy = [Reason::ResourceBusy, Reason::RateLimited]
            .iter()
            .any(|busy| info.reason == busy.name());
        match status.code() {
            _ if is_busy => Self::Unchanged,
            Code::Unavailable => Self::Unchanged,
            Code::DeadlineExceeded | Code::Unknown => Self::Unknown,
            _ => Self::Refused,
        }
    }
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info();
        let reason = info.and_then(|info| Reason::of_name(&info.reason));
        let violations = details.bad_request().map(|wrong| &wrong.field_violations[..]);
        let violations = violations.unwrap_or_default().iter().map(|wrong| Violation {
            field: wrong.field.clone(),
            description: wrong.description.clone(),
        });
        let request_id = details.request_info().map(|info| info.request_id.clone());
        Self {
            outcome: Outcome::of(&status),
            reason,
            violations: violations.collect(),
            findings: findings(&status),
            request_id: request_id.unwrap_or_default(),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
            status,
        }
    }
}

/// The findings about a refused certificate.
fn findings(status: &Status) -> Vec<pb::Finding> {
    let details = tonic_types::Status::decode(status.details())
        .unwrap_or_default()
        .details;
    let found = details
        .iter()
        .find(|detail| detail.type_url.ends_with("/certkeep.v1.Findings"));
    let found = found.and_then(|detail| pb::Findings::decode(detail.value.as_slice()).ok());
    found.unwrap_or_default().findings
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match ConnectError::of(&self.status) {
            Some(error) => write!(f, "{error}"),
            None => f.write_str(self.status.message()),
        }
    }
}

impl std::error::Error for CallError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.status)
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn only_the_service_can_say_that_nothing_was_changed() {
        for (code, reason, outcome) in [
            (Code::Aborted, Reason::ResourceBusy, Outcome::Unchanged),
            (Code::ResourceExhausted, Reason::RateLimited, Outcome::Unchanged),
            (Code::ResourceExhausted, Reason::QuotaExceeded, Outcome::Refused),
            (Code::Aborted, Reason::EtagMismatch, Outcome::Refused),
            (Code::Unavailable, Reason::DatabaseUnavailable, Outcome::Unchanged),
            (Code::Unknown, Reason::OutcomeUnknown, Outcome::Unknown),
            (Code::DeadlineExceeded, Reason::DeadlineExceeded, Outcome::Unknown),
        ] {
            let details = ErrorDetails::with_error_info(reason.name(), "certkeep", []);
            let error = CallError::from(Status::with_error_details(code, "", details));
            assert_eq!((error.reason, error.outcome), (Some(reason), outcome));
        }
        let proxy = CallError::from(Status::unavailable("upstream reset"));
        assert_eq!((proxy.reason, proxy.outcome), (None, Outcome::Unknown));
    }
}
