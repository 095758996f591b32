//! The codes of findings: the name, default severity and rule of each.

use std::fmt;
use std::str::FromStr;

/// How severe a finding is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Severity {
    /// Information only.
    Info,
    /// Some clients will have a problem.
    Warning,
    /// The policy refuses the upload.
    Error,
}

/// The code of a finding. [`Display`](fmt::Display) writes its name, such as `CHAIN_REORDERED`. [`FromStr`] reads the
/// name.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[expect(
    missing_docs,
    reason = "docs/findings.md explains each, and a test holds it complete"
)]
pub enum FindingCode {
    ChainReordered,
    RootDropped,
    DuplicateDropped,
    KeyFoundInCertificateField,
    SelfSigned,
    Expired,
    NotYetValid,
    ExpiresSoon,
    RsaKeySmall,
    SignatureWeak,
    CaAsLeaf,
    SanMissing,
    SanInvalid,
    ChainIncomplete,
    ChainExpired,
    IssuerNotCa,
    PathLengthExceeded,
    NameConstraintViolated,
    KeyUsageUnfit,
    EkuUnfit,
    CriticalExtensionUnknown,
    SerialInvalid,
    VersionNot3,
    ValidityTooLong,
    KeyTypeUnsupportedByEnvoy,
    KeyRoca,
    KeyClosePrimes,
    KeyExponentUnsafe,
    KeySmallPrivateExponent,
    KeyCompromised,
    AlreadyStored,
    KeyReused,
    KeyTypeChanged,
    ExpiresEarlier,
    NamesChanged,
    ExpiredDropped,
    ChainExpiresFirst,
    IssuerUnverified,
    IdentifierContradicts,
    ExtensionUnreadable,
    EncodingRefusedBy,
    MustStapleWithoutOcsp,
    NameNotInSan,
    KeyFactorable,
    NamesNotSearchable,
    LabelWrong,
    BlockDropped,
}

/// A text that is not the name of a code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FindingCodeError;

struct Row {
    code: FindingCode,
    name: &'static str,
    severity: Severity,
    rule: &'static str,
}

impl FindingCode {
    /// Every code.
    pub fn all() -> impl Iterator<Item = Self> {
        ROWS.iter().map(|row| row.code)
    }

    // A test checks that the rows have the order of the codes.
    fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        self.row().name
    }

    /// Its severity without a policy.
    pub fn severity(self) -> Severity {
        self.row().severity
    }

    /// The section of the document with the rule.
    pub fn rule(self) -> &'static str {
        self.row().rule
    }

    /// Whether a finding with this code says that the private key is compromised.
    pub fn is_compromise(self) -> bool {
        matches!(
            self,
            Self::KeyRoca
                | Self::KeyClosePrimes
                | Self::KeyExponentUnsafe
                | Self::KeySmallPrivateExponent
                | Self::KeyCompromised
                | Self::KeyFactorable
        )
    }
}

impl fmt::Display for FindingCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for FindingCode {
    type Err = FindingCodeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::all().find(|code| code.as_str() == text).ok_or(FindingCodeError)
    }
}

use FindingCode as Code;

