//! Answers as protobuf.

use prost_types::Timestamp;

use super::parse::TIMESTAMP_SECONDS;
use super::words::{self, FieldName, field_name};
use super::{pb, reason};
use crate::app::{
    Account, AliCloudCertificate, Call, Caller, CertificateFacts, CertificateId, CertificateVersion, CheckReport,
    ClientIdentity, DescribedKeyRing, DescribedRegion, EncodedPair, Fault, Finding, IdentityKind, KeyAlgorithm,
    KeyEncryptionKey, KeyEncryptionKeyId, KeyPair, KeyState, Lease, ListedCertificate, ManagedKey, Place, Quota,
    QuotaKind, RESOURCE_TYPE, RenewedCertificate, Replica, RequestId, ResourceGroup, Revisions, Role, Rotation,
    RowFault, Scope, SealError, Severity, StoredCertificate, StoredPairError, Tag, Tags, Uploaded, VerifiedCounts,
    VerifiedRows, Violation,
};
use crate::clock;
use crate::secret::Secret;

/// A moment in milliseconds. X.509 allows the year 0 (RFC 5280 4.1.2.5.2). `google.protobuf.Timestamp` begins with the year 1.
pub(super) fn timestamp(moment: clock::Timestamp) -> Timestamp {
    let millis = moment.millis().max(TIMESTAMP_SECONDS.start() * 1000);
    Timestamp {
        seconds: millis.div_euclid(1000),
        nanos: millis.rem_euclid(1000) as i32 * 1_000_000, // Below 1000 million.
    }
}

/// The answer of GetKeyPair.
pub(super) fn key_pair(request_id: RequestId, answered: KeyPair) -> pb::GetKeyPairResponse {
    let known = answered.certificate.version;
    let (version, pair) = answered
        .pair
        .map_or((known, None), |(version, pair)| (version, Some(pair)));
    let unchanged = pair.is_none();
    let (certificate_chain, private_key, pkcs12) = match pair {
        Some(EncodedPair::Pem { chain, private_key }) => (chain, private_key.into_text(), Vec::new()),
        Some(EncodedPair::Bundle(bundle)) => (String::new(), bundle.into_text(), Vec::new()),
        Some(EncodedPair::Pkcs12(file)) => (String::new(), String::new(), file.into_octets()),
        None => Default::default(),
    };
    pb::GetKeyPairResponse {
        request_id: request_id.to_string(),
        server_certificate: Some(server_certificate(answered.certificate)),
        version,
        unchanged,
        certificate_chain,
        private_key,
        pkcs12,
    }
}

/// The key ring, the replicas and the rotation.
pub(super) fn key_ring(request_id: RequestId, described: DescribedKeyRing) -> pb::DescribeKeyRingResponse {
    let key = |key: KeyEncryptionKey| pb::KeyEncryptionKey {
        key_encryption_key_id: key.id.to_string(),
        state: match key.state {
            KeyState::Prepared => pb::KeyEncryptionKeyState::Prepared,
            KeyState::Sealing => pb::KeyEncryptionKeyState::Sealing,
            KeyState::Opening => pb::KeyEncryptionKeyState::Opening,
            KeyState::Retired => pb::KeyEncryptionKeyState::Retired,
        }
        .into(),
        first_seen_time: Some(timestamp(key.first_seen)),
        sealing_time: key.sealing_since.map(timestamp),
        retire_time: key.retired.map(timestamp),
    };
    let ids = |ids: Vec<KeyEncryptionKeyId>| ids.iter().map(ToString::to_string).collect();
    let replica = |replica: Replica| pb::Replica {
        replica_id: replica.id.to_string(),
        host: replica.host,
        version: replica.version,
        start_time: Some(timestamp(replica.started)),
        last_seen_time: Some(timestamp(replica.seen)),
        key_encryption_key_ids: ids(replica.key_ids),
        sealing_key_encryption_key_ids: ids(replica.sealing_ids),
    };
    pb::DescribeKeyRingResponse {
        request_id: request_id.to_string(),
        keys: described.keys.into_iter().map(key).collect(),
        replicas: described.replicas.into_iter().map(replica).collect(),
        rotation: described.rotation.map(key_rotation),
    }
}

pub(super) fn key_rotation(rotation: Rotation) -> pb::KeyRotation {
    pb::KeyRotation {
        key_encryption_key_id: rotation.key.to_string(),
        start_time: Some(timestamp(rotation.started)),
        end_time: rotation.ended.map(timestamp),
        passed: rotation.passed,
        total: rotation.total,
        failed: rotation.failed,
        failed_rows: rotation.failures,
        idle_seconds: rotation.idle_secs,
    }
}

