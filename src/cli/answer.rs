//! The answer of the service, or the reason why there is no answer.

use certkeep_client::{CallError, ConnectError, ConnectFault, Outcome};
use tonic::{Response, Status};
use tonic_types::StatusExt;

use super::Failure;
use super::print::plain;
use super::service_error::ServiceError;
use crate::grpc::pb;

pub(super) use certkeep_client::pages;

/// The answer to a call.
pub(super) fn answered<T>(answer: Result<Response<T>, Status>, effect: Effect) -> Result<T, Failure> {
    answer
        .map(Response::into_inner)
        .map_err(|status| failed(status, effect))
}

/// The failure of a call. Each invalid field has its own line.
pub(super) fn failed(status: Status, effect: Effect) -> Failure {
    if let Some(error) = ConnectError::of(&status) {
        return not_sent(error);
    }
    let call = CallError::from(status);
    let error = ServiceError::of(&call);
    let text = error.text();
    let failure = match call.outcome {
        Outcome::Refused => Failure::refused(text),
        Outcome::Unchanged => Failure::unavailable(text),
        Outcome::Unknown => effect.failure(&text),
    };
    failure.because_of(error)
}

/// Nothing was sent. A wrong scheme is an error of the command line.
fn not_sent(error: &ConnectError) -> Failure {
    let text = plain(&error.to_string());
    match &error.fault {
        ConnectFault::SpeaksTls(_) | ConnectFault::SpeaksPlainText(_) => Failure::usage(text),
        ConnectFault::IssuerUnknown => {
            Failure::unavailable(format!("{text}; name the certificate of its CA with --ca-file"))
        }
        ConnectFault::ClientCertificateMissing => Failure::unavailable(format!("{text}; see --client-cert")),
        _ => Failure::unavailable(text),
    }
}

/// Whether another call held the resource for too long, or there were too many calls. Nothing was changed.
pub(super) fn is_busy(status: &Status) -> bool {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.as_str());
    [pb::Reason::ResourceBusy, pb::Reason::RateLimited]
        .iter()
        .any(|busy| reason == Some(busy.name()))
}

/// The effect of a call. It determines the meaning of a lost answer.
#[derive(Clone, Copy)]
pub(super) enum Effect {
    Reads,
    Changes,
}

impl Effect {
    fn failure(self, text: &str) -> Failure {
        match self {
            Self::Reads => Failure::unavailable(format!("there was no answer: {text}")),
            Self::Changes => Failure::unknown(format!("it is not known whether the call took effect: {text}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn a_busy_resource_may_be_tried_again_and_a_newer_etag_may_not() {
        for (reason, exit_code) in [
            (pb::Reason::ResourceBusy, 3),
            (pb::Reason::RateLimited, 3),
            (pb::Reason::EtagMismatch, 1),
        ] {
            let details = ErrorDetails::with_error_info(reason.name(), "certkeep", []);
            let status = Status::with_error_details(tonic::Code::Aborted, "", details);
            assert_eq!(failed(status, Effect::Changes).code, exit_code);
        }
    }
}
