//! Gives accepted pairs again, in their delivered form. certkeep must accept them again.

use std::sync::LazyLock;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use certkeep::app::{Field, FieldError, Violation};
use certkeep::certificate::{
    Authorities, CertificateFacts, Chain, FindingCode, Place, Policy, PrivateKeyError, Report, UnverifiedPair,
    VerifiedPair,
};
use certkeep::clock::Timestamp;
use certkeep::grpc::{field_name, finding as rendered, violation};
use certkeep::inventory::CertificateName;
use certkeep::secret::Secret;

use super::{MAX_CERTIFICATES, MAX_KEY, cost};

/// The authorities that all inputs of a run fill. The result for an input must not depend on them.
static AUTHORITIES: LazyLock<Authorities> = LazyLock::new(Authorities::default);

/// A PEM block.
pub fn pem(label: &str, der: &[u8]) -> Vec<u8> {
    let text = BASE64_STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n").into_bytes()
}

/// The full report on a pair.
pub fn report(certificates: &[u8], key: &Secret, at: Timestamp, policy: &Policy) -> Report {
    let none = Authorities::default();
    let report = cost::within_limit(|| UnverifiedPair::read(certificates, key).report(at, policy, &none));
    texts_are_clean(&report);
    report
}

/// The pair after the verification of an upload, and a report made without known authorities. Both must agree.
pub fn verify(certificates: &[u8], key: &Secret, at: Timestamp, policy: &Policy) -> Option<(VerifiedPair, Report)> {
    let verified = cost::within_limit(|| UnverifiedPair::read(certificates, key).verify(at, policy, &AUTHORITIES));
    let report = report(certificates, key, at, policy);
    match &verified {
        Ok(pair) => {
            // Only the report signs with the key, so only the report can find an inconsistent key.
            if !report.is_accepted {
                assert_eq!(report.error.private_key, Some(PrivateKeyError::Inconsistent));
            }
            assert_eq!(report.leaf.as_ref(), Some(pair.certificate().facts()));
            assert_eq!(report.chain.as_ref(), Some(pair.certificate().chain()));
            assert_eq!(report.error.findings, pair.certificate().findings());
        }
        Err(error) => {
            assert!(!report.is_accepted);
            assert_eq!(report.error.certificate, error.certificate);
            assert_eq!(report.error.rejected, error.rejected);
            assert_eq!(report.error.findings, error.findings);
        }
    }
    verified.ok().map(|pair| (pair, report))
}

/// Gives the stored form of a verified pair again. The leaf, the chain and the key must stay the same, and need no repair.
pub fn pair(pair: &VerifiedPair, first: &Report, at: Timestamp, policy: &Policy) {
    let pkcs8 = pair.private_key().pkcs8_der().expose();
    let key = Secret::from(pem("PRIVATE KEY", pkcs8));
    let text = pair.certificate().chain().to_pem();
    if key.expose().len() > MAX_KEY || text.len() > MAX_CERTIFICATES {
        // The stored form has line breaks, so it can be a little longer than the input.
        return;
    }
    chain(first, &key, at, policy);
    if let Some(again) = verify(text.as_bytes(), &key, at, policy) {
        assert_eq!(again.0.private_key().pkcs8_der().expose(), pkcs8);
    }
}

/// Gives the chain of a report again, with its key or without a key.
pub fn chain(first: &Report, key: &Secret, at: Timestamp, policy: &Policy) {
    let (Some(chain), true) = (&first.chain, first.error.certificate.is_empty()) else {
        return;
    };
    let text = chain.to_pem();
    // Without the key, the second report cannot use the key to find the leaf.
    let is_without_its_key = has(first, FindingCode::KeyFoundInCertificateField) && key.expose().is_empty();
    if text.len() > MAX_CERTIFICATES || is_without_its_key {
        return;
    }
    let again = report(text.as_bytes(), key, at, policy);
    assert_eq!(again.error.certificate, []);
    assert_eq!(again.error.private_key, first.error.private_key);
    assert_eq!(again.leaf, first.leaf);
    for code in [
        FindingCode::DuplicateDropped,
        FindingCode::KeyFoundInCertificateField,
        FindingCode::RootDropped,
    ] {
        assert!(!has(&again, code), "{code} again");
    }
    let second = again.chain.as_ref().expect("its leaf was found");
    let root_is_gone = has(first, FindingCode::RootDropped);
    if root_is_gone && first.listing.iter().any(|listed| listed.place == Place::OtherPath) {
        // Without the root, another path may be the shortest.
        assert_eq!(sorted(second), sorted(chain));
        return;
    }
    assert_eq!(second, chain);
    assert!(!has(&again, FindingCode::ChainReordered), "reordered again");
    for code in &again.error.rejected {
        // A single leaf without an issuer looks the same as a leaf that was issued by the dropped root.
        let issuer_is_gone = root_is_gone && *code == FindingCode::ChainIncomplete;
        assert!(issuer_is_gone || first.error.rejected.contains(code), "{code} is new");
    }
}

fn has(report: &Report, code: FindingCode) -> bool {
    report.error.findings.iter().any(|finding| finding.code() == code)
}

fn sorted(chain: &Chain) -> Vec<&[u8]> {
    let mut der: Vec<_> = chain.der().collect();
    der.sort_unstable();
    der
}

/// The sentence for an error.
pub fn words(error: FieldError) -> String {
    let field = Field::PrivateKey;
    violation(&Violation { field, error }, field_name).description
}

/// The texts for the caller must not contain control characters or grow with the input.
fn texts_are_clean(report: &Report) {
    const MAX: usize = 2048;
    let error = &report.error;
    let certificate = error.certificate.iter().cloned().map(FieldError::Certificate);
    let errors = certificate.chain(error.private_key.clone().map(FieldError::PrivateKey));
    let findings = error.findings.iter();
    let told = errors
        .map(words)
        .chain(findings.flat_map(|finding| [rendered(finding, field_name).message, finding.subject.clone()]))
        .chain(
            report
                .listing
                .iter()
                .flat_map(|listed| [listed.subject.clone(), listed.issuer.clone()]),
        );
    for text in told {
        assert!(!text.contains(char::is_control), "{text:?}");
        assert!(text.len() <= MAX, "{} bytes", text.len());
    }
    if let Some(facts) = &report.leaf {
        facts_are_clean(facts);
    }
}

fn facts_are_clean(facts: &CertificateFacts) {
    let names = [&facts.common_name, &facts.issuer, &facts.subject];
    for text in names.into_iter().chain(&facts.subject_alternative_names) {
        assert!(!text.contains(char::is_control), "{text:?}");
    }
    if let Some(name) = CertificateName::default_for(facts) {
        assert_eq!(CertificateName::parse(name.as_str()), Ok(name));
    }
}
