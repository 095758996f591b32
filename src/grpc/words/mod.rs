//! The sentences that callers read: the only table of its kind. Each says what is wrong and what to do, and repeats no input but ids.
//!
//! A sentence names fields by the words of its door, see [`FieldName`].

mod certificate;
mod field;
mod finding;
mod inventory;

use std::borrow::Cow;

use crate::app::{
    AliCloudCertificateId, CasError, CertificateKind, Conflict, Error, Field, FieldError, FindingCode, Limit, Resource,
    Violation,
};
pub(super) use certificate::key_kind;
pub use field::field_name;
pub(super) use finding::{finding, remedy};

/// How a door calls a field: `private_key` over gRPC, `--key` on the command line.
pub type FieldName = fn(Field) -> Cow<'static, str>;

/// Why a call was refused before a use case saw it, or without one.
#[derive(Clone, Copy)]
pub(super) enum Refusal {
    DeadlineExceeded,
    MessageMalformed,
    MessageTooLarge,
    MethodUnknown,
    Starting,
    /// The call took effect, and there is no memory for its answer.
    AnswerWithoutMemory,
}

pub(super) fn refusal(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::DeadlineExceeded => "the call took longer than its deadline; its outcome is unknown",
        Refusal::MessageMalformed => "the message cannot be read as the request of this method",
        Refusal::MessageTooLarge => "the message is larger than 1 MiB, decompressed; send less in one call",
        Refusal::MethodUnknown => "no such method, or the compression is not gzip",
        Refusal::Starting => "the service is starting and nothing was changed; try again",
        Refusal::AnswerWithoutMemory => {
            "the call may have taken effect, and there is no memory for its answer, because earlier answers were not read; look the change up"
        }
    }
}

const INTERNAL: &str = "internal error; the log of this service has the cause under this request id";

