//! The leases of streams: the holders of this replica, and the certificates that they hold.
//!
//! A holder of a stream lasts as long as its replica is alive, so that an open stream costs no writes.

use std::net::IpAddr;

use uuid::Uuid;

use super::lease::{holder_count, is_alive};
use super::{Error, Params, Statement, Store, id_columns};
use crate::account::AccountId;
use crate::clock::Timestamp;
use crate::inventory::CertificateId;

/// So many live holders can have a lease on a certificate. Two calls at the same moment can exceed it.
pub const MAX_HOLDERS: i64 = 10_000;

/// A holder of streams, as its row describes it.
#[derive(Clone, Debug)]
pub struct StreamHolderRow {
    /// The holder's id.
    pub id: Uuid,
    /// Its account.
    pub account: AccountId,
    /// Its name.
    pub name: String,
    /// `watch` or `sds`.
    pub kind: &'static str,
    /// The caller that opened its streams.
    pub principal: String,
    /// The address of the first stream.
    pub address: IpAddr,
    /// The program and its version.
    pub user_agent: String,
}

/// The versions of a lease.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LeaseVersions {
    /// The version that was sent last.
    pub sent: Option<i64>,
    /// The version that the holder says it serves.
    pub served: Option<i64>,
    /// The version that the holder refused, and why.
    pub rejected: Option<(i64, String)>,
}

/// The lease of a stream.
#[derive(Clone, Debug)]
pub struct StreamLease {
    /// The holder.
    pub holder: Uuid,
    /// The certificate.
    pub id: CertificateId,
    /// The versions.
    pub versions: LeaseVersions,
}

/// The outcome of binding a certificate to a holder.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Binding {
    /// The holder has the lease.
    Bound,
    /// There is no live certificate with the id.
    NotFound,
    /// The certificate has as many holders as it may.
    TooManyHolders,
    /// Another statement is changing the certificate. Nothing was changed.
    Locked,
}

struct Columns<'a> {
    accounts: Vec<i64>,
    created: Vec<i64>,
    random: Vec<i64>,
    holders: Vec<Uuid>,
    sent: Vec<Option<i64>>,
    served: Vec<Option<i64>>,
    rejected: Vec<Option<i64>>,
    rejections: Vec<Option<&'a str>>,
}

impl<'a> Columns<'a> {
    fn of(leases: &'a [StreamLease]) -> Self {
        let ids = || leases.iter().map(|lease| id_columns(lease.id));
        let versions = || leases.iter().map(|lease| &lease.versions);
        let rejected = || versions().map(|versions| versions.rejected.as_ref());
        Self {
            accounts: ids().map(|(account, _, _)| account).collect(),
            created: ids().map(|(_, created, _)| created).collect(),
            random: ids().map(|(_, _, random)| random).collect(),
            holders: leases.iter().map(|lease| lease.holder).collect(),
            sent: versions().map(|versions| versions.sent).collect(),
            served: versions().map(|versions| versions.served).collect(),
            rejected: rejected().map(|rejected| Some(rejected?.0)).collect(),
            rejections: rejected().map(|rejected| Some(rejected?.1.as_str())).collect(),
        }
    }
}

