//! Storing new server certificates: certificate row, key row, tags and event, together or not at all.

use uuid::Uuid;

use super::fingerprint::AccountFingerprints;
use super::read::Position;
use super::{Change, Changed, Error, Statement, Store, id_columns};
use crate::certificate::{CertificateFacts, Chain, RegionId, ServerCertificateName, Tags};

/// A server certificate to store, whose pair was verified and whose key is sealed.
#[derive(Clone, Copy, Debug)]
pub struct NewServerCertificate<'a> {
    /// Its id, and who stores it.
    pub change: Change<'a>,
    /// Where it is kept.
    pub region: &'a RegionId,
    /// Its name.
    pub name: &'a ServerCertificateName,
    /// What is known of the leaf.
    pub facts: &'a CertificateFacts,
    /// Leaf and chain.
    pub chain: &'a Chain,
    /// The id of the key row.
    pub key_id: Uuid,
    /// The sealed private key.
    pub sealed: &'a [u8],
    /// Its tags.
    pub tags: &'a Tags,
    /// Whether the account's fingerprints are asked for.
    pub with_account_fingerprints: bool,
}

/// The first revision and version of a certificate.
pub const FIRST: i64 = 1;

impl Store {
    /// Stores a certificate and answers its account's fingerprints, if they are asked for.
    pub async fn upload(&self, new: &NewServerCertificate<'_>) -> Result<Option<AccountFingerprints>, Error> {
        let batch = Batch::of(&[*new]);
        let rows = match self.write(INSERT, new.change, &batch.params()).await? {
            Changed::Now(rows) => rows,
            Changed::Before { .. } => return Ok(self.fingerprints_after(new).await),
        };
        let row = rows.first().ok_or(Error::Row("server_certificate"))?;
        if !row.get::<_, bool>("stored") {
            // An attempt whose connection was lost had stored it: nobody else has its id.
            return Ok(self.fingerprints_after(new).await);
        }
        let Some(bytes) = row.get::<_, Option<&[u8]>>("fingerprints") else {
            return Ok(None);
        };
        match AccountFingerprints::whole(bytes)? {
            Some(whole) => Ok(Some(whole)),
            // More than an answer holds: the first page, with the place where the next begins.
            None => Ok(self.fingerprints_after(new).await),
        }
    }

    /// The account's fingerprints, of a certificate that is stored already. If they can't be read now, that is no reason to
    /// call the upload failed: they are all left to ListAccountFingerprints.
    async fn fingerprints_after(&self, new: &NewServerCertificate<'_>) -> Option<AccountFingerprints> {
        if !new.with_account_fingerprints {
            return None;
        }
        let read = self.account_fingerprints(new.change.id.account).await;
        Some(read.unwrap_or_else(|error| {
            tracing::warn!(%error, "the account's fingerprints could not be read after the upload");
            AccountFingerprints {
                fingerprints: Vec::new(),
                next: Some(Position::START),
            }
        }))
    }
}

/// One row for each certificate, in arrays: a column is an array, and what a certificate has several of stands in one array
/// for all, with the first and last place of each certificate's part.
#[derive(Default)]
struct Batch<'a> {
    account_id: Vec<i64>,
    created_ms: Vec<i64>,
    random: Vec<i64>,
    region_id: Vec<&'a str>,
    name: Vec<&'a str>,
    key_id: Vec<Uuid>,
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
    sealed: Vec<&'a [u8]>,
    access_key_id: Vec<&'a str>,
    request_id: Vec<Uuid>,
    with_fingerprints: Vec<bool>,
    names_from: Vec<i32>,
    names_to: Vec<i32>,
    chain_from: Vec<i32>,
    chain_to: Vec<i32>,
    names: Vec<&'a str>,
    chain: Vec<&'a [u8]>,
    tag_row: Vec<i64>,
    tag_key: Vec<&'a str>,
    tag_value: Vec<&'a str>,
}

