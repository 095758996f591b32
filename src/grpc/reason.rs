//! From error to reason, and from reason to status code.

use tonic::Code;

use super::pb::Reason;
use super::words::Refusal;
use crate::app::{
    CaCertificateError, CasError, CertificateError, CertificateKind, Error, FieldError, PrivateKeyError, RegionError,
    Resource,
};

/// The reason of an error. For invalid fields, the reason of the first one.
pub fn of_error(error: &Error) -> Reason {
    match error {
        Error::Fields { violations, .. } => violations
            .first()
            .map_or(Reason::Internal, |first| of_field(&first.error)),
        Error::NotFound(Resource::Certificate(Some(CertificateKind::Server), _)) => Reason::ServerCertificateNotFound,
        Error::NotFound(Resource::Certificate(Some(CertificateKind::Ca), _)) => Reason::CaCertificateNotFound,
        Error::NotFound(Resource::Certificate(None, _)) => Reason::ResourceNotFound,
        Error::NotFound(Resource::ResourceGroup) => Reason::ResourceGroupNotFound,
        Error::NotFound(Resource::AccessKey) => Reason::AccessKeyNotFound,
        Error::QuotaExceeded { .. } | Error::AccessKeyQuotaExceeded(_) | Error::TooManyHolders(_) => {
            Reason::QuotaExceeded
        }
        Error::CertificateInUse { .. } => Reason::CertificateInUse,
        Error::LeaseNotFound => Reason::LeaseNotFound,
        Error::AccountExists => Reason::AccountExists,
        Error::OutOfScope(_) => Reason::OutOfScope,
        Error::AccessKeyEnabled(_) => Reason::AccessKeyEnabled,
        Error::LastAdminKey(_) => Reason::LastAdminKey,
        Error::ClientTokenReused => Reason::ClientTokenReused,
        Error::EtagMismatch { .. } => Reason::EtagMismatch,
        Error::NamesLost(_) => Reason::NamesLost,
        Error::NotDeleted(..) => Reason::NotDeleted,
        Error::ResourceGroupNotEmpty(_) => Reason::ResourceGroupNotEmpty,
        Error::NotFound(Resource::KeyEncryptionKey) => Reason::KeyEncryptionKeyNotFound,
        Error::KeyNotOnAllReplicas { .. } => Reason::KeyEncryptionKeyNotOnAllReplicas,
        Error::KeyInUse(_) => Reason::KeyEncryptionKeyInUse,
        Error::RotationInProgress(_) => Reason::KeyRingRotationInProgress,
        Error::Unauthenticated | Error::Signature(_) => Reason::Unauthenticated,
        Error::ClientIdentityUnknown(_) => Reason::ClientIdentityUnknown,
        Error::ClientIdentityAmbiguous => Reason::ClientIdentityAmbiguous,
        Error::ClientCertificateExpired => Reason::ClientCertificateExpired,
        Error::CredentialsConflict(_) => Reason::CredentialsConflict,
        Error::RateLimited { .. } => Reason::RateLimited,
        Error::AccountNotFound => Reason::AccountNotFound,
        Error::ClientIdentityNotFound => Reason::ClientIdentityNotFound,
        Error::ClientIdentityExists => Reason::ClientIdentityExists,
        Error::AccessKeyDisabled => Reason::AccessKeyDisabled,
        Error::AccessKeyExpired => Reason::AccessKeyExpired,
        Error::AccountDisabled => Reason::AccountDisabled,
        Error::PermissionDenied { .. } => Reason::PermissionDenied,
        Error::AuditOutOfScope => Reason::OutOfScope,
        Error::ResumeTokenExpired => Reason::ResumeTokenExpired,
        Error::NameAmbiguous { .. } => Reason::ServerCertificateNameAmbiguous,
        Error::VersionNotFound { .. } => Reason::VersionNotFound,
        Error::FormatUnfit(_) => Reason::FormatUnfit,
        Error::SealedKeyUnreadable { .. } => Reason::SealedKeyUnreadable,
        Error::StoredCertificateDamaged { .. } => Reason::StoredCertificateDamaged,
        Error::StreamEnded { .. } => Reason::StreamEnded,
        Error::WatcherTooSlow { .. } => Reason::WatcherTooSlow,
        Error::AliCloudNotConfigured | Error::AliCloud(_, CasError::Credentials(_)) => Reason::AliCloudNotConfigured,
        Error::AliCloud(_, CasError::NotFound(_)) => Reason::AliCloudCertificateNotFound,
        Error::AliCloud(_, CasError::Refused(_)) => Reason::AliCloudRefused,
        Error::AliCloud(_, CasError::Answer(_)) => Reason::AliCloudAnswerInvalid,
        Error::AliCloud(_, CasError::Unavailable(_)) => Reason::AliCloudUnavailable,
        Error::AliCloud(_, CasError::Paused { .. }) => Reason::AliCloudPaused,
        Error::AliCloud(_, CasError::Random(_)) => Reason::Internal,
        Error::DatabaseUnavailable(_) => Reason::DatabaseUnavailable,
        Error::ResourceBusy(_) => Reason::ResourceBusy,
        Error::OutcomeUnknown(_) => Reason::OutcomeUnknown,
        Error::Internal(_) => Reason::Internal,
    }
}

