//! The statement that stores certificates: its parameters and its text, both made from one list of columns.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::Statement;
use super::client_token::TokenOf;
use super::reuse::reuse_columns;
use super::upload::{FIRST, NewCertificate};
use crate::inventory::{CertificateKind, searchable_issuer, searchable_names};
use crate::seal::SealedPair;

/// A column of an upload, which is a parameter of the statement. The text of the statement names it.
struct Column {
    name: &'static str,
    value: Value,
}

/// The value of a column for a certificate. Its variant is the type in Postgres.
#[derive(Clone, Copy)]
enum Value {
    BigInt(fn(&NewCertificate) -> i64),
    Bool(fn(&NewCertificate) -> bool),
    Bytes(fn(&NewCertificate) -> Option<&[u8]>),
    Inet(fn(&NewCertificate) -> Option<IpAddr>),
    Int(fn(&NewCertificate) -> i32),
    Text(fn(&NewCertificate) -> Option<&str>),
    OwnedText(fn(&NewCertificate) -> String),
    Uuid(fn(&NewCertificate) -> Option<Uuid>),
}
use Value::{BigInt, Bool, Bytes, Inet, Int, Text};

/// The columns of the table `certificate`. Each length fits into an int: the size of a request keeps it far below 2^31.
#[rustfmt::skip]
const CERTIFICATE: &[Column] = &[
    Column { name: "account_id", value: BigInt(|new| new.content.id().account.as_i64()) },
    Column { name: "created_ms", value: BigInt(|new| new.content.id().created.millis()) },
    Column { name: "random", value: BigInt(|new| new.content.id().random) },
    Column { name: "kind", value: Text(|new| Some(new.content.kind().as_str())) },
    Column { name: "region_id", value: Text(|new| Some(new.region.as_str())) },
    Column { name: "name", value: Text(|new| Some(new.name.as_str())) },
    Column { name: "key_id", value: Value::Uuid(|new| new.content.pair().map(SealedPair::key_id)) },
    Column { name: "fingerprint", value: Bytes(|new| Some(new.content.certificate().facts().fingerprint.as_bytes())) },
    Column { name: "fingerprint_sha256", value: Bytes(|new| Some(new.content.certificate().facts().fingerprint_sha256.as_bytes())) },
    Column { name: "common_name", value: Text(|new| Some(&new.content.certificate().facts().common_name)) },
    Column { name: "not_before_ms", value: BigInt(|new| new.content.certificate().facts().not_before.millis()) },
    Column { name: "not_after_ms", value: BigInt(|new| new.content.certificate().facts().not_after.millis()) },
    Column { name: "chain_not_after_ms", value: BigInt(|new| new.content.certificate().facts().chain_not_after.millis()) },
    Column { name: "serial_number", value: Text(|new| Some(&new.content.certificate().facts().serial_number)) },
    Column { name: "issuer", value: Text(|new| Some(&new.content.certificate().facts().issuer)) },
    Column { name: "searchable_issuer", value: Value::OwnedText(searchable_issuer_of) },
    Column { name: "subject", value: Text(|new| Some(&new.content.certificate().facts().subject)) },
    Column { name: "key_algorithm", value: Text(|new| Some(new.content.certificate().facts().key_algorithm.as_str())) },
    Column { name: "key_size", value: Int(|new| new.content.certificate().facts().key_size as i32) }, // At most 16384.
    Column { name: "signature_algorithm", value: Text(|new| Some(&new.content.certificate().facts().signature_algorithm)) },
    Column { name: "spki_sha256", value: Bytes(|new| Some(&new.content.certificate().facts().spki_sha256)) },
    Column { name: "chain_length", value: Int(|new| new.content.certificate().chain().der().count() as i32) },
    Column { name: "ali_cloud_certificate_id", value: Text(|new| new.ali_cloud.as_ref().map(|of| of.id.as_str())) },
    Column { name: "ali_cloud_certificate_name", value: Text(|new| new.ali_cloud.as_ref().map(|of| of.name.as_str())) },
    Column { name: "ali_cloud_certificate_region_id", value: Text(|new| new.ali_cloud.as_ref().map(|of| of.region_id.as_str())) },
    Column { name: "resource_group_id", value: Text(|new| new.resource_group.stored(new.content.id().account)) },
];

