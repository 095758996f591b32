//! The key-encryption keys and their states, and the replicas with the keys of their rings.

use tokio_postgres::Row;
use uuid::Uuid;

use super::{Error, Params, Statement, Store};
use crate::clock::Timestamp;
use crate::seal::{CheckValue, KeyEncryptionKeyId};

/// A replica that has not been seen for this long counts as gone, in seconds.
pub const REPLICA_GONE_SECS: i64 = 30;

/// The state of a key-encryption key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyState {
    /// It is in the ring of a replica and has sealed nothing.
    Prepared,
    /// It seals everything new.
    Sealing,
    /// It has sealed, and may be needed to open.
    Opening,
    /// Nothing is sealed by it any more. A ring may lack it.
    Retired,
}

impl KeyState {
    fn from_name(name: &str) -> Result<Self, Error> {
        match name {
            "prepared" => Ok(Self::Prepared),
            "sealing" => Ok(Self::Sealing),
            "opening" => Ok(Self::Opening),
            "retired" => Ok(Self::Retired),
            _ => Err(Error::Row("key_encryption_key")),
        }
    }

    /// Whether every ring must have the key.
    pub fn is_required(self) -> bool {
        matches!(self, Self::Sealing | Self::Opening)
    }
}

/// A key-encryption key as the database knows it.
#[derive(Clone, Debug)]
pub struct KeyEncryptionKey {
    /// Its id.
    pub id: KeyEncryptionKeyId,
    /// The value by which a ring with another key under this id is recognized.
    pub check_value: CheckValue,
    /// Its state.
    pub state: KeyState,
    /// When a replica had it in its ring for the first time.
    pub first_seen: Timestamp,
    /// When it began to seal, the last time that it did.
    pub sealing_since: Option<Timestamp>,
    /// When it was retired.
    pub retired: Option<Timestamp>,
}

/// A process that serves.
#[derive(Clone, Debug)]
pub struct Replica {
    /// Its id, a new one for each start.
    pub id: Uuid,
    /// The name of its host.
    pub host: String,
    /// Its version of certkeep.
    pub version: String,
    /// When it started.
    pub started: Timestamp,
    /// When it was seen last.
    pub seen: Timestamp,
    /// The keys of its ring.
    pub key_ids: Vec<KeyEncryptionKeyId>,
    /// The keys that it seals with. Empty: it is starting.
    pub sealing_ids: Vec<KeyEncryptionKeyId>,
}

/// What a replica tells about itself.
#[derive(Clone, Debug)]
pub struct Heartbeat<'a> {
    /// The replica's id.
    pub replica: Uuid,
    /// The name of its host.
    pub host: &'a str,
    /// Its version of certkeep.
    pub version: &'a str,
    /// The keys of its ring.
    pub keys: &'a [(KeyEncryptionKeyId, CheckValue)],
    /// The keys that it seals with.
    pub sealing: &'a [KeyEncryptionKeyId],
}

/// What the database answers to a [`Heartbeat`].
#[derive(Clone, Debug)]
pub struct Told {
    /// The key that seals.
    pub sealing: KeyEncryptionKeyId,
    /// Whether the database did not know the replica.
    pub is_new: bool,
    /// The ids under which the replica's ring has another key than the database.
    pub wrong: Vec<KeyEncryptionKeyId>,
}

fn bytes(ids: &[KeyEncryptionKeyId]) -> Vec<&[u8]> {
    ids.iter().map(|id| id.as_bytes().as_slice()).collect()
}

impl Store {
    /// Makes this key the sealing key of a database in which no key has sealed yet. It must come before anything is sealed. Of two
    /// replicas with different rings, the first one wins.
    pub async fn make_first_sealing_key(&self, id: KeyEncryptionKeyId, check_value: CheckValue) -> Result<(), Error> {
        const STATEMENT: Statement = Statement {
            name: "store::make_first_sealing_key",
            sql: "-- store::make_first_sealing_key
                  insert into key_encryption_key (key_encryption_key_id, check_value, state, sealing_at)
                  select $1, $2, 'sealing', now()
                  where not exists (select from key_encryption_key where state <> 'prepared')
                  on conflict do nothing",
        };
        let params: [&[u8]; 2] = [id.as_bytes(), check_value.as_bytes()];
        // Repeating the statement has no further effect, so it may run as a read.
        self.read(STATEMENT, &[&params[0], &params[1]]).await?;
        Ok(())
    }

