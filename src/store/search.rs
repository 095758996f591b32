//! Searching an account's live certificates by what is given, in an order, in pages.
//!
//! A page costs what it costs whatever is stored. Each criterion has an index, and each order has one. A page asks, criterion
//! by criterion, for the ids of the certificates that meet it, from that index, up to somewhat more than 2,000. The first criterion
//! that 2,000 certificates at most meet drives the page: they are read, held against all criteria, and sorted. Where each
//! criterion is met by more, the order's own index is walked from where the last page ended, in steps of 10 rows until the page is
//! full, 10,000 rows at most; a criterion whose index has that order too is walked instead. A walk that ends at its 10,000th
//! row ends the page there, be it empty, and the next one goes on behind it. Either way a page is what follows a place in one
//! total order, sort key, creation time, random part, so that pages can take turns. What decides is what is counted, never
//! the planner's statistics: that is why an index is read in steps of 10 rows in the order that it alone has, why rows are joined to
//! by LATERAL, and why OFFSET 0 stands where a subquery must stay one.

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::read::{StoredCertificate, columns, octets, stored};
use super::{Error, Position, Statement, Store};
use crate::account::AccountId;
use crate::inventory::{CertificateKind, Criteria, RegionId, SoughtFingerprint};

/// By how many certificates a criterion is met that drives a page: 1,000, and the 1,000 deleted ones that an account can have.
const FEW: usize = 2000;
/// How many names may be looked at for a domain: certificates have many below one.
const FEW_NAMES: i64 = 10_000;

/// By what to sort. Equals are sorted by creation time and random part.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Order {
    /// When they were stored.
    CreateTime,
    /// When they expire.
    ExpireTime,
    /// Their names, by code point.
    Name,
}

/// By what a certificate is sorted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SortKey {
    /// By its position alone.
    CreateTime,
    /// By this end of its validity, in milliseconds since 1970.
    ExpireTime(i64),
    /// By this name.
    Name(String),
}

/// A place in an order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    /// Its sort key.
    pub key: SortKey,
    /// Where it is between those of the same key.
    pub position: Position,
}

/// A page of what was searched.
#[derive(Debug)]
pub struct FoundPage {
    /// The certificates in their order.
    pub certificates: Vec<StoredCertificate>,
    /// Where the next page begins, if there may be more.
    pub next: Option<Place>,
}

impl Place {
    /// Before the first that can meet the criteria.
    fn start(order: Order, criteria: &Criteria) -> Self {
        let key = match order {
            Order::CreateTime => SortKey::CreateTime,
            Order::ExpireTime => SortKey::ExpireTime(criteria.expiry.map_or(i64::MIN, |window| window.from)),
            Order::Name => SortKey::Name(criteria.name_prefix.clone().unwrap_or_default()),
        };
        Self {
            key,
            position: Position::START,
        }
    }

    fn of(order: Order, certificate: &StoredCertificate) -> Self {
        let key = match order {
            Order::CreateTime => SortKey::CreateTime,
            Order::ExpireTime => SortKey::ExpireTime(certificate.facts.not_after.millis()),
            Order::Name => SortKey::Name(certificate.name.as_str().to_owned()),
        };
        Self {
            key,
            position: certificate.id.into(),
        }
    }
}

