//! Answers as protobuf: certificates, and what belongs to them.

mod access;
mod key_ring;

pub(super) use access::{access_key, account, caller, client_identity, identity_kind, quota, quota_kind, secret};
pub(super) use key_ring::{key_ring, key_rotation, verified_rows};
pub use key_ring::{verification_fault, verified_counts};
use prost_types::Timestamp;

use super::parse::TIMESTAMP_SECONDS;
use super::words::{self, FieldName, field_name};
use super::{pb, reason};
use crate::app::{
    AliCloudCertificate, CertificateFacts, CertificateId, CertificateVersion, CheckReport, DescribedRegion,
    EncodedPair, Finding, KeyAlgorithm, KeyPair, Lease, ListedCertificate, Place, RESOURCE_TYPE, RenewedCertificate,
    RequestId, ResourceGroup, Revisions, Severity, StoredCertificate, Tag, Tags, Uploaded, Violation,
};
use crate::clock;

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

pub(super) fn resource_group(group: ResourceGroup) -> pb::ResourceGroup {
    pb::ResourceGroup {
        resource_group_id: group.id.to_string(),
        name: group.name,
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
