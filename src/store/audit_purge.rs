//! Purging old audit events, as the role that owns the tables.

use super::audit_seal::mac;
use super::{Error, Statement, Store, Trail, purge_mac};
use crate::account::AccountId;
use crate::clock::Timestamp;
use crate::secret::Secret;

/// The last seal of a trail whose events are all old enough to be purged.
struct Due {
    account: AccountId,
    trail: Trail,
    position: i64,
    mac: Vec<u8>,
}

/// The trails of a table that have events from before $1, in milliseconds since 1970, each with its last seal up to which all events are older, at most
/// 1,000 positions further than the last purge. The newest event of a trail is never due.
macro_rules! due {
    ($name:literal, $trail:literal, $table:literal) => {
        Statement {
            name: $name,
            sql: concat!(
                "-- ",
                $name,
                "
                 select stream.account_id, seal.last_position, seal.mac from stream cross join lateral (
                   select last_position, mac from audit_seal
                   where account_id = stream.account_id and name = '",
                $trail,
                "' and last_position > stream.purged and last_position <= stream.purged + 1000
                     and last_position < stream.position
                     and exists (
                       select from ",
                $table,
                " as event
                       where event.account_id = stream.account_id and event.position = audit_seal.last_position
                         and occurred_at < to_timestamp($1::bigint / 1000.0)
                     )
                   order by last_position desc limit 1
                 ) as seal
                 where stream.name = '",
                $trail,
                "' and stream.position > stream.purged + 1 and exists (
                     select from ",
                $table,
                " as event
                     where event.account_id = stream.account_id and event.position = stream.purged + 1
                       and occurred_at < to_timestamp($1::bigint / 1000.0)
                   )
                 limit 100"
            ),
        }
    };
}

/// Removes the events of a table up to the position $2, and the seals before the seal at this position. The stream is locked last.
macro_rules! purge {
    ($name:literal, $trail:literal, $table:literal) => {
        Statement {
            name: $name,
            sql: concat!(
                "-- ",
                $name,
                "
                 with purged as (
                   delete from ",
                $table,
                " where account_id = $1 and position <= $2 returning 1
                 ),
                 seal_row as (
                   delete from audit_seal where account_id = $1 and name = '",
                $trail,
                "' and last_position < $2 returning 1
                 ),
                 counted as (select (select count(*) from purged) as events, (select count(*) from seal_row) as seals)
                 update stream set purged = $2, purge_mac = $3 from counted
                 where account_id = $1 and name = '",
                $trail,
                "' and purged < $2 and counted.seals >= 0
                 returning counted.events"
            ),
        }
    };
}

impl Store {
    /// Purges events of all accounts from before this time, at most 1,000 of each trail and of 100 trails. Answers how many.
    /// The newest event of each trail stays. Without a role that owns the tables, it purges nothing.
    pub async fn purge_audit_of_all_accounts(&self, key: &Secret, occurred_before: Timestamp) -> Result<u64, Error> {
        const DUE: [Statement; 2] = [
            due!("store::due_certificate_events_of_all_accounts", "certificates", "event"),
            due!("store::due_access_events_of_all_accounts", "access", "audit_event"),
        ];
        const PURGE: [Statement; 2] = [
            purge!(
                "store::purge_certificate_events_of_all_accounts",
                "certificates",
                "event"
            ),
            purge!("store::purge_access_events_of_all_accounts", "access", "audit_event"),
        ];
        let Some(owner) = &self.owner else { return Ok(0) };
        let owner = Self {
            pool: owner.clone(),
            ..self.clone()
        };
        let mut due = Vec::new();
        for trail in Trail::ALL {
            for row in owner.read(DUE[trail as usize], &[&occurred_before.millis()]).await? {
                due.push(Due {
                    account: AccountId::from_i64(row.get("account_id")),
                    trail,
                    position: row.get("last_position"),
                    mac: row.get("mac"),
                });
            }
        }
        let mut purged = 0;
        for Due {
            account,
            trail,
            position,
            mac: seal,
        } in due
        {
            let mark = purge_mac(key, account, trail, position, &mac(&seal)?);
            let params: super::Params<'_> = &[&account.as_i64(), &position, &mark.as_slice()];
            // Two replicas may purge the same events. The second one finds none.
            let rows = owner.read(PURGE[trail as usize], params).await?;
            purged += rows.first().map_or(0, |row| row.get::<_, i64>(0) as u64);
        }
        Ok(purged)
    }
}
