//! Findings: remarkable facts about a certificate. A finding carries data. Each door has its own words for the finding.

use super::rules::cut;
use super::{FindingCode, KeyAlgorithm, Policy, Severity, UnsupportedKey};
use crate::clock::Timestamp;
use FindingCode as Code;

/// A finding about a pair or a CA certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// The kind of the finding, with its data.
    pub kind: FindingKind,
    /// Its severity by the policy.
    pub severity: Severity,
    /// The subject (RFC 4514) of the certificate, cut at 256 characters, or `""` for a finding about the whole text.
    pub subject: String,
}

impl Finding {
    /// A finding about the certificate with this subject, or `""` for a finding about the whole text.
    pub fn new(kind: FindingKind, policy: &Policy, subject: &str) -> Self {
        Self {
            severity: policy.severity(kind.code()),
            kind,
            subject: cut(subject),
        }
    }

    /// Its code.
    pub fn code(&self) -> FindingCode {
        self.kind.code()
    }
}

/// The kind of a finding, with its data. docs/findings.md explains each code.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(
    missing_docs,
    reason = "docs/findings.md explains each, and the names of the fields say the rest"
)]
pub enum FindingKind {
    ChainReordered,
    RootDropped,
    DuplicateDropped,
    KeyFoundInCertificateField,
    SelfSigned,
    Expired {
        not_after: Timestamp,
    },
    NotYetValid {
        not_before: Timestamp,
    },
    ExpiresSoon {
        not_after: Timestamp,
        days: i64,
    },
    RsaKeySmall {
        bits: u32,
    },
    SignatureWeak {
        hash: WeakHash,
    },
    CaAsLeaf,
    /// There is no subject alternative name extension.
    SanMissing,
    /// The subject alternative names contain neither a DNS name nor an IP address.
    SanWithoutServer,
    /// The extension cannot be read.
    SanUnreadable,
    /// One subject alternative name, counted from 1, is invalid, and so are `more` names after it.
    SanInvalid {
        position: usize,
        error: SanError,
        more: usize,
    },
    ChainIncomplete {
        issuer: String,
    },
    ChainExpired {
        not_before: Timestamp,
        not_after: Timestamp,
    },
    IssuerNotCa {
        lacks: CaMark,
    },
    /// There are `below` CA certificates between the issuer and the leaf.
    PathLengthExceeded {
        limit: u32,
        below: u32,
    },
    NameConstraintsUnreadable,
    NameConstraintViolated {
        name: NameKind,
    },
    KeyUsageUnfit,
    EkuUnfit,
    /// A precertificate of Certificate Transparency (RFC 6962 3.1).
    Precertificate,
    /// One extension, and the number of further extensions in `more`. `oid` is `None` if it has more than 64
    /// characters. The clients do not process at least one of these extensions.
    CriticalExtensionUnknown {
        oid: Option<String>,
        more: usize,
        clients: Vec<ClientFamily>,
    },
    SerialInvalid {
        error: SerialError,
    },
    VersionNot3,
    ValidityTooLong {
        days: i64,
        limit: i64,
    },
    /// The versions of Envoy that do not serve such a key.
    KeyTypeUnsupportedByEnvoy {
        algorithm: KeyAlgorithm,
        bits: u32,
        versions: Vec<&'static str>,
    },
    KeyRoca,
    KeyClosePrimes,
    KeyExponentUnsafe {
        error: ExponentError,
    },
    KeySmallPrivateExponent,
    KeyCompromised {
        source: CompromisedKey,
    },
    /// `id` is the id of the other certificate.
    AlreadyStored {
        id: String,
    },
    /// `id` is the id of the other certificate.
    KeyReused {
        id: String,
    },
    KeyTypeChanged {
        before: KeyAlgorithm,
        after: KeyAlgorithm,
    },
    ExpiresEarlier {
        before: Timestamp,
        after: Timestamp,
    },
    /// The number of names that only the new certificate has, and of names that only the present one has.
    NamesChanged {
        added: usize,
        removed: usize,
    },
    /// The issuer that is not served expired at this time.
    ExpiredDropped {
        not_after: Timestamp,
    },
    ChainExpiresFirst {
        not_after: Timestamp,
    },
    IssuerUnverified {
        key: UnsupportedKey,
    },
    IdentifierContradicts {
        part: KeyIdentifierPart,
    },
    /// `extension` is the name in its specification, for example `authorityKeyIdentifier`.
    ExtensionUnreadable {
        extension: &'static str,
        clients: Vec<ClientFamily>,
    },
    EncodingRefusedBy {
        encoding: Encoding,
        clients: Vec<ClientFamily>,
    },
    MustStapleWithoutOcsp,
    /// The common name, cut at 256 characters.
    NameNotInSan {
        common_name: String,
    },
    KeyFactorable {
        flaw: KeyFlaw,
    },
    /// The number of subject alternative names.
    NamesNotSearchable {
        names: usize,
    },
    /// `right` is the label that fits the content of the block.
    LabelWrong {
        right: &'static str,
    },
    BlockDropped {
        block: DroppedBlock,
    },
}

