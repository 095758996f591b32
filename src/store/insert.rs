//! The statement that stores certificates: its parameters, a column each, and its text.

use std::sync::Arc;

use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::reuse::reuse_columns;
use super::upload::{FIRST, NewCertificate};
use super::{Statement, id_columns};
use crate::inventory::{CertificateKind, searchable_names};
use crate::seal::SealedPair;

/// One row for each certificate, in arrays: a column is an array, and what a certificate has several of stands in one array
/// for all, with the first and last place of each certificate's part.
#[derive(Default)]
pub(super) struct Batch<'a> {
    account_id: Vec<i64>,
    created_ms: Vec<i64>,
    random: Vec<i64>,
    region_id: Vec<&'a str>,
    name: Vec<&'a str>,
    key_id: Vec<Option<Uuid>>,
    fingerprint: Vec<&'a [u8]>,
    fingerprint_sha256: Vec<&'a [u8]>,
    common_name: Vec<&'a str>,
    not_before_ms: Vec<i64>,
    not_after_ms: Vec<i64>,
    serial_number: Vec<&'a str>,
    issuer: Vec<&'a str>,
    subject: Vec<&'a str>,
    key_algorithm: Vec<&'static str>,
    key_size: Vec<i32>,
    signature_algorithm: Vec<&'a str>,
    spki_sha256: Vec<&'a [u8]>,
    sealed: Vec<Option<&'a [u8]>>,
    access_key_id: Vec<&'a str>,
    request_id: Vec<Uuid>,
    with_fingerprints: Vec<bool>,
    names_from: Vec<i32>,
    names_to: Vec<i32>,
    chain_from: Vec<i32>,
    chain_to: Vec<i32>,
    client_token: Vec<Option<&'a str>>,
    request_mac: Vec<Option<&'a [u8]>>,
    quota: Vec<i64>,
    resource_group_id: Vec<Option<&'a str>>,
    names: Vec<&'a str>,
    chain: Vec<&'a [u8]>,
    searchable_names: Vec<String>,
    searchable_from: Vec<i32>,
    searchable_to: Vec<i32>,
    tag_row: Vec<i64>,
    tag_key: Vec<&'a str>,
    tag_value: Vec<&'a str>,
}

/// The parameters, each a column of the batch or its value of one row.
macro_rules! params {
    ($batch:ident, $method:ident $(, $row:tt)?) => {{
        let params: [&(dyn ToSql + Sync); 34] = [
            &$batch.account_id$($row)?,
            &$batch.created_ms$($row)?,
            &$batch.random$($row)?,
            &$batch.region_id$($row)?,
            &$batch.name$($row)?,
            &$batch.key_id$($row)?,
            &$batch.fingerprint$($row)?,
            &$batch.fingerprint_sha256$($row)?,
            &$batch.common_name$($row)?,
            &$batch.not_before_ms$($row)?,
            &$batch.not_after_ms$($row)?,
            &$batch.serial_number$($row)?,
            &$batch.issuer$($row)?,
            &$batch.subject$($row)?,
            &$batch.key_algorithm$($row)?,
            &$batch.key_size$($row)?,
            &$batch.signature_algorithm$($row)?,
            &$batch.spki_sha256$($row)?,
            &$batch.sealed$($row)?,
            &$batch.access_key_id$($row)?,
            &$batch.request_id$($row)?,
            &$batch.with_fingerprints$($row)?,
            &$batch.client_token$($row)?,
            &$batch.request_mac$($row)?,
            &$batch.quota$($row)?,
            &$batch.resource_group_id$($row)?,
            &$batch.names,
            &$batch.chain,
            &$batch.tag_row,
            &$batch.tag_key,
            &$batch.tag_value,
            $method,
            &FIRST,
            &$batch.searchable_names,
        ];
        params
    }};
}

impl<'a> Batch<'a> {
    pub(super) fn of(certificates: &'a [Arc<NewCertificate>]) -> Self {
        let mut batch = Self::default();
        for (row, new) in (1..).zip(certificates) {
            batch.push(row, new);
        }
        batch
    }

