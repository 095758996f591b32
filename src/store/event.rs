//! The changes of certificates in the order of their positions, for those who follow them.

use std::collections::HashMap;

use tokio_postgres::Row;
use uuid::Uuid;

use super::read::{StoredCertificate, columns, octets, stored};
use super::{Error, Params, Statement, Store};
use crate::account::AccountId;
use crate::clock::Timestamp;
use crate::inventory::{CertificateId, CertificateKind};

/// An event's place in the stream `certificates` of its account. After a failover or a restore, another event can have the position. The
/// request tells them apart.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct EventMark {
    /// The position. 0: before the first event.
    pub position: i64,
    /// The request. Nil for position 0.
    pub request_id: Uuid,
}

/// A change of a certificate.
#[derive(Debug)]
pub struct StoredEvent {
    /// Its place.
    pub mark: EventMark,
    /// The certificate.
    pub id: CertificateId,
    /// The kind of the certificate.
    pub kind: CertificateKind,
    /// The change, such as `renamed`.
    pub change: String,
    /// The version of the certificate after the change.
    pub version: i64,
    /// When it was written, in microseconds since 1970.
    pub occurred_us: i64,
    /// The old and the new values of the fields that filters look at, as JSON: `{"name": ["old", "new"]}`.
    pub detail: Option<String>,
    /// The present state of the certificate. Only the last event of each certificate in a chunk has it.
    pub present: Option<Present>,
}

/// The present row of a certificate, and the differences between this row and the certificate after an event. The differences are JSON.
#[derive(Debug)]
pub struct Present {
    /// The certificate. `None`: it is purged.
    pub certificate: Option<StoredCertificate>,
    /// The name after the event, if a later event changed it.
    pub name: Option<String>,
    /// The resource group after the event, if a later event changed it. `null` is the default group.
    pub resource_group: Option<String>,
    /// The tags after the event, if an event changed them.
    pub tags: Option<String>,
    /// The region, if the certificate is purged.
    pub region: Option<String>,
    /// Whether the certificate was live after the event.
    pub is_live: bool,
}

/// Consecutive events.
#[derive(Debug)]
pub struct EventChunk {
    /// The events, in the order of their positions.
    pub events: Vec<StoredEvent>,
    /// Whether there was nothing more to read.
    pub is_end: bool,
}

