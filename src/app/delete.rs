//! Deletes a server certificate and its private key.

use super::target::Target;
use super::{App, Call, Error, Role};

/// Which certificate.
#[derive(Debug)]
pub struct DeleteServerCertificate {
    /// Its region; empty: any.
    pub region_id: String,
    /// Its id.
    pub server_certificate_id: String,
}

impl App {
    /// Deletes it for good.
    pub async fn delete(&self, call: &Call, request: &DeleteServerCertificate) -> Result<(), Error> {
        call.caller.require(Role::Editor)?;
        let target = Target::parse(self, call, &request.region_id, &request.server_certificate_id)?;
        let deleted = self
            .0
            .store
            .delete(call.change(target.id), target.region.as_ref())
            .await?;
        deleted.map(|_| ()).ok_or_else(|| target.not_found())
    }
}