    fn push(&mut self, row: i64, new: &'a NewCertificate) {
        let (account_id, created_ms, random) = id_columns(new.content.id());
        let (facts, pair) = (new.content.certificate().facts(), new.content.pair());
        self.account_id.push(account_id);
        self.created_ms.push(created_ms);
        self.random.push(random);
        self.region_id.push(new.region.as_str());
        self.name.push(new.name.as_str());
        self.key_id.push(pair.map(SealedPair::key_id));
        self.fingerprint.push(facts.fingerprint.as_bytes());
        self.fingerprint_sha256.push(facts.fingerprint_sha256.as_bytes());
        self.common_name.push(&facts.common_name);
        self.not_before_ms.push(facts.not_before.millis());
        self.not_after_ms.push(facts.not_after.millis());
        self.serial_number.push(&facts.serial_number);
        self.issuer.push(&facts.issuer);
        self.subject.push(&facts.subject);
        self.key_algorithm.push(facts.key_algorithm.as_str());
        self.key_size.push(facts.key_size as i32); // At most 16384.
        self.signature_algorithm.push(&facts.signature_algorithm);
        self.spki_sha256.push(&facts.spki_sha256);
        self.sealed.push(pair.map(|pair| pair.private_key().as_bytes()));
        self.access_key_id.push(&new.access_key_id);
        self.request_id.push(new.request_id);
        self.with_fingerprints.push(new.with_account_fingerprints);
        // Array places count from 1; a request's size keeps all of them far below 2^31.
        self.names_from.push(self.names.len() as i32 + 1);
        self.names
            .extend(facts.subject_alternative_names.iter().map(String::as_str));
        self.names_to.push(self.names.len() as i32);
        self.chain_from.push(self.chain.len() as i32 + 1);
        self.chain.extend(new.content.certificate().chain().der());
        self.chain_to.push(self.chain.len() as i32);
        self.searchable_from.push(self.searchable_names.len() as i32 + 1);
        if new.content.id().kind == CertificateKind::Server {
            self.searchable_names.extend(searchable_names(facts));
        }
        self.searchable_to.push(self.searchable_names.len() as i32);
        let token = new.client_token.as_ref();
        self.client_token.push(token.map(|token| token.token.as_str()));
        self.request_mac.push(token.map(|token| token.request_mac.as_slice()));
        self.quota.push(new.quota);
        self.resource_group_id
            .push(new.resource_group.stored(new.content.id().account));
        for tag in new.tags.iter() {
            self.tag_row.push(row);
            self.tag_key.push(tag.key());
            self.tag_value.push(tag.value());
        }
    }

    /// Of the statement of several.
    pub(super) fn params<'b>(&'b self, method: &'b &str) -> Vec<&'b (dyn ToSql + Sync)> {
        let mut params = Vec::from(params!(self, method));
        params.extend::<[&(dyn ToSql + Sync); 6]>([
            &self.names_from,
            &self.names_to,
            &self.chain_from,
            &self.chain_to,
            &self.searchable_from,
            &self.searchable_to,
        ]);
        params
    }

    /// The parameters of the statement for one certificate: the values of the only row.
    pub(super) fn params_of_one<'b>(&'b self, method: &'b &str) -> Vec<&'b (dyn ToSql + Sync)> {
        Vec::from(params!(self, method, [0]))
    }
}

/// The statement of one certificate and that of several: the first costs less to begin, the others share what it costs.
pub(super) struct Insert {
    pub(super) one: Statement,
    pub(super) many: Statement,
}

