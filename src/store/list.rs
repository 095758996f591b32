//! Lists of an account's certificates in pages, filtered by region, resource group and tags.

use tokio_postgres::types::ToSql;

use super::read::{Liveness, Position, StoredCertificate, columns, octets, stored};
use super::{Error, Statement, Store};
use crate::account::AccountId;
use crate::inventory::{CertificateKind, RegionId, ResourceGroupId, Tags};

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

/// A page, and one row more that tells whether there is a next page. The page ends before its texts pass 3 MiB, but never before
/// the first row. `found` counts the rows before that cut.
macro_rules! page {
    ($name:literal, $rest:literal) => {
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
                $rest,
                " limit $4) as page
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
    "from certificate where account_id = $1 and kind = 'server' and (created_ms, random) > ($2, $3) and deleted_at is null
     order by created_ms, random"
);
/// CA certificates are few beside server certificates, and have an index of their own.
const CA_OF_ANY_REGION: Statement = page!(
    "store::page_of_ca",
    "from certificate where account_id = $1 and deleted_at is null
       and kind <= 'ca' and (kind, created_ms, random) > ('ca', $2, $3)
     order by kind, created_ms, random"
);
const OF_REGION: Statement = page!(
    "store::page_of_region",
    "from certificate where account_id = $1 and kind = $5 and deleted_at is null
       and region_id <= $6 and (region_id, created_ms, random) > ($6, $2, $3)
     order by region_id, created_ms, random"
);
const OF_GROUP: Statement = page!(
    "store::page_of_group",
    "from certificate where account_id = $1 and kind = $5 and deleted_at is null and ($6::text is null or region_id = $6)
       and coalesce(resource_group_id, '') <= $7 and (coalesce(resource_group_id, ''), created_ms, random) > ($7, $2, $3)
     order by coalesce(resource_group_id, ''), created_ms, random"
);
const DELETED: Statement = page!(
    "store::page_of_deleted",
    "from certificate where account_id = $1 and kind = $5 and (created_ms, random) > ($2, $3) and deleted_at is not null
       and ($6::text is null or region_id = $6) and ($7::text is null or coalesce(resource_group_id, '') = $7)
     order by created_ms, random"
);
/// From the certificates with the first tag to those that have the other tags too.
const TAGGED: Statement = page!(
    "store::page_of_tagged",
    "from (
       select value as tagged_value, created_ms as tagged_ms, random as tagged_random from certificate_tag
       where account_id = $1 and kind = $5 and key = ($8::text[])[1] and value <= ($9::text[])[1]
         and (value, created_ms, random) > (($9::text[])[1], $2, $3)
       order by value, created_ms, random offset 0
     ) as tagged cross join lateral (
       select * from certificate
       where account_id = $1 and created_ms = tagged_ms and random = tagged_random offset 0
     ) as certificate
     where (deleted_at is not null) = $10 and ($6::text is null or region_id = $6)
       and ($7::text is null or coalesce(resource_group_id, '') = $7)
       and cardinality($8::text[]) = (
         select count(*) from (
           select from certificate_tag as tag
           where tag.account_id = $1 and tag.created_ms = certificate.created_ms
             and tag.random = certificate.random and tag.key = any($8::text[])
             and tag.value = ($9::text[])[array_position($8::text[], tag.key)]
           order by tag.created_ms, tag.random, tag.key offset 0
         ) as tag
       )
     order by tagged_value, tagged_ms, tagged_random"
);

impl Store {
    /// At most `size` certificates of the account, after a position.
    pub async fn page(
        &self,
        account: AccountId,
        filter: Filter<'_>,
        after: Position,
        size: usize,
    ) -> Result<Page, Error> {
        let limit = size as i64 + 1;
        let account_id = account.as_i64();
        let mut params: Vec<&(dyn ToSql + Sync)> = vec![&account_id, &after.created_ms, &after.random, &limit];
        let region = filter.region.map(RegionId::as_str);
        let is_deleted = filter.liveness == Liveness::Deleted;
        let (keys, values): (Vec<_>, Vec<_>) = filter.tags.iter().map(|tag| (tag.key(), tag.value())).unzip();
        // The default group is null in its column, and `''` in the index.
        let group = filter
            .resource_group
            .map(|group| group.stored(account).unwrap_or_default());
        let kind = filter.kind.as_str();
        let statement = match (keys.is_empty(), is_deleted, &region, &group) {
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
        let found = rows.first().map_or(0, |row| row.get::<_, i64>("found"));
        let certificates = rows.iter().take(size).map(stored).collect::<Result<Vec<_>, _>>()?;
        let next = match certificates.last() {
            Some(last) if found > certificates.len() as i64 => Some(Position::from(last.id)),
            _ => None,
        };
        Ok(Page { certificates, next })
    }
}
