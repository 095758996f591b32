//! What is noticed about a certificate: each finding has a code, which says how much it matters, by which rule, and what to do.

use std::fmt;
use std::str::FromStr;

use super::Policy;
use super::rules::cut;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Severity {
    /// Good to know.
    Info,
    /// Some client will be in trouble.
    Warning,
    /// The policy refuses the pair for it.
    Error,
}

/// Something noticed about a pair, or about the certificate of an authority.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// What was noticed.
    pub code: FindingCode,
    /// How much it matters, by the policy that was asked.
    pub severity: Severity,
    /// One sentence about this very certificate, without control characters.
    pub message: String,
    /// The subject (RFC 4514) of the certificate that it is about, cut at 256 characters; `""` if it is about the text.
    pub subject: String,
}

impl Finding {
    /// A finding about the certificate of this subject, or `""` for one about the text. `message` is one sentence without control
    /// characters.
    pub fn new(code: FindingCode, policy: &Policy, subject: &str, message: String) -> Self {
        Self {
            code,
            severity: policy.severity(code),
            message,
            subject: cut(subject),
        }
    }
}

/// What a finding says. [`Display`](fmt::Display) writes its name, such as `CHAIN_REORDERED`; [`FromStr`] reads the same.
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
}

/// A text that is not the name of a code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FindingCodeError;

struct Row {
    code: FindingCode,
    name: &'static str,
    severity: Severity,
    rule: &'static str,
    remedy: &'static str,
}

impl FindingCode {
    /// Every code.
    pub fn all() -> impl Iterator<Item = Self> {
        ROWS.iter().map(|row| row.code)
    }

    // The rows stand in the order of the codes, which a test holds.
    fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        self.row().name
    }

    /// How much it matters where no policy says otherwise.
    pub fn severity(self) -> Severity {
        self.row().severity
    }

    /// The section of the document that it follows.
    pub fn rule(self) -> &'static str {
        self.row().rule
    }

    /// Whether it tells that others can find the private key.
    pub fn is_compromise(self) -> bool {
        matches!(
            self,
            Self::KeyRoca
                | Self::KeyClosePrimes
                | Self::KeyExponentUnsafe
                | Self::KeySmallPrivateExponent
                | Self::KeyCompromised
        )
    }

    /// What to do about it, in one sentence.
    pub fn remedy(self) -> &'static str {
        self.row().remedy
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