/// A kind of block that is neither read nor refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum DroppedBlock {
    DhParameters,
    DsaParameters,
    EcParameters,
    PublicKey,
    Crl,
    /// A certificate in the text of the private key.
    Certificate,
}

/// A family of TLS clients.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum ClientFamily {
    /// OpenSSL 3, and programs and languages that use it.
    OpenSsl,
    /// Go's `crypto/x509`.
    Go,
    /// GnuTLS.
    GnuTls,
    /// Web browsers: at least one of Firefox and Chrome.
    Browsers,
}

impl ClientFamily {
    /// Every family.
    pub const ALL: [Self; 4] = [Self::OpenSsl, Self::Go, Self::GnuTls, Self::Browsers];
}

/// A peculiarity of an encoding that some clients refuse.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "docs/findings.md explains each")]
pub enum Encoding {
    SignatureAlgorithmsDiffer,
    EmptyIssuer,
    Time,
    PrintableString,
    StringCharacters,
    StringType,
    LargeObjectIdentifier,
    RsaWithoutNull,
    CompressedPoint,
    HybridPoint,
    CurveSecp256k1,
    ConstraintType,
    ConstraintDistance,
}

/// The part of an authority key identifier (RFC 5280 4.2.1.1) that contradicts the issuer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyIdentifierPart {
    /// `keyIdentifier`.
    KeyIdentifier,
    /// `authorityCertIssuer` and `authorityCertSerialNumber`.
    IssuerAndSerial,
}

/// Why others can compute a private key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "docs/findings.md explains each")]
pub enum KeyFlaw {
    SmallFactor,
    UnequalPrimes,
    NearMultiples,
    SharedLowerHalf,
    PrimeModulus,
    RegularModulus,
    RepeatedByte,
    NumberNearEnd,
    PatternedNumber,
    PatternedSeed,
}

/// How the private key became known.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CompromisedKey {
    /// A package contains the private key. The package, and the file in it.
    Package(String),
    /// A collection of published keys contains it: `badkeys/README.md`.
    Collection,
    /// A list of the operator contains the key. `collection` is the number of a collection in a list of badkeys.
    Blocklist {
        /// The name of the list.
        list: String,
        /// The number.
        collection: Option<u8>,
    },
    /// A prime of the RSA modulus is published, because other keys share it.
    SharedPrime,
}

/// A hash function that is too weak for signatures.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum WeakHash {
    Md2,
    Md5,
    Sha1,
}

/// The error of a subject alternative name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum SanError {
    AddressAsDnsName,
    NotDnsName,
    NotIpAddress,
    NotMailAddress,
    NotUri,
    Unreadable,
}

/// The mark of a CA certificate that a certificate lacks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CaMark {
    /// `cA` in the basic constraints (RFC 5280 4.2.1.9).
    BasicConstraints,
    /// `keyCertSign` in the key usage (RFC 5280 4.2.1.3).
    KeyCertSign,
}

/// A kind of name that name constraints restrict.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum NameKind {
    DnsName,
    MailAddress,
    Uri,
    IpAddress,
    Subject,
}

