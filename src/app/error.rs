//! Why a use case refused a call, as a caller tells the cases apart. Doors turn it into their protocol's form.

use std::error::Error as StdError;
use std::fmt;

use super::Role;
use crate::certificate::{CaCertificateError, CertificateError, Finding, FindingCode, PrivateKeyError, TextFault};
use crate::inventory::{
    CertificateId, CertificateKind, CriterionError, LanguageError, NameError, RegionError, RegionId, TagError,
    TagFault, Tags,
};
use crate::{digest, seal, store};

/// Why a call was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Fields of the request are wrong: all of them, at least one, in the request's order.
    #[error("{}", several(faults))]
    Fields {
        /// What is wrong, and with which field.
        faults: Vec<FieldFault>,
        /// What was noticed about a certificate, what matters most first.
        findings: Vec<Finding>,
    },
    /// Fields are set whose behaviour is not built yet.
    #[error("{} not supported yet: leave {} empty", are(.0), if .0.len() == 1 { "it" } else { "them" })]
    FieldsNotSupported(Vec<&'static str>),
    /// There is no such resource in the caller's account, or not in the region named.
    #[error("there is no such {} in this account{}", .0.noun(), .0.place())]
    NotFound(Resource),
    /// The account has as many certificates of this kind in the region as it may.
    #[error(
        "the account has as many {}s in this region as it may: delete some, or ask who runs this service for more", kind.noun()
    )]
    QuotaExceeded {
        /// The kind.
        kind: CertificateKind,
        /// The region.
        region: RegionId,
    },
    /// The client token was used by another request.
    #[error("client_token was used by another request in the last 24 hours: use a new one for each upload")]
    ClientTokenReused,
    /// The certificate was changed since the caller read its etag.
    #[error("the certificate was changed since if_etag was read: read it again and decide anew")]
    EtagMismatch {
        /// Its revision now.
        revision: i64,
    },
    /// The certificate is live.
    #[error("the certificate is not deleted: there is nothing to undelete or purge")]
    NotDeleted(CertificateId),
    /// No access key, one that is unknown, or a wrong secret: which one is not told.
    #[error(
        "the call needs an access key: send the metadata `authorization: Bearer <id>.<secret>` with one that is known"
    )]
    Unauthenticated,
    /// The access key is right but disabled.
    #[error("the access key is disabled: use another one")]
    AccessKeyDisabled,
    /// The access key is right but its account is disabled.
    #[error("the account is disabled: ask who runs this service")]
    AccountDisabled,
    /// The caller's role does not include the call.
    #[error("the call needs the role {0}: use an access key that has it", needed.as_str())]
    PermissionDenied {
        /// The least role that does.
        needed: Role,
    },
    /// The database can't be reached or written. Nothing was changed.
    #[error("the database is unavailable and nothing was changed: try again")]
    DatabaseUnavailable(#[source] store::Error),
    /// Whether the change took effect could not be learnt.
    #[error(
        "the connection to the database was lost in the commit: look whether the change took effect before you repeat it"
    )]
    OutcomeUnknown(#[source] store::Error),
    /// A fault of certkeep. Its source is for the log.
    #[error("something went wrong inside certkeep: its log has more under this request id")]
    Internal(#[source] Box<dyn StdError + Send + Sync>),
}

/// A resource that was not found.
#[derive(Clone, Copy, Debug)]
pub enum Resource {
    /// A certificate of this kind; its id, if what was sent is one at all.
    Certificate(CertificateKind, Option<CertificateId>),
    /// A resource group.
    ResourceGroup,
}

impl Resource {
    /// The certificate of this id.
    pub(super) fn of(id: CertificateId) -> Self {
        Self::Certificate(id.kind, Some(id))
    }

    /// What it is called in a sentence.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Certificate(kind, _) => kind.noun(),
            Self::ResourceGroup => "resource group",
        }
    }

    /// Where besides it was looked for.
    fn place(self) -> &'static str {
        match self {
            Self::Certificate(..) => " and region",
            Self::ResourceGroup => "",
        }
    }
}

