//! The tags of certificates of both kinds, which are set and removed for several at once.

use super::{Change, Changed, Error, Statement, Store};
use crate::account::AccountId;
use crate::clock::Timestamp;
use crate::inventory::{CertificateId, CertificateKind, RegionId, Tags};

/// A certificate and its tags.
#[derive(Clone, Debug)]
pub struct Tagged {
    /// The certificate.
    pub id: CertificateId,
    /// Its revision.
    pub revision: i64,
    /// Its tags.
    pub tags: Tags,
}

/// What to do with the tags of certificates.
#[derive(Clone, Copy, Debug)]
pub struct Tagging<'a> {
    /// Sets these.
    pub set: &'a Tags,
    /// Removes those of these keys.
    pub remove: &'a [String],
}

/// Those asked for of one kind.
macro_rules! tagged_of {
    ($table:literal, $tags:literal, $is_ca:literal) => {
        concat!(
            " select certificate.created_ms, certificate.random, certificate.revision, ",
            $is_ca,
            " as is_ca,
                array(
                  select unnest(array[key, value]) from (
                    select key, value from ",
            $tags,
            " as tag where tag.account_id = $1 and tag.created_ms = certificate.created_ms and tag.random = certificate.random
                    order by key
                  ) as by_key
                ) as tags
              from asked cross join lateral (
                select * from ",
            $table,
            " as certificate
                where certificate.account_id = $1 and certificate.created_ms = asked.created_ms
                  and certificate.random = asked.random offset 0
              ) as certificate
              where certificate.region_id = $4 and certificate.deleted_at is null"
        )
    };
}

/// Those of one kind that still have their revision. Whoever changes one meanwhile waits for it, or has been waited for. They are
/// locked in the order of `asked`.
macro_rules! locked_of {
    ($table:literal) => {
        concat!(
            "select certificate.account_id, certificate.created_ms, certificate.random
              from asked cross join lateral (
                select * from ",
            $table,
            " as certificate
                where certificate.account_id = $1 and certificate.created_ms = asked.created_ms
                  and certificate.random = asked.random for update
              ) as certificate
              where certificate.revision = asked.revision and num_nulls(certificate.deleted_at) = 1"
        )
    };
}

/// Changes those of one kind, if all are locked. The account is that of what is locked, so that no row can be looked up by its
/// account alone.
macro_rules! tag_of {
    ($table:literal, $tags:literal) => {
        concat!(
            " changed_",
            $table,
            " as (
                update ",
            $table,
            " as certificate set revision = revision + 1 from locked_",
            $table,
            " as locked, all_locked
                where are and certificate.account_id = locked.account_id and certificate.created_ms = locked.created_ms
                  and certificate.random = locked.random
                returning certificate.account_id, certificate.created_ms, certificate.random, certificate.revision
              ),
              removed_",
            $tags,
            " as (
                delete from ",
            $tags,
            " as tag using changed_",
            $table,
            " as changed
                where tag.account_id = changed.account_id and tag.created_ms = changed.created_ms and tag.random = changed.random
                  and tag.key = any($7::text[])
              ),
              set_",
            $tags,
            " as (
                insert into ",
            $tags,
            " (account_id, created_ms, random, key, value)
                select $1, created_ms, random, key, value
                from changed_",
            $table,
            ", unnest($5::text[], $6::text[]) as tag(key, value)
                on conflict (account_id, created_ms, random, key) do update set value = excluded.value
              ),
              event_of_",
            $table,
            " as (
                insert into event (account_id, created_ms, random, revision, kind, resource_type, access_key_id, request_id)
                select $1, created_ms, random, revision, 'tagged', '",
            $table,
            "', $8::text, $9::uuid from changed_",
            $table,
            ")"
        )
    };
}

impl Store {
    /// The live ones of the account's certificates of these ids, of either kind, in this region; each once, in no order.
    pub async fn tagged(
        &self,
        account: AccountId,
        region: &RegionId,
        ids: &[CertificateId],
    ) -> Result<Vec<Tagged>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::tagged",
            sql: concat!(
                "-- store::tagged
                with asked as materialized (
                  select distinct created_ms, random from unnest($2::bigint[], $3::bigint[]) as asked(created_ms, random)
                )",
                tagged_of!("server_certificate", "server_certificate_tag", "false"),
                " union all ",
                tagged_of!("ca_certificate", "ca_certificate_tag", "true"),
            ),
        };
        let (created, random): (Vec<_>, Vec<_>) = ids.iter().map(|id| (id.created.millis(), id.random)).unzip();
        let rows = self
            .read(STATEMENT, &[&account.as_i64(), &created, &random, &region.as_str()])
            .await?;
        let tagged = rows.iter().map(|row| {
            let tags: Vec<String> = row.get("tags");
            let (pairs, _) = tags.as_chunks::<2>();
            Tagged {
                id: CertificateId {
                    kind: match row.get("is_ca") {
                        true => CertificateKind::Ca,
                        false => CertificateKind::Server,
                    },
                    account,
                    created: Timestamp::from_millis(row.get("created_ms")),
                    random: row.get("random"),
                },
                revision: row.get("revision"),
                tags: Tags::from_stored(pairs.iter().cloned().map(|[key, value]| (key, value)).collect()),
            }
        });
        Ok(tagged.collect())
    }

    /// Changes the tags of all of these certificates, if each still has its revision, else of none; answers whether. `change` is that
    /// of the first of them.
    pub async fn set_tags(
        &self,
        change: Change<'_>,
        certificates: &[Tagged],
        tagging: Tagging<'_>,
    ) -> Result<bool, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::set_tags",
            sql: concat!(
                "-- store::set_tags
                with asked as materialized (
                  select * from unnest($2::bigint[], $3::bigint[], $4::bigint[]) as asked(created_ms, random, revision)
                  order by created_ms, random
                ),
                locked_server_certificate as materialized (",
                locked_of!("server_certificate"),
                "),
                locked_ca_certificate as materialized (",
                locked_of!("ca_certificate"),
                "),
                all_locked as materialized (
                  select count(*) = cardinality($2::bigint[]) as are from (
                    select from locked_server_certificate union all select from locked_ca_certificate
                  ) as locked
                ),",
                tag_of!("server_certificate", "server_certificate_tag"),
                ",",
                tag_of!("ca_certificate", "ca_certificate_tag"),
                " select from all_locked where are"
            ),
        };
        let created: Vec<_> = certificates.iter().map(|one| one.id.created.millis()).collect();
        let random: Vec<_> = certificates.iter().map(|one| one.id.random).collect();
        let revisions: Vec<_> = certificates.iter().map(|one| one.revision).collect();
        let (keys, values): (Vec<_>, Vec<_>) = tagging.set.iter().map(|tag| (tag.key(), tag.value())).unzip();
        let account_id = change.id.account.as_i64();
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 9] = [
            &account_id,
            &created,
            &random,
            &revisions,
            &keys,
            &values,
            &tagging.remove,
            &change.access_key_id,
            &change.request_id,
        ];
        // The statement names both kinds itself.
        let change = Change {
            id: CertificateId {
                kind: CertificateKind::Server,
                ..change.id
            },
            ..change
        };
        Ok(match self.write(STATEMENT, change, &params).await? {
            Changed::Before { .. } => true,
            Changed::Now(rows) => !rows.is_empty(),
        })
    }
}
