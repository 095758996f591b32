//! A list of the certificates of a chain, for people to read.

use super::path::Path;
use super::rules::cut;
use super::x509::Certificate;
use super::{KeyAlgorithm, Sha256Fingerprint};
use crate::clock::Timestamp;

/// A certificate of a chain.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListedCertificate {
    /// The subject (RFC 4514), cut at 256 characters.
    pub subject: String,
    /// The issuer (RFC 4514), cut at 256 characters.
    pub issuer: String,
    /// The start of the validity.
    pub not_before: Timestamp,
    /// The end of the validity. The certificate is still valid in this second.
    pub not_after: Timestamp,
    /// The algorithm and the size in bits of its key. `None` if the algorithm is not supported.
    pub key: Option<(KeyAlgorithm, u32)>,
    /// SHA-256 of its DER encoding.
    pub fingerprint_sha256: Sha256Fingerprint,
    /// The position of the certificate.
    pub place: Place,
}

/// The position of a certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    /// On the best path from the leaf towards a root. The certificate is served.
    Path,
    /// On another path. The certificate is served.
    OtherPath,
    /// A root at the end of the path. The certificate is not served.
    Root,
}

/// The certificates in the order in which they are served, the root last.
pub(super) fn of(certificates: &[Certificate<'_>], path: &Path) -> Vec<ListedCertificate> {
    let listed = |place| move |index: &usize| ListedCertificate::of(&certificates[*index], place);
    let main = path.main.iter().map(listed(Place::Path));
    let others = path.others.iter().map(listed(Place::OtherPath));
    let root = path.root.iter().map(listed(Place::Root));
    main.chain(others).chain(root).collect()
}

impl ListedCertificate {
    fn of(certificate: &Certificate<'_>, place: Place) -> Self {
        Self {
            subject: cut(certificate.subject()),
            issuer: cut(&certificate.issuer()),
            not_before: certificate.not_before(),
            not_after: certificate.not_after(),
            key: certificate.public_key().ok().map(|key| (key.algorithm(), key.size())),
            fingerprint_sha256: Sha256Fingerprint::of_der(certificate.der),
            place,
        }
    }
}
