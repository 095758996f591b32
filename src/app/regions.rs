//! The regions of the service, and the region that a call names.

use super::{App, Error, Field, FieldError};
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
    /// Every region, ordered by id.
    pub fn describe_regions(&self, request: &DescribeRegions) -> Result<Vec<DescribedRegion<'_>>, Error> {
        let language = Language::parse(&request.accept_language)
            .map_err(|error| Error::field(Field::AcceptLanguage, FieldError::Language(error)))?;
        let regions = self.0.settings.regions.iter();
        Ok(regions
            .map(|region| DescribedRegion {
                id: region.id.as_str(),
                local_name: region.local_name(language),
            })
            .collect())
    }

    /// The region of a call that needs one. An empty id means the only region of the service.
    pub(super) fn region(&self, id: &str) -> Result<RegionId, FieldError> {
        self.0.settings.regions.find_or_only(id).map_err(FieldError::Region)
    }

    /// The region that a call asks for. An empty id means any region.
    pub(super) fn region_or_any(&self, id: &str) -> Result<Option<RegionId>, FieldError> {
        match self.0.settings.regions.find(id) {
            Err(RegionError::Missing) => Ok(None),
            found => found.map(Some).map_err(FieldError::Region),
        }
    }
}
