//! The criteria of a search as parameters of SQL, and the condition that checks a row against all of them.

use tokio_postgres::types::ToSql;

use super::{Cursor, Order, SortKey};
use crate::account::AccountId;
use crate::inventory::{Criteria, RegionId, Scope, SoughtFingerprint, SoughtIssuer, SoughtSerial};
use crate::store::scope;

/// A parameter of a statement.
pub(super) type Parameter<'a> = &'a (dyn ToSql + Sync);

/// Whether a row of `certificate` meets all criteria and is in the scope. They are parameters 7 to 24 ([`Parameters::of_page`]); one
/// that was not given is null. The inner orders and `offset 0` leave the planner one index for each subquery.
macro_rules! criteria {
    () => {
        concat!(in_scope!("$21", "$22", "$23"), " and ($7::text is null or region_id = $7)
         and ($8::bytea is null or fingerprint = $8 or fingerprint_sha256 = $8)
         and ($9::bytea is null or spki_sha256 = $9)
         and ($10::text[] is null or serial_number = any($10))
         and ($11::text[] is null or not exists (
           select from unnest($11::text[]) as sought(attribute) where strpos(searchable_issuer, sought.attribute) = 0 offset 0
         ))
         and ($12::text is null or key_algorithm = $12) and ($13::int is null or key_size = $13)
         and ($14::bigint is null or chain_not_after_ms >= $14) and ($15::bigint is null or chain_not_after_ms < $15)
         and ($16::text is null or starts_with(name, $16))
         and ($17::text[] is null or exists (
           select from unnest(searchable_names) as has(name), unnest($17::text[], $18::text[]) as sought(first, last)
           where has.name >= sought.first collate \"C\" and has.name <= sought.last collate \"C\"
           offset 0
         ))
         and (cardinality($19::text[]) = 0 or cardinality($19::text[]) = (
           select count(*) from (
             select from certificate_tag as tag
             where tag.account_id = $1 and tag.created_ms = certificate.created_ms
               and tag.random = certificate.random and tag.key = any($19::text[])
               and tag.value = ($20::text[])[array_position($19::text[], tag.key)]
             order by tag.created_ms, tag.random, tag.key offset 0
           ) as tag
         ))
         and ($24::bool is not true or exists (
           select from compromised_certificate as noted
           where noted.account_id = $1 and noted.created_ms = certificate.created_ms and noted.random = certificate.random
             and noted.fingerprint_sha256 = certificate.fingerprint_sha256
           order by noted.created_ms, noted.random limit 1
         ))")
    };
}
pub(super) use criteria;

/// The account, the cursor, the size and the criteria, in the types of their columns.
pub(super) struct Parameters<'a> {
    pub(super) account: i64,
    /// Of the cursor: 0 or `""` where the order is another.
    after_expiry: i64,
    after_name: &'a str,
    after_ms: i64,
    after_random: i64,
    /// One more than the page has: it tells whether there is a next page.
    limit: i64,
    region: Option<&'a str>,
    pub(super) fingerprint: Option<&'a [u8]>,
    pub(super) spki_sha256: Option<&'a [u8]>,
    pub(super) serial_numbers: Option<&'a [String]>,
    issuer: Option<&'a [String]>,
    key_algorithm: Option<&'static str>,
    key_size: Option<i32>,
    expires_from: Option<i64>,
    expires_before: Option<i64>,
    name_prefix: Option<&'a str>,
    pub(super) first_domains: Option<Vec<&'a str>>,
    pub(super) last_domains: Option<Vec<&'a str>>,
    tag_keys: Vec<&'a str>,
    tag_values: Vec<&'a str>,
    /// The regions, the resource groups and the beginnings of names of the scope.
    scope: [Option<Vec<&'a str>>; 3],
    pub(super) is_sha256: bool,
    pub(super) is_compromised: bool,
}

impl<'a> Parameters<'a> {
    pub(super) fn of(
        (account, scope): (AccountId, &'a Scope),
        criteria: &'a Criteria,
        after: &'a Cursor,
        size: usize,
    ) -> Self {
        let (after_expiry, after_name) = match &after.key {
            SortKey::CreateTime => (0, ""),
            SortKey::ExpireTime(moment) => (*moment, ""),
            SortKey::Name(name) => (0, name.as_str()),
        };
        let domain = criteria.domain.as_ref();
        let (tag_keys, tag_values) = criteria.tags.iter().map(|tag| (tag.key(), tag.value())).unzip();
        Self {
            account: account.as_i64(),
            after_expiry,
            after_name,
            after_ms: after.position.created_ms,
            after_random: after.position.random,
            limit: size as i64 + 1,
            region: criteria.region.as_ref().map(RegionId::as_str),
            fingerprint: criteria.fingerprint.as_ref().map(SoughtFingerprint::as_bytes),
            spki_sha256: criteria.spki_sha256.as_ref().map(<[u8; 32]>::as_slice),
            serial_numbers: criteria.serial_number.as_ref().map(SoughtSerial::texts),
            issuer: criteria.issuer.as_ref().map(SoughtIssuer::texts),
            key_algorithm: criteria.key_type.map(|key| key.algorithm.as_str()),
            key_size: criteria.key_type.and_then(|key| key.size),
            expires_from: criteria.expiry.map(|window| window.from),
            expires_before: criteria.expiry.map(|window| window.to),
            name_prefix: criteria.name_prefix.as_deref(),
            first_domains: domain.map(|domain| domain.ranges().map(|(first, _)| first).collect()),
            last_domains: domain.map(|domain| domain.ranges().map(|(_, last)| last).collect()),
            tag_keys,
            tag_values,
            scope: scope::parameters(scope, account),
            is_compromised: criteria.is_compromised,
            is_sha256: matches!(criteria.fingerprint, Some(SoughtFingerprint::Sha256(_))),
        }
    }

    /// The parameters of a walk, 1 to 24.
    pub(super) fn of_page(&self) -> [Parameter<'_>; 24] {
        let [regions, groups, prefixes] = &self.scope;
        [
            &self.account,
            &self.after_expiry,
            &self.after_name,
            &self.after_ms,
            &self.after_random,
            &self.limit,
            &self.region,
            &self.fingerprint,
            &self.spki_sha256,
            &self.serial_numbers,
            &self.issuer,
            &self.key_algorithm,
            &self.key_size,
            &self.expires_from,
            &self.expires_before,
            &self.name_prefix,
            &self.first_domains,
            &self.last_domains,
            &self.tag_keys,
            &self.tag_values,
            regions,
            groups,
            prefixes,
            &self.is_compromised,
        ]
    }

    /// The same with the ids to choose from and the order, parameters 25 to 28.
    pub(super) fn of_page_of_ids<'b>(&'b self, ids: &'b (Vec<i64>, Vec<i64>), order: &'b Order) -> Vec<Parameter<'b>> {
        let (by_expiry, by_name) = match order {
            Order::CreateTime => (&false, &false),
            Order::ExpireTime => (&true, &false),
            Order::Name => (&false, &true),
        };
        let mut parameters = Vec::from(self.of_page());
        parameters.extend::<[Parameter<'_>; 4]>([&ids.0, &ids.1, by_expiry, by_name]);
        parameters
    }
}
