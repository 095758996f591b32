//! Renaming, moving, deleting, undeleting and purging certificates.

use super::mutation::{counted, event, is_target, last_state, target};
use super::scope::{self, in_scope};
use super::write::Outcome;
use super::{Error, Liveness, Params, Statement, Store, id_columns};
use crate::account::Actor;
use crate::inventory::{CertificateId, CertificateKind, CertificateName, RegionId, ResourceGroupId, Scope};

/// The certificate to change, and what it must still be.
#[derive(Clone, Copy, Debug)]
pub struct Precondition<'a> {
    /// Its id.
    pub id: CertificateId,
    /// Its kind; `None`: any.
    pub kind: Option<CertificateKind>,
    /// Its region; `None`: any.
    pub region: Option<&'a RegionId>,
    /// Its revision; `None`: any.
    pub revision: Option<i64>,
    /// The caller's scope.
    pub scope: &'a Scope,
}

/// The outcome of an undeletion.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Undeletion {
    /// The certificate is live again, at this revision.
    Undeleted(i64),
    /// The account has as many certificates in the region as it may.
    OverQuota,
    /// There is no such deleted certificate.
    NotFound,
}

/// The present state of a certificate, for a caller that could not change it.
#[derive(Clone, Debug)]
pub struct CurrentState {
    /// Its kind.
    pub kind: CertificateKind,
    /// Its region.
    pub region: RegionId,
    /// Its revision.
    pub revision: i64,
    /// Whether it is deleted.
    pub liveness: Liveness,
}

