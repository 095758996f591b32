//! Resource groups: makes, lists, renames and deletes them, and moves certificates between them.

use super::page::{List, page_size};
use super::resources::{named_ids, resource_type};
use super::target::{Target, required, revision_of};
use super::violation::Violations;
use super::{App, Call, Error, Field, FieldError, Resource};
use crate::inventory::{CertificateName, ResourceGroupId};
use crate::store::{GroupDeletion, GroupRenaming, Liveness, Position, ResourceGroup};
use crate::{clock, digest};

/// The name of every account's default group.
const DEFAULT_NAME: &str = "default";

/// A certificate to move, and its new group.
#[derive(Debug)]
pub struct MoveResourceGroup {
    /// The region of the certificate.
    pub region_id: String,
    /// The id of the certificate.
    pub resource_id: String,
    /// `certificate`.
    pub resource_type: String,
    /// The id of the new group.
    pub new_resource_group_id: String,
    /// The etag of the certificate; empty: any.
    pub if_etag: String,
}

/// A page of resource groups.
#[derive(Debug)]
pub struct ListedResourceGroups {
    /// The default group, then the other groups, oldest first.
    pub groups: Vec<ResourceGroup>,
    /// The token of the next page; empty on the last.
    pub next_page_token: String,
}

impl App {
    /// Makes a group with this name, or returns the existing one.
    pub async fn make_resource_group(&self, call: &Call, name: &str) -> Result<ResourceGroup, Error> {
        let name = group_name(name)?;
        let scope = &call.caller.scope;
        // The new group would be outside the scope.
        if !scope.resource_groups.is_empty() {
            let error = FieldError::OutOfScope(scope.clone());
            return Err(Error::field(Field::ResourceGroupName, error));
        }
        if name.as_str() == DEFAULT_NAME {
            return Ok(default_group(call));
        }
        let id = ResourceGroupId::new(clock::now(), digest::random()?);
        Ok(self.0.store.make_resource_group(&call.actor(), &id, &name).await?)
    }

    /// A page of the groups that exist for the caller.
    pub async fn resource_groups(
        &self,
        call: &Call,
        asked_size: i32,
        page_token: &str,
    ) -> Result<ListedResourceGroups, Error> {
        let (account, scope) = call.reach();
        let list = List {
            name: "ListResourceGroups",
            account,
            filter: &[],
        };
        let mut violations = Violations::default();
        let size = violations.check(Field::PageSize, page_size(asked_size));
        // A token has the id of the last group of the page. For the default group, it has no id.
        let after = match page_token {
            "" => Ok(None),
            token => self.0.page_tokens.read_sorted(list, token).and_then(|(_, id)| {
                let id = String::from_utf8(id).map_err(|_| FieldError::PageToken)?;
                Ok(Some(id))
            }),
        };
        let after = violations.check(Field::PageToken, after);
        let (Some(size), Some(after)) = (size, after) else {
            return Err(violations.into());
        };
        let default_group = default_group(call);
        let mut groups = Vec::new();
        if after.is_none() && scope.has_resource_group(&default_group.id) {
            groups.push(default_group.clone());
        }
        // One extra row tells whether there is a next page.
        let rest = size + 1 - groups.len();
        let after = after.unwrap_or_default();
        groups.extend(match &scope.resource_groups[..] {
            [] => self.0.store.resource_groups(account, &after, rest).await?,
            ids => {
                let groups = self.0.store.resource_groups_of_scope(account, ids, &after, rest);
                groups.await?
            }
        });
        let has_more = groups.len() > size;
        groups.truncate(size);
        let next = groups.last().filter(|_| has_more).map(|last| {
            let id = if *last == default_group { "" } else { last.id.as_str() };
            self.0.page_tokens.write_sorted(list, Position::START, id.as_bytes())
        });
        let next = next.transpose()?;
        Ok(ListedResourceGroups {
            groups,
            next_page_token: next.unwrap_or_default(),
        })
    }