pub(super) fn of_field(error: &FieldError) -> Reason {
    match error {
        FieldError::Certificate(CertificateError::Missing)
        | FieldError::CaCertificate(CaCertificateError::Missing)
        | FieldError::PrivateKey(PrivateKeyError::Missing) => Reason::CertificateOrKeyMissing,
        FieldError::Certificate(CertificateError::LeafAmbiguous { .. }) => Reason::LeafAmbiguous,
        FieldError::Certificate(CertificateError::Unrelated { .. }) => Reason::ChainUnrelatedCertificate,
        FieldError::Certificate(CertificateError::TooComplex) => Reason::ChainTooComplex,
        FieldError::Certificate(_) | FieldError::CaCertificate(_) => Reason::CertificateMalformed,
        FieldError::PrivateKey(PrivateKeyError::Encrypted) => Reason::PrivateKeyEncrypted,
        FieldError::PrivateKey(PrivateKeyError::Unsupported(_)) => Reason::PrivateKeyUnsupported,
        FieldError::PrivateKey(PrivateKeyError::Mismatch) => Reason::PrivateKeyMismatch,
        FieldError::PrivateKey(_) => Reason::PrivateKeyMalformed,
        FieldError::Compromised(_) => Reason::PrivateKeyCompromised,
        FieldError::Policy(_) => Reason::PolicyRejected,
        FieldError::Name(_) | FieldError::AccountName(_) | FieldError::GroupNameTaken => Reason::NameInvalid,
        FieldError::Tags(_) | FieldError::TagsOfResource { .. } => Reason::TagInvalid,
        FieldError::Region(RegionError::Missing) => Reason::RegionMissing,
        FieldError::Region(RegionError::Unknown) => Reason::RegionNotFound,
        FieldError::OutOfScope(_) | FieldError::DefaultOutOfScope(_) => Reason::OutOfScope,
        FieldError::PageToken => Reason::PageTokenInvalid,
        FieldError::ResumeToken => Reason::ResumeTokenInvalid,
        FieldError::Language(_)
        | FieldError::Choice
        | FieldError::Criterion(_)
        | FieldError::Identity(_)
        | FieldError::Required
        | FieldError::Excludes(_)
        | FieldError::Needs(_)
        | FieldError::AliCloudCertificateId
        | FieldError::TooMany { .. }
        | FieldError::TooManyCertificates { .. }
        | FieldError::ClientToken
        | FieldError::PageSize
        | FieldError::TooLong { .. }
        | FieldError::ControlCharacter { .. }
        | FieldError::Role(_)
        | FieldError::ScopeOfOperator
        | FieldError::CanSignOfOperator
        | FieldError::SecretSha256
        | FieldError::SecretUsed
        | FieldError::NotInFuture
        | FieldError::UnusedDays
        | FieldError::QuotaKind
        | FieldError::QuotaMaximum
        | FieldError::DefaultGroup
        | FieldError::KeyEncryptionKeyId
        | FieldError::Rate
        | FieldError::Outcome
        | FieldError::Time
        | FieldError::Head
        | FieldError::Password
        | FieldError::NotOfFormat
        | FieldError::HolderName
        | FieldError::Ttl
        | FieldError::Version
        | FieldError::ResourceType => Reason::FieldInvalid,
    }
}

pub(super) fn of_refusal(refusal: Refusal) -> Reason {
    match refusal {
        Refusal::DeadlineExceeded => Reason::DeadlineExceeded,
        Refusal::MessageMalformed => Reason::MessageMalformed,
        Refusal::MessageTooLarge => Reason::MessageTooLarge,
        Refusal::MethodUnknown => Reason::MethodUnknown,
        Refusal::Starting => Reason::DatabaseUnavailable,
        Refusal::AnswerWithoutMemory => Reason::OutcomeUnknown,
    }
}

