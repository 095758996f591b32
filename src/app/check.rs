//! The check: everything that an upload would find, with nothing stored.

use super::cores::Work;
use super::violation::Violations;
use super::{App, Call, Error, Role, Violation, reuse};
use crate::certificate::{Authorities, Policy, Report, UnverifiedPair};
use crate::clock;
use crate::inventory::CertificateKind;
use crate::secret::Secret;

/// A pair to check, or certificates without their key.
#[derive(Debug)]
pub struct CheckServerCertificate {
    /// The certificate and its chain, in PEM. A secret, since people paste keys into it.
    pub server_certificate: Secret,
    /// Its key, in PEM; empty: there is none to check.
    pub private_key: Secret,
}

/// What was found.
#[derive(Debug)]
pub struct Checked {
    /// What is wrong with the fields, in the request's order.
    pub violations: Vec<Violation>,
    /// Everything else.
    pub report: Report,
}

/// Checks by a policy. Needs no service: it stands on nothing but the pair and the time.
pub fn check(request: &CheckServerCertificate, policy: &Policy) -> Checked {
    Checked::of(report(request, policy, &Authorities::default()))
}

fn report(request: &CheckServerCertificate, policy: &Policy, authorities: &Authorities) -> Report {
    let pair = UnverifiedPair::read(request.server_certificate.expose(), &request.private_key);
    pair.report(clock::now(), policy, authorities)
}

impl Checked {
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
    /// Checks by the service's policy, and against what the account has.
    pub async fn check(&self, call: &Call, request: CheckServerCertificate) -> Result<Checked, Error> {
        call.caller.require(Role::Editor)?;
        let app = self.clone();
        let checking = move || report(&request, &app.0.settings.policy, &app.0.authorities);
        // It signs, which takes longer than all else.
        let mut report = self.0.cores.run(Work::Much, checking).await?;
        if let Some(leaf) = &report.leaf {
            let of_reuse = self.reuse(call, CertificateKind::Server, leaf).await?;
            let rejected = reuse::rejected(&of_reuse);
            report.is_accepted &= rejected.is_empty();
            report.error.rejected.extend(rejected);
            report.error.findings = reuse::and(report.error.findings, of_reuse);
        }
        Ok(Checked::of(report))
    }
}
