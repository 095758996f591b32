//! From error to Status: the only table of its kind.

use std::collections::HashMap;
use std::time::Duration;

use prost::Message;
use prost_types::Any;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use super::pb;
use super::render::{etag, finding};
use crate::app::{CertificateKind, Error, Reason, RequestId, Resource};
use crate::telemetry::metrics;

/// Of `google.rpc.ErrorInfo`.
const DOMAIN: &str = "certkeep";
/// All details stay below this together: clients refuse trailers of 8 KiB.
const MAX_DETAILS_LEN: usize = 4 * 1024;
/// Violations stay below this together.
const MAX_VIOLATIONS_LEN: usize = 3 * 1024;
const FINDINGS_TYPE: &str = "type.googleapis.com/certkeep.v1.Findings";
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The status of a refused call. A fault of this service is logged here, with its cause, and nowhere else.
pub(super) fn status(request_id: RequestId, error: &Error) -> Status {
    let mut details = Details::new(request_id, error.reason());
    match error {
        Error::Fields { faults, findings } => {
            details.violations(faults.iter().map(|wrong| {
                let mut violation = FieldViolation::new(&wrong.field, wrong.fault.to_string());
                violation.reason = wrong.fault.reason().as_str().to_owned();
                violation
            }));
            details.findings = findings.iter().cloned().map(finding).collect();
            if let Some(first) = faults.first() {
                details.metadata.insert("field".into(), first.field.clone());
                let parts = first.fault.metadata().into_iter();
                details
                    .metadata
                    .extend(parts.map(|(name, value)| (name.to_owned(), value)));
            }
        }
        Error::FieldsNotSupported(fields) => {
            details.violations(fields.iter().map(|field| {
                let mut violation = FieldViolation::new(*field, "it is not supported yet: leave it empty");
                violation.reason = Reason::FieldNotSupported.as_str().to_owned();
                violation
            }));
            details.metadata.insert("fields".into(), fields.join(","));
        }
        Error::NotFound(Resource::Certificate(kind, id)) => {
            let id = id.map(|id| id.to_string()).unwrap_or_default();
            let (resource_type, field) = names(*kind);
            details.others.set_resource_info(resource_type, &id, "", "");
            details.metadata.insert(field.into(), id);
        }
        Error::NotFound(Resource::ResourceGroup) => {
            details
                .others
                .set_resource_info("certkeep.v1.ResourceGroup", "", "", "");
        }
        Error::QuotaExceeded { kind, region } => {
            details.others.add_quota_failure_violation(
                format!("{}s of the account in {}", kind.noun(), region.as_str()),
                error.to_string(),
            );
            details.metadata.insert("region_id".into(), region.as_str().to_owned());
        }
        Error::EtagMismatch { revision } => {
            details.metadata.insert("etag".into(), etag(*revision));
        }
        Error::NotDeleted(id) => {
            details.others.add_precondition_failure_violation(
                Reason::NotDeleted.as_str(),
                id.to_string(),
                error.to_string(),
            );
            let (_, field) = names(id.kind);
            details.metadata.insert(field.into(), id.to_string());
        }
        Error::PermissionDenied { needed } => {
            details.metadata.insert("role".into(), needed.as_str().to_owned());
        }
        Error::DatabaseUnavailable(_) => {
            details.others.set_retry_info(Some(RETRY_AFTER));
            log(error);
        }
        Error::OutcomeUnknown(_) | Error::Internal(_) => log(error),
        Error::Unauthenticated | Error::AccessKeyDisabled | Error::AccountDisabled | Error::ClientTokenReused => {}
    }
    details.status(error.to_string())
}

/// The message of certificates of this kind, and the field that their id stands in.
fn names(kind: CertificateKind) -> (&'static str, &'static str) {
    match kind {
        CertificateKind::Server => ("certkeep.v1.ServerCertificate", "server_certificate_id"),
        CertificateKind::Ca => ("certkeep.v1.CACertificate", "ca_certificate_id"),
    }
}

/// The status of a call that was refused before any use case saw it, or that took too long.
pub(super) fn refusal(request_id: RequestId, reason: Reason, message: &str) -> Status {
    Details::new(request_id, reason).status(message.to_owned())
}

/// The status of a call that the service can not answer yet.
pub(super) fn unavailable(request_id: RequestId, message: &str) -> Status {
    let mut details = Details::new(request_id, Reason::DatabaseUnavailable);
    details.others.set_retry_info(Some(RETRY_AFTER));
    details.status(message.to_owned())
}