/// The words for an error.
pub fn error(error: &Error) -> String {
    match error {
        Error::Fields { violations, .. } => fields(violations),
        Error::NotFound(Resource::Certificate(Some(kind), _)) => {
            format!("no such {} in this account and region; check the id and the region", noun(*kind))
        }
        Error::NotFound(Resource::Certificate(None, _)) => {
            "no such server or CA certificate in this account and region; check the id and the region".to_owned()
        }
        Error::NotFound(Resource::ResourceGroup) => "no such resource group in this account; check the id".to_owned(),
        Error::NotFound(Resource::AccessKey) => "no such access key in this account; check the id".to_owned(),
        Error::QuotaExceeded { kind, region, quota } => format!(
            "quota exceeded: {} of {} {}s in {region}; delete some, or ask the operator of this service for a higher quota",
            grouped(quota.used),
            grouped(quota.limit),
            noun(*kind)
        ),
        Error::AccessKeyQuotaExceeded(quota) => format!(
            "quota exceeded: {} of {} access keys; delete some, or ask the operator of this service for a higher quota",
            grouped(quota.used),
            grouped(quota.limit)
        ),
        Error::AccountExists => "another account has this name; choose another name".to_owned(),
        Error::OutOfScope(field) => {
            let field = field_name(*field);
            format!("{field} is outside the scope of your access key; stay within the scope that DescribeCaller answers")
        }
        Error::AccessKeyEnabled(_) => {
            "the access key is enabled; disable it first, and delete it when nobody misses it".to_owned()
        }
        Error::LastAdminKey(_) => {
            "no other access key could do everything at any time; first create one without expiry and without scope, with the \
             same role"
                .to_owned()
        }
        Error::ClientTokenReused => {
            "another request used client_token in the last 24 hours; use a new token for each request".to_owned()
        }
        Error::EtagMismatch { .. } => {
            "the certificate changed after if_etag was read; read the certificate again and decide again".to_owned()
        }
        Error::NamesLost(names) => format!(
            "the new certificate does not cover {} of the names of the present one; ErrorInfo lists them; set allow_lost_names to renew \
             all the same",
            names.len()
        ),
        Error::NotDeleted(..) => "the certificate is not deleted; only deleted certificates can be undeleted or purged".to_owned(),
        Error::CertificateInUse { kind, holders, more, .. } => in_use(noun(*kind), holders, *more),
        Error::TooManyHolders(_) => {
            "quota exceeded: 10,000 holders serve the certificate; release leases that are not needed".to_owned()
        }
        Error::LeaseNotFound => "the holder has no lease, or its leases have ended; bind the certificates again".to_owned(),
        Error::ResourceGroupNotEmpty(_) => {
            "the resource group is not empty; move or purge its certificates first, the deleted ones too".to_owned()
        }
        Error::NotFound(Resource::KeyEncryptionKey) => {
            "no key ring has a key-encryption key with this id, or the key is retired; add the key to the ring of every replica".to_owned()
        }
        Error::KeyNotOnAllReplicas { key, replicas } => format!(
            "the key-encryption key {key} is not in the key ring of {}; copy the key ring to every replica",
            replicas.join(", ")
        ),
        Error::KeyInUse(key) => {
            format!("the key-encryption key {key} is in use; rotate to another key, and wait for the end of the rotation")
        }
        Error::RotationInProgress(key) => {
            format!("the rotation to the key-encryption key {key} has not ended; wait for its end")
        }
        Error::Unauthenticated => {
            "the access key is missing or wrong; send the metadata `authorization: Bearer <id>.<secret>`".to_owned()
        }
        Error::Signature(_) => "the signature of the request is refused".to_owned(),
        Error::ClientIdentityUnknown(_) => {
            "the service knows no name of the client certificate; ask its operator to create a client identity, or send an access key"
                .to_owned()
        }
        Error::ClientIdentityAmbiguous => {
            "DNS names of the client certificate belong to different client identities; use a certificate with the names of one"
                .to_owned()
        }
        Error::ClientCertificateExpired => "the client certificate has expired; connect with a new one".to_owned(),
        Error::CredentialsConflict(conflict) => match conflict {
            Conflict::Account => {
                "the access key and the client certificate belong to different accounts; use only one of them".to_owned()
            }
            Conflict::Role => {
                "the roles of the access key and the client certificate have no permission in common; use only one of them"
                    .to_owned()
            }
            Conflict::Scope => {
                "the scopes of the access key and the client certificate have nothing in common; use only one of them".to_owned()
            }
        },
        Error::RateLimited { limit, .. } => rate_limited(*limit),
        Error::AccountNotFound => "no such account; check the id".to_owned(),
        Error::ClientIdentityNotFound => "no such client identity; check the kind and the value".to_owned(),
        Error::ClientIdentityExists => {
            "the name belongs to a client identity with another account, role or scope; delete that one first".to_owned()
        }
        Error::AccessKeyDisabled => "the access key is disabled; use another one".to_owned(),
        Error::AccessKeyExpired => "the access key has expired; use another one".to_owned(),
        Error::AccountDisabled => "the account is disabled; ask the operator of this service".to_owned(),
        Error::PermissionDenied { allowed } => {
            let roles: Vec<_> = allowed.iter().map(|role| role.as_str()).collect();
            format!("the call needs the role {}; use an access key that has it", roles.join(" or "))
        }
        Error::AuditOutOfScope => {
            "the audit trail is about the whole account; use an access key without a scope".to_owned()
        }
        Error::ResumeTokenExpired => {
            "events after resume_token are no longer kept, or the database lost them; start again with an empty token".to_owned()
        }
        Error::NameAmbiguous { count } => {
            let more = if *count < 1_000 { "" } else { " or more" };
            format!("{}{more} server certificates have this name; use the id", grouped(*count))
        }
        Error::VersionNotFound { version, .. } => {
            format!(
                "version {version} is not kept, or it is the present one; ListServerCertificateVersions has the versions that are kept"
            )
        }
        Error::FormatUnfit(algorithm) => {
            format!("this format cannot hold a private key of {algorithm}; use PEM, PEM_ENCRYPTED or PEM_BUNDLE")
        }
        Error::SealedKeyUnreadable { .. } => {
            "the stored private key cannot be opened, or does not belong to its certificate; the log of this service has the cause \
             under this request id"
                .to_owned()
        }
        Error::StoredCertificateDamaged { .. } => {
            "the stored certificate is not the one that its fingerprint says, or cannot be read; the log of this service has the cause \
             under this request id"
                .to_owned()
        }
        Error::StreamEnded { .. } => {
            "the service ends the stream; call again with the resume_token of this error or of the last message".to_owned()
        }
        Error::WatcherTooSlow { .. } => {
            "the messages of the stream were not taken for 30 seconds; call again with the resume_token of this error, and take \
             them faster"
                .to_owned()
        }
        Error::AliCloudNotConfigured => {
            "this service fetches no certificates from Alibaba Cloud for this account; upload the pair itself, or ask the operator of \
             this service to set cas_credentials_file and cas_account"
                .to_owned()
        }
        Error::AliCloud(id, error) => not_fetched(id, error),
        Error::DatabaseUnavailable(_) => "the database is unavailable and nothing was changed; try again".to_owned(),
        Error::ResourceBusy(_) => "the call waited too long for other calls and nothing was changed; try again".to_owned(),
        Error::OutcomeUnknown(_) => {
            "the connection to the database was lost during the commit; check whether the change took effect before you repeat it"
                .to_owned()
        }
        Error::Internal(_) => INTERNAL.to_owned(),
    }
}

