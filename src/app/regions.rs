//! The regions of the service, and the region that a call names.

use super::{App, Call, Error, Field, FieldError};
use crate::inventory::{Language, RegionError, RegionId};

/// The language of the region names.
#[derive(Debug)]
pub struct DescribeRegions {
    /// `zh-CN`, which is the default, `en-US` or `ja`.
    pub accept_language: String,
}

/// A region and its name in the requested language.
#[derive(Debug)]
pub struct DescribedRegion<'a> {
    /// The region's id.
    pub id: &'a str,
    /// The region's name.
    pub local_name: &'a str,
}

impl App {
    /// Every region of the caller's scope, ordered by id.
    pub fn describe_regions(&self, call: &Call, request: &DescribeRegions) -> Result<Vec<DescribedRegion<'_>>, Error> {
        let language = Language::parse(&request.accept_language)
            .map_err(|error| Error::field(Field::AcceptLanguage, FieldError::Language(error)))?;
        let regions = self.0.settings.regions.iter();
        let regions = regions.filter(|region| call.caller.scope.has_region(&region.id));
        Ok(regions
            .map(|region| DescribedRegion {
                id: region.id.as_str(),
                local_name: region.local_name(language),
            })
            .collect())
    }

    /// The region of a call that needs one, if it is in the caller's scope. An empty id means the only region of the service.
    pub(super) fn region(&self, call: &Call, id: &str) -> Result<RegionId, FieldError> {
        of_scope(call, self.0.settings.regions.find_or_only(id))
    }

    /// The region that a call asks for, if it is in the caller's scope. An empty id means any region.
    pub(super) fn region_or_any(&self, call: &Call, id: &str) -> Result<Option<RegionId>, FieldError> {
        match self.0.settings.regions.find(id) {
            Err(RegionError::Missing) => Ok(None),
            found => of_scope(call, found).map(Some),
        }
    }
}

fn of_scope(call: &Call, found: Result<RegionId, RegionError>) -> Result<RegionId, FieldError> {
    let region = found.map_err(FieldError::Region)?;
    let scope = &call.caller.scope;
    match scope.has_region(&region) {
        true => Ok(region),
        false => Err(FieldError::OutOfScope(scope.clone())),
    }
}
