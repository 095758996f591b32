//! From error to `Status` with its details.

use std::collections::HashMap;
use std::time::Duration;

use prost::Message;
use prost_types::Any;
use tonic::Status;
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use super::pb::{self, Reason};
use super::reason::{self, code};
use super::render::{self, etag};
use super::words::{self, Refusal, field_name};
use crate::app::{
    CaCertificateError, CasError, CertificateError, CertificateKind, Error, Field, FieldError, IdentityKind,
    IdentityName, NameError, PrivateKeyError, RESOURCE_TYPE, RequestId, Resource, TagError, TagsError, TextError,
};
use crate::telemetry::{self, metrics};

/// The domain in `google.rpc.ErrorInfo`.
const DOMAIN: &str = "certkeep";
/// The maximum size of all details together. Clients refuse trailers of 8 KiB.
const MAX_DETAILS_LEN: usize = 4 * 1024;
/// The maximum size of all violations together.
const MAX_VIOLATIONS_LEN: usize = 3 * 1024;
/// The maximum size of the names of a client certificate.
const MAX_CLIENT_NAMES_LEN: usize = 2 * 1024;
/// The maximum size of the names that a renewal would lose. The details contain them twice.
const MAX_LOST_NAMES_LEN: usize = 1024;
const FINDINGS_TYPE: &str = "type.googleapis.com/certkeep.v1.Findings";
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The status of a refused call. Errors of this service are logged here with their causes, and nowhere else.
pub(super) fn status(request_id: RequestId, error: &Error) -> Status {
    let reason = reason::of_error(error);
    let message = words::error(error);
    let mut details = Details::new(request_id, reason);
    match error {
        Error::Fields { violations, findings } => {
            details.violations(violations.iter().map(|violation| {
                let description = words::violation(violation, field_name);
                let mut listed = FieldViolation::new(field_name(violation.field), description);
                listed.reason = reason::of_field(&violation.error).name().to_owned();
                listed
            }));
            details.findings = render::findings(findings, field_name);
            if let Some(first) = violations.first() {
                details.metadata("field", field_name(first.field));
                for (name, value) in parts(&first.error) {
                    details.metadata(name, value);
                }
            }
        }
        Error::NotFound(Resource::Certificate(Some(kind), id)) => {
            let id = id.map(|id| id.to_string()).unwrap_or_default();
            details.others.set_resource_info(message_of(*kind), &id, "", "");
            details.metadata(&field_name(Field::CertificateId(*kind)), id);
        }
        Error::NotFound(Resource::Certificate(None, id)) => {
            let id = id.map(|id| id.to_string()).unwrap_or_default();
            details.others.set_resource_info(RESOURCE_TYPE, &id, "", "");
            details.metadata("resource_type", RESOURCE_TYPE);
            details.metadata(&field_name(Field::ResourceId), id);
        }
        Error::NotFound(Resource::ResourceGroup) => {
            details
                .others
                .set_resource_info("certkeep.v1.ResourceGroup", "", "", "");
        }
        Error::QuotaExceeded { kind, region, quota } => {
            let subject = format!("{}s of the account in {region}", words::noun(*kind));
            details.others.add_quota_failure_violation(subject, message.clone());
            details.metadata("region_id", region.as_str());
            details.metadata("used", quota.used.to_string());
            details.metadata("limit", quota.limit.to_string());
        }
        Error::NotFound(Resource::AccessKey) => {
            details.others.set_resource_info("certkeep.v1.AccessKey", "", "", "");
        }
        Error::AccessKeyQuotaExceeded(quota) => {
            details
                .others
                .add_quota_failure_violation("access keys of the account", message.clone());
            details.metadata("used", quota.used.to_string());
            details.metadata("limit", quota.limit.to_string());
        }
        Error::OutOfScope(field) => details.metadata("field", field_name(*field)),
        Error::AccessKeyEnabled(id) | Error::LastAdminKey(id) => {
            details
                .others
                .add_precondition_failure_violation(reason.name(), id, message.clone());
            details.metadata(&field_name(Field::AccessKeyId), id);
        }
        Error::EtagMismatch { revision } => details.metadata("etag", etag(*revision)),
        Error::NamesLost(names) => {
            let listed = fitting(names);
            details
                .others
                .add_precondition_failure_violation(reason.name(), listed.join(" "), message.clone());
            details.metadata("lost_names", listed.join(" "));
            if listed.len() < names.len() {
                details.metadata("lost_names_not_listed", (names.len() - listed.len()).to_string());
            }
        }
        Error::NotDeleted(kind, id) => {
            details
                .others
                .add_precondition_failure_violation(reason.name(), id.to_string(), message.clone());
            details.metadata(&field_name(Field::CertificateId(*kind)), id.to_string());
        }
        Error::CertificateInUse { kind, id, holders, .. } => {
            details.in_use(&id.to_string(), holders);
            details.metadata(&field_name(Field::CertificateId(*kind)), id.to_string());
        }
        Error::TooManyHolders(id) => {
            let subject = format!("holders of {id}");
            details.others.add_quota_failure_violation(subject, message.clone());
        }
        Error::ResourceGroupNotEmpty(id) => {
            details
                .others
                .add_precondition_failure_violation(reason.name(), id.to_string(), message.clone());
            details.metadata(&field_name(Field::ResourceGroupId), id.to_string());
        }
        Error::NotFound(Resource::KeyEncryptionKey) => {
            details
                .others
                .set_resource_info("certkeep.v1.KeyEncryptionKey", "", "", "");
        }
        Error::KeyNotOnAllReplicas { key, replicas } => {
            details
                .others
                .add_precondition_failure_violation(reason.name(), key.to_string(), message.clone());
            details.metadata("key_encryption_key_id", key.to_string());
            details.metadata("replicas", replicas.join(", "));
        }
        Error::KeyInUse(key) | Error::RotationInProgress(key) => {
            details
                .others
                .add_precondition_failure_violation(reason.name(), key.to_string(), message.clone());
            details.metadata("key_encryption_key_id", key.to_string());
        }
        Error::PermissionDenied { allowed } => {
            let roles: Vec<_> = allowed.iter().map(|role| role.as_str()).collect();
            details.metadata("roles", roles.join(","));
        }
        Error::ClientIdentityUnknown(names) => {
            for (name, value) in client_names(names) {
                details.metadata(name, value);
            }
        }
        Error::RateLimited { limit, wait } => {
            metrics::rate_limited(limit.name());
            if limit.is_log_due() {
                tracing::warn!(limit = limit.name(), "a limit refuses calls");
            }
            details.others.set_retry_info(Some(*wait));
            details.metadata("limit", limit.name());
            if let Some(rate) = limit.rate() {
                details.metadata("calls_per_second", rate.to_string());
            }
        }
        Error::StreamEnded { resume_token } | Error::WatcherTooSlow { resume_token } => {
            details.metadata(&field_name(Field::ResumeToken), resume_token);
        }
        Error::DatabaseUnavailable(_) | Error::ResourceBusy(_) => {
            details.others.set_retry_info(Some(RETRY_AFTER));
            log(reason, error);
        }
        Error::NameAmbiguous { count } => {
            details.metadata("count", count.to_string());
        }
        Error::VersionNotFound { certificate, version } => {
            details.others.set_resource_info(
                "certkeep.v1.ServerCertificateVersion",
                format!("{certificate}/{version}"),
                "",
                "",
            );
            details.metadata("version", version.to_string());
        }
        Error::FormatUnfit(algorithm) => details.metadata("key_algorithm", algorithm.as_str()),
        Error::SealedKeyUnreadable {
            certificate, version, ..
        } => {
            details.metadata(
                &field_name(Field::CertificateId(CertificateKind::Server)),
                certificate.to_string(),
            );
            details.metadata("version", version.to_string());
            log(reason, error);
        }
        Error::StoredCertificateDamaged { kind, certificate, .. } => {
            details.metadata(&field_name(Field::CertificateId(*kind)), certificate.to_string());
            log(reason, error);
        }
        Error::AliCloud(id, cause) => {
            details.metadata(&field_name(Field::AliCloudCertificateId), id.as_str());
            match cause {
                CasError::NotFound(refusal) | CasError::Refused(refusal) => {
                    details.metadata("ali_cloud_code", &refusal.code);
                    details.metadata("ali_cloud_request_id", &refusal.request_id);
                }
                CasError::Unavailable(_) => {
                    details.others.set_retry_info(Some(RETRY_AFTER));
                }
                CasError::Paused { wait } => {
                    details.others.set_retry_info(Some(*wait));
                }
                CasError::Answer(_) | CasError::Credentials(_) | CasError::Random(_) => {}
            }
            // A pause was logged when it began. An unknown id is the caller's.
            if !matches!(cause, CasError::NotFound(_) | CasError::Paused { .. }) {
                log(reason, error);
            }
        }
        Error::OutcomeUnknown(_) | Error::Internal(_) => log(reason, error),
        Error::Unauthenticated
        | Error::Signature(_)
        | Error::ClientIdentityAmbiguous
        | Error::ClientCertificateExpired
        | Error::CredentialsConflict(_)
        | Error::AccountNotFound
        | Error::AliCloudNotConfigured
        | Error::ClientIdentityNotFound
        | Error::ClientIdentityExists
        | Error::AccessKeyDisabled
        | Error::AccessKeyExpired
        | Error::AccountDisabled
        | Error::AuditOutOfScope
        | Error::LeaseNotFound
        | Error::ResumeTokenExpired
        | Error::AccountExists
        | Error::ClientTokenReused => {}
    }
    details.status(message)
}