    /// Renames a group. The default group keeps its name.
    pub async fn rename_resource_group(&self, call: &Call, id: &str, name: &str) -> Result<ResourceGroup, Error> {
        let mut violations = Violations::default();
        let id = violations.check(Field::ResourceGroupId, required(id));
        let name = violations.check(
            Field::ResourceGroupName,
            CertificateName::parse(name).map_err(FieldError::Name),
        );
        let (Some(id), Some(name)) = (id, name) else {
            return Err(violations.into());
        };
        let id = own_group(call, id)?;
        if name.as_str() == DEFAULT_NAME {
            return Err(Error::field(Field::ResourceGroupName, FieldError::GroupNameTaken));
        }
        match self.0.store.rename_resource_group(&call.actor(), &id, &name).await? {
            GroupRenaming::Renamed => Ok(ResourceGroup {
                id,
                name: name.as_str().to_owned(),
            }),
            GroupRenaming::NameTaken => Err(Error::field(Field::ResourceGroupName, FieldError::GroupNameTaken)),
            GroupRenaming::NotFound => Err(Error::NotFound(Resource::ResourceGroup)),
        }
    }

    /// Deletes a group that no certificate is in, not even a deleted one. The default group stays.
    pub async fn delete_resource_group(&self, call: &Call, id: &str) -> Result<(), Error> {
        let id = required(id).map_err(|error| Error::field(Field::ResourceGroupId, error))?;
        let id = own_group(call, id)?;
        match self.0.store.delete_resource_group(&call.actor(), &id).await? {
            GroupDeletion::Deleted => Ok(()),
            GroupDeletion::NotEmpty => Err(Error::ResourceGroupNotEmpty(id)),
            GroupDeletion::NotFound => Err(Error::NotFound(Resource::ResourceGroup)),
        }
    }

    /// Moves a server or CA certificate into another group and returns its new revision.
    pub async fn move_resource_group(&self, call: &Call, request: &MoveResourceGroup) -> Result<i64, Error> {
        let mut violations = Violations::default();
        let region = violations.check(Field::RegionId, self.region(call, &request.region_id));
        let id = violations.check(Field::ResourceId, required(&request.resource_id));
        let of_type = violations.check(Field::ResourceType, resource_type(&request.resource_type));
        let group = violations.check(Field::NewResourceGroupId, required(&request.new_resource_group_id));
        let (Some(region), Some(id), Some(()), Some(group)) = (region, id, of_type, group) else {
            return Err(violations.into());
        };
        let group = self.resource_group(call, group).await?;
        let id = named_ids(call, &[id.to_owned()])?[0];
        let target = Target {
            id,
            kind: None,
            region: Some(region),
            revision: revision_of(&request.if_etag),
            scope: call.caller.scope.clone(),
        };
        let actor = call.actor();
        match self
            .0
            .store
            .move_to_group(target.precondition(), &actor, &group)
            .await?
        {
            Some(revision) => Ok(revision),
            None => Err(target.explain_no_match(self, Liveness::Live).await),
        }
    }

    /// The group with this id that exists for the caller; empty: the account's default group.
    pub(super) async fn resource_group(&self, call: &Call, id: &str) -> Result<ResourceGroupId, Error> {
        let account = call.caller.account;
        let group = match id {
            "" => ResourceGroupId::default_of(account),
            id => group_of_scope(call, id)?,
        };
        match self.0.store.has_resource_group(account, &group).await? {
            true => Ok(group),
            false => Err(Error::NotFound(Resource::ResourceGroup)),
        }
    }
}

fn group_name(name: &str) -> Result<CertificateName, Error> {
    CertificateName::parse(name).map_err(|error| Error::field(Field::ResourceGroupName, FieldError::Name(error)))
}

/// The id of a group of the caller's scope.
fn group_of_scope(call: &Call, id: &str) -> Result<ResourceGroupId, Error> {
    let id = ResourceGroupId::parse(id).filter(|id| call.caller.scope.has_resource_group(id));
    id.ok_or(Error::NotFound(Resource::ResourceGroup))
}

/// The id of a group that can be renamed and deleted.
fn own_group(call: &Call, id: &str) -> Result<ResourceGroupId, Error> {
    let id = group_of_scope(call, id)?;
    if id == ResourceGroupId::default_of(call.caller.account) {
        return Err(Error::field(Field::ResourceGroupId, FieldError::DefaultGroup));
    }
    Ok(id)
}

fn default_group(call: &Call) -> ResourceGroup {
    ResourceGroup {
        id: ResourceGroupId::default_of(call.caller.account),
        name: DEFAULT_NAME.to_owned(),
    }
}
