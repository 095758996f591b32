//! Findings from a comparison with the other certificates that exist for the caller.

use super::violation::Violations;
use super::{App, Call, Error, Field};
use crate::certificate::{CertificateFacts, Finding, FindingCode, FindingKind, Severity};
use crate::inventory::CertificateKind;
use crate::store::Reuse;

impl App {
    /// The findings about a certificate that is not stored.
    pub(super) async fn reuse(
        &self,
        call: &Call,
        kind: CertificateKind,
        facts: &CertificateFacts,
    ) -> Result<Vec<Finding>, Error> {
        let reuse = self.0.store.reuse(kind, call.reach(), facts, None).await?;
        Ok(self.findings_of(reuse, facts))
    }

    pub(super) fn findings_of(&self, reuse: Reuse, facts: &CertificateFacts) -> Vec<Finding> {
        let policy = &self.0.settings.policy;
        let same_leaf = reuse
            .same_leaf
            .map(|id| FindingKind::AlreadyStored { id: id.to_string() });
        let same_key = reuse.same_key.map(|id| FindingKind::KeyReused { id: id.to_string() });
        let found = same_leaf.into_iter().chain(same_key);
        found.map(|kind| Finding::new(kind, policy, &facts.subject)).collect()
    }

    /// All findings about a certificate that is not stored. An error if the policy refuses the reuse.
    pub(super) async fn refuse_reuse(
        &self,
        call: &Call,
        kind: CertificateKind,
        facts: &CertificateFacts,
        findings: Vec<Finding>,
    ) -> Result<Vec<Finding>, Error> {
        let of_reuse = self.reuse(call, kind, facts).await?;
        let rejected = rejected(&of_reuse);
        let findings = and(findings, of_reuse);
        if rejected.is_empty() {
            return Ok(findings);
        }
        let mut violations = Violations::with(findings);
        violations.policy(Field::Certificate(kind), &rejected);
        Err(violations.into())
    }

    /// Whether the policy refuses at least one kind of reuse.
    pub(super) fn refuses_reuse(&self) -> bool {
        let codes = [FindingCode::AlreadyStored, FindingCode::KeyReused];
        codes
            .iter()
            .any(|code| self.0.settings.policy.severity(*code) == Severity::Error)
    }
}

/// All findings, the most severe first.
pub(super) fn and(mut findings: Vec<Finding>, more: Vec<Finding>) -> Vec<Finding> {
    findings.extend(more);
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

/// The codes of those findings that the policy refuses.
pub(super) fn rejected(findings: &[Finding]) -> Vec<FindingCode> {
    let rejected = findings.iter().filter(|finding| finding.severity == Severity::Error);
    rejected.map(|finding| finding.code()).collect()
}