/// A step of a verification of the key ring.
pub(super) fn verified_rows(request_id: RequestId, step: VerifiedRows) -> pb::VerifyKeyRingResponse {
    pb::VerifyKeyRingResponse {
        request_id: request_id.to_string(),
        faults: step.faults.into_iter().map(verification_fault).collect(),
        resume_token: step.resume_token,
        ..verified_counts(step.counts)
    }
}

/// The numbers of a verification.
pub fn verified_counts(counts: VerifiedCounts) -> pb::VerifyKeyRingResponse {
    pb::VerifyKeyRingResponse {
        service_keys: counts.service_keys,
        access_keys: counts.access_keys,
        server_certificates: counts.server_certificates,
        ca_certificates: counts.ca_certificates,
        earlier_versions: counts.earlier_versions,
        private_keys: counts.private_keys,
        fault_count: counts.faults,
        ..Default::default()
    }
}

/// A row with a fault.
pub fn verification_fault(row: RowFault) -> pb::VerificationFault {
    use pb::VerificationCause as Cause;
    let (mut key_encryption_key_id, mut columns) = (String::new(), Vec::new());
    let cause = match row.fault {
        Fault::Sealed(SealError::KeyMissing(key)) => {
            key_encryption_key_id = key.to_string();
            Cause::KeyEncryptionKeyMissing
        }
        Fault::Sealed(SealError::Unreadable) => Cause::SealedValueUnreadable,
        Fault::Sealed(SealError::Library(_) | SealError::Random(_)) => Cause::Internal,
        Fault::KeyAbsent => Cause::PrivateKeyAbsent,
        Fault::KeyUnused => Cause::PrivateKeyUnused,
        Fault::Pair(StoredPairError::PrivateKey) => Cause::PrivateKeyUnreadable,
        Fault::Pair(StoredPairError::Mismatch) => Cause::PrivateKeyMismatch,
        Fault::Pair(StoredPairError::Fingerprint) => Cause::FingerprintMismatch,
        Fault::Pair(StoredPairError::Leaf) => Cause::CertificateUnreadable,
        Fault::Facts(names) => {
            columns = names.into_iter().map(str::to_owned).collect();
            Cause::FactsDiffer
        }
    };
    let (certificate, version) = row.certificate.unzip();
    pb::VerificationFault {
        row: row.row,
        cause: cause.into(),
        key_encryption_key_id,
        account_id: certificate.map(|id| id.account.to_string()).unwrap_or_default(),
        certificate_id: certificate.map(|id| id.to_string()).unwrap_or_default(),
        version: version.unwrap_or_default(),
        columns,
    }
}

/// The schema's name of a key algorithm.
pub fn key_algorithm(algorithm: KeyAlgorithm) -> pb::KeyAlgorithm {
    match algorithm {
        KeyAlgorithm::Rsa => pb::KeyAlgorithm::Rsa,
        KeyAlgorithm::RsaPss => pb::KeyAlgorithm::RsaPss,
        KeyAlgorithm::EcdsaP256 => pb::KeyAlgorithm::EcdsaP256,
        KeyAlgorithm::EcdsaP384 => pb::KeyAlgorithm::EcdsaP384,
        KeyAlgorithm::EcdsaP521 => pb::KeyAlgorithm::EcdsaP521,
        KeyAlgorithm::EcdsaSecp256k1 => pb::KeyAlgorithm::EcdsaSecp256k1,
        KeyAlgorithm::Ed25519 => pb::KeyAlgorithm::Ed25519,
        KeyAlgorithm::Ed448 => pb::KeyAlgorithm::Ed448,
        KeyAlgorithm::MlDsa44 => pb::KeyAlgorithm::MlDsa44,
        KeyAlgorithm::MlDsa65 => pb::KeyAlgorithm::MlDsa65,
        KeyAlgorithm::MlDsa87 => pb::KeyAlgorithm::MlDsa87,
    }
}

/// The etag of this revision of a certificate.
pub(super) fn etag(revision: i64) -> String {
    revision.to_string()
}

/// The fields about the certificate of Alibaba Cloud from which a pair came.
fn ali_cloud(certificate: Option<AliCloudCertificate>) -> (i32, String, String) {
    certificate.map_or_else(Default::default, |of| (1, of.id.to_string(), of.name))
}