/// A wrong field.
#[derive(Debug)]
pub struct FieldFault {
    /// Its path in the request, with the names and indexes of the public schema.
    pub field: String,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a field. Displays as one sentence that says what to do and repeats nothing of the field.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The server certificate.
    #[error(transparent)]
    Certificate(CertificateError),
    /// The CA certificate.
    #[error(transparent)]
    CaCertificate(CaCertificateError),
    /// Others can find the private key of such a certificate, as these say.
    #[error("others can find {}: {}", private_key_of(*.0), codes(.1))]
    Compromised(CertificateKind, Vec<FindingCode>),
    /// The policy refuses the certificate for these.
    #[error("the policy refuses the certificate: {}", codes(.0))]
    Policy(Vec<FindingCode>),
    /// The private key.
    #[error(transparent)]
    PrivateKey(PrivateKeyError),
    /// The name.
    #[error(transparent)]
    Name(NameError),
    /// The tags, or one of them.
    #[error(transparent)]
    Tag(TagError),
    /// The region.
    #[error(transparent)]
    Region(RegionError),
    /// The language.
    #[error(transparent)]
    Language(LanguageError),
    /// What is searched by.
    #[error(transparent)]
    Criterion(CriterionError),
    /// A required field is empty.
    #[error("{0} is empty: it is required")]
    Required(&'static str),
    /// The client token is not one.
    #[error("client_token is not 1 to 64 printable ASCII characters")]
    ClientToken,
    /// A token for what stores nothing.
    #[error("client_token does not go with validate_only: leave one of them out")]
    ClientTokenOfNothing,
    /// The page size is negative.
    #[error("page_size is negative: give 0 for the default of 100, or 1 to 1000")]
    PageSize,
    /// The next token was not given by this call, with these filters, to this account.
    #[error("next_token was not given by this call with the same filters: begin again with an empty one")]
    NextToken,
    /// There is no such type of resources.
    #[error("resource_type is not certificate, which is the only type")]
    ResourceType,
    /// More resources are named than a call takes.
    #[error("there are {count} resource_ids: give at most 20")]
    TooManyResources {
        /// How many there are.
        count: usize,
    },
    /// More keys are given than a certificate has tags.
    #[error("there are {count} tag_keys: give at most 20")]
    TooManyTagKeys {
        /// How many there are.
        count: usize,
    },
    /// A certificate would have more than 20 tags.
    #[error("resource_ids[{index}] would have {count} tags, and may have 20: remove some first")]
    TagsOfResource {
        /// Which certificate, counted from 0 in the caller's order.
        index: usize,
        /// How many it would have.
        count: usize,
    },
    /// Some tags and all tags are to be removed.
    #[error("tag_keys does not go with all: leave one of them out")]
    TagKeysAndAll,
    /// The page token was not given by this call, with these filters, to this account.
    #[error("page_token was not given by this call with the same filters: begin again with an empty one")]
    PageToken,
}

impl Fault {
    /// The variable parts of its sentence, by name.
    pub fn metadata(&self) -> Vec<(&'static str, String)> {
        let part = |name, value: &dyn fmt::Display| vec![(name, value.to_string())];
        match self {
            Self::Certificate(CertificateError::Text(TextFault::TooLarge { bytes }))
            | Self::CaCertificate(CaCertificateError::Text(TextFault::TooLarge { bytes })) => part("bytes", bytes),
            Self::Certificate(CertificateError::Malformed { index, .. }) => part("certificate", index),
            Self::Certificate(CertificateError::UnsupportedKey(key))
            | Self::CaCertificate(CaCertificateError::UnsupportedKey(key)) => part("key", key),
            Self::Certificate(CertificateError::LeafAmbiguous { first, second }) => {
                vec![
                    ("certificate", first.to_string()),
                    ("other_certificate", second.to_string()),
                ]
            }
            Self::Certificate(CertificateError::Unrelated { index, subject }) => {
                vec![("certificate", index.to_string()), ("subject", subject.clone())]
            }
            Self::Policy(rejected) | Self::Compromised(_, rejected) => part("findings", &codes(rejected)),
            Self::PrivateKey(PrivateKeyError::TooLarge { bytes }) => part("bytes", bytes),
            Self::PrivateKey(PrivateKeyError::Unsupported(key)) => part("key", key),
            Self::Certificate(CertificateError::Text(TextFault::Pem(fault)))
            | Self::CaCertificate(CaCertificateError::Text(TextFault::Pem(fault)))
            | Self::PrivateKey(PrivateKeyError::Pem(fault)) => {
                fault.block().map(|block| part("block", &block)).unwrap_or_default()
            }
            Self::TooManyResources { count } | Self::TooManyTagKeys { count } => part("count", count),
            Self::TagsOfResource { index, count } => {
                vec![("resource", index.to_string()), ("count", count.to_string())]
            }
            Self::Name(NameError::TooLong { chars }) => part("characters", chars),
            Self::Name(NameError::Character { position }) => part("position", position),
            Self::Tag(TagError::TooMany { count }) => part("count", count),
            Self::Tag(TagError::Invalid { fault, .. }) => match fault {
                TagFault::KeyTooLong { chars } | TagFault::ValueTooLong { chars } => part("characters", chars),
                _ => Vec::new(),
            },
            Self::Certificate(_)
            | Self::CaCertificate(_)
            | Self::PrivateKey(_)
            | Self::Name(NameError::Empty)
            | Self::Region(_)
            | Self::Language(_)
            | Self::Criterion(_)
            | Self::Required(_)
            | Self::ClientToken
            | Self::ClientTokenOfNothing
            | Self::ResourceType
            | Self::TagKeysAndAll
            | Self::PageSize
            | Self::NextToken
            | Self::PageToken => Vec::new(),
        }
    }

