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

    /// What it is called in a sentence.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Server => "server certificate",
            Self::Ca => "CA certificate",
        }
    }
}
