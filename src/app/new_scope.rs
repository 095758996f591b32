//! The scope of a new access key or client identity.

use super::violation::Violations;
use super::{App, Error, Field, FieldError, Resource};
use crate::account::AccountId;
use crate::inventory::{ResourceGroupId, Scope, parse_name_prefix};

/// A scope as a caller sent it.
#[derive(Debug, Default)]
pub struct NewScope {
    /// The ids of the regions.
    pub region_ids: Vec<String>,
    /// The ids of the resource groups.
    pub resource_group_ids: Vec<String>,
    /// The beginnings of names.
    pub name_prefixes: Vec<String>,
}

impl App {
    /// Checks a scope, except for the existence of its resource groups.
    pub(super) fn parse_scope(&self, scope: &NewScope, violations: &mut Violations) -> Result<Scope, Error> {
        for (field, len) in [
            (Field::ScopeRegionIds, scope.region_ids.len()),
            (Field::ScopeResourceGroupIds, scope.resource_group_ids.len()),
            (Field::ScopeNamePrefixes, scope.name_prefixes.len()),
        ] {
            let too_many = (len > Scope::MAX_LEN).then_some(FieldError::TooMany {
                count: len,
                max: Scope::MAX_LEN,
            });
            violations.note(field, too_many);
        }
        let regions = scope.region_ids.iter().enumerate().take(Scope::MAX_LEN);
        let regions = regions.filter_map(|(index, id)| {
            let region = self.0.settings.regions.find_or_only(id).map_err(FieldError::Region);
            violations.check(Field::ScopeRegionId(index), region)
        });
        let regions = regions.collect();
        let prefixes = scope.name_prefixes.iter().enumerate().take(Scope::MAX_LEN);
        let prefixes = prefixes.filter_map(|(index, prefix)| {
            let prefix = parse_name_prefix(prefix).map_err(FieldError::Criterion);
            violations.check(Field::ScopeNamePrefix(index), prefix)
        });
        let name_prefixes = prefixes.collect();
        let groups = scope.resource_group_ids.iter().take(Scope::MAX_LEN);
        let groups = groups.map(|id| ResourceGroupId::parse(id).ok_or(Error::NotFound(Resource::ResourceGroup)));
        Ok(Scope {
            regions,
            // Wrong fields are reported before a resource that does not exist.
            resource_groups: match violations.is_empty() {
                true => groups.collect::<Result<_, _>>()?,
                false => Vec::new(),
            },
            name_prefixes,
        })
    }

    /// Refuses a scope with a resource group that the account does not have.
    pub(super) async fn find_groups_of_scope(&self, account: AccountId, scope: &Scope) -> Result<(), Error> {
        for group in &scope.resource_groups {
            if !self.0.store.has_resource_group(account, group).await? {
                return Err(Error::NotFound(Resource::ResourceGroup));
            }
        }
        Ok(())
    }
}
