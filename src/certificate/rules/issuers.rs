//! What holds for the issuers on the way to a root (RFC 5280 6.1).

use super::{Findings, cut, leaf, validity};
use crate::certificate::FindingCode;
use crate::certificate::path::Path;
use crate::certificate::x509::Certificate;
use crate::clock::Timestamp;

/// Whether an issuer that clients need is not there. A root need not be: so the leaf's own issuer is missed, and the last one's
/// where certificates are there that may be behind it.
pub(super) fn missing(certificates: &[Certificate<'_>], path: &Path, findings: &mut Findings<'_>) {
    let ends_in_the_open = path.root.is_none() && !path.is_self_signed;
    if !ends_in_the_open || (path.main.len() > 1 && path.unrelated.is_empty()) {
        return;
    }
    let Some(&last) = path.main.last() else { return };
    let issuer = cut(&certificates[last].issuer());
    findings.note(
        FindingCode::ChainIncomplete,
        Some(&certificates[last]),
        format!("the certificate's issuer is missing: {issuer}"),
    );
}

/// RFC 5280 6.1.3 (a) (2). A root that has ended leads nowhere either.
pub(super) fn validity(issuer: &Certificate<'_>, at: Timestamp, findings: &mut Findings<'_>) {
    if validity::is_outside(issuer, at) {
        let (begin, end) = (issuer.not_before(), issuer.not_after());
        findings.note(
            FindingCode::ChainExpired,
            Some(issuer),
            format!("the issuer's certificate is valid from {begin} to {end} only"),
        );
    }
}

/// What clients ask of an issuer, which a root is not asked.
pub(super) fn usage(issuer: &Certificate<'_>, findings: &mut Findings<'_>) {
    authority(issuer, "the issuer's", findings);
    leaf::extended(issuer, findings);
}

/// RFC 5280 6.1.4 (k) and (n): whether it may certify others. `whose` basic constraints and key usage these are.
pub(super) fn authority(issuer: &Certificate<'_>, whose: &str, findings: &mut Findings<'_>) {
    let may_certify = match issuer.fields.key_usage() {
        Ok(usage) => usage.is_none_or(|usage| usage.value.key_cert_sign()),
        Err(_) => false,
    };
    if !issuer.fields.is_ca() {
        findings.note(
            FindingCode::IssuerNotCa,
            Some(issuer),
            format!("{whose} basic constraints do not say that it is an authority"),
        );
    } else if !may_certify {
        findings.note(
            FindingCode::IssuerNotCa,
            Some(issuer),
            format!("{whose} key usage is without keyCertSign"),
        );
    }
}

/// RFC 5280 6.1.4 (l) and (m): what is not self-issued counts, the leaf does not.
pub(super) fn path_lengths(certificates: &[Certificate<'_>], path: &Path, findings: &mut Findings<'_>) {
    let mut below = 0;
    for index in path.issuers() {
        let issuer = &certificates[index];
        let constraints = issuer.fields.basic_constraints().ok().flatten();
        let limit = constraints.and_then(|constraints| constraints.value.path_len_constraint);
        if let Some(limit) = limit
            && below > limit
        {
            findings.note(
                FindingCode::PathLengthExceeded,
                Some(issuer),
                format!("the issuer allows {limit} issuers between it and a server, and there are {below}"),
            );
        }
        if !issuer.is_self_issued() {
            below += 1;
        }
    }
}
