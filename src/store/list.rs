//! Lists of an account's certificates in pages, filtered by region, resource group and tags.

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::read::{Liveness, Position, StoredCertificate, columns, octets, stored};
use super::scope::{self, MAX_SCANNED, in_scope};
use super::{Error, Params, Statement, Store};
use crate::account::AccountId;
use crate::inventory::{CertificateKind, RegionId, ResourceGroupId, Scope, Tags};

/// Of a region with at most so many certificates, the index of the region is read for a group or tags.
const SMALL_REGION: i64 = 1_000;

/// Which certificates of an account to list.
#[derive(Clone, Copy, Debug)]
pub struct Filter<'a> {
    /// The kind.
    pub kind: CertificateKind,
    /// The region; `None`: any.
    pub region: Option<&'a RegionId>,
    /// The resource group; `None`: any.
    pub resource_group: Option<&'a ResourceGroupId>,
    /// Tags that each certificate must have.
    pub tags: &'a Tags,
    /// Live or deleted.
    pub liveness: Liveness,
}

/// A page of certificates.
#[derive(Debug)]
pub struct Page {
    /// The certificates, oldest first.
    pub certificates: Vec<StoredCertificate>,
    /// Where the next page begins, if there are more.
    pub next: Option<Position>,
}

/// A page of the rows of `$source` for which `$matches` is true and that are in the scope, and one row more that tells whether there
/// is a next page. `$source` yields rows of `certificate` in the page's order. It is read up to $5 rows; null: without an end. The
/// row at this limit is answered too, matching or not: the next page begins there. The page ends before its texts pass 3 MiB, but
/// never before the first row. `found` counts the rows before that cut.
macro_rules! page {
    ($name:literal, $matches:literal, $source:literal) => {
        Statement {
            name: $name,
            sql: concat!(
                "-- ",
                $name,
                "\nselect * from (
                  select *, count(*) over () as found, sum(",
                octets!(),
                ") over (order by created_ms, random) as octets,
                    row_number() over (order by created_ms, random) as place
                  from (",
                columns!(),
                ", is_match, is_last from (
                    select *, row_number() over () = $5 as is_last, (",
                $matches,
                ") and ",
                in_scope!("$6", "$7", "$8"),
                " as is_match
                    from (",
                $source,
                " limit $5::bigint) as certificate
                  ) as certificate
                  where is_match or is_last limit $4) as page
                ) as measured
                where octets <= 3145728 or place = 1
                order by created_ms, random"
            ),
        }
    };
}

// A filter's value is written as a range that begins at the position, with the order of the one index that serves the filter. With an
// equality the planner could take another index and read the whole account.

const OF_ANY_REGION: Statement = page!(
    "store::page",
    "true",
    "select * from certificate
     where account_id = $1 and kind = 'server' and (created_ms, random) > ($2, $3) and deleted_at is null
     order by created_ms, random"
);
/// CA certificates are few beside server certificates, and have an index of their own.
const CA_OF_ANY_REGION: Statement = page!(
    "store::page_of_ca",
    "true",
    "select * from certificate
     where account_id = $1 and deleted_at is null and kind <= 'ca' and (kind, created_ms, random) > ('ca', $2, $3)
     order by kind, created_ms, random"
);
const OF_REGION: Statement = page!(
    "store::page_of_region",
    "true",
    "select * from certificate
     where account_id = $1 and kind = $9 and deleted_at is null
       and region_id <= $10 and (region_id, created_ms, random) > ($10, $2, $3)
     order by region_id, created_ms, random"
);
/// Those of a group, with tags, or both, of a region with at most [`SMALL_REGION`] certificates. The group or the tags may have all
/// certificates of the account.
const OF_SMALL_REGION: Statement = page!(
    "store::page_of_small_region",
    "($11::text is null or coalesce(resource_group_id, '') = $11)
     and (cardinality($12::text[]) = 0 or cardinality($12::text[]) = (
       select count(*) from (
         select from certificate_tag as tag
         where tag.account_id = $1 and tag.created_ms = certificate.created_ms
           and tag.random = certificate.random and tag.key = any($12::text[])
           and tag.value = ($13::text[])[array_position($12::text[], tag.key)]
         order by tag.created_ms, tag.random, tag.key offset 0
       ) as tag
     ))",
    "select * from certificate
     where account_id = $1 and kind = $9 and deleted_at is null
       and region_id <= $10 and (region_id, created_ms, random) > ($10, $2, $3)
     order by region_id, created_ms, random"
);
const OF_GROUP: Statement = page!(
    "store::page_of_group",
    "$10::text is null or region_id = $10",
    "select * from certificate
     where account_id = $1 and kind = $9 and deleted_at is null
       and coalesce(resource_group_id, '') <= $11 and (coalesce(resource_group_id, ''), created_ms, random) > ($11, $2, $3)
     order by coalesce(resource_group_id, ''), created_ms, random"
);
const DELETED: Statement = page!(
    "store::page_of_deleted",
    "($10::text is null or region_id = $10) and ($11::text is null or coalesce(resource_group_id, '') = $11)",
    "select * from certificate
     where account_id = $1 and kind = $9 and (created_ms, random) > ($2, $3) and deleted_at is not null
     order by created_ms, random"
);
/// From the certificates with the first tag to those that have the other tags too.
const TAGGED: Statement = page!(
    "store::page_of_tagged",
    "(deleted_at is not null) = $14 and ($10::text is null or region_id = $10)
     and ($11::text is null or coalesce(resource_group_id, '') = $11)
     and cardinality($12::text[]) = (
       select count(*) from (
         select from certificate_tag as tag
         where tag.account_id = $1 and tag.created_ms = certificate.created_ms
           and tag.random = certificate.random and tag.key = any($12::text[])
           and tag.value = ($13::text[])[array_position($12::text[], tag.key)]
         order by tag.created_ms, tag.random, tag.key offset 0
       ) as tag
     )",
    "select certificate.* from (
       select value as tagged_value, created_ms as tagged_ms, random as tagged_random from certificate_tag
       where account_id = $1 and kind = $9 and key = ($12::text[])[1] and value <= ($13::text[])[1]
         and (value, created_ms, random) > (($13::text[])[1], $2, $3)
       order by value, created_ms, random offset 0
     ) as tagged cross join lateral (
       select * from certificate
       where account_id = $1 and created_ms = tagged_ms and random = tagged_random offset 0
     ) as certificate
     order by tagged_value, tagged_ms, tagged_random"
);

