//! Timed leases, and the list of all leases.

use std::net::IpAddr;

use tokio_postgres::Row;
use uuid::Uuid;

use super::holder::{LeaseVersions, MAX_HOLDERS};
use super::scope::{self, MAX_SCANNED, in_scope};
use super::statement::Confirm;
use super::{Error, Params, Position, Statement, Store, id_columns};
use crate::account::{AccountId, Actor};
use crate::clock::Timestamp;
use crate::inventory::{CertificateId, RegionId, Scope};

/// A lease: a holder serves a certificate.
#[derive(Clone, Debug)]
pub struct Lease {
    /// The certificate.
    pub id: CertificateId,
    /// The id of the holder.
    pub holder_id: Uuid,
    /// The name of the holder.
    pub holder: String,
    /// `timed`, `watch` or `sds`.
    pub kind: String,
    /// The caller that holds it.
    pub principal: String,
    /// The address that the holder called from.
    pub address: Option<IpAddr>,
    /// The program and its version.
    pub user_agent: String,
    /// When the lease began.
    pub bound: Timestamp,
    /// When the lease ends; `None`: with its stream.
    pub expires: Option<Timestamp>,
    /// The versions.
    pub versions: LeaseVersions,
}

/// A timed holder, as its caller names it.
#[derive(Clone, Copy, Debug)]
pub struct TimedHolder<'a> {
    /// The caller.
    pub actor: &'a Actor,
    /// The name.
    pub name: &'a str,
    /// The program and its version.
    pub user_agent: &'a str,
}

/// The outcome of binding a certificate to a timed holder.
#[derive(Clone, Debug)]
pub enum TimedBinding {
    /// The holder has this lease.
    Bound(Box<Lease>),
    /// There is no such live certificate.
    NotFound,
    /// The certificate has as many holders as it may.
    TooManyHolders,
    /// The time of the holder is over, and it still has a row.
    Expired,
}

/// The leases of a holder after their renewal.
#[derive(Clone, Debug)]
pub struct RenewedLeases {
    /// When they end.
    pub expires: Timestamp,
    /// The present version of each live certificate that the holder holds.
    pub versions: Vec<(CertificateId, i64)>,
}

/// Which leases to list.
#[derive(Clone, Copy, Debug)]
pub struct LeaseFilter<'a> {
    /// The certificate; `None`: any.
    pub id: Option<CertificateId>,
    /// The name of the holder; `None`: any.
    pub holder: Option<&'a str>,
    /// Only holders that do not serve the present version.
    pub behind: bool,
}

/// A page of leases.
#[derive(Debug)]
pub struct LeasePage {
    /// The leases, ordered by certificate and holder.
    pub leases: Vec<Lease>,
    /// Where the next page begins, if there are more.
    pub next: Option<(Position, Uuid)>,
}

/// The columns of a [`Lease`], from the tables `lease` and `holder`.
macro_rules! lease_columns {
    () => {
        "lease.created_ms, lease.random, holder.holder_id, holder.name as holder, holder.kind as holder_kind, holder.principal,
           holder.address, holder.user_agent, (extract(epoch from lease.bound_at) * 1000)::bigint as bound_ms,
           (extract(epoch from holder.expires_at) * 1000)::bigint as expires_ms, lease.sent_version, lease.served_version,
           lease.rejected_version, lease.rejection"
    };
}

/// Whether a row of `holder` is alive, as is_held decides.
macro_rules! is_alive {
    () => {
        "(holder.expires_at > clock_timestamp() or exists (
           select from replica
           where replica.replica_id = holder.replica_id and seen_at > clock_timestamp() - interval '30 seconds'
         ))"
    };
}

/// The live holders of a certificate, counted up to the limit. Dead holders stay in the table for some time. They are looked at only
/// where the rows reach the limit, and at most three times the limit of rows.
macro_rules! holder_count {
    ($account:literal, $created:literal, $random:literal, $limit:literal) => {
        concat!(
            "(select case when count(*) < ",
            $limit,
            "::bigint then count(*) else (
               select count(*) from (
                 select holder_id from lease
                 where account_id = ",
            $account,
            " and created_ms = ",
            $created,
            " and random = ",
            $random,
            " limit 3 * ",
            $limit,
            "::bigint
               ) as lease join holder using (holder_id) where ",
            is_alive!(),
            ") end
             from (
               select from lease
               where account_id = ",
            $account,
            " and created_ms = ",
            $created,
            " and random = ",
            $random,
            " limit ",
            $limit,
            "::bigint
             ) as lease)"
        )
    };
}
pub(super) use {holder_count, is_alive};