const ROWS: [Row; 47] = [
    Row {
        code: Code::ChainReordered,
        name: "CHAIN_REORDERED",
        severity: Severity::Info,
        rule: "RFC 5246 7.4.2",
    },
    Row {
        code: Code::RootDropped,
        name: "ROOT_DROPPED",
        severity: Severity::Info,
        rule: "RFC 8446 4.4.2",
    },
    Row {
        code: Code::DuplicateDropped,
        name: "DUPLICATE_DROPPED",
        severity: Severity::Info,
        rule: "RFC 8446 4.4.2",
    },
    Row {
        code: Code::KeyFoundInCertificateField,
        name: "KEY_FOUND_IN_CERTIFICATE_FIELD",
        severity: Severity::Info,
        rule: "RFC 7468 2",
    },
    Row {
        code: Code::SelfSigned,
        name: "SELF_SIGNED",
        severity: Severity::Info,
        rule: "RFC 5280 3.2",
    },
    Row {
        code: Code::Expired,
        name: "EXPIRED",
        severity: Severity::Warning,
        rule: "RFC 5280 4.1.2.5",
    },
    Row {
        code: Code::NotYetValid,
        name: "NOT_YET_VALID",
        severity: Severity::Warning,
        rule: "RFC 5280 4.1.2.5",
    },
    Row {
        code: Code::ExpiresSoon,
        name: "EXPIRES_SOON",
        severity: Severity::Warning,
        rule: "RFC 5280 4.1.2.5",
    },
    Row {
        code: Code::RsaKeySmall,
        name: "RSA_KEY_SMALL",
        severity: Severity::Warning,
        rule: "Baseline Requirements 6.1.5",
    },
    Row {
        code: Code::SignatureWeak,
        name: "SIGNATURE_WEAK",
        severity: Severity::Warning,
        rule: "Baseline Requirements 7.1.3.2",
    },
    Row {
        code: Code::CaAsLeaf,
        name: "CA_AS_LEAF",
        severity: Severity::Warning,
        rule: "RFC 5280 4.2.1.9",
    },
    Row {
        code: Code::SanMissing,
        name: "SAN_MISSING",
        severity: Severity::Warning,
        rule: "RFC 9525 6.3",
    },
    Row {
        code: Code::SanInvalid,
        name: "SAN_INVALID",
        severity: Severity::Warning,
        rule: "RFC 5280 4.2.1.6",
    },
    Row {
        code: Code::ChainIncomplete,
        name: "CHAIN_INCOMPLETE",
        severity: Severity::Warning,
        rule: "RFC 8446 4.4.2",
    },
    Row {
        code: Code::ChainExpired,
        name: "CHAIN_EXPIRED",
        severity: Severity::Warning,
        rule: "RFC 5280 6.1.3",
    },
    Row {
        code: Code::IssuerNotCa,
        name: "ISSUER_NOT_CA",
        severity: Severity::Warning,
        rule: "RFC 5280 6.1.4",
    },
    Row {
        code: Code::PathLengthExceeded,
        name: "PATH_LENGTH_EXCEEDED",
        severity: Severity::Warning,
        rule: "RFC 5280 4.2.1.9",
    },
    Row {
        code: Code::NameConstraintViolated,
        name: "NAME_CONSTRAINT_VIOLATED",
        severity: Severity::Warning,
        rule: "RFC 5280 4.2.1.10",
    },
    Row {
        code: Code::KeyUsageUnfit,
        name: "KEY_USAGE_UNFIT",
        severity: Severity::Warning,
        rule: "RFC 5280 4.2.1.3",
    },
    Row {
        code: Code::EkuUnfit,
        name: "EKU_UNFIT",
        severity: Severity::Warning,
        rule: "RFC 5280 4.2.1.12",
    },
    Row {
        code: Code::CriticalExtensionUnknown,
        name: "CRITICAL_EXTENSION_UNKNOWN",
        severity: Severity::Warning,
        rule: "RFC 5280 4.2",
    },
    Row {
        code: Code::SerialInvalid,
        name: "SERIAL_INVALID",
        severity: Severity::Warning,
        rule: "RFC 5280 4.1.2.2",
    },
    Row {
        code: Code::VersionNot3,
        name: "VERSION_NOT_3",
        severity: Severity::Warning,
        rule: "RFC 5280 4.1.2.1",
    },
    Row {
        code: Code::ValidityTooLong,
        name: "VALIDITY_TOO_LONG",
        severity: Severity::Warning,
        rule: "Baseline Requirements 6.3.2",
    },
    Row {
        code: Code::KeyTypeUnsupportedByEnvoy,
        name: "KEY_TYPE_UNSUPPORTED_BY_ENVOY",
        severity: Severity::Warning,
        rule: "Envoy, TLS architecture overview",
    },
    Row {
        code: Code::KeyRoca,
        name: "KEY_ROCA",
        severity: Severity::Error,
        rule: "CVE-2017-15361",
    },
    Row {
        code: Code::KeyClosePrimes,
        name: "KEY_CLOSE_PRIMES",
        severity: Severity::Error,
        rule: "FIPS 186-5 A.1.3, CVE-2022-26320",
    },
    Row {
        code: Code::KeyExponentUnsafe,
        name: "KEY_EXPONENT_UNSAFE",
        severity: Severity::Error,
        rule: "Baseline Requirements 6.1.6",
    },
    Row {
        code: Code::KeySmallPrivateExponent,
        name: "KEY_SMALL_PRIVATE_EXPONENT",
        severity: Severity::Error,
        rule: "FIPS 186-5 A.1.1",
    },
    Row {
        code: Code::KeyCompromised,
        name: "KEY_COMPROMISED",
        severity: Severity::Error,
        rule: "Baseline Requirements 6.1.1.3",
    },
    Row {
        code: Code::AlreadyStored,
        name: "ALREADY_STORED",
        severity: Severity::Info,
        rule: "RFC 5280 4.1.2.2",
    },
    Row {
        code: Code::KeyReused,
        name: "KEY_REUSED",
        severity: Severity::Info,
        rule: "NIST SP 800-57 Part 1 5.3",
    },
    Row {
        code: Code::KeyTypeChanged,
        name: "KEY_TYPE_CHANGED",
        severity: Severity::Warning,
        rule: "RFC 8446 4.4.2.2",
    },
    Row {
        code: Code::ExpiresEarlier,
        name: "EXPIRES_EARLIER",
        severity: Severity::Warning,
        rule: "RFC 5280 4.1.2.5",
    },
    Row {
        code: Code::NamesChanged,
        name: "NAMES_CHANGED",
        severity: Severity::Warning,
        rule: "RFC 9525 6.3",
    },
    Row {
        code: Code::ExpiredDropped,
        name: "EXPIRED_DROPPED",
        severity: Severity::Info,
        rule: "RFC 8446 4.4.2",
    },
    Row {
        code: Code::ChainExpiresFirst,
        name: "CHAIN_EXPIRES_FIRST",
        severity: Severity::Warning,
        rule: "RFC 5280 6.1.3",
    },
    Row {
        code: Code::IssuerUnverified,
        name: "ISSUER_UNVERIFIED",
        severity: Severity::Warning,
        rule: "RFC 5280 6.1.3",
    },
    Row {
        code: Code::IdentifierContradicts,
        name: "IDENTIFIER_CONTRADICTS",
        severity: Severity::Warning,
        rule: "RFC 5280 4.2.1.1",
    },
    Row {
        code: Code::ExtensionUnreadable,
        name: "EXTENSION_UNREADABLE",
        severity: Severity::Warning,
        rule: "RFC 5280 4.2",
    },
    Row {
        code: Code::EncodingRefusedBy,
        name: "ENCODING_REFUSED_BY",
        severity: Severity::Warning,
        rule: "RFC 5280 4.1",
    },
    Row {
        code: Code::MustStapleWithoutOcsp,
        name: "MUST_STAPLE_WITHOUT_OCSP",
        severity: Severity::Warning,
        rule: "RFC 7633 4.2.3.1",
    },
    Row {
        code: Code::NameNotInSan,
        name: "NAME_NOT_IN_SAN",
        severity: Severity::Warning,
        rule: "Baseline Requirements 7.1.4.3",
    },
    Row {
        code: Code::KeyFactorable,
        name: "KEY_FACTORABLE",
        severity: Severity::Error,
        rule: "FIPS 186-5 A.1.3",
    },
    Row {
        code: Code::NamesNotSearchable,
        name: "NAMES_NOT_SEARCHABLE",
        severity: Severity::Info,
        rule: "RFC 5280 4.2.1.6",
    },
    Row {
        code: Code::LabelWrong,
        name: "LABEL_WRONG",
        severity: Severity::Info,
        rule: "RFC 7468 4",
    },
    Row {
        code: Code::BlockDropped,
        name: "BLOCK_DROPPED",
        severity: Severity::Info,
        rule: "RFC 7468 2",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_row() {
        for (place, row) in ROWS.iter().enumerate() {
            assert_eq!(row.code as usize, place, "{}", row.name);
            assert_eq!(row.name.parse(), Ok(row.code));
            assert_eq!(
                row.name.replace('_', "").to_lowercase(),
                format!("{:?}", row.code).to_lowercase()
            );
            assert!(row.rule.len() > 6, "{}", row.rule);
        }
    }
}