/// The answer to an upload.
pub fn uploaded(request_id: RequestId, uploaded: Uploaded) -> pb::UploadServerCertificateResponse {
    let facts = uploaded.facts;
    let created = uploaded.id.map(|id| id.created);
    let (is_ali_cloud_certificate, ali_cloud_certificate_id, ali_cloud_certificate_name) =
        ali_cloud(uploaded.ali_cloud);
    pb::UploadServerCertificateResponse {
        request_id: request_id.to_string(),
        server_certificate_id: uploaded.id.map(|id| id.to_string()).unwrap_or_default(),
        server_certificate_name: uploaded.name.map(|name| name.as_str().to_owned()).unwrap_or_default(),
        fingerprint: facts.fingerprint.to_string(),
        create_time: created.map(|created| created.to_string()).unwrap_or_default(),
        create_time_stamp: created
            .map(|created| created.millis_of_whole_secs())
            .unwrap_or_default(),
        expire_time: facts.not_after.to_string(),
        expire_time_stamp: facts.not_after.millis_of_whole_secs(),
        common_name: facts.common_name,
        subject_alternative_names: facts.subject_alternative_names,
        is_ali_cloud_certificate,
        ali_cloud_certificate_id,
        ali_cloud_certificate_name,
        region_id: uploaded.region.as_str().to_owned(),
        region_id_alias: uploaded.region.as_str().to_owned(),
        resource_group_id: uploaded.resource_group.to_string(),
        fingerprint_sha256: facts.fingerprint_sha256.to_string(),
        etag: uploaded.id.map(|_| etag(uploaded.revision)).unwrap_or_default(),
        upload_time: created.map(timestamp),
        not_before: Some(timestamp(facts.not_before)),
        not_after: Some(timestamp(facts.not_after)),
        findings: findings(&uploaded.findings, field_name),
        version: uploaded.version,
        account_fingerprints: uploaded
            .account_fingerprints
            .fingerprints
            .iter()
            .map(ToString::to_string)
            .collect(),
        account_fingerprints_next_page_token: uploaded.account_fingerprints.next_page_token,
        chain_expire_time: Some(timestamp(facts.chain_not_after)),
    }
}

/// The answer to a renewal.
pub(super) fn renewed(request_id: RequestId, renewed: RenewedCertificate) -> pb::RenewServerCertificateResponse {
    let mut certificate = server_certificate(renewed.certificate);
    if renewed.is_validation {
        certificate.etag.clear();
    }
    pb::RenewServerCertificateResponse {
        request_id: request_id.to_string(),
        server_certificate: Some(certificate),
        previous_version: renewed.previous_version,
        findings: findings(&renewed.findings, field_name),
        server_certificate_ids: renewed.everywhere.iter().map(ToString::to_string).collect(),
        lost_names: renewed.lost_names,
    }
}

/// A version, and the latest time of its purge.
pub(super) fn version(
    (version, purge_time): (CertificateVersion, Option<clock::Timestamp>),
) -> pb::ServerCertificateVersion {
    let facts = version.facts;
    pb::ServerCertificateVersion {
        version: version.version,
        is_present: version.ended.is_none(),
        begin_time: Some(timestamp(version.began)),
        end_time: version.ended.map(timestamp),
        rolled_back_to: version.rolled_back_to.unwrap_or_default(),
        principal: version.began_by,
        fingerprint: facts.fingerprint.to_string(),
        fingerprint_sha256: facts.fingerprint_sha256.to_string(),
        serial_number: facts.serial_number,
        issuer: facts.issuer,
        common_name: facts.common_name,
        subject_alternative_names: facts.subject_alternative_names,
        not_before: Some(timestamp(facts.not_before)),
        not_after: Some(timestamp(facts.not_after)),
        key_algorithm: key_algorithm(facts.key_algorithm).into(),
        key_size: facts.key_size as i32, // At most 16384.
        purge_time: purge_time.map(timestamp),
        chain_expire_time: Some(timestamp(facts.chain_not_after)),
    }
}

