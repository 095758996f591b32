//! Answers as protobuf.

use super::pb;
use crate::app::{DescribedRegion, RequestId, StoredCertificate, Uploaded};

/// The etag of this revision of a certificate.
pub(super) fn etag(revision: i64) -> String {
    revision.to_string()
}

pub(super) fn uploaded(request_id: RequestId, uploaded: Uploaded) -> pb::UploadServerCertificateResponse {
    let facts = uploaded.facts;
    let created = uploaded.id.map(|id| id.created);
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
        is_ali_cloud_certificate: 0,
        ali_cloud_certificate_id: String::new(),
        ali_cloud_certificate_name: String::new(),
        region_id: uploaded.region.as_str().to_owned(),
        region_id_alias: uploaded.region.as_str().to_owned(),
        resource_group_id: String::new(),
        account_fingerprints: uploaded
            .account_fingerprints
            .fingerprints
            .iter()
            .map(ToString::to_string)
            .collect(),
        account_fingerprints_next_page_token: uploaded.account_fingerprints.next_page_token,
        fingerprint_sha256: facts.fingerprint_sha256.to_string(),
        version: uploaded.version,
        etag: uploaded.id.map(|_| etag(uploaded.revision)).unwrap_or_default(),
        findings: Vec::new(),
    }
}

pub(super) fn server_certificate(stored: StoredCertificate) -> pb::ServerCertificate {
    let facts = stored.facts;
    pb::ServerCertificate {
        server_certificate_id: stored.id.to_string(),
        server_certificate_name: stored.name.as_str().to_owned(),
        fingerprint: facts.fingerprint.to_string(),
        create_time: stored.id.created.to_string(),
        create_time_stamp: stored.id.created.millis_of_whole_secs(),
        expire_time: facts.not_after.to_string(),
        expire_time_stamp: facts.not_after.millis_of_whole_secs(),
        common_name: facts.common_name,
        subject_alternative_names: facts.subject_alternative_names,
        is_ali_cloud_certificate: 0,
        ali_cloud_certificate_id: String::new(),
        ali_cloud_certificate_name: String::new(),
        region_id: stored.region.as_str().to_owned(),
        region_id_alias: stored.region.as_str().to_owned(),
        resource_group_id: String::new(),
        tags: stored
            .tags
            .iter()
            .map(|tag| pb::Tag {
                key: tag.key().to_owned(),
                value: tag.value().to_owned(),
            })
            .collect(),
        fingerprint_sha256: facts.fingerprint_sha256.to_string(),
        version: stored.version,
        etag: etag(stored.revision),
        not_before: facts.not_before.to_string(),
        serial_number: facts.serial_number,
        issuer: facts.issuer,
        subject: facts.subject,
        key_algorithm: facts.key_algorithm.as_str().to_owned(),
        key_size: facts.key_size as i32, // At most 16384.
        signature_algorithm: facts.signature_algorithm,
        spki_sha256: hex::encode(facts.spki_sha256),
        chain_length: stored.chain_length,
        certificate_chain: String::new(),
    }
}

pub(super) fn region(region: &DescribedRegion<'_>, host: &str) -> pb::Region {
    pb::Region {
        region_id: region.id.to_owned(),
        region_endpoint: host.to_owned(),
        local_name: region.local_name.to_owned(),
    }
}
