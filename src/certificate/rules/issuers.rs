//! The rules for the issuers on the path to a root (RFC 5280 6.1).

use super::{Findings, cut, leaf, validity};
use crate::certificate::finding::{CaMark, FindingKind};
use crate::certificate::issuing::unverified_key;
use crate::certificate::path::Path;
use crate::certificate::x509::Certificate;
use crate::clock::Timestamp;

/// Whether an issuer that clients need is missing. A missing root is no finding. So the issuer of a lone leaf is missing, and the last
/// issuer of a longer path if there are certificates that may belong above it. If a certificate with the name of the issuer was given,
/// its error says that its key is another.
pub(in crate::certificate) fn missing(certificates: &[Certificate<'_>], path: &Path, findings: &mut Findings<'_>) {
    let Some(last) = path.open_end() else { return };
    let last = &certificates[last];
    if path.main.len() > 1 && path.unrelated.is_empty() {
        return;
    }
    let mut unrelated = path.unrelated.iter();
    if unrelated.any(|&given| last.names_as_issuer(&certificates[given])) {
        return;
    }
    let issuer = cut(&last.issuer());
    findings.note(FindingKind::ChainIncomplete { issuer }, Some(last));
}

/// Whether an issuer that is served expires before the leaf. Names the issuer that expires first, unless it has already expired.
/// Clients have their own copy of a root.
pub(super) fn expires_first(certificates: &[Certificate<'_>], path: &Path, at: Timestamp, findings: &mut Findings<'_>) {
    let leaf = &certificates[path.main[0]];
    let issuers = path.served().skip(1).map(|index| &certificates[index]);
    if let Some(first) = issuers.min_by_key(|issuer| issuer.not_after())
        && first.not_after() < leaf.not_after()
        && !validity::has_expired(first, at)
    {
        let not_after = first.not_after();
        findings.note(FindingKind::ChainExpiresFirst { not_after }, Some(first));
    }
}

/// RFC 5280 6.1.3 (a) (1): whether certkeep verifies signatures by the key of the issuer. This rule also holds for a root.
pub(super) fn key(issuer: &Certificate<'_>, findings: &mut Findings<'_>) {
    if let Some(key) = unverified_key(issuer) {
        findings.note(FindingKind::IssuerUnverified { key }, Some(issuer));
    }
}

/// RFC 5280 6.1.3 (a) (2). This rule also holds for a root.
pub(super) fn validity(issuer: &Certificate<'_>, at: Timestamp, findings: &mut Findings<'_>) {
    if validity::is_outside(issuer, at) {
        let (not_before, not_after) = (issuer.not_before(), issuer.not_after());
        findings.note(FindingKind::ChainExpired { not_before, not_after }, Some(issuer));
    }
}

/// The rules for an issuer that is not a root.
pub(super) fn usage(issuer: &Certificate<'_>, findings: &mut Findings<'_>) {
    authority(issuer, findings);
    leaf::extended(issuer, findings);
}

/// RFC 5280 6.1.4 (k) and (n): whether the certificate may issue others.
pub(super) fn authority(issuer: &Certificate<'_>, findings: &mut Findings<'_>) {
    let may_certify = match issuer.fields.key_usage() {
        Ok(usage) => usage.is_none_or(|usage| usage.value.key_cert_sign()),
        Err(_) => false,
    };
    let lacks = match (issuer.fields.is_ca(), may_certify) {
        (false, _) => CaMark::BasicConstraints,
        (true, false) => CaMark::KeyCertSign,
        (true, true) => return,
    };
    findings.note(FindingKind::IssuerNotCa { lacks }, Some(issuer));
}

/// RFC 5280 6.1.4 (l) and (m): whether an issuer allows this number of issuers below it.
pub(super) fn path_length(issuer: &Certificate<'_>, below: u32) -> Option<FindingKind> {
    let constraints = issuer.fields.basic_constraints().ok().flatten();
    let limit = constraints.and_then(|constraints| constraints.value.path_len_constraint)?;
    (below > limit).then_some(FindingKind::PathLengthExceeded { limit, below })
}

/// The number of issuers on a path from the leaf that count for a path length. Self-issued certificates and the leaf do not count.
pub(super) fn length(certificates: &[Certificate<'_>], path: &[usize]) -> u32 {
    let issuers = path
        .iter()
        .skip(1)
        .filter(|&&index| !certificates[index].is_self_issued());
    // At most 20 certificates are given.
    u32::try_from(issuers.count()).unwrap_or(u32::MAX)
}