const ROWS: [Row; 32] = [
    Row {
        code: Code::ChainReordered,
        name: "CHAIN_REORDERED",
        severity: Severity::Info,
        rule: "RFC 5246 7.4.2",
        remedy: "nothing to do: certkeep stores and serves the chain in the right order",
    },
    Row {
        code: Code::RootDropped,
        name: "ROOT_DROPPED",
        severity: Severity::Info,
        rule: "RFC 8446 4.4.2",
        remedy: "nothing to do: clients trust their own copy of the root",
    },
    Row {
        code: Code::DuplicateDropped,
        name: "DUPLICATE_DROPPED",
        severity: Severity::Info,
        rule: "RFC 8446 4.4.2",
        remedy: "nothing to do: certkeep stores and serves the certificate once",
    },
    Row {
        code: Code::KeyFoundInCertificateField,
        name: "KEY_FOUND_IN_CERTIFICATE_FIELD",
        severity: Severity::Info,
        rule: "RFC 7468 2",
        remedy: "send the private key separately, so that tools on the way treat it as a secret",
    },
    Row {
        code: Code::SelfSigned,
        name: "SELF_SIGNED",
        severity: Severity::Info,
        rule: "RFC 5280 3.2",
        remedy: "use a certificate from a CA that your clients trust, unless they trust this certificate",
    },
    Row {
        code: Code::Expired,
        name: "EXPIRED",
        severity: Severity::Warning,
        rule: "RFC 5280 4.1.2.5",
        remedy: "renew the certificate: clients refuse it",
    },
    Row {
        code: Code::NotYetValid,
        name: "NOT_YET_VALID",
        severity: Severity::Warning,
        rule: "RFC 5280 4.1.2.5",
        remedy: "wait until its validity begins, and check the clocks",
    },
    Row {
        code: Code::ExpiresSoon,
        name: "EXPIRES_SOON",
        severity: Severity::Warning,
        rule: "RFC 5280 4.1.2.5",
        remedy: "renew the certificate now",
    },
    Row {
        code: Code::RsaKeySmall,
        name: "RSA_KEY_SMALL",
        severity: Severity::Warning,
        rule: "Baseline Requirements 6.1.5",
        remedy: "create a new key of at least 2048 bits and have it certified",
    },
    Row {
        code: Code::SignatureWeak,
        name: "SIGNATURE_WEAK",
        severity: Severity::Warning,
        rule: "Baseline Requirements 7.1.3.2",
        remedy: "have the certificate reissued with a signature over SHA-256 or better",
    },
    Row {
        code: Code::CaAsLeaf,
        name: "CA_AS_LEAF",
        severity: Severity::Warning,
        rule: "RFC 5280 4.2.1.9",
        remedy: "use a certificate that was issued for a server: a CA key does not belong on a server",
    },
    Row {
        code: Code::SanMissing,
        name: "SAN_MISSING",
        severity: Severity::Warning,
        rule: "RFC 9525 6.3",
        remedy: "have the certificate reissued with the server's names as subject alternative names",
    },
    Row {
        code: Code::SanInvalid,
        name: "SAN_INVALID",
        severity: Severity::Warning,
        rule: "RFC 5280 4.2.1.6",
        remedy: "have the certificate reissued without the invalid name: no client matches it, and some refuse the certificate",
    },
    Row {
        code: Code::ChainIncomplete,
        name: "CHAIN_INCOMPLETE",
        severity: Severity::Warning,
        rule: "RFC 8446 4.4.2",
        remedy: "add the missing issuer's certificate: the CA publishes it",
    },
    Row {
        code: Code::ChainExpired,
        name: "CHAIN_EXPIRED",
        severity: Severity::Warning,
        rule: "RFC 5280 6.1.3",
        remedy: "replace it with the current certificate of the issuer, from its CA",
    },
    Row {
        code: Code::IssuerNotCa,
        name: "ISSUER_NOT_CA",
        severity: Severity::Warning,
        rule: "RFC 5280 6.1.4",
        remedy: "get the chain from the CA again: clients trust nothing that this certificate signed",
    },
    Row {
        code: Code::PathLengthExceeded,
        name: "PATH_LENGTH_EXCEEDED",
        severity: Severity::Warning,
        rule: "RFC 5280 4.2.1.9",
        remedy: "have the certificate issued by a CA nearer to the root",
    },
    Row {
        code: Code::NameConstraintViolated,
        name: "NAME_CONSTRAINT_VIOLATED",
        severity: Severity::Warning,
        rule: "RFC 5280 4.2.1.10",
        remedy: "have the certificate issued by a CA that may certify these names",
    },
    Row {
        code: Code::KeyUsageUnfit,
        name: "KEY_USAGE_UNFIT",
        severity: Severity::Warning,
        rule: "RFC 5280 4.2.1.3",
        remedy: "have the certificate reissued with the key usage digitalSignature, which TLS 1.3 requires",
    },
    Row {
        code: Code::EkuUnfit,
        name: "EKU_UNFIT",
        severity: Severity::Warning,
        rule: "RFC 5280 4.2.1.12",
        remedy: "have the certificate reissued with the extended key usage serverAuth",
    },
    Row {
        code: Code::CriticalExtensionUnknown,
        name: "CRITICAL_EXTENSION_UNKNOWN",
        severity: Severity::Warning,
        rule: "RFC 5280 4.2",
        remedy: "have the certificate reissued without the extension, or with the extension not critical",
    },
    Row {
        code: Code::SerialInvalid,
        name: "SERIAL_INVALID",
        severity: Severity::Warning,
        rule: "RFC 5280 4.1.2.2",
        remedy: "have the certificate reissued with a positive serial number of at most 20 bytes",
    },
    Row {
        code: Code::VersionNot3,
        name: "VERSION_NOT_3",
        severity: Severity::Warning,
        rule: "RFC 5280 4.1.2.1",
        remedy: "have the certificate reissued as version 3: only version 3 has names and usages",
    },
    Row {
        code: Code::ValidityTooLong,
        name: "VALIDITY_TOO_LONG",
        severity: Severity::Warning,
        rule: "Baseline Requirements 6.3.2",
        remedy: "have it issued for a shorter time if browsers use it; a private CA may ignore the limit",
    },
    Row {
        code: Code::KeyTypeUnsupportedByEnvoy,
        name: "KEY_TYPE_UNSUPPORTED_BY_ENVOY",
        severity: Severity::Warning,
        rule: "Envoy, TLS architecture overview",
        remedy: "for Envoy, use RSA of at least 2048 bits or ECDSA on P-256",
    },
    Row {
        code: Code::KeyRoca,
        name: "KEY_ROCA",
        severity: Severity::Error,
        rule: "CVE-2017-15361",
        remedy: "create a new key with other software, have it certified, and have the old certificate revoked",
    },
    Row {
        code: Code::KeyClosePrimes,
        name: "KEY_CLOSE_PRIMES",
        severity: Severity::Error,
        rule: "FIPS 186-5 A.1.3, CVE-2022-26320",
        remedy: "create a new key with other software, have it certified, and have the old certificate revoked",
    },
    Row {
        code: Code::KeyExponentUnsafe,
        name: "KEY_EXPONENT_UNSAFE",
        severity: Severity::Error,
        rule: "Baseline Requirements 6.1.6",
        remedy: "create a new key with the public exponent 65537 and have it certified",
    },
    Row {
        code: Code::KeySmallPrivateExponent,
        name: "KEY_SMALL_PRIVATE_EXPONENT",
        severity: Severity::Error,
        rule: "FIPS 186-5 A.1.1",
        remedy: "create a new key with the public exponent 65537 and have it certified",
    },
    Row {
        code: Code::KeyCompromised,
        name: "KEY_COMPROMISED",
        severity: Severity::Error,
        rule: "Baseline Requirements 6.1.1.3",
        remedy: "create your own key, have it certified, and have the old certificate revoked: anyone can get this key",
    },
    Row {
        code: Code::AlreadyStored,
        name: "ALREADY_STORED",
        severity: Severity::Info,
        rule: "RFC 5280 4.1.2.2",
        remedy: "delete one of the two, unless both are in use; a client token keeps a retried upload from storing twice",
    },
    Row {
        code: Code::KeyReused,
        name: "KEY_REUSED",
        severity: Severity::Info,
        rule: "NIST SP 800-57 Part 1 5.3",
        remedy: "create a new key for each certificate: one stolen key compromises all its certificates",
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
            for text in [row.rule, row.remedy] {
                assert!(text.len() > 6 && !text.ends_with('.'), "{text}");
            }
        }
    }
}
