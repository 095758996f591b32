//! The quotas of an account.

/// A limit of an account.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum QuotaKind {
    /// Live server certificates in each region.
    ServerCertificates,
    /// Live CA certificates in each region.
    CaCertificates,
    /// Access keys.
    AccessKeys,
    /// Calls in a second, on each replica.
    CallsPerSecond,
    /// Calls with one access key or client identity in a second, on each replica.
    CallsPerSecondPerKey,
}

impl QuotaKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::ServerCertificates,
        Self::CaCertificates,
        Self::AccessKeys,
        Self::CallsPerSecond,
        Self::CallsPerSecondPerKey,
    ];

    /// The kind's name in the database. For certificates, it is the name of their kind.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ServerCertificates => "server",
            Self::CaCertificates => "ca",
            Self::AccessKeys => "access_keys",
            Self::CallsPerSecond => "calls_per_second",
            Self::CallsPerSecondPerKey => "calls_per_second_per_key",
        }
    }

    /// Whether the quota limits certificates.
    pub fn is_of_certificates(self) -> bool {
        matches!(self, Self::ServerCertificates | Self::CaCertificates)
    }
}
