//! Why a use case refused a call. An error carries data; each door has its own words for it.

use std::error::Error as StdError;
use std::time::Duration;

use super::{
    CasError, Conflict, Field, FieldError, IdentityName, Limit, Role, SignatureError, UnreadableKey, Violation,
};
use crate::certificate::{Finding, KeyAlgorithm, StoredPairError};
use crate::inventory::{AliCloudCertificateId, CertificateId, CertificateKind, RegionId, ResourceGroupId};
use crate::seal::KeyEncryptionKeyId;
use crate::store::QuotaUse;
use crate::{digest, seal, store};

/// Why a call was refused. These texts are for the log. Callers get the texts of their door.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Fields of the request are invalid.
    #[error("{} invalid fields", violations.len())]
    Fields {
        /// Every invalid field, in the request's order. There is at least one.
        violations: Vec<Violation>,
        /// The findings about a certificate, the most severe first.
        findings: Vec<Finding>,
    },
    /// The account, or the given region, does not have this resource.
    #[error("not found: {0:?}")]
    NotFound(Resource),
    /// The account has used its quota for this kind of certificates in the region.
    #[error("quota exceeded")]
    QuotaExceeded {
        /// The kind.
        kind: CertificateKind,
        /// The region.
        region: RegionId,
        /// The number of certificates that the account has, and the limit.
        quota: QuotaUse,
    },
    /// The account has as many access keys as its quota allows.
    #[error("quota of access keys exceeded")]
    AccessKeyQuotaExceeded(QuotaUse),
    /// The field names something outside of the caller's scope.
    #[error("{0:?} is out of scope")]
    OutOfScope(Field),
    /// The access key is enabled and has not expired.
    #[error("access key {0} is enabled")]
    AccessKeyEnabled(String),
    /// Without this access key, the account would have no unlimited admin key, or the service no unlimited operator's key.
    #[error("access key {0} is the last admin key")]
    LastAdminKey(String),
    /// Another account has the name.
    #[error("account exists")]
    AccountExists,
    /// Another request used the client token.
    #[error("client token reused")]
    ClientTokenReused,
    /// The certificate changed after the caller read its etag.
    #[error("etag mismatch")]
    EtagMismatch {
        /// The current revision of the certificate.
        revision: i64,
    },
    /// The new certificate does not cover these names of the present one. There is at least one.
    #[error("{} names would be lost", .0.len())]
    NamesLost(Vec<String>),
    /// The certificate is not deleted.
    #[error("certificate {1} is not deleted")]
    NotDeleted(CertificateKind, CertificateId),
    /// Holders serve the certificate.
    #[error("certificate {id} is in use")]
    CertificateInUse {
        /// The kind of the certificate.
        kind: CertificateKind,
        /// The certificate.
        id: CertificateId,
        /// The first holders, by name. Empty if the last lease ended a moment ago.
        holders: Vec<String>,
        /// Whether there are more holders.
        more: bool,
    },
    /// The certificate has as many holders as it may.
    #[error("certificate {0} has too many holders")]
    TooManyHolders(CertificateId),
    /// The holder has no lease that has not ended.
    #[error("lease not found")]
    LeaseNotFound,
    /// A certificate is in the resource group.
    #[error("resource group {0} is not empty")]
    ResourceGroupNotEmpty(ResourceGroupId),
    /// The key rings of live replicas lack this key-encryption key.
    #[error("{} replicas lack the key-encryption key {key}", replicas.len())]
    KeyNotOnAllReplicas {
        /// The key.
        key: KeyEncryptionKeyId,
        /// The replicas: the host and the id of each.
        replicas: Vec<String>,
    },
    /// This key-encryption key seals, or a stored value is sealed with it.
    #[error("the key-encryption key {0} is in use")]
    KeyInUse(KeyEncryptionKeyId),
    /// The rotation to this key-encryption key has not ended.
    #[error("the rotation to {0} is in progress")]
    RotationInProgress(KeyEncryptionKeyId),
    /// The access key is missing or unknown, or its secret is wrong. The caller does not learn which.
    #[error("unauthenticated")]
    Unauthenticated,
    /// The signature of the request does not prove the caller.
    #[error("signature refused: {0:?}")]
    Signature(SignatureError),
    /// No name of the client certificate is a client identity, and there is no access key.
    #[error("client identity unknown")]
    ClientIdentityUnknown(Vec<IdentityName>),
    /// Two DNS names of the client certificate belong to different client identities.
    #[error("client identity ambiguous")]
    ClientIdentityAmbiguous,
    /// The client certificate has expired since the TLS handshake.
    #[error("client certificate expired")]
    ClientCertificateExpired,
    /// The access key and the client identity cannot be used together.
    #[error("access key and client identity conflict: {0:?}")]
    CredentialsConflict(Conflict),
    /// A limit of the rate of calls refuses the call.
    #[error("the limit {} is reached", limit.name())]
    RateLimited {
        /// The limit.
        limit: Limit,
        /// The time until the next call is allowed.
        wait: Duration,
    },
    /// There is no account with this id.
    #[error("account not found")]
    AccountNotFound,
    /// There is no client identity with this name.
    #[error("client identity not found")]
    ClientIdentityNotFound,
    /// The name belongs to another client identity.
    #[error("client identity exists")]
    ClientIdentityExists,
    /// The secret is right, and the access key is disabled.
    #[error("access key disabled")]
    AccessKeyDisabled,
    /// The secret is right, and the access key has expired.
    #[error("access key expired")]
    AccessKeyExpired,
    /// The secret is right, and the account is disabled.
    #[error("account disabled")]
    AccountDisabled,
    /// The caller's role does not allow the call.
    #[error("the role does not allow the call")]
    PermissionDenied {
        /// The roles that allow the call.
        allowed: &'static [Role],
    },
    /// The caller has a scope. The audit trails are about the whole account.
    #[error("the audit trail is open to callers without a scope")]
    AuditOutOfScope,
    /// Events after the resume token are no longer kept, or the database lost them.
    #[error("resume token expired")]
    ResumeTokenExpired,
    /// Several live server certificates have the name.
    #[error("the name is ambiguous")]
    NameAmbiguous {
        /// Their number, which is not counted further than 1,000.
        count: i64,
    },
    /// The version of the certificate is not kept.
    #[error("version {version} of {certificate} not found")]
    VersionNotFound {
        /// The certificate.
        certificate: CertificateId,
        /// The version.
        version: i64,
    },
    /// The format cannot hold a private key of this algorithm.
    #[error("the format cannot hold a key of {0}")]
    FormatUnfit(KeyAlgorithm),
    /// A stored private key cannot be opened, or does not belong to its certificate.
    #[error("the key of version {version} of {certificate} is unreadable")]
    SealedKeyUnreadable {
        /// The certificate.
        certificate: CertificateId,
        /// The version.
        version: i64,
        /// Why.
        #[source]
        cause: UnreadableKey,
    },
    /// A stored chain is not that of its certificate.
    #[error("the chain of {certificate} is damaged")]
    StoredCertificateDamaged {
        /// The kind.
        kind: CertificateKind,
        /// The certificate.
        certificate: CertificateId,
        /// Why.
        #[source]
        cause: StoredPairError,
    },
    /// The connection of the stream closes, or the caller could not be looked up.
    #[error("the stream ends")]
    StreamEnded {
        /// Resumes the stream.
        resume_token: String,
    },
    /// The caller took no messages of the stream for too long.
    #[error("the watcher is too slow")]
    WatcherTooSlow {
        /// Resumes the stream.
        resume_token: String,
    },
    /// The service fetches no certificates from Alibaba Cloud, or not for this account.
    #[error("no certificates are fetched from Alibaba Cloud for the account")]
    AliCloudNotConfigured,
    /// The certificate with this id was not fetched from Alibaba Cloud.
    #[error("the certificate {0} was not fetched")]
    AliCloud(AliCloudCertificateId, #[source] CasError),
    /// The database cannot be reached or written. Nothing was changed.
    #[error(transparent)]
    DatabaseUnavailable(store::Error),
    /// Another call held the resource, or a connection to the database, for too long. Nothing was changed.
    #[error(transparent)]
    ResourceBusy(store::Error),
    /// The connection was lost in the commit, and the look-up of its outcome failed too.
    #[error(transparent)]
    OutcomeUnknown(store::Error),
    /// An error of certkeep.
    #[error(transparent)]
    Internal(Box<dyn StdError + Send + Sync>),
}

