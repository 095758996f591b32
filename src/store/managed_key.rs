//! Access keys as an admin manages them: create, list, change and delete. The row of the account is locked during each change, so the
//! quota and the rule about the last admin key are exact.

use std::net::IpAddr;

use tokio_postgres::Row;

use super::access_key::scope;
use super::audit::audited;
use super::write::Outcome;
use super::{Error, Params, QuotaUse, Statement, Store};
use crate::account::{AccountId, Actor, Role};
use crate::clock::Timestamp;
use crate::inventory::Scope;
use crate::seal::Sealed;

/// An access key without its secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ManagedKey {
    /// The key's id.
    pub id: String,
    /// The permissions.
    pub role: Role,
    /// The part of the account that exists for the key.
    pub scope: Scope,
    /// The purpose of the key.
    pub description: String,
    /// Whether the key is disabled.
    pub disabled: bool,
    /// When the key expires; `None`: never.
    pub expires: Option<Timestamp>,
    /// When the key was created.
    pub created: Timestamp,
    /// The principal that created the key. Empty: a command on the service's host.
    pub created_by: String,
    /// The last recorded use.
    pub last_use: Option<KeyUse>,
    /// Whether the key can sign requests.
    pub can_sign: bool,
}

/// A use of an access key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyUse {
    /// When the key was used.
    pub time: Timestamp,
    /// The address of the caller.
    pub address: IpAddr,
    /// The method that was called.
    pub method: String,
}

/// An access key to create.
#[derive(Debug)]
pub struct NewKey<'a> {
    /// The account of the key.
    pub account: AccountId,
    /// The key's id.
    pub id: &'a str,
    /// SHA-256 of its secret.
    pub secret_sha256: [u8; 32],
    /// The sealed secret; `None`: the key cannot sign.
    pub sealed: Option<Sealed>,
    /// The permissions.
    pub role: Role,
    /// The part of the account that exists for the key.
    pub scope: &'a Scope,
    /// The purpose of the key.
    pub description: &'a str,
    /// When the key expires; `None`: never.
    pub expires: Option<Timestamp>,
    /// The maximum number of access keys, if the account has no quota of its own.
    pub quota: i64,
}

/// The outcome of creating an access key.
#[derive(Debug)]
pub enum KeyCreation {
    /// The key was created.
    Created(ManagedKey),
    /// The account has a key with the same secret.
    Exists(ManagedKey),
    /// The account has as many keys as its quota allows.
    QuotaExceeded(QuotaUse),
}

/// A change of an access key. `None` changes nothing.
#[derive(Clone, Copy, Debug)]
pub struct KeyChange<'a> {
    /// Whether the key is disabled.
    pub disabled: Option<bool>,
    /// When the key expires. `Some(None)`: never.
    pub expires: Option<Option<Timestamp>>,
    /// The purpose of the key.
    pub description: Option<&'a str>,
}

/// Why an access key was not changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyRefusal {
    /// The account would have no unlimited admin key.
    LastAdminKey,
    /// The account does not have the key.
    NotFound,
}

/// The keys to list.
#[derive(Clone, Copy, Debug)]
pub struct KeyFilter {
    /// The role; `None`: any.
    pub role: Option<Role>,
    /// Only keys that were created and used before this number of days.
    pub unused_days: Option<i32>,
}

/// The place of a key in the list: the time of its creation in microseconds since 1970, and its id.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyPosition {
    /// Microseconds since 1970.
    pub created_us: i64,
    /// The key's id.
    pub id: String,
}

impl KeyPosition {
    /// Before every key.
    pub const START: Self = Self {
        created_us: 0,
        id: String::new(),
    };
}

/// The columns of `access_key` without the account and the hash of the secret.
macro_rules! key_columns {
    () => {
        "access_key_id, role, scope_region_ids, scope_resource_group_ids, scope_name_prefixes, description, disabled, expires_at,
           created_at, created_by, sealed"
    };
}

/// The columns of a [`ManagedKey`] in an answer. `key` in `$from` has the columns of the key. `$more` are columns of the statement's
/// own.
macro_rules! key_answer {
    ($from:literal $(, $more:literal)?) => {
        concat!(
            "select key.access_key_id, role, scope_region_ids, scope_resource_group_ids, scope_name_prefixes, description, disabled,
               created_by, key.sealed is not null as can_sign, (extract(epoch from expires_at) * 1000)::bigint as expires_ms,
               (extract(epoch from created_at) * 1000000)::bigint as created_us,
               (extract(epoch from last_use.used_at) * 1000)::bigint as used_ms, last_use.address, last_use.method",
            $(", ", $more,)?
            " from ",
            $from,
            " left join access_key_use as last_use on last_use.account_id = $1 and last_use.access_key_id = key.access_key_id"
        )
    };
}

