//! Purging deleted certificates whose time is over.

use super::{Error, Statement, Store};
use crate::clock::Timestamp;

impl Store {
    /// Removes the certificates of all accounts that were deleted before this time, and of each account, kind and region the oldest
    /// beyond 1,000. Removes at most 50 of each, because uploads of their accounts wait for its end, and none while another replica does.
    /// Answers how many. Its cost is in proportion to what it removes.
    pub async fn purge_of_all_accounts(&self, deleted_before: Timestamp) -> Result<u64, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::purge_of_all_accounts",
            // The advisory lock is "ckpurge" in ASCII. A range stands for `deleted_at is not null`: the planner expects few rows
            // of a range, so it takes the index by deletion. A certificate that another statement has locked waits for the next
            // run. A certificate that was undeleted, or deleted again, before it was locked stays.
            sql: "-- store::purge_of_all_accounts
                  with turn as materialized (select pg_try_advisory_xact_lock(27984153445295973) as is_ours),
                  due as materialized (
                    (
                      select old.* from turn cross join lateral (
                        select account_id, created_ms, random, deleted_at from certificate
                        where deleted_at >= '-infinity' and deleted_at < to_timestamp($1::bigint / 1000.0)
                        order by deleted_at limit 50
                      ) as old where is_ours
                    )
                    union
                    (
                      select oldest.* from turn cross join certificate_count as counter cross join lateral (
                        select account_id, created_ms, random, deleted_at from certificate
                        where account_id = counter.account_id and kind = counter.kind and region_id = counter.region_id
                          and deleted_at >= '-infinity' and deleted_at <= 'infinity'
                        order by deleted_at limit least(counter.deleted - 1000, 50)
                      ) as oldest where is_ours and counter.deleted > 1000 limit 50
                    )
                  ),
                  target as materialized (
                    select certificate.account_id, certificate.created_ms, certificate.random
                    from (select * from due order by account_id, created_ms, random) as due cross join lateral (
                      select account_id, created_ms, random, deleted_at from certificate
                      where account_id = due.account_id and created_ms = due.created_ms and random = due.random
                      for update skip locked
                    ) as certificate
                    where certificate.deleted_at = due.deleted_at
                  ),
                  purged as (
                    delete from certificate using target
                    where certificate.account_id = target.account_id and certificate.created_ms = target.created_ms
                      and certificate.random = target.random
                    returning certificate.account_id, certificate.created_ms, certificate.random, certificate.kind,
                      certificate.region_id, certificate.revision + 1 as revision, certificate.version,
                      certificate.searchable_names, certificate.name, certificate.resource_group_id,
                      coalesce((
                        select jsonb_object_agg(tag.key, tag.value) from certificate_tag as tag
                        where tag.account_id = certificate.account_id and tag.created_ms = certificate.created_ms
                          and tag.random = certificate.random
                      ), '{}') as tags
                  ),
                  name_row as (
                    delete from searchable_name as named using purged
                    where named.account_id = purged.account_id and named.searchable_name = any(purged.searchable_names)
                      and named.created_ms = purged.created_ms and named.random = purged.random
                  ),
                  counter as (
                    insert into certificate_count as counter (account_id, kind, region_id, live, deleted)
                    select account_id, kind, region_id, 0, count(*) from purged
                    group by account_id, kind, region_id order by account_id, kind, region_id
                    on conflict (account_id, kind, region_id) do update
                    set deleted = greatest(counter.deleted - excluded.deleted, 0)
                    returning 1
                  ),
                  per_account as materialized (
                    select account_id, count(*) as n
                    from purged cross join (select count(*) from counter) as counter_is_locked
                    group by account_id
                  ),
                  stream as (
                    insert into stream as s (account_id, name, position)
                    select account_id, 'certificates', n from per_account order by account_id
                    on conflict (account_id, name) do update set position = s.position + excluded.position
                    returning account_id, position
                  ),
                  event_row as (
                    insert into event (account_id, position, created_ms, random, certificate_kind, kind, revision, version,
                      principal, request_id, detail)
                    select account_id, stream.position - n + row_number() over (partition by account_id order by created_ms, random),
                      created_ms, random, kind, 'purged', revision, version, '', gen_random_uuid(),
                      jsonb_build_object(
                        'region_id', jsonb_build_array(region_id, null),
                        'name', jsonb_build_array(name, null),
                        'resource_group_id', jsonb_build_array(resource_group_id, null),
                        'tags', jsonb_build_array(tags, null)
                      )
                    from purged join per_account using (account_id) join stream using (account_id)
                  )
                  select count(*) from purged",
        };
        let rows = self.read(STATEMENT, &[&deleted_before.millis()]).await?;
        Ok(rows.first().map_or(0, |row| row.get::<_, i64>(0) as u64))
    }
}