fn code(reason: Reason) -> Code {
    match reason {
        Reason::CertificateOrKeyMissing
        | Reason::CertificateMalformed
        | Reason::PrivateKeyMalformed
        | Reason::PrivateKeyUnsupported
        | Reason::PrivateKeyEncrypted
        | Reason::PrivateKeyMismatch
        | Reason::PrivateKeyCompromised
        | Reason::ChainUnrelatedCertificate
        | Reason::ChainTooComplex
        | Reason::LeafAmbiguous
        | Reason::PolicyRejected
        | Reason::NameInvalid
        | Reason::TagInvalid
        | Reason::PageTokenInvalid
        | Reason::FieldInvalid
        | Reason::MessageMalformed
        | Reason::RegionMissing
        | Reason::RegionNotFound => Code::InvalidArgument,
        Reason::ServerCertificateNotFound | Reason::CaCertificateNotFound | Reason::ResourceGroupNotFound => {
            Code::NotFound
        }
        Reason::MessageTooLarge | Reason::QuotaExceeded => Code::ResourceExhausted,
        Reason::ClientTokenReused => Code::AlreadyExists,
        Reason::EtagMismatch => Code::Aborted,
        Reason::NotDeleted => Code::FailedPrecondition,
        Reason::FieldNotSupported | Reason::MethodUnknown => Code::Unimplemented,
        Reason::DeadlineExceeded => Code::DeadlineExceeded,
        Reason::Unauthenticated | Reason::AccessKeyDisabled | Reason::AccountDisabled => Code::Unauthenticated,
        Reason::PermissionDenied => Code::PermissionDenied,
        Reason::DatabaseUnavailable => Code::Unavailable,
        Reason::OutcomeUnknown => Code::Unknown,
        Reason::Internal => Code::Internal,
    }
}

struct Details {
    reason: Reason,
    metadata: HashMap<String, String>,
    findings: Vec<pb::Finding>,
    others: ErrorDetails,
}

impl Details {
    fn new(request_id: RequestId, reason: Reason) -> Self {
        let mut others = ErrorDetails::new();
        others.set_request_info(request_id.to_string(), "");
        Self {
            reason,
            metadata: HashMap::new(),
            findings: Vec::new(),
            others,
        }
    }

    /// As many as there is room for; the rest is counted.
    fn violations(&mut self, violations: impl ExactSizeIterator<Item = FieldViolation>) {
        let total = violations.len();
        let mut len = 0;
        let listed: Vec<_> = violations
            .take_while(|violation| {
                len += violation.field.len() + violation.description.len() + violation.reason.len() + 16;
                len <= MAX_VIOLATIONS_LEN
            })
            .collect();
        if listed.len() < total {
            self.metadata
                .insert("violations_not_listed".into(), (total - listed.len()).to_string());
        }
        self.others.set_bad_request(listed);
    }

    fn status(mut self, message: String) -> Status {
        metrics::refused(self.reason.as_str());
        self.others.set_error_info(self.reason.as_str(), DOMAIN, self.metadata);
        let status = Status::with_error_details(code(self.reason), message, self.others);
        match self.findings.is_empty() {
            true => status,
            false => with_findings(&status, self.findings),
        }
    }
}

/// Adds [`pb::Findings`] to the details: as many as there is room for, the rest counted.
fn with_findings(status: &Status, findings: Vec<pb::Finding>) -> Status {
    // The details are those that were just encoded.
    let mut details = tonic_types::Status::decode(status.details()).unwrap_or_default();
    let total = findings.len();
    let mut room = MAX_DETAILS_LEN.saturating_sub(details.encoded_len() + FINDINGS_TYPE.len() + 32);
    let mut listed = pb::Findings {
        findings: findings
            .into_iter()
            .map_while(|finding| {
                room = room.checked_sub(finding.encoded_len() + 4)?;
                Some(finding)
            })
            .collect(),
        not_listed: 0,
    };
    listed.not_listed = (total - listed.findings.len()) as i32; // At most some for each of 20 certificates.
    details.details.push(Any {
        type_url: FINDINGS_TYPE.to_owned(),
        value: listed.encode_to_vec(),
    });
    Status::with_details(status.code(), status.message(), details.encode_to_vec().into())
}

fn log(error: &Error) {
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    let mut causes = Vec::new();
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    tracing::error!(reason = %error.reason(), cause = causes.join(": "), "call failed");
}
