//! The use cases, one file each. Only this layer knows the order of their steps. The doors call them and render their answers. The
//! modules below do not know each other.

mod access_key;
mod accounts;
mod ali_cloud;
mod audit_event;
mod authenticate;
mod bootstrap;
mod call;
mod changes;
mod check;
mod client_identity;
mod client_token;
mod compromised;
mod cpu_pool;
mod delete;
mod deliver;
mod denial;
mod describe;
mod error;
mod expiry;
mod fingerprints;
mod get;
mod get_key_pair;
mod holder;
mod key_ring;
mod key_use;
mod lease;
mod limit;
mod list_audit_events;
mod list_tags;
mod maintenance;
mod manage_access_keys;
mod new_scope;
mod page;
mod parsed_upload;
mod permission;
mod quotas;
mod regions;
mod rename;
mod renew;
mod resource_group;
mod resources;
mod reuse;
mod seal_audit_trails;
mod search;
mod secrets;
mod settings;
mod standing;
mod tag;
mod tail_audit_events;
mod target;
mod upload;
mod verify_audit_trail;
mod versions;
mod violation;
mod watch;

use std::sync::{Arc, PoisonError, RwLock};

use tokio_util::task::TaskTracker;

pub use access_key::AccessKeyText;
pub use accounts::{CreatedAccount, ListedAccounts, UpdateQuota};
pub use ali_cloud::AliCloud;
pub use audit_event::{AuditChange, AuditEvent, AuditOutcome};
pub use authenticate::{Caller, Conflict, Credentials, GivenKey, SignatureError, SignedCredentials};
pub use bootstrap::{BootstrapError, FirstAccount, RecoveredKey, Recovery};
pub use call::{Call, RequestId};
pub use check::{CheckReport, CheckServerCertificate, check};
pub use client_identity::{IdentityError, ListedClientIdentities, NewClientIdentity};
pub use deliver::{Delivery, UnreadableKey, Wanted, WantedCertificate};
pub use denial::DeniedCall;
pub use describe::{DescribeCertificates, Described};
pub use error::{Error, Resource};
pub use expiry::{DAYS_LEFT, TimeLeft};
pub use fingerprints::{ListAccountFingerprints, ListedFingerprints};
pub use get_key_pair::{GetKeyPair, KeyPair};
pub use holder::{HolderKind, StreamHolder};
pub use key_ring::{
    DescribedKeyRing, Fault, KeyRingMismatch, RotationProgress, RowFault, Verification, VerifiedCounts, VerifiedRows,
    VerifyKeyRing,
};
pub use key_use::DueUses;
pub use lease::{BindCertificate, ListLeases, ListedLeases, RenewLeases, Renewed};
pub use limit::{Limit, Source, UnauthenticatedLimit};
pub use list_audit_events::{ListAuditEvents, ListedAuditEvents};
pub use list_tags::{ListTagResources, ListedTagResources};
pub use maintenance::Maintenance;
pub use manage_access_keys::{
    CreateAccessKey, CreatedAccessKey, ListAccessKeys, ListedAccessKeys, UnknownRole, UpdateAccessKey,
};
pub use new_scope::NewScope;
pub use page::{List, PageTokens};
pub use permission::roles_of;
pub use quotas::Quota;
pub use regions::{DescribeRegions, DescribedRegion};
pub use renew::{Renew, RenewedCertificate};
pub use resource_group::{ListedResourceGroups, MoveResourceGroup};
pub use resources::{RESOURCE_TYPE, TaggedResources};
pub use seal_audit_trails::Sealer;
pub use search::{Found, SearchServerCertificates};
pub use secrets::{
    Proxy, SECRET_TYPE, SecretContent, SecretOrRemoved, Secrets, SecretsRequest, SecretsResponse, SentSecret, Subscribe,
};
pub use settings::Settings;
pub use standing::NEARLY_FULL;
pub use tag::Revisions;
pub use tail_audit_events::{AuditTail, TailedAuditEvent};
pub use target::TargetCertificate;
pub use upload::{CertificateText, Upload, Uploaded};
pub use verify_audit_trail::{AuditReport, AuditVerification, TrailFault, TrailReport};
pub use versions::{ListVersions, ListedVersions};
pub use violation::{Field, FieldError, Violation};
pub use watch::{Watch, WatchCertificates, Watched, WatchedEvent, WatchedKind};

pub use crate::account::{AccountId, IdentityKind, IdentityName, Principal, QuotaKind, Role};
pub use crate::alibaba::cas::{Cas, CasError, CasSetUpError};
pub use crate::certificate::{
    CaCertificateError, CaMark, CertificateError, CertificateFacts, Chain, ClientCertificate, ClientFamily,
    CompromisedKey, Contents, DroppedBlock, EncodedPair, Encoding, ExponentError, FileFormat, FileFormatError, Finding,
    FindingCode, FindingKind, FormatCause, FoundCertificate, KeyAlgorithm, KeyBlocklist, KeyBlocklistError, KeyFlaw,
    KeyId, KeyIdentifierPart, KeyPairFormat, ListedCertificate, MlDsaForm, NameKind, PemError, PemFile, Place, Policy,
    PolicyError, PrivateKeyError, Report, SanError, SerialError, Severity, Sha256Fingerprint, StoredPairError,
    TextError, UnsupportedKey, Validity, WeakHash, X509Error, has_issued,
};
pub use crate::inventory::{
    AliCloudCertificate, AliCloudCertificateId, CertificateId, CertificateKind, CertificateName, CriterionError,
    DomainError, DomainMatch, NameError, RegionError, Scope, Tag, TagError, TagPart, Tags, TagsError, comparable_names,
};
pub use crate::seal::{Error as SealError, KeyEncryptionKeyId};
pub use crate::store::{
    Account, CertificateVersion, ClientIdentity, KeyEncryptionKey, KeyState, KeyUse, Lease, LeaseVersions, ManagedKey,
    Order, Replica, ResourceGroup, Rotation, StoredCertificate, Trail,
};
pub use compromised::CompromisedWalk;

