//! Requests from protobuf.

use std::ops::RangeInclusive;

use super::pb;
use super::render;
use crate::app::{
    CertificateKind, CertificateText, ClientCertificate, CreateAccessKey, CriterionError, DescribeCertificates,
    DomainMatch, GetKeyPair, IdentityKind, KeyAlgorithm, KeyPairFormat, ListAccessKeys, NewClientIdentity, NewScope,
    Order, QuotaKind, Renew, Role, SearchServerCertificates, TargetCertificate, UnknownRole, UpdateAccessKey,
    UpdateQuota, Upload, WatchCertificates,
};
use crate::clock::Timestamp;
use crate::secret::Secret;

/// The valid seconds of a `google.protobuf.Timestamp`: the years 1 to 9999.
pub(super) const TIMESTAMP_SECONDS: RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// The secret texts were already taken out of the message.
pub(super) fn upload_server_certificate(
    message: pb::UploadServerCertificateRequest,
    server_certificate: Secret,
    private_key: Secret,
) -> Upload {
    Upload {
        region_id: message.region_id,
        name: message.server_certificate_name,
        resource_group_id: message.resource_group_id,
        tags: pairs(message.tags),
        client_token: message.client_token,
        validate_only: message.validate_only,
        certificate: CertificateText::Server {
            server_certificate,
            private_key,
            ali_cloud_certificate_id: message.ali_cloud_certificate_id,
            ali_cloud_certificate_name: message.ali_cloud_certificate_name,
            ali_cloud_certificate_region_id: message.ali_cloud_certificate_region_id,
            omit_account_fingerprints: message.omit_account_fingerprints,
        },
    }
}

/// The two texts were already taken out of the message.
pub(super) fn renew_server_certificate(
    message: pb::RenewServerCertificateRequest,
    certificate: Secret,
    private_key: Secret,
) -> Renew {
    Renew {
        target: server_certificate(message.region_id, message.server_certificate_id, message.if_etag),
        server_certificate: certificate,
        private_key,
        ali_cloud_certificate_id: message.ali_cloud_certificate_id,
        ali_cloud_certificate_region_id: message.ali_cloud_certificate_region_id,
        allow_lost_names: message.allow_lost_names,
        everywhere: message.everywhere,
        client_token: message.client_token,
        validate_only: message.validate_only,
    }
}

/// The password was already taken out of the message. The certificate is the one of the TLS handshake.
pub(super) fn get_key_pair(
    message: pb::GetKeyPairRequest,
    password: Secret,
    client_certificate: Option<ClientCertificate>,
) -> GetKeyPair {
    let format = pb::KeyPairFormat::try_from(message.format).ok();
    GetKeyPair {
        region_id: message.region_id,
        id: message.server_certificate_id,
        name: message.server_certificate_name,
        version: message.version,
        format: format.map(|format| match format {
            pb::KeyPairFormat::Unspecified | pb::KeyPairFormat::Pem => KeyPairFormat::Pem,
            pb::KeyPairFormat::PemEncrypted => KeyPairFormat::PemEncrypted,
            pb::KeyPairFormat::PemBundle => KeyPairFormat::PemBundle,
            pb::KeyPairFormat::Pkcs12 => KeyPairFormat::Pkcs12,
            pb::KeyPairFormat::Pkcs12Legacy => KeyPairFormat::Pkcs12Legacy,
        }),
        password,
        alias: message.alias,
        known_version: message.known_version,
        client_certificate,
    }
}

/// The text was already taken out of the message.
pub(super) fn upload_ca_certificate(message: pb::UploadCaCertificateRequest, ca_certificate: Secret) -> Upload {
    Upload {
        region_id: message.region_id,
        name: message.ca_certificate_name,
        resource_group_id: message.resource_group_id,
        tags: pairs(message.tags),
        client_token: message.client_token,
        validate_only: message.validate_only,
        certificate: CertificateText::Ca { ca_certificate },
    }
}

pub(super) fn describe_server_certificates(message: pb::DescribeServerCertificatesRequest) -> DescribeCertificates {
    DescribeCertificates {
        kind: CertificateKind::Server,
        region_id: message.region_id,
        id: message.server_certificate_id,
        resource_group_id: message.resource_group_id,
        tags: pairs(message.tags),
        deleted: message.deleted,
        page_size: message.page_size,
        page_token: message.page_token,
    }
}

pub(super) fn describe_ca_certificates(message: pb::DescribeCaCertificatesRequest) -> DescribeCertificates {
    DescribeCertificates {
        kind: CertificateKind::Ca,
        region_id: message.region_id,
        id: message.ca_certificate_id,
        resource_group_id: message.resource_group_id,
        tags: pairs(message.tags),
        deleted: message.deleted,
        page_size: message.page_size,
        page_token: message.page_token,
    }
}

