//! The path from the leaf towards a root, and the order in which the certificates are served.

use super::finding::KeyIdentifierPart;

/// The indexes of the certificates, in the order in which they are served.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Path {
    /// The leaf, then the best path to an issuer that is missing or self-signed. A self-signed certificate is only
    /// included if it is the leaf.
    pub(super) main: Vec<usize>,
    /// The certificates on other paths.
    pub(super) others: Vec<usize>,
    /// The certificates on other paths that are not served: they have expired, and the main path is valid.
    pub(super) expired: Vec<usize>,
    /// The self-signed certificate that issued the last certificate of the main path.
    pub(super) root: Option<usize>,
    /// The self-signed certificates at the ends of the other paths.
    pub(super) other_roots: Vec<usize>,
    /// Whether the leaf is self-signed.
    pub(super) is_self_signed: bool,
    /// The certificates of the main path whose authority key identifier contradicts their issuer.
    pub(super) contradictions: Vec<(usize, KeyIdentifierPart)>,
    /// The certificates on no path.
    pub(super) unrelated: Vec<usize>,
}

impl Path {
    /// The certificates that are stored and served, in this order.
    pub(super) fn served(&self) -> impl Iterator<Item = usize> {
        self.main.iter().chain(&self.others).copied()
    }

    /// The issuers of the main path. The issuer of the leaf is the first, the root (if the text has it) the last.
    pub(super) fn issuers(&self) -> impl Iterator<Item = usize> {
        self.main.iter().skip(1).copied().chain(self.root)
    }

    /// The last certificate of the main path, if its issuer is missing.
    pub(super) fn open_end(&self) -> Option<usize> {
        let ends_in_the_open = self.root.is_none() && !self.is_self_signed;
        self.main.last().copied().filter(|_| ends_in_the_open)
    }
}