/// A time as the audit trail shows it.
macro_rules! utc {
    ($column:literal) => {
        concat!(
            "to_char(",
            $column,
            " at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
        )
    };
}

/// The condition for an admin key, or operator's key, that can do everything at any time. `$key` is a row of `access_key`.
macro_rules! is_unlimited {
    ($key:literal) => {
        concat!(
            "(",
            $key,
            ".role in ('admin', 'operator') and not ",
            $key,
            ".disabled and num_nonnulls(",
            $key,
            ".expires_at, ",
            $key,
            ".scope_region_ids, ",
            $key,
            ".scope_resource_group_ids, ",
            $key,
            ".scope_name_prefixes) = 0)"
        )
    };
}

/// The body of a CTE that inserts an access key in account $1, with the id $6, the hash $7, the role $8, the scope $9 to $11, the
/// description $12, the expiry $13 and the sealed secret $14.
macro_rules! insert_key {
    ($from:literal) => {
        concat!(
            "insert into access_key (account_id, access_key_id, secret_sha256, role, scope_region_ids,
               scope_resource_group_ids, scope_name_prefixes, description, expires_at, created_by, sealed)
             select $1::bigint, $6::text, $7::bytea, $8::text, $9::text[], $10::text[], $11::text[], $12::text,
               to_timestamp($13::bigint / 1000.0), $3::text, $14::bytea ",
            $from,
            " returning ",
            key_columns!()
        )
    };
}

pub(super) use {insert_key, key_answer, key_columns};

