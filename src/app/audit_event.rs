//! Audit events as callers see them.

use serde_json::Value;

use super::{Call, Error, RequestId};
use crate::account::AccountId;
use crate::inventory::{CertificateKind, ResourceGroupId};
use crate::store::{AuditSubject, StoredAuditEvent, Trail};

/// An audit event.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditEvent {
    /// The trail that has the event.
    pub trail: Trail,
    /// Its place in the trail, from 1 on, without gaps.
    pub position: i64,
    /// When it happened, in microseconds since 1970.
    pub occurred_us: i64,
    /// The request.
    pub request_id: RequestId,
    /// The method. A word in lower case, such as `purge`, is something that the service did without a call.
    pub method: String,
    /// How it ended.
    pub outcome: AuditOutcome,
    /// Of a denial: the reason that the caller was told, such as `PERMISSION_DENIED`. Otherwise empty.
    pub reason: String,
    /// Who called. Empty: the service itself, or a command on its host.
    pub principal: String,
    /// The address of the caller. Empty: the service itself, or a command on its host.
    pub address: String,
    /// The type of the resource, such as `access_key`. Empty: none.
    pub resource_type: String,
    /// The id of the resource. Empty: none.
    pub resource_id: String,
    /// The version of the certificate. 0: none.
    pub version: i64,
    /// What changed.
    pub changes: Vec<AuditChange>,
    /// The number of calls that the event stands for.
    pub count: i64,
}

/// A field that changed.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditChange {
    /// The name of the field.
    pub field: String,
    /// The value before. `None`: there was none.
    pub before: Option<Value>,
    /// The value after. `None`: there is none.
    pub after: Option<Value>,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AuditOutcome {
    /// It was done.
    Done,
    /// It was denied.
    Denied,
    /// A private key was handed out.
    Delivered,
}

impl AuditOutcome {
    fn from_name(name: &str) -> Option<Self> {
        match name {
            "done" => Some(Self::Done),
            "denied" => Some(Self::Denied),
            "delivered" => Some(Self::Delivered),
            _ => None,
        }
    }
}

impl AuditEvent {
    pub(super) fn of(stored: StoredAuditEvent) -> Result<Self, Error> {
        let trail = stored.trail();
        let changes = changes(stored.account, stored.detail.as_deref())?;
        let mut event = Self {
            trail,
            position: stored.position,
            occurred_us: stored.occurred_us,
            request_id: RequestId(stored.request_id),
            method: String::new(),
            outcome: AuditOutcome::Done,
            reason: String::new(),
            principal: stored.principal,
            address: stored
                .address
                .map(|address| without_network(&address))
                .unwrap_or_default(),
            resource_type: String::new(),
            resource_id: String::new(),
            version: stored.version.unwrap_or_default(),
            changes,
            count: 1,
        };
        match stored.subject {
            AuditSubject::Certificate { id, kind, change, .. } => {
                if change == "purged" {
                    // The detail has the last values.
                    event.changes.iter_mut().for_each(|change| change.after = None);
                }
                event.method = method_of(&change, kind, &event).to_owned();
                event.resource_type = match kind {
                    CertificateKind::Server => "server_certificate",
                    CertificateKind::Ca => "ca_certificate",
                }
                .to_owned();
                event.resource_id = id.to_string();
            }
            AuditSubject::Access {
                method,
                outcome,
                reason,
                resource_type,
                resource_id,
                count,
            } => {
                event.method = method;
                event.outcome = AuditOutcome::from_name(&outcome).ok_or_else(|| Error::internal(DamagedEvent))?;
                event.reason = reason;
                event.resource_type = resource_type;
                event.resource_id = resource_id;
                event.count = count;
            }
        }
        Ok(event)
    }
}

/// An event that the database should not have.
#[derive(Debug, thiserror::Error)]
#[error("an audit event is damaged")]
struct DamagedEvent;

