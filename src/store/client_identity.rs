//! Client identities: the names in client certificates, and the account that each acts for.

use tokio_postgres::Row;

use super::access_key::{Rates, rates, scope};
use super::audit::audited;
use super::write::Outcome;
use super::{Error, Params, Statement, Store};
use crate::account::{AccountId, Actor, IdentityKind, IdentityName, Role};
use crate::clock::Timestamp;
use crate::inventory::Scope;

/// A client identity.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientIdentity {
    /// The name in the certificate, or the pattern that matches it.
    pub name: IdentityName,
    /// The account that it acts for.
    pub account: AccountId,
    /// What it may do.
    pub role: Role,
    /// The part of the account that exists for it.
    pub scope: Scope,
    /// The principal that created it.
    pub created_by: String,
    /// When it was created.
    pub created: Timestamp,
}

/// A client identity that a certificate matches, with what authentication needs to know about its account.
#[derive(Clone, Debug)]
pub struct MatchedIdentity {
    /// The identity.
    pub identity: ClientIdentity,
    /// Whether the account was disabled.
    pub account_disabled: bool,
    /// The rates of the account.
    pub rates: Rates,
}

/// The columns of [`ClientIdentity`].
macro_rules! columns {
    () => {
        "kind, value, client_identity.account_id, role, scope_region_ids, scope_resource_group_ids, scope_name_prefixes, created_by,
                    (extract(epoch from client_identity.created_at) * 1000)::bigint as created_ms"
    };
}