    /// Records that a replica is alive, with the keys of its ring. A key that the database does not know yet becomes prepared. A
    /// prepared key that is in no ring any more is forgotten, and so is a replica that was not seen for an hour, with its holders.
    /// A key that has another check value in the database does not count as in the replica's ring.
    pub async fn heartbeat(&self, heartbeat: &Heartbeat<'_>) -> Result<Told, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::heartbeat",
            sql: "-- store::heartbeat
                  with gone as (delete from replica where seen_at < now() - interval '1 hour'),
                  recorded as (
                    insert into key_encryption_key as known (key_encryption_key_id, check_value, state)
                    select id, check_value, 'prepared' from unnest($4::bytea[], $5::bytea[]) as ring(id, check_value)
                    order by id
                    -- Returns the new rows and the rows with another value, also one that another replica has just added.
                    on conflict (key_encryption_key_id) do update set check_value = known.check_value
                    where known.check_value <> excluded.check_value
                    returning key_encryption_key_id as id, check_value
                  ),
                  wrong as (
                    select id from recorded
                    join unnest($4::bytea[], $5::bytea[]) as ring(id, check_value) using (id)
                    where recorded.check_value <> ring.check_value
                  ),
                  alive as (
                    insert into replica (replica_id, host, version, key_encryption_key_ids, sealing_key_ids)
                    select $1, $2, $3, array(select id from unnest($4::bytea[]) as id where id not in (select id from wrong)), $6
                    on conflict (replica_id) do update
                    set seen_at = now(), key_encryption_key_ids = excluded.key_encryption_key_ids,
                      sealing_key_ids = excluded.sealing_key_ids
                    returning xmax = 0 as is_new
                  ),
                  forgotten as (
                    delete from key_encryption_key as key
                    where state = 'prepared' and key_encryption_key_id <> all($4)
                      and not exists (select from replica where key.key_encryption_key_id = any(key_encryption_key_ids))
                  )
                  select key_encryption_key_id, (select is_new from alive) as is_new, array(select id from wrong) as wrong
                  from key_encryption_key where state = 'sealing'",
        };
        let ids: Vec<_> = heartbeat.keys.iter().map(|(id, _)| *id).collect();
        let check_values: Vec<_> = heartbeat
            .keys
            .iter()
            .map(|(_, value)| value.as_bytes().as_slice())
            .collect();
        let params: Params<'_> = &[
            &heartbeat.replica,
            &heartbeat.host,
            &heartbeat.version,
            &bytes(&ids),
            &check_values,
            &bytes(heartbeat.sealing),
        ];
        // Repeating the statement has no further effect, so it may run as a read.
        let rows = self.read(STATEMENT, params).await?;
        let row = rows.first().ok_or(Error::Row("key_encryption_key"))?;
        Ok(Told {
            sealing: key_id(row.get("key_encryption_key_id"))?,
            is_new: row.get("is_new"),
            wrong: key_ids(row, "wrong")?,
        })
    }

    /// Removes a replica that stops.
    pub async fn remove_replica(&self, replica: Uuid) -> Result<(), Error> {
        const STATEMENT: Statement = Statement {
            name: "store::remove_replica",
            sql: "-- store::remove_replica\ndelete from replica where replica_id = $1",
        };
        // Repeating the statement has no further effect, so it may run as a read.
        self.read(STATEMENT, &[&replica]).await?;
        Ok(())
    }

    /// The replicas that are alive, oldest first.
    pub async fn replicas(&self) -> Result<Vec<Replica>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::replicas",
            sql:
                "-- store::replicas
                  select replica_id, host, version, (extract(epoch from started_at) * 1000)::bigint as started_ms,
                    (extract(epoch from seen_at) * 1000)::bigint as seen_ms, key_encryption_key_ids, sealing_key_ids
                  from replica where seen_at > now() - $1::bigint * interval '1 second' order by started_at, replica_id",
        };
        let rows = self.read(STATEMENT, &[&REPLICA_GONE_SECS]).await?;
        rows.iter()
            .map(|row| {
                Ok(Replica {
                    id: row.get("replica_id"),
                    host: row.get("host"),
                    version: row.get("version"),
                    started: Timestamp::from_millis(row.get("started_ms")),
                    seen: Timestamp::from_millis(row.get("seen_ms")),
                    key_ids: key_ids(row, "key_encryption_key_ids")?,
                    sealing_ids: key_ids(row, "sealing_key_ids")?,
                })
            })
            .collect()
    }

    /// The key-encryption keys that the database knows: the sealing key, then the others, the newest first.
    pub async fn key_encryption_keys(&self) -> Result<Vec<KeyEncryptionKey>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::key_encryption_keys",
            sql: "-- store::key_encryption_keys
                  select key_encryption_key_id, check_value, state,
                    (extract(epoch from first_seen_at) * 1000)::bigint as first_seen_ms,
                    (extract(epoch from sealing_at) * 1000)::bigint as sealing_ms,
                    (extract(epoch from retired_at) * 1000)::bigint as retired_ms
                  from key_encryption_key order by state <> 'sealing', first_seen_at desc, key_encryption_key_id",
        };
        let rows = self.read(STATEMENT, &[]).await?;
        rows.iter()
            .map(|row| {
                let moment = |column| row.get::<_, Option<i64>>(column).map(Timestamp::from_millis);
                Ok(KeyEncryptionKey {
                    id: key_id(row.get("key_encryption_key_id"))?,
                    check_value: CheckValue::from_bytes(fixed(row.get("check_value"))?),
                    state: KeyState::from_name(row.get("state"))?,
                    first_seen: Timestamp::from_millis(row.get("first_seen_ms")),
                    sealing_since: moment("sealing_ms"),
                    retired: moment("retired_ms"),
                })
            })
            .collect()
    }

    /// Replaces the check value of a prepared key that no other live replica has: its line in the ring was corrected. Returns
    /// whether the value was replaced.
    pub async fn correct_prepared_key(
        &self,
        id: KeyEncryptionKeyId,
        check_value: CheckValue,
        replica: Uuid,
    ) -> Result<bool, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::correct_prepared_key",
            sql: "-- store::correct_prepared_key
                  update key_encryption_key set check_value = $2
                  where key_encryption_key_id = $1 and state = 'prepared' and not exists (
                    select from replica
                    where replica_id <> $3 and $1 = any(key_encryption_key_ids)
                      and seen_at > now() - $4::bigint * interval '1 second'
                  )
                  returning 1",
        };
        let (id, check_value): (&[u8], &[u8]) = (id.as_bytes(), check_value.as_bytes());
        // Repeating the statement has no further effect, so it may run as a read.
        let rows = self
            .read(STATEMENT, &[&id, &check_value, &replica, &REPLICA_GONE_SECS])
            .await?;
        Ok(!rows.is_empty())
    }

    /// Whether nothing was ever sealed in this database.
    pub async fn has_sealed_nothing(&self) -> Result<bool, Error> {
        let keys = self.key_encryption_keys().await?;
        Ok(keys.iter().all(|key| key.state == KeyState::Prepared))
    }
}

/// The key-encryption key ids of an array column.
fn key_ids(row: &Row, column: &str) -> Result<Vec<KeyEncryptionKeyId>, Error> {
    let ids: Vec<&[u8]> = row.get(column);
    ids.into_iter().map(key_id).collect()
}

pub(super) fn key_id(bytes: &[u8]) -> Result<KeyEncryptionKeyId, Error> {
    fixed(bytes).map(KeyEncryptionKeyId::from_bytes)
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Error> {
    bytes.try_into().map_err(|_| Error::Row("key_encryption_key"))
}
