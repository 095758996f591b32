//! Resource groups: making and listing them, and moving certificates between them.

use super::describe::page_size;
use super::page_token::List;
use super::tag::{named_ids, resource_type};
use super::target::required;
use super::violation::Violations;
use super::{App, Call, Error, Field, FieldError, Resource, Role};
use crate::inventory::{CertificateId, CertificateKind, CertificateName, ResourceGroupId};
use crate::store::{Changing, Position, ResourceGroup};
use crate::{clock, digest};

/// The name of every account's default group.
const DEFAULT_NAME: &str = "default";

/// Which certificate to move, and where.
#[derive(Debug)]
pub struct MoveResourceGroup {
    /// The certificate's region.
    pub region_id: String,
    /// The certificate's id.
    pub resource_id: String,
    /// `certificate`.
    pub resource_type: String,
    /// The group to move it to.
    pub new_resource_group_id: String,
}

/// A page of resource groups.
#[derive(Debug)]
pub struct ListedResourceGroups {
    /// The groups: the default group, then the others, oldest first.
    pub groups: Vec<ResourceGroup>,
    /// The token of the next page; empty on the last.
    pub next_page_token: String,
}

impl App {
    /// Makes a group of this name, or answers the one that there is.
    pub async fn make_resource_group(&self, call: &Call, name: &str) -> Result<ResourceGroup, Error> {
        call.caller.require(Role::Admin)?;
        let name = CertificateName::parse(name)
            .map_err(|error| Error::field(Field::ResourceGroupName, FieldError::Name(error)))?;
        let account = call.caller.account;
        if name.as_str() == DEFAULT_NAME {
            return Ok(default_group(call));
        }
        let id = ResourceGroupId::new(clock::now(), digest::random()?);
        Ok(self.0.store.make_resource_group(account, &id, &name).await?)
    }

    /// A page of the account's groups.
    pub async fn resource_groups(
        &self,
        call: &Call,
        asked_size: i32,
        page_token: &str,
    ) -> Result<ListedResourceGroups, Error> {
        call.caller.require(Role::Admin)?;
        let list = List {
            name: "ListResourceGroups",
            account: call.caller.account,
            filter: &[],
        };
        let mut violations = Violations::default();
        let size = violations.check(Field::PageSize, page_size(asked_size));
        let after = violations.check(Field::PageToken, self.0.page_tokens.read(list, page_token));
        let (Some(size), Some(after)) = (size, after) else {
            return Err(violations.into());
        };
        let mut groups = Vec::new();
        let mut behind = id_at(after);
        if after == Position::START {
            groups.push(default_group(call));
            behind = String::new();
        }
        // One more tells whether there is a next page.
        let account = call.caller.account;
        groups.extend(
            self.0
                .store
                .resource_groups(account, &behind, size + 1 - groups.len())
                .await?,
        );
        let has_more = groups.len() > size;
        groups.truncate(size);
        let next = groups.last().filter(|_| has_more).map(|last| position_of(&last.id));
        Ok(ListedResourceGroups {
            groups,
            next_page_token: self.next_page_token(list, next),
        })
    }

    /// Moves a certificate of either kind; answers its revision after that.
    pub async fn move_resource_group(&self, call: &Call, request: &MoveResourceGroup) -> Result<i64, Error> {
        call.caller.require(Role::Editor)?;
        let mut violations = Violations::default();
        let region = violations.check(Field::RegionId, self.region(&request.region_id));
        let id = violations.check(Field::ResourceId, required(&request.resource_id));
        let of_type = violations.check(Field::ResourceType, resource_type(&request.resource_type));
        let group = violations.check(Field::NewResourceGroupId, required(&request.new_resource_group_id));
        let (Some(region), Some(id), Some(()), Some(group)) = (region, id, of_type, group) else {
            return Err(violations.into());
        };
        let group = self.resource_group(call, group).await?;
        let id = named_ids(call, &[id.to_owned()])?[0];
        for kind in CertificateKind::ALL {
            let changing = Changing {
                change: call.change(CertificateId { kind, ..id }),
                region: Some(&region),
                revision: None,
            };
            if let Some(revision) = self.0.store.move_to_group(changing, &group).await? {
                return Ok(revision);
            }
        }
        Err(Error::NotFound(Resource::of(id)))
    }

    /// The group of the account that a caller names; none named is the default one.
    pub(super) async fn resource_group(&self, call: &Call, id: &str) -> Result<ResourceGroupId, Error> {
        let account = call.caller.account;
        if id.is_empty() {
            return Ok(ResourceGroupId::default_of(account));
        }
        let group = ResourceGroupId::parse(id).ok_or(Error::NotFound(Resource::ResourceGroup))?;
        match self.0.store.has_resource_group(account, &group).await? {
            true => Ok(group),
            false => Err(Error::NotFound(Resource::ResourceGroup)),
        }
    }
}

/// The place of a group in the list: the digits of its id; before all others that of the default group.
fn position_of(id: &ResourceGroupId) -> Position {
    let digits = id.as_str().trim_start_matches("rg-");
    let half = |digits: Option<&str>| {
        let half = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        half.unwrap_or_default().cast_signed()
    };
    match digits.len() {
        32 => Position {
            created_ms: half(digits.get(..16)),
            random: half(digits.get(16..)),
        },
        _ => Position {
            created_ms: 0,
            random: 0,
        },
    }
}

fn id_at(position: Position) -> String {
    format!("rg-{:016x}{:016x}", position.created_ms, position.random)
}

fn default_group(call: &Call) -> ResourceGroup {
    ResourceGroup {
        id: ResourceGroupId::default_of(call.caller.account),
        name: DEFAULT_NAME.to_owned(),
    }
}
