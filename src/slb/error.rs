//! The table of errors: the status, the code and the sentence of each. Codes and sentences are Alibaba Cloud's where it has them. Its
//! clients look for codes in sentences too, so no sentence names another code. No sentence repeats input but ids.

use std::fmt::Write;

use http::StatusCode;

use super::field::{Parameter, field_name, parameter_of};
use crate::app::{
    CaCertificateError, CasError, CertificateError, CertificateKind, Error, Field, FieldError, NameError,
    PrivateKeyError, RegionError, Resource, SignatureError, TagError, TagPart, TagsError, Violation,
};
use crate::grpc::pb::Reason;
use crate::grpc::{reason_of, words_of, words_of_violation};
use crate::telemetry::{causes, metrics};

/// The maximum length of the sentences about invalid parameters.
const MAX_DETAILS_LEN: usize = 2048;

/// Why a call was refused.
#[derive(Debug)]
pub(super) enum Failure {
    /// Without a use case.
    Refused(Refusal),
    /// By a use case.
    App(Error),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::App(error)
    }
}

/// Why a call was refused before a use case saw it, or without one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Refusal {
    /// The path, the action or the version is unknown.
    ApiUnknown,
    /// The method is neither GET nor POST.
    Method,
    /// A parameter of the protocol is missing.
    Missing(Parameter),
    /// The timestamp cannot be read.
    TimestampFormat,
    /// The signature has another method than those of this door.
    SignatureMethod,
    /// The signature lacks something.
    SignatureIncomplete,
    /// The access key is said to be a temporary one.
    SecurityToken,
    /// The parameters cannot be read, one of them is doubled, or a boolean is none.
    ParameterFormat,
    /// The action has no such parameter.
    UnsupportedParameter,
    /// The form is too large.
    TooLarge,
    /// The form did not arrive in time.
    FormLate,
    /// The call took too long.
    DeadlineExceeded,
    /// The database is not open yet.
    Starting,
    /// The call took effect, and there is no memory for its answer.
    AnswerWithoutMemory,
}

/// What the caller is told.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: String,
}

fn told(status: StatusCode, code: &'static str, message: impl Into<String>) -> Told {
    Told {
        status,
        code,
        message: message.into(),
    }
}

fn bad(code: &'static str, message: impl Into<String>) -> Told {
    told(StatusCode::BAD_REQUEST, code, message)
}

fn not_found(code: &'static str, message: &str) -> Told {
    told(StatusCode::NOT_FOUND, code, message)
}

fn missing(parameter: Parameter) -> Told {
    bad(
        parameter.missing,
        format!("{} is mandatory for this action.", parameter.name),
    )
}

fn forbidden(detail: &str) -> Told {
    let message = format!("User not authorized to operate on the specified resource. {detail}");
    told(StatusCode::FORBIDDEN, "Forbidden", message.trim_end())
}

fn unavailable(detail: &str) -> Told {
    let message = format!("The request has failed due to a temporary failure of the server. {detail}");
    told(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
}

fn internal(detail: &str) -> Told {
    let message = format!("The request processing has failed due to some unknown error. {detail}");
    told(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message.trim_end())
}

impl Failure {
    /// The reason of the same error over gRPC. Logs, metrics and the audit trail have it.
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::App(error) => reason_of(error),
            Self::Refused(refusal) => match refusal {
                Refusal::ApiUnknown | Refusal::Method => Reason::MethodUnknown,
                Refusal::TimestampFormat
                | Refusal::SignatureMethod
                | Refusal::SignatureIncomplete
                | Refusal::SecurityToken => Reason::Unauthenticated,
                Refusal::Missing(_) | Refusal::ParameterFormat => Reason::MessageMalformed,
                Refusal::UnsupportedParameter => Reason::FieldInvalid,
                Refusal::TooLarge => Reason::MessageTooLarge,
                // The caller sent an incomplete message.
                Refusal::FormLate => Reason::MessageMalformed,
                Refusal::DeadlineExceeded => Reason::DeadlineExceeded,
                Refusal::Starting => Reason::DatabaseUnavailable,
                Refusal::AnswerWithoutMemory => Reason::OutcomeUnknown,
            },
        }
    }

    /// What the caller is told. Errors of certkeep are logged here.
    pub(super) fn told(&self) -> Told {
        match self {
            Self::App(error) => {
                note(error);
                of_error(error)
            }
            Self::Refused(refusal) => of_refusal(*refusal),
        }
    }
}

