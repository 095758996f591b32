//! Writes denied calls to the audit trail.

use std::net::IpAddr;

use uuid::Uuid;

use super::{Error, Statement, Store};
use crate::account::AccountId;

/// A denied call of a known caller, or several.
#[derive(Clone, Debug)]
pub struct Denial {
    /// The account of the caller. `None`: the account of the access key that is the principal.
    pub account: Option<AccountId>,
    /// The caller.
    pub principal: String,
    /// The address of the caller.
    pub address: IpAddr,
    /// The request.
    pub request_id: Uuid,
    /// The method.
    pub method: String,
    /// The reason that the caller was told, such as `PERMISSION_DENIED`.
    pub reason: &'static str,
    /// The number of calls that the event stands for.
    pub count: i64,
}

impl Store {
    /// Adds these denials to the trails `access` of their accounts. After a lost connection, the statement runs again, so that a denial
    /// can be there twice, with the same request id.
    pub async fn record_denials_of_all_accounts(&self, denials: &[Denial]) -> Result<(), Error> {
        const STATEMENT: Statement = Statement {
            name: "store::record_denials_of_all_accounts",
            sql: "-- store::record_denials_of_all_accounts
                  with denial as (
                    select coalesce(given.account_id, access_key.account_id) as account_id, principal, address, request_id, method, reason,
                      count, place
                    from unnest($1::bigint[], $2::text[], $3::inet[], $4::uuid[], $5::text[], $6::text[], $7::bigint[])
                      with ordinality as given (account_id, principal, address, request_id, method, reason, count, place)
                    left join access_key on given.account_id is null and access_key.access_key_id = principal
                  ),
                  per_account as (select account_id, count(*) as n from denial where account_id is not null group by account_id),
                  stream as (
                    insert into stream as s (account_id, name, position)
                    select account_id, 'access', n from per_account order by account_id
                    on conflict (account_id, name) do update set position = s.position + excluded.position
                    returning account_id, position
                  )
                  insert into audit_event (account_id, position, request_id, method, outcome, reason, principal, address, count)
                  select account_id, stream.position - n + row_number() over (partition by account_id order by place), request_id,
                    method, 'denied', reason, principal, address, count
                  from denial join per_account using (account_id) join stream using (account_id)",
        };
        let accounts: Vec<_> = denials
            .iter()
            .map(|denial| denial.account.map(AccountId::as_i64))
            .collect();
        let principals: Vec<_> = denials.iter().map(|denial| denial.principal.as_str()).collect();
        let addresses: Vec<_> = denials.iter().map(|denial| denial.address).collect();
        let requests: Vec<_> = denials.iter().map(|denial| denial.request_id).collect();
        let methods: Vec<_> = denials.iter().map(|denial| denial.method.as_str()).collect();
        let reasons: Vec<_> = denials.iter().map(|denial| denial.reason).collect();
        let counts: Vec<_> = denials.iter().map(|denial| denial.count).collect();
        let params: super::Params<'_> = &[
            &accounts,
            &principals,
            &addresses,
            &requests,
            &methods,
            &reasons,
            &counts,
        ];
        self.read(STATEMENT, params).await?;
        Ok(())
    }
}
