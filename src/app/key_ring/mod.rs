//! The key ring of this process and the key that seals. The database says which key seals.
//!
//! Each replica tells the database which keys its ring has and with which of them it seals ([`replica`]). A rotation to a new key
//! starts when all live replicas have the key, and re-wraps the data keys when all of them seal with it.

mod current;
mod describe;
mod mismatch;
mod replica;
mod retire;
mod rotate;
mod verify;

pub use describe::DescribedKeyRing;
pub use mismatch::KeyRingMismatch;
pub use rotate::RotationProgress;
pub use verify::{Fault, RowFault, Verification, VerifiedCounts, VerifiedRows, VerifyKeyRing};

pub(super) use current::{CurrentRing, SealingRing};
pub(super) use replica::ThisReplica;

use std::sync::Arc;
use std::time::Instant;

use super::{App, Error, Field, FieldError};
use crate::seal::{KeyEncryptionKeyId, KeyRing, Row, SERVICE_KEYS};
use crate::secret::Secret;
use crate::store::{KeyEncryptionKey, KeyState, Store};

/// The key ring of a process that has started, and the service's own keys.
pub(super) struct Started {
    pub(super) key_ring: CurrentRing,
    pub(super) page_token_key: Secret,
    pub(super) client_token_key: Secret,
    pub(super) audit_key: Secret,
}

/// Registers this replica with the keys of its ring, checks the ring, and opens the service's own keys. The first key of the ring
/// seals in a database in which nothing was sealed yet.
pub(super) async fn start(store: &Store, keys: KeyRing, replica: &ThisReplica) -> Result<Started, KeyRingMismatch> {
    let first = keys.first_id();
    let check_value = keys.check_value(first).ok_or(KeyRingMismatch::KeyMissing(first))?;
    store.make_first_sealing_key(first, check_value).await?;
    // The registration comes before the check: from now on, no rotation begins that needs a key that the ring lacks.
    let told = replica::keys_of(&keys);
    let asked = Instant::now();
    replica.tell(store, &told, &[]).await?;
    let sealing = check(store, &keys, replica).await?;
    let ring = SealingRing {
        keys: Arc::new(keys),
        sealing,
    };
    let [page_token, client_token, audit] = SERVICE_KEYS;
    let page_token_key = service_key(store, &ring, page_token).await?;
    let client_token_key = service_key(store, &ring, client_token).await?;
    let audit_key = service_key(store, &ring, audit).await?;
    replica::report_wrong(&replica.tell(store, &told, &[sealing]).await?);
    Ok(Started {
        key_ring: CurrentRing::new(ring, asked),
        page_token_key,
        client_token_key,
        audit_key,
    })
}

/// Refuses a ring that lacks a key of the database that is not retired, or has another key under an id of the database. Returns the
/// id of the key that seals.
async fn check(
    store: &Store,
    key_ring: &KeyRing,
    replica: &ThisReplica,
) -> Result<KeyEncryptionKeyId, KeyRingMismatch> {
    let mut sealing = None;
    for key in store.key_encryption_keys().await? {
        match key_ring.check_value(key.id) {
            None if key.state.is_required() => return Err(KeyRingMismatch::KeyMissing(key.id)),
            Some(check_value) if check_value != key.check_value => correct(store, key_ring, &key, replica).await?,
            None | Some(_) => {}
        }
        if key.state == KeyState::Sealing {
            sealing = Some(key.id);
        }
    }
    sealing.ok_or(KeyRingMismatch::NoSealingKey)
}

/// Takes the key of this ring for a key that has sealed nothing, if no other replica has the other one. A typing error in a new line
/// can be corrected.
async fn correct(
    store: &Store,
    key_ring: &KeyRing,
    recorded: &KeyEncryptionKey,
    replica: &ThisReplica,
) -> Result<(), KeyRingMismatch> {
    let id = recorded.id;
    let check_value = key_ring.check_value(id).ok_or(KeyRingMismatch::KeyMissing(id))?;
    match store.correct_prepared_key(id, check_value, replica.id()).await? {
        true => {
            tracing::warn!(
                key = %id,
                "the key ring has another key under this id than before: the database now knows the new one, because it has sealed \
                 nothing and no other replica has it"
            );
            Ok(())
        }
        false => Err(KeyRingMismatch::KeyWrong(id)),
    }
}

/// The service's random key for this purpose. The first call creates it.
async fn service_key(store: &Store, ring: &SealingRing, purpose: &str) -> Result<Secret, KeyRingMismatch> {
    let fresh = ring.keys.new_service_key(ring.sealing, purpose)?;
    let kept = store.service_key(purpose, &fresh).await?;
    Ok(ring.keys.open(&kept, &Row::ServiceKey { purpose })?)
}

impl App {
    /// Checks that what was sealed with this ring may be stored. Keep the ring until it is stored.
    ///
    /// The database must have confirmed the sealing key recently: a rotation waits for live replicas only, and a replica that was
    /// cut off from the database may have missed one.
    pub(super) async fn confirm_sealing_key(&self, ring: &SealingRing) -> Result<(), Error> {
        let key_ring = &self.0.key_ring;
        if key_ring.is_confirmed() {
            return Ok(());
        }
        self.heartbeat().await?;
        match key_ring.current().sealing == ring.sealing {
            true => Ok(()),
            false => Err(crate::store::Error::busy().into()),
        }
    }
}

/// The key-encryption key of a request.
fn key_of_request(text: &str) -> Result<KeyEncryptionKeyId, Error> {
    let field = Field::KeyEncryptionKeyId;
    match text {
        "" => Err(Error::field(field, FieldError::Required)),
        text => KeyEncryptionKeyId::parse(text).ok_or_else(|| Error::field(field, FieldError::KeyEncryptionKeyId)),
    }
}
