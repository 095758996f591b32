//! Accounts, as an operator manages them. The operators' own account is not one of them.

use tokio_postgres::Row;

use super::audit::audited;
use super::error::Constraint;
use super::managed_key::{insert_key, key_answer, key_columns, managed_key};
use super::statement::Confirm;
use super::write::Outcome;
use super::{Error, ManagedKey, Params, Position, Statement, Store};
use crate::account::{AccountId, Actor, QuotaKind, Role};
use crate::clock::Timestamp;

/// An account.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Account {
    /// The account's id.
    pub id: AccountId,
    /// The account's name.
    pub name: String,
    /// Whether the account is disabled.
    pub disabled: bool,
    /// When the account was created.
    pub created: Timestamp,
    /// The number of its live server certificates.
    pub server_certificates: i64,
}

/// The outcome of creating or changing an account.
#[derive(Debug)]
pub enum AccountChange<T> {
    /// The change was made.
    Done(T),
    /// Another account has the name.
    NameTaken,
    /// There is no such account.
    NotFound,
}

/// The columns of an [`Account`].
macro_rules! account_columns {
    () => {
        "account_id, name, disabled, (extract(epoch from created_at) * 1000000)::bigint as created_us,
           coalesce((
             select sum(live)::bigint from certificate_count
             where certificate_count.account_id = account.account_id and kind = 'server'
           ), 0) as server_certificates"
    };
}

