//! This process as one of the replicas: what it tells the database about its key ring, and what it learns.

use std::time::Instant;

use uuid::Uuid;

use super::{KeyRingMismatch, check};
use crate::app::{App, Error};
use crate::digest;
use crate::seal::{CheckValue, KeyEncryptionKeyId, KeyRing};
use crate::store::{self, Heartbeat, Store, Told};

/// This process as one of the replicas.
#[derive(Debug)]
pub(in crate::app) struct ThisReplica {
    id: Uuid,
    host: String,
}

impl ThisReplica {
    /// A new replica on this host.
    pub(in crate::app) fn new(host: &str) -> Result<Self, digest::Error> {
        Ok(Self {
            id: digest::random_uuid()?,
            host: host.to_owned(),
        })
    }

    pub(in crate::app) fn id(&self) -> Uuid {
        self.id
    }

    /// Tells the database that this replica is alive, which of its keys others may count on, and with which it seals.
    pub(in crate::app) async fn tell(
        &self,
        store: &Store,
        keys: &[(KeyEncryptionKeyId, CheckValue)],
        sealing: &[KeyEncryptionKeyId],
    ) -> Result<Told, store::Error> {
        let heartbeat = Heartbeat {
            replica: self.id,
            host: &self.host,
            version: env!("CARGO_PKG_VERSION"),
            keys,
            sealing,
        };
        store.heartbeat(&heartbeat).await
    }
}

/// The ids of the ring's keys, with their check values.
pub(in crate::app) fn keys_of(key_ring: &KeyRing) -> Vec<(KeyEncryptionKeyId, CheckValue)> {
    let key = |id| Some((id, key_ring.check_value(id)?));
    key_ring.ids().filter_map(key).collect()
}

/// Logs the keys of which the database knows another one: two hosts have added different lines with one id.
pub(super) fn report_wrong(told: &Told) {
    for id in &told.wrong {
        tracing::error!(
            key = %id,
            "the key ring has another key under this id than the key ring of another replica: no rotation to it can begin; restore \
             the line from a copy of the ring"
        );
    }
}

impl App {
    /// Tells the database that this replica is alive and with which keys it seals, and learns which key seals.
    pub async fn heartbeat(&self) -> Result<(), Error> {
        let app = &self.0;
        loop {
            let asked = Instant::now();
            let (told, ring) = (app.key_ring.sealing_ids(), app.key_ring.current());
            let answer = app.replica.tell(&app.store, &keys_of(&ring.keys), &told).await?;
            report_wrong(&answer);
            if answer.is_new {
                app.holders.write_again();
            }
            let sealing = answer.sealing;
            if answer.wrong.contains(&sealing) {
                return Err(KeyRingMismatch::KeyWrong(sealing).into());
            }
            if !app.key_ring.seal_with(sealing, asked) {
                return Err(KeyRingMismatch::KeyMissing(sealing).into());
            }
            // A rotation waits until each replica has told that it seals with the new key.
            if app.key_ring.current().sealing == ring.sealing {
                return Ok(());
            }
        }
    }

    /// Uses another key ring, because its file has changed. Refuses a ring that lacks a key that is not retired, or has another
    /// key under an id of the database. Then the ring in use stays.
    pub async fn replace_key_ring(&self, new: KeyRing) -> Result<(), KeyRingMismatch> {
        let app = &self.0;
        // From now on, no rotation may begin that needs a key that the new ring lacks.
        let mut kept = keys_of(&app.key_ring.current().keys);
        kept.retain(|(id, _)| new.has(*id));
        app.replica.tell(&app.store, &kept, &app.key_ring.sealing_ids()).await?;
        let checked = check(&app.store, &new, &app.replica).await;
        if checked.is_ok() {
            app.key_ring.replace_keys(new);
        }
        // Tells the keys of the ring that is in use now.
        let told = keys_of(&app.key_ring.current().keys);
        let answer = app.replica.tell(&app.store, &told, &app.key_ring.sealing_ids()).await?;
        report_wrong(&answer);
        checked.map(|_| ())
    }

    /// Tells the database that this replica stops.
    pub async fn leave(&self) {
        if let Err(error) = self.0.store.remove_replica(self.0.replica.id).await {
            tracing::info!(
                cause = crate::telemetry::causes(&error),
                "the other replicas wait for this one for 30 s"
            );
        }
    }
}