/// Why a certificate was not fetched from Alibaba Cloud.
fn not_fetched(id: &AliCloudCertificateId, error: &CasError) -> String {
    match error {
        CasError::NotFound(_) => format!("Alibaba Cloud has no certificate {id} for this service; check the id"),
        CasError::Refused(refusal) => format!(
            "Alibaba Cloud refused the call ({}); ask the operator of this service to check its access key there, which needs the \
             permission yundun-cert:GetUserCertificateDetail",
            refusal.code
        ),
        CasError::Answer(part) => {
            format!("the answer of Alibaba Cloud does not contain a {part}; upload the pair itself")
        }
        CasError::Unavailable(_) => "Alibaba Cloud does not answer and nothing was changed; try again".to_owned(),
        CasError::Paused { wait } => format!(
            "Alibaba Cloud did not answer a moment ago and nothing was changed; try again in {} seconds",
            wait.as_secs() + 1
        ),
        CasError::Credentials(_) => {
            "this service cannot read its access key of Alibaba Cloud; its log has the cause under this request id"
                .to_owned()
        }
        CasError::Random(_) => INTERNAL.to_owned(),
    }
}

/// Names the first holders.
fn in_use(noun: &str, holders: &[String], more: bool) -> String {
    /// The most characters of all names together.
    const MAX_CHARS: usize = 400;
    let mut room = MAX_CHARS;
    let named = holders.iter().take_while(|name| {
        room = room.saturating_sub(name.chars().count() + 2);
        room > 0
    });
    let mut named: Vec<_> = named.map(String::as_str).collect();
    if more || named.len() < holders.len() {
        named.push("others");
    }
    let by = match &named[..] {
        [] => "a holder".to_owned(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    };
    format!("the {noun} is in use by {by}; take it out of use there first, or delete it with force")
}

fn rate_limited(limit: Limit) -> String {
    let calls = |of: &str, rate: u32| {
        let rate = grouped(i64::from(rate));
        format!(
            "{of} has the limit of {rate} calls a second; send fewer, or ask the operator of this service for a higher quota"
        )
    };
    match limit {
        Limit::AccessKey(rate) => calls("the access key", rate),
        Limit::ClientIdentity(rate) => calls("the client identity", rate),
        Limit::Account(rate) => calls("the account", rate),
        Limit::FailedAuthentications => {
            "too many failed authentications from this address; check the access key, wait and try again".to_owned()
        }
        Limit::Unauthenticated => {
            "too many calls without an access key from this address; wait and try again".to_owned()
        }
        Limit::AllUnauthenticated => "too many calls without an access key; wait and try again".to_owned(),
        Limit::OpenCalls => {
            "too many calls of health and reflection at once on this connection; end some of them".to_owned()
        }
        Limit::CallMemory => {
            "too much memory is in use for requests and for answers that were not read; read your answers and try again"
                .to_owned()
        }
    }
}

fn fields(violations: &[Violation]) -> String {
    match violations {
        [] => "the request is invalid".to_owned(),
        [only] => violation(only, field_name),
        [first, rest @ ..] => {
            let fields = if rest.len() == 1 { "field is" } else { "fields are" };
            format!(
                "{} ({} more {fields} invalid)",
                violation(first, field_name),
                rest.len()
            )
        }
    }
}

/// The words for one invalid field.
pub fn violation(violation: &Violation, name: FieldName) -> String {
    let field = name(violation.field);
    let name_of_pair = match violation.field {
        Field::AliCloudCertificateId => field::fetched,
        _ => name,
    };
    match &violation.error {
        FieldError::Certificate(error) => certificate::certificate(error, name_of_pair),
        FieldError::CaCertificate(error) => certificate::ca_certificate(error, name),
        FieldError::PrivateKey(error) => certificate::private_key(error, name_of_pair),
        FieldError::Compromised(codes) => {
            let of = match violation.field {
                Field::Certificate(_) => format!(" of {field}"),
                _ => String::new(),
            };
            format!(
                "the private key{of} is compromised ({}); get a certificate for a new key",
                list(codes)
            )
        }
        FieldError::Policy(codes) => {
            format!(
                "the policy of this service rejects {field} ({}); see the findings",
                list(codes)
            )
        }
        FieldError::Name(error) => inventory::name(*error, &field),
        FieldError::Tags(error) => inventory::tags(*error, &field),
        FieldError::Region(error) => inventory::region(*error, &field),
        FieldError::OutOfScope(scope) => inventory::out_of_scope(scope, violation.field, &field),
        FieldError::DefaultOutOfScope(scope) => inventory::default_out_of_scope(scope, violation.field, &field),
        FieldError::Language(_) => format!("unknown {field}; use zh-CN, en-US or ja, or leave it empty"),
        FieldError::Criterion(error) => inventory::criterion(*error, &field, name),
        FieldError::Identity(error) => inventory::identity(*error, &field),
        FieldError::Choice => format!("{field} is not set, or this call does not accept its value"),
        FieldError::Required => format!("{field} is empty; it is required"),
        FieldError::Excludes(other) => format!("{field} and {} exclude each other; use one of them", name(*other)),
        FieldError::Needs(other) => format!("{field} needs {}; set both or none", name(*other)),
        FieldError::AliCloudCertificateId => {
            format!("{field} is not the id of a certificate; use the decimal number of CertId")
        }
        FieldError::TooManyCertificates { max } => {
            format!("{field} would change more than {max} certificates; renew them one by one")
        }
        FieldError::TooMany { count, max } => format!("{field} has {count} entries; use at most {max}"),
        FieldError::AccountName(error) => inventory::account_name(*error, &field),
        FieldError::QuotaKind => format!("unknown {field}; use a value of QuotaKind"),
        FieldError::QuotaMaximum => {
            format!("{field} is out of range; use 0 to 1,000,000,000, or leave it out for the default")
        }
        FieldError::TooLong { chars, max } => format!("{field} has {chars} characters; use at most {max}"),
        FieldError::ControlCharacter { position } => {
            format!("character {position} of {field} is a control character; remove it")
        }
        FieldError::Role(allowed) => {
            let roles: Vec<_> = allowed.iter().map(|role| role.as_str()).collect();
            format!("{field} cannot be used here; use {}", roles.join(", "))
        }
        FieldError::ScopeOfOperator => format!("an operator's access key has no {field}; leave it out"),
        FieldError::CanSignOfOperator => format!("an operator's access key cannot sign; leave {field} out"),
        FieldError::SecretSha256 => format!("{field} is not a SHA-256; use 32 octets, or leave it empty"),
        FieldError::SecretUsed => {
            "another access key of the account, with other settings, has this secret; make a new secret".to_owned()
        }
        FieldError::NotInFuture => format!("{field} is not in the future; use a later time"),
        FieldError::UnusedDays => format!("{field} is out of range; use 0 for every key, or 1 to 36500"),
        FieldError::ClientToken => format!("{field} is invalid; use 1 to 64 printable ASCII characters"),
        FieldError::GroupNameTaken => {
            "another resource group of the account has this name; choose another name".to_owned()
        }
        FieldError::DefaultGroup => "the default resource group cannot be renamed or deleted".to_owned(),
        FieldError::PageSize => format!("{field} is negative; use 0 for the default of 100, or 1 to 1000"),
        FieldError::PageToken => {
            format!("{field} is not from this call with the same filters; start again with an empty token")
        }
        FieldError::KeyEncryptionKeyId => format!("{field} is not 16 hexadecimal digits"),
        FieldError::Rate => format!("{field} is not between 0 and 1,000,000; 0 means 1,000"),
        FieldError::ResumeToken => {
            format!("{field} is not from an answer of this call; start again with an empty token")
        }
        FieldError::Outcome => format!("unknown {field}; use DONE, DENIED or DELIVERED, or leave it out"),
        FieldError::Time => format!("{field} is not a time in the years 1 to 9999"),
        FieldError::Head => format!("{field} has an entry that is not a head; use 64 hexadecimal digits"),
        FieldError::HolderName => {
            format!("{field} is invalid; use 1 to 128 letters, digits, and the characters - / . _ : @")
        }
        FieldError::Ttl => format!("{field} is out of range; use 10 to 3600, or 0 for 60"),
        FieldError::ResourceType => format!("unknown {field}; the only type is certificate"),
        FieldError::Password => format!("{field} is invalid; use 8 to 128 printable ASCII characters"),
        FieldError::NotOfFormat => {
            format!(
                "{} does not use {field}; leave it out, or use another format",
                name(Field::KeyPairFormat)
            )
        }
        FieldError::Version => format!("{field} is negative; use 0, or a version of the certificate"),
        FieldError::TagsOfResource { index, count } => format!(
            "{}[{index}] would have {count} tags; remove some first, since at most 20 are allowed",
            name(Field::ResourceIds)
        ),
    }
}

/// A number with a comma between thousands.
fn grouped(number: i64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(String::from_utf8_lossy)
        .collect();
    groups.join(",")
}

/// What a certificate of this kind is called.
pub(super) fn noun(kind: CertificateKind) -> &'static str {
    match kind {
        CertificateKind::Server => "server certificate",
        CertificateKind::Ca => "CA certificate",
    }
}

/// The codes, separated by commas.
pub(super) fn list(codes: &[FindingCode]) -> String {
    let names: Vec<_> = codes.iter().map(|code| code.as_str()).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        let numbers = [0, 999, 1_000, 10_000, 1_234_567].map(grouped);
        assert_eq!(numbers, ["0", "999", "1,000", "10,000", "1,234,567"]);
    }
}
