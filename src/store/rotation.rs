//! The rotation to a new key-encryption key, and the retirement of an old one.

use super::audit::audited;
use super::key_ring::key_id;
use super::sealed::{SealedCursor, SealedRow, access_key_columns, private_key_columns};
use super::write::Outcome;
use super::{Error, Params, REPLICA_GONE_SECS, Statement, Store};
use crate::account::{AccountId, Actor};
use crate::clock::Timestamp;
use crate::seal::{KeyEncryptionKeyId, Sealed};

/// A rotation that is in progress or has ended.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// The key that seals now.
    pub key: KeyEncryptionKeyId,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// The last row that it has passed.
    pub cursor: SealedCursor,
    /// The number of rows that it has passed.
    pub passed: i64,
    /// The approximate number of rows when it began.
    pub total: i64,
    /// The number of rows that did not open. They were left as they are.
    pub failed: i64,
    /// The first of these rows.
    pub failures: Vec<String>,
    /// Seconds since its last step; 0 after its end.
    pub idle_secs: i64,
}

/// A step of a rotation: some rows of one table.
#[derive(Debug)]
pub struct RotationStep<'a> {
    /// The key of the rotation.
    pub key: KeyEncryptionKeyId,
    /// Where the step began.
    pub from: &'a SealedCursor,
    /// Where the next step begins. `None`: this was the last step.
    pub next: Option<&'a SealedCursor>,
    /// The number of rows that the step has passed.
    pub passed: usize,
    /// The rows to change, with their new values. All of them are of the table of `from`.
    pub rewrapped: &'a [(SealedRow, Sealed)],
    /// The rows that did not open.
    pub failures: &'a [String],
}

/// The part of a step that moves the rotation on, once. Its parameters are $1 to $5.
macro_rules! turn {
    () => {
        "with turn as materialized (
           update key_rotation
           set passed_row = coalesce($3, passed_row), passed = passed + $4, failed = failed + cardinality($5::text[]),
             failures = (failures || $5::text[])[1:100], moved_at = now(), ended_at = case when $3 is null then now() end
           where key_encryption_key_id = $1 and passed_row = $2 and ended_at is null
             and exists (select from key_encryption_key where key_encryption_key_id = $1 and state = 'sealing')
           returning 1
         )"
    };
}

/// Inserts the row of a rotation that begins. $6 is the key, $7 the start of the walk. `from` gives at most one row.
macro_rules! insert_rotation {
    ($from:literal, $condition:literal, $returning:literal) => {
        concat!(
            "insert into key_rotation as rotation (key_encryption_key_id, passed_row, total)
             select $6, $7, (select coalesce(sum(live + deleted), 0)::bigint from certificate_count where kind = 'server')
               + (select count(*) from service_key) + (select count(*) from access_key where sealed is not null) from ",
            $from,
            " on conflict (key_encryption_key_id) do update
             set started_at = now(), moved_at = now(), ended_at = null, passed_row = excluded.passed_row, passed = 0,
               total = excluded.total, failed = 0, failures = '{}' ",
            $condition,
            " returning ",
            $returning
        )
    };
}

