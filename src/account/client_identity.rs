//! The names in client certificates by which the service knows callers.

use std::fmt;

/// The kind of a name in a client certificate. A certificate is looked up by its names in the order of this list.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum IdentityKind {
    /// The SPIFFE ID, or a pattern for all ids below it.
    SpiffeId,
    /// A DNS name among the subject alternative names.
    DnsName,
    /// The subject in the form of RFC 4514.
    Subject,
}

impl IdentityKind {
    /// All kinds, in the order of the look-up.
    pub const ALL: [Self; 3] = [Self::SpiffeId, Self::DnsName, Self::Subject];

    /// The kind's name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SpiffeId => "spiffe_id",
            Self::DnsName => "dns_name",
            Self::Subject => "subject",
        }
    }

    /// The kind of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// A name in a client certificate. [`Display`](fmt::Display) writes a SPIFFE ID as it is, and another name after its kind, for example
/// `dns_name:client.example`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct IdentityName {
    /// The kind.
    pub kind: IdentityKind,
    /// The value.
    pub value: String,
}

impl fmt::Display for IdentityName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            IdentityKind::SpiffeId => f.write_str(&self.value),
            IdentityKind::DnsName | IdentityKind::Subject => write!(f, "{}:{}", self.kind.as_str(), self.value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_shows_its_kind() {
        let shown = |kind, value: &str| {
            IdentityName {
                kind,
                value: value.to_owned(),
            }
            .to_string()
        };
        assert_eq!(shown(IdentityKind::SpiffeId, "spiffe://a/b"), "spiffe://a/b");
        assert_eq!(shown(IdentityKind::DnsName, "a.example"), "dns_name:a.example");
        assert_eq!(shown(IdentityKind::Subject, "CN=a"), "subject:CN=a");
        for kind in IdentityKind::ALL {
            assert_eq!(IdentityKind::from_name(kind.as_str()), Some(kind));
        }
    }
}