/// The rows that are `accepted`, of several that are asked for.
macro_rules! many_accepted {
    () => {
        "with input as materialized (
          select * from unnest(
            $1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::uuid[], $7::bytea[], $8::bytea[],
            $9::text[], $10::bigint[], $11::bigint[], $12::text[], $13::text[], $14::text[], $15::text[], $16::int[],
            $17::text[], $18::bytea[], $19::bytea[], $20::text[], $21::uuid[], $22::bool[], $23::text[], $24::bytea[],
            $25::bigint[], $26::text[], $35::int[], $36::int[], $37::int[], $38::int[],
            $39::int[], $40::int[]
          ) with ordinality as input(
            account_id, created_ms, random, region_id, name, key_id, fingerprint, fingerprint_sha256,
            common_name, not_before_ms, not_after_ms, serial_number, issuer, subject, key_algorithm, key_size,
            signature_algorithm, spki_sha256, sealed, access_key_id, request_id, with_fingerprints, client_token,
            request_mac, quota, resource_group_id, names_from, names_to, chain_from, chain_to,
            searchable_from, searchable_to, row
          )
        ),
        token as (
          insert into client_token (account_id, method, client_token, created_ms, random, request_mac)
          select account_id, $32::text, client_token, created_ms, random, request_mac
          from input where client_token is not null order by account_id, client_token
          on conflict (account_id, method, client_token) do nothing
          returning account_id, created_ms, random
        ),
        candidate as materialized (
          select input.*, row_number() over (partition by account_id, region_id order by row) as place
          from input left join token using (account_id, created_ms, random)
          where input.client_token is null or token.account_id is not null
        ),
        wanted as (
          select account_id, region_id, count(*) as live,
            coalesce(
              (select maximum from quota where quota.account_id = candidate.account_id and kind = 'server_certificates'),
              min(quota)
            ) as maximum
          from candidate group by account_id, region_id
        ),
        counted as (
          insert into server_certificate_count as counter (account_id, region_id, live, granted)
          select account_id, region_id, least(live, maximum), least(live, maximum)
          from wanted where maximum > 0 order by account_id, region_id
          on conflict (account_id, region_id) do update set (live, granted) = (
            select counter.live + fitting, fitting
            from wanted cross join lateral (
              select greatest(0, least(wanted.live, wanted.maximum - counter.live)) as fitting
            ) as room
            where wanted.account_id = counter.account_id and wanted.region_id = counter.region_id
          )
          returning account_id, region_id, granted
        ),
        accepted as (
          select candidate.*, ($27::text[])[names_from:names_to] as names, ($28::bytea[])[chain_from:chain_to] as chain,
            ($34::text[])[searchable_from:searchable_to] as searchable_names
          from candidate join counted using (account_id, region_id) where place <= granted
        )"
    };
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
                  select created_ms, random, fingerprint from server_certificate
                  where account_id = asked.account_id and deleted_at is null order by created_ms, random limit 50001
                )
                union all
                select created_ms, random, fingerprint from certificate where account_id = asked.account_id
              ) as of_account order by created_ms, random
            ) as in_order
          ) end as fingerprints"
    };
}

macro_rules! many_answer {
    () => {
        concat!(
            "candidate.account_id is null as token_seen,
          certificate.account_id is not null as stored,
          ",
            account_fingerprints!(),
            "
        from input as asked
          left join candidate using (account_id, created_ms, random)
          left join certificate using (account_id, created_ms, random)
        order by asked.row"
        )
    };
}

