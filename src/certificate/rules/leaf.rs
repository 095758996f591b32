//! The usages of a server certificate.

use super::Findings;
use crate::certificate::FindingKind;
use crate::certificate::x509::Certificate;

/// RFC 5280 4.2.1.3, 4.2.1.9 and 4.2.1.12; RFC 8446 4.4.2.2.
pub(super) fn usage(leaf: &Certificate<'_>, findings: &mut Findings<'_>) {
    let fields = &leaf.fields;
    if fields.is_ca() {
        findings.note(FindingKind::CaAsLeaf, Some(leaf));
    }
    let may_sign = match fields.key_usage() {
        Ok(usage) => usage.is_none_or(|usage| usage.value.digital_signature()),
        Err(_) => false,
    };
    if !may_sign {
        findings.note(FindingKind::KeyUsageUnfit, Some(leaf));
    }
    extended(leaf, findings);
}

/// RFC 5280 4.2.1.12. Clients also apply the extended key usage of an issuer.
pub(super) fn extended(certificate: &Certificate<'_>, findings: &mut Findings<'_>) {
    let may_serve = match certificate.fields.extended_key_usage() {
        Ok(usage) => usage.is_none_or(|usage| usage.value.server_auth || usage.value.any),
        Err(_) => false,
    };
    if !may_serve {
        findings.note(FindingKind::EkuUnfit, Some(certificate));
    }
}