/// The method that makes this change of a certificate. Without a retention time, the service
/// purges a certificate right after its deletion.
fn method_of(change: &str, kind: CertificateKind, event: &AuditEvent) -> &'static str {
    use CertificateKind::{Ca, Server};
    match (change, kind) {
        ("uploaded", Server) => "UploadServerCertificate",
        ("uploaded", Ca) => "UploadCACertificate",
        ("renamed", Server) => "SetServerCertificateName",
        ("renamed", Ca) => "SetCACertificateName",
        ("moved", _) => "MoveResourceGroup",
        // TagResources removes no key, and UntagResources adds none.
        ("tagged", _) => match event.changes.first() {
            Some(AuditChange { before, after, .. }) if keys(after) < keys(before) => "UntagResources",
            _ => "TagResources",
        },
        ("deleted", Server) => "DeleteServerCertificate",
        ("deleted", Ca) => "DeleteCACertificate",
        ("undeleted", Server) => "UndeleteServerCertificate",
        ("undeleted", Ca) => "UndeleteCACertificate",
        ("renewed", _) => "RenewServerCertificate",
        ("rolled_back", _) => "RollbackServerCertificate",
        // A proxy refused to load the certificate.
        ("rejected", _) => "reject",
        ("purged", _) if event.principal.is_empty() => "purge",
        ("purged", Server) => "PurgeServerCertificate",
        ("purged", Ca) => "PurgeCACertificate",
        _ => "unknown",
    }
}

fn keys(tags: &Option<Value>) -> usize {
    tags.as_ref().and_then(Value::as_object).map_or(0, serde_json::Map::len)
}

/// The address without the length of its network, if that is the length of a whole address.
fn without_network(address: &str) -> String {
    let whole = address.strip_suffix("/32").or_else(|| address.strip_suffix("/128"));
    whole.unwrap_or(address).to_owned()
}

/// The changes of `{"field": [before, after]}`. The stored default resource group is null.
fn changes(account: AccountId, detail: Option<&str>) -> Result<Vec<AuditChange>, Error> {
    let Some(detail) = detail else { return Ok(Vec::new()) };
    let detail: Value = serde_json::from_str(detail).map_err(Error::internal)?;
    let Value::Object(fields) = detail else {
        return Err(Error::internal(DamagedEvent));
    };
    let change = |(field, values): (String, Value)| {
        let known = |value: Value| match value {
            Value::Null if field == "resource_group_id" => {
                Some(Value::String(ResourceGroupId::default_of(account).to_string()))
            }
            Value::Null => None,
            value => Some(value),
        };
        let (before, after) = match values {
            Value::Array(mut pair) if pair.len() == 2 => {
                let after = pair.pop().and_then(known);
                (pair.pop().and_then(known), after)
            }
            value => (None, known(value)),
        };
        AuditChange { field, before, after }
    };
    Ok(fields.into_iter().map(change).collect())
}

/// The audit trail of an account is open to callers without a scope only: its events are about the whole account.
pub(super) fn require_no_scope(call: &Call) -> Result<(), Error> {
    match call.caller.scope.is_everything() {
        true => Ok(()),
        false => Err(Error::AuditOutOfScope),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_have_the_values_before_and_after() {
        let account = AccountId::from_i64(1_000_000_000_000_000);
        let change = |field: &str, before: Option<Value>, after: Option<Value>| AuditChange {
            field: field.to_owned(),
            before,
            after,
        };
        let detail =
            r#"{"name": ["a", "b"], "resource_group_id": [null, "rg-1"], "expires": ["x", null], "role": "reader"}"#;
        assert_eq!(
            changes(account, Some(detail)).unwrap(),
            [
                change("expires", Some("x".into()), None),
                change("name", Some("a".into()), Some("b".into())),
                change(
                    "resource_group_id",
                    Some("rg-1000000000000000".into()),
                    Some("rg-1".into())
                ),
                change("role", None, Some("reader".into())),
            ]
        );
        assert_eq!(changes(account, None).unwrap(), []);
        assert!(changes(account, Some("1")).is_err());
    }

    #[test]
    fn an_address_is_shown_without_its_network_only_if_it_is_whole() {
        let shown = ["192.0.2.1/32", "2001:db8::1/128", "192.0.2.1/24"].map(without_network);
        assert_eq!(shown, ["192.0.2.1", "2001:db8::1", "192.0.2.1/24"]);
    }
}