use crate::certificate::Authorities;
use crate::seal::KeyRing;
use crate::secret::Secret;
use crate::store::{AccessKey, Store};
use authenticate::{CheckedKey, Recent, RefusedKey, ResolvedIdentity, StreamChecks};
use changes::Feeds;
use cpu_pool::CpuPool;
use denial::Denials;
use get_key_pair::SlowEncodings;
use holder::Holders;
use key_ring::{CurrentRing, Started, ThisReplica};
use key_use::KeyUses;
use limit::{Buckets, SourceBuckets};
use secrets::SharedSecrets;
use watch::WaitingOctets;

/// The failed authentications that an address may have at once.
const FAILURE_BURST: u32 = 20;
/// The failed authentications that an address may have per second after that.
const FAILURE_RATE: u32 = 5;

/// The use cases and their dependencies. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Parts>);

struct Parts {
    store: Store,
    key_ring: CurrentRing,
    replica: ThisReplica,
    settings: Settings,
    /// The policy of the settings, with the operator's lists of compromised keys.
    policy: RwLock<Arc<Policy>>,
    page_tokens: PageTokens,
    /// The key of the requests' MACs.
    client_token_key: Secret,
    /// By the id.
    checked_keys: Recent<String, CheckedKey>,
    /// By the SHA-256 of the secret.
    refused_keys: Recent<[u8; 32], RefusedKey>,
    /// By the id. `None`: no access key that can sign has the id.
    signing_keys: Recent<String, Option<Arc<AccessKey>>>,
    /// By the SHA-256 of the client certificate.
    identities: Recent<[u8; 32], ResolvedIdentity>,
    /// Of authentications.
    failures: SourceBuckets,
    /// By the id of the access key or the name of the client identity.
    principal_buckets: Buckets<String>,
    account_buckets: Buckets<AccountId>,
    /// The key of the MACs over the audit trails.
    audit_key: Secret,
    denials: Denials,
    /// The holders of streams.
    holders: Holders,
    key_uses: KeyUses,
    authorities: Authorities,
    cpu_pool: CpuPool,
    /// The accounts whose changes are followed.
    feeds: Feeds,
    stream_checks: StreamChecks,
    /// Of watches.
    waiting_octets: WaitingOctets,
    slow_encodings: SlowEncodings,
    /// Of Envoy's streams.
    secrets: SharedSecrets,
    /// The certificates that are being stored.
    storing: TaskTracker,
}

impl App {
    /// Starts as a replica on this host, and opens the service's own keys with the ring. The ring must have every key of the store
    /// that is not retired. [`leave`](Self::leave) ends the replica.
    pub async fn open(
        store: Store,
        key_ring: KeyRing,
        settings: Settings,
        host: &str,
    ) -> Result<Self, KeyRingMismatch> {
        let replica = ThisReplica::new(host)?;
        let Started {
            key_ring,
            page_token_key,
            client_token_key,
            audit_key,
        } = match key_ring::start(&store, key_ring, &replica).await {
            Ok(started) => started,
            Err(error) => {
                // Otherwise a rotation would wait for this replica.
                let _ = store.remove_replica(replica.id()).await;
                return Err(error);
            }
        };
        Ok(Self(Arc::new(Parts {
            denials: Denials::start(store.clone()),
            holders: Holders::start(store.clone(), replica.id()),
            store,
            key_ring,
            replica,
            policy: RwLock::new(Arc::new(settings.policy.clone())),
            settings,
            page_tokens: PageTokens::new(page_token_key),
            client_token_key,
            checked_keys: Recent::default(),
            refused_keys: Recent::default(),
            signing_keys: Recent::default(),
            identities: Recent::default(),
            failures: SourceBuckets::new(FAILURE_BURST, FAILURE_RATE),
            principal_buckets: Buckets::default(),
            account_buckets: Buckets::default(),
            audit_key,
            key_uses: KeyUses::default(),
            authorities: Authorities::default(),
            cpu_pool: CpuPool::of_this_machine(),
            feeds: Feeds::default(),
            stream_checks: StreamChecks::default(),
            waiting_octets: WaitingOctets::default(),
            slow_encodings: SlowEncodings::of_this_machine(),
            secrets: SharedSecrets::default(),
            storing: TaskTracker::new(),
        })))
    }

    /// Uses these lists of compromised keys of the operator from now on.
    pub fn replace_key_blocklists(&self, lists: Vec<KeyBlocklist>) {
        let policy = self.0.settings.policy.clone().with_blocklists(lists);
        *self.0.policy.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }

    /// The policy for keys and certificates.
    fn policy(&self) -> Arc<Policy> {
        self.0.policy.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until all uploads are stored, and all denied calls are in the audit trail. This includes uploads of callers that have left.
    /// Leases of streams are not written any more.
    pub async fn finish(&self) {
        self.0.storing.close();
        self.0.storing.wait().await;
        self.0.denials.finish().await;
        self.0.holders.finish().await;
    }
}