pub(super) fn search_server_certificates(message: pb::SearchServerCertificatesRequest) -> SearchServerCertificates {
    SearchServerCertificates {
        domain_match: domain_match(message.domain_match),
        order_by: order(message.order_by),
        region_id: message.region_id,
        fingerprint: message.fingerprint,
        domain: message.domain,
        spki_sha256: message.spki_sha256,
        compromised: message.compromised,
        serial_number: message.serial_number,
        issuer: message.issuer,
        key_algorithm: key_algorithm(message.key_algorithm),
        key_size: message.key_size,
        expire_time_from: message.expire_time_from.map(timestamp).transpose(),
        expire_time_before: message.expire_time_before.map(timestamp).transpose(),
        server_certificate_name_prefix: message.server_certificate_name_prefix,
        tags: pairs(message.tags),
        page_size: message.page_size,
        page_token: message.page_token,
    }
}

pub(super) fn watch_server_certificates(
    message: pb::WatchServerCertificatesRequest,
    user_agent: String,
) -> WatchCertificates {
    WatchCertificates {
        region_id: message.region_id,
        ids: message.server_certificate_ids,
        resource_group_id: message.resource_group_id,
        tags: pairs(message.tags),
        name_prefix: message.server_certificate_name_prefix,
        with_certificate_chain: message.with_certificate_chain,
        resume_token: message.resume_token,
        holder: message.holder,
        user_agent,
    }
}

pub(super) fn new_client_identity(message: pb::CreateClientIdentityRequest) -> NewClientIdentity {
    NewClientIdentity {
        kind: identity_kind(message.kind()),
        role: role(message.role).ok().flatten(),
        value: message.value,
        account_id: message.account_id,
        scope: scope(message.scope),
    }
}

/// An unknown number reads as not set.
pub(super) fn identity_kind(kind: pb::ClientIdentityKind) -> Option<IdentityKind> {
    IdentityKind::ALL
        .into_iter()
        .find(|known| render::identity_kind(*known) == kind)
}

fn key_algorithm(number: i32) -> Result<Option<KeyAlgorithm>, CriterionError> {
    match pb::KeyAlgorithm::try_from(number) {
        Ok(pb::KeyAlgorithm::Unspecified) => Ok(None),
        Ok(algorithm) => Ok(key_algorithm_of(algorithm)),
        Err(_) => Err(CriterionError::KeyAlgorithm),
    }
}

/// The key algorithm of this name in the schema.
pub fn key_algorithm_of(algorithm: pb::KeyAlgorithm) -> Option<KeyAlgorithm> {
    KeyAlgorithm::ALL
        .into_iter()
        .find(|known| render::key_algorithm(*known) == algorithm)
}

/// A moment in whole milliseconds. A fraction is rounded up, so that `>=` and `<` stay true for whole milliseconds.
pub(super) fn timestamp(message: prost_types::Timestamp) -> Result<Timestamp, CriterionError> {
    let is_in_range = TIMESTAMP_SECONDS.contains(&message.seconds) && (0..1_000_000_000).contains(&message.nanos);
    let millis = i64::from(message.nanos.cast_unsigned().div_ceil(1_000_000));
    match is_in_range {
        true => Ok(Timestamp::from_millis(message.seconds * 1000 + millis)),
        false => Err(CriterionError::ExpireTime),
    }
}

pub(super) fn create_access_key(message: pb::CreateAccessKeyRequest) -> CreateAccessKey {
    CreateAccessKey {
        role: role(message.role),
        scope: scope(message.scope),
        description: message.description,
        expires: message.expire_time.map(timestamp).transpose(),
        secret_sha256: message.secret_sha256,
        can_sign: message.can_sign,
    }
}

pub(super) fn list_access_keys(message: pb::ListAccessKeysRequest) -> ListAccessKeys {
    ListAccessKeys {
        role: role(message.role),
        unused_days: message.unused_days,
        page_size: message.page_size,
        page_token: message.page_token,
    }
}

pub(super) fn update_access_key(message: pb::UpdateAccessKeyRequest) -> UpdateAccessKey {
    UpdateAccessKey {
        id: message.access_key_id,
        disabled: message.disabled,
        expires: message.expire_time.map(timestamp).transpose(),
        clear_expiry: message.clear_expire_time,
        description: message.description,
    }
}

