//! Renaming and deleting server certificates.

use super::{Change, Changed, Error, Statement, Store, id_columns};
use crate::certificate::{RegionId, ServerCertificateName};

impl Store {
    /// Renames the certificate, if it is of this region; answers its new revision, or `None` if there is no such certificate.
    pub async fn rename(
        &self,
        change: Change<'_>,
        region: &RegionId,
        name: &ServerCertificateName,
    ) -> Result<Option<i64>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::rename",
            sql: "-- store::rename
                  with renamed as (
                    update server_certificate set name = $5, revision = revision + 1
                    where account_id = $1 and created_ms = $2 and random = $3 and region_id = $4
                    returning revision
                  ),
                  event_row as (
                    insert into event (account_id, created_ms, random, revision, kind, access_key_id, request_id)
                    select $1, $2, $3, revision, 'renamed', $6::text, $7::uuid from renamed
                  )
                  select revision from renamed",
        };
        let (account, created, random) = id_columns(change.id);
        let changed = self
            .write(
                STATEMENT,
                change,
                &[
                    &account,
                    &created,
                    &random,
                    &region.as_str(),
                    &name.as_str(),
                    &change.access_key_id,
                    &change.request_id,
                ],
            )
            .await?;
        Ok(revision(changed))
    }

    /// Deletes the certificate with its keys and tags, if it is of this region, or of any; answers its last revision, or `None`
    /// if there is no such certificate.
    pub async fn delete(&self, change: Change<'_>, region: Option<&RegionId>) -> Result<Option<i64>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::delete",
            sql: "-- store::delete
                  with deleted as (
                    delete from server_certificate
                    where account_id = $1 and created_ms = $2 and random = $3 and ($4::text is null or region_id = $4)
                    returning revision + 1 as revision
                  ),
                  key_row as (
                    delete from private_key using deleted where account_id = $1 and created_ms = $2 and random = $3
                  ),
                  event_row as (
                    insert into event (account_id, created_ms, random, revision, kind, access_key_id, request_id)
                    select $1, $2, $3, revision, 'deleted', $5::text, $6::uuid from deleted
                  )
                  select revision from deleted",
        };
        let (account, created, random) = id_columns(change.id);
        let region = region.map(RegionId::as_str);
        let changed = self
            .write(
                STATEMENT,
                change,
                &[
                    &account,
                    &created,
                    &random,
                    &region,
                    &change.access_key_id,
                    &change.request_id,
                ],
            )
            .await?;
        Ok(revision(changed))
    }
}

fn revision(changed: Changed) -> Option<i64> {
    match changed {
        Changed::Now(rows) => rows.first().map(|row| row.get(0)),
        Changed::Before { revision } => Some(revision),
    }
}