    /// The reason that callers tell it by.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Certificate(CertificateError::Missing)
            | Self::CaCertificate(CaCertificateError::Missing)
            | Self::PrivateKey(PrivateKeyError::Missing) => Reason::CertificateOrKeyMissing,
            Self::Certificate(CertificateError::LeafAmbiguous { .. }) => Reason::LeafAmbiguous,
            Self::Certificate(CertificateError::Unrelated { .. }) => Reason::ChainUnrelatedCertificate,
            Self::Certificate(CertificateError::TooComplex) => Reason::ChainTooComplex,
            Self::Certificate(_) | Self::CaCertificate(_) => Reason::CertificateMalformed,
            Self::Policy(_) => Reason::PolicyRejected,
            Self::Compromised(..) => Reason::PrivateKeyCompromised,
            Self::PrivateKey(PrivateKeyError::Encrypted) => Reason::PrivateKeyEncrypted,
            Self::PrivateKey(PrivateKeyError::Unsupported(_)) => Reason::PrivateKeyUnsupported,
            Self::PrivateKey(PrivateKeyError::Mismatch) => Reason::PrivateKeyMismatch,
            Self::PrivateKey(_) => Reason::PrivateKeyMalformed,
            Self::Name(_) => Reason::NameInvalid,
            Self::Tag(_) | Self::TagsOfResource { .. } => Reason::TagInvalid,
            Self::Region(RegionError::Missing) => Reason::RegionMissing,
            Self::Region(RegionError::Unknown) => Reason::RegionNotFound,
            Self::Required(_)
            | Self::Language(_)
            | Self::Criterion(_)
            | Self::ClientToken
            | Self::ClientTokenOfNothing
            | Self::ResourceType
            | Self::TooManyResources { .. }
            | Self::TooManyTagKeys { .. }
            | Self::TagKeysAndAll
            | Self::PageSize => Reason::FieldInvalid,
            Self::PageToken | Self::NextToken => Reason::PageTokenInvalid,
        }
    }
}

/// The reasons of `google.rpc.ErrorInfo`, the same at every door.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(
    missing_docs,
    reason = "each is its name, and the schema's comments are the contract"
)]
pub enum Reason {
    CertificateOrKeyMissing,
    CertificateMalformed,
    PrivateKeyMalformed,
    PrivateKeyUnsupported,
    PrivateKeyEncrypted,
    PrivateKeyMismatch,
    PrivateKeyCompromised,
    ChainUnrelatedCertificate,
    ChainTooComplex,
    LeafAmbiguous,
    PolicyRejected,
    NameInvalid,
    TagInvalid,
    PageTokenInvalid,
    FieldInvalid,
    MessageMalformed,
    MessageTooLarge,
    RegionMissing,
    RegionNotFound,
    ServerCertificateNotFound,
    CaCertificateNotFound,
    ResourceGroupNotFound,
    QuotaExceeded,
    ClientTokenReused,
    EtagMismatch,
    NotDeleted,
    FieldNotSupported,
    MethodUnknown,
    DeadlineExceeded,
    Unauthenticated,
    AccessKeyDisabled,
    AccountDisabled,
    PermissionDenied,
    DatabaseUnavailable,
    OutcomeUnknown,
    Internal,
}