/// What a row is held against: parameters 6 to 19, each null where it is not given. Its names are asked for in an order that
/// only their primary key has.
macro_rules! criteria {
    () => {
        "($6::text is null or region_id = $6)
         and ($7::bytea is null or fingerprint = $7 or fingerprint_sha256 = $7)
         and ($8::bytea is null or spki_sha256 = $8)
         and ($9::text is null or ltrim(serial_number, '0') = $9)
         and ($10::text is null or issuer = $10)
         and ($11::text is null or key_algorithm = $11) and ($12::int is null or key_size = $12)
         and ($13::bigint is null or not_after_ms >= $13) and ($14::bigint is null or not_after_ms < $14)
         and ($15::text is null or starts_with(name, $15))
         and ($16::text[] is null or exists (
           select from unnest($16::text[], $17::text[]) as sought(first, last) cross join lateral (
             select from server_certificate_domain as named
             where named.account_id = $1
               and (named.created_ms, named.random, named.domain)
                 >= (server_certificate.created_ms, server_certificate.random, sought.first)
               and (named.created_ms, named.random, named.domain)
                 <= (server_certificate.created_ms, server_certificate.random, sought.last)
             order by named.created_ms, named.random, named.domain limit 1
           ) as named
           offset 0
         ))
         and (cardinality($18::text[]) = 0 or not exists (
           select from unnest($18::text[], $19::text[]) as wanted(key, value)
           where not exists (
             select from server_certificate_tag as tag
             where tag.account_id = $1 and tag.created_ms = server_certificate.created_ms
               and tag.random = server_certificate.random and tag.key = wanted.key and tag.value = wanted.value
             offset 0
           )
           offset 0
         ))"
    };
}

/// The certificates that `listed` names, in its order. The page ends where its texts would pass 3 MiB, but for the first;
/// `listed` counts what there was before that cut.
macro_rules! page_of_listed {
    ($name:literal, $($listed:tt)*) => {
        Statement {
            name: $name,
            sql: concat!(
                "-- ",
                $name,
                "\n",
                $($listed)*,
                "select * from (
                  select *, count(*) over () as listed, sum(", octets!(), ") over (order by place) as octets,
                    row_number() over (order by place) as row
                  from (",
                columns!(),
                ", place, is_match, is_last
                  from listed cross join lateral (
                    select * from server_certificate
                    where account_id = $1 and created_ms = listed_ms and random = listed_random offset 0
                  ) as server_certificate
                  order by place limit $5) as page
                ) as measured
                where octets <= 3145728 or row = 1
                order by place"
            ),
        }
    };
}

/// Of the certificates of these ids those that meet all criteria, behind a place.
macro_rules! few {
    ($name:literal, $key:literal, $from:literal) => {
        page_of_listed!(
            $name,
            "with listed as (
              select created_ms as listed_ms, random as listed_random, true as is_match, false as is_last,
                row_number() over (order by sort_key, created_ms, random) as place
              from (
                select ",
            $key,
            " as sort_key, created_ms, random
                from unnest($20::bigint[], $21::bigint[]) as few(few_ms, few_random) cross join lateral (
                  select * from server_certificate
                  where account_id = $1 and created_ms = few_ms and random = few_random offset 0
                ) as server_certificate
                where deleted_at is null and ",
            criteria!(),
            "
              ) as met
              where (sort_key, created_ms, random) > (",
            $from,
            ", $3::bigint, $4::bigint)
              order by sort_key, created_ms, random limit $5
            ) "
        )
    };
}

/// From a sort key and an id on, as far as the sort key `last`, along an index, of which `rows` are the next 10, until enough rows
/// meet all criteria. The last row that it may look at is listed too: there the next page goes on. Where the planner sees neither
/// end it takes the index for the order.
macro_rules! walk {
    ($name:literal, $key:literal, $from:literal, $last:literal, $rows:literal) => {
        page_of_listed!(
            $name,
            "with recursive walked as (
              select ", $from, " as sort_key, ", $last, " as last, $3::bigint as walked_ms, $4::bigint as walked_random,
                false as is_match, 0::bigint as place, 0::bigint as met
              union all
              select next.sort_key, walked.last, created_ms, random, next.is_match, next.place, next.met
              from walked cross join lateral (
                select sort_key, created_ms, random, is_match, walked.place + row_number() over in_order as place,
                  walked.met + count(*) filter (where is_match) over in_order as met
                from (
                  select ", $key, " as sort_key, created_ms, random, deleted_at is null and ", criteria!(), " as is_match
                  from (", $rows, " limit 10) as server_certificate
                  offset 0
                ) as step
                window in_order as (order by sort_key, created_ms, random)
              ) as next
              where walked.place % 10 = 0 and walked.place < 10000 and walked.met < $5
            ),
            listed as (
              select walked_ms as listed_ms, walked_random as listed_random, is_match, place = 10000 as is_last, place
              from walked where place > 0 and (is_match or place = 10000)
            ) "
        )
    };
}