impl Store {
    /// At most `size` events of the account from this position on, in the order of their positions. The certificates are those of the
    /// same moment as the events. The chunk ends before its texts pass 1 MiB, but never before the second event.
    pub async fn changes_from(&self, account: AccountId, position: i64, size: usize) -> Result<EventChunk, Error> {
        // A change that follows gives the old values. The tags of a certificate that is deleted for good while another call changes
        // them can be older in the row of the delete, so the changes of the tags come first. If the certificate still has the
        // revision of the event, the present row is the state after the event, and no other event is read. Only of a
        // purged certificate, the earlier events are read too.
        const STATEMENT: Statement = Statement {
            name: "store::changes_from",
            sql: concat!(
                "-- store::changes_from
                 with chunk as materialized (
                   select *, count(*) over () as found,
                     row_number() over (partition by created_ms, random order by position) = 1 as is_first
                   from (
                     select * from event where account_id = $1 and position >= $2 order by position limit $3
                   ) as event
                 ),
                 measured as materialized (
                   select chunk.*, row_number() over (order by position) as place,
                     sum(1000 + coalesce(octet_length(detail::text), 0) + coalesce(texts.octets, 0)) over (order by position)
                       as octets
                   from chunk left join lateral (
                     select ",
                octets!(),
                " as octets from (
                       select *, array(
                         select key || value from certificate_tag as tag
                         where tag.account_id = $1 and tag.created_ms = chunk.created_ms and tag.random = chunk.random
                       ) as tags
                       from certificate
                       where is_first and account_id = $1 and created_ms = chunk.created_ms and random = chunk.random offset 0
                     ) as certificate
                   ) as texts on true
                 ) ",
                columns!(),
                ", event.*, later.*
                 from (
                   select found, position, created_ms as event_ms, random as event_random, certificate_kind, kind as change,
                     revision as event_revision, version as event_version, request_id, detail::text as detail,
                     (extract(epoch from occurred_at) * 1000000)::bigint as occurred_us,
                     row_number() over (partition by created_ms, random order by position desc) = 1 as is_last
                   from measured where octets <= 1048576 or place <= 2
                 ) as event
                 left join lateral (
                   select * from certificate
                   where account_id = $1 and created_ms = event_ms and random = event_random offset 0
                 ) as certificate on is_last
                 left join lateral (
                   select
                     ((array_agg(other.detail -> 'region_id' -> 0) filter (where other.detail ? 'region_id'))[1])::text
                       as later_region,
                     ((array_agg(other.detail -> 'name' -> 0 order by other.position)
                       filter (where other.position > event.position and other.detail ? 'name'))[1])::text as later_name,
                     ((array_agg(other.detail -> 'resource_group_id' -> 0 order by other.position)
                       filter (where other.position > event.position and other.detail ? 'resource_group_id'))[1])::text
                       as later_group,
                     (coalesce(
                       (array_agg(other.detail -> 'tags' -> 0 order by other.position)
                         filter (where other.position > event.position and other.kind = 'tagged'))[1],
                       (array_agg(other.detail -> 'tags' -> 1 order by other.position desc)
                         filter (where other.position <= event.position and other.kind = 'tagged'))[1],
                       (array_agg(other.detail -> 'tags' -> 0 order by other.position)
                         filter (where other.position > event.position and other.detail ? 'tags'))[1]
                     ))::text as later_tags,
                     (array_agg(other.kind order by other.position)
                       filter (where other.position > event.position and other.kind in ('deleted', 'undeleted', 'purged')))[1]
                       = 'deleted' as was_live
                   from event as other
                   where other.account_id = $1 and other.created_ms = event_ms and other.random = event_random
                     and (other.position > event.position or certificate.revision is null)
                   having is_last and certificate.revision is distinct from event_revision
                 ) as later on true
                 order by position"
            ),
        };
        let params: Params<'_> = &[&account.as_i64(), &position, &(size as i64)];
        let rows = self.read(STATEMENT, params).await?;
        let found = rows.first().map_or(0, |row| row.get::<_, i64>("found"));
        let events: Vec<_> = rows.iter().map(|row| event(account, row)).collect::<Result<_, _>>()?;
        let is_end = found < size as i64 && events.len() as i64 == found;
        Ok(EventChunk { events, is_end })
    }

    /// The last event of the account. The default if there was none.
    pub async fn last_event(&self, account: AccountId) -> Result<EventMark, Error> {
        let mut marks = self.last_events_of_all_accounts(&[account]).await?;
        Ok(marks.remove(&account).unwrap_or_default())
    }

    /// The last event of each of these accounts. An account without events has none.
    pub async fn last_events_of_all_accounts(
        &self,
        accounts: &[AccountId],
    ) -> Result<HashMap<AccountId, EventMark>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::last_events_of_all_accounts",
            sql: "-- store::last_events_of_all_accounts
                  select account_id, stream.position, request_id
                  from unnest($1::bigint[]) as account(account_id) cross join lateral (
                    select position from stream where stream.account_id = account.account_id and name = 'certificates' offset 0
                  ) as stream left join lateral (
                    select request_id from event
                    where event.account_id = account.account_id and event.position = stream.position offset 0
                  ) as event on true",
        };
        let accounts: Vec<_> = accounts.iter().map(|account| account.as_i64()).collect();
        let rows = self.read(STATEMENT, &[&accounts]).await?;
        let mark = |row: &Row| {
            let mark = EventMark {
                position: row.get("position"),
                request_id: row.get::<_, Option<Uuid>>("request_id").unwrap_or_default(),
            };
            (AccountId::from_i64(row.get("account_id")), mark)
        };
        Ok(rows.iter().map(mark).collect())
    }
}

fn event(account: AccountId, row: &Row) -> Result<StoredEvent, Error> {
    let present = || {
        let is_there = row.get::<_, Option<&str>>("region_id").is_some();
        let certificate = is_there.then(|| stored(row)).transpose()?;
        let is_live = certificate.as_ref().is_some_and(|stored| stored.deleted.is_none());
        Ok::<_, Error>(Present {
            name: row.get("later_name"),
            resource_group: row.get("later_group"),
            tags: row.get("later_tags"),
            region: row.get("later_region"),
            is_live: row.get::<_, Option<bool>>("was_live").unwrap_or(is_live),
            certificate,
        })
    };
    Ok(StoredEvent {
        mark: EventMark {
            position: row.get("position"),
            request_id: row.get("request_id"),
        },
        id: CertificateId {
            account,
            created: Timestamp::from_millis(row.get("event_ms")),
            random: row.get("event_random"),
        },
        kind: CertificateKind::from_name(row.get("certificate_kind")).ok_or(Error::Row("event"))?,
        change: row.get("change"),
        version: row.get("event_version"),
        occurred_us: row.get("occurred_us"),
        detail: row.get("detail"),
        present: row.get::<_, bool>("is_last").then(present).transpose()?,
    })
}