/// The other columns of an upload.
#[rustfmt::skip]
const UPLOAD: &[Column] = &[
    Column { name: "names_length", value: Int(|new| new.content.certificate().facts().subject_alternative_names.len() as i32) },
    Column { name: "searchable_length", value: Int(|new| searchable(new).len() as i32) },
    Column { name: "sealed", value: Bytes(|new| new.content.pair().map(|pair| pair.private_key().as_bytes())) },
    Column { name: "principal", value: Text(|new| Some(new.actor.principal.id())) },
    Column { name: "request_id", value: Value::Uuid(|new| Some(new.actor.request_id)) },
    Column { name: "address", value: Inet(|new| new.actor.address) },
    Column { name: "with_fingerprints", value: Bool(|new| new.with_account_fingerprints) },
    Column { name: "method", value: Text(|new| Some(TokenOf::Upload(new.content.kind()).method())) },
    Column { name: "client_token", value: Text(|new| new.client_token.as_ref().map(|token| token.token.as_str())) },
    Column { name: "request_mac", value: Bytes(|new| new.client_token.as_ref().map(|token| token.request_mac.as_slice())) },
    Column { name: "quota", value: BigInt(|new| new.quota) },
];

/// The lists of all certificates of a batch, one after the other: the parameters after the columns.
const LISTS: [(&str, &str); 6] = [
    ("all_names", "text[]"),
    ("all_chains", "bytea[]"),
    ("all_searchable", "text[]"),
    ("tag_row", "bigint[]"),
    ("tag_key", "text[]"),
    ("tag_value", "text[]"),
];

type Parameter<'a> = Box<dyn ToSql + Send + Sync + 'a>;

/// The parameters for certificates: for one its values, for several an array for each column.
pub(super) fn parameters(certificates: &[Arc<NewCertificate>]) -> Vec<Parameter<'_>> {
    let mut parameters: Vec<_> = columns().map(|column| column.parameter(certificates)).collect();
    let names = certificates
        .iter()
        .flat_map(|new| &new.content.certificate().facts().subject_alternative_names);
    parameters.push(Box::new(names.map(String::as_str).collect::<Vec<_>>()));
    let chains = certificates
        .iter()
        .flat_map(|new| new.content.certificate().chain().der());
    parameters.push(Box::new(chains.collect::<Vec<_>>()));
    parameters.push(Box::new(
        certificates.iter().flat_map(|new| searchable(new)).collect::<Vec<_>>(),
    ));
    let tags = || {
        (1_i64..)
            .zip(certificates)
            .flat_map(|(row, new)| new.tags.iter().map(move |tag| (row, tag)))
    };
    parameters.push(Box::new(tags().map(|(row, _)| row).collect::<Vec<_>>()));
    parameters.push(Box::new(tags().map(|(_, tag)| tag.key()).collect::<Vec<_>>()));
    parameters.push(Box::new(tags().map(|(_, tag)| tag.value()).collect::<Vec<_>>()));
    parameters
}

/// The statement for one certificate, which costs less to begin, and the statement for several, which share its cost. Both answer
/// a row for each certificate: whether its token was seen before, whether it is stored, and the account's fingerprints. A
/// certificate that is neither seen nor stored exceeds the quota: its token stays and is void, since its certificate has no event.
pub(super) fn statement(certificates: &[Arc<NewCertificate>]) -> Statement {
    static ONE: LazyLock<String> = LazyLock::new(|| text("store::upload", &one_accepted(), ONE_ANSWER));
    static MANY: LazyLock<String> = LazyLock::new(|| text("store::upload_together", &many_accepted(), MANY_ANSWER));
    match certificates {
        [_] => Statement {
            name: "store::upload",
            sql: &ONE,
        },
        _ => Statement {
            name: "store::upload_together",
            sql: &MANY,
        },
    }
}

/// Only server certificates are searched.
fn searchable(new: &NewCertificate) -> BTreeSet<String> {
    match new.content.kind() {
        CertificateKind::Server => searchable_names(new.content.certificate().facts()),
        CertificateKind::Ca => BTreeSet::new(),
    }
}

fn searchable_issuer_of(new: &NewCertificate) -> String {
    match new.content.kind() {
        CertificateKind::Server => searchable_issuer(&new.content.certificate().facts().issuer),
        CertificateKind::Ca => String::new(),
    }
}

fn columns() -> impl Iterator<Item = &'static Column> {
    CERTIFICATE.iter().chain(UPLOAD)
}

fn names<'a>(columns: impl IntoIterator<Item = &'a Column>) -> String {
    let names: Vec<_> = columns.into_iter().map(|column| column.name).collect();
    names.join(", ")
}

