//! The certificate that a call is about: an id and a region, as all calls on one certificate have them.

use super::error::Faults;
use super::{App, Call, Error, Fault, Resource};
use crate::certificate::{RegionError, RegionId, ServerCertificateId};

pub(super) struct Target {
    pub(super) id: ServerCertificateId,
    /// `None`: any region.
    pub(super) region: Option<RegionId>,
}

impl Target {
    /// Reads both fields; the region may be absent. What is no id of the caller's account is not found.
    pub(super) fn parse(app: &App, call: &Call, region_id: &str, id: &str) -> Result<Self, Error> {
        let mut faults = Faults::default();
        let region = faults.check("region_id", app.region_or_any(region_id));
        let id = faults.check("server_certificate_id", required("server_certificate_id", id));
        let (Some(region), Some(id)) = (region, id) else {
            return Err(faults.into());
        };
        Ok(Self {
            id: own_id(call, id)?,
            region,
        })
    }

    pub(super) fn not_found(&self) -> Error {
        Error::NotFound(Resource::ServerCertificate(Some(self.id)))
    }
}

/// The id, if it is one of the caller's account.
pub(super) fn own_id(call: &Call, id: &str) -> Result<ServerCertificateId, Error> {
    let id: Option<ServerCertificateId> = id.parse().ok();
    id.filter(|id| id.account == call.caller.account)
        .ok_or(Error::NotFound(Resource::ServerCertificate(id)))
}

pub(super) fn required<'a>(field: &'static str, value: &'a str) -> Result<&'a str, Fault> {
    if value.is_empty() {
        Err(Fault::Required(field))
    } else {
        Ok(value)
    }
}

impl App {
    pub(super) fn region(&self, id: &str) -> Result<RegionId, Fault> {
        self.0.regions.find(id).map_err(Fault::Region)
    }

    pub(super) fn region_or_any(&self, id: &str) -> Result<Option<RegionId>, Fault> {
        match self.0.regions.find(id) {
            Err(RegionError::Missing) => Ok(None),
            found => found.map(Some).map_err(Fault::Region),
        }
    }
}