/// The statement that creates a key, audited as this method.
macro_rules! create {
    ($function:literal, $method:literal) => {
        Statement {
            name: $function,
            sql: concat!(
                "-- ",
                $function,
                "
                 with existing as (
                   select ",
                key_columns!(),
                "  from access_key where account_id = $1 and secret_sha256 = $7 order by created_at limit 1
                 ),
                 quota_use as (
                   select count(*) as used,
                     coalesce((select maximum from quota where account_id = $1 and kind = 'access_keys'), $15::bigint) as maximum
                   from access_key where account_id = $1
                 ),
                 changed as (
                   ",
                insert_key!("from quota_use where used < maximum and not exists (select from existing)"),
                ")",
                audited!(
                    $method,
                    "access_key",
                    "access_key_id",
                    concat!(
                        "jsonb_strip_nulls(jsonb_build_object(
                       'role', jsonb_build_array(null, role),
                       'scope_region_ids', case when scope_region_ids is not null
                         then jsonb_build_array(null, scope_region_ids) end,
                       'scope_resource_group_ids', case when scope_resource_group_ids is not null
                         then jsonb_build_array(null, scope_resource_group_ids) end,
                       'scope_name_prefixes', case when scope_name_prefixes is not null
                         then jsonb_build_array(null, scope_name_prefixes) end,
                       'description', case when description <> '' then jsonb_build_array(null, description) end,
                       'can_sign', case when sealed is not null then jsonb_build_array(null, true) end,
                       'expire_time', case when expires_at is not null then jsonb_build_array(null, ",
                        utc!("expires_at"),
                        ") end))"
                    )
                ),
                key_answer!(
                    "quota_use left join (select * from changed union all select * from existing) as key on true",
                    "used, maximum"
                )
            ),
        }
    };
}

impl Store {
    /// Creates an access key, unless the account has one with the same secret.
    pub async fn create_access_key(&self, actor: &Actor, new: &NewKey<'_>) -> Result<KeyCreation, Error> {
        const STATEMENT: Statement = create!("store::create_access_key", "CreateAccessKey");
        self.create_key(STATEMENT, actor, new).await
    }

    /// Creates an admin key of an account for an operator.
    pub async fn create_account_admin_key(&self, actor: &Actor, new: &NewKey<'_>) -> Result<KeyCreation, Error> {
        const STATEMENT: Statement = create!("store::create_account_admin_key", "CreateAccountAdminKey");
        self.create_key(STATEMENT, actor, new).await
    }

    /// Creates an access key for a command on the service's host.
    pub async fn bootstrap_access_key(&self, actor: &Actor, new: &NewKey<'_>) -> Result<KeyCreation, Error> {
        const STATEMENT: Statement = create!("store::bootstrap_access_key", "bootstrap");
        self.create_key(STATEMENT, actor, new).await
    }

    async fn create_key(&self, statement: Statement, actor: &Actor, new: &NewKey<'_>) -> Result<KeyCreation, Error> {
        let ScopeColumns(regions, groups, prefixes) = ScopeColumns::of(new.scope);
        let expires = new.expires.map(Timestamp::millis);
        let values: Params<'_> = &[
            &new.id,
            &new.secret_sha256.as_slice(),
            &new.role.as_str(),
            &regions,
            &groups,
            &prefixes,
            &new.description,
            &expires,
            &new.sealed.as_ref().map(Sealed::as_bytes),
            &new.quota,
        ];
        let rows = match self.administer(statement, new.account, actor, values).await? {
            Outcome::Rows(rows) => rows,
            Outcome::Earlier(_) => {
                let key = self.access_key_after_change(new.account, new.id).await?;
                return Ok(KeyCreation::Created(key));
            }
        };
        let row = rows.first().ok_or(Error::Row("access_key"))?;
        if row.get::<_, Option<&str>>("access_key_id").is_none() {
            return Ok(KeyCreation::QuotaExceeded(QuotaUse {
                used: row.get("used"),
                limit: row.get("maximum"),
            }));
        }
        let key = managed_key(row)?;
        Ok(match key.id == new.id {
            true => KeyCreation::Created(key),
            false => KeyCreation::Exists(key),
        })
    }

    /// Changes an access key of the actor's account.
    pub async fn update_access_key(
        &self,
        actor: &Actor,
        id: &str,
        change: KeyChange<'_>,
    ) -> Result<Result<ManagedKey, KeyRefusal>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::update_access_key",
            sql: concat!(
                "-- store::update_access_key
                 with target as (
                   select access_key.*, coalesce($7::boolean, disabled) as new_disabled,
                     case when $8::boolean then to_timestamp($9::bigint / 1000.0) else expires_at end as new_expires_at,
                     coalesce($10::text, description) as new_description,
                     not exists (
                       select from access_key as other where other.account_id = $1 and other.access_key_id <> $6
                         and ",
                is_unlimited!("other"),
                "    ) as is_only
                   from access_key where account_id = $1 and access_key_id = $6
                 ),
                 judged as (
                   select *, is_only and (new_disabled or new_expires_at is not null) and ",
                is_unlimited!("target"),
                "    as is_last
                   from target
                 ),
                 changed as (
                   update access_key set disabled = new_disabled, expires_at = new_expires_at, description = new_description
                   from judged
                   where access_key.account_id = $1 and access_key.access_key_id = $6 and not is_last
                     and (access_key.disabled, access_key.expires_at, access_key.description)
                       is distinct from (new_disabled, new_expires_at, new_description)
                   returning judged.disabled as old_disabled, new_disabled, judged.expires_at as old_expires_at, new_expires_at,
                     judged.description as old_description, new_description
                 )",
                audited!(
                    "UpdateAccessKey",
                    "access_key",
                    "$6",
                    concat!(
                        "jsonb_strip_nulls(jsonb_build_object(
                       'disabled', case when old_disabled <> new_disabled then jsonb_build_array(old_disabled, new_disabled) end,
                       'expire_time', case when old_expires_at is distinct from new_expires_at then jsonb_build_array(",
                        utc!("old_expires_at"),
                        ", ",
                        utc!("new_expires_at"),
                        ") end,
                       'description', case when old_description <> new_description
                         then jsonb_build_array(old_description, new_description) end))"
                    )
                ),
                key_answer!(
                    "(
                       select access_key_id, role, scope_region_ids, scope_resource_group_ids, scope_name_prefixes,
                         new_description as description, new_disabled as disabled, new_expires_at as expires_at, created_at,
                         created_by, sealed, is_last
                       from judged
                     ) as key",
                    "is_last"
                )
            ),
        };
        let (expiry_changes, expires) = (
            change.expires.is_some(),
            change.expires.flatten().map(Timestamp::millis),
        );
        let values: Params<'_> = &[&id, &change.disabled, &expiry_changes, &expires, &change.description];
        let rows = match self.administer(STATEMENT, actor.account, actor, values).await? {
            Outcome::Rows(rows) => rows,
            Outcome::Earlier(_) => {
                let key = self.access_key_after_change(actor.account, id).await?;
                return Ok(Ok(key));
            }
        };
        match rows.first() {
            None => Ok(Err(KeyRefusal::NotFound)),
            Some(row) if row.get("is_last") => Ok(Err(KeyRefusal::LastAdminKey)),
            Some(row) => Ok(Ok(managed_key(row)?)),
        }
    }

    /// Deletes an access key of the actor's account that is disabled or has expired. `false`: there is no such key.
    pub async fn delete_access_key(&self, actor: &Actor, id: &str) -> Result<bool, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::delete_access_key",
            sql: concat!(
                "-- store::delete_access_key
                 with changed as (
                   delete from access_key where account_id = $1 and access_key_id = $6 and (disabled or expires_at <= now())
                   returning role, description
                 )",
                audited!(
                    "DeleteAccessKey",
                    "access_key",
                    "$6",
                    "jsonb_build_object('role', jsonb_build_array(role, null),
                       'description', jsonb_build_array(description, null))"
                ),
                "select 1 from changed"
            ),
        };
        match self.administer(STATEMENT, actor.account, actor, &[&id]).await? {
            Outcome::Rows(rows) => Ok(!rows.is_empty()),
            Outcome::Earlier(_) => Ok(true),
        }
    }

    /// The access key of this account.
    pub async fn access_key(&self, account: AccountId, id: &str) -> Result<Option<ManagedKey>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::access_key",
            sql: concat!(
                "-- store::access_key\n",
                key_answer!("access_key as key"),
                " where key.account_id = $1 and key.access_key_id = $2"
            ),
        };
        let rows = self.read(STATEMENT, &[&account.as_i64(), &id]).await?;
        rows.first().map(managed_key).transpose()
    }

    /// The key of a change that took effect before its connection was lost.
    pub(super) async fn access_key_after_change(&self, account: AccountId, id: &str) -> Result<ManagedKey, Error> {
        let found = self.access_key(account, id).await.map_err(Error::after_change)?;
        found.ok_or(Error::Row("access_key"))
    }

    /// At most `size` of the account's access keys after this position, oldest first, each with its position.
    pub async fn access_keys(
        &self,
        account: AccountId,
        filter: KeyFilter,
        after: &KeyPosition,
        size: usize,
    ) -> Result<Vec<(KeyPosition, ManagedKey)>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::access_keys",
            sql: concat!(
                "-- store::access_keys\n",
                key_answer!("access_key as key"),
                " where key.account_id = $1 and ($2::text is null or role = $2)
                    and ($3::int is null or greatest(created_at, used_at) < now() - make_interval(days => $3))
                    and (created_at, key.access_key_id) > (timestamptz 'epoch' + $4::bigint * interval '1 microsecond', $5::text)
                  order by created_at, key.access_key_id limit $6"
            ),
        };
        let role = filter.role.map(Role::as_str);
        let params: Params<'_> = &[
            &account.as_i64(),
            &role,
            &filter.unused_days,
            &after.created_us,
            &after.id,
            &(size as i64),
        ];
        let rows = self.read(STATEMENT, params).await?;
        let keys = rows.iter().map(|row| {
            let key = managed_key(row)?;
            let position = KeyPosition {
                created_us: row.get("created_us"),
                id: key.id.clone(),
            };
            Ok((position, key))
        });
        keys.collect()
    }
}

