//! The certificates whose key is on a list of compromised keys.

use super::sealed::certificate_id;
use super::{Error, Statement, Store, id_columns};
use crate::inventory::CertificateId;

/// The leaf of a certificate.
#[derive(Debug)]
pub struct StoredLeaf {
    /// The certificate.
    pub id: CertificateId,
    /// The SHA-256 of the leaf.
    pub fingerprint_sha256: Vec<u8>,
    /// The DER of the leaf.
    pub der: Vec<u8>,
}

impl Store {
    /// At most `size` leaves of live certificates after this one, in the order of the ids.
    pub async fn leaves_of_all_accounts(
        &self,
        after: Option<CertificateId>,
        size: usize,
    ) -> Result<Vec<StoredLeaf>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::leaves_of_all_accounts",
            sql: "-- store::leaves_of_all_accounts
                  select account_id, created_ms, random, fingerprint_sha256, chain[1] as leaf from certificate
                  where (account_id, created_ms, random) > ($1, $2, $3) and deleted_at is null
                  order by account_id, created_ms, random limit $4",
        };
        let (account, created, random) = columns(after);
        let rows = self
            .read(STATEMENT, &[&account, &created, &random, &(size as i64)])
            .await?;
        Ok(rows
            .iter()
            .map(|row| StoredLeaf {
                id: certificate_id(row),
                fingerprint_sha256: row.get("fingerprint_sha256"),
                der: row.get("leaf"),
            })
            .collect())
    }

    /// Notes which of the certificates after `after`, up to `last`, have a compromised key. `last: None` means all after `after`. Answers
    /// those that were not noted before.
    pub async fn note_compromised_of_all_accounts(
        &self,
        after: Option<CertificateId>,
        last: Option<CertificateId>,
        compromised: &[StoredLeaf],
    ) -> Result<Vec<CertificateId>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::note_compromised_of_all_accounts",
            // The lock keeps a purge from removing a certificate whose row is inserted.
            sql: "-- store::note_compromised_of_all_accounts
                  with found as (
                    select * from unnest($7::bigint[], $8::bigint[], $9::bigint[], $10::bytea[])
                      as found(account_id, created_ms, random, fingerprint_sha256)
                  ),
                  other as (
                    delete from compromised_certificate as noted
                    where (account_id, created_ms, random) > ($1, $2, $3) and (account_id, created_ms, random) <= ($4, $5, $6)
                      and not exists (
                        select from found where found.account_id = noted.account_id and found.created_ms = noted.created_ms
                          and found.random = noted.random
                      )
                  )
                  insert into compromised_certificate as noted (account_id, created_ms, random, fingerprint_sha256)
                  select account_id, created_ms, random, found.fingerprint_sha256 from found
                  where exists (
                    select from certificate where certificate.account_id = found.account_id
                      and certificate.created_ms = found.created_ms and certificate.random = found.random for key share
                  )
                  order by account_id, created_ms, random
                  on conflict (account_id, created_ms, random) do update set fingerprint_sha256 = excluded.fingerprint_sha256
                  where noted.fingerprint_sha256 <> excluded.fingerprint_sha256
                  returning account_id, created_ms, random",
        };
        let (account, created, random) = columns(after);
        let (last_account, last_created, last_random) = last.map_or((i64::MAX, i64::MAX, i64::MAX), id_columns);
        let ids: Vec<_> = compromised.iter().map(|leaf| id_columns(leaf.id)).collect();
        let accounts: Vec<_> = ids.iter().map(|id| id.0).collect();
        let times: Vec<_> = ids.iter().map(|id| id.1).collect();
        let randoms: Vec<_> = ids.iter().map(|id| id.2).collect();
        let fingerprints: Vec<_> = compromised
            .iter()
            .map(|leaf| leaf.fingerprint_sha256.as_slice())
            .collect();
        let noted = self
            .read(
                STATEMENT,
                &[
                    &account,
                    &created,
                    &random,
                    &last_account,
                    &last_created,
                    &last_random,
                    &accounts,
                    &times,
                    &randoms,
                    &fingerprints,
                ],
            )
            .await?;
        Ok(noted.iter().map(certificate_id).collect())
    }

    /// The number of live certificates of both kinds with a compromised key.
    pub async fn compromised_of_all_accounts(&self) -> Result<i64, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::compromised_of_all_accounts",
            sql: "-- store::compromised_of_all_accounts
                  select count(*) from compromised_certificate as noted cross join lateral (
                    select from certificate
                    where account_id = noted.account_id and created_ms = noted.created_ms and random = noted.random
                      and fingerprint_sha256 = noted.fingerprint_sha256 and deleted_at is null
                    limit 1
                  ) as certificate",
        };
        let rows = self.read(STATEMENT, &[]).await?;
        rows.first()
            .map(|row| row.get(0))
            .ok_or(Error::Row("compromised_certificate"))
    }
}

/// The columns of an id. Before the first: less than any row.
fn columns(after: Option<CertificateId>) -> (i64, i64, i64) {
    after.map_or((i64::MIN, i64::MIN, i64::MIN), id_columns)
}
