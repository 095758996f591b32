//! Reads the versions of server certificates, and purges old versions with their private keys.

use tokio_postgres::Row;

use super::read::{columns, stored};
use super::scope::{self, in_scope};
use super::{Error, Params, Statement, Store, StoredCertificate, id_columns};
use crate::account::AccountId;
use crate::certificate::{CertificateFacts, Chain, Fingerprint, Sha256Fingerprint};
use crate::clock::Timestamp;
use crate::inventory::{AliCloudCertificate, AliCloudCertificateId, CertificateId, Scope};

/// A version of a server certificate.
#[derive(Clone, Debug)]
pub struct CertificateVersion {
    /// The version.
    pub version: i64,
    /// When the certificate got this version.
    pub began: Timestamp,
    /// The principal that made it. Empty: the upload.
    pub began_by: String,
    /// When the next version replaced it. `None`: it is the present version.
    pub ended: Option<Timestamp>,
    /// The version whose pair it took back. `None`: none.
    pub rolled_back_to: Option<i64>,
    /// The facts about the leaf.
    pub facts: CertificateFacts,
    /// The number of certificates that are served, including the leaf.
    pub chain_length: i32,
    /// The certificate of Alibaba Cloud from which the pair came.
    pub ali_cloud: Option<AliCloudCertificate>,
}

/// The columns that `certificate` and `certificate_version` share, besides the id and the key.
macro_rules! facts {
    () => {
        "fingerprint, fingerprint_sha256, common_name, subject_alternative_names, searchable_names, not_before_ms, not_after_ms,
         chain_not_after_ms, serial_number, issuer, searchable_issuer, subject, key_algorithm, key_size, signature_algorithm,
         spki_sha256, chain, chain_length, ali_cloud_certificate_id, ali_cloud_certificate_name, ali_cloud_certificate_region_id"
    };
}
pub(super) use facts;

/// The columns of a [`CertificateVersion`] from `certificate_version`.
macro_rules! version_columns {
    () => {
        "version, (extract(epoch from began_at) * 1000)::bigint as began_ms, began_by,
           (extract(epoch from ended_at) * 1000)::bigint as ended_ms, rolled_back_to, fingerprint, fingerprint_sha256, common_name,
           subject_alternative_names, not_before_ms, not_after_ms, chain_not_after_ms, serial_number, issuer, subject, key_algorithm, key_size,
           signature_algorithm, spki_sha256, chain_length, ali_cloud_certificate_id, ali_cloud_certificate_name,
           ali_cloud_certificate_region_id"
    };
}