pub(super) fn uploaded_ca(request_id: RequestId, uploaded: Uploaded) -> pb::UploadCaCertificateResponse {
    let facts = uploaded.facts;
    let created = uploaded.id.map(|id| id.created);
    pb::UploadCaCertificateResponse {
        request_id: request_id.to_string(),
        ca_certificate_id: uploaded.id.map(|id| id.to_string()).unwrap_or_default(),
        ca_certificate_name: uploaded.name.map(|name| name.as_str().to_owned()).unwrap_or_default(),
        common_name: facts.common_name,
        create_time: created.map(|created| created.to_string()).unwrap_or_default(),
        create_time_stamp: created
            .map(|created| created.millis_of_whole_secs())
            .unwrap_or_default(),
        expire_time: facts.not_after.to_string(),
        expire_time_stamp: facts.not_after.millis_of_whole_secs(),
        fingerprint: facts.fingerprint.to_string(),
        resource_group_id: uploaded.resource_group.to_string(),
        fingerprint_sha256: facts.fingerprint_sha256.to_string(),
        etag: uploaded.id.map(|_| etag(uploaded.revision)).unwrap_or_default(),
        upload_time: created.map(timestamp),
        not_before: Some(timestamp(facts.not_before)),
        not_after: Some(timestamp(facts.not_after)),
        findings: findings(&uploaded.findings, field_name),
        region_id: uploaded.region.as_str().to_owned(),
    }
}

/// The answer to a check, with or without a service. `name` gives the names of fields in the descriptions.
pub fn checked(request_id: RequestId, checked: CheckReport, name: FieldName) -> pb::CheckServerCertificateResponse {
    let CheckReport { violations, report } = checked;
    let chain = report.chain.as_ref();
    pb::CheckServerCertificateResponse {
        request_id: request_id.to_string(),
        accepted: report.is_accepted,
        violations: violations.iter().map(|wrong| violation(wrong, name)).collect(),
        findings: findings(&report.error.findings, name),
        server_certificate: report.leaf.map(|facts| pb::ServerCertificate {
            chain_length: chain.map(|chain| chain.len() as i32).unwrap_or_default(), // At most 20.
            certificate_chain: chain.map(|chain| chain.to_pem()).unwrap_or_default(),
            ..leaf(facts)
        }),
        chain: report.listing.into_iter().map(listed).collect(),
    }
}

/// An invalid field. `name` gives the name of the field in the description.
pub fn violation(violation: &Violation, name: FieldName) -> pb::Violation {
    pb::Violation {
        field: field_name(violation.field).into_owned(),
        reason: reason::of_field(&violation.error) as i32,
        description: words::violation(violation, name),
    }
}

fn listed(certificate: ListedCertificate) -> pb::ChainCertificate {
    let key = certificate.key;
    pb::ChainCertificate {
        subject: certificate.subject,
        issuer: certificate.issuer,
        not_before: Some(timestamp(certificate.not_before)),
        not_after: Some(timestamp(certificate.not_after)),
        key_algorithm: key
            .map(|(algorithm, _)| key_algorithm(algorithm))
            .unwrap_or_default()
            .into(),
        key_size: key.map(|(_, bits)| bits as i32).unwrap_or_default(), // At most 16384.
        fingerprint_sha256: certificate.fingerprint_sha256.to_string(),
        position: match certificate.place {
            Place::Path => pb::ChainPosition::Path,
            Place::OtherPath => pb::ChainPosition::OtherPath,
            Place::Root => pb::ChainPosition::Root,
        }
        .into(),
    }
}

/// Findings. `name` gives the names of fields in the sentences.
pub(super) fn findings(findings: &[Finding], name: FieldName) -> Vec<pb::Finding> {
    findings.iter().map(|one| finding(one, name)).collect()
}

/// A finding. `name` gives the names of fields in the sentence.
pub fn finding(finding: &Finding, name: FieldName) -> pb::Finding {
    // A test checks that the schema has every code.
    let code = pb::FindingCode::from_str_name(&format!("FINDING_CODE_{}", finding.code()));
    pb::Finding {
        code: code.unwrap_or_default() as i32,
        severity: match finding.severity {
            Severity::Info => pb::Severity::Info,
            Severity::Warning => pb::Severity::Warning,
            Severity::Error => pb::Severity::Error,
        } as i32,
        message: words::finding(&finding.kind, name),
        subject: finding.subject.clone(),
        remedy: words::remedy(finding.code()).to_owned(),
        rule: finding.code().rule().to_owned(),
    }
}

