//! Checks a pair: reports everything that an upload would report, and stores nothing.

use super::cpu_pool::Cost;
use super::violation::Violations;
use super::{App, Call, Error, Violation, reuse};
use crate::certificate::{Authorities, Policy, Report, UnverifiedPair};
use crate::clock;
use crate::inventory::CertificateKind;
use crate::secret::Secret;

/// A pair to check, or certificates without a key.
#[derive(Debug)]
pub struct CheckServerCertificate {
    /// The certificate and its chain, in PEM. A secret, because people paste private keys into it.
    pub server_certificate: Secret,
    /// The private key, in PEM. If it is empty, only the certificates are checked.
    pub private_key: Secret,
}

/// The result of a check.
#[derive(Debug)]
pub struct CheckReport {
    /// The violations of the fields, in the request's order.
    pub violations: Vec<Violation>,
    /// The certificates, the findings and the verdict.
    pub report: Report,
}

/// Checks by this policy, without a service.
pub fn check(request: &CheckServerCertificate, policy: &Policy) -> CheckReport {
    CheckReport::of(report(request, policy, &Authorities::default()))
}

fn report(request: &CheckServerCertificate, policy: &Policy, authorities: &Authorities) -> Report {
    let pair = UnverifiedPair::read(request.server_certificate.expose(), &request.private_key);
    pair.report(clock::now(), policy, authorities)
}

impl CheckReport {
    fn of(report: Report) -> Self {
        let mut violations = Violations::default();
        let error = &report.error;
        violations.certificate(error.certificate.clone(), &error.rejected);
        violations.private_key(error.private_key.clone(), &error.rejected);
        Self {
            violations: violations.into_noted(),
            report,
        }
    }
}

impl App {
    /// Checks by the service's policy, and compares with the account's certificates.
    pub async fn check(&self, call: &Call, request: CheckServerCertificate) -> Result<CheckReport, Error> {
        let app = self.clone();
        let checking = move || report(&request, &app.policy(), &app.0.authorities);
        // A check signs with the key, which takes longer than everything else.
        let mut report = self.0.cpu_pool.run(Cost::Blocking, checking).await?;
        if let Some(leaf) = &report.leaf {
            let of_reuse = self.reuse(call, CertificateKind::Server, leaf).await?;
            let rejected = reuse::rejected(&of_reuse);
            report.is_accepted &= rejected.is_empty();
            report.error.rejected.extend(rejected);
            report.error.findings = reuse::and(report.error.findings, of_reuse);
        }
        Ok(CheckReport::of(report))
    }
}
