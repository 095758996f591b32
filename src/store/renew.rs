//! New versions of server certificates: renewals and rollbacks. Each keeps the version before as a row of `certificate_version`.

use std::net::IpAddr;

use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::client_token::TokenOf;
use super::version::facts;
use super::write::{Lost, Outcome, Trace};
use super::{ClientToken, Error, Params, Position, Statement, Store, UsedToken, id_columns};
use crate::account::{AccountId, Actor};
use crate::certificate::VerifiedCertificate;
use crate::clock::Timestamp;
use crate::inventory::{AliCloudCertificate, CertificateId, searchable_issuer, searchable_names};
use crate::seal::SealedKey;

/// A renewal of server certificates of one account: all of them or none.
#[derive(Clone, Debug)]
pub struct Renewal {
    /// Who renews.
    pub actor: Actor,
    /// The new certificate and its chain. It was verified.
    pub certificate: VerifiedCertificate,
    /// The certificate of Alibaba Cloud from which the pair came.
    pub ali_cloud: Option<AliCloudCertificate>,
    /// The certificates that get the new pair. Not empty.
    pub rows: Vec<RenewedRow>,
    /// Identifies a retry.
    pub client_token: Option<ClientToken>,
}

/// A certificate to renew.
#[derive(Clone, Debug)]
pub struct RenewedRow {
    /// The new private key, sealed for this certificate.
    pub key: SealedKey,
    /// The revision that the certificate must still have.
    pub revision: i64,
}

/// A rollback of a server certificate.
#[derive(Clone, Debug)]
pub struct Rollback {
    /// Who rolls back.
    pub actor: Actor,
    /// The certificate.
    pub id: CertificateId,
    /// The revision that the certificate must still have.
    pub revision: i64,
    /// The version whose pair the certificate gets again.
    pub version: i64,
}

/// The changes of an earlier renewal with the same client token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RenewalReplay {
    /// The certificates, and the version of each after the renewal, in the order of their ids.
    pub renewed: Vec<(CertificateId, i64)>,
}

/// The columns of an event and the principal of the new version.
type ActorColumns<'a> = (&'a str, Uuid, Option<IpAddr>);

fn columns_of(actor: &Actor) -> ActorColumns<'_> {
    (actor.principal.id(), actor.request_id, actor.address)
}

/// `kept`, the version before, for each row of `$from`.
macro_rules! kept {
    ($from:literal) => {
        concat!(
            ", kept as (
               insert into certificate_version (account_id, created_ms, random, version, key_id, began_at, began_by, rolled_back_to, ",
            facts!(),
            ") select account_id, created_ms, random, version, key_id,
                 coalesce(renewed_at, to_timestamp(created_ms / 1000.0)), coalesce(renewed_by, ''), rolled_back_to, ",
            facts!(),
            " from ",
            $from,
            ")"
        )
    };
}

/// The changes of the searchable names of `changed`, whose rows have the names before and after, and their events.
macro_rules! names_and_events {
    ($kind:literal, $detail:literal, $principal:literal, $request:literal, $address:literal) => {
        concat!(
            ", name_removed as (
               delete from searchable_name as named using (
                 select account_id, created_ms, random, array(select unnest(old_names) except select unnest(new_names)) as names
                 from changed
               ) as gone
               where named.account_id = gone.account_id and named.searchable_name = any(gone.names)
                 and named.created_ms = gone.created_ms and named.random = gone.random
             ),
             name_added as (
               insert into searchable_name (account_id, searchable_name, created_ms, random)
               select account_id, name, created_ms, random
               from changed cross join lateral (select unnest(new_names) except select unnest(old_names)) as added(name)
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
               select account_id, stream.position - count(*) over () + row_number() over (order by created_ms, random),
                 created_ms, random, 'server', '",
            $kind,
            "', revision, version, ",
            $principal,
            "::text, ",
            $request,
            "::uuid, ",
            $address,
            "::inet, ",
            $detail,
            " from changed cross join stream
             )
             select revision, version, (extract(epoch from renewed_at) * 1000)::bigint as renewed_ms
             from changed order by created_ms, random"
        )
    };
}