pub(super) fn server_certificate(stored: StoredCertificate) -> pb::ServerCertificate {
    let tags = tags(&stored);
    let (is_ali_cloud_certificate, ali_cloud_certificate_id, ali_cloud_certificate_name) = ali_cloud(stored.ali_cloud);
    pb::ServerCertificate {
        is_ali_cloud_certificate,
        ali_cloud_certificate_id,
        ali_cloud_certificate_name,
        server_certificate_id: stored.id.to_string(),
        server_certificate_name: stored.name.as_str().to_owned(),
        create_time: stored.id.created.to_string(),
        create_time_stamp: stored.id.created.millis_of_whole_secs(),
        region_id: stored.region.as_str().to_owned(),
        region_id_alias: stored.region.as_str().to_owned(),
        resource_group_id: stored.resource_group.to_string(),
        tags,
        etag: etag(stored.revision),
        upload_time: Some(timestamp(stored.id.created)),
        delete_time: stored.deleted.map(timestamp),
        renew_time: stored.renewed.map(timestamp),
        version: stored.version,
        chain_length: stored.chain_length,
        ..leaf(stored.facts)
    }
}

pub(super) fn ca_certificate(stored: StoredCertificate) -> pb::CaCertificate {
    let tags = tags(&stored);
    let facts = stored.facts;
    pb::CaCertificate {
        ca_certificate_id: stored.id.to_string(),
        ca_certificate_name: stored.name.as_str().to_owned(),
        fingerprint: facts.fingerprint.to_string(),
        create_time: stored.id.created.to_string(),
        create_time_stamp: stored.id.created.millis_of_whole_secs(),
        expire_time: facts.not_after.to_string(),
        expire_time_stamp: facts.not_after.millis_of_whole_secs(),
        common_name: facts.common_name,
        region_id: stored.region.as_str().to_owned(),
        resource_group_id: stored.resource_group.to_string(),
        tags,
        fingerprint_sha256: facts.fingerprint_sha256.to_string(),
        etag: etag(stored.revision),
        upload_time: Some(timestamp(stored.id.created)),
        not_before: Some(timestamp(facts.not_before)),
        not_after: Some(timestamp(facts.not_after)),
        delete_time: stored.deleted.map(timestamp),
        serial_number: facts.serial_number,
        issuer: facts.issuer,
        subject: facts.subject,
        key_algorithm: key_algorithm(facts.key_algorithm).into(),
        key_size: facts.key_size as i32, // At most 16384.
        signature_algorithm: facts.signature_algorithm,
        spki_sha256: hex::encode(facts.spki_sha256),
        subject_alternative_names: facts.subject_alternative_names,
        ca_certificate: String::new(),
    }
}

fn tags(stored: &StoredCertificate) -> Vec<pb::Tag> {
    let tag = |tag: &Tag| pb::Tag {
        key: tag.key().to_owned(),
        value: tag.value().to_owned(),
    };
    stored.tags.iter().map(tag).collect()
}

/// The facts that the certificate contains.
fn leaf(facts: CertificateFacts) -> pb::ServerCertificate {
    pb::ServerCertificate {
        fingerprint: facts.fingerprint.to_string(),
        expire_time: facts.not_after.to_string(),
        expire_time_stamp: facts.not_after.millis_of_whole_secs(),
        common_name: facts.common_name,
        subject_alternative_names: facts.subject_alternative_names,
        fingerprint_sha256: facts.fingerprint_sha256.to_string(),
        not_before: Some(timestamp(facts.not_before)),
        not_after: Some(timestamp(facts.not_after)),
        serial_number: facts.serial_number,
        issuer: facts.issuer,
        subject: facts.subject,
        key_algorithm: key_algorithm(facts.key_algorithm).into(),
        key_size: facts.key_size as i32, // At most 16384.
        signature_algorithm: facts.signature_algorithm,
        spki_sha256: hex::encode(facts.spki_sha256),
        chain_expire_time: Some(timestamp(facts.chain_not_after)),
        ..pb::ServerCertificate::default()
    }
}