/// The ids of up to 2,010 certificates, as a walk reads them.
macro_rules! ids {
    ($name:literal, $key:literal, $from:literal, $last:literal, $rows:literal) => {
        Statement {
            name: $name,
            sql: concat!(
                "-- ",
                $name,
                "\n",
                ids!(@walk "2001", $key, $from, $last, $rows),
                "select walked_ms, walked_random from walked where place > 0"
            ),
        }
    };
    (@walk $most:literal, $key:literal, $from:literal, $last:literal, $rows:literal) => {
        concat!(
            "with recursive walked as (
              select ", $from, " as sort_key, ", $last, " as last, -9223372036854775808 as walked_ms,
                -9223372036854775808 as walked_random, 0::bigint as place
              union all
              select next.sort_key, walked.last, created_ms, random, next.place from walked cross join lateral (
                select sort_key, created_ms, random,
                  walked.place + row_number() over (order by sort_key, created_ms, random) as place
                from (select ", $key, " as sort_key, created_ms, random from ", $rows, " limit 10) as step
              ) as next
              where walked.place % 10 = 0 and walked.place < ", $most, "
            ) "
        )
    };
}

const FEW_BY_CREATION: Statement = few!("store::search_few_by_creation", "0::bigint", "$2::bigint");
const FEW_BY_EXPIRY: Statement = few!("store::search_few_by_expiry", "not_after_ms", "$2::bigint");
const FEW_BY_NAME: Statement = few!(
    "store::search_few_by_name",
    "name collate \"C\"",
    "$2::text collate \"C\""
);

const WALK_BY_CREATION: Statement = walk!(
    "store::search_walk_by_creation",
    "0::bigint",
    "$2::bigint",
    "0::bigint",
    "select * from server_certificate
     where account_id = $1 and deleted_at is null and (created_ms, random) > (walked.walked_ms, walked.walked_random)
     order by created_ms, random"
);
const WALK_BY_EXPIRY: Statement = walk!(
    "store::search_walk_by_expiry",
    "not_after_ms",
    "$2::bigint",
    "coalesce($14::bigint, 9223372036854775807) - 1",
    "select * from server_certificate
     where account_id = $1 and deleted_at is null and not_after_ms <= walked.last
       and (not_after_ms, created_ms, random) > (walked.sort_key, walked.walked_ms, walked.walked_random)
     order by not_after_ms, created_ms, random"
);
// No name has the last character there is.
const WALK_BY_NAME: Statement = walk!(
    "store::search_walk_by_name",
    "name collate \"C\"",
    "$2::text collate \"C\"",
    "(coalesce($15::text, '') || chr(1114111)) collate \"C\"",
    "select * from server_certificate
     where account_id = $1 and deleted_at is null and name collate \"C\" <= walked.last
       and (name collate \"C\", created_ms, random) > (walked.sort_key, walked.walked_ms, walked.walked_random)
     order by name collate \"C\", created_ms, random"
);
// Of these the second parameter is what is sought: no page goes on behind it.
const WALK_OF_REGION: Statement = walk!(
    "store::search_walk_of_region",
    "region_id",
    "$2::text",
    "$2::text",
    "select * from server_certificate
     where account_id = $1 and deleted_at is null and region_id <= walked.last
       and (region_id, created_ms, random) > (walked.sort_key, walked.walked_ms, walked.walked_random)
     order by region_id, created_ms, random"
);
const WALK_OF_ISSUER: Statement = walk!(
    "store::search_walk_of_issuer",
    "hashtextextended(issuer, 0)",
    "hashtextextended($2::text, 0)",
    "hashtextextended($2::text, 0)",
    "select * from server_certificate
     where account_id = $1 and deleted_at is null and hashtextextended(issuer, 0) <= walked.last
       and (hashtextextended(issuer, 0), created_ms, random) > (walked.sort_key, walked.walked_ms, walked.walked_random)
     order by hashtextextended(issuer, 0), created_ms, random"
);
const WALK_OF_KEY_TYPE: Statement = walk!(
    "store::search_walk_of_key_type",
    "key_size",
    "$2::int",
    "$2::int",
    "select * from server_certificate
     where account_id = $1 and deleted_at is null and key_algorithm = $11 and key_size <= walked.last
       and (key_size, created_ms, random) > (walked.sort_key, walked.walked_ms, walked.walked_random)
     order by key_size, created_ms, random"
);
const WALK_OF_TAG: Statement = walk!(
    "store::search_walk_of_tag",
    "tag_value",
    "$2::text",
    "$2::text",
    "select server_certificate.*, tag_value from (
       select created_ms as tagged_ms, random as tagged_random, value as tag_value from server_certificate_tag
       where account_id = $1 and key = ($18::text[])[1] and value <= walked.last
         and (value, created_ms, random) > (walked.sort_key, walked.walked_ms, walked.walked_random)
       order by value, created_ms, random limit 10
     ) as tagged cross join lateral (
       select * from server_certificate
       where account_id = $1 and created_ms = tagged_ms and random = tagged_random offset 0
     ) as server_certificate"
);

