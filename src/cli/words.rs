//! The words of the command line: its names for the fields of the schema, and the texts of its own errors.

use std::borrow::Cow;

use crate::app::{CertificateKind, Field, PolicyError};
use crate::grpc::field_name;

/// The name of a field's argument in the sentences of `check`.
pub(super) fn argument(field: Field) -> Cow<'static, str> {
    match field {
        Field::Certificate(CertificateKind::Server) => Cow::Borrowed("CERT"),
        Field::PrivateKey => Cow::Borrowed("KEY"),
        other => field_name(other),
    }
}

/// The name of a field's file in the sentences of `import`.
pub(super) fn file(field: Field) -> Cow<'static, str> {
    match field {
        Field::Certificate(CertificateKind::Server) | Field::PrivateKey => Cow::Borrowed("the file"),
        other => field_name(other),
    }
}

/// The flag for a field of the schema. Errors name the field by this flag.
pub(super) fn flag(field: &str) -> &str {
    match field.split('[').next().unwrap_or(field) {
        "access_key_id" => "ID",
        "account_id" => "--account",
        "alias" => "--alias",
        "format" => "--format",
        "known_version" => "--known-version",
        "password" => "--password-file",
        "version" => "--version",
        "description" => "--description",
        "expire_time" => "--expires",
        "maximum" => "MAXIMUM",
        "role" => "--role",
        "scope.name_prefixes" => "--scope-name-prefix",
        "scope.region_ids" => "--scope-region",
        "scope.resource_group_ids" => "--scope-resource-group",
        "unused_days" => "--unused",
        "accept_language" => "--language",
        "client_token" => "--client-token",
        "everywhere" => "--everywhere",
        "if_etag" => "--if-etag",
        "key_encryption_key_id" => "ID",
        "private_key" => "--key",
        "rate" => "--rate",
        "region_id" => "--region",
        "server_certificate" | "ca_certificate" => "--cert",
        "server_certificate_name" | "ca_certificate_name" => "--name",
        "resource_group_id" => "--resource-group",
        "tags" => "--tag",
        "validate_only" => "--validate-only",
        "heads" => "--head",
        "methods" => "--method",
        _ => field,
    }
}

/// The text for a policy that cannot be read.
pub(super) fn policy(_: PolicyError) -> String {
    "--policy is invalid; use default or strict, followed by exceptions such as ,EXPIRED=report or ,EXPIRED=reject"
        .to_owned()
}
