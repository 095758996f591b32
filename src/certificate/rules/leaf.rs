//! The usages of a server certificate.

use super::Findings;
use crate::certificate::FindingKind;
use crate::certificate::public_key::{KeyAlgorithm, PublicKey};
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

/// Envoy loads RSA keys of at least 2048 bits, ECDSA keys on the NIST curves, and Ed25519.
pub(super) fn key(leaf: &Certificate<'_>, key: Option<&PublicKey>, findings: &mut Findings<'_>) {
    let Some(key) = key else { return };
    let is_loaded = match key.algorithm() {
        KeyAlgorithm::Rsa => key.size() >= 2048,
        KeyAlgorithm::EcdsaP256 | KeyAlgorithm::EcdsaP384 | KeyAlgorithm::EcdsaP521 | KeyAlgorithm::Ed25519 => true,
        _ => false,
    };
    if !is_loaded {
        let (algorithm, bits) = (key.algorithm(), key.size());
        findings.note(FindingKind::KeyTypeUnsupportedByEnvoy { algorithm, bits }, Some(leaf));
    }
}
