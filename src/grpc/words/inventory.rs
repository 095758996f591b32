//! The words for wrong names, tags, regions and criteria.

use super::FieldName;
use crate::app::{
    CriterionError, DomainError, Field, IdentityError, NameError, RegionError, Scope, TagError, TagPart, TagsError,
};

pub(super) fn name(error: NameError, field: &str) -> String {
    match error {
        NameError::Empty => format!("{field} is empty; use 1 to 80 characters"),
        NameError::TooLong { chars } => format!("{field} has {chars} characters; use at most 80"),
        NameError::Character { position } => {
            format!("character {position} of {field} is not allowed; use letters, digits and - / . _ *")
        }
    }
}

pub(super) fn account_name(error: NameError, field: &str) -> String {
    match error {
        NameError::Character { position } => {
            format!("character {position} of {field} is not allowed; use letters, digits and - . _")
        }
        error => name(error, field),
    }
}

pub(super) fn tags(error: TagsError, field: &str) -> String {
    match error {
        TagsError::TooMany { count } => format!("{field} has {count} tags; use at most 20"),
        TagsError::Tag { error, .. } => tag(error, field),
    }
}

fn tag(error: TagError, field: &str) -> String {
    let part = |part| match part {
        TagPart::Key => format!("the key of {field}"),
        TagPart::Value => format!("the value of {field}"),
    };
    match error {
        TagError::KeyEmpty => format!("the key of {field} is empty; use 1 to 64 characters"),
        TagError::KeyRepeated => format!("the key of {field} is also the key of an earlier tag; use each key once"),
        TagError::TooLong { part: at, chars } => {
            format!("{} has {chars} characters; use at most {}", part(at), at.max_chars())
        }
        TagError::Reserved(at) => {
            format!(
                "{} starts with aliyun or acs:, which are reserved; use another one",
                part(at)
            )
        }
        TagError::Url(at) => format!("{} contains http:// or https://; remove it", part(at)),
        TagError::ControlCharacter(at) => format!("{} contains a control character; remove it", part(at)),
    }
}

pub(super) fn region(error: RegionError, field: &str) -> String {
    match error {
        RegionError::Missing => format!("{field} is empty; call DescribeRegions for the valid ids"),
        RegionError::Unknown => format!("unknown {field}; call DescribeRegions for the valid ids"),
    }
}

pub(super) fn identity(error: IdentityError, field: &str) -> String {
    match error {
        IdentityError::SpiffeId => format!(
            "{field} is not a SPIFFE ID; use an id such as spiffe://example.org/web, or spiffe://example.org/* for all ids below"
        ),
        IdentityError::DnsName => {
            format!("{field} is not a host name; use a name such as web.example, without wildcards")
        }
        IdentityError::Subject => format!(
            "{field} is not a subject as RFC 4514 writes it; use a subject such as CN=web,O=Example, without a space after the comma"
        ),
    }
}

pub(super) fn out_of_scope(scope: &Scope, of: Field, field: &str) -> String {
    match of {
        Field::ResourceGroupName => format!(
            "this caller cannot create a resource group, because it is limited to {}",
            limit(scope, of)
        ),
        _ => format!(
            "{field} is outside the scope of this caller, which is limited to {}",
            limit(scope, of)
        ),
    }
}

pub(super) fn default_out_of_scope(scope: &Scope, of: Field, field: &str) -> String {
    format!(
        "{field} is empty, and its default is outside the scope of this caller; give one, since the caller is limited to {}",
        limit(scope, of)
    )
}

/// The part of the scope that the field is about.
fn limit(scope: &Scope, of: Field) -> String {
    match of {
        Field::CertificateName(_) => format!("names that begin with {}", scope.name_prefixes.join(" or ")),
        Field::ResourceGroupId | Field::ResourceGroupName => {
            let ids: Vec<_> = scope.resource_groups.iter().map(ToString::to_string).collect();
            format!("the resource groups {}", ids.join(", "))
        }
        _ => {
            let ids: Vec<_> = scope.regions.iter().map(ToString::to_string).collect();
            format!("the regions {}", ids.join(", "))
        }
    }
}

pub(super) fn criterion(error: CriterionError, field: &str, name: FieldName) -> String {
    match error {
        CriterionError::Fingerprint => format!(
            "{field} is neither a SHA-1 nor a SHA-256 fingerprint; use 40 or 64 hexadecimal digits, with colons between all bytes \
             or without"
        ),
        CriterionError::Domain(DomainError::Internationalised) => {
            format!("{field} contains characters outside ASCII; use the form of RFC 5890, whose labels start with xn--")
        }
        CriterionError::Domain(DomainError::Malformed) => format!(
            "{field} is neither a host name nor an IP address; use one such as www.example.com, *.example.com or 192.0.2.1, without \
             scheme and port"
        ),
        CriterionError::DomainMatch => format!("unknown {field}; use EXACT, COVERED or BELOW, or leave it out"),
        CriterionError::DomainMatchAlone => {
            format!("{field} requires {}; set both, or leave it out", name(Field::Domain))
        }
        CriterionError::SpkiSha256 => {
            format!("{field} is not a SHA-256; use 64 hexadecimal digits, with colons between all bytes or without")
        }
        CriterionError::SerialNumber => {
            format!("{field} is not hexadecimal; use hexadecimal digits, with colons between all bytes or without")
        }
        CriterionError::Issuer => {
            format!(
                "{field} cannot be read; use at most 64 attributes such as CN=R3,O=Let's Encrypt, or a common name alone, and at most 4 KiB"
            )
        }
        CriterionError::KeyAlgorithm => format!("unknown {field}; use a value of KeyAlgorithm, or leave it out"),
        CriterionError::KeySize => format!("{field} is negative; use 0 for any size, or a number of bits"),
        CriterionError::KeySizeAlone => {
            format!(
                "{field} requires {}; set both, or leave it out",
                name(Field::KeyAlgorithm)
            )
        }
        CriterionError::ExpireTime => {
            format!("{field} is not a valid timestamp; use the years 1 to 9999, and nanos from 0 to 999,999,999")
        }
        CriterionError::ExpiryWindow => format!(
            "{field} is not later than {}; use a later time, or leave it out",
            name(Field::ExpireTimeFrom)
        ),
        CriterionError::NamePrefix => {
            format!("no name starts with {field}; use at most 80 letters, digits and - / . _ *")
        }
        CriterionError::Order => format!("unknown {field}; use CREATE_TIME, EXPIRE_TIME or NAME, or leave it out"),
    }
}