/// The columns of a scope. An empty list is stored as null.
struct ScopeColumns<'a>(Option<Vec<&'a str>>, Option<Vec<&'a str>>, Option<Vec<&'a str>>);

impl<'a> ScopeColumns<'a> {
    fn of(scope: &'a Scope) -> Self {
        let list = |texts: Vec<&'a str>| (!texts.is_empty()).then_some(texts);
        Self(
            list(scope.regions.iter().map(|id| id.as_str()).collect()),
            list(scope.resource_groups.iter().map(|id| id.as_str()).collect()),
            list(scope.name_prefixes.iter().map(String::as_str).collect()),
        )
    }
}

pub(super) fn managed_key(row: &Row) -> Result<ManagedKey, Error> {
    let used: Option<i64> = row.get("used_ms");
    Ok(ManagedKey {
        id: row.get("access_key_id"),
        role: Role::from_name(row.get("role")).ok_or(Error::Row("access_key"))?,
        scope: scope(row)?,
        description: row.get("description"),
        disabled: row.get("disabled"),
        expires: row.get::<_, Option<i64>>("expires_ms").map(Timestamp::from_millis),
        created: Timestamp::from_millis(row.get::<_, i64>("created_us") / 1000),
        created_by: row.get("created_by"),
        last_use: used.map(|time| KeyUse {
            time: Timestamp::from_millis(time),
            address: row.get("address"),
            method: row.get("method"),
        }),
        can_sign: row.get("can_sign"),
    })
}
