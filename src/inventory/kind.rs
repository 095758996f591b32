//! The two kinds of certificates that an account has.

use crate::account::QuotaKind;

/// The purpose of a stored certificate.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum CertificateKind {
    /// A server presents the certificate. The store also has its private key.
    Server,
    /// The certificate of an authority. It verifies the certificates that the authority issued.
    Ca,
}

impl From<CertificateKind> for QuotaKind {
    /// The quota of these certificates.
    fn from(kind: CertificateKind) -> Self {
        match kind {
            CertificateKind::Server => Self::ServerCertificates,
            CertificateKind::Ca => Self::CaCertificates,
        }
    }
}

impl CertificateKind {
    /// Both kinds.
    pub const ALL: [Self; 2] = [Self::Server, Self::Ca];

    /// The kind with this name in the database.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The kind's name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Ca => "ca",
        }
    }

    /// The name of the kind in a sentence.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Server => "server certificate",
            Self::Ca => "CA certificate",
        }
    }
}
