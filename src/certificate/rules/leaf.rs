//! What a server's own certificate is for.

use super::Findings;
use crate::certificate::FindingCode;
use crate::certificate::public_key::{KeyAlgorithm, PublicKey};
use crate::certificate::x509::Certificate;

/// RFC 5280 4.2.1.3, 4.2.1.9 and 4.2.1.12; RFC 8446 4.4.2.2.
pub(super) fn usage(leaf: &Certificate<'_>, findings: &mut Findings<'_>) {
    let fields = &leaf.fields;
    if fields.is_ca() {
        findings.note(
            FindingCode::CaAsLeaf,
            Some(leaf),
            "the server's certificate is that of an authority",
        );
    }
    let may_sign = match fields.key_usage() {
        Ok(usage) => usage.is_none_or(|usage| usage.value.digital_signature()),
        Err(_) => false,
    };
    if !may_sign {
        findings.note(
            FindingCode::KeyUsageUnfit,
            Some(leaf),
            "the certificate's key usage is without digitalSignature",
        );
    }
    extended(leaf, findings);
}

/// RFC 5280 4.2.1.12. Clients ask the same of issuers that say what they are for.
pub(super) fn extended(certificate: &Certificate<'_>, findings: &mut Findings<'_>) {
    let may_serve = match certificate.fields.extended_key_usage() {
        Ok(usage) => usage.is_none_or(|usage| usage.value.server_auth || usage.value.any),
        Err(_) => false,
    };
    if !may_serve {
        findings.note(
            FindingCode::EkuUnfit,
            Some(certificate),
            "the certificate's extended key usage is without serverAuth",
        );
    }
}

/// What Envoy loads: RSA from 2048 bits and ECDSA on the curves of NIST.
pub(super) fn key(leaf: &Certificate<'_>, key: Option<&PublicKey>, findings: &mut Findings<'_>) {
    let Some(key) = key else { return };
    let is_loaded = match key.algorithm() {
        KeyAlgorithm::Rsa => key.size() >= 2048,
        KeyAlgorithm::EcdsaP256 | KeyAlgorithm::EcdsaP384 | KeyAlgorithm::EcdsaP521 => true,
        _ => false,
    };
    if !is_loaded {
        let (algorithm, bits) = (key.algorithm(), key.size());
        findings.note(
            FindingCode::KeyTypeUnsupportedByEnvoy,
            Some(leaf),
            format!("Envoy does not load a key of {algorithm} with {bits} bits"),
        );
    }
}
