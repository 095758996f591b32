//! Who may do what, and how much: callers, roles, access keys, client identities, accounts and quotas as protobuf.

use super::timestamp;
use crate::app::{Account, Call, Caller, ClientIdentity, IdentityKind, ManagedKey, Quota, QuotaKind, Role, Scope};
use crate::clock;
use crate::grpc::pb;
use crate::secret::Secret;

pub(in crate::grpc) fn caller(call: &Call, now: clock::Timestamp) -> pb::DescribeCallerResponse {
    let Caller {
        principal,
        address,
        account,
        role,
        scope,
        expires,
    } = &call.caller;
    pb::DescribeCallerResponse {
        request_id: call.request_id.to_string(),
        account_id: account.to_string(),
        principal: principal.to_string(),
        role: self::role(*role).into(),
        address: address.to_string(),
        server_time: Some(timestamp(now)),
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
        scope: self::scope(scope),
        expire_time: expires.map(timestamp),
        access_key_id: principal.access_key_id().unwrap_or_default().to_owned(),
        client_identity: principal.client_identity().unwrap_or_default().to_owned(),
    }
}

fn role(role: Role) -> pb::Role {
    match role {
        Role::Reader => pb::Role::Reader,
        Role::Editor => pb::Role::Editor,
        Role::Consumer => pb::Role::Consumer,
        Role::Admin => pb::Role::Admin,
        Role::Operator => pb::Role::Operator,
    }
}

pub(in crate::grpc) fn identity_kind(kind: IdentityKind) -> pb::ClientIdentityKind {
    match kind {
        IdentityKind::SpiffeId => pb::ClientIdentityKind::SpiffeId,
        IdentityKind::DnsName => pb::ClientIdentityKind::DnsName,
        IdentityKind::Subject => pb::ClientIdentityKind::Subject,
    }
}

pub(in crate::grpc) fn client_identity(identity: ClientIdentity) -> pb::ClientIdentity {
    pb::ClientIdentity {
        kind: identity_kind(identity.name.kind).into(),
        value: identity.name.value,
        account_id: identity.account.to_string(),
        role: role(identity.role).into(),
        scope: scope(&identity.scope),
        create_time: Some(timestamp(identity.created)),
        created_by: identity.created_by,
    }
}

/// The message of a scope. The whole account has none.
fn scope(scope: &Scope) -> Option<pb::Scope> {
    (!scope.is_everything()).then(|| pb::Scope {
        region_ids: scope.regions.iter().map(ToString::to_string).collect(),
        resource_group_ids: scope.resource_groups.iter().map(ToString::to_string).collect(),
        name_prefixes: scope.name_prefixes.clone(),
    })
}

pub(in crate::grpc) fn access_key(key: ManagedKey) -> pb::AccessKey {
    pb::AccessKey {
        access_key_id: key.id,
        role: role(key.role).into(),
        scope: scope(&key.scope),
        description: key.description,
        disabled: key.disabled,
        create_time: Some(timestamp(key.created)),
        created_by: key.created_by,
        expire_time: key.expires.map(timestamp),
        last_use: key.last_use.map(|last| pb::AccessKeyUse {
            use_time: Some(timestamp(last.time)),
            address: last.address.to_string(),
            method: last.method,
        }),
        can_sign: key.can_sign,
    }
}

/// The secret of a new access key as the answer's text. The transport copies it to memory that is not wiped.
pub(in crate::grpc) fn secret(secret: Option<&Secret>) -> String {
    // A secret is base64url.
    secret
        .map(|secret| String::from_utf8_lossy(secret.expose()).into_owned())
        .unwrap_or_default()
}

pub(in crate::grpc) fn account(account: Account) -> pb::Account {
    pb::Account {
        account_id: account.id.to_string(),
        name: account.name,
        disabled: account.disabled,
        create_time: Some(timestamp(account.created)),
        server_certificate_count: account.server_certificates,
    }
}

pub(in crate::grpc) fn quota_kind(kind: QuotaKind) -> pb::QuotaKind {
    match kind {
        QuotaKind::ServerCertificates => pb::QuotaKind::ServerCertificates,
        QuotaKind::CaCertificates => pb::QuotaKind::CaCertificates,
        QuotaKind::AccessKeys => pb::QuotaKind::AccessKeys,
        QuotaKind::CallsPerSecond => pb::QuotaKind::CallsPerSecond,
        QuotaKind::CallsPerSecondPerKey => pb::QuotaKind::CallsPerSecondPerKey,
    }
}

pub(in crate::grpc) fn quota(quota: Quota) -> pb::Quota {
    let uses = quota.uses.into_iter().map(|used| pb::QuotaUse {
        region_id: used.region.map(|region| region.to_string()).unwrap_or_default(),
        used: used.used,
    });
    pb::Quota {
        kind: quota_kind(quota.kind).into(),
        maximum: quota.maximum,
        overridden: quota.is_overridden,
        uses: uses.collect(),
    }
}