fn note(error: &Error) {
    match error {
        Error::RateLimited { limit, .. } => {
            metrics::rate_limited(limit.name());
            if limit.is_log_due() {
                tracing::warn!(limit = limit.name(), "a limit refuses calls");
            }
        }
        Error::DatabaseUnavailable(_)
        | Error::ResourceBusy(_)
        | Error::OutcomeUnknown(_)
        | Error::SealedKeyUnreadable { .. }
        | Error::StoredCertificateDamaged { .. }
        | Error::Internal(_) => log(error),
        // A pause was logged when it began. An unknown id is the caller's.
        Error::AliCloud(_, cause) if !matches!(cause, CasError::NotFound(_) | CasError::Paused { .. }) => log(error),
        _ => {}
    }
}

fn log(error: &Error) {
    tracing::error!(reason = reason_of(error).name(), cause = causes(error), "call failed");
}

fn of_refusal(refusal: Refusal) -> Told {
    match refusal {
        Refusal::ApiUnknown => not_found(
            "InvalidApi.NotFound",
            "Specified api is not found, please check your url and method.",
        ),
        Refusal::Method => told(
            StatusCode::FORBIDDEN,
            "UnsupportedHTTPMethod",
            "This http method is not supported.",
        ),
        Refusal::Missing(parameter) => missing(parameter),
        Refusal::TimestampFormat => bad(
            "InvalidTimeStamp.Format",
            "Specified time stamp or date value is not well formatted.",
        ),
        Refusal::SignatureMethod => bad("InvalidSignatureMethod", "Specified signature method is not valid."),
        Refusal::SignatureIncomplete => bad(
            "IncompleteSignature",
            "The request signature does not conform to Aliyun standards.",
        ),
        Refusal::SecurityToken => bad(
            "InvalidSecurityToken.Malformed",
            "Specified SecurityToken is malformed. This service has no temporary access keys.",
        ),
        Refusal::ParameterFormat => bad("InvalidParameter.Format", "Specified parameter format is not valid."),
        Refusal::UnsupportedParameter => bad(
            "UnsupportedParameter",
            "The specified parameter is not supported. The action has no parameter of this name.",
        ),
        Refusal::TooLarge => told(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLarge",
            "The body of the request is larger than 512 KiB.",
        ),
        Refusal::FormLate => told(
            StatusCode::REQUEST_TIMEOUT,
            "RequestTimeout",
            "The request did not arrive within 30 seconds. Nothing was changed.",
        ),
        Refusal::DeadlineExceeded => unavailable("The call took too long, and its outcome is unknown."),
        Refusal::Starting => unavailable("The service is starting, and nothing was changed."),
        Refusal::AnswerWithoutMemory => internal(
            "The call may have taken effect, and there is no memory for its answer, because earlier answers were not read.",
        ),
    }
}