/// The status of a call that reached no use case, or that took too long.
pub(super) fn refusal(request_id: RequestId, refusal: Refusal) -> Status {
    let mut details = Details::new(request_id, reason::of_refusal(refusal));
    if let Refusal::Starting = refusal {
        details.others.set_retry_info(Some(RETRY_AFTER));
    }
    details.status(words::refusal(refusal).to_owned())
}

/// The first names, as many as fit into the details.
fn fitting(names: &[String]) -> Vec<&str> {
    let mut room = MAX_LOST_NAMES_LEN;
    let fits = |name: &&str| {
        let left = room.checked_sub(name.len() + 1);
        room = left.unwrap_or_default();
        left.is_some()
    };
    names.iter().map(String::as_str).take_while(fits).collect()
}

/// The names of a client certificate, so that an operator can create a client identity for one of them. Not more than fits into the
/// details.
fn client_names(names: &[IdentityName]) -> Vec<(&'static str, String)> {
    let mut room = MAX_CLIENT_NAMES_LEN;
    let of_kind = |kind: IdentityKind| {
        let mut text = String::new();
        for name in names.iter().filter(|name| name.kind == kind) {
            let Some(left) = room.checked_sub(name.value.len() + 1) else {
                break;
            };
            room = left;
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(&name.value);
        }
        (kind.as_str(), text)
    };
    IdentityKind::ALL
        .map(of_kind)
        .into_iter()
        .filter(|(_, text)| !text.is_empty())
        .collect()
}

