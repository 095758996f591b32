//! Records that a proxy refused to load a version of a certificate.

use super::change::Precondition;
use super::mutation::event;
use super::scope::in_scope;
use super::write::Trace;
use super::{Error, Statement, Store};
use crate::account::Actor;
use crate::digest;
use crate::inventory::{CertificateId, Scope};

/// The certificate itself does not change, so it keeps its revision.
const REJECT: Statement = Statement {
    name: "store::reject",
    sql: concat!(
        "-- store::reject
         with target as (
           select account_id, created_ms, random, kind, revision, $13::bigint as version
           from certificate
           where account_id = $1 and created_ms = $2 and random = $3 and ($4::text is null or kind = $4)
             and ($5::text is null or region_id = $5) and ($6::bigint is null or revision = $6)
             and num_nulls(deleted_at) = 1 and version >= $13 and ",
        in_scope!("$10", "$11", "$12"),
        "    and not exists (
               select from event
               where event.account_id = $1 and event.created_ms = $2 and event.random = $3 and event.request_id = $8
             )
           for no key update
         )",
        event!("rejected", "target"),
        "select revision from target"
    ),
};

impl Store {
    /// Writes one event for each refused version of a certificate, however many proxies refuse it. Of several calls at once, on any
    /// replica, one writes the event.
    pub async fn reject(&self, actor: &Actor, scope: &Scope, id: CertificateId, version: i64) -> Result<(), Error> {
        // The id of the event follows from the version, so that a second event breaks the primary key.
        let hash = digest::sha256(format!("rejected {id} {version}").as_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash[..16]);
        let actor = Actor {
            request_id: uuid::Builder::from_custom_bytes(bytes).into_uuid(),
            ..actor.clone()
        };
        let precondition = Precondition {
            id,
            kind: None,
            region: None,
            revision: None,
            scope,
        };
        let rejected = self.change(REJECT, precondition, &actor, Some(&version)).await;
        match rejected {
            Ok(_) => Ok(()),
            Err(error @ Error::Statement { .. }) => {
                match self.number_of_change(Trace::Event(id, actor.request_id)).await? {
                    Some(_) => Ok(()),
                    None => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }
}
