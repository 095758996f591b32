//! Starts and stops the service: the database, the doors and the jobs.

mod database;
mod files;
mod health;
mod http;
mod jobs;
mod key_blocklists;
mod key_ring;
mod listener;
mod monitor;
mod newcomers;
mod probe;
mod refusals;
mod stamp;
mod tls;
mod tls_validity;

use std::ffi::OsStr;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use crate::postgres::STOP_WITHIN;
pub use crate::seal::{KeyRing, Provider};
pub use database::{Database, DatabaseError};
pub use files::unusable_files;
pub use key_blocklists::{BlocklistError, read_key_blocklists};
pub use key_ring::add_key;
pub use probe::{Listening, ProbeError, health_check, is_serving};
pub use tls::TlsError;

use crate::app::{AccountId, AliCloud, App, Cas, CasSetUpError, DueUses, FirstAccount, Policy, Settings};
use crate::config::{CasService, Config, RegionConfig};
use crate::grpc::{self, CallMemory};
use crate::inventory::{Region, RegionId, Regions};
use crate::secret::Existing;
use crate::slb;
use crate::telemetry::metrics;
use database::Wait;
use health::{Health, State};
use http::{Limits, Protocol};
use listener::{Listener, Places};
use stamp::stamp;
use tls::Tls;