/// The error of a serial number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SerialError {
    /// The serial number is negative.
    Negative,
    /// The serial number is zero.
    Zero,
    /// The serial number has more than 20 bytes.
    TooLong,
}

/// The error of an RSA public exponent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ExponentError {
    /// The exponent is 0 or 1.
    Trivial,
    /// The exponent is even.
    Even,
    /// The exponent has more than 64 bits.
    TooLong,
}

impl FindingKind {
    /// Its code.
    pub fn code(&self) -> FindingCode {
        match self {
            Self::ChainReordered => Code::ChainReordered,
            Self::RootDropped => Code::RootDropped,
            Self::DuplicateDropped => Code::DuplicateDropped,
            Self::KeyFoundInCertificateField => Code::KeyFoundInCertificateField,
            Self::SelfSigned => Code::SelfSigned,
            Self::Expired { .. } => Code::Expired,
            Self::NotYetValid { .. } => Code::NotYetValid,
            Self::ExpiresSoon { .. } => Code::ExpiresSoon,
            Self::RsaKeySmall { .. } => Code::RsaKeySmall,
            Self::SignatureWeak { .. } => Code::SignatureWeak,
            Self::CaAsLeaf => Code::CaAsLeaf,
            Self::SanMissing | Self::SanWithoutServer => Code::SanMissing,
            Self::SanUnreadable | Self::SanInvalid { .. } => Code::SanInvalid,
            Self::ChainIncomplete { .. } => Code::ChainIncomplete,
            Self::ChainExpired { .. } => Code::ChainExpired,
            Self::IssuerNotCa { .. } => Code::IssuerNotCa,
            Self::PathLengthExceeded { .. } => Code::PathLengthExceeded,
            Self::NameConstraintsUnreadable | Self::NameConstraintViolated { .. } => Code::NameConstraintViolated,
            Self::KeyUsageUnfit => Code::KeyUsageUnfit,
            Self::EkuUnfit => Code::EkuUnfit,
            Self::Precertificate | Self::CriticalExtensionUnknown { .. } => Code::CriticalExtensionUnknown,
            Self::SerialInvalid { .. } => Code::SerialInvalid,
            Self::VersionNot3 => Code::VersionNot3,
            Self::ValidityTooLong { .. } => Code::ValidityTooLong,
            Self::KeyTypeUnsupportedByEnvoy { .. } => Code::KeyTypeUnsupportedByEnvoy,
            Self::KeyRoca => Code::KeyRoca,
            Self::KeyClosePrimes => Code::KeyClosePrimes,
            Self::KeyExponentUnsafe { .. } => Code::KeyExponentUnsafe,
            Self::KeySmallPrivateExponent => Code::KeySmallPrivateExponent,
            Self::KeyCompromised { .. } => Code::KeyCompromised,
            Self::AlreadyStored { .. } => Code::AlreadyStored,
            Self::KeyReused { .. } => Code::KeyReused,
            Self::KeyTypeChanged { .. } => Code::KeyTypeChanged,
            Self::ExpiresEarlier { .. } => Code::ExpiresEarlier,
            Self::NamesChanged { .. } => Code::NamesChanged,
            Self::ExpiredDropped { .. } => Code::ExpiredDropped,
            Self::ChainExpiresFirst { .. } => Code::ChainExpiresFirst,
            Self::IssuerUnverified { .. } => Code::IssuerUnverified,
            Self::IdentifierContradicts { .. } => Code::IdentifierContradicts,
            Self::ExtensionUnreadable { .. } => Code::ExtensionUnreadable,
            Self::EncodingRefusedBy { .. } => Code::EncodingRefusedBy,
            Self::MustStapleWithoutOcsp => Code::MustStapleWithoutOcsp,
            Self::NameNotInSan { .. } => Code::NameNotInSan,
            Self::KeyFactorable { .. } => Code::KeyFactorable,
            Self::NamesNotSearchable { .. } => Code::NamesNotSearchable,
            Self::LabelWrong { .. } => Code::LabelWrong,
            Self::BlockDropped { .. } => Code::BlockDropped,
        }
    }
}
