//! When a certificate is valid, and for how long.

use super::Findings;
use crate::certificate::FindingKind;
use crate::certificate::x509::Certificate;
use crate::clock::Timestamp;

/// A certificate with fewer days left expires soon.
pub const EXPIRES_SOON_DAYS: i64 = 30;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// RFC 5280 4.1.2.5: whether the certificate is valid now, and for how long.
pub(super) fn time(certificate: &Certificate<'_>, at: Timestamp, findings: &mut Findings<'_>) {
    let (begin, end) = (certificate.not_before(), certificate.not_after());
    // The certificate is still valid in the second of notAfter.
    let left = end.millis().saturating_add(1000).saturating_sub(at.millis());
    if left <= 0 {
        findings.note(FindingKind::Expired { not_after: end }, Some(certificate));
    } else if left < EXPIRES_SOON_DAYS * DAY_MS && left < lifetime(certificate) / 3 {
        let days = left / DAY_MS;
        findings.note(FindingKind::ExpiresSoon { not_after: end, days }, Some(certificate));
    }
    if begin > at {
        findings.note(FindingKind::NotYetValid { not_before: begin }, Some(certificate));
    }
}

fn lifetime(certificate: &Certificate<'_>) -> i64 {
    let (begin, end) = (certificate.not_before(), certificate.not_after());
    end.millis().saturating_add(1000).saturating_sub(begin.millis())
}

/// The Baseline Requirements 6.3.2.
pub(super) fn length(leaf: &Certificate<'_>, findings: &mut Findings<'_>) {
    let lifetime = lifetime(leaf);
    if let Some(limit) = limit(leaf.not_before())
        && lifetime > limit * DAY_MS
    {
        let days = lifetime.div_euclid(DAY_MS) + i64::from(lifetime % DAY_MS != 0);
        findings.note(FindingKind::ValidityTooLong { days, limit }, Some(leaf));
    }
}

/// The maximum validity in days of a certificate with this notBefore (Baseline Requirements 6.3.2 and its earlier editions). Limits in
/// months are the longest possible number of days.
pub(super) fn limit(begin: Timestamp) -> Option<i64> {
    const LIMITS: [(i64, i64); 7] = [
        // 2029-03-15
        (1_868_227_200, 47),
        // 2027-03-15
        (1_805_068_800, 100),
        // 2026-03-15
        (1_773_532_800, 200),
        // 2020-09-01
        (1_598_918_400, 398),
        // 2018-03-01
        (1_519_862_400, 825),
        // 2015-04-01: 39 months
        (1_427_846_400, 1188),
        // 2012-07-01: 60 months
        (1_341_100_800, 1827),
    ];
    let begin = begin.millis().div_euclid(1000);
    LIMITS.iter().find(|(from, _)| begin >= *from).map(|(_, days)| *days)
}

/// Whether a certificate is expired, or not yet valid.
pub(in crate::certificate) fn is_outside(certificate: &Certificate<'_>, at: Timestamp) -> bool {
    at < certificate.not_before() || has_expired(certificate, at)
}

/// Whether a certificate has expired. It is still valid in the second of notAfter.
pub(in crate::certificate) fn has_expired(certificate: &Certificate<'_>, at: Timestamp) -> bool {
    at.millis() >= certificate.not_after().millis().saturating_add(1000)
}
