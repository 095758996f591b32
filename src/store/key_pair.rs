//! Reads a certificate together with its sealed private key.

use uuid::Uuid;

use super::read::{columns, stored};
use super::scope::in_scope;
use super::{Error, Params, Statement, Store, StoredCertificate, id_columns, scope};
use crate::account::AccountId;
use crate::certificate::{Chain, Sha256Fingerprint};
use crate::clock::Timestamp;
use crate::inventory::{CertificateId, RegionId, Scope};

/// The versions of a pair that a caller wants, and the one that it has. 0: the present version, and none.
#[derive(Clone, Copy, Debug, Default)]
pub struct WantedVersion {
    /// The version to read.
    pub version: i64,
    /// If this is the present version, no pair is read.
    pub known: i64,
}

/// The pair of a version of a server certificate. The private key is sealed.
#[derive(Debug)]
pub struct SealedVersion {
    /// The version.
    pub version: i64,
    /// The certificates that are served.
    pub chain: Chain,
    /// Of the leaf.
    pub fingerprint_sha256: Sha256Fingerprint,
    /// The SHA-256 of the leaf's SubjectPublicKeyInfo.
    pub spki_sha256: [u8; 32],
    /// The id of the key row.
    pub key_id: Uuid,
    /// The sealed private key. `None`: there is no such row.
    pub sealed: Option<Vec<u8>>,
}

/// The most certificates of a name that are counted.
const MAX_OF_NAME: i64 = 1_000;

impl Store {
    /// The live server certificate with this id, and the pair of the wanted version. There is no pair if the version is not kept, or
    /// if the present version is known. `region: None` means any region.
    pub async fn find_key_pair(
        &self,
        id: CertificateId,
        region: Option<&RegionId>,
        wanted: WantedVersion,
    ) -> Result<Option<(StoredCertificate, Option<SealedVersion>)>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::find_key_pair",
            sql: concat!(
                "-- store::find_key_pair\n",
                columns!(),
                ", pair_version, pair_chain, pair_fingerprint, pair_spki, pair_key_id, sealed from (
                   select * from certificate where account_id = $1 and created_ms = $2 and random = $3 offset 0
                 ) as certificate
                 left join lateral (
                   select certificate.version as pair_version, certificate.chain as pair_chain,
                     certificate.fingerprint_sha256 as pair_fingerprint, certificate.spki_sha256 as pair_spki,
                     certificate.key_id as pair_key_id
                   where certificate.version = $5::bigint or $5 = 0
                   union all
                   select version, chain, fingerprint_sha256, spki_sha256, key_id from certificate_version as earlier
                   where earlier.account_id = $1 and earlier.created_ms = $2 and earlier.random = $3 and earlier.version = $5
                 ) as pair on certificate.version <> $6::bigint
                 left join lateral (
                   select sealed from private_key
                   where account_id = $1 and created_ms = $2 and random = $3 and key_id = pair_key_id
                 ) as private_key on true
                 where kind = 'server' and ($4::text is null or region_id = $4) and deleted_at is null"
            ),
        };
        let (account, created, random) = id_columns(id);
        let region = region.map(RegionId::as_str);
        let params: Params<'_> = &[&account, &created, &random, &region, &wanted.version, &wanted.known];
        let rows = self.read(STATEMENT, params).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let damaged = || Error::Row("certificate");
        let hash = |column: &str| row.get::<_, &[u8]>(column).try_into().map_err(|_| damaged());
        let pair = match row.get::<_, Option<i64>>("pair_version") {
            Some(version) => Some(SealedVersion {
                version,
                chain: Chain::from_stored(row.get("pair_chain")),
                fingerprint_sha256: Sha256Fingerprint::from_bytes(hash("pair_fingerprint")?),
                spki_sha256: hash("pair_spki")?,
                key_id: row.get("pair_key_id"),
                sealed: row.get("sealed"),
            }),
            None => None,
        };
        Ok(Some((stored(row)?, pair)))
    }

    /// The oldest live server certificate of the scope with this name, and the number of all of them, which is not counted further
    /// than 1,000. `region: None` means any region.
    pub async fn find_name(
        &self,
        account: AccountId,
        scope: &Scope,
        region: Option<&RegionId>,
        name: &str,
    ) -> Result<Option<(CertificateId, i64)>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::find_name",
            // The index certificate_by_name has the order.
            sql: concat!(
                "-- store::find_name
                 select created_ms, random, count(*) over () as number from (
                   select created_ms, random from certificate
                   where account_id = $1 and name collate \"C\" = $2 and deleted_at is null and kind = 'server'
                     and ($3::text is null or region_id = $3) and ",
                in_scope!("$4", "$5", "$6"),
                "  order by name collate \"C\", created_ms, random limit $7
                 ) as of_name
                 order by created_ms, random limit 1"
            ),
        };
        let [regions, groups, prefixes] = scope::parameters(scope, account);
        let region = region.map(RegionId::as_str);
        let params: Params<'_> = &[
            &account.as_i64(),
            &name,
            &region,
            &regions,
            &groups,
            &prefixes,
            &MAX_OF_NAME,
        ];
        let rows = self.read(STATEMENT, params).await?;
        Ok(rows.first().map(|row| {
            let id = CertificateId {
                account,
                created: Timestamp::from_millis(row.get("created_ms")),
                random: row.get("random"),
            };
            (id, row.get("number"))
        }))
    }
}