fn of_error(error: &Error) -> Told {
    match error {
        Error::Fields { violations, .. } => of_violations(violations),
        Error::AliCloudNotConfigured | Error::AliCloud(_, CasError::Credentials(_)) => {
            forbidden("The service fetches no certificates from Alibaba Cloud for this account.")
        }
        Error::AliCloud(_, CasError::NotFound(_)) => not_found(
            "AliCloudCertificateId.NotFound",
            "The specified AliCloudCertificateId does not exist.",
        ),
        // The codes of Alibaba Cloud stay in the log: clients look for codes in messages.
        Error::AliCloud(_, CasError::Refused(_)) => forbidden("Alibaba Cloud refused to hand the certificate out."),
        Error::AliCloud(_, CasError::Answer(_)) => {
            internal("Alibaba Cloud answered without a certificate and its private key.")
        }
        Error::AliCloud(_, CasError::Unavailable(_) | CasError::Paused { .. }) => {
            unavailable("Alibaba Cloud's certificate service does not answer. Nothing was changed.")
        }
        Error::AliCloud(_, CasError::Random(_)) => internal(""),
        Error::NotFound(Resource::Certificate(Some(CertificateKind::Server), _)) => not_found(
            "ServerCertificateId.NotFound",
            "The specified ServerCertificateId does not exist.",
        ),
        Error::NotFound(Resource::Certificate(Some(CertificateKind::Ca), _)) => not_found(
            "CACertificateId.NotFound",
            "The specified CACertificateId does not exist.",
        ),
        Error::NotFound(Resource::ResourceGroup) => {
            not_found("ResourceNotFound", "The specified resource group does not exist.")
        }
        Error::NotFound(_) => not_found("ResourceNotFound", "The specified resource does not exist."),
        Error::QuotaExceeded { .. } => bad("OverQuota", format!("The Total is over the quota. {}", sentence(error))),
        Error::CertificateInUse { .. } => bad(
            "CertificateAndPrivateKeyIsRefered",
            format!(
                "The specified certificate is in use and cannot be deleted. {}",
                sentence(error)
            ),
        ),
        Error::Signature(SignatureError::KeyUnknown) | Error::Unauthenticated => {
            not_found("InvalidAccessKeyId.NotFound", "Specified access key is not found.")
        }
        Error::AccessKeyDisabled | Error::AccessKeyExpired | Error::AccountDisabled => {
            bad("InvalidAccessKeyId.Inactive", "Specified access key is disabled.")
        }
        Error::Signature(SignatureError::TimeOff) => bad(
            "InvalidTimeStamp.Expired",
            "Specified time stamp or date value is expired.",
        ),
        Error::Signature(SignatureError::Mismatch) => bad(
            "SignatureDoesNotMatch",
            // Alibaba Cloud shows the string, which may contain a private key. Its Python client fails without the colon.
            "Specified signature is not matched with our calculation. server string to sign is:(redacted)",
        ),
        Error::Signature(SignatureError::NonceUsed) => {
            bad("SignatureNonceUsed", "Specified signature nonce was used already.")
        }
        Error::RateLimited { limit, .. } => match limit.rate() {
            Some(_) => bad("Throttling.User", "Request was denied due to user flow control."),
            None => bad("Throttling", "Request was denied due to request throttling."),
        },
        Error::PermissionDenied { .. }
        | Error::CredentialsConflict(_)
        | Error::ClientIdentityUnknown(_)
        | Error::ClientIdentityAmbiguous
        | Error::ClientCertificateExpired => forbidden(&sentence(error)),
        Error::OutOfScope(field) => forbidden(&format!(
            "{} is outside the scope of the access key.",
            field_name(*field)
        )),
        Error::DatabaseUnavailable(_) | Error::ResourceBusy(_) => unavailable("Nothing was changed."),
        Error::OutcomeUnknown(_) => internal("The outcome is unknown: check whether the change took effect."),
        Error::SealedKeyUnreadable { .. } | Error::StoredCertificateDamaged { .. } | Error::Internal(_) => internal(""),
        // No action of this door gives them.
        Error::AccessKeyQuotaExceeded(_)
        | Error::AccessKeyEnabled(_)
        | Error::LastAdminKey(_)
        | Error::AccountExists
        | Error::ClientTokenReused
        | Error::EtagMismatch { .. }
        | Error::NamesLost(_)
        | Error::NotDeleted(..)
        | Error::TooManyHolders(_)
        | Error::LeaseNotFound
        | Error::ResourceGroupNotEmpty(_)
        | Error::KeyNotOnAllReplicas { .. }
        | Error::KeyInUse(_)
        | Error::RotationInProgress(_)
        | Error::AccountNotFound
        | Error::ClientIdentityNotFound
        | Error::ClientIdentityExists
        | Error::AuditOutOfScope
        | Error::ResumeTokenExpired
        | Error::NameAmbiguous { .. }
        | Error::VersionNotFound { .. }
        | Error::FormatUnfit(_)
        | Error::StreamEnded { .. }
        | Error::WatcherTooSlow { .. } => internal(""),
    }
}

