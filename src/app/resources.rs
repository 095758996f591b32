//! The certificates that a call on tags or resource groups names. They can be server and CA certificates.

use super::target::own_id;
use super::violation::Violations;
use super::{App, Call, Error, Field, FieldError};
use crate::inventory::{CertificateId, RegionId};

/// The maximum number of resources in one call.
pub(super) const MAX_RESOURCES: usize = 20;
/// The only resource type: certificates of both kinds.
pub const RESOURCE_TYPE: &str = "certificate";

/// The certificates that a call on tags is about.
#[derive(Debug)]
pub struct TaggedResources {
    /// The region of the certificates.
    pub region_id: String,
    /// `certificate`.
    pub resource_type: String,
    /// The ids, 1 to 20.
    pub resource_ids: Vec<String>,
}

impl App {
    /// Checks all fields and returns the region; `None` if a field is wrong.
    pub(super) fn named_resources(
        &self,
        call: &Call,
        request: &TaggedResources,
        violations: &mut Violations,
    ) -> Option<RegionId> {
        let region = violations.check(Field::RegionId, self.region(call, &request.region_id));
        let resource_type = violations.check(Field::ResourceType, resource_type(&request.resource_type));
        let error = match request.resource_ids.len() {
            0 => Some(FieldError::Required),
            1..=MAX_RESOURCES => None,
            count => Some(FieldError::TooMany {
                count,
                max: MAX_RESOURCES,
            }),
        };
        let is_right = error.is_none();
        violations.note(Field::ResourceIds, error);
        region.filter(|_| is_right && resource_type.is_some())
    }
}

/// Checks a resource type.
pub(super) fn resource_type(asked: &str) -> Result<(), FieldError> {
    match asked {
        "" => Err(FieldError::Required),
        RESOURCE_TYPE => Ok(()),
        _ => Err(FieldError::ResourceType),
    }
}

/// Reads ids of the caller's account. An id does not tell the kind of its certificate.
pub(super) fn named_ids(call: &Call, ids: &[String]) -> Result<Vec<CertificateId>, Error> {
    ids.iter().map(|id| own_id(call, None, id)).collect()
}