/// The time until the first authenticated call of a connection.
const NEWCOMER_TIME: Duration = Duration::from_secs(10);
/// See [`Limits::send_time`].
const SEND_TIME: Duration = Duration::from_secs(30);
/// The most connections for metrics and health. Each Prometheus needs one.
pub(crate) const METRICS_CONNECTIONS: usize = 80;
/// The most connections of Alibaba Cloud's clients, unless `max_connections` is less.
pub(crate) const SLB_CONNECTIONS: usize = 1024;
/// While there are more, the oldest are closed.
const METRICS_CONNECTIONS_KEPT: usize = 64;
/// The age of a connection for metrics and health. Nobody authenticates there.
const METRICS_CONNECTION_AGE: Duration = Duration::from_secs(60);
/// Calls at once on a connection of the door for Alibaba Cloud's clients. Its headers are large.
const SLB_STREAMS: u32 = 32;
/// The time for the last uses of access keys when the server stops.
const RECORD_TIME: Duration = Duration::from_secs(1);

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address can't be listened on.
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] io::Error),
    /// The listener's certificate can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A list of compromised keys can't be used.
    #[error(transparent)]
    Blocklist(#[from] BlocklistError),
    /// Alibaba Cloud can't be called.
    #[error(transparent)]
    Cas(#[from] CasSetUpError),
    /// The database can't be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The schema's descriptors can't be served.
    #[error("cannot set up reflection")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// A running certkeep. Dropped, it ends without finishing the calls under way.
pub struct Server {
    address: SocketAddr,
    slb_address: Option<SocketAddr>,
    metrics_address: Option<SocketAddr>,
    database: Database,
    drain_time: Duration,
    health: Health,
    app: App,
    /// Cancelled to stop the doors.
    stop: CancellationToken,
    doors: JoinSet<()>,
    jobs: JoinSet<()>,
    monitoring: JoinSet<()>,
}

impl Server {
    /// Starts the service, and returns when it answers calls. Health answers from the start. While the database is down, starting, or
    /// read-only, the start waits; `cancel` ends the wait.
    pub async fn start(
        config: &Config,
        policy: Policy,
        path_env: Option<&OsStr>,
        cancel: &CancellationToken,
    ) -> Result<Self, StartError> {
        metrics::begin();
        // First: a port in use must not cost anything.
        let tls = config
            .tls
            .as_ref()
            .map(|files| Tls::start(files, Protocol::Http2))
            .transpose()?;
        // Before the lists are read: a change during the read is seen.
        let blocklist_stamps = key_blocklists::stamps(&config.key_blocklists);
        let blocklists = read_key_blocklists(&config.key_blocklists)?;
        key_blocklists::log(&blocklists);
        let ali_cloud = config.cas.as_ref().map(ali_cloud).transpose()?;
        let places = Places {
            max: config.max_connections,
            max_newcomers: (config.max_connections / 4).max(1),
            newcomer_time: NEWCOMER_TIME,
            max_per_address: config.max_connections_per_address,
        };
        let (listener, address) = listen("grpc", config.listen, tls, places).await?;
        let monitor = match config.metrics_listen {
            Some(address) => {
                let places = Places {
                    max: METRICS_CONNECTIONS,
                    max_newcomers: METRICS_CONNECTIONS_KEPT,
                    newcomer_time: METRICS_CONNECTION_AGE,
                    max_per_address: None,
                };
                Some(listen("metrics", address, None, places).await?)
            }
            None => None,
        };

        let slb_listener = match config.slb_listen {
            Some(address) => {
                let tls = config.tls.as_ref().map(|files| Tls::start(files, Protocol::Both));
                let places = Places {
                    max: places.max.min(SLB_CONNECTIONS),
                    max_newcomers: places.max_newcomers.min(SLB_CONNECTIONS / 4),
                    ..places
                };
                match listen("slb", address, tls.transpose()?, places).await {
                    Err(StartError::Listen(_, error))
                        if error.kind() == io::ErrorKind::AddrInUse && !config.slb_listen_required =>
                    {
                        tracing::warn!(%address, "the address for Alibaba Cloud's clients is in use, so they are not served: set slb_listen");
                        None
                    }
                    listened => Some(listened?),
                }
            }
            None => None,
        };

        let limits = Limits {
            max_head_len: http::MAX_HEAD_LEN,
            max_streams: config.max_streams,
            max_age: config.max_connection_age,
            close_time: http::CLOSE_TIME,
            keepalive: config.keepalive,
            send_time: SEND_TIME,
        };
        let health = Health::new().await;
        let (mut doors, mut monitoring) = (JoinSet::new(), JoinSet::new());
        let mut metrics_address = None;
        if let Some((listener, address)) = monitor {
            metrics_address = Some(address);
            let routes = monitor::routes(health.clone());
            // It answers until the end of the drain.
            monitoring.spawn(http::serve(
                listener,
                Protocol::Http1,
                limits,
                routes,
                CancellationToken::new(),
            ));
        }
        let memory = Arc::new(CallMemory::new(config.call_memory));
        let door = grpc::door(health.service(), config.reflection, memory.clone())?;
        let slb_door = slb::Door::new(memory);
        let stop = CancellationToken::new();
        doors.spawn(http::serve(
            listener,
            Protocol::Http2,
            limits,
            door.clone(),
            stop.clone(),
        ));
        let mut slb_address = None;
        if let Some((listener, address)) = slb_listener {
            slb_address = Some(address);
            let limits = Limits {
                max_head_len: slb::MAX_HEAD_LEN,
                max_streams: limits.max_streams.min(SLB_STREAMS),
                ..limits
            };
            let routes = slb_door.clone().routes();
            doors.spawn(http::serve(listener, Protocol::Both, limits, routes, stop.clone()));
        }

        // Not dropped after `cancel`: the private Postgres needs time to stop.
        let mut database = Database::start(&config.database, path_env, cancel, true).await?;
        // Before the ring is read: a change during the read is seen.
        let ring_stamp = stamp(&config.database.key_ring);
        let opened = cancel.run_until_cancelled(open_app(&mut database, config, &policy, &ali_cloud));
        let app = match opened.await {
            Some(Ok(app)) => app,
            Some(Err(error)) => {
                database.abandon().await;
                return Err(error.into());
            }
            None => {
                database.close().await;
                return Err(DatabaseError::Stopped.into());
            }
        };
        app.replace_key_blocklists(blocklists);
        door.open(app.clone());
        slb_door.open(app.clone());
        // The migration has just written to the database.
        health.set(State::Serving).await;
        let mut jobs = JoinSet::new();
        jobs.spawn(jobs::watch_database(database.store().clone(), health.clone()));
        jobs.spawn(jobs::count_certificates(app.clone(), config.metrics_certificates));
        jobs.spawn(jobs::find_compromised(app.clone()));
        jobs.spawn(jobs::run_maintenance(app.clone()));
        jobs.spawn(jobs::seal_audit_trails(app.clone()));
        jobs.spawn(jobs::record_key_uses(app.clone()));
        jobs.spawn(jobs::tell_replica(app.clone()));
        jobs.spawn(jobs::rotate_key_ring(app.clone()));
        jobs.spawn(key_ring::follow(app.clone(), config.database.clone(), ring_stamp));
        if !config.key_blocklists.is_empty() {
            let files = config.key_blocklists.clone();
            jobs.spawn(key_blocklists::follow(app.clone(), files, blocklist_stamps));
        }
        Ok(Self {
            address,
            slb_address,
            metrics_address,
            database,
            drain_time: config.drain_time,
            health,
            app,
            stop,
            doors,
            jobs,
            monitoring,
        })
    }

    /// The address for gRPC.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address for clients of Alibaba Cloud's SLB API, if they are served.
    pub fn slb_address(&self) -> Option<SocketAddr> {
        self.slb_address
    }

    /// The address for metrics and health, if they are served.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// The database.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Drains: finishes the calls under way, within the drain time, and closes the database.
    pub async fn stop(mut self) {
        self.jobs.shutdown().await;
        // Callers that watch health go elsewhere. Then their streams end.
        self.health.set(State::Stopping).await;
        self.stop.cancel();
        let drained = tokio::time::timeout(self.drain_time, async {
            while self.doors.join_next().await.is_some() {}
            self.app.finish().await;
        });
        if drained.await.is_err() {
            tracing::warn!("calls were still under way at the end of the drain time");
            self.doors.shutdown().await;
        }
        // A database that is away must not hold up the stop.
        let recorded = tokio::time::timeout(RECORD_TIME, self.app.record_key_uses(DueUses::All)).await;
        if !matches!(recorded, Ok(Ok(()))) {
            tracing::warn!("the last uses of access keys were not recorded");
        }
        self.app.leave().await;
        self.database.close().await;
        self.monitoring.shutdown().await;
    }
}

async fn listen(
    name: &'static str,
    address: SocketAddr,
    tls: Option<Arc<Tls>>,
    places: Places,
) -> Result<(Listener, SocketAddr), StartError> {
    let failed = |error| StartError::Listen(address, error);
    let listener = Listener::bind(name, address, tls, places).await.map_err(failed)?;
    let bound = listener.address().map_err(failed)?;
    Ok((listener, bound))
}

/// Migrates the schema and opens the use cases. Waits until the database accepts writes.
async fn open_app(
    database: &mut Database,
    config: &Config,
    policy: &Policy,
    ali_cloud: &Option<AliCloud>,
) -> Result<App, DatabaseError> {
    let mut wait = Wait::of_service();
    loop {
        match try_open_app(database, config, policy.clone(), ali_cloud.clone()).await {
            Ok(app) => return Ok(app),
            Err(error) => wait.after(error, database).await?,
        }
    }
}

async fn try_open_app(
    database: &mut Database,
    config: &Config,
    policy: Policy,
    ali_cloud: Option<AliCloud>,
) -> Result<App, DatabaseError> {
    database.migrate().await?;
    let store = database.store();
    for warning in store.check_durability().await? {
        tracing::warn!("{warning}");
    }
    let purges_audit = store.has_owner() && config.audit_retention.is_some();
    metrics::audit_purge_enabled(purges_audit);
    if store.can_change_audit_trail().await? {
        tracing::warn!(
            "the role of the database URL can change the audit trail: set database_owner_url, and use two roles"
        );
    }
    if !store.has_owner() && config.audit_retention.is_some() {
        tracing::warn!("audit events are never purged, because database_owner_url is not set");
    }
    let key_ring = database.key_ring().await?;
    if database.is_private() {
        // This database has no access key. A key that is in the file is another database's.
        FirstAccount::make(store, &config.database.admin_key, Existing::Replace).await?;
    }
    if let Some(AliCloud { account, .. }) = ali_cloud
        && store.account_of_all_accounts(account).await?.is_none()
    {
        tracing::warn!(%account, "cas_account is no account of this service: nobody can use certificates of Alibaba Cloud");
    }
    let regions = match &config.regions {
        None => Regions::alibaba(),
        Some(regions) => regions.iter().map(region).collect(),
    };
    let settings = Settings {
        regions,
        policy,
        server_certificate_quota: i64::from(config.server_certificate_quota),
        ca_certificate_quota: i64::from(config.ca_certificate_quota),
        access_key_quota: i64::from(config.access_key_quota),
        calls_per_second_quota: i64::from(config.account_rate),
        calls_per_second_per_key_quota: i64::from(config.access_key_rate),
        purge_wait: config.purge_wait,
        retention: config.delete_retention,
        version_retention: config.version_retention,
        version_retention_time: config.version_retention_time,
        audit_retention: config.audit_retention,
        ali_cloud,
    };
    Ok(App::open(store.clone(), key_ring, settings, &host()).await?)
}

fn ali_cloud(service: &CasService) -> Result<AliCloud, CasSetUpError> {
    Ok(AliCloud {
        account: AccountId::from_i64(service.account),
        cas: Cas::new(service.clone())?,
    })
}

/// The name of this host.
pub(crate) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn region(config: &RegionConfig) -> Region {
    let [name_zh_cn, name_en_us, name_ja] = config.names.clone();
    Region {
        id: RegionId::from_stored(config.id.clone()),
        name_zh_cn,
        name_en_us,
        name_ja,
    }
}
