//! Records that private keys leave the service.

use std::sync::Arc;

use super::group_commit::{GroupCommit, RoundTrip};
use super::lookup::LookupError;
use super::{Error, Params, Statement, Store};
use crate::account::Actor;
use crate::inventory::CertificateId;

/// The delivery of a private key.
#[derive(Clone, Debug)]
pub struct KeyDelivery {
    /// Who gets the key.
    pub actor: Actor,
    /// The certificate of the key.
    pub certificate: CertificateId,
    /// The version of the pair.
    pub version: i64,
    /// The method, such as `GetKeyPair`.
    pub method: &'static str,
    /// The form of the key, such as `pem`.
    pub format: &'static str,
}

/// One statement records at most this many.
const MAX_DELIVERIES: usize = 64;

/// Deliveries that wait while a statement runs share the next statement.
pub(super) type Deliveries = Arc<GroupCommit<KeyDelivery, Result<(), LookupError>>>;

pub(super) fn deliveries(round_trip: RoundTrip) -> Deliveries {
    GroupCommit::new(MAX_DELIVERIES, round_trip)
}

impl Store {
    /// Adds the delivery to the trail `access` of its account. It is committed when this returns. The key must not leave before, and
    /// not at all after an error.
    ///
    /// After a lost connection, the statement runs again, so that a delivery can be there twice, with the same request id. After an
    /// error, it can be there although no key has left. So every key has a row, and a row can lack its key.
    pub async fn deliver(&self, delivery: KeyDelivery) -> Result<(), Error> {
        let all = async |store: Self, deliveries: Vec<KeyDelivery>| store.deliver_all(&deliveries).await;
        self.look_up_together(&self.deliveries, delivery, all).await
    }

    async fn deliver_all(&self, deliveries: &[KeyDelivery]) -> Result<Vec<()>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::deliver",
            sql: "-- store::deliver
                  with delivery as (
                    select * from unnest($1::bigint[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::uuid[], $7::inet[], $8::text[])
                      with ordinality as given (account_id, resource_id, version, method, principal, request_id, address, format, place)
                  ),
                  per_account as (select account_id, count(*) as n from delivery group by account_id),
                  stream as (
                    insert into stream as s (account_id, name, position)
                    select account_id, 'access', n from per_account order by account_id
                    on conflict (account_id, name) do update set position = s.position + excluded.position
                    returning account_id, position
                  )
                  insert into audit_event (account_id, position, request_id, method, outcome, principal, address, resource_type,
                    resource_id, version, detail)
                  select account_id, stream.position - n + row_number() over (partition by account_id order by place), request_id,
                    method, 'delivered', principal, address, 'server_certificate', resource_id, version,
                    jsonb_build_object('format', jsonb_build_array(null, format))
                  from delivery join per_account using (account_id) join stream using (account_id)",
        };
        let accounts: Vec<_> = deliveries.iter().map(|one| one.certificate.account.as_i64()).collect();
        let certificates: Vec<_> = deliveries.iter().map(|one| one.certificate.to_string()).collect();
        let versions: Vec<_> = deliveries.iter().map(|one| one.version).collect();
        let methods: Vec<_> = deliveries.iter().map(|one| one.method).collect();
        let principals: Vec<_> = deliveries.iter().map(|one| one.actor.principal.id()).collect();
        let requests: Vec<_> = deliveries.iter().map(|one| one.actor.request_id).collect();
        let addresses: Vec<_> = deliveries.iter().map(|one| one.actor.address).collect();
        let formats: Vec<_> = deliveries.iter().map(|one| one.format).collect();
        let params: Params<'_> = &[
            &accounts,
            &certificates,
            &versions,
            &methods,
            &principals,
            &requests,
            &addresses,
            &formats,
        ];
        let recorded = self.read(STATEMENT, params).await;
        match &recorded {
            Ok(_) => self.record_write(),
            Err(Error::Unavailable(_)) => self.record_refusal(),
            Err(_) => {}
        }
        recorded.map(|_| vec![(); deliveries.len()])
    }
}
