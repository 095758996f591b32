//! The nonces of signed requests.

use std::time::Duration;

use super::error::Failure;
use super::statement::ATTEMPTS;
use super::{Error, Statement, Store};

/// The nonces that one step of a purge removes.
const STEP: i64 = 10_000;

impl Store {
    /// Records a nonce for this time, by the clock of the database. `false`: the access key has used the nonce before.
    ///
    /// The commit does not wait for the disk: after a crash, Postgres may have forgotten the nonces of its last moment.
    pub async fn take_nonce_of_all_accounts(
        &self,
        access_key_id: &str,
        nonce_sha256: &[u8; 32],
        kept: Duration,
    ) -> Result<bool, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::take_nonce_of_all_accounts",
            sql: "-- store::take_nonce_of_all_accounts
                  with quick as materialized (select set_config('synchronous_commit', 'off', true))
                  insert into request_nonce (access_key_id, nonce_sha256, expires_at)
                  select $1, $2, now() + $3::bigint * interval '1 second' from quick
                  on conflict (access_key_id, nonce_sha256) do update set expires_at = excluded.expires_at
                    where request_nonce.expires_at < now()
                  returning 1",
        };
        let secs = i64::try_from(kept.as_secs()).unwrap_or(i64::MAX);
        let mut attempt = 1;
        loop {
            match self
                .run(STATEMENT, &[&access_key_id, &nonce_sha256.as_slice(), &secs])
                .await
            {
                Ok(rows) => return Ok(!rows.is_empty()),
                // Not after a lost answer: this call may have taken the nonce.
                Err(Failure::Repeat(_) | Failure::Elsewhere(_)) if attempt < ATTEMPTS => STATEMENT.pause(attempt).await,
                Err(failure) => return Err(STATEMENT.error(failure)),
            }
            attempt += 1;
        }
    }

    /// Removes nonces that have expired, not more than one step of a purge. Returns their number.
    pub async fn forget_nonces_of_all_accounts(&self) -> Result<u64, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::forget_nonces_of_all_accounts",
            sql: "-- store::forget_nonces_of_all_accounts
                  with removed as (
                    delete from request_nonce where (access_key_id, nonce_sha256) in (
                      select access_key_id, nonce_sha256 from request_nonce where expires_at < now()
                      order by expires_at limit $1 for update skip locked
                    )
                    returning 1
                  )
                  select count(*) from removed",
        };
        let rows = self.read(STATEMENT, &[&STEP]).await?;
        let removed: i64 = rows.first().map_or(0, |row| row.get(0));
        Ok(removed.cast_unsigned())
    }
}