fn log(reason: Reason, error: &Error) {
    tracing::error!(reason = reason.name(), cause = telemetry::causes(error), "call failed");
}

/// The protobuf message for certificates of this kind.
fn message_of(kind: CertificateKind) -> &'static str {
    match kind {
        CertificateKind::Server => "certkeep.v1.ServerCertificate",
        CertificateKind::Ca => "certkeep.v1.CACertificate",
    }
}

/// The variable parts of the sentence about a field, by name.
fn parts(error: &FieldError) -> Vec<(&'static str, String)> {
    let part = |name, value: usize| vec![(name, value.to_string())];
    match error {
        FieldError::Certificate(CertificateError::Text(error))
        | FieldError::CaCertificate(CaCertificateError::Text(error)) => match error {
            TextError::TooLarge { bytes } => part("bytes", *bytes),
            TextError::Pem(error) => error.block().map(|block| part("block", block)).unwrap_or_default(),
            _ => Vec::new(),
        },
        FieldError::Certificate(CertificateError::Malformed { index, .. }) => part("certificate", *index),
        FieldError::Certificate(CertificateError::UnsupportedKey(key))
        | FieldError::CaCertificate(CaCertificateError::UnsupportedKey(key))
        | FieldError::PrivateKey(PrivateKeyError::Unsupported(key)) => vec![("key", words::key_kind(key))],
        FieldError::Certificate(CertificateError::LeafAmbiguous { first, second }) => vec![
            ("certificate", first.to_string()),
            ("other_certificate", second.to_string()),
        ],
        FieldError::Certificate(CertificateError::Unrelated { index, subject, .. }) => {
            vec![("certificate", index.to_string()), ("subject", subject.clone())]
        }
        FieldError::PrivateKey(PrivateKeyError::TooLarge { bytes }) => part("bytes", *bytes),
        FieldError::PrivateKey(PrivateKeyError::Pem(error)) => {
            error.block().map(|block| part("block", block)).unwrap_or_default()
        }
        FieldError::Policy(codes) | FieldError::Compromised(codes) => vec![("findings", words::list(codes))],
        FieldError::TooMany { count, .. } | FieldError::Tags(TagsError::TooMany { count }) => part("count", *count),
        FieldError::TagsOfResource { index, count } => {
            vec![("resource", index.to_string()), ("count", count.to_string())]
        }
        FieldError::Name(NameError::TooLong { chars }) | FieldError::AccountName(NameError::TooLong { chars }) => {
            part("characters", *chars)
        }
        FieldError::TooLong { chars, .. } => part("characters", *chars),
        FieldError::ControlCharacter { position } => part("position", *position),
        FieldError::Name(NameError::Character { position })
        | FieldError::AccountName(NameError::Character { position }) => part("position", *position),
        FieldError::Tags(TagsError::Tag {
            error: TagError::TooLong { chars, .. },
            ..
        }) => part("characters", *chars),
        _ => Vec::new(),
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

    fn metadata(&mut self, name: &str, value: impl Into<String>) {
        self.metadata.insert(name.to_owned(), value.into());
    }

    /// Lists the holders of a certificate up to the limit of violations.
    fn in_use(&mut self, id: &str, holders: &[String]) {
        let reason = self.reason.name();
        let mut len = 0;
        let listed = holders.iter().take_while(|holder| {
            len += reason.len() + id.len() + holder.len() + 16;
            len <= MAX_VIOLATIONS_LEN
        });
        for holder in listed {
            self.others.add_precondition_failure_violation(reason, id, holder);
        }
    }

    /// Lists the violations up to their limit, and counts the rest.
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
            self.metadata("violations_not_listed", (total - listed.len()).to_string());
        }
        self.others.set_bad_request(listed);
    }

    fn status(mut self, message: String) -> Status {
        let reason = self.reason.name();
        metrics::refused(reason);
        self.others.set_error_info(reason, DOMAIN, self.metadata);
        let status = Status::with_error_details(code(self.reason), message, self.others);
        match self.findings.is_empty() {
            true => status,
            false => with_findings(&status, self.findings),
        }
    }
}

/// Adds [`pb::Findings`] to the details up to their limit, and counts the rest.
fn with_findings(status: &Status, findings: Vec<pb::Finding>) -> Status {
    // These details were just encoded.
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
    listed.not_listed = (total - listed.findings.len()) as i32; // A few for each of at most 20 certificates.
    details.details.push(Any {
        type_url: FINDINGS_TYPE.to_owned(),
        value: listed.encode_to_vec(),
    });
    Status::with_details(status.code(), status.message(), details.encode_to_vec().into())
}
