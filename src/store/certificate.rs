//! Renaming, deleting, undeleting and purging certificates.

// Whether a certificate of an id is deleted is asked of `num_nulls`: only the primary key serves such a statement, whenever
// it is planned. Where it says `deleted_at is null`, each index of the live ones could.

use std::time::Duration;

use super::{Change, Changed, Error, Liveness, Statement, Store, id_columns};
use crate::inventory::{CertificateId, CertificateKind, CertificateName, RegionId};

/// Which certificate to change, if it is as the caller believes.
#[derive(Clone, Copy, Debug)]
pub struct Changing<'a> {
    /// The certificate, and who changes it.
    pub change: Change<'a>,
    /// Its region; `None`: any.
    pub region: Option<&'a RegionId>,
    /// Its revision; `None`: any.
    pub revision: Option<i64>,
}

/// What became of an undeletion.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Undeletion {
    /// It is live again, at this revision.
    Undeleted(i64),
    /// The account has as many certificates in the region as it may.
    OverQuota,
    /// There is no such deleted certificate.
    NotFound,
}

/// What a certificate is now, for whoever could not change it.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Its region.
    pub region: RegionId,
    /// Its revision.
    pub revision: i64,
    /// Whether it is deleted.
    pub liveness: Liveness,
}

impl Store {
    /// Renames a live certificate; answers its new revision, or `None` if there is no such certificate.
    pub async fn rename(&self, changing: Changing<'_>, name: &CertificateName) -> Result<Option<i64>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::rename",
            sql: "-- store::rename
                  with changed as (
                    update server_certificate set name = $8, revision = revision + 1
                    where account_id = $1 and created_ms = $2 and random = $3 and ($4::text is null or region_id = $4)
                      and ($5::bigint is null or revision = $5) and num_nulls(deleted_at) = 1
                    returning revision
                  ),
                  event_row as (
                    insert into event (account_id, created_ms, random, revision, kind, resource_type, access_key_id, request_id)
                    select $1, $2, $3, revision, 'renamed', 'server_certificate', $6::text, $7::uuid from changed
                  )
                  select revision from changed",
        };
        self.change(STATEMENT, changing, Some(&name.as_str())).await
    }

    /// Deletes a live certificate, which can be undeleted; answers its new revision, or `None` if there is no such certificate.
    pub async fn delete(&self, changing: Changing<'_>) -> Result<Option<i64>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::delete",
            sql: "-- store::delete
                  with changed as (
                    update server_certificate set deleted_at = now(), revision = revision + 1
                    where account_id = $1 and created_ms = $2 and random = $3 and ($4::text is null or region_id = $4)
                      and ($5::bigint is null or revision = $5) and num_nulls(deleted_at) = 1
                    returning region_id, revision
                  ),
                  counted as (
                    update server_certificate_count as counter set live = live - 1 from changed
                    where counter.account_id = $1 and counter.region_id = changed.region_id
                  ),
                  event_row as (
                    insert into event (account_id, created_ms, random, revision, kind, resource_type, access_key_id, request_id)
                    select $1, $2, $3, revision, 'deleted', 'server_certificate', $6::text, $7::uuid from changed
                  )
                  select revision from changed",
        };
        self.change(STATEMENT, changing, None).await
    }

    /// Removes a live certificate with its keys and tags; answers its last revision, or `None` if there is no such certificate.
    pub async fn delete_for_good(&self, changing: Changing<'_>) -> Result<Option<i64>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::delete_for_good",
            sql: "-- store::delete_for_good
                  with changed as (
                    delete from server_certificate
                    where account_id = $1 and created_ms = $2 and random = $3 and ($4::text is null or region_id = $4)
                      and ($5::bigint is null or revision = $5) and num_nulls(deleted_at) = 1
                    returning region_id, revision + 1 as revision, searchable_names
                  ),
                  counted as (
                    update server_certificate_count as counter set live = live - 1 from changed
                    where counter.account_id = $1 and counter.region_id = changed.region_id
                  ),
                  name_row as (
                    delete from searchable_name using changed
                    where account_id = $1 and searchable_name = any(searchable_names) and created_ms = $2 and random = $3
                  ),
                  key_row as (
                    delete from private_key using changed where account_id = $1 and created_ms = $2 and random = $3
                  ),
                  event_row as (
                    insert into event (account_id, created_ms, random, revision, kind, resource_type, access_key_id, request_id)
                    select $1, $2, $3, revision, 'purged', 'server_certificate', $6::text, $7::uuid from changed
                  )
                  select revision from changed",
        };
        self.change(STATEMENT, changing, None).await
    }

    /// Removes a deleted certificate with its keys and tags; answers its last revision, or `None` if there is no such certificate.
    pub async fn purge(&self, changing: Changing<'_>) -> Result<Option<i64>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::purge",
            sql: "-- store::purge
                  with changed as (
                    delete from server_certificate
                    where account_id = $1 and created_ms = $2 and random = $3 and ($4::text is null or region_id = $4)
                      and ($5::bigint is null or revision = $5) and num_nulls(deleted_at) = 0
                    returning revision + 1 as revision, searchable_names
                  ),
                  name_row as (
                    delete from searchable_name using changed
                    where account_id = $1 and searchable_name = any(searchable_names) and created_ms = $2 and random = $3
                  ),
                  key_row as (
                    delete from private_key using changed where account_id = $1 and created_ms = $2 and random = $3
                  ),
                  event_row as (
                    insert into event (account_id, created_ms, random, revision, kind, resource_type, access_key_id, request_id)
                    select $1, $2, $3, revision, 'purged', 'server_certificate', $6::text, $7::uuid from changed
                  )
                  select revision from changed",
        };
        self.change(STATEMENT, changing, None).await
    }

    /// Makes a deleted certificate live again, if its account may have one more in its region. `quota` is for an account that
    /// has none of its own.
    pub async fn undelete(&self, changing: Changing<'_>, quota: i64) -> Result<Undeletion, Error> {
        // Whoever undeletes or purges it at the same moment waits for the row, then finds it changed.
        const STATEMENT: Statement = Statement {
            name: "store::undelete",
            sql: "-- store::undelete
                  with target as (
                    select region_id from server_certificate
                    where account_id = $1 and created_ms = $2 and random = $3 and ($4::text is null or region_id = $4)
                      and ($5::bigint is null or revision = $5) and num_nulls(deleted_at) = 0
                    for update
                  ),
                  counted as (
                    update server_certificate_count as counter set live = live + 1 from target
                    where counter.account_id = $1 and counter.region_id = target.region_id
                      and counter.live < coalesce(
                        (select maximum from quota where quota.account_id = $1 and kind = 'server_certificates'), $8::bigint
                      )
                    returning 1
                  ),
                  changed as (
                    update server_certificate set deleted_at = null, revision = revision + 1 from counted
                    where account_id = $1 and created_ms = $2 and random = $3
                    returning revision
                  ),
                  event_row as (
                    insert into event (account_id, created_ms, random, revision, kind, resource_type, access_key_id, request_id)
                    select $1, $2, $3, revision, 'undeleted', 'server_certificate', $6::text, $7::uuid from changed
                  )
                  select (select revision from changed) as revision from target",
        };
        let Changing {
            change,
            region,
            revision,
        } = changing;
        let (account, created, random) = id_columns(change.id);
        let region = region.map(RegionId::as_str);
        let (access_key_id, request_id) = (change.access_key_id, change.request_id);
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 8] = [
            &account,
            &created,
            &random,
            &region,
            &revision,
            &access_key_id,
            &request_id,
            &quota,
        ];
        Ok(match self.write(STATEMENT, change, &params).await? {
            Changed::Before { revision } => Undeletion::Undeleted(revision),
            Changed::Now(rows) => match rows.first().map(|row| row.get::<_, Option<i64>>(0)) {
                Some(Some(revision)) => Undeletion::Undeleted(revision),
                Some(None) => Undeletion::OverQuota,
                None => Undeletion::NotFound,
            },
        })
    }

    /// What the certificate is now, deleted or not.
    pub async fn standing(&self, id: CertificateId) -> Result<Option<Standing>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::standing",
            sql: "-- store::standing
                  select region_id, revision, deleted_at is not null as is_deleted from server_certificate
                  where account_id = $1 and created_ms = $2 and random = $3",
        };
        let (account, created, random) = id_columns(id);
        let rows = self.read_of(id.kind, STATEMENT, &[&account, &created, &random]).await?;
        Ok(rows.first().map(|row| Standing {
            region: RegionId::from_stored(row.get("region_id")),
            revision: row.get("revision"),
            liveness: match row.get("is_deleted") {
                true => Liveness::Deleted,
                false => Liveness::Live,
            },
        }))
    }

    /// Removes the certificates of this kind of all accounts that were deleted longer ago than this, and of each account those beyond the 1,000
    /// that were deleted last: at most 200 at once, and none while another replica does. Answers how many.
    pub async fn purge_of_all_accounts(&self, kind: CertificateKind, retention: Duration) -> Result<u64, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::purge_of_all_accounts",
            // "ckpurge" in ASCII. The row is asked again, since it may be undeleted meanwhile. What is deleted is said as a
            // range, of which the planner expects little before it knows, so that it takes the index by deletion.
            sql: "-- store::purge_of_all_accounts
                  with turn as materialized (select pg_try_advisory_xact_lock(27984153445295973) as is_ours),
                  due as (
                    (
                      select account_id, created_ms, random from server_certificate, turn
                      where is_ours and deleted_at >= '-infinity' and deleted_at < now() - $1::bigint * interval '1 second'
                      order by deleted_at limit 100
                    )
                    union
                    (
                      select account_id, created_ms, random from turn cross join (
                        select account_id, created_ms, random,
                          row_number() over (partition by account_id order by deleted_at desc, created_ms, random) as place
                        from server_certificate where deleted_at >= '-infinity' and deleted_at <= 'infinity'
                      ) as deleted
                      where is_ours and place > 1000 limit 100
                    )
                  ),
                  purged as (
                    delete from server_certificate using due
                    where server_certificate.account_id = due.account_id
                      and server_certificate.created_ms = due.created_ms and server_certificate.random = due.random
                      and server_certificate.deleted_at >= '-infinity' and server_certificate.deleted_at <= 'infinity'
                    returning server_certificate.account_id, server_certificate.created_ms, server_certificate.random, revision,
                      searchable_names
                  ),
                  name_row as (
                    delete from searchable_name as named using purged
                    where named.account_id = purged.account_id and named.searchable_name = any(purged.searchable_names)
                      and named.created_ms = purged.created_ms and named.random = purged.random
                  ),
                  key_row as (
                    delete from private_key using purged
                    where private_key.account_id = purged.account_id and private_key.created_ms = purged.created_ms
                      and private_key.random = purged.random
                  ),
                  event_row as (
                    insert into event (account_id, created_ms, random, revision, kind, resource_type, access_key_id, request_id)
                    select account_id, created_ms, random, revision + 1, 'purged', 'server_certificate', '', gen_random_uuid() from purged
                  )
                  select count(*) from purged",
        };
        let seconds = i64::try_from(retention.as_secs()).unwrap_or(i64::MAX);
        let rows = self.read_of(kind, STATEMENT, &[&seconds]).await?;
        Ok(rows.first().map_or(0, |row| row.get::<_, i64>(0) as u64))
    }

    /// Answers the new revision; `value` is the statement's last parameter.
    pub(super) async fn change(
        &self,
        statement: Statement,
        changing: Changing<'_>,
        value: Option<&(dyn tokio_postgres::types::ToSql + Sync)>,
    ) -> Result<Option<i64>, Error> {
        let Changing {
            change,
            region,
            revision,
        } = changing;
        let (account, created, random) = id_columns(change.id);
        let region = region.map(RegionId::as_str);
        let (access_key_id, request_id) = (change.access_key_id, change.request_id);
        let mut params: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> = vec![
            &account,
            &created,
            &random,
            &region,
            &revision,
            &access_key_id,
            &request_id,
        ];
        params.extend(value);
        Ok(match self.write(statement, change, &params).await? {
            Changed::Now(rows) => rows.first().map(|row| row.get(0)),
            Changed::Before { revision } => Some(revision),
        })
    }
}
