//! The resource groups of an account.

use super::audit::audited;
use super::error::Constraint;
use super::write::Outcome;
use super::{Error, Statement, Store};
use crate::account::{AccountId, Actor};
use crate::inventory::{CertificateName, ResourceGroupId};

/// A resource group.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ResourceGroup {
    /// The group's id.
    pub id: ResourceGroupId,
    /// The group's name.
    pub name: String,
}

/// The result of renaming a group.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum GroupRenaming {
    /// The group has the new name.
    Renamed,
    /// Another group of the account has this name.
    NameTaken,
    /// The account does not have this group.
    NotFound,
}

/// The result of deleting a group.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum GroupDeletion {
    /// The group is gone.
    Deleted,
    /// A certificate is in the group, live or deleted.
    NotEmpty,
    /// The account does not have this group.
    NotFound,
}

impl Store {
    /// Makes a group with this name in the actor's account, or returns the existing one.
    pub async fn make_resource_group(
        &self,
        actor: &Actor,
        id: &ResourceGroupId,
        name: &CertificateName,
    ) -> Result<ResourceGroup, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::make_resource_group",
            sql: concat!(
                "-- store::make_resource_group
                 with existing as (
                   select resource_group_id, name from resource_group where account_id = $1 and name = $7
                 ),
                 changed as (
                   insert into resource_group (account_id, resource_group_id, name)
                   select $1, $6, $7 where not exists (select from existing)
                   returning resource_group_id, name
                 )",
                audited!(
                    "CreateResourceGroup",
                    "resource_group",
                    "resource_group_id",
                    "jsonb_build_object('name', jsonb_build_array(null, name))"
                ),
                "select resource_group_id, name from changed union all select resource_group_id, name from existing"
            ),
        };
        let made = self
            .administer(STATEMENT, actor.account, actor, &[&id.as_str(), &name.as_str()])
            .await?;
        match made {
            Outcome::Rows(rows) => rows
                .first()
                .map(|row| group(actor.account, row))
                .ok_or(Error::Row("resource_group")),
            Outcome::Earlier(_) => Ok(ResourceGroup {
                id: id.clone(),
                name: name.as_str().to_owned(),
            }),
        }
    }

    /// At most `size` of the account's groups after this id. The default group is not included.
    pub async fn resource_groups(
        &self,
        account: AccountId,
        after: &str,
        size: usize,
    ) -> Result<Vec<ResourceGroup>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::resource_groups",
            sql: "-- store::resource_groups
                  select resource_group_id, name from resource_group
                  where account_id = $1 and resource_group_id > $2 order by resource_group_id limit $3",
        };
        let rows = self
            .read(STATEMENT, &[&account.as_i64(), &after, &(size as i64)])
            .await?;
        Ok(rows.iter().map(|row| group(account, row)).collect())
    }

    /// Those of the account's groups with these ids that come after this id, at most `size`. The default group is not included.
    pub async fn resource_groups_of_scope(
        &self,
        account: AccountId,
        ids: &[ResourceGroupId],
        after: &str,
        size: usize,
    ) -> Result<Vec<ResourceGroup>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::resource_groups_of_scope",
            sql: "-- store::resource_groups_of_scope
                  select resource_group_id, name from resource_group
                  where account_id = $1 and resource_group_id = any($4) and resource_group_id > $2
                  order by resource_group_id limit $3",
        };
        let ids: Vec<_> = ids.iter().map(ResourceGroupId::as_str).collect();
        let rows = self
            .read(STATEMENT, &[&account.as_i64(), &after, &(size as i64), &ids])
            .await?;
        Ok(rows.iter().map(|row| group(account, row)).collect())
    }

    /// Whether the account has this group.
    pub async fn has_resource_group(&self, account: AccountId, id: &ResourceGroupId) -> Result<bool, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::has_resource_group",
            sql: "-- store::has_resource_group
                  select from resource_group where account_id = $1 and resource_group_id = $2",
        };
        let Some(id) = id.stored(account) else {
            return Ok(true);
        };
        Ok(!self.read(STATEMENT, &[&account.as_i64(), &id]).await?.is_empty())
    }

    /// Renames a group of the actor's account. The default group cannot be renamed.
    pub async fn rename_resource_group(
        &self,
        actor: &Actor,
        id: &ResourceGroupId,
        name: &CertificateName,
    ) -> Result<GroupRenaming, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::rename_resource_group",
            sql: concat!(
                "-- store::rename_resource_group
                 with target as (
                   select name from resource_group where account_id = $1 and resource_group_id = $6 for update
                 ),
                 changed as (
                   update resource_group set name = $7 from target where account_id = $1 and resource_group_id = $6
                   returning target.name as old_name
                 )",
                audited!(
                    "UpdateResourceGroup",
                    "resource_group",
                    "$6",
                    "jsonb_build_object('name', jsonb_build_array(old_name, $7::text))"
                ),
                "select 1 from changed"
            ),
        };
        let renamed = self
            .administer(STATEMENT, actor.account, actor, &[&id.as_str(), &name.as_str()])
            .await;
        match renamed {
            Ok(Outcome::Rows(rows)) if rows.is_empty() => Ok(GroupRenaming::NotFound),
            Ok(_) => Ok(GroupRenaming::Renamed),
            Err(Error::Constraint(Constraint::ResourceGroupName, _)) => Ok(GroupRenaming::NameTaken),
            Err(error) => Err(error),
        }
    }

    /// Deletes a group of the actor's account. The foreign keys of certificates refuse this while a certificate is in the group. This
    /// includes a certificate that another transaction adds at the same moment.
    pub async fn delete_resource_group(&self, actor: &Actor, id: &ResourceGroupId) -> Result<GroupDeletion, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::delete_resource_group",
            sql: concat!(
                "-- store::delete_resource_group
                 with changed as (
                   delete from resource_group where account_id = $1 and resource_group_id = $6 returning name
                 )",
                audited!(
                    "DeleteResourceGroup",
                    "resource_group",
                    "$6",
                    "jsonb_build_object('name', jsonb_build_array(name, null))"
                ),
                "select 1 from changed"
            ),
        };
        match self.administer(STATEMENT, actor.account, actor, &[&id.as_str()]).await {
            Ok(Outcome::Rows(rows)) if rows.is_empty() => Ok(GroupDeletion::NotFound),
            Ok(_) => Ok(GroupDeletion::Deleted),
            Err(Error::Constraint(Constraint::ResourceGroupOfCertificate, _)) => Ok(GroupDeletion::NotEmpty),
            Err(error) => Err(error),
        }
    }
}

fn group(account: AccountId, row: &tokio_postgres::Row) -> ResourceGroup {
    ResourceGroup {
        id: ResourceGroupId::from_stored(account, row.get(0)),
        name: row.get(1),
    }
}
