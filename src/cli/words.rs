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

/// The fields of the schema, and the arguments that set them.
const FLAGS: [(&str, &str); 65] = [
    ("accept_language", "--language"),
    ("access_key_id", "ID"),
    ("account_id", "--account"),
    ("ali_cloud_certificate_id", "--ali-cloud-certificate-id"),
    ("alias", "--alias"),
    ("allow_lost_names", "--allow-lost-names"),
    ("ca_certificate", "FILE"),
    ("ca_certificate_id", "ID"),
    ("ca_certificate_name", "--name"),
    ("can_sign", "--can-sign"),
    ("clear_expire_time", "--no-expiry"),
    ("client_token", "--client-token"),
    ("compromised", "--compromised"),
    ("deleted", "--deleted"),
    ("description", "--description"),
    ("domain", "--domain"),
    ("event_time_before", "--before"),
    ("event_time_from", "--from"),
    ("everywhere", "--everywhere"),
    ("expire_time", "--expires"),
    ("expire_time_before", "--expires-before"),
    ("expire_time_from", "--expires-from"),
    ("fingerprint", "--fingerprint"),
    ("force", "--force"),
    ("format", "--format"),
    ("heads", "--head"),
    ("holder", "--holder"),
    ("if_etag", "--if-etag"),
    ("issuer", "--issuer"),
    ("key_algorithm", "--key-algorithm"),
    ("key_encryption_key_id", "ID"),
    ("key_size", "--key-size"),
    ("known_version", "--known-version"),
    ("maximum", "MAXIMUM"),
    ("methods", "--method"),
    ("name", "NAME"),
    ("new_resource_group_id", "RESOURCE_GROUP"),
    ("order_by", "--order"),
    ("outcomes", "--outcome"),
    ("password", "--password-file"),
    ("principal", "--principal"),
    ("private_key", "--key"),
    ("rate", "--rate"),
    ("region_id", "--region"),
    ("resource_group_id", "--resource-group"),
    ("resource_id", "ID"),
    ("resource_ids", "ID"),
    ("resume_token", "--resume-token"),
    ("role", "--role"),
    ("scope.name_prefixes", "--scope-name-prefix"),
    ("scope.region_ids", "--scope-region"),
    ("scope.resource_group_ids", "--scope-resource-group"),
    ("serial_number", "--serial"),
    ("server_certificate", "--cert"),
    ("server_certificate_id", "ID"),
    ("server_certificate_ids", "ID"),
    ("server_certificate_name", "--name"),
    ("server_certificate_name_prefix", "--name-prefix"),
    ("spki_sha256", "--spki"),
    ("tag_keys", "--key"),
    ("tags", "--tag"),
    ("unused_days", "--unused"),
    ("validate_only", "--validate-only"),
    ("version", "--version"),
    ("with_certificate_chain", "--with-chain"),
];

/// Parts of the service's sentences that name its own calls and values, and the words for them here.
const PHRASES: [(&str, &str); 12] = [
    // The file of a flag is never empty here, and an empty text counts as none.
    ("is empty; it is required", "is missing"),
    (
        "is empty; it must contain the private key",
        "is missing; it must contain the private key",
    ),
    ("is empty; call DescribeRegions", "is missing; run `certkeep regions`"),
    ("call DescribeRegions", "run `certkeep regions`"),
    ("that DescribeCaller answers", "that `certkeep whoami` shows"),
    ("ListServerCertificateVersions has", "`certkeep versions` lists"),
    (
        "ErrorInfo lists them; set allow_lost_names",
        "they are listed below; use --allow-lost-names",
    ),
    ("or delete it with force", "or delete it with --force"),
    (
        "use PEM, PEM_ENCRYPTED or PEM_BUNDLE",
        "use pem, pem-encrypted or bundle",
    ),
    (
        "; send the metadata `authorization: Bearer <id>.<secret>`",
        "; see --access-key-file",
    ),
    ("a time in the years 1 to 9999", "a day in the years 1 to 9999"),
    ("use DONE, DENIED or DELIVERED", "use done, denied or delivered"),
];

/// The argument that sets a field of the schema. Errors name the field by it.
pub(super) fn flag(field: &str) -> &str {
    let name = field.split('[').next().unwrap_or(field);
    let found = FLAGS.iter().find(|(known, _)| *known == name);
    found.map_or(field, |(_, flag)| flag)
}

/// A sentence of the service in the words of the command line.
pub(super) fn sentence(text: &str) -> String {
    spoken(text, flag)
}

/// A sentence of the service about the pair of an import.
pub(super) fn of_import(text: &str) -> String {
    spoken(text, |field| match field {
        "server_certificate" | "private_key" => "the file",
        "server_certificate_name" => "the name (--name-from)",
        other => flag(other),
    })
}