impl Reason {
    /// The reason as it is sent.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CertificateOrKeyMissing => "CERTIFICATE_OR_KEY_MISSING",
            Self::CertificateMalformed => "CERTIFICATE_MALFORMED",
            Self::PrivateKeyMalformed => "PRIVATE_KEY_MALFORMED",
            Self::PrivateKeyUnsupported => "PRIVATE_KEY_UNSUPPORTED",
            Self::PrivateKeyEncrypted => "PRIVATE_KEY_ENCRYPTED",
            Self::PrivateKeyMismatch => "PRIVATE_KEY_MISMATCH",
            Self::PrivateKeyCompromised => "PRIVATE_KEY_COMPROMISED",
            Self::ChainUnrelatedCertificate => "CHAIN_UNRELATED_CERTIFICATE",
            Self::ChainTooComplex => "CHAIN_TOO_COMPLEX",
            Self::LeafAmbiguous => "LEAF_AMBIGUOUS",
            Self::PolicyRejected => "POLICY_REJECTED",
            Self::NameInvalid => "NAME_INVALID",
            Self::TagInvalid => "TAG_INVALID",
            Self::PageTokenInvalid => "PAGE_TOKEN_INVALID",
            Self::FieldInvalid => "FIELD_INVALID",
            Self::MessageMalformed => "MESSAGE_MALFORMED",
            Self::MessageTooLarge => "MESSAGE_TOO_LARGE",
            Self::RegionMissing => "REGION_MISSING",
            Self::RegionNotFound => "REGION_NOT_FOUND",
            Self::ServerCertificateNotFound => "SERVER_CERTIFICATE_NOT_FOUND",
            Self::CaCertificateNotFound => "CA_CERTIFICATE_NOT_FOUND",
            Self::ResourceGroupNotFound => "RESOURCE_GROUP_NOT_FOUND",
            Self::QuotaExceeded => "QUOTA_EXCEEDED",
            Self::ClientTokenReused => "CLIENT_TOKEN_REUSED",
            Self::EtagMismatch => "ETAG_MISMATCH",
            Self::NotDeleted => "NOT_DELETED",
            Self::FieldNotSupported => "FIELD_NOT_SUPPORTED",
            Self::MethodUnknown => "METHOD_UNKNOWN",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::AccessKeyDisabled => "ACCESS_KEY_DISABLED",
            Self::AccountDisabled => "ACCOUNT_DISABLED",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::DatabaseUnavailable => "DATABASE_UNAVAILABLE",
            Self::OutcomeUnknown => "OUTCOME_UNKNOWN",
            Self::Internal => "INTERNAL",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Error {
    /// One wrong field.
    pub(super) fn field(field: &str, fault: Fault) -> Self {
        Self::Fields {
            faults: vec![FieldFault {
                field: field.to_owned(),
                fault,
            }],
            findings: Vec::new(),
        }
    }

    /// A fault of certkeep.
    pub(super) fn internal(source: impl StdError + Send + Sync + 'static) -> Self {
        Self::Internal(Box::new(source))
    }

    /// The reason that callers tell it by: for fields, that of the first.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Fields { faults, .. } => faults.first().map_or(Reason::Internal, |first| first.fault.reason()),
            Self::FieldsNotSupported(_) => Reason::FieldNotSupported,
            Self::NotFound(Resource::Certificate(CertificateKind::Server, _)) => Reason::ServerCertificateNotFound,
            Self::NotFound(Resource::Certificate(CertificateKind::Ca, _)) => Reason::CaCertificateNotFound,
            Self::NotFound(Resource::ResourceGroup) => Reason::ResourceGroupNotFound,
            Self::QuotaExceeded { .. } => Reason::QuotaExceeded,
            Self::ClientTokenReused => Reason::ClientTokenReused,
            Self::EtagMismatch { .. } => Reason::EtagMismatch,
            Self::NotDeleted(_) => Reason::NotDeleted,
            Self::Unauthenticated => Reason::Unauthenticated,
            Self::AccessKeyDisabled => Reason::AccessKeyDisabled,
            Self::AccountDisabled => Reason::AccountDisabled,
            Self::PermissionDenied { .. } => Reason::PermissionDenied,
            Self::DatabaseUnavailable(_) => Reason::DatabaseUnavailable,
            Self::OutcomeUnknown(_) => Reason::OutcomeUnknown,
            Self::Internal(_) => Reason::Internal,
        }
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Unavailable(_) => Self::DatabaseUnavailable(error),
            store::Error::OutcomeUnknown(_) => Self::OutcomeUnknown(error),
            store::Error::Statement { .. } | store::Error::Row(_) => Self::internal(error),
        }
    }
}

impl From<seal::Error> for Error {
    fn from(error: seal::Error) -> Self {
        Self::internal(error)
    }
}

impl From<digest::Error> for Error {
    fn from(error: digest::Error) -> Self {
        Self::internal(error)
    }
}

