//! Violations: the invalid fields of a request.

use std::sync::Arc;

use super::{Error, IdentityError, Role};
use crate::certificate::{CaCertificateError, CertificateError, Finding, FindingCode, PrivateKeyError};
use crate::inventory::{
    CertificateKind, CriterionError, LanguageError, NameError, RegionError, Scope, Tags, TagsError,
};

/// A field of a request. Each door has its own name for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the public schema explains the fields")]
pub enum Field {
    AcceptLanguage,
    AccessKeyId,
    AccountId,
    AccountName,
    Alias,
    AliCloudCertificateId,
    AliCloudCertificateName,
    AliCloudCertificateRegionId,
    /// Whether all leases are ended.
    AllLeases,
    /// Whether all tags are removed.
    AllTags,
    /// The text of the certificate.
    Certificate(CertificateKind),
    CanSign,
    CertificateId(CertificateKind),
    /// Several ids of server certificates.
    CertificateIds,
    CertificateName(CertificateKind),
    CertificateNamePrefix,
    ClearExpireTime,
    ClientToken,
    Description,
    Domain,
    DomainMatch,
    ExpireTime,
    /// Whether all certificates with the same pair are renewed.
    Everywhere,
    EventTimeBefore,
    EventTimeFrom,
    ExpireTimeBefore,
    ExpireTimeFrom,
    Fingerprint,
    IdentityKind,
    IdentityValue,
    Heads,
    Holder,
    Issuer,
    KeyAlgorithm,
    KeyEncryptionKeyId,
    KeyPairFormat,
    KeySize,
    KnownVersion,
    Methods,
    NewResourceGroupId,
    NextToken,
    NodeId,
    OrderBy,
    Outcomes,
    PageSize,
    PageToken,
    Password,
    PrivateKey,
    QuotaKind,
    QuotaMaximum,
    Rate,
    RegionId,
    ResourceGroupId,
    ResourceGroupName,
    ResourceId,
    ResourceIds,
    ResourceNames,
    ResourceNamesSubscribe,
    ResourceType,
    ResumeToken,
    Role,
    Scope,
    /// One beginning of names, counted from 0.
    ScopeNamePrefix(usize),
    ScopeNamePrefixes,
    /// One region, counted from 0.
    ScopeRegionId(usize),
    ScopeRegionIds,
    ScopeResourceGroupIds,
    SecretSha256,
    SerialNumber,
    SpkiSha256,
    /// One tag, counted from 0.
    Tag(usize),
    TagKeys,
    Tags,
    TtlSeconds,
    TypeUrl,
    UnusedDays,
    ValidateOnly,
    Version,
    Versions,
}

/// An invalid field.
#[derive(Debug)]
pub struct Violation {
    /// The invalid field.
    pub field: Field,
    /// Why the field is invalid.
    pub error: FieldError,
}

/// Why a field is invalid.
#[derive(Debug)]
pub enum FieldError {
    /// The server certificate.
    Certificate(CertificateError),
    /// The CA certificate.
    CaCertificate(CaCertificateError),
    /// The private key.
    PrivateKey(PrivateKeyError),
    /// The private key of the certificate is published or can be computed, as these findings say.
    Compromised(Vec<FindingCode>),
    /// The policy rejects the certificate for these findings.
    Policy(Vec<FindingCode>),
    /// The name.
    Name(NameError),
    /// The name of an account.
    AccountName(NameError),
    /// The kind of a quota is missing or unknown.
    QuotaKind,
    /// The quota is negative or above 1,000,000,000.
    QuotaMaximum,
    /// Another resource group of the account has the name.
    GroupNameTaken,
    /// The default resource group cannot be renamed or deleted.
    DefaultGroup,
    /// The tags, or one tag.
    Tags(TagsError),
    /// The region.
    Region(RegionError),
    /// The region, the name or the resource group is outside this scope, which is the caller's.
    OutOfScope(Arc<Scope>),
    /// The field is empty, and its default is outside this scope, which is the caller's.
    DefaultOutOfScope(Arc<Scope>),
    /// The language.
    Language(LanguageError),
    /// The value of a client identity.
    Identity(IdentityError),
    /// The value of an enum is unknown, or the call does not accept it.
    Choice,
    /// A criterion of a search.
    Criterion(CriterionError),
    /// The field is required and empty.
    Required,
    /// The field and another field exclude each other.
    Excludes(Field),
    /// The field is set without this one.
    Needs(Field),
    /// The text is not the id of a certificate of Alibaba Cloud.
    AliCloudCertificateId,
    /// The field has more entries than a call accepts.
    TooMany {
        /// The number of entries.
        count: usize,
        /// The maximum number of entries.
        max: usize,
    },
    /// The call would change too many certificates.
    TooManyCertificates {
        /// The maximum number of certificates.
        max: usize,
    },
    /// The text is too long.
    TooLong {
        /// The number of its characters.
        chars: usize,
        /// The maximum number of characters.
        max: usize,
    },
    /// The text contains a control character.
    ControlCharacter {
        /// The position of the character, counted from 1.
        position: usize,
    },
    /// The role is none of the roles that the access key can have.
    Role(&'static [Role]),
    /// An operator's access key cannot have a scope.
    ScopeOfOperator,
    /// An operator's access key cannot sign.
    CanSignOfOperator,
    /// The hash does not have 32 octets.
    SecretSha256,
    /// Another access key of the account has the secret.
    SecretUsed,
    /// The moment is not in the future.
    NotInFuture,
    /// The number of days is negative or above 36,500.
    UnusedDays,
    /// The client token is not 1 to 64 printable ASCII characters.
    ClientToken,
    /// The page size is negative.
    PageSize,
    /// The token was not written by this call, with these filters, for this account.
    PageToken,
    /// The id is not 16 hexadecimal digits.
    KeyEncryptionKeyId,
    /// The rate is out of its range.
    Rate,
    /// The token was not written by this call.
    ResumeToken,
    /// The outcome of an audit event is unknown.
    Outcome,
    /// The time is outside of the years 1 to 9999.
    Time,
    /// The head of an audit trail is not 64 hexadecimal digits.
    Head,
    /// The name of a holder is too long, or has a character that it may not have.
    HolderName,
    /// The time of a lease is out of its range.
    Ttl,
    /// The resource type is unknown.
    ResourceType,
    /// The password is not 8 to 128 printable ASCII characters.
    Password,
    /// The format of the key pair does not use the field.
    NotOfFormat,
    /// The version is negative.
    Version,
    /// A certificate would have more than 20 tags.
    TagsOfResource {
        /// The position of the certificate in the caller's order, counted from 0.
        index: usize,
        /// The number of tags that it would have.
        count: usize,
    },
}

/// The error of a text with a control character.
pub(super) fn control_character(text: &str) -> Option<FieldError> {
    let index = text.chars().position(char::is_control)?;
    Some(FieldError::ControlCharacter { position: index + 1 })
}

/// Collects the violations of a request, in the order of its fields.
#[derive(Default)]
pub(super) struct Violations {
    noted: Vec<Violation>,
    findings: Vec<Finding>,
}

impl Violations {
    /// No violations so far, and these findings.
    pub(super) fn with(findings: Vec<Finding>) -> Self {
        Self {
            noted: Vec::new(),
            findings,
        }
    }