impl<'a> Batch<'a> {
    fn of(certificates: &[NewServerCertificate<'a>]) -> Self {
        let mut batch = Self::default();
        for (row, new) in (1..).zip(certificates) {
            batch.push(row, new);
        }
        batch
    }

    fn push(&mut self, row: i64, new: &NewServerCertificate<'a>) {
        let (account_id, created_ms, random) = id_columns(new.change.id);
        let facts = new.facts;
        self.account_id.push(account_id);
        self.created_ms.push(created_ms);
        self.random.push(random);
        self.region_id.push(new.region.as_str());
        self.name.push(new.name.as_str());
        self.key_id.push(new.key_id);
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
        self.sealed.push(new.sealed);
        self.access_key_id.push(new.change.access_key_id);
        self.request_id.push(new.change.request_id);
        self.with_fingerprints.push(new.with_account_fingerprints);
        // Array places count from 1; a request's size keeps all of them far below 2^31.
        self.names_from.push(self.names.len() as i32 + 1);
        self.names
            .extend(facts.subject_alternative_names.iter().map(String::as_str));
        self.names_to.push(self.names.len() as i32);
        self.chain_from.push(self.chain.len() as i32 + 1);
        self.chain.extend(new.chain.der());
        self.chain_to.push(self.chain.len() as i32);
        for tag in new.tags.iter() {
            self.tag_row.push(row);
            self.tag_key.push(tag.key());
            self.tag_value.push(tag.value());
        }
    }

    fn params(&self) -> [&(dyn tokio_postgres::types::ToSql + Sync); 32] {
        [
            &self.account_id,
            &self.created_ms,
            &self.random,
            &self.region_id,
            &self.name,
            &self.key_id,
            &self.fingerprint,
            &self.fingerprint_sha256,
            &self.common_name,
            &self.not_before_ms,
            &self.not_after_ms,
            &self.serial_number,
            &self.issuer,
            &self.subject,
            &self.key_algorithm,
            &self.key_size,
            &self.signature_algorithm,
            &self.spki_sha256,
            &self.sealed,
            &self.access_key_id,
            &self.request_id,
            &self.with_fingerprints,
            &self.names_from,
            &self.names_to,
            &self.chain_from,
            &self.chain_to,
            &self.names,
            &self.chain,
            &self.tag_row,
            &self.tag_key,
            &self.tag_value,
            &FIRST,
        ]
    }
}

/// A row for each certificate of the batch: `stored`, and the account's fingerprints, one behind the other, if they are asked
/// for. A SELECT beside a data-modifying CTE does not see its rows, so that the new ones are added to those that it sees.
/// One fingerprint more than an answer holds is read, which tells that there are too many.
const INSERT: Statement = Statement {
    name: "store::upload",
    sql: "-- store::upload
        with input as materialized (
          select * from unnest(
            $1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::uuid[], $7::bytea[], $8::bytea[],
            $9::text[], $10::bigint[], $11::bigint[], $12::text[], $13::text[], $14::text[], $15::text[], $16::int[],
            $17::text[], $18::bytea[], $19::bytea[], $20::text[], $21::uuid[], $22::bool[], $23::int[], $24::int[],
            $25::int[], $26::int[]
          ) with ordinality as input(
            account_id, created_ms, random, region_id, name, key_id, fingerprint, fingerprint_sha256,
            common_name, not_before_ms, not_after_ms, serial_number, issuer, subject, key_algorithm, key_size,
            signature_algorithm, spki_sha256, sealed, access_key_id, request_id, with_fingerprints, names_from, names_to,
            chain_from, chain_to, row
          )
        ),
        certificate as (
          insert into server_certificate (
            account_id, created_ms, random, region_id, name, revision, version, key_id, fingerprint, fingerprint_sha256,
            common_name, subject_alternative_names, not_before_ms, not_after_ms, serial_number, issuer, subject,
            key_algorithm, key_size, signature_algorithm, spki_sha256, chain, chain_length
          )
          select account_id, created_ms, random, region_id, name, $32::bigint, $32::bigint, key_id, fingerprint, fingerprint_sha256,
            common_name, ($27::text[])[names_from:names_to], not_before_ms, not_after_ms, serial_number, issuer, subject,
            key_algorithm, key_size, signature_algorithm, spki_sha256, ($28::bytea[])[chain_from:chain_to],
            chain_to - chain_from + 1
          from input
          on conflict (account_id, created_ms, random) do nothing
          returning account_id, created_ms, random, fingerprint
        ),
        stored as (
          select input.* from input join certificate using (account_id, created_ms, random)
        ),
        key_row as (
          insert into private_key (account_id, created_ms, random, key_id, sealed)
          select account_id, created_ms, random, key_id, sealed from stored
        ),
        tag_row as (
          insert into server_certificate_tag (account_id, created_ms, random, key, value)
          select account_id, created_ms, random, key, value
          from unnest($29::bigint[], $30::text[], $31::text[]) as tag(row, key, value) join stored using (row)
        ),
        event_row as (
          insert into event (account_id, created_ms, random, revision, kind, access_key_id, request_id)
          select account_id, created_ms, random, $32::bigint, 'uploaded', access_key_id, request_id from stored
        )
        select
          certificate.account_id is not null as stored,
          case when input.with_fingerprints then (
            select string_agg(fingerprint, ''::bytea order by created_ms, random) from (
              (
                select created_ms, random, fingerprint from server_certificate
                where account_id = input.account_id order by created_ms, random limit 50001
              )
              union all
              select created_ms, random, fingerprint from certificate where account_id = input.account_id
            ) as of_account
          ) end as fingerprints
        from input left join certificate using (account_id, created_ms, random)
        order by row",
};
