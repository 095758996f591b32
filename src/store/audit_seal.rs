//! Sealing the audit trails of all accounts, and the seals of a trail.

use std::collections::HashMap;

use deadpool_postgres::Transaction;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::audit_event::{access_event, certificate_event};
use super::error::{Cause, Failure};
use super::{CHAIN_START, ChainMac, Error, Statement, Store, StoredAuditEvent, Trail, connect, seal_mac};
use crate::account::AccountId;
use crate::secret::Secret;

/// A seal of a trail.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Seal {
    /// The position of the first event that it covers.
    pub first_position: i64,
    /// The position of the last event that it covers.
    pub last_position: i64,
    /// The MAC.
    pub mac: ChainMac,
}

/// The last seal of a trail.
#[derive(Clone, Copy, Debug)]
pub struct SealedTrail {
    /// The account.
    pub account: AccountId,
    /// The trail.
    pub trail: Trail,
    /// The position of the last event that is sealed.
    pub position: i64,
    /// The MAC of the seal.
    pub mac: ChainMac,
}

/// How far a replica has looked for events without a seal: all transactions before this one have ended. A stream that is older has no
/// news.
#[derive(Clone, Debug, Default)]
pub struct Watermark(Option<String>);

/// The trails that an attempt sealed.
#[derive(Debug, Default)]
pub struct Sealing {
    /// The trails that have a new seal.
    pub sealed: Vec<SealedTrail>,
    /// Whether there may be more events without a seal.
    pub has_more: bool,
}

/// The events of a seal at most.
pub const MAX_EVENTS_PER_SEAL: i64 = 1000;
/// The trails that a transaction seals at most.
const MAX_TRAILS: i64 = 64;

/// Trails that have events without a seal. Streams that have not changed since the watermark are skipped: the statement reads each row of
/// `stream`, but looks for the seal of changed rows only.
const UNSEALED: Statement = Statement {
    name: "store::unsealed_of_all_accounts",
    sql: "-- store::unsealed_of_all_accounts
          select now.watermark, unsealed.account_id, unsealed.name, unsealed.last_position, unsealed.mac
          from (select pg_snapshot_xmin(pg_current_snapshot())::xid::text as watermark) as now left join lateral (
            select stream.account_id, stream.name, coalesce(seal.last_position, 0) as last_position, seal.mac
            from stream left join lateral (
              select last_position, mac from audit_seal
              where account_id = stream.account_id and name = stream.name order by last_position desc limit 1
            ) as seal on true
            where ($1::text is null or age(stream.xmin) <= age($1::text::xid)) and stream.position > coalesce(seal.last_position, 0)
            limit $2
          ) as unsealed on true",
};

impl Store {
    /// Adds a seal to each trail that has events without one, up to 64 trails and 1,000 events of each. Does nothing while another
    /// replica seals. A watermark makes later calls cheap: they only look at trails that changed since.
    pub async fn seal_of_all_accounts(&self, key: &Secret, watermark: &mut Watermark) -> Result<Sealing, Error> {
        // Most calls find nothing. They take no lock.
        let found = self.read(UNSEALED, &[&watermark.0, &MAX_TRAILS]).await?;
        if trails(&found)?.is_empty() {
            *watermark = next(&found);
            return Ok(Sealing::default());
        }
        let sealing = tokio::time::timeout(connect::CALL_TIMEOUT, self.seal(key, watermark));
        let sealed = sealing.await.unwrap_or_else(|_| Err(Failure::Lost(Cause::timeout())));
        sealed.map_err(|failure| UNSEALED.error(failure))
    }

