//! The answer of the service, or the reason why there is no answer.

use prost::Message;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt;

use super::channel::refused_key;
use super::print::{self, plain};
use super::{Failure, words};
use crate::grpc::pb;

/// Requests all pages, each with the token of the previous page.
pub(super) async fn pages(mut page: impl AsyncFnMut(String) -> Result<String, Failure>) -> Result<(), Failure> {
    let mut page_token = page(String::new()).await?;
    while !page_token.is_empty() {
        page_token = page(page_token).await?;
    }
    Ok(())
}

/// The answer to a call.
pub(super) fn answered<T>(answer: Result<Response<T>, Status>, effect: Effect) -> Result<T, Failure> {
    answer
        .map(Response::into_inner)
        .map_err(|status| failed(status, effect))
}

/// The error of the service. Each invalid field has its own line.
pub(super) fn failed(status: Status, effect: Effect) -> Failure {
    let details = status.get_error_details();
    let mut lines = Vec::new();
    if let Some(info) = details.error_info() {
        lines.push(("reason", &info.reason));
    }
    if let Some(bad_request) = details.bad_request() {
        lines.extend(
            bad_request
                .field_violations
                .iter()
                .map(|wrong| (words::flag(&wrong.field), &wrong.description)),
        );
    }
    if let Some(failed) = details.precondition_failure() {
        let in_use = failed
            .violations
            .iter()
            .filter(|wrong| wrong.r#type == pb::Reason::CertificateInUse.name());
        lines.extend(in_use.map(|wrong| ("held by", &wrong.description)));
    }
    let lost_names = details.error_info().and_then(|info| info.metadata.get("lost_names"));
    lines.extend(lost_names.map(|names| ("lost names", names)));
    let refusing = findings(&status)
        .into_iter()
        .filter(|one| one.severity() == pb::Severity::Error);
    let refusing: Vec<_> = refusing.collect();
    let refused_key = refused_key(&status);
    if let Some([key, endpoint]) = &refused_key {
        lines.extend([("access key", key), ("endpoint", endpoint)]);
    }
    lines.extend(refusing.iter().map(|finding| (print::code(finding), &finding.message)));
    if let Some(info) = details.request_info() {
        lines.push(("request id", &info.request_id));
    }
    let width = lines.iter().map(|(label, _)| label.len()).max().unwrap_or_default();
    let lines: String = lines
        .iter()
        .map(|(label, value)| format!("\n  {:<width$}  {}", plain(label), plain(value)))
        .collect();
    let message = plain(status.message());
    let text = format!("{message}{lines}");
    // Only the service itself sends a reason.
    let is_from_service = details.error_info().is_some();
    match status.code() {
        Code::Unavailable if is_from_service => Failure::unavailable(text),
        _ if is_busy(&status) => Failure::unavailable(text),
        Code::DeadlineExceeded | Code::Unknown if is_from_service => effect.failure(&text),
        _ if is_from_service => Failure::refused(text),
        _ if never_connected(&status) => Failure::unavailable(format!("the service cannot be reached: {message}")),
        // The connection broke, or tonic's own timeout ended the call.
        _ => effect.failure(&text),
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

/// The findings about a refused pair.
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

fn never_connected(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
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
            let status = Status::with_error_details(Code::Aborted, "", details);
            assert_eq!(failed(status, Effect::Changes).code, exit_code);
        }
    }
}