impl Store {
    /// Creates an account and its first admin key.
    pub async fn create_account(
        &self,
        actor: &Actor,
        id: AccountId,
        name: &str,
        access_key_id: &str,
        secret_sha256: [u8; 32],
    ) -> Result<AccountChange<(Account, ManagedKey)>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::create_account",
            sql: concat!(
                "-- store::create_account
                 with account_row as (
                   insert into account (account_id, name) values ($1::bigint, $15::text) returning account_id
                 ),
                 changed as (",
                insert_key!("from account_row"),
                ")",
                audited!(
                    "CreateAccount",
                    "account",
                    "$1::text",
                    "jsonb_build_object('name', jsonb_build_array(null, $15::text),
                       'access_key_id', jsonb_build_array(null, access_key_id))"
                ),
                key_answer!("changed as key")
            ),
        };
        let none: Option<Vec<&str>> = None;
        let values: Params<'_> = &[
            &access_key_id,
            &secret_sha256.as_slice(),
            &Role::Admin.as_str(),
            &none,
            &none,
            &none,
            &"",
            &None::<i64>,
            &None::<&[u8]>,
            &name,
        ];
        let key = match self.administer(STATEMENT, id, actor, values).await {
            Ok(Outcome::Rows(rows)) => managed_key(rows.first().ok_or(Error::Row("access_key"))?)?,
            Ok(Outcome::Earlier(_)) => self.access_key_after_change(id, access_key_id).await?,
            Err(Error::Constraint(Constraint::AccountName, _)) => return Ok(AccountChange::NameTaken),
            Err(error) => return Err(error),
        };
        let account = Account {
            id,
            name: name.to_owned(),
            disabled: false,
            // One statement made both.
            created: key.created,
            server_certificates: 0,
        };
        Ok(AccountChange::Done((account, key)))
    }

    /// Renames, disables or enables an account. `None` changes nothing.
    pub async fn update_account(
        &self,
        actor: &Actor,
        id: AccountId,
        name: Option<&str>,
        disabled: Option<bool>,
    ) -> Result<AccountChange<Account>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::update_account",
            sql: concat!(
                "-- store::update_account
                 with target as (
                   select name as old_name, coalesce($6::text, name) as new_name, disabled as old_disabled,
                     coalesce($7::boolean, disabled) as new_disabled
                   from account where account_id = $1 and account_id <> 0
                 ),
                 changed as (
                   update account set name = new_name, disabled = new_disabled from target
                   where account_id = $1 and account_id <> 0 and (old_name, old_disabled) is distinct from (new_name, new_disabled)
                   returning old_name, new_name, old_disabled, new_disabled
                 )",
                audited!(
                    "UpdateAccount",
                    "account",
                    "$1::text",
                    "jsonb_strip_nulls(jsonb_build_object(
                       'name', case when old_name <> new_name then jsonb_build_array(old_name, new_name) end,
                       'disabled', case when old_disabled <> new_disabled then jsonb_build_array(old_disabled, new_disabled) end
                     ))"
                ),
                "select ",
                account_columns!(),
                " from (
                   select account_id, new_name as name, new_disabled as disabled, created_at
                   from account cross join target where account_id = $1
                 ) as account"
            ),
        };
        let rows = match self.administer(STATEMENT, id, actor, &[&name, &disabled]).await {
            Ok(Outcome::Rows(rows)) => rows,
            Ok(Outcome::Earlier(_)) => {
                let account = self.account_of_all_accounts(id).await.map_err(Error::after_change)?;
                return Ok(account.map_or(AccountChange::NotFound, AccountChange::Done));
            }
            Err(Error::Constraint(Constraint::AccountName, _)) => return Ok(AccountChange::NameTaken),
            Err(error) => return Err(error),
        };
        Ok(rows
            .first()
            .map_or(AccountChange::NotFound, |row| AccountChange::Done(account(row))))
    }

    /// Sets a quota of an account; `None`: the account has no quota of its own. `false`: there is no such account.
    pub async fn update_quota(
        &self,
        actor: &Actor,
        id: AccountId,
        kind: QuotaKind,
        maximum: Option<i64>,
    ) -> Result<bool, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::update_quota",
            sql: concat!(
                "-- store::update_quota
                 with target as (
                   select (select maximum from quota where account_id = $1 and kind = $6) as old_maximum
                   from account where account_id = $1 and account_id <> 0
                 ),
                 removed as (
                   delete from quota where account_id = $1 and kind = $6 and $7::bigint is null
                 ),
                 stored as (
                   insert into quota (account_id, kind, maximum)
                   select $1::bigint, $6::text, $7::bigint from target where $7::bigint is not null
                   on conflict (account_id, kind) do update set maximum = excluded.maximum
                 ),
                 changed as (select old_maximum from target where old_maximum is distinct from $7::bigint)",
                audited!(
                    "UpdateQuota",
                    "quota",
                    "$1::text",
                    "jsonb_build_object('quota', $6::text, 'maximum', jsonb_build_array(old_maximum, $7::bigint))"
                ),
                "select 1 from target"
            ),
        };
        let values: Params<'_> = &[&kind.as_str(), &maximum];
        match self.administer(STATEMENT, id, actor, values).await? {
            Outcome::Rows(rows) => Ok(!rows.is_empty()),
            Outcome::Earlier(_) => Ok(true),
        }
    }

    /// At most `size` accounts after this position, oldest first, each with its position.
    pub async fn list_of_all_accounts(&self, after: Position, size: usize) -> Result<Vec<(Position, Account)>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::list_of_all_accounts",
            sql: concat!(
                "-- store::list_of_all_accounts\nselect ",
                account_columns!(),
                " from account
                  where account_id <> 0
                    and (created_at, account_id) > (timestamptz 'epoch' + $1::bigint * interval '1 microsecond', $2)
                  order by account.created_at, account_id limit $3"
            ),
        };
        // The start of a list is too early for a timestamp.
        let params: Params<'_> = &[&after.created_ms.max(0), &after.random, &(size as i64)];
        let rows = self.read(STATEMENT, params).await?;
        let accounts = rows.iter().map(|row| {
            let position = Position {
                created_ms: row.get("created_us"),
                random: row.get("account_id"),
            };
            (position, account(row))
        });
        Ok(accounts.collect())
    }

    /// The account with this id.
    pub async fn account_of_all_accounts(&self, id: AccountId) -> Result<Option<Account>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::account_of_all_accounts",
            sql: concat!(
                "-- store::account_of_all_accounts\nselect ",
                account_columns!(),
                " from account where account_id = $1 and account_id <> 0"
            ),
        };
        let rows = self.read(STATEMENT, &[&id.as_i64()]).await?;
        Ok(rows.first().map(account))
    }

    /// The access key of this account with this hash of its secret. The answer waits for the synchronous standby.
    pub async fn access_key_of_secret(
        &self,
        id: AccountId,
        secret_sha256: [u8; 32],
    ) -> Result<Option<ManagedKey>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::access_key_of_secret",
            sql: concat!(
                "-- store::access_key_of_secret\n",
                key_answer!("access_key as key"),
                " where key.account_id = $1 and secret_sha256 = $2 order by created_at limit 1"
            ),
        };
        let params: Params<'_> = &[&id.as_i64(), &secret_sha256.as_slice()];
        let rows = self.read_confirmed(Confirm::Rows, STATEMENT, params).await?;
        rows.first().map(managed_key).transpose()
    }

    /// The account with this name; `None`: the oldest account.
    pub async fn account_named_of_all_accounts(&self, name: Option<&str>) -> Result<Option<Account>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::account_named_of_all_accounts",
            sql: concat!(
                "-- store::account_named_of_all_accounts\nselect ",
                account_columns!(),
                " from account where account_id <> 0 and ($1::text is null or name = $1)
                  order by account.created_at, account_id limit 1"
            ),
        };
        let rows = self.read(STATEMENT, &[&name]).await?;
        Ok(rows.first().map(account))
    }
}

fn account(row: &Row) -> Account {
    Account {
        id: AccountId::from_i64(row.get("account_id")),
        name: row.get("name"),
        disabled: row.get("disabled"),
        created: Timestamp::from_millis(row.get::<_, i64>("created_us") / 1000),
        server_certificates: row.get("server_certificates"),
    }
}