impl Store {
    /// Renews the certificates, if each is live and still has its revision. Otherwise changes nothing and answers `None`: so it
    /// does if the client token was used before. Answers the time of the renewal. The caller read the names, the tags and the scope
    /// at this revision, so they are still right.
    pub async fn renew(&self, renewal: &Renewal) -> Result<Option<Timestamp>, Error> {
        // Locks the client token, the certificates in the order of their ids, and the stream.
        const STATEMENT: Statement = Statement {
            name: "store::renew",
            sql: concat!(
                "-- store::renew
                 with token as (
                   insert into client_token (account_id, method, client_token, created_ms, random, request_mac, request_id)
                   select $1, $10::text, $11::text, ($2::bigint[])[1], ($3::bigint[])[1], $12::bytea, $8::uuid
                   where $11::text is not null
                   on conflict (account_id, method, client_token) do nothing
                   returning 1
                 ),
                 pair as materialized (
                   select $13::bytea as fingerprint, $14::bytea as fingerprint_sha256, $15::text as common_name,
                     $16::text[] as subject_alternative_names, $17::text[] as searchable_names, $18::bigint as not_before_ms,
                     $19::bigint as not_after_ms, $20::text as serial_number, $21::text as issuer, $22::text as subject,
                     $23::text as key_algorithm, $24::int as key_size, $25::text as signature_algorithm,
                     $26::bytea as spki_sha256, $27::bytea[] as chain, cardinality($27::bytea[]) as chain_length,
                     $28::bigint as chain_not_after_ms, $29::text as searchable_issuer, $30::text as ali_cloud_certificate_id,
                     $31::text as ali_cloud_certificate_name, $32::text as ali_cloud_certificate_region_id
                 ),
                 target as materialized (
                   select certificate.*, asked.new_key_id, asked.sealed from (
                     select * from unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::uuid[], $6::bytea[])
                       as asked(created_ms, random, revision, new_key_id, sealed)
                     where $11::text is null or exists (select from token)
                     order by created_ms, random
                   ) as asked cross join lateral (
                     select * from certificate
                     where account_id = $1 and created_ms = asked.created_ms and random = asked.random for no key update
                   ) as certificate
                   where certificate.revision = asked.revision and num_nulls(certificate.deleted_at) = 1
                 ),
                 due as materialized (
                   select * from target where (select count(*) from target) = cardinality($2::bigint[])
                 ),
                 key_row as (
                   insert into private_key (account_id, created_ms, random, key_id, sealed)
                   select account_id, created_ms, random, new_key_id, sealed from due
                 )",
                kept!("due"),
                ", changed as (
                   update certificate set revision = due.revision + 1, version = due.version + 1, key_id = due.new_key_id,
                     renewed_at = now(), renewed_by = $7, rolled_back_to = null, (",
                facts!(),
                ") = (select ",
                facts!(),
                " from pair) from due
                   where certificate.account_id = due.account_id and certificate.created_ms = due.created_ms
                     and certificate.random = due.random
                   returning certificate.account_id, certificate.created_ms, certificate.random, certificate.revision,
                     certificate.version, certificate.renewed_at, due.searchable_names as old_names, $17::text[] as new_names
                 )",
                names_and_events!("renewed", "null", "$7", "$8", "$9"),
            ),
        };
        let Renewal {
            actor,
            certificate,
            ali_cloud,
            rows,
            client_token,
        } = renewal;
        let mut rows: Vec<_> = rows.iter().collect();
        rows.sort_by_key(|row| Position::from(row.key.id()));
        let Some(first) = rows.first().map(|row| row.key.id()) else {
            return Ok(None);
        };
        let created: Vec<_> = rows.iter().map(|row| row.key.id().created.millis()).collect();
        let random: Vec<_> = rows.iter().map(|row| row.key.id().random).collect();
        let revisions: Vec<_> = rows.iter().map(|row| row.revision).collect();
        let key_ids: Vec<_> = rows.iter().map(|row| row.key.key_id()).collect();
        let sealed: Vec<_> = rows.iter().map(|row| row.key.private_key().as_bytes()).collect();
        let (principal, request_id, address) = columns_of(actor);
        let (method, facts) = (TokenOf::Renewal.method(), certificate.facts());
        let token = client_token.as_ref().map(|token| token.token.as_str());
        let mac = client_token.as_ref().map(|token| token.request_mac.as_slice());
        let searchable: Vec<_> = searchable_names(facts).into_iter().collect();
        let chain: Vec<_> = certificate.chain().der().collect();
        let account = first.account.as_i64();
        // The order of the parameters is that of the columns of `pair`.
        let params: [&(dyn ToSql + Sync); 32] = [
            &account,
            &created,
            &random,
            &revisions,
            &key_ids,
            &sealed,
            &principal,
            &request_id,
            &address,
            &method,
            &token,
            &mac,
            &facts.fingerprint.as_bytes().as_slice(),
            &facts.fingerprint_sha256.as_bytes().as_slice(),
            &facts.common_name,
            &facts.subject_alternative_names,
            &searchable,
            &facts.not_before.millis(),
            &facts.not_after.millis(),
            &facts.serial_number,
            &facts.issuer,
            &facts.subject,
            &facts.key_algorithm.as_str(),
            &(facts.key_size as i32), // At most 16384.
            &facts.signature_algorithm,
            &facts.spki_sha256.as_slice(),
            &chain,
            &facts.chain_not_after.millis(),
            &searchable_issuer(&facts.issuer),
            &ali_cloud.as_ref().map(|of| of.id.as_str()),
            &ali_cloud.as_ref().map(|of| of.name.as_str()),
            &ali_cloud.as_ref().map(|of| of.region_id.as_str()),
        ];
        self.new_version(STATEMENT, (first, actor), &params).await
    }

    /// Gives a live certificate the pair of an earlier version, if the certificate still has its revision and the version is kept.
    /// Otherwise changes nothing and answers `None`. Answers the time of the rollback.
    pub async fn roll_back(&self, rollback: &Rollback) -> Result<Option<Timestamp>, Error> {
        // Locks the certificate, the version, and the stream.
        const STATEMENT: Statement = Statement {
            name: "store::roll_back",
            sql: concat!(
                "-- store::roll_back
                 with target as materialized (
                   select * from certificate
                   where account_id = $1 and created_ms = $2 and random = $3 and revision = $4 and num_nulls(deleted_at) = 1
                   for no key update
                 ),
                 wanted as materialized (
                   select old.* from target cross join lateral (
                     select * from certificate_version
                     where account_id = $1 and created_ms = $2 and random = $3 and version = $5 for key share
                   ) as old
                 )",
                kept!("target where exists (select from wanted)"),
                ", changed as (
                   update certificate set revision = target.revision + 1, version = target.version + 1,
                     key_id = (select key_id from wanted), renewed_at = now(), renewed_by = $6, rolled_back_to = $5, (",
                facts!(),
                ") = (select ",
                facts!(),
                " from wanted) from target
                   where certificate.account_id = $1 and certificate.created_ms = $2 and certificate.random = $3
                     and exists (select from wanted)
                   returning certificate.account_id, certificate.created_ms, certificate.random, certificate.revision,
                     certificate.version, certificate.renewed_at, target.searchable_names as old_names,
                     certificate.searchable_names as new_names
                 )",
                names_and_events!(
                    "rolled_back",
                    "jsonb_build_object('rolled_back_to', $5::bigint)",
                    "$6",
                    "$7",
                    "$8"
                ),
            ),
        };
        let Rollback {
            actor,
            id,
            revision,
            version,
        } = rollback;
        let (account, created, random) = id_columns(*id);
        let (principal, request_id, address) = columns_of(actor);
        let params: Params<'_> = &[
            &account,
            &created,
            &random,
            revision,
            version,
            &principal,
            &request_id,
            &address,
        ];
        self.new_version(STATEMENT, (*id, actor), params).await
    }

    /// Runs a statement that makes new versions, one of them of the certificate `id`. It answers a row for each, or none.
    async fn new_version(
        &self,
        statement: Statement,
        (id, actor): (CertificateId, &Actor),
        params: Params<'_>,
    ) -> Result<Option<Timestamp>, Error> {
        let trace = Trace::Event(id, actor.request_id);
        Ok(match self.write(Lost::No, statement, trace, params).await? {
            Outcome::Rows(rows) => rows.first().map(|row| Timestamp::from_millis(row.get("renewed_ms"))),
            // This replica's clock is close enough for an answer that was lost once.
            Outcome::Earlier(_) => Some(crate::clock::now()),
        })
    }

    /// The changes of the renewal that used a client token.
    pub async fn renewed_by(&self, account: AccountId, used: &UsedToken) -> Result<RenewalReplay, Error> {
        // The events of a statement have neighbouring positions.
        const STATEMENT: Statement = Statement {
            name: "store::renewed_by",
            sql: "-- store::renewed_by
                  select of_request.created_ms, of_request.random, of_request.version from event cross join lateral (
                    select created_ms, random, version, request_id from event as near
                    where near.account_id = $1 and near.position > event.position - 20 and near.position < event.position + 20
                  ) as of_request
                  where event.account_id = $1 and event.created_ms = $2 and event.random = $3 and event.request_id = $4
                    and of_request.request_id = $4
                  order by of_request.created_ms, of_request.random",
        };
        let (account_id, created, random) = id_columns(used.id);
        let params: Params<'_> = &[&account_id, &created, &random, &used.request_id];
        let rows = self.read(STATEMENT, params).await?;
        let of_row = |row: &tokio_postgres::Row| {
            let id = CertificateId {
                account,
                created: Timestamp::from_millis(row.get("created_ms")),
                random: row.get("random"),
            };
            (id, row.get("version"))
        };
        Ok(RenewalReplay {
            renewed: rows.iter().map(of_row).collect(),
        })
    }
}
