//! A certificate that was verified.

use super::{CertificateFacts, Chain, Finding};

/// The public part of a [`VerifiedPair`](super::VerifiedPair) or a [`VerifiedCa`](super::VerifiedCa).
#[derive(Clone, Debug)]
pub struct VerifiedCertificate {
    facts: CertificateFacts,
    chain: Chain,
    findings: Vec<Finding>,
}

impl VerifiedCertificate {
    pub(super) fn new(facts: CertificateFacts, chain: Chain, findings: Vec<Finding>) -> Self {
        Self { facts, chain, findings }
    }

    /// The facts about the leaf, or about the CA certificate.
    pub fn facts(&self) -> &CertificateFacts {
        &self.facts
    }

    /// The certificates, in the order in which they are served.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The findings, the most severe first.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The facts, the chain and the findings.
    pub fn into_parts(self) -> (CertificateFacts, Chain, Vec<Finding>) {
        (self.facts, self.chain, self.findings)
    }
}