impl Store {
    /// Lets this key seal, and begins to rotate to it. Returns whether this has happened: nothing happens if the key seals already
    /// or is retired, if a rotation is in progress, or if a live replica lacks the key.
    pub async fn begin_rotation(&self, actor: &Actor, key: KeyEncryptionKeyId) -> Result<bool, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::begin_rotation",
            // Of two rotations that begin at the same time, the second finds that the old key does not seal any more.
            sql: concat!(
                "-- store::begin_rotation
                 with old as materialized (
                   update key_encryption_key set state = 'opening'
                   where state = 'sealing' and key_encryption_key_id <> $6
                     and exists (
                       select from key_encryption_key where key_encryption_key_id = $6 and state in ('prepared', 'opening')
                     )
                     and not exists (select from key_rotation where ended_at is null)
                     and not exists (
                       select from replica
                       where seen_at > now() - $8::bigint * interval '1 second' and $6 <> all(key_encryption_key_ids)
                     )
                   returning key_encryption_key_id as old_id
                 ),
                 new as materialized (
                   update key_encryption_key set state = 'sealing', sealing_at = now(), closed_at = null
                   where key_encryption_key_id = $6 and (select count(*) from old) = 1
                   returning 1
                 ),
                 changed as (",
                insert_rotation!("new", "", "(select old_id from old)"),
                ")",
                audited!(
                    "RotateKeyRing",
                    "key_encryption_key",
                    "encode($6, 'hex')",
                    "jsonb_build_object('sealing', jsonb_build_array(encode(old_id, 'hex'), encode($6, 'hex')))"
                ),
                "select 1 from changed"
            ),
        };
        let start = SealedCursor::START.to_string();
        let values: Params<'_> = &[&key.as_bytes().as_slice(), &start, &REPLICA_GONE_SECS];
        self.administer_key_ring(STATEMENT, actor, values).await
    }

    /// Begins to rotate again to the key that seals. Returns whether this has happened: nothing happens if the key does not seal or
    /// a rotation is in progress.
    pub async fn repeat_rotation(&self, actor: &Actor, key: KeyEncryptionKeyId) -> Result<bool, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::repeat_rotation",
            sql: concat!(
                "-- store::repeat_rotation
                 with changed as (",
                insert_rotation!(
                    "key_encryption_key
                     where key_encryption_key_id = $6 and state = 'sealing'
                       and not exists (select from key_rotation where ended_at is null)",
                    "where rotation.ended_at is not null",
                    "1"
                ),
                ")",
                audited!(
                    "RotateKeyRing",
                    "key_encryption_key",
                    "encode($6, 'hex')",
                    "null::jsonb"
                ),
                "select 1 from changed"
            ),
        };
        let start = SealedCursor::START.to_string();
        let values: Params<'_> = &[&key.as_bytes().as_slice(), &start];
        self.administer_key_ring(STATEMENT, actor, values).await
    }

    /// Runs a statement that makes an audited change of the key ring. Returns whether it made the change.
    async fn administer_key_ring(
        &self,
        statement: Statement,
        actor: &Actor,
        values: Params<'_>,
    ) -> Result<bool, Error> {
        match self.administer(statement, AccountId::OPERATORS, actor, values).await? {
            Outcome::Rows(rows) => Ok(!rows.is_empty()),
            Outcome::Earlier(_) => Ok(true),
        }
    }

    /// The rotation that is in progress, or else the last one.
    pub async fn rotation(&self) -> Result<Option<Rotation>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::rotation",
            sql: "-- store::rotation
                  select key_encryption_key_id, (extract(epoch from started_at) * 1000)::bigint as started_ms,
                    (extract(epoch from ended_at) * 1000)::bigint as ended_ms, passed_row, passed, total, failed, failures,
                    case when ended_at is null then extract(epoch from clock_timestamp() - moved_at)::bigint else 0 end as idle_secs
                  from key_rotation order by ended_at desc nulls first limit 1",
        };
        let rows = self.read(STATEMENT, &[]).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        Ok(Some(Rotation {
            key: key_id(row.get("key_encryption_key_id"))?,
            started: Timestamp::from_millis(row.get("started_ms")),
            ended: row.get::<_, Option<i64>>("ended_ms").map(Timestamp::from_millis),
            cursor: SealedCursor::parse(row.get("passed_row")).ok_or(Error::Row("key_rotation"))?,
            passed: row.get("passed"),
            total: row.get("total"),
            failed: row.get("failed"),
            failures: row.get("failures"),
            idle_secs: row.get("idle_secs"),
        }))
    }

    /// Stores the new values of a step, and moves the rotation on, in one transaction. A row that has changed since it was read
    /// stays. Returns whether this has happened: nothing happens if the rotation is not where the step began.
    pub async fn rewrap_of_all_accounts(&self, step: &RotationStep<'_>) -> Result<bool, Error> {
        const SERVICE_KEYS: Statement = Statement {
            name: "store::rewrap_service_keys_of_all_accounts",
            sql: concat!(
                "-- store::rewrap_service_keys_of_all_accounts\n",
                turn!(),
                ", moved as (
                   update service_key as kept set sealed = new.sealed
                   from turn cross join unnest($6::text[], $7::bytea[], $8::bytea[]) as new(purpose, old, sealed)
                   where kept.purpose = new.purpose and kept.sealed = new.old
                 )
                 select from turn"
            ),
        };
        const ACCESS_KEYS: Statement = Statement {
            name: "store::rewrap_access_keys_of_all_accounts",
            sql: concat!(
                "-- store::rewrap_access_keys_of_all_accounts\n",
                turn!(),
                ", moved as (
                   update access_key as kept set sealed = new.sealed
                   from turn cross join unnest($6::bigint[], $7::text[], $8::bytea[], $9::bytea[])
                     as new(account_id, access_key_id, old, sealed)
                   where kept.account_id = new.account_id and kept.access_key_id = new.access_key_id and kept.sealed = new.old
                 )
                 select from turn"
            ),
        };
        const PRIVATE_KEYS: Statement = Statement {
            name: "store::rewrap_private_keys_of_all_accounts",
            sql: concat!(
                "-- store::rewrap_private_keys_of_all_accounts\n",
                turn!(),
                ", moved as (
                   update private_key as kept set sealed = new.sealed
                   from turn cross join unnest($6::bigint[], $7::bigint[], $8::bigint[], $9::uuid[], $10::bytea[], $11::bytea[])
                     as new(account_id, created_ms, random, key_id, old, sealed)
                   where kept.account_id = new.account_id and kept.created_ms = new.created_ms
                     and kept.random = new.random and kept.key_id = new.key_id and kept.sealed = new.old
                 )
                 select from turn"
            ),
        };
        let (key, from) = (step.key.as_bytes().as_slice(), step.from.to_string());
        let next = step.next.map(ToString::to_string);
        let passed = step.passed as i64;
        let old: Vec<_> = step.rewrapped.iter().map(|(row, _)| row.sealed.as_slice()).collect();
        let sealed: Vec<_> = step.rewrapped.iter().map(|(_, sealed)| sealed.as_bytes()).collect();
        let cursors = || step.rewrapped.iter().map(|(row, _)| row.cursor());
        // A repetition after a lost connection finds that the rotation has moved on. So the statements may run as reads.
        let rows = match step.from {
            SealedCursor::ServiceKey(_) => {
                let purposes: Vec<_> = cursors()
                    .filter_map(|cursor| match cursor {
                        SealedCursor::ServiceKey(purpose) => purpose,
                        SealedCursor::AccessKey(_) | SealedCursor::PrivateKey(_) => None,
                    })
                    .collect();
                let params: Params<'_> = &[&key, &from, &next, &passed, &step.failures, &purposes, &old, &sealed];
                self.read(SERVICE_KEYS, params).await?
            }
            SealedCursor::AccessKey(_) => {
                let (mut accounts, mut ids) = (vec![], vec![]);
                for cursor in cursors() {
                    if let SealedCursor::AccessKey(key) = cursor {
                        let (account, id) = access_key_columns(key.as_ref());
                        accounts.push(account);
                        ids.push(id.to_owned());
                    }
                }
                let params: Params<'_> = &[
                    &key,
                    &from,
                    &next,
                    &passed,
                    &step.failures,
                    &accounts,
                    &ids,
                    &old,
                    &sealed,
                ];
                self.read(ACCESS_KEYS, params).await?
            }
            SealedCursor::PrivateKey(_) => {
                let (mut accounts, mut created, mut randoms, mut key_ids) = (vec![], vec![], vec![], vec![]);
                for cursor in cursors() {
                    if let SealedCursor::PrivateKey(row) = cursor {
                        let ((account, created_ms, random), key_id) = private_key_columns(row);
                        accounts.push(account);
                        created.push(created_ms);
                        randoms.push(random);
                        key_ids.push(key_id);
                    }
                }
                let params: Params<'_> = &[
                    &key,
                    &from,
                    &next,
                    &passed,
                    &step.failures,
                    &accounts,
                    &created,
                    &randoms,
                    &key_ids,
                    &old,
                    &sealed,
                ];
                self.read(PRIVATE_KEYS, params).await?
            }
        };
        Ok(!rows.is_empty())
    }

    /// From now on, refuses new values that this key has sealed. Returns whether this has happened: nothing happens if the key
    /// seals, if a live replica seals with it, or if it is retired.
    pub async fn close_key(&self, key: KeyEncryptionKeyId) -> Result<bool, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::close_key",
            sql: "-- store::close_key
                  update key_encryption_key set closed_at = now()
                  where key_encryption_key_id = $1 and state in ('prepared', 'opening') and not exists (
                    select from replica
                    where seen_at > now() - $2::bigint * interval '1 second' and $1 = any(sealing_key_ids)
                  )
                  returning 1",
        };
        let rows = self
            .read(STATEMENT, &[&key.as_bytes().as_slice(), &REPLICA_GONE_SECS])
            .await?;
        Ok(!rows.is_empty())
    }

    /// Ends [`close_key`](Self::close_key) of a key that is still needed.
    pub async fn reopen_key(&self, key: KeyEncryptionKeyId) -> Result<(), Error> {
        const STATEMENT: Statement = Statement {
            name: "store::reopen_key",
            sql: "-- store::reopen_key
                  update key_encryption_key set closed_at = null where key_encryption_key_id = $1 and state <> 'retired'",
        };
        self.read(STATEMENT, &[&key.as_bytes().as_slice()]).await?;
        Ok(())
    }

    /// Retires a key that is closed. Returns whether this has happened.
    pub async fn retire_key(&self, actor: &Actor, key: KeyEncryptionKeyId) -> Result<bool, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::retire_key",
            sql: concat!(
                "-- store::retire_key
                 with target as (
                   select state as old_state from key_encryption_key
                   where key_encryption_key_id = $6 and state in ('prepared', 'opening') and closed_at is not null for update
                 ),
                 changed as (
                   update key_encryption_key set state = 'retired', retired_at = now() from target
                   where key_encryption_key_id = $6
                   returning old_state
                 )",
                audited!(
                    "RetireKeyEncryptionKey",
                    "key_encryption_key",
                    "encode($6, 'hex')",
                    "jsonb_build_object('state', jsonb_build_array(old_state, 'retired'))"
                ),
                "select 1 from changed"
            ),
        };
        let values: Params<'_> = &[&key.as_bytes().as_slice()];
        self.administer_key_ring(STATEMENT, actor, values).await
    }

    /// The end of the transactions that are running now, for [`have_ended`](Self::have_ended).
    pub async fn running_transactions(&self) -> Result<String, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::running_transactions",
            sql: "-- store::running_transactions\nselect pg_snapshot_xmax(pg_current_snapshot())::text",
        };
        let rows = self.read(STATEMENT, &[]).await?;
        rows.first().map(|row| row.get(0)).ok_or(Error::Row("pg_snapshot"))
    }

    /// Whether all transactions have ended that were running at this moment.
    pub async fn have_ended(&self, transactions: &str) -> Result<bool, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::have_ended",
            sql: "-- store::have_ended\nselect pg_snapshot_xmin(pg_current_snapshot()) >= $1::text::xid8",
        };
        let rows = self.read(STATEMENT, &[&transactions]).await?;
        rows.first().map(|row| row.get(0)).ok_or(Error::Row("pg_snapshot"))
    }
}