// An equality is written as a range: its order is then that of its own index and of no other.
const OF_FINGERPRINT: Statement = ids!(
    "store::search_fingerprint",
    "fingerprint",
    "$2::bytea",
    "$2::bytea",
    "server_certificate
     where account_id = $1 and deleted_at is null and fingerprint <= walked.last
       and (fingerprint, created_ms, random) > (walked.sort_key, walked.walked_ms, walked.walked_random)
     order by fingerprint, created_ms, random"
);
const OF_FINGERPRINT_SHA256: Statement = ids!(
    "store::search_fingerprint_sha256",
    "fingerprint_sha256",
    "$2::bytea",
    "$2::bytea",
    "server_certificate
     where account_id = $1 and deleted_at is null and fingerprint_sha256 <= walked.last
       and (fingerprint_sha256, created_ms, random) > (walked.sort_key, walked.walked_ms, walked.walked_random)
     order by fingerprint_sha256, created_ms, random"
);
const OF_SERIAL: Statement = ids!(
    "store::search_serial",
    "hashtextextended(ltrim(serial_number, '0'), 0)",
    "hashtextextended($2::text, 0)",
    "hashtextextended($2::text, 0)",
    "server_certificate
     where account_id = $1 and deleted_at is null and hashtextextended(ltrim(serial_number, '0'), 0) <= walked.last
       and (hashtextextended(ltrim(serial_number, '0'), 0), created_ms, random) > (walked.sort_key, walked.walked_ms, walked.walked_random)
     order by hashtextextended(ltrim(serial_number, '0'), 0), created_ms, random"
);
const OF_ISSUER: Statement = ids!(
    "store::search_issuer",
    "hashtextextended(issuer, 0)",
    "hashtextextended($2::text, 0)",
    "hashtextextended($2::text, 0)",
    "server_certificate
     where account_id = $1 and deleted_at is null and hashtextextended(issuer, 0) <= walked.last
       and (hashtextextended(issuer, 0), created_ms, random) > (walked.sort_key, walked.walked_ms, walked.walked_random)
     order by hashtextextended(issuer, 0), created_ms, random"
);
const OF_REGION: Statement = ids!(
    "store::search_region",
    "region_id",
    "$2::text",
    "$2::text",
    "server_certificate
     where account_id = $1 and deleted_at is null and region_id <= walked.last
       and (region_id, created_ms, random) > (walked.sort_key, walked.walked_ms, walked.walked_random)
     order by region_id, created_ms, random"
);
const OF_KEY_TYPE: Statement = ids!(
    "store::search_key_type",
    "key_size",
    "$3::int",
    "$4::int",
    "server_certificate
     where account_id = $1 and deleted_at is null and key_algorithm = $2 and key_size <= walked.last
       and (key_size, created_ms, random) > (walked.sort_key, walked.walked_ms, walked.walked_random)
     order by key_size, created_ms, random"
);
const OF_EXPIRY: Statement = ids!(
    "store::search_expiry",
    "not_after_ms",
    "$2::bigint",
    "$3::bigint - 1",
    "server_certificate
     where account_id = $1 and deleted_at is null and not_after_ms <= walked.last
       and (not_after_ms, created_ms, random) > (walked.sort_key, walked.walked_ms, walked.walked_random)
     order by not_after_ms, created_ms, random"
);
const OF_NAME: Statement = ids!(
    "store::search_name",
    "name collate \"C\"",
    "$2::text collate \"C\"",
    "($2::text || chr(1114111)) collate \"C\"",
    "server_certificate
     where account_id = $1 and deleted_at is null and name collate \"C\" <= walked.last
       and (name collate \"C\", created_ms, random) > (walked.sort_key, walked.walked_ms, walked.walked_random)
     order by name collate \"C\", created_ms, random"
);
// Their index has the certificate's hash before the id.
const OF_KEY: Statement = ids!(
    "store::search_key",
    "fingerprint_sha256",
    "''::bytea",
    "$2::bytea",
    "server_certificate
     where account_id = $1 and deleted_at is null and spki_sha256 <= walked.last
       and (spki_sha256, fingerprint_sha256, created_ms, random)
         > (walked.last, walked.sort_key, walked.walked_ms, walked.walked_random)
     order by spki_sha256, fingerprint_sha256, created_ms, random"
);
const OF_TAG: Statement = ids!(
    "store::search_tag",
    "value",
    "$3::text",
    "$3::text",
    "server_certificate_tag
     where account_id = $1 and key = $2 and value <= walked.last
       and (value, created_ms, random) > (walked.sort_key, walked.walked_ms, walked.walked_random)
     order by value, created_ms, random"
);
/// Whose the names in some ranges are; `names` counts them.
const OF_DOMAIN: Statement = Statement {
    name: "store::search_domain",
    sql: concat!(
        "-- store::search_domain
        select named_ms, named_random, (sum(count(*)) over ())::bigint as names
        from unnest($2::text[], $3::text[]) as sought(first, last) cross join lateral (",
        ids!(
            @walk
            "10001",
            "domain",
            "sought.first collate \"C\"",
            "sought.last collate \"C\"",
            "server_certificate_domain
             where account_id = $1 and domain <= walked.last
               and (domain, created_ms, random) > (walked.sort_key, walked.walked_ms, walked.walked_random)
             order by domain, created_ms, random"
        ),
        "select walked_ms as named_ms, walked_random as named_random from walked where place > 0
        ) as named
        group by named_ms, named_random limit 2001"
    ),
};

/// The criteria as parameters, in their columns' types.
struct Sought<'a> {
    account: i64,
    region: Option<&'a str>,
    fingerprint: Option<&'a [u8]>,
    spki_sha256: Option<&'a [u8]>,
    serial: Option<&'a str>,
    issuer: Option<&'a str>,
    key_algorithm: Option<&'static str>,
    key_size: Option<i32>,
    least_key_size: i32,
    largest_key_size: i32,
    from: Option<i64>,
    to: Option<i64>,
    name_prefix: Option<&'a str>,
    first_domains: Option<Vec<&'a str>>,
    last_domains: Option<Vec<&'a str>>,
    tag_keys: Vec<&'a str>,
    tag_values: Vec<&'a str>,
    is_sha256: bool,
}

