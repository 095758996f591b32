//! Accounts and their access keys.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::types::ToSql;

use super::batches::Batches;
use super::error::Cause;
use super::{Error, MAX_LOOKUPS, Statement, Store};
use crate::account::{AccountId, Role};

/// An access key as it is stored.
#[derive(Clone, Debug)]
pub struct AccessKey {
    /// The account that it speaks for.
    pub account: AccountId,
    /// What it may do.
    pub role: Role,
    /// SHA-256 of its secret.
    pub secret_sha256: [u8; 32],
    /// Whether it was disabled.
    pub disabled: bool,
    /// Whether its account was.
    pub account_disabled: bool,
}

/// An account and its first access key.
#[derive(Debug)]
pub struct NewAccount<'a> {
    /// The account's uid.
    pub id: AccountId,
    /// Its name.
    pub name: &'a str,
    /// The key's id.
    pub access_key_id: &'a str,
    /// SHA-256 of its secret.
    pub secret_sha256: [u8; 32],
    /// What it may do.
    pub role: Role,
}

/// Look-ups of keys by their ids.
pub(super) type AccessKeys = Arc<Batches<String, Result<Option<AccessKey>, Cause>>>;

pub(super) fn access_keys() -> AccessKeys {
    Batches::new(MAX_LOOKUPS)
}

impl Store {
    /// The access key of this id, whichever account it belongs to: the account is what it tells.
    pub async fn access_key_of_all_accounts(&self, access_key_id: &str) -> Result<Option<AccessKey>, Error> {
        let all = async |store: Self, ids: Vec<String>| store.access_keys_of_all_accounts(&ids).await;
        self.look_up_together(&self.homes.here().access_keys, access_key_id.to_owned(), all)
            .await
    }

    /// The access keys of these ids, in their order.
    async fn access_keys_of_all_accounts(&self, ids: &[String]) -> Result<Vec<Option<AccessKey>>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::access_keys_of_all_accounts",
            sql: "-- store::access_keys_of_all_accounts
                  select access_key_id, account_id, role, secret_sha256, disabled,
                    (select disabled from account where account.account_id = access_key.account_id)
                  from access_key where access_key_id = any($1)",
        };
        let damaged = || Error::Row("access_key");
        let mut found = HashMap::new();
        for row in self.read(STATEMENT, &[&ids]).await? {
            let key = AccessKey {
                account: AccountId::from_i64(row.get(1)),
                role: Role::from_name(row.get(2)).ok_or_else(damaged)?,
                secret_sha256: row.get::<_, &[u8]>(3).try_into().map_err(|_| damaged())?,
                disabled: row.get(4),
                account_disabled: row.get(5),
            };
            found.insert(row.get::<_, String>(0), key);
        }
        Ok(ids.iter().map(|id| found.get(id).cloned()).collect())
    }

    /// Whether the database has an access key.
    pub async fn has_access_key_of_all_accounts(&self) -> Result<bool, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::has_access_key_of_all_accounts",
            sql: "-- store::has_access_key_of_all_accounts\nselect exists (select from access_key)",
        };
        let rows = self.read(STATEMENT, &[]).await?;
        Ok(rows.first().is_some_and(|row| row.get(0)))
    }

    /// Makes the first account and its access key; `false` if the database has an access key already.
    pub async fn make_first_account(&self, new: &NewAccount<'_>) -> Result<bool, Error> {
        // Two at once: the name of the account is unique, and the second finds nothing to insert.
        const STATEMENT: Statement = Statement {
            name: "store::make_first_account",
            sql: "-- store::make_first_account
                  with new_account as (
                    insert into account (account_id, name)
                    select $1, $2 where not exists (select from access_key)
                    on conflict (name) do nothing
                    returning account_id
                  )
                  insert into access_key (account_id, access_key_id, secret_sha256, role)
                  select account_id, $3, $4, $5 from new_account
                  returning access_key_id",
        };
        let params: &[&(dyn ToSql + Sync)] = &[
            &new.id.as_i64(),
            &new.name,
            &new.access_key_id,
            &new.secret_sha256.as_slice(),
            &new.role.as_str(),
        ];
        // If an attempt whose connection was lost took effect, the key that is there is this one.
        let made = !self.read(STATEMENT, params).await?.is_empty();
        Ok(made || self.access_key_of_all_accounts(new.access_key_id).await?.is_some())
    }
}
