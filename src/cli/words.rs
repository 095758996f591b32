//! The words of the command line: how it calls the fields of the schema, and its own errors.

use std::borrow::Cow;

use crate::app::{CertificateKind, Field, PolicyError};
use crate::grpc::field_name;

/// How `check` calls its arguments in a sentence.
pub(super) fn argument(field: Field) -> Cow<'static, str> {
    match field {
        Field::Certificate(CertificateKind::Server) => Cow::Borrowed("CERT"),
        Field::PrivateKey => Cow::Borrowed("KEY"),
        other => field_name(other),
    }
}

/// How `import` calls the file of a field in a sentence.
pub(super) fn file(field: Field) -> Cow<'static, str> {
    match field {
        Field::Certificate(CertificateKind::Server) | Field::PrivateKey => Cow::Borrowed("the file"),
        other => field_name(other),
    }
}

/// The flag for a field of the schema, as an error names it.
pub(super) fn flag(field: &str) -> &str {
    match field.split('[').next().unwrap_or(field) {
        "accept_language" => "--language",
        "client_token" => "--client-token",
        "if_etag" => "--if-etag",
        "private_key" => "--key",
        "region_id" => "--region",
        "server_certificate" | "ca_certificate" => "--cert",
        "server_certificate_name" | "ca_certificate_name" => "--name",
        "resource_group_id" => "--resource-group",
        "tags" => "--tag",
        "validate_only" => "--validate-only",
        _ => field,
    }
}

/// For a policy that cannot be read.
pub(super) fn policy(_: PolicyError) -> String {
    "--policy is invalid; use default or strict, followed by exceptions such as ,EXPIRED=report or ,EXPIRED=reject"
        .to_owned()
}
