//! Renames a server certificate.

use super::error::Faults;
use super::target::{own_id, required};
use super::{App, Call, Error, Fault, Resource, Role};
use crate::certificate::ServerCertificateName;

/// Which certificate, and its new name.
#[derive(Debug)]
pub struct SetServerCertificateName {
    /// Its region.
    pub region_id: String,
    /// Its id.
    pub server_certificate_id: String,
    /// Its new name.
    pub server_certificate_name: String,
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
        let id = own_id(call, id)?;
        let renamed = self.0.store.rename(call.change(id), &region, &name).await?;
        renamed.ok_or(Error::NotFound(Resource::ServerCertificate(Some(id))))
    }
}