impl<'a> Sought<'a> {
    fn of(account: AccountId, criteria: &'a Criteria) -> Self {
        let key_size = criteria.key_type.and_then(|key| key.size);
        let domain = criteria.domain.as_ref();
        let (tag_keys, tag_values) = criteria.tags.iter().map(|tag| (tag.key(), tag.value())).unzip();
        Self {
            account: account.as_i64(),
            region: criteria.region.as_ref().map(RegionId::as_str),
            fingerprint: criteria.fingerprint.as_ref().map(SoughtFingerprint::as_bytes),
            spki_sha256: criteria.spki_sha256.as_ref().map(<[u8; 32]>::as_slice),
            serial: criteria.serial_number.as_ref().map(|serial| serial.as_str()),
            issuer: criteria.issuer.as_deref(),
            key_algorithm: criteria.key_type.map(|key| key.algorithm.as_str()),
            key_size,
            least_key_size: key_size.unwrap_or(0),
            largest_key_size: key_size.unwrap_or(i32::MAX),
            from: criteria.expiry.map(|window| window.from),
            to: criteria.expiry.map(|window| window.to),
            name_prefix: criteria.name_prefix.as_deref(),
            first_domains: domain.map(|domain| domain.ranges().map(|(first, _)| first).collect()),
            last_domains: domain.map(|domain| domain.ranges().map(|(_, last)| last).collect()),
            tag_keys,
            tag_values,
            is_sha256: matches!(criteria.fingerprint, Some(SoughtFingerprint::Sha256(_))),
        }
    }