impl Store {
    /// Renames a live certificate. Answers its new revision, or `None` if there is no such certificate.
    pub async fn rename(
        &self,
        precondition: Precondition<'_>,
        actor: &Actor,
        name: &CertificateName,
    ) -> Result<Option<i64>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::rename",
            sql: concat!(
                "-- store::rename\n",
                target!(live),
                "changed as (
                   update certificate set name = $13, revision = target.revision from target where ",
                is_target!(),
                " returning target.*
                 )",
                event!(
                    "renamed",
                    "changed",
                    "jsonb_build_object('name', jsonb_build_array(name, $13::text))"
                ),
                "select revision from changed"
            ),
        };
        let outcome = self
            .change(STATEMENT, precondition, actor, Some(&name.as_str()))
            .await?;
        Ok(revision(outcome))
    }

    /// Moves a live certificate to a resource group of its account. Answers its new revision, or `None` if there is no such
    /// certificate.
    pub async fn move_to_group(
        &self,
        precondition: Precondition<'_>,
        actor: &Actor,
        group: &ResourceGroupId,
    ) -> Result<Option<i64>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::move_to_group",
            sql: concat!(
                "-- store::move_to_group\n",
                target!(live),
                "changed as (
                   update certificate set resource_group_id = $13, revision = target.revision from target where ",
                is_target!(),
                " returning target.*
                 )",
                event!(
                    "moved",
                    "changed",
                    "jsonb_build_object('resource_group_id', jsonb_build_array(resource_group_id, $13::text))"
                ),
                "select revision from changed"
            ),
        };
        let group = group.stored(precondition.id.account);
        let outcome = self.change(STATEMENT, precondition, actor, Some(&group)).await?;
        Ok(revision(outcome))
    }

    /// Deletes a live certificate, which can be undeleted. Answers its new revision, or `None` if there is no such certificate, or if a
    /// holder serves it (keep_held) and the deletion is not by force.
    pub async fn delete(
        &self,
        precondition: Precondition<'_>,
        actor: &Actor,
        force: bool,
    ) -> Result<Option<i64>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::delete",
            sql: concat!(
                "-- store::delete\n",
                target!(live),
                "changed as (
                   update certificate set deleted_at = now(), deleted_by_force = $13, revision = target.revision from target where ",
                is_target!(),
                " returning target.*
                 )",
                counted!("live = live - 1, deleted = deleted + 1"),
                event!(
                    "deleted",
                    "counted",
                    "case when $13 then jsonb_build_object('deleted_by_force', jsonb_build_array(false, true)) end"
                ),
                "select revision from counted"
            ),
        };
        Ok(revision(
            self.change(STATEMENT, precondition, actor, Some(&force)).await?,
        ))
    }

    /// Removes a deleted certificate with its keys, versions and tags. Answers its last revision, or `None` if there is no such certificate.
    pub async fn purge(&self, precondition: Precondition<'_>, actor: &Actor) -> Result<Option<i64>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::purge",
            sql: concat!(
                "-- store::purge\n",
                target!(deleted),
                "changed as (delete from certificate using target where ",
                is_target!(),
                " returning target.*),
                 name_row as (
                   delete from searchable_name as named using changed
                   where named.account_id = $1 and named.searchable_name = any(changed.searchable_names)
                     and named.created_ms = $2 and named.random = $3
                 )",
                counted!("deleted = deleted - 1"),
                event!("purged", "counted", last_state!()),
                "select revision from counted"
            ),
        };
        Ok(revision(self.change(STATEMENT, precondition, actor, None).await?))
    }

    /// Makes a deleted certificate live again, if the quota of its account allows one more in its region. `quota` is for an account
    /// that has none of its own.
    pub async fn undelete(
        &self,
        precondition: Precondition<'_>,
        actor: &Actor,
        quota: i64,
    ) -> Result<Undeletion, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::undelete",
            sql: concat!(
                "-- store::undelete\n",
                target!(deleted),
                "counter as (
                   update certificate_count as counter set live = live + 1, deleted = deleted - 1 from target
                   where counter.account_id = target.account_id and counter.kind = target.kind
                     and counter.region_id = target.region_id
                     and counter.live < coalesce(
                       (select maximum from quota where quota.account_id = $1 and quota.kind = target.kind), $13::bigint
                     )
                   returning 1
                 ),
                 changed as (
                   update certificate set deleted_at = null, deleted_by_force = false, revision = target.revision
                   from target cross join counter where ",
                is_target!(),
                " returning target.*
                 )",
                event!("undeleted", "changed"),
                "select (select revision from changed) as revision from target"
            ),
        };
        Ok(match self.change(STATEMENT, precondition, actor, Some(&quota)).await? {
            Outcome::Earlier(revision) => Undeletion::Undeleted(revision),
            Outcome::Rows(rows) => match rows.first().map(|row| row.get::<_, Option<i64>>(0)) {
                Some(Some(revision)) => Undeletion::Undeleted(revision),
                Some(None) => Undeletion::OverQuota,
                None => Undeletion::NotFound,
            },
        })
    }

    /// The present state of a certificate of this scope, deleted or not.
    pub async fn current_state(
        &self,
        id: CertificateId,
        kind: Option<CertificateKind>,
        scope: &Scope,
    ) -> Result<Option<CurrentState>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::current_state",
            sql: concat!(
                "-- store::current_state
                 select kind, region_id, revision, deleted_at is not null as is_deleted from certificate
                 where account_id = $1 and created_ms = $2 and random = $3 and ($4::text is null or kind = $4) and ",
                in_scope!("$5", "$6", "$7")
            ),
        };
        let (account, created, random) = id_columns(id);
        let kind = kind.map(CertificateKind::as_str);
        let [regions, groups, prefixes] = scope::parameters(scope, id.account);
        let params: Params<'_> = &[&account, &created, &random, &kind, &regions, &groups, &prefixes];
        let rows = self.read(STATEMENT, params).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        Ok(Some(CurrentState {
            kind: CertificateKind::from_name(row.get("kind")).ok_or(Error::Row("certificate"))?,
            region: RegionId::from_stored(row.get("region_id")),
            revision: row.get("revision"),
            liveness: match row.get("is_deleted") {
                true => Liveness::Deleted,
                false => Liveness::Live,
            },
        }))
    }
}

/// The certificate's revision after the change.
fn revision(outcome: Outcome) -> Option<i64> {
    match outcome {
        Outcome::Rows(rows) => rows.first().map(|row| row.get(0)),
        Outcome::Earlier(revision) => Some(revision),
    }
}
