//! The last use of access keys.

use std::net::IpAddr;

use super::{Error, KeyUse, Params, Statement, Store};
use crate::account::AccountId;
use crate::clock::Timestamp;

/// The use of an access key, to be recorded.
#[derive(Clone, Debug)]
pub struct UsedKey {
    /// The account of the key.
    pub account: AccountId,
    /// The key's id.
    pub id: String,
    /// The use.
    pub last_use: KeyUse,
}

impl Store {
    /// Records the last use of these keys. A later use that another replica recorded stays. A key that was deleted is left out.
    pub async fn record_uses_of_all_accounts(&self, used: &[UsedKey]) -> Result<(), Error> {
        // The lock keeps a key until its use is recorded. Two replicas insert in the same order.
        const STATEMENT: Statement = Statement {
            name: "store::record_uses_of_all_accounts",
            sql: "-- store::record_uses_of_all_accounts
                  with used as (
                    select used.* from unnest($1::bigint[], $2::text[], $3::bigint[], $4::inet[], $5::text[])
                      as used (account_id, access_key_id, used_ms, address, method)
                    join access_key using (account_id, access_key_id)
                    for key share of access_key
                  )
                  insert into access_key_use as known (account_id, access_key_id, used_at, address, method)
                  select account_id, access_key_id, to_timestamp(used_ms / 1000.0), address, method from used
                  order by account_id, access_key_id
                  on conflict (account_id, access_key_id) do update
                    set used_at = excluded.used_at, address = excluded.address, method = excluded.method
                    where known.used_at < excluded.used_at",
        };
        let accounts: Vec<i64> = used.iter().map(|used| used.account.as_i64()).collect();
        let ids: Vec<&str> = used.iter().map(|used| used.id.as_str()).collect();
        let times: Vec<i64> = used.iter().map(|used| Timestamp::millis(used.last_use.time)).collect();
        let addresses: Vec<IpAddr> = used.iter().map(|used| used.last_use.address).collect();
        let methods: Vec<&str> = used.iter().map(|used| used.last_use.method.as_str()).collect();
        let params: Params<'_> = &[&accounts, &ids, &times, &addresses, &methods];
        self.read(STATEMENT, params).await?;
        Ok(())
    }
}