impl Column {
    fn parameter<'a>(&self, certificates: &'a [Arc<NewCertificate>]) -> Parameter<'a> {
        fn boxed<'a, T: ToSql + Send + Sync + 'a>(
            certificates: &'a [Arc<NewCertificate>],
            value: impl Fn(&'a NewCertificate) -> T,
        ) -> Parameter<'a> {
            match certificates {
                [one] => Box::new(value(one)),
                many => Box::new(many.iter().map(|new| value(new)).collect::<Vec<_>>()),
            }
        }
        match self.value {
            BigInt(value) => boxed(certificates, value),
            Bool(value) => boxed(certificates, value),
            Bytes(value) => boxed(certificates, value),
            Inet(value) => boxed(certificates, value),
            Int(value) => boxed(certificates, value),
            Text(value) => boxed(certificates, value),
            Value::OwnedText(value) => boxed(certificates, value),
            Value::Uuid(value) => boxed(certificates, value),
        }
    }

    fn sql_type(&self) -> &'static str {
        match self.value {
            BigInt(_) => "bigint",
            Bool(_) => "bool",
            Bytes(_) => "bytea",
            Inet(_) => "inet",
            Int(_) => "int",
            Text(_) | Value::OwnedText(_) => "text",
            Value::Uuid(_) => "uuid",
        }
    }
}

/// A list, as the text of the statement writes it.
fn list(name: &str) -> String {
    let index = LISTS.iter().position(|(list, _)| *list == name);
    // Each name in this file is one of the lists.
    let index = index.unwrap_or_else(|| unreachable!("{name} is no list"));
    format!("${}::{}", columns().count() + index + 1, LISTS[index].1)
}

/// The CTEs from `input`, with a row for each certificate, to `accepted`, with the certificates to store, and `stream`, with the
/// last position of each account. `from_last` is 0 for the last certificate of an account, and -1 for the one before.
fn many_accepted() -> String {
    let mut arrays = String::new();
    for (column, number) in columns().zip(1..) {
        // Writing to a String does not fail.
        let _ = write!(arrays, "${number}::{}[], ", column.sql_type());
    }
    format!(
        "with input as materialized (
          select *, (sum(names_length) over (order by row))::int as names_to,
            (sum(chain_length) over (order by row))::int as chain_to,
            (sum(searchable_length) over (order by row))::int as searchable_to
          from unnest({arrays}) with ordinality as input({names}, row)
        ),
        token as (
          insert into client_token (account_id, method, client_token, created_ms, random, request_mac)
          select account_id, method, client_token, created_ms, random, request_mac
          from input where client_token is not null order by account_id, method, client_token
          on conflict (account_id, method, client_token) do nothing
          returning account_id, created_ms, random
        ),
        candidate as materialized (
          select input.*, row_number() over (partition by account_id, kind, region_id order by row) as place
          from input left join token using (account_id, created_ms, random)
          where input.client_token is null or token.account_id is not null
        ),
        wanted as (
          select account_id, kind, region_id, count(*) as live,
            coalesce(
              (select maximum from quota where quota.account_id = candidate.account_id and quota.kind = candidate.kind),
              min(quota)
            ) as maximum
          from candidate group by account_id, kind, region_id
        ),
        counted as (
          insert into certificate_count as counter (account_id, kind, region_id, live, granted)
          select account_id, kind, region_id, least(live, maximum), least(live, maximum)
          from wanted where maximum > 0 order by account_id, kind, region_id
          on conflict (account_id, kind, region_id) do update set (live, granted) = (
            select counter.live + fitting, fitting
            from wanted cross join lateral (
              select greatest(0, least(wanted.live, wanted.maximum - counter.live)) as fitting
            ) as room
            where wanted.account_id = counter.account_id and wanted.kind = counter.kind
              and wanted.region_id = counter.region_id
          )
          returning account_id, kind, region_id, granted
        ),
        accepted as materialized (
          select candidate.*, ({all_names})[names_to - names_length + 1:names_to] as names,
            ({all_chains})[chain_to - chain_length + 1:chain_to] as chain,
            ({all_searchable})[searchable_to - searchable_length + 1:searchable_to] as searchable_names,
            row_number() over (partition by account_id order by row) - count(*) over (partition by account_id) as from_last
          from candidate join counted using (account_id, kind, region_id) where place <= granted
        ),
        stream as (
          insert into stream as s (account_id, name, position)
          select account_id, 'certificates', count(*) from accepted group by account_id order by account_id
          on conflict (account_id, name) do update set position = s.position + excluded.position
          returning account_id, position
        )",
        names = names(columns()),
        arrays = arrays.trim_end_matches(", "),
        all_names = list("all_names"),
        all_chains = list("all_chains"),
        all_searchable = list("all_searchable"),
    )
}