    /// Adds findings. The error carries them in addition to the violations.
    pub(super) fn found(&mut self, findings: Vec<Finding>) {
        self.findings.extend(findings);
    }

    /// Notes the errors of the certificates, and the findings for which the policy rejects them.
    pub(super) fn certificate(&mut self, errors: Vec<CertificateError>, rejected: &[FindingCode]) {
        for error in errors {
            self.note(
                Field::Certificate(CertificateKind::Server),
                Some(FieldError::Certificate(error)),
            );
        }
        self.policy(Field::Certificate(CertificateKind::Server), rejected);
    }

    /// Notes the error of the private key, and the findings that say that it is compromised.
    pub(super) fn private_key(&mut self, error: Option<PrivateKeyError>, rejected: &[FindingCode]) {
        self.note(Field::PrivateKey, error.map(FieldError::PrivateKey));
        self.compromised(Field::PrivateKey, rejected);
    }

    /// Notes the error of a CA certificate, and the findings for which the policy rejects it.
    pub(super) fn ca_certificate(&mut self, error: Option<CaCertificateError>, rejected: &[FindingCode]) {
        self.note(
            Field::Certificate(CertificateKind::Ca),
            error.map(FieldError::CaCertificate),
        );
        self.compromised(Field::Certificate(CertificateKind::Ca), rejected);
        self.policy(Field::Certificate(CertificateKind::Ca), rejected);
    }

    /// Notes the findings that are not about a compromised key.
    pub(super) fn policy(&mut self, field: Field, rejected: &[FindingCode]) {
        let codes: Vec<_> = rejected.iter().copied().filter(|code| !code.is_compromise()).collect();
        self.note(field, (!codes.is_empty()).then_some(FieldError::Policy(codes)));
    }

    fn compromised(&mut self, field: Field, rejected: &[FindingCode]) {
        let codes: Vec<_> = rejected.iter().copied().filter(|code| code.is_compromise()).collect();
        self.note(field, (!codes.is_empty()).then_some(FieldError::Compromised(codes)));
    }

    /// The checked tags; `None` if one is invalid.
    pub(super) fn tags(&mut self, tags: Vec<(String, String)>) -> Option<Tags> {
        let checked = Tags::parse(tags).map_err(|errors| {
            for error in errors {
                let field = match error {
                    TagsError::TooMany { .. } => Field::Tags,
                    TagsError::Tag { index, .. } => Field::Tag(index),
                };
                self.note(field, Some(FieldError::Tags(error)));
            }
        });
        checked.ok()
    }

    /// Puts the violations of the pair where the request has its fields. The other violations keep their order.
    pub(super) fn sort(&mut self) {
        self.noted.sort_by_key(|violation| match violation.field {
            Field::RegionId | Field::CertificateId(_) => 0,
            Field::Certificate(_) => 1,
            Field::CertificateName(_) => 2,
            Field::PrivateKey => 3,
            _ => 4,
        });
    }

    /// Whether there are no violations.
    pub(super) fn is_empty(&self) -> bool {
        self.noted.is_empty()
    }

    /// The violations without the findings.
    pub(super) fn into_noted(self) -> Vec<Violation> {
        self.noted
    }

    /// Notes the error of a field, if there is one.
    pub(super) fn note(&mut self, field: Field, error: Option<FieldError>) {
        self.noted.extend(error.map(|error| Violation { field, error }));
    }

    /// The checked value; `None` if the field is invalid.
    pub(super) fn check<T>(&mut self, field: Field, checked: Result<T, FieldError>) -> Option<T> {
        checked.map_err(|error| self.note(field, Some(error))).ok()
    }
}

impl From<Violations> for Error {
    fn from(violations: Violations) -> Self {
        Self::Fields {
            violations: violations.noted,
            findings: violations.findings,
        }
    }
}
