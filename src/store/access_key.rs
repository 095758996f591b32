//! Accounts and their access keys.

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::{Error, Statement, Store};
use crate::account::{AccountId, Role};
use crate::clock::Timestamp;
use crate::inventory::{RegionId, ResourceGroupId, Scope};

/// An access key as it is stored.
#[derive(Clone, Debug)]
pub struct AccessKey {
    /// The account that it speaks for.
    pub account: AccountId,
    /// What it may do.
    pub role: Role,
    /// SHA-256 of its secret.
    pub secret_sha256: [u8; 32],
    /// Its sealed secret; `None`: the key cannot sign.
    pub sealed: Option<Vec<u8>>,
    /// The part of the account that exists for it.
    pub scope: Scope,
    /// Whether it was disabled.
    pub disabled: bool,
    /// When it expires; `None`: never.
    pub expires: Option<Timestamp>,
    /// Whether it has expired, by the clock of the database.
    pub has_expired: bool,
    /// Whether its account was.
    pub account_disabled: bool,
    /// The rates of its account.
    pub rates: Rates,
}

/// The rates that an operator set for an account, in calls per second. `None`: the default of the service.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Rates {
    /// The calls of the account.
    pub account: Option<i64>,
    /// The calls of each access key and client identity.
    pub key: Option<i64>,
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

impl Store {
    /// The access key of this id, of whichever account: the key tells the account.
    pub async fn access_key_of_all_accounts(&self, access_key_id: &str) -> Result<Option<AccessKey>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::access_key_of_all_accounts",
            sql: "-- store::access_key_of_all_accounts
                  select account_id, role, secret_sha256, sealed, scope_region_ids, scope_resource_group_ids, scope_name_prefixes,
                    access_key.disabled, (extract(epoch from expires_at) * 1000)::bigint as expires_ms,
                    coalesce(expires_at <= now(), false) as has_expired, account.disabled as account_disabled,
                    (select maximum from quota
                     where quota.account_id = account.account_id and kind = 'calls_per_second') as account_rate,
                    (select maximum from quota
                     where quota.account_id = account.account_id and kind = 'calls_per_second_per_key') as key_rate
                  from access_key join account using (account_id) where access_key_id = $1",
        };
        let damaged = || Error::Row("access_key");
        let rows = self.read(STATEMENT, &[&access_key_id]).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        Ok(Some(AccessKey {
            account: AccountId::from_i64(row.get("account_id")),
            scope: scope(row)?,
            role: Role::from_name(row.get("role")).ok_or_else(damaged)?,
            secret_sha256: row.get::<_, &[u8]>("secret_sha256").try_into().map_err(|_| damaged())?,
            sealed: row.get("sealed"),
            disabled: row.get("disabled"),
            expires: row.get::<_, Option<i64>>("expires_ms").map(Timestamp::from_millis),
            has_expired: row.get("has_expired"),
            account_disabled: row.get("account_disabled"),
            rates: rates(row),
        }))
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

/// The scope of a row of `access_key` or `client_identity`.
pub(super) fn scope(row: &Row) -> Result<Scope, Error> {
    let list = |column: &str| row.get::<_, Option<Vec<String>>>(column).unwrap_or_default();
    let regions = list("scope_region_ids").into_iter();
    let groups = list("scope_resource_group_ids").into_iter();
    // An id that this version cannot read must not widen the scope.
    let groups = groups.map(|id| ResourceGroupId::parse(&id).ok_or(Error::Row("scope_resource_group_ids")));
    Ok(Scope {
        regions: regions.map(RegionId::from_stored).collect(),
        resource_groups: groups.collect::<Result<_, _>>()?,
        name_prefixes: list("scope_name_prefixes"),
    })
}

/// The rates of a row with the columns `account_rate` and `key_rate`.
pub(super) fn rates(row: &Row) -> Rates {
    Rates {
        account: row.get("account_rate"),
        key: row.get("key_rate"),
    }
}
