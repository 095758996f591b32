//! Renames a certificate.

use super::target::{Target, TargetCertificate, own_id, required, revision_of};
use super::violation::Violations;
use super::{App, Call, Error, Field, FieldError};
use crate::inventory::CertificateName;
use crate::store::Liveness;

impl App {
    /// Gives the certificate a new name and returns its new revision. The request must have the region.
    pub async fn rename(&self, call: &Call, request: &TargetCertificate, name: &str) -> Result<i64, Error> {
        let kind = request.kind;
        let mut violations = Violations::default();
        let region = violations.check(Field::RegionId, self.region(call, &request.region_id));
        let id = violations.check(Field::CertificateId(kind), required(&request.id));
        let name = violations.check(Field::CertificateName(kind), new_name(call, name));
        let (Some(region), Some(id), Some(name)) = (region, id, name) else {
            return Err(violations.into());
        };
        let target = Target {
            id: own_id(call, Some(kind), id)?,
            kind: Some(kind),
            region: Some(region),
            revision: revision_of(&request.if_etag),
            scope: call.caller.scope.clone(),
        };
        match self.0.store.rename(target.precondition(), &call.actor(), &name).await? {
            Some(revision) => Ok(revision),
            None => Err(target.explain_no_match(self, Liveness::Live).await),
        }
    }
}

/// A new name of a certificate, if it is in the caller's scope.
pub(super) fn new_name(call: &Call, name: &str) -> Result<CertificateName, FieldError> {
    let name = CertificateName::parse(name).map_err(FieldError::Name)?;
    let scope = &call.caller.scope;
    match scope.has_name(&name) {
        true => Ok(name),
        false => Err(FieldError::OutOfScope(scope.clone())),
    }
}