impl Store {
    /// At most `size` certificates of the account and the scope, after a position. For a scope with limits, and for a region with more than
    /// 1,000 certificates together with a group or tags, the page can be shorter, or empty, before the last page.
    pub async fn page(
        &self,
        (account, scope): (AccountId, &Scope),
        filter: Filter<'_>,
        after: Position,
        size: usize,
    ) -> Result<Page, Error> {
        let limit = size as i64 + 1;
        let account_id = account.as_i64();
        // A scope of one region or one group is read from the index of regions or groups.
        let only_region = match &scope.regions[..] {
            [only] => Some(only),
            _ => None,
        };
        let only_group = match &scope.resource_groups[..] {
            [only] => Some(only),
            _ => None,
        };
        let region = filter.region.or(only_region).map(RegionId::as_str);
        let group = filter.resource_group.or(only_group);
        let group = group.map(|group| scope::stored_group(group, account));
        let is_deleted = filter.liveness == Liveness::Deleted;
        // No index serves a region together with a group or with tags.
        let of_region = match &region {
            Some(region) if !is_deleted && (group.is_some() || filter.tags.iter().next().is_some()) => {
                Some(self.live_in_region(account, filter.kind, region).await?)
            }
            _ => None,
        };
        if of_region == Some(0) {
            return Ok(Page {
                certificates: Vec::new(),
                next: None,
            });
        }
        let is_small = of_region.is_some_and(|live| live <= SMALL_REGION);
        let is_bounded = !scope.is_everything() || of_region.is_some_and(|live| live > SMALL_REGION);
        let max_scanned = is_bounded.then_some(MAX_SCANNED);
        let [regions, groups, prefixes] = scope::parameters(scope, account);
        let mut params: Vec<&(dyn ToSql + Sync)> = vec![
            &account_id,
            &after.created_ms,
            &after.random,
            &limit,
            &max_scanned,
            &regions,
            &groups,
            &prefixes,
        ];
        let (keys, values): (Vec<_>, Vec<_>) = filter.tags.iter().map(|tag| (tag.key(), tag.value())).unzip();
        let kind = filter.kind.as_str();
        let statement = match (keys.is_empty(), is_deleted, &region, &group) {
            (_, false, Some(region), group) if is_small => {
                params.extend::<[&(dyn ToSql + Sync); 5]>([&kind, region, group, &keys, &values]);
                OF_SMALL_REGION
            }
            (true, false, None, None) => match filter.kind {
                CertificateKind::Server => OF_ANY_REGION,
                CertificateKind::Ca => CA_OF_ANY_REGION,
            },
            (true, false, Some(region), None) => {
                params.extend::<[&(dyn ToSql + Sync); 2]>([&kind, region]);
                OF_REGION
            }
            (true, false, region, Some(group)) => {
                params.extend::<[&(dyn ToSql + Sync); 3]>([&kind, region, group]);
                OF_GROUP
            }
            (true, true, region, group) => {
                params.extend::<[&(dyn ToSql + Sync); 3]>([&kind, region, group]);
                DELETED
            }
            (false, _, region, group) => {
                params.extend::<[&(dyn ToSql + Sync); 6]>([&kind, region, group, &keys, &values, &is_deleted]);
                TAGGED
            }
        };
        let rows = self.read(statement, &params).await?;
        let position = |row: &Row| Position {
            created_ms: row.get("created_ms"),
            random: row.get("random"),
        };
        let matching: Vec<_> = rows.iter().filter(|row| row.get("is_match")).collect();
        let page = &matching[..matching.len().min(size)];
        let next = match rows.last() {
            _ if matching.len() > size => page.last().map(|last| position(last)),
            // The page was cut at 3 MiB, or the last row is the one at the limit.
            Some(last) if last.get::<_, i64>("found") > rows.len() as i64 => Some(position(last)),
            Some(last) if last.get::<_, Option<bool>>("is_last") == Some(true) => Some(position(last)),
            _ => None,
        };
        let certificates = page.iter().map(|row| stored(row)).collect::<Result<_, _>>()?;
        Ok(Page { certificates, next })
    }

    /// How many live certificates of a kind the account has in a region.
    async fn live_in_region(&self, account: AccountId, kind: CertificateKind, region: &str) -> Result<i64, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::live_in_region",
            sql: "-- store::live_in_region
                  select live from certificate_count where account_id = $1 and kind = $2 and region_id = $3",
        };
        let params: Params<'_> = &[&account.as_i64(), &kind.as_str(), &region];
        let rows = self.read(STATEMENT, params).await?;
        Ok(rows.first().map_or(0, |row| row.get("live")))
    }
}