impl Store {
    /// The versions of a live certificate below the version `before`, newest first, at most `size`. The present version is one of
    /// them.
    pub async fn versions(
        &self,
        id: CertificateId,
        before: i64,
        size: usize,
    ) -> Result<Vec<CertificateVersion>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::versions",
            sql: concat!(
                "-- store::versions
                 (
                   select ",
                version_columns!(),
                " from (
                     select *, coalesce(renewed_at, to_timestamp(created_ms / 1000.0)) as began_at,
                       coalesce(renewed_by, '') as began_by, null::timestamptz as ended_at
                     from certificate where account_id = $1 and created_ms = $2 and random = $3 offset 0
                   ) as present where version < $4 and deleted_at is null
                 )
                 union all
                 (
                   select ",
                version_columns!(),
                " from certificate_version
                   where account_id = $1 and created_ms = $2 and random = $3 and version < $4
                   order by version desc limit $5
                 )
                 order by version desc limit $5"
            ),
        };
        let (account, created, random) = id_columns(id);
        let params: Params<'_> = &[&account, &created, &random, &before, &(size as i64)];
        self.read(STATEMENT, params).await?.iter().map(version).collect()
    }

    /// An earlier version of a certificate, if it is kept.
    pub async fn earlier_version(&self, id: CertificateId, number: i64) -> Result<Option<CertificateVersion>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::earlier_version",
            sql: concat!(
                "-- store::earlier_version\nselect ",
                version_columns!(),
                " from certificate_version where account_id = $1 and created_ms = $2 and random = $3 and version = $4"
            ),
        };
        let (account, created, random) = id_columns(id);
        let rows = self.read(STATEMENT, &[&account, &created, &random, &number]).await?;
        rows.first().map(version).transpose()
    }

    /// The live server certificates of the account's scope with this leaf, and their chains, at most `size`, in the order of their
    /// ids.
    pub async fn with_leaf(
        &self,
        (account, scope): (AccountId, &Scope),
        leaf: &Sha256Fingerprint,
        size: usize,
    ) -> Result<Vec<(StoredCertificate, Chain)>, Error> {
        // The index by fingerprint has this order, and no other index has it.
        const STATEMENT: Statement = Statement {
            name: "store::with_leaf",
            sql: concat!(
                "-- store::with_leaf\n",
                columns!(),
                ", chain from (
                   select * from certificate
                   where account_id = $1 and kind = 'server' and deleted_at is null
                     and substr(fingerprint_sha256, 1, 8) >= substr($2::bytea, 1, 8)
                     and substr(fingerprint_sha256, 1, 8) <= substr($2::bytea, 1, 8)
                     and fingerprint_sha256 = $2 and ",
                in_scope!("$4", "$5", "$6"),
                " order by substr(fingerprint_sha256, 1, 8) limit $3
                 ) as certificate order by created_ms, random"
            ),
        };
        let [regions, groups, prefixes] = scope::parameters(scope, account);
        let (account, leaf) = (account.as_i64(), leaf.as_bytes().as_slice());
        let params: Params<'_> = &[&account, &leaf, &(size as i64), &regions, &groups, &prefixes];
        let rows = self.read(STATEMENT, params).await?;
        rows.iter()
            .map(|row| Ok((stored(row)?, Chain::from_stored(row.get("chain")))))
            .collect()
    }

    /// Purges the earlier versions of all accounts that ended before this time, and of each certificate the oldest
    /// beyond `count`, with the private keys that no other version of the certificate has. Purges at most 200 versions of each, and
    /// none while another replica does. Answers how many.
    pub async fn purge_versions_of_all_accounts(&self, count: u32, ended_before: Timestamp) -> Result<u64, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::purge_versions_of_all_accounts",
            // The advisory lock is "ckpurgf" in ASCII: the one after "ckpurge". A certificate that another statement has locked, or that
            // got a new version since the snapshot, waits for the next run: the snapshot shows which versions share a key.
            sql: "-- store::purge_versions_of_all_accounts
                  with turn as materialized (select pg_try_advisory_xact_lock(27984153445295974) as is_ours),
                  due as materialized (
                    (
                      select old.* from turn cross join lateral (
                        select account_id, created_ms, random, version from certificate_version
                        where ended_at < to_timestamp($2::bigint / 1000.0) order by ended_at limit 200
                      ) as old where is_ours
                    )
                    union
                    (
                      select surplus.* from turn cross join lateral (
                        select account_id, created_ms, random,
                          unnest((array_agg(version order by version))[:count(*) - $1::bigint]) as version
                        from certificate_version group by account_id, created_ms, random
                        having count(*) > $1::bigint
                      ) as surplus where is_ours limit 200
                    )
                  ),
                  target as materialized (
                    select certificate.* from (
                      select due.*, seen.version from (
                        select distinct account_id, created_ms, random from due order by account_id, created_ms, random
                      ) as due join certificate as seen using (account_id, created_ms, random)
                      order by account_id, created_ms, random offset 0
                    ) as seen cross join lateral (
                      select account_id, created_ms, random, key_id, version from certificate
                      where account_id = seen.account_id and created_ms = seen.created_ms and random = seen.random
                      for no key update skip locked
                    ) as certificate
                    where certificate.version = seen.version
                  ),
                  purged as (
                    delete from certificate_version as old using due join target using (account_id, created_ms, random)
                    where old.account_id = due.account_id and old.created_ms = due.created_ms and old.random = due.random
                      and old.version = due.version
                    returning old.account_id, old.created_ms, old.random, old.version, old.key_id
                  ),
                  key_row as (
                    delete from private_key as key using (
                      select distinct purged.account_id, purged.created_ms, purged.random, purged.key_id
                      from purged join target using (account_id, created_ms, random)
                      where purged.key_id <> target.key_id and not exists (
                        select from certificate_version as other
                        where other.account_id = purged.account_id and other.created_ms = purged.created_ms
                          and other.random = purged.random and other.key_id = purged.key_id
                          and (other.account_id, other.created_ms, other.random, other.version)
                            not in (select account_id, created_ms, random, version from purged)
                      )
                    ) as gone
                    where key.account_id = gone.account_id and key.created_ms = gone.created_ms and key.random = gone.random
                      and key.key_id = gone.key_id
                  )
                  select count(*) from purged",
        };
        let rows = self
            .read(STATEMENT, &[&i64::from(count), &ended_before.millis()])
            .await?;
        Ok(rows.first().map_or(0, |row| row.get::<_, i64>(0) as u64))
    }
}

/// The version of a row with the [`version_columns`].
fn version(row: &Row) -> Result<CertificateVersion, Error> {
    Ok(CertificateVersion {
        version: row.get("version"),
        began: Timestamp::from_millis(row.get("began_ms")),
        began_by: row.get("began_by"),
        ended: row.get::<_, Option<i64>>("ended_ms").map(Timestamp::from_millis),
        rolled_back_to: row.get("rolled_back_to"),
        facts: facts_of(row)?,
        chain_length: row.get("chain_length"),
        ali_cloud: row
            .get::<_, Option<String>>("ali_cloud_certificate_id")
            .map(|id| AliCloudCertificate {
                id: AliCloudCertificateId::from_stored(id),
                name: row.get("ali_cloud_certificate_name"),
                region_id: row.get("ali_cloud_certificate_region_id"),
            }),
    })
}

/// The facts of a row with the columns [`facts`].
pub(super) fn facts_of(row: &Row) -> Result<CertificateFacts, Error> {
    fn bytes<const N: usize>(row: &Row, column: &str) -> Result<[u8; N], Error> {
        let octets: &[u8] = row.get(column);
        octets.try_into().map_err(|_| Error::Row("certificate_version"))
    }
    let damaged = || Error::Row("certificate_version");
    let time = |column| Timestamp::from_millis(row.get(column));
    Ok(CertificateFacts {
        fingerprint: bytes(row, "fingerprint").map(Fingerprint::from_bytes)?,
        fingerprint_sha256: bytes(row, "fingerprint_sha256").map(Fingerprint::from_bytes)?,
        common_name: row.get("common_name"),
        // An array may have a NULL element.
        subject_alternative_names: row.try_get("subject_alternative_names").map_err(|_| damaged())?,
        not_before: time("not_before_ms"),
        not_after: time("not_after_ms"),
        chain_not_after: time("chain_not_after_ms"),
        serial_number: row.get("serial_number"),
        issuer: row.get("issuer"),
        subject: row.get("subject"),
        key_algorithm: row.get::<_, &str>("key_algorithm").parse().map_err(|_| damaged())?,
        key_size: row.get::<_, i32>("key_size").try_into().map_err(|_| damaged())?,
        signature_algorithm: row.get("signature_algorithm"),
        spki_sha256: bytes(row, "spki_sha256")?,
    })
}
