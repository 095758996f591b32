//! The parts that the statements for a change of one certificate share.
//!
//! Their parameters are $1 to $3 the id, $4 the kind or null, $5 the region or null, $6 the revision or null, $7 the access key,
//! $8 the request, $9 the address, $10 to $12 the caller's scope, and $13 a value of the statement's own ([`Store::change`]).

use tokio_postgres::types::ToSql;

use super::scope;
use super::write::{Lost, Outcome, Trace};
use super::{Error, Precondition, Statement, Store, id_columns};
use crate::account::Actor;
use crate::inventory::{CertificateKind, RegionId};

/// `target`: the locked certificate, if it meets the precondition. If another transaction has just changed it, Postgres checks the new
/// row, so a certificate that has left the scope is not changed. A CTE `changed` must follow, with the same columns.
///
/// Liveness is tested with `num_nulls`: then only the primary key can serve the statement, whenever it is planned. With
/// `deleted_at is null`, each index of the live certificates could.
macro_rules! target {
    (live) => {
        target!("1")
    };
    (deleted) => {
        target!("0")
    };
    ($nulls:literal) => {
        concat!(
            "with target as (
               select account_id, created_ms, random, kind, region_id, name, resource_group_id, revision + 1 as revision, version,
                 searchable_names
               from certificate
               where account_id = $1 and created_ms = $2 and random = $3 and ($4::text is null or kind = $4)
                 and ($5::text is null or region_id = $5) and ($6::bigint is null or revision = $6)
                 and num_nulls(deleted_at) = ",
            $nulls,
            " and ",
            in_scope!("$10", "$11", "$12"),
            " for update
             ), "
        )
    };
}
pub(super) use target;

/// The certificate that a CTE updates or deletes.
macro_rules! is_target {
    () => {
        "certificate.account_id = $1 and certificate.created_ms = $2 and certificate.random = $3"
    };
}
pub(super) use is_target;

/// `counted`: the certificates of `changed`, after an update of their counter.
macro_rules! counted {
    ($set:literal) => {
        concat!(
            ", counter as (
               update certificate_count as counter set ",
            $set,
            " from changed
               where counter.account_id = changed.account_id and counter.kind = changed.kind
                 and counter.region_id = changed.region_id
               returning 1
             ),
             counted as (select changed.* from changed cross join (select count(*) from counter) as counter_is_locked)"
        )
    };
}
pub(super) use counted;

/// Raises the stream's position for the certificate in `$from`, as the last lock, and inserts its event.
macro_rules! event {
    ($kind:literal, $from:literal) => {
        event!($kind, $from, "null")
    };
    ($kind:literal, $from:literal, $detail:expr) => {
        concat!(
            ", stream as (
               insert into stream as s (account_id, name, position) select account_id, 'certificates', 1 from ",
            $from,
            " on conflict (account_id, name) do update set position = s.position + 1
               returning position
             ),
             event_row as (
               insert into event (account_id, position, created_ms, random, certificate_kind, kind, revision, version,
                 principal, request_id, address, detail)
               select account_id, stream.position, created_ms, random, kind, '",
            $kind,
            "', revision, version, $7::text, $8::uuid, $9::inet, ",
            $detail,
            " from ",
            $from,
            " cross join stream
             ) "
        )
    };
}
pub(super) use event;

/// The detail of a purge: the last values of the fields that watchers filter by. The row that has them is gone.
macro_rules! last_state {
    () => {
        "jsonb_build_object(
           'region_id', jsonb_build_array(region_id, null),
           'name', jsonb_build_array(name, null),
           'resource_group_id', jsonb_build_array(resource_group_id, null),
           'tags', jsonb_build_array(
             coalesce((
               select jsonb_object_agg(tag.key, tag.value) from certificate_tag as tag
               where tag.account_id = $1 and tag.created_ms = $2 and tag.random = $3
             ), '{}'), null
           )
         )"
    };
}
pub(super) use last_state;

impl Store {
    /// Runs a statement that changes a certificate. The statement answers the new revision, or no row if there is no certificate
    /// that meets the precondition. `value` is the parameter $13.
    pub(super) async fn change(
        &self,
        statement: Statement,
        precondition: Precondition<'_>,
        actor: &Actor,
        value: Option<&(dyn ToSql + Sync)>,
    ) -> Result<Outcome, Error> {
        let Precondition {
            id,
            kind,
            region,
            revision,
            scope,
        } = precondition;
        let (account, created, random) = id_columns(id);
        let kind = kind.map(CertificateKind::as_str);
        let region = region.map(RegionId::as_str);
        let principal = actor.principal.id();
        let [regions, groups, prefixes] = scope::parameters(scope, id.account);
        let mut params: Vec<&(dyn ToSql + Sync)> = vec![
            &account,
            &created,
            &random,
            &kind,
            &region,
            &revision,
            &principal,
            &actor.request_id,
            &actor.address,
            &regions,
            &groups,
            &prefixes,
        ];
        params.extend(value);
        let trace = Trace::Event(id, actor.request_id);
        self.write(Lost::No, statement, trace, &params).await
    }
}
