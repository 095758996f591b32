//! Renames a server certificate.

use super::error::Faults;
use super::target::{Target, own_id, required, revision_of};
use super::{App, Call, Error, Fault, Role};
use crate::certificate::ServerCertificateName;
use crate::store::Liveness;

/// Which certificate, and its new name.
#[derive(Debug)]
pub struct SetServerCertificateName {
    /// Its region.
    pub region_id: String,
    /// Its id.
    pub server_certificate_id: String,
    /// Its new name.
    pub server_certificate_name: String,
    /// Its etag; empty: any.
    pub if_etag: String,
}

impl App {
    /// Renames it; answers its revision after that.
    pub async fn rename(&self, call: &Call, request: &SetServerCertificateName) -> Result<i64, Error> {
        call.caller.require(Role::Editor)?;
        let mut faults = Faults::default();
        let region = faults.check("region_id", self.region(&request.region_id));
        let id = faults.check(
            "server_certificate_id",
            required("server_certificate_id", &request.server_certificate_id),
        );
        let name = ServerCertificateName::parse(&request.server_certificate_name).map_err(Fault::Name);
        let name = faults.check("server_certificate_name", name);
        let (Some(region), Some(id), Some(name)) = (region, id, name) else {
            return Err(faults.into());
        };
        let target = Target {
            id: own_id(call, id)?,
            region: Some(region),
            revision: revision_of(&request.if_etag),
        };
        match self.0.store.rename(target.changing(call), &name).await? {
            Some(revision) => Ok(revision),
            None => Err(target.why_unchanged(self, Liveness::Live).await),
        }
    }
}