fn spoken(text: &str, name: fn(&str) -> &str) -> String {
    let mut text = text.to_owned();
    for (theirs, ours) in PHRASES {
        text = text.replace(theirs, ours);
    }
    let mut spoken = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(start) = rest.find(is_of_field) {
        let from = &rest[start..];
        let end = from.find(|c| !is_of_field(c)).unwrap_or(from.len());
        spoken.push_str(&rest[..start]);
        let (word, after) = from.split_at(end);
        // Fields of one word are also words of English, but not in these places.
        let is_version = after.trim_start().starts_with(|next: char| next.is_ascii_digit());
        let is_field = word.contains('_')
            || (spoken.is_empty() && !is_version)
            || ["unknown ", " does not use ", "the key of ", "the value of "]
                .iter()
                .any(|before| spoken.ends_with(before));
        spoken.push_str(if is_field { name(word) } else { word });
        rest = after;
    }
    spoken + rest
}

fn is_of_field(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '.'
}

/// The text for a policy that cannot be read.
pub(super) fn policy(_: PolicyError) -> String {
    "--policy is invalid; use default or strict, followed by exceptions such as ,EXPIRED=report or ,EXPIRED=reject"
        .to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost_reflect::DescriptorPool;

    use super::*;
    use crate::grpc::DESCRIPTORS;

    #[test]
    fn sentences_name_flags_and_commands() {
        for (theirs, ours) in [
            (
                "server_certificate contains no certificate",
                "--cert contains no certificate",
            ),
            (
                "the private key is not that of server_certificate",
                "the private key is not that of --cert",
            ),
            (
                "region_id is empty; call DescribeRegions for the valid ids",
                "--region is missing; run `certkeep regions` for the valid ids",
            ),
            (
                "unknown region_id; call DescribeRegions for the valid ids",
                "unknown --region; run `certkeep regions` for the valid ids",
            ),
            (
                "format does not use password; leave it out",
                "--format does not use --password-file; leave it out",
            ),
            ("unknown role; a role has rights", "unknown --role; a role has rights"),
            (
                "this format cannot hold a private key of RSA",
                "this format cannot hold a private key of RSA",
            ),
            (
                "tags[2] has no key. A tag has one.",
                "--tag[2] has no key. A tag has one.",
            ),
            (
                "the key of tags[1] is empty; use 1 to 64 characters",
                "the key of --tag[1] is empty; use 1 to 64 characters",
            ),
            ("version 9 is not kept", "version 9 is not kept"),
            ("no file is named a_b.", "no file is named a_b."),
            ("", ""),
        ] {
            assert_eq!(sentence(theirs), ours);
        }
    }

    #[test]
    fn an_import_names_files() {
        for (theirs, ours) in [
            (
                "certificate 2 of server_certificate (CN=a) is on no path",
                "certificate 2 of the file (CN=a) is on no path",
            ),
            (
                "server_certificate_name is empty, and unknown region_id",
                "the name (--name-from) is empty, and unknown --region",
            ),
        ] {
            assert_eq!(of_import(theirs), ours);
        }
    }

    /// A changed sentence needs its words here too.
    #[test]
    fn the_phrases_are_those_of_the_service() {
        let sentences = include_str!("../grpc/words/mod.rs");
        let joined = sentences.split("\\\n").map(str::trim_start).collect::<String>();
        let others = [
            include_str!("../grpc/words/inventory.rs"),
            include_str!("../grpc/words/certificate.rs"),
        ];
        for (theirs, _) in PHRASES {
            let is_theirs = joined.contains(theirs) || others.iter().any(|other| other.contains(theirs));
            assert!(is_theirs, "{theirs}");
        }
    }

    /// Fields with an underscore that no argument sets.
    const WITHOUT_FLAG: [&str; 10] = [
        "ali_cloud_certificate_name",
        "ali_cloud_certificate_region_id",
        "domain_match",
        "next_token",
        "omit_account_fingerprints",
        "page_size",
        "page_token",
        "resource_type",
        "secret_sha256",
        "ttl_seconds",
    ];

    #[test]
    fn every_field_of_a_request_has_its_flag() {
        let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
        let requests = pool
            .services()
            .filter(|service| service.full_name().starts_with("certkeep."))
            .flat_map(|service| service.methods().collect::<Vec<_>>());
        let fields: BTreeSet<String> = requests
            .flat_map(|method| method.input().fields().collect::<Vec<_>>())
            .map(|field| field.name().to_owned())
            .filter(|name| name.contains('_') && flag(name) == name)
            .collect();
        assert_eq!(fields, WITHOUT_FLAG.map(str::to_owned).into());
        assert!(FLAGS.is_sorted());
    }
}
