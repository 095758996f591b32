//! The names of the schema's fields.

use std::borrow::Cow;

use crate::app::{CertificateKind, Field};

/// The path of a field in its request.
pub fn field_name(field: Field) -> Cow<'static, str> {
    use CertificateKind::{Ca, Server};
    Cow::Borrowed(match field {
        Field::AcceptLanguage => "accept_language",
        Field::AliCloudCertificateId => "ali_cloud_certificate_id",
        Field::AliCloudCertificateName => "ali_cloud_certificate_name",
        Field::AliCloudCertificateRegionId => "ali_cloud_certificate_region_id",
        Field::AllTags => "all",
        Field::Certificate(Server) => "server_certificate",
        Field::Certificate(Ca) => "ca_certificate",
        Field::CertificateId(Server) => "server_certificate_id",
        Field::CertificateId(Ca) => "ca_certificate_id",
        Field::CertificateName(Server) => "server_certificate_name",
        Field::CertificateName(Ca) => "ca_certificate_name",
        Field::CertificateNamePrefix => "server_certificate_name_prefix",
        Field::ClientToken => "client_token",
        Field::Domain => "domain",
        Field::DomainMatch => "domain_match",
        Field::ExpireTimeBefore => "expire_time_before",
        Field::ExpireTimeFrom => "expire_time_from",
        Field::Fingerprint => "fingerprint",
        Field::Issuer => "issuer",
        Field::KeyAlgorithm => "key_algorithm",
        Field::KeyEncryptionKeyId => "key_encryption_key_id",
        Field::KeySize => "key_size",
        Field::NewResourceGroupId => "new_resource_group_id",
        Field::NextToken => "next_token",
        Field::OrderBy => "order_by",
        Field::PageSize => "page_size",
        Field::PageToken => "page_token",
        Field::PrivateKey => "private_key",
        Field::Rate => "rate",
        Field::RegionId => "region_id",
        Field::ResourceGroupId => "resource_group_id",
        Field::ResourceGroupName => "name",
        Field::ResourceId => "resource_id",
        Field::ResourceIds => "resource_ids",
        Field::ResourceType => "resource_type",
        Field::ResumeToken => "resume_token",
        Field::SerialNumber => "serial_number",
        Field::SpkiSha256 => "spki_sha256",
        Field::Tag(index) => return Cow::Owned(format!("tags[{index}]")),
        Field::TagKeys => "tag_keys",
        Field::Tags => "tags",
        Field::ValidateOnly => "validate_only",
    })
}
