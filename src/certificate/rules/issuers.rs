//! The rules for the issuers on the path to a root (RFC 5280 6.1).

use super::{Findings, cut, leaf, validity};
use crate::certificate::finding::{CaMark, FindingKind};
use crate::certificate::path::Path;
use crate::certificate::x509::Certificate;
use crate::clock::Timestamp;

/// Whether an issuer that clients need is missing. A missing root is no finding. So the issuer of a lone leaf is missing, and the last
/// issuer of a longer path if there are certificates that may belong above it.
pub(super) fn missing(certificates: &[Certificate<'_>], path: &Path, findings: &mut Findings<'_>) {
    let ends_in_the_open = path.root.is_none() && !path.is_self_signed;
    if !ends_in_the_open || (path.main.len() > 1 && path.unrelated.is_empty()) {
        return;
    }
    let Some(&last) = path.main.last() else { return };
    let issuer = cut(&certificates[last].issuer());
    findings.note(FindingKind::ChainIncomplete { issuer }, Some(&certificates[last]));
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

/// RFC 5280 6.1.4 (l) and (m). Self-issued certificates and the leaf do not count.
pub(super) fn path_lengths(certificates: &[Certificate<'_>], path: &Path, findings: &mut Findings<'_>) {
    let mut below = 0;
    for index in path.issuers() {
        let issuer = &certificates[index];
        let constraints = issuer.fields.basic_constraints().ok().flatten();
        let limit = constraints.and_then(|constraints| constraints.value.path_len_constraint);
        if let Some(limit) = limit
            && below > limit
        {
            findings.note(FindingKind::PathLengthExceeded { limit, below }, Some(issuer));
        }
        if !issuer.is_self_issued() {
            below += 1;
        }
    }
}
