//! The use cases, one file each: the only place that knows the order of their steps. The doors call them and render their
//! answers; the rooms below do not know of each other.

mod access_key;
mod authenticate;
mod bootstrap;
mod check;
mod client_token;
mod cores;
mod delete;
mod describe;
mod error;
mod expiry;
mod fingerprints;
mod get;
mod maintenance;
mod page_token;
mod regions;
mod rename;
mod resource_group;
mod reuse;
mod sealing;
mod search;
mod storing;
mod tag;
mod target;
mod upload;
mod violation;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;
use uuid::Uuid;

pub use access_key::AccessKeyText;
pub use authenticate::Caller;
pub use bootstrap::{BootstrapError, FirstAccount};
pub use check::{CheckServerCertificate, Checked, check};
pub use describe::{DescribeCertificates, Described};
pub use error::{Error, Resource};
pub use expiry::{DAYS_LEFT, TimeLeft};
pub use fingerprints::{ListAccountFingerprints, ListedFingerprints};
pub use page_token::{List, PageTokens};
pub use regions::{DescribeRegions, DescribedRegion};
pub use resource_group::{ListedResourceGroups, MoveResourceGroup};
pub use sealing::SealingError;
pub use search::{Found, SearchServerCertificates};
pub use tag::{ListTagResources, ListedTagResources, RESOURCE_TYPE, TaggedResources};
pub use target::TargetCertificate;
pub use upload::{GivenCertificate, Upload, Uploaded};
pub use violation::{Field, FieldError, Violation};

pub use crate::account::Role;
pub use crate::certificate::{
    CaCertificateError, CertificateError, CertificateFacts, Contents, Finding, FindingCode, FoundCertificate,
    KeyAlgorithm, KeyId, ListedCertificate, PemError, Place, Policy, PolicyError, PrivateKeyError, Report, Severity,
    Sha256Fingerprint, TextError, UnsupportedKey, X509Error,
};
pub use crate::inventory::{
    CertificateId, CertificateKind, CertificateName, CriterionError, DomainError, DomainMatch, NameError, RegionError,
    Tag, TagError, TagPart, Tags, TagsError,
};
pub use crate::store::{Order, ResourceGroup, StoredCertificate};

use crate::account::Actor;
use crate::certificate::Authorities;
use crate::digest;
use crate::inventory::Regions;
use crate::seal::KeyRing;
use crate::secret::Secret;
use crate::store::{Change, Store};
use authenticate::CheckedKeys;
use cores::Cores;

/// The id of a call: a random UUID, written in upper case.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RequestId(Uuid);

impl RequestId {
    /// A fresh id.
    pub fn random() -> Result<Self, Error> {
        Ok(Self(random_uuid()?))
    }
}

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.hyphenated().encode_upper(&mut Uuid::encode_buffer()))
    }
}

/// A random UUID (RFC 9562 5.4).
fn random_uuid() -> Result<Uuid, digest::Error> {
    Ok(uuid::Builder::from_random_bytes(digest::random()?).into_uuid())
}

/// An authenticated call.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its id, in its answer and in every log line of it.
    pub request_id: RequestId,
    /// Who calls.
    pub caller: Caller,
}

impl Call {
    /// Who acts, for the event of a change.
    pub fn actor(&self) -> Actor {
        Actor {
            principal: self.caller.principal.clone(),
            address: self.caller.address,
            request_id: self.request_id.0,
        }
    }

    fn change(&self, id: CertificateId) -> Change<'_> {
        Change {
            id,
            access_key_id: self.caller.access_key_id(),
            request_id: self.request_id.0,
        }
    }
}

/// What an operator decides.
#[derive(Debug)]
pub struct Settings {
    /// Where certificates can be kept.
    pub regions: Regions,
    /// Which findings an upload is refused for.
    pub policy: Policy,
    /// How many live server certificates an account may have in a region, if it has no quota of its own.
    pub server_certificate_quota: i64,
    /// The same of CA certificates.
    pub ca_certificate_quota: i64,
    /// How long deleted certificates are kept; zero: they are removed at once.
    pub retention: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            regions: Regions::alibaba(),
            policy: Policy::default(),
            server_certificate_quota: 10_000,
            ca_certificate_quota: 1_000,
            retention: Duration::from_secs(7 * 24 * 60 * 60),
        }
    }
}

impl Settings {
    fn quota(&self, kind: CertificateKind) -> i64 {
        match kind {
            CertificateKind::Server => self.server_certificate_quota,
            CertificateKind::Ca => self.ca_certificate_quota,
        }
    }
}

/// The use cases and what they stand on. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Parts>);

struct Parts {
    store: Store,
    key_ring: KeyRing,
    settings: Settings,
    page_tokens: PageTokens,
    /// Of the MACs of requests.
    client_token_key: Secret,
    checked_keys: CheckedKeys,
    authorities: Authorities,
    cores: Cores,
    /// What was handed over to be stored.
    storing: TaskTracker,
}

impl App {
    /// Opens the service's own keys with the ring, which must have every key that sealed what the store holds.
    pub async fn open(store: Store, key_ring: KeyRing, settings: Settings) -> Result<Self, SealingError> {
        sealing::check_ring(&store, &key_ring).await?;
        // Of two rings that meet on an empty database, one opens the service's key: only that one is noted.
        let page_tokens = PageTokens::new(sealing::service_key(&store, &key_ring, "page-token").await?);
        let client_token_key = sealing::service_key(&store, &key_ring, "client-token").await?;
        store.note_key_encryption_key(key_ring.sealing_id().as_bytes()).await?;
        Ok(Self(Arc::new(Parts {
            store,
            key_ring,
            settings,
            page_tokens,
            client_token_key,
            checked_keys: CheckedKeys::default(),
            authorities: Authorities::default(),
            cores: Cores::of_this_machine(),
            storing: TaskTracker::new(),
        })))
    }

    /// Waits until what was handed over to be stored is stored, also of callers that have left.
    pub async fn finish(&self) {
        self.0.storing.close();
        self.0.storing.wait().await;
    }
}