/// The same for one. A CTE that is not materialized costs no step of its own: its columns are parameters wherever they are named.
fn one_accepted() -> String {
    let mut values = String::new();
    for (column, number) in columns().zip(1..) {
        // Writing to a String does not fail.
        let _ = write!(values, "${number}::{} as {}, ", column.sql_type(), column.name);
    }
    format!(
        "with input as not materialized (
          select {values}{all_names} as names, {all_chains} as chain, {all_searchable} as searchable_names,
            1::bigint as row
        ),
        token as (
          insert into client_token (account_id, method, client_token, created_ms, random, request_mac)
          select account_id, method, client_token, created_ms, random, request_mac
          from input where client_token is not null
          on conflict (account_id, method, client_token) do nothing
          returning account_id
        ),
        wanted as (
          select account_id, kind, region_id,
            coalesce(
              (select maximum from quota where quota.account_id = input.account_id and quota.kind = input.kind), quota
            ) as maximum
          from input where client_token is null or exists (select from token)
        ),
        counted as (
          insert into certificate_count as counter (account_id, kind, region_id, live, granted)
          select account_id, kind, region_id, 1, 1 from wanted where maximum > 0
          on conflict (account_id, kind, region_id) do update set live = counter.live + 1, granted = 1
          where counter.live < (select maximum from wanted)
          returning 1
        ),
        accepted as not materialized (select input.*, 0 as from_last from input cross join counted),
        stream as (
          insert into stream as s (account_id, name, position) select account_id, 'certificates', 1 from accepted
          on conflict (account_id, name) do update set position = s.position + 1
          returning account_id, position
        )",
        all_names = list("all_names"),
        all_chains = list("all_chains"),
        all_searchable = list("all_searchable"),
    )
}

fn text(name: &str, accepted: &str, answer: &str) -> String {
    format!(
        "-- {name}
        {accepted},
        certificate_row as (
          insert into certificate ({columns}, revision, version, subject_alternative_names, chain, searchable_names)
          select {columns}, {FIRST}, {FIRST}, names, chain, searchable_names from accepted
          returning account_id, created_ms, random, kind, fingerprint
        ),
        key_row as (
          insert into private_key (account_id, created_ms, random, key_id, sealed)
          select account_id, created_ms, random, key_id, sealed from accepted where key_id is not null
        ),
        name_row as (
          insert into searchable_name (account_id, searchable_name, created_ms, random)
          select account_id, unnest(searchable_names), created_ms, random from accepted
        ),
        tag_row as (
          insert into certificate_tag (account_id, created_ms, random, kind, key, value)
          select account_id, created_ms, random, kind, key, value
          from unnest({tag_row}, {tag_key}, {tag_value}) as tag(row, key, value) join accepted using (row)
        ),
        event_row as (
          insert into event (account_id, position, created_ms, random, certificate_kind, kind, revision, version,
            principal, request_id, address)
          select account_id, stream.position + from_last, created_ms, random, kind, 'uploaded', {FIRST}, {FIRST},
            principal, request_id, address
          from accepted join stream using (account_id)
        )
        select {reuse},
          {answer}",
        columns = names(CERTIFICATE),
        tag_row = list("tag_row"),
        tag_key = list("tag_key"),
        tag_value = list("tag_value"),
        reuse = reuse_columns!(),
    )
}

/// The fingerprints of the account of `asked`, one after the other, if they are asked for. A SELECT beside a data-modifying CTE
/// does not see the rows of that CTE, so the new certificates are added to those that it sees. The rows are ordered before they
/// are aggregated: the index yields them in this order, but an aggregate with its own ORDER BY sorts. The statement reads one
/// fingerprint more than an answer holds, which tells that there are too many.
macro_rules! account_fingerprints {
    () => {
        "case when asked.with_fingerprints then (
            select string_agg(fingerprint, ''::bytea) from (
              select fingerprint from (
                (
                  select created_ms, random, fingerprint from certificate
                  where account_id = asked.account_id and kind = 'server' and deleted_at is null
                  order by created_ms, random limit 50001
                )
                union all
                select created_ms, random, fingerprint from certificate_row
                where account_id = asked.account_id and kind = 'server'
              ) as of_account order by created_ms, random
            ) as in_order
          ) end as fingerprints"
    };
}

const MANY_ANSWER: &str = concat!(
    "candidate.account_id is null as token_seen, certificate_row.account_id is not null as stored, ",
    account_fingerprints!(),
    " from input as asked
        left join candidate using (account_id, created_ms, random)
        left join certificate_row using (account_id, created_ms, random)
      order by asked.row"
);

const ONE_ANSWER: &str = concat!(
    "client_token is not null and not exists (select from token) as token_seen, exists (select from counted) as stored, ",
    account_fingerprints!(),
    " from input as asked"
);