impl Store {
    /// Gives holders of this replica their leases, and adds the rows of the holders. Answers an outcome for each lease, in order. Does
    /// not wait for a certificate that another statement has locked.
    pub async fn bind_streams_of_all_accounts(
        &self,
        replica: Uuid,
        holders: &[StreamHolderRow],
        leases: &[StreamLease],
    ) -> Result<Vec<Binding>, Error> {
        // The lock keeps the certificate from being deleted until the lease is committed (keep_held).
        const STATEMENT: Statement = Statement {
            name: "store::bind_streams_of_all_accounts",
            sql: concat!(
                "-- store::bind_streams_of_all_accounts
                  with wanted as materialized (
                    select * from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::uuid[], $5::bigint[], $6::bigint[],
                      $7::bigint[], $8::text[]) with ordinality
                      as wanted (account_id, created_ms, random, holder_id, sent, served, rejected, rejection, place)
                  ),
                  target as materialized (
                    select distinct account_id, created_ms, random from wanted order by account_id, created_ms, random
                  ),
                  locked as materialized (
                    select certificate.* from target cross join lateral (
                      select account_id, created_ms, random, deleted_at from certificate
                      where account_id = target.account_id and created_ms = target.created_ms and random = target.random
                      for share skip locked
                    ) as certificate
                  ),
                  bindable as materialized (
                    select account_id, created_ms, random, ",
                holder_count!("locked.account_id", "locked.created_ms", "locked.random", "$17"),
                " as holders
                    from locked where num_nulls(deleted_at) = 1
                  ),
                  accepted as materialized (
                    select wanted.*, holders + row_number() over (
                      partition by account_id, created_ms, random order by place
                    ) <= $17::bigint or exists (
                      select from lease
                      where lease.account_id = wanted.account_id and lease.created_ms = wanted.created_ms
                        and lease.random = wanted.random and lease.holder_id = wanted.holder_id
                    ) as fits
                    from wanted join bindable using (account_id, created_ms, random)
                  ),
                  holder_row as (
                    insert into holder (holder_id, account_id, name, kind, principal, address, user_agent, replica_id)
                    select given.*, $9 from unnest($10::uuid[], $11::bigint[], $12::text[], $13::text[], $14::text[], $15::inet[],
                      $16::text[]) as given (holder_id, account_id, name, kind, principal, address, user_agent)
                    where exists (select from accepted where accepted.holder_id = given.holder_id and fits)
                    order by holder_id
                    on conflict (holder_id) do nothing
                  ),
                  lease_row as (
                    insert into lease (account_id, created_ms, random, holder_id, sent_version, served_version, rejected_version,
                      rejection)
                    select account_id, created_ms, random, holder_id, sent, served, rejected, rejection from accepted where fits
                    order by account_id, created_ms, random, holder_id
                    on conflict (account_id, created_ms, random, holder_id) do update
                    set sent_version = excluded.sent_version, served_version = excluded.served_version,
                      rejected_version = excluded.rejected_version, rejection = excluded.rejection
                  )
                  select place, case
                      when fits then 'bound' when not fits then 'full'
                      when exists (
                        select from certificate where certificate.account_id = wanted.account_id
                          and certificate.created_ms = wanted.created_ms and certificate.random = wanted.random
                          and num_nulls(deleted_at) = 1
                      ) then 'locked'
                      else 'missing'
                    end as outcome
                  from wanted left join (select place, fits from accepted) as accepted using (place) order by place"
            ),
        };
        let columns = Columns::of(leases);
        let holder_ids: Vec<_> = holders.iter().map(|holder| holder.id).collect();
        let accounts: Vec<_> = holders.iter().map(|holder| holder.account.as_i64()).collect();
        let names: Vec<_> = holders.iter().map(|holder| holder.name.as_str()).collect();
        let kinds: Vec<_> = holders.iter().map(|holder| holder.kind).collect();
        let principals: Vec<_> = holders.iter().map(|holder| holder.principal.as_str()).collect();
        let addresses: Vec<_> = holders.iter().map(|holder| holder.address).collect();
        let user_agents: Vec<_> = holders.iter().map(|holder| holder.user_agent.as_str()).collect();
        let params: Params<'_> = &[
            &columns.accounts,
            &columns.created,
            &columns.random,
            &columns.holders,
            &columns.sent,
            &columns.served,
            &columns.rejected,
            &columns.rejections,
            &replica,
            &holder_ids,
            &accounts,
            &names,
            &kinds,
            &principals,
            &addresses,
            &user_agents,
            &MAX_HOLDERS,
        ];
        // Repeating the statement has no further effect, so it may run as a read.
        let rows = self.read(STATEMENT, params).await?;
        let outcome = |row: &tokio_postgres::Row| match row.get("outcome") {
            "bound" => Binding::Bound,
            "full" => Binding::TooManyHolders,
            "locked" => Binding::Locked,
            _ => Binding::NotFound,
        };
        Ok(rows.iter().map(outcome).collect())
    }

    /// Records the versions of leases. A lease that does not exist any more is left out.
    pub async fn update_leases_of_all_accounts(&self, leases: &[StreamLease]) -> Result<(), Error> {
        const STATEMENT: Statement = Statement {
            name: "store::update_leases_of_all_accounts",
            sql: "-- store::update_leases_of_all_accounts
                  update lease set sent_version = sent, served_version = served, rejected_version = rejected,
                    rejection = given.rejection
                  from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::uuid[], $5::bigint[], $6::bigint[], $7::bigint[],
                    $8::text[]) as given (account_id, created_ms, random, holder_id, sent, served, rejected, rejection)
                  where lease.account_id = given.account_id and lease.created_ms = given.created_ms
                    and lease.random = given.random and lease.holder_id = given.holder_id",
        };
        let columns = Columns::of(leases);
        let params: Params<'_> = &[
            &columns.accounts,
            &columns.created,
            &columns.random,
            &columns.holders,
            &columns.sent,
            &columns.served,
            &columns.rejected,
            &columns.rejections,
        ];
        self.read(STATEMENT, params).await?;
        Ok(())
    }

    /// Ends leases of streams.
    pub async fn end_leases_of_all_accounts(&self, leases: &[(Uuid, CertificateId)]) -> Result<(), Error> {
        const STATEMENT: Statement = Statement {
            name: "store::end_leases_of_all_accounts",
            sql: "-- store::end_leases_of_all_accounts
                  delete from lease using unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::uuid[])
                    as given (account_id, created_ms, random, holder_id)
                  where lease.account_id = given.account_id and lease.created_ms = given.created_ms
                    and lease.random = given.random and lease.holder_id = given.holder_id",
        };
        let ids = || leases.iter().map(|(_, id)| id_columns(*id));
        let accounts: Vec<_> = ids().map(|(account, _, _)| account).collect();
        let created: Vec<_> = ids().map(|(_, created, _)| created).collect();
        let random: Vec<_> = ids().map(|(_, _, random)| random).collect();
        let holders: Vec<_> = leases.iter().map(|(holder, _)| *holder).collect();
        self.read(STATEMENT, &[&accounts, &created, &random, &holders]).await?;
        Ok(())
    }

    /// Ends holders, and all their leases.
    pub async fn end_holders_of_all_accounts(&self, holders: &[Uuid]) -> Result<(), Error> {
        const STATEMENT: Statement = Statement {
            name: "store::end_holders_of_all_accounts",
            sql: "-- store::end_holders_of_all_accounts\ndelete from holder where holder_id = any($1)",
        };
        self.read(STATEMENT, &[&holders]).await?;
        Ok(())
    }

    /// Removes the timed holders of all accounts whose time was over before this time, at most 1,000. Answers how many.
    pub async fn forget_holders_of_all_accounts(&self, ended_before: Timestamp) -> Result<u64, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::forget_holders_of_all_accounts",
            // A holder that is being renewed stays.
            sql: "-- store::forget_holders_of_all_accounts
                  with expired as materialized (
                    select holder_id from holder where expires_at < to_timestamp($1::bigint / 1000.0) order by expires_at limit 1000 for update skip locked
                  ),
                  gone as (delete from holder using expired where holder.holder_id = expired.holder_id returning 1)
                  select count(*) from gone",
        };
        let rows = self.read(STATEMENT, &[&ended_before.millis()]).await?;
        Ok(rows.first().map_or(0, |row| row.get::<_, i64>(0) as u64))
    }
}
