//! The connection to Postgres: connection string, TLS, pool.

use std::path::PathBuf;
use std::time::Duration;

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Pool, QueueMode, RecyclingMethod, Runtime};
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;
use postgres_openssl::MakeTlsConnector;
use tokio_postgres::config::{Host, SslMode};

use super::group_commit::RoundTrip;
use super::hosts::Hosts;
use super::pooled::Connections;
use super::timeline::Timelines;
use super::url::{self, TlsParameters};

/// The address of Postgres, and the limits for connections to it.
#[derive(Clone)]
pub struct Settings {
    /// A connection string as libpq reads it: `postgres://user@host:port/database?sslmode=verify-full` or
    /// `host=... dbname=...`. It can name several hosts, and it can contain a password.
    pub connection_string: String,
    /// The connection string of the role that owns the tables. It migrates the schema and purges audit events. `None`: the role of
    /// `connection_string` owns the tables.
    pub owner_connection_string: Option<String>,
    /// Accept a server on another machine without verifying its certificate.
    pub danger_unverified_database: bool,
    /// The maximum number of connections.
    pub max_connections: usize,
    /// The file that keeps the highest timeline of the database over a restart. `None`: it is not kept.
    pub timeline_file: Option<PathBuf>,
}

/// After this time without an answer, a connection counts as lost. Postgres ends a statement earlier.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(15);
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// The timeout for each host, unless the connection string sets another. It is short, so that a caller soon tries the next host
/// when a primary fails.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
pub(super) const WAIT_FOR_CONNECTION: Duration = Duration::from_secs(5);
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);

/// Why a connection string can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The text is not a connection string. The error does not repeat the text, because it may contain a password.
    #[error("the database URL is not one that libpq would read: {0}")]
    Malformed(&'static str),
    /// A user name or password has a character that separates parts of a URL, and how to write it instead.
    #[error("the user name or password in the database URL has a `{0}` that is not percent-encoded: write it as {1}")]
    Unencoded(&'static str, &'static str),
    /// libpq does not know this value of `sslmode`.
    #[error("sslmode in the database URL must be disable, allow, prefer, require, verify-ca or verify-full")]
    SslMode,
    /// The server is on another machine, and nothing verifies its identity.
    #[error(
        "the database is on another machine and its certificate would not be verified: add `sslmode=verify-full` (and \
         `sslrootcert=FILE`) to the database URL, or say --danger-unverified-database"
    )]
    Unverified,
    /// A file of `sslrootcert`, `sslcert` or `sslkey` can't be used.
    #[error("{parameter} in the database URL names {path}, which cannot be used")]
    TlsFile {
        /// The parameter's name.
        parameter: &'static str,
        /// The file.
        path: PathBuf,
        /// OpenSSL's error.
        #[source]
        source: openssl::error::ErrorStack,
    },
    /// The file of `sslrootcert` can't be read.
    #[error("sslrootcert in the database URL names {0}, which cannot be read")]
    RootFile(PathBuf, #[source] std::io::Error),
    /// The file of `sslrootcert` contains no certificate.
    #[error("sslrootcert in the database URL names {0}, which holds no certificate in PEM")]
    NoRoot(PathBuf),
    /// The TLS library failed.
    #[error("the TLS library failed")]
    Tls(#[from] openssl::error::ErrorStack),
}

/// The connections to the database of these settings. The first connection opens when a caller needs one. Each new connection
/// measures `round_trip`.
pub(super) fn connections(
    settings: &Settings,
    round_trip: RoundTrip,
    timelines: &Timelines,
) -> Result<Connections, SettingsError> {
    let (mut config, tls) = url::parse(&settings.connection_string)?;
    if !tls.mode.verifies() && !settings.danger_unverified_database && !on_this_machine(&config) {
        return Err(SettingsError::Unverified);
    }
    config.ssl_mode(match tls.mode {
        url::SslMode::Disable => SslMode::Disable,
        url::SslMode::Prefer => SslMode::Prefer,
        url::SslMode::Require | url::SslMode::VerifyCa | url::SslMode::VerifyFull => SslMode::Require,
    });
    let mut options = config.get_options().unwrap_or_default().to_owned();
    // These options override the settings of the role and the database.
    options.push_str(r" -c default_transaction_isolation=read\ committed -c client_min_messages=warning");
    // Postgres plans each statement once, because planning an upload takes longer than the upload. Postgres may plan while a
    // table is so small that a sequential scan is cheapest. The plan must still be right when the table has grown. So only
    // plans with indexes are allowed.
    options
        .push_str(" -c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c enable_bitmapscan=off -c jit=off");
    for (parameter, value) in [
        ("statement_timeout", STATEMENT_TIMEOUT),
        ("lock_timeout", LOCK_TIMEOUT),
        ("idle_in_transaction_session_timeout", STATEMENT_TIMEOUT),
    ] {
        options.push_str(&format!(" -c {parameter}={}", value.as_millis()));
    }
    config
        .options(options)
        .application_name("certkeep")
        .tcp_user_timeout(TCP_USER_TIMEOUT)
        .keepalives_idle(KEEPALIVE_IDLE);

    let host_timeout = config.get_connect_timeout().copied().unwrap_or(CONNECT_TIMEOUT);
    let tls = connector(&tls)?;
    let hosts = Hosts::new(&config, tls.clone(), host_timeout, round_trip, timelines.clone());
    let time_for_all_hosts = hosts.time();
    let recycling = ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    };
    let pool = Pool::builder(Manager::from_connect(config, hosts, recycling))
        .max_size(settings.max_connections)
        // Prefer the connection that was used last: the caches of its backend are warm.
        .queue_mode(QueueMode::Lifo)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(WAIT_FOR_CONNECTION))
        .create_timeout(Some(time_for_all_hosts))
        .pre_recycle(Hook::sync_fn({
            let timelines = timelines.clone();
            move |_, metrics| match timelines.is_outdated(metrics.created) {
                true => Err(HookError::message("it leads to an old primary")),
                false => Ok(()),
            }
        }))
        .build()
        .map_err(|_| SettingsError::Malformed("no runtime"))?;
    Ok(Connections::new(pool, tls, timelines.clone()))
}

