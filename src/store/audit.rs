//! Changes that are audited: of access keys, accounts, quotas, identities, resource groups and the key ring. Their statements insert
//! the audit event in the transaction of the change.
//!
//! The parameters of such a statement are $1 the account of the resource, $2 the caller's account, $3 the principal, $4 the request,
//! $5 the address, and from $6 on the values of the statement's own ([`Store::administer`]).

use tokio_postgres::types::ToSql;

use super::write::{Lost, Outcome, Trace};
use super::{Error, Params, Statement, Store};
use crate::account::{AccountId, Actor};

/// The end of a statement after a CTE `changed` with at most one row: raises the stream `access` as the last lock, and inserts the
/// audit event. An operator's change of an account is in the trail of the account and in the trail of the operators.
macro_rules! audited {
    ($method:literal, $resource_type:literal, $resource_id:literal, $detail:expr) => {
        concat!(
            ", audited_account as (
               select distinct account_id from changed cross join unnest(array[$1::bigint, $2::bigint]) as account(account_id)
             ),
             stream as (
               insert into stream as s (account_id, name, position)
               select account_id, 'access', 1 from audited_account order by account_id
               on conflict (account_id, name) do update set position = s.position + 1
               returning account_id, position
             ),
             audit_row as (
               insert into audit_event (account_id, position, request_id, method, outcome, principal, address,
                 resource_type, resource_id, detail)
               select stream.account_id, stream.position, $4::uuid, '",
            $method,
            "', 'done', $3::text, $5::inet, '",
            $resource_type,
            "', ",
            $resource_id,
            ", ",
            $detail,
            " from changed cross join stream
             ) "
        )
    };
}
pub(super) use audited;

impl Store {
    /// Runs a statement that makes an audited change in this account. The changes of an account run one after the other, and each
    /// sees the changes before it. After a lost connection, the audit event tells whether the change took effect.
    pub(super) async fn administer(
        &self,
        statement: Statement,
        account: AccountId,
        actor: &Actor,
        values: Params<'_>,
    ) -> Result<Outcome, Error> {
        let (account_id, caller) = (account.as_i64(), actor.account.as_i64());
        let principal = actor.principal.id();
        let mut params: Vec<&(dyn ToSql + Sync)> =
            vec![&account_id, &caller, &principal, &actor.request_id, &actor.address];
        params.extend(values);
        let trace = Trace::AuditEvent(account, actor.request_id);
        self.write(Lost::No, statement, trace, &params).await
    }
}