    async fn seal(&self, key: &Secret, watermark: &mut Watermark) -> Result<Sealing, Failure> {
        // "ckseal" in ASCII. The next statement sees the seals of the replica that held the lock before.
        const LOCK: &str = "-- store::seal_of_all_accounts\nselect pg_try_advisory_xact_lock(109313148674412)";
        const CERTIFICATES: &str = concat!(
            "-- store::seal_of_all_accounts\nselect event.* from unnest($1::bigint[], $2::bigint[]) as trail (trail_account, sealed)
             cross join lateral (",
            certificate_event!(),
            "from event where account_id = trail_account and position > sealed order by position limit $3) as event"
        );
        const ACCESS: &str = concat!(
            "-- store::seal_of_all_accounts\nselect event.* from unnest($1::bigint[], $2::bigint[]) as trail (trail_account, sealed)
             cross join lateral (",
            access_event!(),
            "from audit_event where account_id = trail_account and position > sealed order by position limit $3) as event"
        );
        const INSERT: &str = "-- store::seal_of_all_accounts
            insert into audit_seal (account_id, name, first_position, last_position, mac)
            select * from unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::bytea[])";

        let mut connection = self.pool.get().await?;
        let transaction = connection.connection_mut().transaction().await?;
        if !query(&transaction, LOCK, &[]).await?.iter().any(|row| row.get(0)) {
            // The other replica finds the same trails.
            return Ok(Sealing::default());
        }
        let found = query(&transaction, UNSEALED.sql, &[&watermark.0, &MAX_TRAILS]).await?;
        let heads = trails(&found).map_err(fault)?;
        let mut sealing = Sealing {
            sealed: Vec::new(),
            has_more: heads.len() as i64 == MAX_TRAILS,
        };
        let mut firsts = Vec::new();
        for (trail, events) in [(Trail::Certificates, CERTIFICATES), (Trail::Access, ACCESS)] {
            let of_trail = heads.iter().filter(|head| head.trail == trail);
            let (accounts, positions): (Vec<i64>, Vec<i64>) = of_trail
                .clone()
                .map(|head| (head.account.as_i64(), head.position))
                .unzip();
            let mut by_account: HashMap<_, Vec<StoredAuditEvent>> = HashMap::new();
            for row in query(&transaction, events, &[&accounts, &positions, &MAX_EVENTS_PER_SEAL]).await? {
                let event = StoredAuditEvent::read(trail, &row).map_err(fault)?;
                by_account.entry(event.account).or_default().push(event);
            }
            for head in of_trail {
                // Without events, a row is missing. The verification of the trail finds this.
                let Some(events) = by_account.get_mut(&head.account) else {
                    continue;
                };
                events.sort_by_key(|event| event.position);
                let Some(last) = events.last() else { continue };
                sealing.has_more |= events.len() as i64 == MAX_EVENTS_PER_SEAL;
                firsts.push(head.position + 1);
                sealing.sealed.push(SealedTrail {
                    position: last.position,
                    mac: seal_mac(key, head.account, trail, &head.mac, events.iter()),
                    ..*head
                });
            }
        }
        let sealed = &sealing.sealed;
        let accounts: Vec<_> = sealed.iter().map(|trail| trail.account.as_i64()).collect();
        let names: Vec<_> = sealed.iter().map(|trail| trail.trail.as_str()).collect();
        let lasts: Vec<_> = sealed.iter().map(|trail| trail.position).collect();
        let macs: Vec<_> = sealed.iter().map(|trail| trail.mac.as_slice()).collect();
        query(&transaction, INSERT, &[&accounts, &names, &firsts, &lasts, &macs]).await?;
        transaction.commit().await?;
        connection.give_back();
        // Without progress, the next attempt waits for the next run.
        sealing.has_more &= !sealing.sealed.is_empty();
        if !sealing.has_more {
            *watermark = next(&found);
        }
        Ok(sealing)
    }

    /// At most `size` seals of a trail that end at this position or later, in their order.
    pub async fn audit_seals(
        &self,
        account: AccountId,
        trail: Trail,
        position: i64,
        size: usize,
    ) -> Result<Vec<Seal>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::audit_seals",
            sql: "-- store::audit_seals
                  select first_position, last_position, mac from audit_seal
                  where account_id = $1 and name = $2 and last_position >= $3 order by last_position limit $4",
        };
        let rows = self
            .read(
                STATEMENT,
                &[&account.as_i64(), &trail.as_str(), &position, &(size as i64)],
            )
            .await?;
        let seal = |row: &Row| {
            Ok(Seal {
                first_position: row.get("first_position"),
                last_position: row.get("last_position"),
                mac: mac(row.get("mac"))?,
            })
        };
        rows.iter().map(seal).collect()
    }
}

async fn query(
    transaction: &Transaction<'_>,
    sql: &'static str,
    params: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>, tokio_postgres::Error> {
    let prepared = transaction.prepare_cached(sql).await?;
    transaction.query(&prepared, params).await
}

/// A row that the database should not have. Nothing was changed.
fn fault(error: Error) -> Failure {
    Failure::Fault(Cause::new(error.to_string()))
}

/// The trails that have events without a seal, with their last seals.
fn trails(rows: &[Row]) -> Result<Vec<SealedTrail>, Error> {
    let trail = |row: &Row| {
        let Some(account) = row.get::<_, Option<i64>>("account_id") else {
            return Ok(None);
        };
        Ok(Some(SealedTrail {
            account: AccountId::from_i64(account),
            trail: Trail::from_name(row.get("name"))?,
            position: row.get("last_position"),
            mac: row.get::<_, Option<&[u8]>>("mac").map_or(Ok(CHAIN_START), mac)?,
        }))
    };
    rows.iter().filter_map(|row| trail(row).transpose()).collect()
}

fn next(rows: &[Row]) -> Watermark {
    Watermark(rows.first().map(|row| row.get("watermark")))
}

pub(super) fn mac(bytes: &[u8]) -> Result<ChainMac, Error> {
    bytes.try_into().map_err(|_| Error::Row("audit_seal"))
}