/// The status code. The comment of each reason in the schema states it too.
pub fn code(reason: Reason) -> Code {
    match reason {
        Reason::CertificateOrKeyMissing
        | Reason::CertificateMalformed
        | Reason::PrivateKeyMalformed
        | Reason::PrivateKeyUnsupported
        | Reason::PrivateKeyEncrypted
        | Reason::PrivateKeyMismatch
        | Reason::PrivateKeyCompromised
        | Reason::ChainUnrelatedCertificate
        | Reason::ChainTooComplex
        | Reason::LeafAmbiguous
        | Reason::PolicyRejected
        | Reason::NameInvalid
        | Reason::TagInvalid
        | Reason::PageTokenInvalid
        | Reason::FieldInvalid
        | Reason::MessageMalformed
        | Reason::RegionMissing
        | Reason::RegionNotFound
        | Reason::ResumeTokenInvalid => Code::InvalidArgument,
        Reason::ServerCertificateNotFound
        | Reason::CaCertificateNotFound
        | Reason::ResourceNotFound
        | Reason::ResourceGroupNotFound
        | Reason::AccessKeyNotFound
        | Reason::AccountNotFound
        | Reason::ClientIdentityNotFound
        | Reason::KeyEncryptionKeyNotFound
        | Reason::LeaseNotFound
        | Reason::AliCloudCertificateNotFound
        | Reason::VersionNotFound => Code::NotFound,
        Reason::MessageTooLarge | Reason::QuotaExceeded | Reason::RateLimited | Reason::WatcherTooSlow => {
            Code::ResourceExhausted
        }
        Reason::ClientTokenReused | Reason::AccountExists | Reason::ClientIdentityExists => Code::AlreadyExists,
        Reason::EtagMismatch | Reason::ResourceBusy => Code::Aborted,
        Reason::NotDeleted
        | Reason::ResourceGroupNotEmpty
        | Reason::AccessKeyEnabled
        | Reason::LastAdminKey
        | Reason::KeyEncryptionKeyNotOnAllReplicas
        | Reason::KeyEncryptionKeyInUse
        | Reason::KeyRingRotationInProgress
        | Reason::CertificateInUse
        | Reason::FormatUnfit
        | Reason::AliCloudNotConfigured
        | Reason::AliCloudRefused
        | Reason::AliCloudAnswerInvalid
        | Reason::NamesLost
        | Reason::ServerCertificateNameAmbiguous => Code::FailedPrecondition,
        Reason::MethodUnknown => Code::Unimplemented,
        Reason::DeadlineExceeded => Code::DeadlineExceeded,
        Reason::Unauthenticated
        | Reason::AccessKeyDisabled
        | Reason::AccessKeyExpired
        | Reason::AccountDisabled
        | Reason::ClientIdentityUnknown
        | Reason::ClientIdentityAmbiguous
        | Reason::ClientCertificateExpired => Code::Unauthenticated,
        Reason::PermissionDenied | Reason::OutOfScope | Reason::CredentialsConflict => Code::PermissionDenied,
        Reason::ResumeTokenExpired => Code::OutOfRange,
        Reason::DatabaseUnavailable | Reason::StreamEnded | Reason::AliCloudUnavailable | Reason::AliCloudPaused => {
            Code::Unavailable
        }
        Reason::SealedKeyUnreadable | Reason::StoredCertificateDamaged => Code::DataLoss,
        Reason::OutcomeUnknown => Code::Unknown,
        Reason::Internal | Reason::Unspecified => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use prost_reflect::DescriptorPool;
    use prost_reflect::prost_types::source_code_info::Location;

    use super::super::DESCRIPTORS;
    use super::super::record::name_of;
    use super::*;

    /// The names of the reasons in the schema, each with its comment.
    fn schema() -> Vec<(String, String)> {
        let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
        let reasons = pool.get_enum_by_name("certkeep.v1.Reason").unwrap();
        let file = reasons.parent_file();
        let locations = &file.file_descriptor_proto().source_code_info.as_ref().unwrap().location;
        let comment = |path: &[i32]| {
            let is_it = |location: &&Location| location.path == path;
            locations
                .iter()
                .find(is_it)
                .unwrap()
                .leading_comments()
                .trim()
                .to_owned()
        };
        let values = reasons
            .values()
            .map(|value| (value.name().to_owned(), comment(value.path())));
        values.collect()
    }

    #[test]
    fn the_comment_of_every_reason_begins_with_its_status_code() {
        let schema = schema();
        assert!(schema.len() > 30);
        for (full_name, comment) in schema.into_iter().skip(1) {
            let reason = Reason::from_str_name(&full_name).unwrap();
            let (stated, meaning) = comment.split_once(": ").unwrap();
            assert_eq!(stated, name_of(code(reason)), "{full_name}");
            assert!(meaning.ends_with('.'), "{full_name}");
            assert_eq!(format!("REASON_{}", reason.name()), full_name);
        }
    }
}