fn on_this_machine(config: &tokio_postgres::Config) -> bool {
    let hosts = config.get_hosts().iter().all(|host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => name == "localhost" || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback()),
    });
    hosts && config.get_hostaddrs().iter().all(|ip| ip.is_loopback())
}

fn connector(tls: &TlsParameters) -> Result<MakeTlsConnector, SettingsError> {
    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    let unusable = |parameter, path: &PathBuf| {
        let path = path.clone();
        move |source| SettingsError::TlsFile {
            parameter,
            path,
            source,
        }
    };
    // As libpq does: only the given roots, else the system's roots.
    let mut roots = X509StoreBuilder::new()?;
    match &tls.root_certificate {
        Some(path) => {
            let pem = std::fs::read(path).map_err(|error| SettingsError::RootFile(path.clone(), error))?;
            let given = X509::stack_from_pem(&pem).map_err(unusable("sslrootcert", path))?;
            if given.is_empty() {
                return Err(SettingsError::NoRoot(path.clone()));
            }
            for root in given {
                roots.add_cert(root)?;
            }
        }
        None if tls.mode.verifies() => {
            for root in rustls_native_certs::load_native_certs().certs {
                // A root that OpenSSL can't read cannot verify anything, so it is skipped.
                if let Ok(root) = X509::from_der(&root) {
                    roots.add_cert(root)?;
                }
            }
        }
        None => {}
    }
    builder.set_cert_store(roots.build());
    if let Some(path) = &tls.certificate {
        builder
            .set_certificate_chain_file(path)
            .map_err(unusable("sslcert", path))?;
    }
    if let Some(path) = &tls.key {
        builder
            .set_private_key_file(path, openssl::ssl::SslFiletype::PEM)
            .map_err(unusable("sslkey", path))?;
    }
    builder.set_verify(if tls.mode.verifies() {
        SslVerifyMode::PEER
    } else {
        SslVerifyMode::NONE
    });
    let mut connector = MakeTlsConnector::new(builder.build());
    let verify_hostname = tls.mode == url::SslMode::VerifyFull;
    connector.set_callback(move |connection, _| {
        connection.set_verify_hostname(verify_hostname);
        Ok(())
    });
    Ok(connector)
}
