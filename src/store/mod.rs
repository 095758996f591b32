//! Every SQL statement, transactions and their retries, migrations, and the conversion of rows to types. No layer above contains
//! SQL.
//!
//! Each change of a use case is one statement with data-modifying CTEs, which is a transaction of its own (READ COMMITTED). The
//! event that the statement inserts tells afterwards whether the statement took effect.
//!
//! All statements take their locks in one order: the account (administrative changes only), client tokens, certificates by id,
//! counters by account, kind and region, streams by account, the resource group. The foreign-key check of a certificate locks the
//! row of its resource group at the end of the statement. A statement that binds a certificate locks the certificate, then the holder,
//! then the lease.

mod access_key;
mod account;
mod audit;
mod audit_chain;
mod audit_event;
mod audit_purge;
mod audit_seal;
mod change;
mod client_identity;
mod client_token;
mod commits;
mod compromised;
mod connect;
mod deliver;
mod denial;
mod error;
mod event;
mod fingerprint;
mod group_commit;
mod health;
mod holder;
mod hosts;
mod insert;
mod key_pair;
mod key_ring;
mod key_use;
mod lease;
mod list;
mod lookup;
mod managed_key;
mod migrate;
mod mutation;
mod nonce;
mod pooled;
mod purge;
mod quota;
mod read;
mod reject;
mod renew;
mod resource_group;
mod reuse;
mod role;
mod rotation;
mod scope;
mod sealed;
mod search;
mod service_key;
mod standing;
mod statement;
mod stored_pairs;
mod tag;
mod timeline;
mod upload;
mod url;
mod version;
mod write;

use std::sync::{Arc, Mutex};
use std::time::Instant;

use deadpool_postgres::Status;
use tokio::sync::Semaphore;

pub use access_key::{AccessKey, NewAccount, Rates};
pub use account::{Account, AccountChange};
pub use audit_chain::{CHAIN_START, ChainMac, purge_mac, seal_mac};
pub use audit_event::{AuditSubject, StoredAuditEvent, Trail, TrailState};
pub use audit_seal::{MAX_EVENTS_PER_SEAL, Seal, SealedTrail, Sealing, Watermark};
pub use change::{CurrentState, Precondition, Undeletion};
pub use client_identity::{ClientIdentity, MatchedIdentity};
pub use client_token::{ClientToken, TOKEN_AGE, TokenOf, UsedToken};
pub use compromised::StoredLeaf;
pub use connect::{Settings, SettingsError};
pub use deliver::KeyDelivery;
pub use denial::Denial;
pub use error::{Cause, Constraint, Error};
pub use event::{EventChunk, EventMark, Present, StoredEvent};
pub use fingerprint::AccountFingerprints;
pub use health::Access;
pub use holder::{Binding, LeaseVersions, StreamHolderRow, StreamLease};
pub use key_pair::{SealedVersion, WantedVersion};
pub use key_ring::{Heartbeat, KeyEncryptionKey, KeyState, REPLICA_GONE_SECS, Replica, Told};
pub use key_use::UsedKey;
pub use lease::{Lease, LeaseFilter, LeasePage, RenewedLeases, TimedBinding, TimedHolder};
pub use list::{Filter, Page};
pub use managed_key::{KeyChange, KeyCreation, KeyFilter, KeyPosition, KeyRefusal, KeyUse, ManagedKey, NewKey};
pub use migrate::{MigrateError, schema_version};
pub use quota::{QuotaUse, UsedIn};
pub use read::{Liveness, Position, StoredCertificate};
pub use renew::{Renewal, RenewalReplay, RenewedRow, Rollback};
pub use resource_group::{GroupDeletion, GroupRenaming, ResourceGroup};
pub use reuse::Reuse;
pub use rotation::{Rotation, RotationStep};
pub use sealed::{SealedCursor, SealedPage, SealedRow};
pub use search::{Cursor, FoundPage, Order, SortKey};
pub use standing::{ExpiringCertificate, UsedQuota};
pub use stored_pairs::{PairCursor, PairRow, WalkedRow};
pub use tag::{Tagged, Tagging};
pub use upload::{FIRST, NewCertificate, NewContent, UploadOutcome};
pub use url::check_database_url;
pub use version::CertificateVersion;

use commits::Commits;
use deliver::Deliveries;
use group_commit::RoundTrip;
use pooled::Connections;
use read::Lookups;
use statement::{Params, Statement};
use timeline::Timelines;
use upload::Uploads;

use crate::inventory::CertificateId;

/// The database of certkeep.
#[derive(Clone)]
pub struct Store {
    pool: Connections,
    /// One connection for the readiness probe, so that callers that hold all other connections do not make the replica unready.
    probe: Connections,
    /// One connection as the role that owns the tables, if that is another role than the one that serves.
    owner: Option<Connections>,
    /// When the database last refused a change as a whole, for example because its disk was full.
    refused: Arc<Mutex<Option<Instant>>>,
    uploads: Uploads,
    lookups: Lookups,
    commits: Commits,
    deliveries: Deliveries,
    /// The turns of reads that wait for the synchronous standby. While it is away, they leave most connections to other calls.
    confirming: Arc<Semaphore>,
}

impl Store {
    /// The database of these settings. The first statement opens the first connection.
    pub fn new(settings: &Settings) -> Result<Self, SettingsError> {
        let round_trip = RoundTrip::default();
        let timelines = Timelines::new(settings.timeline_file.clone());
        let probe = Settings {
            max_connections: 1,
            ..settings.clone()
        };
        let owner = settings.owner_connection_string.as_ref().map(|connection_string| {
            let owner = Settings {
                connection_string: connection_string.clone(),
                ..probe.clone()
            };
            connect::connections(&owner, RoundTrip::default(), &timelines)
        });
        Ok(Self {
            pool: connect::connections(settings, round_trip.clone(), &timelines)?,
            probe: connect::connections(&probe, RoundTrip::default(), &timelines)?,
            owner: owner.transpose()?,
            refused: Arc::default(),
            uploads: upload::uploads(round_trip.clone()),
            commits: Commits::default(),
            lookups: read::lookups(round_trip.clone()),
            deliveries: deliver::deliveries(round_trip),
            confirming: Arc::new(Semaphore::new((settings.max_connections / 4).max(1))),
        })
    }

    /// The connections to Postgres: open, of these idle, open at most, and callers that wait for a connection.
    pub fn connections(&self) -> [usize; 4] {
        let Status {
            size,
            available,
            max_size,
            waiting,
        } = self.pool.status();
        [size, available, max_size, waiting]
    }

    /// The uploads, the look-ups and the deliveries that wait for their batch.
    pub fn queue_lengths(&self) -> [usize; 3] {
        [
            self.uploads.queue_length(),
            self.lookups.queue_length(),
            self.deliveries.queue_length(),
        ]
    }

    /// Closes all connections when their statements have ended.
    pub fn close(&self) {
        self.pool.close();
        self.probe.close();
        if let Some(owner) = &self.owner {
            owner.close();
        }
    }
}

fn id_columns(id: CertificateId) -> (i64, i64, i64) {
    (id.account.as_i64(), id.created.millis(), id.random)
}