/// Alibaba Cloud's sentence for the first invalid parameter, and certkeep's sentence for each of them.
fn of_violations(violations: &[Violation]) -> Told {
    let Some(first) = violations.first() else {
        return internal("");
    };
    let mut told = of_violation(first);
    let room = told.message.len() + MAX_DETAILS_LEN;
    // Alibaba Cloud's sentence about a missing parameter says everything.
    let told_already = usize::from(told.code.starts_with("Missing"));
    for (index, violation) in violations.iter().enumerate().skip(told_already) {
        let details = capitalized(&words_of_violation(violation, field_name));
        if told.message.len() + details.len() > room {
            let _ = write!(
                told.message,
                " {} more parameters are invalid.",
                violations.len() - index
            );
            break;
        }
        let _ = write!(told.message, " {details}");
    }
    told
}

fn of_violation(violation: &Violation) -> Told {
    let Violation { field, error } = violation;
    let invalid = |what: &str| bad("InvalidParameter", what);
    match error {
        FieldError::Required
        | FieldError::Region(RegionError::Missing)
        | FieldError::Name(NameError::Empty)
        | FieldError::CaCertificate(CaCertificateError::Missing) => match parameter_of(*field) {
            Some(parameter) => missing(parameter),
            None => invalid("Specified parameter is not valid."),
        },
        FieldError::Certificate(CertificateError::Missing) | FieldError::PrivateKey(PrivateKeyError::Missing) => {
            invalid("The specified parameter ServerCertificate or Key is empty.")
        }
        FieldError::Certificate(
            CertificateError::LeafAmbiguous { .. } | CertificateError::Unrelated { .. } | CertificateError::TooComplex,
        )
        | FieldError::Compromised(_)
        | FieldError::Policy(_) => invalid(match field {
            Field::Certificate(CertificateKind::Ca) => "The specified CACertificate fails to validate.",
            _ => "The specified ServerCertificate and PrivateKey fail to validate.",
        }),
        FieldError::Certificate(_) => bad(
            "KeyFormatError",
            "The specified ServerCertificate is incorrectly formatted.",
        ),
        FieldError::CaCertificate(_) => bad(
            "KeyFormatError",
            "The specified CACertificate is incorrectly formatted.",
        ),
        FieldError::PrivateKey(PrivateKeyError::Encrypted) => bad("PrivateKeyEncryption", "Key has Encrypted ."),
        FieldError::PrivateKey(PrivateKeyError::Mismatch) => {
            bad("CertificateNotMatchPrivateKey", "Certificate and key does not match.")
        }
        FieldError::PrivateKey(_) => invalid("The specified parameter key format is error."),
        FieldError::Region(RegionError::Unknown) => {
            not_found("InvalidRegionId.NotFound", "The specified RegionId does not exist.")
        }
        FieldError::Tags(TagsError::TooMany { .. }) | FieldError::TagsOfResource { .. } => {
            bad("TagCountLimit", "Tags count limit exceeded.")
        }
        FieldError::Tags(TagsError::Tag { error, .. }) => match error {
            TagError::KeyRepeated => bad("Duplicate.TagKey", "The Tag.N.Key contain duplicate key."),
            TagError::KeyEmpty => bad("InvalidTagKey.Malformed", "The specified Tag.n.Key is not valid."),
            TagError::TooLong { part, .. }
            | TagError::Reserved(part)
            | TagError::Url(part)
            | TagError::ControlCharacter(part) => match part {
                TagPart::Key => bad("InvalidTagKey.Malformed", "The specified Tag.n.Key is not valid."),
                TagPart::Value => bad("InvalidTagValue.Malformed", "The specified Tag.n.Value is not valid."),
            },
        },
        FieldError::TooMany { .. } => match field {
            Field::TagKeys => bad("SizeLimitExceeded.TagKey", "The maximum size of TagKey is exceeded."),
            _ => bad(
                "SizeLimitExceeded.ResourceId",
                "The maximum size of ResourceId is exceeded.",
            ),
        },
        FieldError::OutOfScope(_) | FieldError::DefaultOutOfScope(_) => forbidden(""),
        _ => invalid("Specified parameter is not valid."),
    }
}

/// certkeep's sentence for an error.
fn sentence(error: &Error) -> String {
    capitalized(&words_of(error))
}

fn capitalized(words: &str) -> String {
    let mut rest = words.chars();
    let first = rest.next().map(|first| first.to_ascii_uppercase());
    format!("{}{}.", first.map(String::from).unwrap_or_default(), rest.as_str())
}
