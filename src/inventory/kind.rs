//! The two kinds of certificates that an account has.

/// What a certificate is kept for.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum CertificateKind {
    /// A server presents it, and its private key is kept with it.
    Server,
    /// An authority's, by which those are known that it certified.
    Ca,
}

impl CertificateKind {
    /// Both.
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

    /// What it is called in a sentence.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Server => "server certificate",
            Self::Ca => "CA certificate",
        }
    }
}