impl Store {
    /// The client identities with these names, of whichever account.
    pub async fn client_identities_of_all_accounts(
        &self,
        names: &[IdentityName],
    ) -> Result<Vec<MatchedIdentity>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::client_identities_of_all_accounts",
            sql: concat!(
                "-- store::client_identities_of_all_accounts
                  select ",
                columns!(),
                ", account.disabled as account_disabled,
                    (select maximum from quota
                     where quota.account_id = account.account_id and kind = 'calls_per_second') as account_rate,
                    (select maximum from quota
                     where quota.account_id = account.account_id and kind = 'calls_per_second_per_key') as key_rate
                  from unnest($1::text[], $2::text[]) as wanted (kind, value)
                  join client_identity using (kind, value)
                  join account on account.account_id = client_identity.account_id"
            ),
        };
        let kinds: Vec<_> = names.iter().map(|name| name.kind.as_str()).collect();
        let values: Vec<_> = names.iter().map(|name| name.value.as_str()).collect();
        let rows = self.read(STATEMENT, &[&kinds, &values]).await?;
        let matched = |row: &Row| {
            Ok(MatchedIdentity {
                identity: identity(row)?,
                account_disabled: row.get("account_disabled"),
                rates: rates(row),
            })
        };
        rows.iter().map(matched).collect()
    }

    /// At most `size` client identities after this name, in the order of their names: of one account, or of all.
    pub async fn list_client_identities(
        &self,
        account: Option<AccountId>,
        after: Option<&IdentityName>,
        size: usize,
    ) -> Result<Vec<ClientIdentity>, Error> {
        const ALL: Statement = Statement {
            name: "store::list_client_identities",
            sql: concat!(
                "-- store::list_client_identities
                  select ",
                columns!(),
                " from client_identity where (kind, value) > ($1, $2) order by kind, value limit $3"
            ),
        };
        const OF_ACCOUNT: Statement = Statement {
            name: "store::list_client_identities_of_account",
            sql: concat!(
                "-- store::list_client_identities_of_account
                  select ",
                columns!(),
                " from client_identity where account_id = $4 and (kind, value) > ($1, $2) order by kind, value limit $3"
            ),
        };
        let kind = after.map_or("", |name| name.kind.as_str());
        let value = after.map_or("", |name| name.value.as_str());
        let size = size as i64;
        let rows = match account {
            None => self.read(ALL, &[&kind, &value, &size]).await?,
            Some(account) => {
                self.read(OF_ACCOUNT, &[&kind, &value, &size, &account.as_i64()])
                    .await?
            }
        };
        rows.iter().map(identity).collect()
    }

    /// Creates a client identity. `false`: the name belongs to a client identity already, or there is no such account.
    pub async fn create_client_identity(
        &self,
        actor: &Actor,
        account: AccountId,
        name: &IdentityName,
        role: Role,
        scope: &Scope,
    ) -> Result<bool, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::create_client_identity",
            sql: concat!(
                "-- store::create_client_identity
                  with changed as (
                    insert into client_identity (kind, value, account_id, role, scope_region_ids, scope_resource_group_ids,
                      scope_name_prefixes, created_by)
                    select $6::text, $7::text, account_id, $8::text, $9::text[], $10::text[], $11::text[], $3::text
                    from account where account_id = $1
                    on conflict (kind, value) do nothing
                    returning role, scope_region_ids, scope_resource_group_ids, scope_name_prefixes
                  )",
                audited!(
                    "CreateClientIdentity",
                    "client_identity",
                    "$12::text",
                    "jsonb_build_object('account_id', jsonb_build_array(null, $1::bigint::text), 'role', jsonb_build_array(null, role),
                       'scope_region_ids', jsonb_build_array(null, scope_region_ids),
                       'scope_resource_group_ids', jsonb_build_array(null, scope_resource_group_ids),
                       'scope_name_prefixes', jsonb_build_array(null, scope_name_prefixes))"
                ),
                "select 1 from changed"
            ),
        };
        let list = |list: Vec<String>| (!list.is_empty()).then_some(list);
        let regions = list(scope.regions.iter().map(ToString::to_string).collect());
        let groups = list(scope.resource_groups.iter().map(ToString::to_string).collect());
        let prefixes = list(scope.name_prefixes.clone());
        let shown = name.to_string();
        let values: Params<'_> = &[
            &name.kind.as_str(),
            &name.value,
            &role.as_str(),
            &regions,
            &groups,
            &prefixes,
            &shown,
        ];
        let outcome = self.administer(STATEMENT, account, actor, values).await?;
        Ok(!matches!(outcome, Outcome::Rows(rows) if rows.is_empty()))
    }

    /// Deletes the client identity with this name. `false`: there is none in the account.
    pub async fn delete_client_identity(
        &self,
        actor: &Actor,
        account: AccountId,
        name: &IdentityName,
    ) -> Result<bool, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::delete_client_identity",
            sql: concat!(
                "-- store::delete_client_identity
                  with changed as (
                    delete from client_identity where kind = $6 and value = $7 and account_id = $1
                    returning role, scope_region_ids, scope_resource_group_ids, scope_name_prefixes
                  )",
                audited!(
                    "DeleteClientIdentity",
                    "client_identity",
                    "$8::text",
                    "jsonb_build_object('account_id', jsonb_build_array($1::bigint::text, null), 'role', jsonb_build_array(role, null),
                       'scope_region_ids', jsonb_build_array(scope_region_ids, null),
                       'scope_resource_group_ids', jsonb_build_array(scope_resource_group_ids, null),
                       'scope_name_prefixes', jsonb_build_array(scope_name_prefixes, null))"
                ),
                "select 1 from changed"
            ),
        };
        let shown = name.to_string();
        let values: Params<'_> = &[&name.kind.as_str(), &name.value, &shown];
        let outcome = self.administer(STATEMENT, account, actor, values).await?;
        Ok(!matches!(outcome, Outcome::Rows(rows) if rows.is_empty()))
    }

    /// Whether there is an account with this id.
    pub async fn has_account_of_all_accounts(&self, account: AccountId) -> Result<bool, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::has_account_of_all_accounts",
            sql: "-- store::has_account_of_all_accounts\nselect from account where account_id = $1",
        };
        Ok(!self.read(STATEMENT, &[&account.as_i64()]).await?.is_empty())
    }
}

fn identity(row: &Row) -> Result<ClientIdentity, Error> {
    let damaged = || Error::Row("client_identity");
    Ok(ClientIdentity {
        name: IdentityName {
            kind: IdentityKind::from_name(row.get("kind")).ok_or_else(damaged)?,
            value: row.get("value"),
        },
        account: AccountId::from_i64(row.get("account_id")),
        role: Role::from_name(row.get("role")).ok_or_else(damaged)?,
        scope: scope(row)?,
        created_by: row.get("created_by"),
        created: Timestamp::from_millis(row.get("created_ms")),
    })
}