pub(super) fn caller(call: &Call, now: clock::Timestamp) -> pb::DescribeCallerResponse {
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

pub(super) fn role(role: Role) -> pb::Role {
    match role {
        Role::Reader => pb::Role::Reader,
        Role::Editor => pb::Role::Editor,
        Role::Consumer => pb::Role::Consumer,
        Role::Admin => pb::Role::Admin,
        Role::Operator => pb::Role::Operator,
    }
}

pub(super) fn identity_kind(kind: IdentityKind) -> pb::ClientIdentityKind {
    match kind {
        IdentityKind::SpiffeId => pb::ClientIdentityKind::SpiffeId,
        IdentityKind::DnsName => pb::ClientIdentityKind::DnsName,
        IdentityKind::Subject => pb::ClientIdentityKind::Subject,
    }
}

pub(super) fn client_identity(identity: ClientIdentity) -> pb::ClientIdentity {
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
pub(super) fn scope(scope: &Scope) -> Option<pb::Scope> {
    (!scope.is_everything()).then(|| pb::Scope {
        region_ids: scope.regions.iter().map(ToString::to_string).collect(),
        resource_group_ids: scope.resource_groups.iter().map(ToString::to_string).collect(),
        name_prefixes: scope.name_prefixes.clone(),
    })
}

pub(super) fn resource_group(group: ResourceGroup) -> pb::ResourceGroup {
    pb::ResourceGroup {
        resource_group_id: group.id.to_string(),
        name: group.name,
    }
}

pub(super) fn access_key(key: ManagedKey) -> pb::AccessKey {
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
pub(super) fn secret(secret: Option<&Secret>) -> String {
    // A secret is base64url.
    secret
        .map(|secret| String::from_utf8_lossy(secret.expose()).into_owned())
        .unwrap_or_default()
}

pub(super) fn account(account: Account) -> pb::Account {
    pb::Account {
        account_id: account.id.to_string(),
        name: account.name,
        disabled: account.disabled,
        create_time: Some(timestamp(account.created)),
        server_certificate_count: account.server_certificates,
    }
}

pub(super) fn quota_kind(kind: QuotaKind) -> pb::QuotaKind {
    match kind {
        QuotaKind::ServerCertificates => pb::QuotaKind::ServerCertificates,
        QuotaKind::CaCertificates => pb::QuotaKind::CaCertificates,
        QuotaKind::AccessKeys => pb::QuotaKind::AccessKeys,
        QuotaKind::CallsPerSecond => pb::QuotaKind::CallsPerSecond,
        QuotaKind::CallsPerSecondPerKey => pb::QuotaKind::CallsPerSecondPerKey,
    }
}

pub(super) fn quota(quota: Quota) -> pb::Quota {
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

pub(super) fn lease(lease: Lease) -> pb::Lease {
    let (rejected_version, rejection) = lease.versions.rejected.unwrap_or_default();
    pb::Lease {
        server_certificate_id: lease.id.to_string(),
        holder: lease.holder,
        principal: lease.principal,
        address: lease.address.map(|address| address.to_string()).unwrap_or_default(),
        kind: match lease.kind.as_str() {
            "timed" => pb::LeaseKind::Timed,
            "watch" => pb::LeaseKind::Watch,
            _ => pb::LeaseKind::Sds,
        }
        .into(),
        expire_time: lease.expires.map(timestamp),
        bind_time: Some(timestamp(lease.bound)),
        sent_version: lease.versions.sent.unwrap_or_default(),
        served_version: lease.versions.served.unwrap_or_default(),
        rejected_version,
        rejection,
        user_agent: lease.user_agent,
    }
}

pub(super) fn tag_resources(id: CertificateId, tags: &Tags) -> impl Iterator<Item = pb::TagResource> {
    tags.iter().map(move |tag| pb::TagResource {
        resource_id: id.to_string(),
        resource_type: RESOURCE_TYPE.to_owned(),
        tag_key: tag.key().to_owned(),
        tag_value: tag.value().to_owned(),
    })
}

pub(super) fn etags(revisions: Revisions) -> Vec<pb::ResourceEtag> {
    let of = |(_, id, revision): (_, CertificateId, i64)| pb::ResourceEtag {
        resource_id: id.to_string(),
        etag: etag(revision),
    };
    revisions.into_iter().map(of).collect()
}

pub(super) fn region(region: &DescribedRegion<'_>, host: &str) -> pb::Region {
    pb::Region {
        region_id: region.id.to_owned(),
        region_endpoint: host.to_owned(),
        local_name: region.local_name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::FindingCode;

    #[test]
    fn the_schema_has_every_code_of_a_finding() {
        let mut count = 0;
        for code in FindingCode::all() {
            count += 1;
            let name = format!("FINDING_CODE_{code}");
            assert_eq!(
                pb::FindingCode::from_str_name(&name).map(|code| code as i32),
                Some(count),
                "{code}"
            );
            let remedy = words::remedy(code);
            assert!(remedy.len() > 6 && !remedy.ends_with('.'), "{remedy}");
        }
        assert!(pb::FindingCode::try_from(count + 1).is_err());
    }
}
