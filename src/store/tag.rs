//! The tags of certificates of both kinds. They are set and removed for several certificates at once.

use tokio_postgres::types::ToSql;

use super::scope::{self, in_scope};
use super::write::{Lost, Outcome, Trace};
use super::{Error, Params, Statement, Store};
use crate::account::{AccountId, Actor};
use crate::clock::Timestamp;
use crate::inventory::{CertificateId, CertificateKind, RegionId, Scope, Tags};

/// A certificate and its tags.
#[derive(Clone, Debug)]
pub struct Tagged {
    /// The certificate.
    pub id: CertificateId,
    /// The certificate's kind.
    pub kind: CertificateKind,
    /// The certificate's revision.
    pub revision: i64,
    /// The certificate's tags.
    pub tags: Tags,
}

/// A change of tags.
#[derive(Clone, Copy, Debug)]
pub struct Tagging<'a> {
    /// The tags to set.
    pub set: &'a Tags,
    /// The keys of the tags to remove.
    pub remove: &'a [String],
}

impl Store {
    /// The live certificates of the account's scope with these ids in this region. Each appears once, in no defined order.
    pub async fn tagged(
        &self,
        (account, scope): (AccountId, &Scope),
        region: &RegionId,
        ids: &[CertificateId],
    ) -> Result<Vec<Tagged>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::tagged",
            sql: concat!(
                "-- store::tagged
                  select created_ms, random, certificate.kind, certificate.revision,
                    array(
                      select unnest(array[key, value]) from (
                        select key, value from certificate_tag as tag
                        where tag.account_id = $1 and tag.created_ms = asked.created_ms and tag.random = asked.random
                        order by key
                      ) as by_key
                    ) as tags
                  from (
                    select distinct created_ms, random from unnest($2::bigint[], $3::bigint[]) as asked(created_ms, random)
                  ) as asked cross join lateral (
                    select kind, revision, region_id, name, resource_group_id, deleted_at from certificate
                    where account_id = $1 and created_ms = asked.created_ms and random = asked.random offset 0
                  ) as certificate
                  where certificate.region_id = $4 and certificate.deleted_at is null and ",
                in_scope!("$5", "$6", "$7")
            ),
        };
        let (created, random): (Vec<_>, Vec<_>) = ids.iter().map(|id| (id.created.millis(), id.random)).unzip();
        let [regions, groups, prefixes] = scope::parameters(scope, account);
        let (account_id, region) = (account.as_i64(), region.as_str());
        let params: Params<'_> = &[&account_id, &created, &random, &region, &regions, &groups, &prefixes];
        let rows = self.read(STATEMENT, params).await?;
        let tagged = rows.iter().map(|row| {
            let tags: Vec<String> = row.get("tags");
            let (pairs, _) = tags.as_chunks::<2>();
            Ok(Tagged {
                id: CertificateId {
                    account,
                    created: Timestamp::from_millis(row.get("created_ms")),
                    random: row.get("random"),
                },
                kind: CertificateKind::from_name(row.get("kind")).ok_or(Error::Row("certificate"))?,
                revision: row.get("revision"),
                tags: Tags::from_stored(pairs.iter().cloned().map(|[key, value]| (key, value)).collect()),
            })
        });
        tagged.collect()
    }

    /// Changes the tags of all these certificates, if each still has its revision. Otherwise changes nothing. Returns whether the
    /// tags changed.
    pub async fn set_tags(&self, actor: &Actor, certificates: &[Tagged], tagging: Tagging<'_>) -> Result<bool, Error> {
        // The certificates are locked in the order of their ids. The statement's snapshot has the right old tags: a certificate
        // that still has its revision was not changed since the caller read it. So it is also still in the caller's scope.
        const STATEMENT: Statement = Statement {
            name: "store::set_tags",
            sql: "-- store::set_tags
                  with target as materialized (
                    select certificate.* from (
                      select * from unnest($2::bigint[], $3::bigint[], $4::bigint[]) as asked(created_ms, random, revision)
                      order by created_ms, random
                    ) as asked cross join lateral (
                      select account_id, created_ms, random, kind, revision, version, deleted_at from certificate
                      where account_id = $1 and created_ms = asked.created_ms and random = asked.random for update
                    ) as certificate
                    where certificate.revision = asked.revision and num_nulls(certificate.deleted_at) = 1
                  ),
                  changed as (
                    update certificate set revision = target.revision + 1 from target
                    where certificate.account_id = target.account_id and certificate.created_ms = target.created_ms
                      and certificate.random = target.random
                      and (select count(*) from target) = cardinality($2::bigint[])
                    returning target.account_id, target.created_ms, target.random, target.kind, target.version,
                      target.revision + 1 as revision,
                      coalesce((
                        select jsonb_object_agg(key, value) from certificate_tag as tag
                        where tag.account_id = target.account_id and tag.created_ms = target.created_ms
                          and tag.random = target.random
                      ), '{}') as tags
                  ),
                  removed as (
                    delete from certificate_tag as tag using changed
                    where tag.account_id = changed.account_id and tag.created_ms = changed.created_ms
                      and tag.random = changed.random and tag.key = any($7::text[])
                  ),
                  set as (
                    insert into certificate_tag (account_id, created_ms, random, kind, key, value)
                    select account_id, created_ms, random, kind, key, value
                    from changed, unnest($5::text[], $6::text[]) as tag(key, value)
                    on conflict (account_id, created_ms, random, key) do update set value = excluded.value
                  ),
                  stream as (
                    insert into stream as s (account_id, name, position)
                    select account_id, 'certificates', count(*) from changed group by account_id
                    on conflict (account_id, name) do update set position = s.position + excluded.position
                    returning position
                  ),
                  event_row as (
                    insert into event (account_id, position, created_ms, random, certificate_kind, kind, revision, version,
                      principal, request_id, address, detail)
                    select account_id,
                      stream.position - count(*) over () + row_number() over (order by created_ms, random),
                      created_ms, random, kind, 'tagged', revision, version, $8::text, $9::uuid, $10::inet,
                      jsonb_build_object(
                        'tags', jsonb_build_array(tags, (tags - $7::text[]) || jsonb_object($5::text[], $6::text[]))
                      )
                    from changed cross join stream
                  )
                  select from changed",
        };
        let Some(first) = certificates.first() else {
            return Ok(true);
        };
        let created: Vec<_> = certificates.iter().map(|one| one.id.created.millis()).collect();
        let random: Vec<_> = certificates.iter().map(|one| one.id.random).collect();
        let revisions: Vec<_> = certificates.iter().map(|one| one.revision).collect();
        let (keys, values): (Vec<_>, Vec<_>) = tagging.set.iter().map(|tag| (tag.key(), tag.value())).unzip();
        let account_id = first.id.account.as_i64();
        let principal = actor.principal.id();
        let params: [&(dyn ToSql + Sync); 10] = [
            &account_id,
            &created,
            &random,
            &revisions,
            &keys,
            &values,
            &tagging.remove,
            &principal,
            &actor.request_id,
            &actor.address,
        ];
        let outcome = self.write(Lost::No, STATEMENT, Trace::Event(first.id, actor.request_id), &params);
        Ok(match outcome.await? {
            Outcome::Earlier(_) => true,
            Outcome::Rows(rows) => !rows.is_empty(),
        })
    }
}