/// The same for one. What is not materialized costs no step of its own: its columns are parameters wherever they are named.
macro_rules! one_accepted {
    () => {
        "with input as not materialized (
          select
            $1::bigint as account_id, $2::bigint as created_ms, $3::bigint as random, $4::text as region_id,
            $5::text as name, $6::uuid as key_id, $7::bytea as fingerprint, $8::bytea as fingerprint_sha256,
            $9::text as common_name, $10::bigint as not_before_ms, $11::bigint as not_after_ms,
            $12::text as serial_number, $13::text as issuer, $14::text as subject, $15::text as key_algorithm,
            $16::int as key_size, $17::text as signature_algorithm, $18::bytea as spki_sha256, $19::bytea as sealed,
            $20::text as access_key_id, $21::uuid as request_id, $22::bool as with_fingerprints,
            $23::text as client_token, $24::bytea as request_mac, $25::bigint as quota, $26::text as resource_group_id,
            $27::text[] as names, $28::bytea[] as chain, $34::text[] as searchable_names,
            1::bigint as row
        ),
        token as (
          insert into client_token (account_id, method, client_token, created_ms, random, request_mac)
          select account_id, $32::text, client_token, created_ms, random, request_mac
          from input where client_token is not null
          on conflict (account_id, method, client_token) do nothing
          returning account_id
        ),
        wanted as (
          select account_id, region_id,
            coalesce(
              (select maximum from quota where quota.account_id = input.account_id and kind = 'server_certificates'),
              quota
            ) as maximum
          from input where client_token is null or exists (select from token)
        ),
        counted as (
          insert into server_certificate_count as counter (account_id, region_id, live, granted)
          select account_id, region_id, 1, 1 from wanted where maximum > 0
          on conflict (account_id, region_id) do update set live = counter.live + 1, granted = 1
          where counter.live < (select maximum from wanted)
          returning account_id
        ),
        accepted as not materialized (select input.* from input cross join counted)"
    };
}

macro_rules! one_answer {
    () => {
        concat!(
            "client_token is not null and not exists (select from token) as token_seen,
          exists (select from counted) as stored,
          ",
            account_fingerprints!(),
            "
        from input as asked"
        )
    };
}

/// A row for each certificate: whether its token was seen before, whether it is stored, and the account's fingerprints. A
/// certificate that is neither seen nor stored exceeds the quota: its token stays and is void, since its certificate has no event.
macro_rules! insert {
    ($key_column:literal, $key_row:literal) => {
        Insert {
            one: insert!("store::upload", one_accepted, one_answer, $key_column, $key_row),
            many: insert!("store::upload_together", many_accepted, many_answer, $key_column, $key_row),
        }
    };
    ($name:literal, $accepted:ident, $answer:ident, $key_column:literal, $key_row:literal) => {
        Statement {
            name: $name,
            sql: concat!(
                "-- ",
                $name,
                "\n",
                $accepted!(),
                ",
        certificate as (
          insert into server_certificate (
            account_id, created_ms, random, region_id, name, revision, version, fingerprint, fingerprint_sha256,
            common_name, subject_alternative_names, not_before_ms, not_after_ms, serial_number, issuer, subject,
            key_algorithm, key_size, signature_algorithm, spki_sha256, chain, chain_length, resource_group_id,
            searchable_names",
                $key_column,
                "
          )
          select account_id, created_ms, random, region_id, name, $33::bigint, $33::bigint, fingerprint, fingerprint_sha256,
            common_name, names, not_before_ms, not_after_ms, serial_number, issuer, subject, key_algorithm, key_size,
            signature_algorithm, spki_sha256, chain, cardinality(chain), resource_group_id,
            searchable_names",
                $key_column,
                "
          from accepted
          returning account_id, created_ms, random, fingerprint
        ),
        ",
                $key_row,
                "
        name_row as (
          insert into searchable_name (account_id, searchable_name, created_ms, random)
          select account_id, unnest(searchable_names), created_ms, random from accepted
        ),
        tag_row as (
          insert into server_certificate_tag (account_id, created_ms, random, key, value)
          select account_id, created_ms, random, key, value
          from unnest($29::bigint[], $30::text[], $31::text[]) as tag(row, key, value) join accepted using (row)
        ),
        event_row as (
          insert into event (account_id, created_ms, random, revision, kind, resource_type, access_key_id, request_id)
          select account_id, created_ms, random, $33::bigint, 'uploaded', 'server_certificate', access_key_id, request_id from accepted
        )
        select ",
                reuse_columns!(),
                ",
          ",
                $answer!()
            ),
        }
    };
}

pub(super) const INSERT: Insert = insert!("", "");

pub(super) const INSERT_WITH_KEY: Insert = insert!(
    ", key_id",
    "key_row as (
          insert into private_key (account_id, created_ms, random, key_id, sealed)
          select account_id, created_ms, random, key_id, sealed from accepted
        ),"
);
