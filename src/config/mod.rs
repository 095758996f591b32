//! What an operator can set: in a file, in the environment, by flags; the later of these wins.

mod layers;
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
    /// Where the gRPC listener is; port 0 lets the system choose. A loopback address, unless there is TLS or the operator said
    /// `danger_plaintext`.
    pub listen: SocketAddr,
    /// What the gRPC listener proves itself with; `None`: it serves in plain text.
    pub tls: Option<TlsFiles>,
    /// How many connections are served at once; others wait.
    pub max_connections: usize,
    /// How many calls a connection carries at once; others wait.
    pub max_streams: u32,
    /// After this a connection takes no new calls and is closed: callers spread over replicas again.
    pub max_connection_age: Duration,
    /// How often a silent connection is asked whether its caller is still there.
    pub keepalive: Duration,
    /// How long calls under way may take to finish after the stop was asked for.
    pub drain_time: Duration,
    /// Where the listener for metrics and health is, if there is one.
    pub metrics_listen: Option<SocketAddr>,
    /// Where traces go over OTLP, if they go anywhere: an http or https URL with a host.
    pub otlp_endpoint: Option<http::Uri>,
    /// How many live server certificates an account may have in a region, if it has no quota of its own.
    pub server_certificate_quota: u32,
    /// The same of CA certificates.
    pub ca_certificate_quota: u32,
    /// How long deleted certificates are kept; zero: they are removed at once.
    pub delete_retention: Duration,
    /// The regions; `None`: Alibaba Cloud's public ones.
    pub regions: Option<Vec<RegionConfig>>,
    /// The key ring and the database.
    pub database: DatabaseConfig,
}

/// A certificate with its chain, and its private key, both in PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The file of the certificate and its chain.
    pub certificate: PathBuf,
    /// The file of the private key.
    pub private_key: PathBuf,
}

/// A region of an operator's own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RegionConfig {
    /// Its id.
    pub id: String,
    /// Its names in zh-CN, en-US and ja.
    pub names: [String; 3],
}

/// The settings of whatever opens the database.
#[derive(Clone, Debug)]
pub struct DatabaseConfig {
    /// Where certkeep keeps what is not in Postgres, and its private Postgres.
    pub data_dir: PathBuf,
    /// The file of the key ring.
    pub key_ring: PathBuf,
    /// The file that the first access key is written to.
    pub admin_key: PathBuf,
    /// How many connections to Postgres are kept at most.
    pub max_connections: usize,
    /// Which Postgres.
    pub source: DatabaseSource,
}

/// Which Postgres holds the data.
#[derive(Clone)]
pub enum DatabaseSource {
    /// One of certkeep's own, in its data directory.
    Private {
        /// The directory of its binaries; `None`: search for them.
        postgres_bin: Option<PathBuf>,
        /// The operating system's user that runs it when certkeep is root; `None`: `postgres`.
        postgres_user: Option<String>,
    },
    /// One that somebody else runs.
    Url {
        /// The connection string. It can hold a password.
        url: String,
        /// Accept one on another machine whose certificate is not verified.
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
                danger_unverified_database,
            } => f
                .debug_struct("Url")
                .field("url", &"<redacted>")
                .field("danger_unverified_database", danger_unverified_database)
                .finish(),
        }
    }
}
