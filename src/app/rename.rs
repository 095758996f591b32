//! Renames a certificate.

use super::error::Faults;
use super::target::{Target, TargetCertificate, id_field, name_field, own_id, required, revision_of};
use super::{App, Call, Error, Fault, Role};
use crate::inventory::CertificateName;
use crate::store::Liveness;

impl App {
    /// Gives it a new name; answers its revision after that. Its region is required.
    pub async fn rename(&self, call: &Call, request: &TargetCertificate, name: &str) -> Result<i64, Error> {
        call.caller.require(Role::Editor)?;
        let kind = request.kind;
        let mut faults = Faults::default();
        let region = faults.check("region_id", self.region(&request.region_id));
        let id = faults.check(id_field(kind), required(id_field(kind), &request.id));
        let name = CertificateName::parse(name).map_err(Fault::Name);
        let name = faults.check(name_field(kind), name);
        let (Some(region), Some(id), Some(name)) = (region, id, name) else {
            return Err(faults.into());
        };
        let target = Target {
            id: own_id(call, kind, id)?,
            region: Some(region),
            revision: revision_of(&request.if_etag),
        };
        match self.0.store.rename(target.changing(call), &name).await? {
            Some(revision) => Ok(revision),
            None => Err(target.why_unchanged(self, Liveness::Live).await),
        }
    }
}