fn lease(account: AccountId, row: &Row) -> Lease {
    let moment = |column| row.get::<_, Option<i64>>(column).map(Timestamp::from_millis);
    let rejection: Option<String> = row.get("rejection");
    Lease {
        id: id(account, row),
        holder_id: row.get("holder_id"),
        holder: row.get("holder"),
        kind: row.get("holder_kind"),
        principal: row.get("principal"),
        address: row.get("address"),
        user_agent: row.get("user_agent"),
        bound: Timestamp::from_millis(row.get("bound_ms")),
        expires: moment("expires_ms"),
        versions: LeaseVersions {
            sent: row.get("sent_version"),
            served: row.get("served_version"),
            rejected: row
                .get::<_, Option<i64>>("rejected_version")
                .map(|version| (version, rejection.unwrap_or_default())),
        },
    }
}

fn id(account: AccountId, row: &Row) -> CertificateId {
    CertificateId {
        account,
        created: Timestamp::from_millis(row.get("created_ms")),
        random: row.get("random"),
    }
}

impl Store {
    /// Binds a live server certificate to a timed holder, and renews all leases of the holder. `version: None` means that the version
    /// that the holder serves is not known.
    pub async fn bind(
        &self,
        (certificate, region, scope): (CertificateId, Option<&RegionId>, &Scope),
        holder: TimedHolder<'_>,
        new_id: Uuid,
        ttl_seconds: i32,
        version: Option<i64>,
    ) -> Result<TimedBinding, Error> {
        // The lock keeps the certificate from being deleted until the lease is committed (keep_held). Of two first calls of a holder,
        // the second one updates the row of the first.
        const STATEMENT: Statement = Statement {
            name: "store::bind",
            sql: concat!(
                "-- store::bind
                 with target as materialized (
                   select account_id, created_ms, random from certificate
                   where account_id = $1 and created_ms = $2 and random = $3 and kind = 'server'
                     and ($4::text is null or region_id = $4) and num_nulls(deleted_at) = 1 and ",
                in_scope!("$5", "$6", "$7"),
                " for share
                 ),
                 fitting as materialized (
                   select target.* from target where $15::bigint > ",
                holder_count!("$1", "$2", "$3", "$15"),
                " or exists (
                     select from lease join holder using (holder_id)
                     where lease.account_id = $1 and lease.created_ms = $2 and lease.random = $3 and holder.account_id = $1
                       and holder.principal = $8 and holder.name = $9 and holder.kind = 'timed'
                   )
                 ),
                 holder as (
                   insert into holder as known (holder_id, account_id, name, kind, principal, address, user_agent, ttl_seconds,
                     expires_at)
                   select $10::uuid, account_id, $9::text, 'timed', $8::text, $11::inet, $12::text, $13::int,
                     clock_timestamp() + $13::int * interval '1 second'
                   from fitting
                   on conflict (account_id, principal, name) where kind = 'timed' do update
                   set address = excluded.address, user_agent = excluded.user_agent, ttl_seconds = excluded.ttl_seconds,
                     expires_at = excluded.expires_at
                   where known.expires_at > clock_timestamp()
                   returning known.*
                 ),
                 lease as (
                   insert into lease as known (account_id, created_ms, random, holder_id, served_version)
                   select $1::bigint, $2::bigint, $3::bigint, holder_id, $14::bigint from holder
                   on conflict (account_id, created_ms, random, holder_id) do update
                   set served_version = coalesce(excluded.served_version, known.served_version),
                     rejected_version = case when excluded.served_version is null then known.rejected_version end,
                     rejection = case when excluded.served_version is null then known.rejection end
                   returning known.*
                 )
                 select (select count(*) from fitting) > 0 as fits, ",
                lease_columns!(),
                " from target left join holder on true left join lease using (holder_id)"
            ),
        };
        let (account, created, random) = id_columns(certificate);
        let region = region.map(RegionId::as_str);
        let [regions, groups, prefixes] = scope::parameters(scope, certificate.account);
        let params: Params<'_> = &[
            &account,
            &created,
            &random,
            &region,
            &regions,
            &groups,
            &prefixes,
            &holder.actor.principal.id(),
            &holder.name,
            &new_id,
            &holder.actor.address,
            &holder.user_agent,
            &ttl_seconds,
            &version,
            &MAX_HOLDERS,
        ];
        // Repeating the statement has no further effect, so it may run as a read.
        let rows = self.read(STATEMENT, params).await?;
        Ok(match rows.first() {
            None => TimedBinding::NotFound,
            Some(row) if !row.get::<_, bool>("fits") => TimedBinding::TooManyHolders,
            Some(row) if row.get::<_, Option<Uuid>>("holder_id").is_none() => TimedBinding::Expired,
            Some(row) => TimedBinding::Bound(Box::new(lease(certificate.account, row))),
        })
    }

    /// Removes a timed holder whose time is over, with its leases.
    pub async fn forget_holder(&self, holder: TimedHolder<'_>) -> Result<(), Error> {
        const STATEMENT: Statement = Statement {
            name: "store::forget_holder",
            sql: "-- store::forget_holder
                  delete from holder
                  where account_id = $1 and principal = $2 and name = $3 and kind = 'timed' and expires_at <= clock_timestamp()",
        };
        let params: Params<'_> = &[
            &holder.actor.account.as_i64(),
            &holder.actor.principal.id(),
            &holder.name,
        ];
        self.read(STATEMENT, params).await?;
        Ok(())
    }

    /// Renews the leases of a timed holder, and records the versions that it serves. The answer has only certificates in the scope.
    /// `None`: the holder has no lease.
    pub async fn renew_leases(
        &self,
        holder: TimedHolder<'_>,
        scope: &Scope,
        served: &[(CertificateId, i64)],
    ) -> Result<Option<RenewedLeases>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::renew_leases",
            sql: concat!(
                "-- store::renew_leases
                 with renewed as (
                   update holder set expires_at = clock_timestamp() + ttl_seconds * interval '1 second', address = $4::inet,
                     user_agent = $5::text
                   where account_id = $1 and principal = $2 and holder.name = $3 and kind = 'timed'
                     and expires_at > clock_timestamp() and exists (select from lease where lease.holder_id = holder.holder_id)
                   returning holder_id, (extract(epoch from expires_at) * 1000)::bigint as expires_ms
                 ),
                 served as (
                   update lease set served_version = given.version, rejected_version = null, rejection = null
                   from renewed cross join unnest($6::bigint[], $7::bigint[], $8::bigint[]) as given (created_ms, random, version)
                   where lease.holder_id = renewed.holder_id and lease.account_id = $1
                     and lease.created_ms = given.created_ms and lease.random = given.random
                     and (lease.served_version is distinct from given.version or lease.rejected_version is not null)
                 )
                 select expires_ms, held.created_ms, held.random, held.version from renewed left join lateral (
                   select certificate.created_ms, certificate.random, certificate.version
                   from lease cross join lateral (
                     select * from certificate
                     where account_id = $1 and created_ms = lease.created_ms and random = lease.random offset 0
                   ) as certificate
                   where lease.holder_id = renewed.holder_id and deleted_at is null and ",
                in_scope!("$9", "$10", "$11"),
                " ) as held on true
                 order by created_ms, random"
            ),
        };
        let account = holder.actor.account;
        let created: Vec<_> = served.iter().map(|(id, _)| id.created.millis()).collect();
        let random: Vec<_> = served.iter().map(|(id, _)| id.random).collect();
        let versions: Vec<_> = served.iter().map(|(_, version)| *version).collect();
        let [regions, groups, prefixes] = scope::parameters(scope, account);
        let params: Params<'_> = &[
            &account.as_i64(),
            &holder.actor.principal.id(),
            &holder.name,
            &holder.actor.address,
            &holder.user_agent,
            &created,
            &random,
            &versions,
            &regions,
            &groups,
            &prefixes,
        ];
        // Repeating the statement has no further effect, so it may run as a read.
        let rows = self.read(STATEMENT, params).await?;
        let Some(first) = rows.first() else { return Ok(None) };
        let held = |row: &Row| {
            let version: Option<i64> = row.get("version");
            Some((id_if_any(account, row)?, version?))
        };
        Ok(Some(RenewedLeases {
            expires: Timestamp::from_millis(first.get("expires_ms")),
            versions: rows.iter().filter_map(held).collect(),
        }))
    }

    /// Ends the leases of a timed holder on these certificates; `None`: on all certificates.
    pub async fn release(&self, holder: TimedHolder<'_>, ids: Option<&[CertificateId]>) -> Result<(), Error> {
        const ALL: Statement = Statement {
            name: "store::release_all",
            sql: "-- store::release_all
                  delete from holder where account_id = $1 and principal = $2 and name = $3 and kind = 'timed'",
        };
        const SOME: Statement = Statement {
            name: "store::release",
            sql: "-- store::release
                  delete from lease using holder, unnest($4::bigint[], $5::bigint[]) as given (created_ms, random)
                  where holder.account_id = $1 and holder.principal = $2 and holder.name = $3 and holder.kind = 'timed'
                    and lease.holder_id = holder.holder_id and lease.account_id = $1
                    and lease.created_ms = given.created_ms and lease.random = given.random",
        };
        let account = holder.actor.account.as_i64();
        let principal = holder.actor.principal.id();
        // Repeating the statement has no further effect, so it may run as a read. A statement that finds nothing answers for an earlier
        // release.
        match ids {
            None => {
                let params: Params<'_> = &[&account, &principal, &holder.name];
                self.read_confirmed(Confirm::Always, ALL, params).await?
            }
            Some(ids) => {
                let created: Vec<_> = ids.iter().map(|id| id.created.millis()).collect();
                let random: Vec<_> = ids.iter().map(|id| id.random).collect();
                let params: Params<'_> = &[&account, &principal, &holder.name, &created, &random];
                self.read_confirmed(Confirm::Always, SOME, params).await?
            }
        };
        Ok(())
    }

    /// At most `size` leases of live holders on certificates of the scope, after a position. A page can be shorter, or empty, before
    /// the last page.
    pub async fn leases(
        &self,
        (account, scope): (AccountId, &Scope),
        filter: LeaseFilter<'_>,
        after: (Position, Uuid),
        size: usize,
    ) -> Result<LeasePage, Error> {
        // The inner page bounds the rows that are read. The row at its limit is answered too, matching or not: the next page begins
        // there.
        const STATEMENT: Statement = Statement {
            name: "store::leases",
            sql: concat!(
                "-- store::leases
                 select * from (
                   select lease.*, (
                     ($7::text is null or holder = $7) and (not $8 or served_version is distinct from certificate.version
                       or rejected_version = certificate.version) and ",
                in_scope!("$9", "$10", "$11"),
                " ) as is_match
                   from (
                     select ",
                lease_columns!(),
                ", row_number() over (order by lease.created_ms, lease.random, lease.holder_id) = $12 as is_last, ",
                is_alive!(),
                " as is_alive
                     from (
                       select * from lease
                       where account_id = $1 and (created_ms, random, holder_id) > ($2, $3, $4)
                         and (created_ms, random) <= ($5, $6)
                       order by created_ms, random, holder_id limit $12::bigint
                     ) as lease join holder using (holder_id)
                   ) as lease cross join lateral (
                     select region_id, resource_group_id, name, version from certificate
                     where account_id = $1 and created_ms = lease.created_ms and random = lease.random offset 0
                   ) as certificate
                 ) as lease
                 where (is_match and is_alive) or is_last
                 order by created_ms, random, holder_id limit $13"
            ),
        };
        let account_id = account.as_i64();
        let [regions, groups, prefixes] = scope::parameters(scope, account);
        let last = filter.id.map_or(Position::END, Position::from);
        let limit = size as i64 + 1;
        let params: Params<'_> = &[
            &account_id,
            &after.0.created_ms,
            &after.0.random,
            &after.1,
            &last.created_ms,
            &last.random,
            &filter.holder,
            &filter.behind,
            &regions,
            &groups,
            &prefixes,
            &MAX_SCANNED,
            &limit,
        ];
        let rows = self.read(STATEMENT, params).await?;
        let is_wanted = |row: &&Row| row.get::<_, bool>("is_match") && row.get::<_, bool>("is_alive");
        let position = |row: &Row| {
            let position = Position::from(id(account, row));
            (position, row.get("holder_id"))
        };
        let matching: Vec<_> = rows.iter().filter(is_wanted).collect();
        let page = &matching[..matching.len().min(size)];
        let next = match rows.last() {
            _ if matching.len() > size => page.last().map(|last| position(last)),
            Some(last) if last.get::<_, bool>("is_last") => Some(position(last)),
            _ => None,
        };
        Ok(LeasePage {
            leases: page.iter().map(|row| lease(account, row)).collect(),
            next,
        })
    }
}

fn id_if_any(account: AccountId, row: &Row) -> Option<CertificateId> {
    row.get::<_, Option<i64>>("created_ms").map(|created| CertificateId {
        account,
        created: Timestamp::from_millis(created),
        random: row.get("random"),
    })
}