    /// Parameters 6 to 19.
    fn criteria(&self) -> [&(dyn ToSql + Sync); 14] {
        [
            &self.region,
            &self.fingerprint,
            &self.spki_sha256,
            &self.serial,
            &self.issuer,
            &self.key_algorithm,
            &self.key_size,
            &self.from,
            &self.to,
            &self.name_prefix,
            &self.first_domains,
            &self.last_domains,
            &self.tag_keys,
            &self.tag_values,
        ]
    }

    /// What asks for the ids of each criterion, and its parameters behind the account: those first that few certificates meet by
    /// their nature.
    fn lookups(&self) -> Vec<(Statement, Vec<&(dyn ToSql + Sync)>)> {
        let mut lookups: Vec<(Statement, Vec<&(dyn ToSql + Sync)>)> = Vec::new();
        let of_fingerprint = if self.is_sha256 {
            OF_FINGERPRINT_SHA256
        } else {
            OF_FINGERPRINT
        };
        if let Some(fingerprint) = &self.fingerprint {
            lookups.push((of_fingerprint, vec![fingerprint]));
        }
        if let Some(serial) = &self.serial {
            lookups.push((OF_SERIAL, vec![serial]));
        }
        if let Some(spki_sha256) = &self.spki_sha256 {
            lookups.push((OF_KEY, vec![spki_sha256]));
        }
        if let (Some(first), Some(last)) = (&self.first_domains, &self.last_domains) {
            lookups.push((OF_DOMAIN, vec![first, last]));
        }
        for (key, value) in self.tag_keys.iter().zip(&self.tag_values) {
            lookups.push((OF_TAG, vec![key, value]));
        }
        if let Some(name_prefix) = &self.name_prefix {
            lookups.push((OF_NAME, vec![name_prefix]));
        }
        if let (Some(from), Some(to)) = (&self.from, &self.to) {
            lookups.push((OF_EXPIRY, vec![from, to]));
        }
        if let Some(issuer) = &self.issuer {
            lookups.push((OF_ISSUER, vec![issuer]));
        }
        if let Some(key_algorithm) = &self.key_algorithm {
            lookups.push((
                OF_KEY_TYPE,
                vec![key_algorithm, &self.least_key_size, &self.largest_key_size],
            ));
        }
        if let Some(region) = &self.region {
            lookups.push((OF_REGION, vec![region]));
        }
        lookups
    }

