//! The rules for server and CA certificates. Each rule checks one thing and notes a finding.

mod encodings;
mod envoy;
mod extensions;
mod general;
mod issuers;
mod leaf;
mod name_constraints;
mod refusals;
mod subject_names;
#[cfg(test)]
mod tests;
mod validity;
mod weak_keys;

use super::issuing::SelfSignature;
use super::path::Path;
use super::public_key::PublicKey;
use super::x509::Certificate;
use super::{Finding, FindingCode, FindingKind, Policy, PrivateKey, Severity};
use crate::clock::Timestamp;
pub use envoy::{ENVOY_VERSIONS, EnvoyVersion};
use general::Signature;
pub(super) use issuers::missing;
pub(super) use name_constraints::TooManyNames;
pub(super) use refusals::{Position, Refusals};
pub use validity::EXPIRES_SOON_DAYS;
pub(super) use validity::{has_expired, is_outside};

/// The maximum length of a subject in a finding. A subject may be as long as a certificate.
const MAX_SUBJECT_CHARS: usize = 256;

/// Collects findings.
pub(super) struct Findings<'a> {
    policy: &'a Policy,
    noted: Vec<Finding>,
}

impl<'a> Findings<'a> {
    pub(super) fn by(policy: &'a Policy) -> Self {
        Self {
            policy,
            noted: Vec::new(),
        }
    }

    /// Notes a finding about a certificate, or about the whole text.
    pub(super) fn note(&mut self, kind: FindingKind, about: Option<&Certificate<'_>>) {
        let subject = about.map(|certificate| certificate.subject()).unwrap_or_default();
        self.noted.push(Finding::new(kind, self.policy, subject));
    }

    /// The findings, the most severe first.
    pub(super) fn into_noted(mut self) -> Vec<Finding> {
        self.noted.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        self.noted
    }
}

/// The codes for which the policy refuses the upload, each once.
pub(super) fn rejected(findings: &[Finding]) -> Vec<FindingCode> {
    let mut rejected = Vec::new();
    for finding in findings.iter().filter(|finding| finding.severity == Severity::Error) {
        if !rejected.contains(&finding.code()) {
            rejected.push(finding.code());
        }
    }
    rejected
}

/// A name, cut so that it fits into a finding.
pub(super) fn cut(name: &str) -> String {
    cut_at(MAX_SUBJECT_CHARS, name)
}

/// A name, cut at `chars` characters.
pub(super) fn cut_at(chars: usize, name: &str) -> String {
    match name.char_indices().nth(chars) {
        None => name.to_owned(),
        Some((end, _)) => format!("{}…", &name[..end]),
    }
}

/// Applies every rule to a server certificate and its chain. The keys are the leaf's public key, if it can be read, and its private
/// key, if there is one. `at` is now. `refusals` found the path.
pub(super) fn apply(
    certificates: &[Certificate<'_>],
    path: &Path,
    (key, private_key): (Option<&PublicKey>, Option<&PrivateKey>),
    at: Timestamp,
    refusals: &mut Refusals<'_>,
    findings: &mut Findings<'_>,
) -> Result<(), TooManyNames> {
    let leaf = &certificates[path.main[0]];
    if path.is_self_signed {
        findings.note(FindingKind::SelfSigned, Some(leaf));
    }
    validity::time(leaf, at, findings);
    validity::length(leaf, findings);
    leaf::usage(leaf, findings);
    envoy::key(leaf, key, findings);
    weak_keys::key(leaf, key, private_key, findings);
    subject_names::leaf(leaf, findings);
    extensions::must_staple(leaf, findings);
    for index in path.served() {
        general::certificate(&certificates[index], Signature::Matters, findings);
    }
    for index in path.served().skip(1) {
        issuers::usage(&certificates[index], findings);
    }
    for index in path.issuers().chain(path.others.iter().copied()) {
        issuers::validity(&certificates[index], at, findings);
        issuers::key(&certificates[index], findings);
    }
    issuers::expires_first(certificates, path, at, findings);
    for (child, part) in &path.contradictions {
        let part = *part;
        findings.note(FindingKind::IdentifierContradicts { part }, Some(&certificates[*child]));
    }
    let on_path: Vec<_> = path.main.iter().copied().chain(path.root).collect();
    for (place, &issuer) in on_path.iter().enumerate().skip(1) {
        for (finding, about) in refusals.on_path(&on_path[..place], issuer)? {
            findings.note(finding, Some(&certificates[about]));
        }
    }
    Ok(())
}

/// Applies the rules for a CA certificate. `key` is its public key, if it can be read. `at` is now.
pub(super) fn apply_to_authority(
    certificate: &Certificate<'_>,
    key: Option<&PublicKey>,
    signature: SelfSignature,
    at: Timestamp,
    findings: &mut Findings<'_>,
) {
    let signature = match signature {
        SelfSignature::Right => Signature::DoesNotMatter,
        SelfSignature::None | SelfSignature::Wrong | SelfSignature::Unproved => Signature::Matters,
    };
    validity::time(certificate, at, findings);
    weak_keys::key(certificate, key, None, findings);
    general::certificate(certificate, signature, findings);
    issuers::authority(certificate, findings);
}