/// Collects the faults of a request's fields.
#[derive(Default)]
pub(super) struct Faults {
    noted: Vec<FieldFault>,
    findings: Vec<Finding>,
}

impl Faults {
    /// None so far; these findings are told with those to come.
    pub(super) fn with(findings: Vec<Finding>) -> Self {
        Self {
            noted: Vec::new(),
            findings,
        }
    }

    /// Tells these findings with the faults.
    pub(super) fn found(&mut self, findings: Vec<Finding>) {
        self.findings.extend(findings);
    }

    /// Notes what is wrong with the certificates.
    pub(super) fn certificate(&mut self, errors: Vec<CertificateError>, rejected: &[FindingCode]) {
        for error in errors {
            self.note("server_certificate", Some(Fault::Certificate(error)));
        }
        self.unwise("server_certificate", rejected);
    }

    /// Notes what is wrong with the private key.
    pub(super) fn private_key(&mut self, error: Option<PrivateKeyError>, rejected: &[FindingCode]) {
        self.note("private_key", error.map(Fault::PrivateKey));
        self.compromised("private_key", CertificateKind::Server, rejected);
    }

    /// Notes what is wrong with the certificate of an authority, whose private key is not there.
    pub(super) fn ca_certificate(&mut self, error: Option<CaCertificateError>, rejected: &[FindingCode]) {
        self.note("ca_certificate", error.map(Fault::CaCertificate));
        self.compromised("ca_certificate", CertificateKind::Ca, rejected);
        self.unwise("ca_certificate", rejected);
    }

    /// Notes those that tell of no key that others can find.
    pub(super) fn unwise(&mut self, field: &str, rejected: &[FindingCode]) {
        let rejected: Vec<_> = rejected.iter().copied().filter(|code| !code.is_compromise()).collect();
        self.note(field, (!rejected.is_empty()).then_some(Fault::Policy(rejected)));
    }

    fn compromised(&mut self, field: &str, kind: CertificateKind, rejected: &[FindingCode]) {
        let rejected: Vec<_> = rejected.iter().copied().filter(|code| code.is_compromise()).collect();
        self.note(
            field,
            (!rejected.is_empty()).then_some(Fault::Compromised(kind, rejected)),
        );
    }

    /// The checked tags; `None` if some are wrong, which is noted.
    pub(super) fn tags(&mut self, tags: Vec<(String, String)>) -> Option<Tags> {
        let checked = Tags::parse(tags).map_err(|errors| {
            for error in errors {
                let field = match error {
                    TagError::TooMany { .. } => "tags".to_owned(),
                    TagError::Invalid { index, .. } => format!("tags[{index}]"),
                };
                self.note(&field, Some(Fault::Tag(error)));
            }
        });
        checked.ok()
    }

    /// Whether none was noted.
    pub(super) fn is_empty(&self) -> bool {
        self.noted.is_empty()
    }

    /// The faults alone.
    pub(super) fn into_noted(self) -> Vec<FieldFault> {
        self.noted
    }

    /// Notes the fault of a field, if it has one.
    pub(super) fn note(&mut self, field: &str, fault: Option<Fault>) {
        self.noted.extend(fault.map(|fault| FieldFault {
            field: field.to_owned(),
            fault,
        }));
    }

    /// The checked value; `None` if the field was wrong, which is noted.
    pub(super) fn check<T>(&mut self, field: &str, checked: Result<T, Fault>) -> Option<T> {
        checked.map_err(|fault| self.note(field, Some(fault))).ok()
    }
}

impl From<Faults> for Error {
    fn from(faults: Faults) -> Self {
        Self::Fields {
            faults: faults.noted,
            findings: faults.findings,
        }
    }
}

fn several(faults: &[FieldFault]) -> String {
    match faults {
        [] => "the request is wrong".to_owned(),
        [only] => only.fault.to_string(),
        [first, rest @ ..] => {
            let others = if rest.len() == 1 { "field is" } else { "fields are" };
            format!("{} ({} more {others} wrong)", first.fault, rest.len())
        }
    }
}

fn private_key_of(kind: CertificateKind) -> &'static str {
    match kind {
        CertificateKind::Server => "private_key",
        CertificateKind::Ca => "the private key of ca_certificate",
    }
}

fn codes(codes: &[FindingCode]) -> String {
    let names: Vec<_> = codes.iter().map(|code| code.as_str()).collect();
    names.join(", ")
}

fn are(fields: &[&str]) -> String {
    let verb = if fields.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", fields.join(", "))
}