    /// The index of a criterion that has the order of creation, and what is sought in it, if one is given.
    fn walk_of_criterion(&self) -> Option<(Statement, &(dyn ToSql + Sync))> {
        if let Some(value) = self.tag_values.first() {
            return Some((WALK_OF_TAG, value));
        }
        if self.issuer.is_some() {
            return Some((WALK_OF_ISSUER, &self.issuer));
        }
        if self.key_size.is_some() {
            return Some((WALK_OF_KEY_TYPE, &self.key_size));
        }
        if self.region.is_some() {
            return Some((WALK_OF_REGION, &self.region));
        }
        None
    }
}

impl Store {
    /// At most `size` live certificates of the account that meet the criteria, behind a place or from the first. A page with
    /// fewer, or none, may still have a next.
    pub async fn search(
        &self,
        account: AccountId,
        criteria: &Criteria,
        order: Order,
        after: Option<Place>,
        size: usize,
    ) -> Result<FoundPage, Error> {
        let sought = Sought::of(account, criteria);
        let after = after.unwrap_or_else(|| Place::start(order, criteria));
        let key: &(dyn ToSql + Sync) = match &after.key {
            SortKey::CreateTime => &0_i64,
            SortKey::ExpireTime(moment) => moment,
            SortKey::Name(name) => name,
        };
        // One more tells whether there is a next page.
        let limit = size as i64 + 1;
        let position = after.position;
        let mut params = vec![&sought.account, key, &position.created_ms, &position.random, &limit];
        params.extend(sought.criteria());

        let few = self.few(&sought).await?;
        let statement = match (&few, order) {
            (Some(_), Order::CreateTime) => FEW_BY_CREATION,
            (Some(_), Order::ExpireTime) => FEW_BY_EXPIRY,
            (Some(_), Order::Name) => FEW_BY_NAME,
            (None, Order::ExpireTime) => WALK_BY_EXPIRY,
            (None, Order::Name) => WALK_BY_NAME,
            (None, Order::CreateTime) => match sought.walk_of_criterion() {
                Some((statement, value)) => {
                    params[1] = value;
                    statement
                }
                None => WALK_BY_CREATION,
            },
        };
        if let Some((created_ms, random)) = &few {
            params.extend::<[&(dyn ToSql + Sync); 2]>([created_ms, random]);
        }
        let rows = self.read(statement, &params).await?;
        page(&rows, order, size)
    }

    /// The ids of the certificates that meet a criterion that few meet, if there is one.
    async fn few(&self, sought: &Sought<'_>) -> Result<Option<(Vec<i64>, Vec<i64>)>, Error> {
        for (statement, of_criterion) in sought.lookups() {
            let mut params: Vec<&(dyn ToSql + Sync)> = vec![&sought.account];
            params.extend(of_criterion);
            let rows = self.read(statement, &params).await?;
            let has_few_names = || match rows.first() {
                Some(row) if statement.name == OF_DOMAIN.name => row.get::<_, i64>("names") <= FEW_NAMES,
                _ => true,
            };
            if rows.len() <= FEW && has_few_names() {
                let ids = rows.iter().map(|row| (row.get::<_, i64>(0), row.get::<_, i64>(1)));
                return Ok(Some(ids.unzip()));
            }
        }
        Ok(None)
    }
}

fn page(rows: &[Row], order: Order, size: usize) -> Result<FoundPage, Error> {
    let is = |row: &Row, column| row.get::<_, bool>(column);
    let matching = rows.iter().filter(|row| is(row, "is_match"));
    let of_server = |row| stored(CertificateKind::Server, row);
    let certificates = matching
        .clone()
        .take(size)
        .map(of_server)
        .collect::<Result<Vec<_>, _>>()?;
    let next = match rows.last() {
        // There is one more than the page has.
        _ if matching.count() > size => certificates.last().map(|last| Place::of(order, last)),
        // Cut at its size, or where the walk had to end.
        Some(last) if last.get::<_, i64>("listed") > rows.len() as i64 || is(last, "is_last") => {
            Some(Place::of(order, &of_server(last)?))
        }
        _ => None,
    };
    Ok(FoundPage { certificates, next })
}