pub(super) fn update_quota(message: pb::UpdateQuotaRequest) -> UpdateQuota {
    let kind = pb::QuotaKind::try_from(message.kind).unwrap_or_default();
    UpdateQuota {
        account_id: message.account_id,
        kind: QuotaKind::ALL
            .into_iter()
            .find(|known| render::quota_kind(*known) == kind),
        maximum: message.maximum,
    }
}

pub(super) fn role(number: i32) -> Result<Option<Role>, UnknownRole> {
    match pb::Role::try_from(number) {
        Ok(pb::Role::Unspecified) => Ok(None),
        Ok(pb::Role::Reader) => Ok(Some(Role::Reader)),
        Ok(pb::Role::Editor) => Ok(Some(Role::Editor)),
        Ok(pb::Role::Consumer) => Ok(Some(Role::Consumer)),
        Ok(pb::Role::Admin) => Ok(Some(Role::Admin)),
        Ok(pb::Role::Operator) => Ok(Some(Role::Operator)),
        Err(_) => Err(UnknownRole),
    }
}

/// No message is the whole account.
pub(super) fn scope(message: Option<pb::Scope>) -> NewScope {
    let pb::Scope {
        region_ids,
        resource_group_ids,
        name_prefixes,
    } = message.unwrap_or_default();
    NewScope {
        region_ids,
        resource_group_ids,
        name_prefixes,
    }
}

fn domain_match(number: i32) -> Result<Option<DomainMatch>, CriterionError> {
    Ok(match pb::DomainMatch::try_from(number) {
        Ok(pb::DomainMatch::Unspecified) => None,
        Ok(pb::DomainMatch::Exact) => Some(DomainMatch::Exact),
        Ok(pb::DomainMatch::Covered) => Some(DomainMatch::Covered),
        Ok(pb::DomainMatch::Below) => Some(DomainMatch::Below),
        Err(_) => return Err(CriterionError::DomainMatch),
    })
}

fn order(number: i32) -> Result<Order, CriterionError> {
    match pb::SearchOrder::try_from(number) {
        Ok(pb::SearchOrder::Unspecified | pb::SearchOrder::CreateTime) => Ok(Order::CreateTime),
        Ok(pb::SearchOrder::ExpireTime) => Ok(Order::ExpireTime),
        Ok(pb::SearchOrder::Name) => Ok(Order::Name),
        Err(_) => Err(CriterionError::Order),
    }
}

pub(super) fn server_certificate(region_id: String, id: String, if_etag: String) -> TargetCertificate {
    TargetCertificate {
        kind: CertificateKind::Server,
        region_id,
        id,
        if_etag,
    }
}

pub(super) fn ca_certificate(region_id: String, id: String, if_etag: String) -> TargetCertificate {
    TargetCertificate {
        kind: CertificateKind::Ca,
        region_id,
        id,
        if_etag,
    }
}

pub(super) fn pairs(tags: Vec<pb::Tag>) -> Vec<(String, String)> {
    tags.into_iter().map(|tag| (tag.key, tag.value)).collect()
}

#[cfg(test)]
mod tests {
    use prost_types::Timestamp as Message;

    use super::*;

    #[test]
    fn a_timestamp_is_read_in_milliseconds_rounded_up_and_refused_outside_its_range() {
        for (seconds, nanos, millis) in [
            (0, 0, 0),
            (1, 1, 1001),
            (1, 999_000_000, 1999),
            (1, 999_999_999, 2000),
            (-1, 500_000_000, -500),
            (-62_135_596_800, 0, -62_135_596_800_000),
            (253_402_300_799, 0, 253_402_300_799_000),
        ] {
            let moment = timestamp(Message { seconds, nanos });
            assert_eq!(moment, Ok(Timestamp::from_millis(millis)), "{seconds} {nanos}");
        }
        for (seconds, nanos) in [
            (-62_135_596_801, 0),
            (253_402_300_800, 0),
            (i64::MAX, 0),
            (0, -1),
            (0, 1_000_000_000),
        ] {
            let refused = timestamp(Message { seconds, nanos });
            assert_eq!(refused, Err(CriterionError::ExpireTime), "{seconds} {nanos}");
        }
    }

    #[test]
    fn every_key_algorithm_has_one_name_in_the_schema() {
        for algorithm in KeyAlgorithm::ALL {
            let name = render::key_algorithm(algorithm);
            assert_eq!(key_algorithm(name.into()), Ok(Some(algorithm)));
            assert_eq!(key_algorithm_of(name), Some(algorithm));
        }
        assert_eq!(key_algorithm(0), Ok(None));
        assert_eq!(key_algorithm(99), Err(CriterionError::KeyAlgorithm));
    }
}
