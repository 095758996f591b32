//! The settings of an operator: from a file, the environment and flags. The later source wins.

mod layers;
mod otlp;
mod resolve;
mod settings;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use layers::{ConfigError, Layers};
pub use settings::{SETTINGS, Setting, Shape};

/// The settings of a running certkeep.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address of the gRPC listener. The system chooses port 0. Without TLS and `danger_plaintext`, a loopback address.
    pub listen: SocketAddr,
    /// Address of the listener for clients of Alibaba Cloud's SLB API, with the same rules. `None`: no listener.
    pub slb_listen: Option<SocketAddr>,
    /// Whether the start fails if `slb_listen` is in use: the operator set it. Otherwise the service does without that listener, and warns.
    pub slb_listen_required: bool,
    /// Certificate and key of both listeners. `None`: plain text.
    pub tls: Option<TlsFiles>,
    /// Connections served at once. Further connections wait.
    pub max_connections: usize,
    /// Connections at once from one address. Further connections are closed. `None`: no limit.
    pub max_connections_per_address: Option<usize>,
    /// Bytes for requests and for answers that callers have not taken.
    pub call_memory: usize,
    /// Whether the schema is served to callers without an access key.
    pub reflection: bool,
    /// Calls at once on one connection. Further calls wait.
    pub max_streams: u32,
    /// Age after which a connection accepts no new calls and is closed, so that callers spread over the replicas.
    pub max_connection_age: Duration,
    /// Interval between pings on a silent connection.
    pub keepalive: Duration,
    /// Time that running calls have to finish after a stop was requested.
    pub drain_time: Duration,
    /// Address of the listener for metrics and health. `None`: no listener.
    pub metrics_listen: Option<SocketAddr>,
    /// How many certificates that expire next the metrics name.
    pub metrics_certificates: u32,
    /// OTLP endpoint for traces: an http or https URL with a host. `None`: no traces.
    pub otlp_endpoint: Option<http::Uri>,
    /// Headers for the OTLP endpoint.
    pub otlp_headers: http::HeaderMap,
    /// The share of traces that are exported, 0 to 1.
    pub trace_sample_ratio: f64,
    /// Files that list compromised keys.
    pub key_blocklists: Vec<PathBuf>,
    /// Live server certificates per account and region, for accounts without their own quota.
    pub server_certificate_quota: u32,
    /// Live CA certificates per account and region, for accounts without their own quota.
    pub ca_certificate_quota: u32,
    /// Access keys per account, for accounts without their own quota.
    pub access_key_quota: u32,
    /// Calls per second of an access key or a client identity on a replica, for accounts without their own quota.
    pub access_key_rate: u32,
    /// Calls per second of an account on a replica, for accounts without their own quota.
    pub account_rate: u32,
    /// Time during which a deleted certificate can be undeleted. Zero: it is purged at once.
    pub delete_retention: Duration,
    /// How long the clocks must have shown a time until purges follow it. It is no setting.
    pub purge_wait: Duration,
    /// The number of earlier versions that a certificate keeps.
    pub version_retention: u32,
    /// Time for which an earlier version is kept.
    pub version_retention_time: Duration,
    /// The age at which audit events are purged. `None`: they are kept for ever.
    pub audit_retention: Option<Duration>,
    /// Where certificates of Alibaba Cloud are fetched. `None`: none are fetched.
    pub cas: Option<CasService>,
    /// The regions. `None`: Alibaba Cloud's public regions.
    pub regions: Option<Vec<RegionConfig>>,
    /// The key ring and the database.
    pub database: DatabaseConfig,
}

/// Alibaba Cloud Certificate Management Service, and who may use it.
#[derive(Clone, Debug)]
pub struct CasService {
    /// The URL of the service, without a path: https, or http on a loopback address.
    pub endpoint: http::Uri,
    /// File that contains the id and the secret of an access key of Alibaba Cloud.
    pub credentials_file: PathBuf,
    /// The number of the account of certkeep that may use it.
    pub account: i64,
    /// File with the CA certificates that verify the service. `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// Time for one answer. It is no setting.
    pub timeout: Duration,
    /// Time for which the service is not called after it did not answer. It is no setting.
    pub pause: Duration,
}

/// The PEM files of the TLS listeners.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// File of the certificate and its chain.
    pub certificate: PathBuf,
    /// File of the private key.
    pub private_key: PathBuf,
    /// File of the CA certificates that issue client certificates. `None`: clients are not asked for a certificate.
    pub client_ca: Option<PathBuf>,
}

/// A region that the operator defined.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RegionConfig {
    /// Its id.
    pub id: String,
    /// Its names in zh-CN, en-US and ja.
    pub names: [String; 3],
}

/// The settings of the database and the key ring.
#[derive(Clone, Debug)]
pub struct DatabaseConfig {
    /// Directory for all data outside Postgres, and for the private Postgres.
    pub data_dir: PathBuf,
    /// File of the key ring.
    pub key_ring: PathBuf,
    /// The providers that wrap keys of the key ring.
    pub key_providers: KeyProviders,
    /// File to which the first access key is written.
    pub admin_key: PathBuf,
    /// Maximum number of connections to Postgres.
    pub max_connections: usize,
    /// The Postgres to use.
    pub source: DatabaseSource,
}

/// The providers that wrap keys of the key ring.
#[derive(Clone, Debug, Default)]
pub struct KeyProviders {
    /// A PKCS#11 token.
    pub pkcs11: Option<Pkcs11Device>,
    /// A transit service.
    pub transit: Option<TransitService>,
}

/// A token behind a PKCS#11 module.
#[derive(Clone, Debug)]
pub struct Pkcs11Device {
    /// The module: a shared library.
    pub module: PathBuf,
    /// The label of the token.
    pub token: String,
    /// File that contains the PIN of the token's user.
    pub pin_file: PathBuf,
}

/// A transit secrets engine with the HTTP API of HashiCorp Vault.
#[derive(Clone, Debug)]
pub struct TransitService {
    /// The URL of the service: https, or http on a loopback address.
    pub url: http::Uri,
    /// The path of the engine.
    pub mount: String,
    /// The name of the key that wraps.
    pub key: String,
    /// File that contains the token.
    pub token_file: PathBuf,
    /// File with the CA certificates that verify the service. `None`: the system's.
    pub ca_file: Option<PathBuf>,
}

/// The Postgres that stores the data.
#[derive(Clone)]
pub enum DatabaseSource {
    /// The private Postgres in the data directory.
    Private {
        /// Directory of its binaries. `None`: certkeep searches for them.
        postgres_bin: Option<PathBuf>,
        /// User that runs Postgres when certkeep runs as root. `None`: `postgres`.
        postgres_user: Option<String>,
    },
    /// A Postgres that the operator runs.
    Url {
        /// The connection string of the role that serves. It may contain a password.
        url: String,
        /// The connection string of the role that owns the tables. `None`: the role that serves owns them.
        owner_url: Option<String>,
        /// Accept a database on another machine without verifying its certificate.
        danger_unverified_database: bool,
    },
}

impl std::fmt::Debug for DatabaseSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Private {
                postgres_bin,
                postgres_user,
            } => f
                .debug_struct("Private")
                .field("postgres_bin", postgres_bin)
                .field("postgres_user", postgres_user)
                .finish(),
            Self::Url {
                url: _,
                owner_url,
                danger_unverified_database,
            } => f
                .debug_struct("Url")
                .field("url", &"<redacted>")
                .field("owner_url", &owner_url.as_ref().map(|_| "<redacted>"))
                .field("danger_unverified_database", danger_unverified_database)
                .finish(),
        }
    }
}