/// A resource that was not found.
#[derive(Clone, Copy, Debug)]
pub enum Resource {
    /// A certificate of this kind, or of either kind, and its id if the caller's text is an id.
    Certificate(Option<CertificateKind>, Option<CertificateId>),
    /// A resource group.
    ResourceGroup,
    /// A key-encryption key that is not retired.
    KeyEncryptionKey,
    /// An access key.
    AccessKey,
}

impl Error {
    /// One invalid field.
    pub(super) fn field(field: Field, error: FieldError) -> Self {
        Self::Fields {
            violations: vec![Violation { field, error }],
            findings: Vec::new(),
        }
    }

    /// The same error about a pair that the caller did not send: the violations of the pair are those of the id that named it.
    pub(super) fn about_fetched(mut self) -> Self {
        if let Self::Fields { violations, .. } = &mut self {
            for violation in violations {
                if let Field::Certificate(CertificateKind::Server) | Field::PrivateKey = violation.field {
                    violation.field = Field::AliCloudCertificateId;
                }
            }
        }
        self
    }

    /// An error of certkeep.
    pub(super) fn internal(cause: impl StdError + Send + Sync + 'static) -> Self {
        Self::Internal(Box::new(cause))
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Unavailable(_) => Self::DatabaseUnavailable(error),
            store::Error::Busy(_) => Self::ResourceBusy(error),
            store::Error::OutcomeUnknown(_) => Self::OutcomeUnknown(error),
            // The group was deleted after it was looked up.
            store::Error::Constraint(store::Constraint::ResourceGroupOfCertificate, _) => {
                Self::NotFound(Resource::ResourceGroup)
            }
            store::Error::Statement { .. } | store::Error::Constraint(..) | store::Error::Row(_) => {
                Self::internal(error)
            }
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
