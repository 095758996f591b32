//! The error of the service, in the words of the command line.

use std::collections::BTreeMap;

use certkeep_client::{CallError, refused_key};
use serde_json::Value;
use tonic_types::StatusExt;

use super::print::{self, plain};
use super::{document, words};
use crate::grpc::{name_of, pb};

/// What the service says about a refused call.
#[derive(Debug, Default)]
pub(super) struct ServiceError {
    /// The code of gRPC, for example `INVALID_ARGUMENT`.
    pub(super) code: &'static str,
    pub(super) message: String,
    /// Empty if the error is not the service's own.
    pub(super) reason: String,
    pub(super) violations: Vec<Violation>,
    /// The findings about a refused pair.
    findings: Vec<pb::Finding>,
    pub(super) metadata: BTreeMap<String, String>,
    /// The holders that serve the certificate.
    holders: Vec<String>,
    /// Where the access key is from that the service refused, and which service.
    refused_key: Option<[String; 2]>,
    pub(super) request_id: String,
}

/// An invalid field.
#[derive(Debug)]
pub(super) struct Violation {
    /// The name of its flag.
    pub(super) field: String,
    pub(super) reason: String,
    pub(super) message: String,
}

impl ServiceError {
    pub(super) fn of(error: &CallError) -> Self {
        let status = &error.status;
        let details = status.get_error_details();
        let info = details.error_info();
        let violations = details.bad_request().map(|request| request.field_violations.as_slice());
        let violation = |wrong: &tonic_types::FieldViolation| Violation {
            field: words::flag(&wrong.field).to_owned(),
            reason: wrong.reason.clone(),
            message: words::sentence(&wrong.description),
        };
        let failed = details
            .precondition_failure()
            .map(|failed| failed.violations.as_slice());
        let in_use = failed
            .unwrap_or_default()
            .iter()
            .filter(|wrong| wrong.r#type == pb::Reason::CertificateInUse.name());
        Self {
            code: name_of(status.code()),
            message: words::sentence(status.message()),
            reason: info.map(|info| info.reason.clone()).unwrap_or_default(),
            violations: violations.unwrap_or_default().iter().map(violation).collect(),
            findings: error.findings.clone(),
            metadata: info
                .map(|info| info.metadata.clone().into_iter().collect())
                .unwrap_or_default(),
            holders: in_use.map(|wrong| wrong.description.clone()).collect(),
            refused_key: refused_key(status),
            request_id: details
                .request_info()
                .map(|info| info.request_id.clone())
                .unwrap_or_default(),
        }
    }

    /// The message, and a line for each detail.
    pub(super) fn text(&self) -> String {
        let mut lines: Vec<(&str, &str)> = Vec::new();
        if !self.reason.is_empty() {
            lines.push(("reason", &self.reason));
        }
        lines.extend(self.violations.iter().map(|wrong| (&*wrong.field, &*wrong.message)));
        lines.extend(self.holders.iter().map(|holder| ("held by", &**holder)));
        lines.extend(self.metadata.get("lost_names").map(|names| ("lost names", &**names)));
        if let Some([key, endpoint]) = &self.refused_key {
            lines.extend([("access key", &**key), ("endpoint", &**endpoint)]);
        }
        let refusing = self
            .findings
            .iter()
            .filter(|finding| finding.severity() == pb::Severity::Error);
        lines.extend(refusing.map(|finding| (print::code(finding), &*finding.message)));
        if !self.request_id.is_empty() {
            lines.push(("request id", &self.request_id));
        }
        let width = lines.iter().map(|(label, _)| label.len()).max().unwrap_or_default();
        let lines: String = lines
            .iter()
            .map(|(label, value)| format!("\n  {:<width$}  {}", plain(label), plain(value)))
            .collect();
        format!("{}{lines}", plain(&self.message))
    }

    pub(super) fn findings_json(&self) -> Value {
        let finding = |finding: &pb::Finding| document::value("Finding", finding).unwrap_or_default();
        self.findings.iter().map(finding).collect()
    }
}
