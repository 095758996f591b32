//! Puts the rooms together and serves until it is told to stop.

mod database;
mod listener;
mod monitor;
mod serving;
mod starting;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::transport::server::Router;
use tonic_health::server::HealthReporter;
use tower::layer::util::{Identity, Stack};

pub use database::{Database, DatabaseError};
pub use listener::{Connections, Listener};
pub use serving::Serving;
pub use tls::TlsError;

use crate::app::{App, BootstrapError, FirstAccount, SealingError};
use crate::app::{Policy, Settings};
use crate::config::{Config, RegionConfig};
use crate::grpc;
use crate::inventory::{Region, RegionId, Regions};
use crate::secret::Existing;
use crate::telemetry::metrics;
use monitor::{Monitor, State, count_certificates, keep_house, set_health, watch_database};
use starting::Starting;

/// A caller that has not answered a ping by then is gone.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address can't be listened on.
    #[error("can not listen on {0}: {1}")]
    Listen(SocketAddr, #[source] io::Error),
    /// The listener's certificate can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// There is no database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The first account could not be made.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// The key ring does not fit the database.
    #[error(transparent)]
    Sealing(#[from] SealingError),
    /// The schema's descriptors can't be served.
    #[error("reflection can not be set up")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// A certkeep that serves.
pub struct Server {
    address: SocketAddr,
    metrics_address: Option<SocketAddr>,
    database: Database,
    drain_time: Duration,
    health: HealthReporter,
    state: watch::Sender<State>,
    /// What watches and tells; ends with this.
    background: JoinSet<()>,
    /// The listener for metrics and health; ends with this.
    monitoring: JoinSet<()>,
    app: App,
    serving: Serving,
}

impl Server {
    /// Opens the database and serves; returns when calls are answered. Health is told from the start, on both listeners.
    pub async fn start(
        config: &Config,
        policy: Policy,
        path_env: Option<&std::ffi::OsStr>,
    ) -> Result<Self, StartError> {
        metrics::begin();
        // Before all else: a port that is taken shall cost nothing.
        let tls = config.tls.as_ref().map(tls::acceptor).transpose()?;
        let failed = |error| StartError::Listen(config.listen, error);
        let listener = Listener::bind(config.listen, tls, config.max_connections)
            .await
            .map_err(failed)?;
        let address = listener.address().map_err(failed)?;
        let (state, state_now) = watch::channel(State::Starting);
        let mut background = JoinSet::new();
        let mut monitoring = JoinSet::new();
        let mut metrics_address = None;
        if let Some(listen) = config.metrics_listen {
            let failed = |error| StartError::Listen(listen, error);
            let monitor = Monitor::bind(listen).await.map_err(failed)?;
            metrics_address = Some(monitor.address().map_err(failed)?);
            monitoring.spawn(monitor.serve(state_now));
        }

        let connections = listener.serve();
        let starting = Starting::serve(connections.clone()).await;
        let database = Database::open(&config.database, path_env).await?;
        let (health, health_service) = tonic_health::server::health_reporter();
        let (app, routes) = match Self::routes(&database, config, policy).await {
            Ok((app, routes)) => (app, routes.add_service(health_service)),
            Err(error) => {
                database.close().await;
                return Err(error);
            }
        };
        starting.end().await;
        // The database was just migrated: it takes writes.
        state.send_replace(State::Serving);
        set_health(&health, true).await;
        background.spawn(watch_database(database.store().clone(), health.clone(), state.clone()));
        background.spawn(count_certificates(app.clone()));
        background.spawn(keep_house(app.clone()));
        let serving = Serving::start(|stop| routes.serve_with_incoming_shutdown(connections, stop));
        let drain_time = config.drain_time;
        Ok(Self {
            address,
            metrics_address,
            database,
            drain_time,
            health,
            state,
            background,
            monitoring,
            app,
            serving,
        })
    }

    async fn routes(
        database: &Database,
        config: &Config,
        policy: Policy,
    ) -> Result<(App, Router<Stack<grpc::CallLayer, Identity>>), StartError> {
        let store = database.store();
        for warning in store.check_durability().await.map_err(DatabaseError::from)? {
            tracing::warn!("{warning}");
        }
        let key_ring = database.key_ring().await?;
        if database.is_private() {
            // The data directory is this database's own: what stands in the file opens nothing.
            FirstAccount::make(store, &config.database.admin_key, Existing::Replace).await?;
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
            retention: config.delete_retention,
        };
        let app = App::open(store.clone(), key_ring, settings).await?;
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(grpc::DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                // Without these grpcurl prints the details of an error in base64.
                .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        };
        let routes = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(config.keepalive))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .max_concurrent_streams(config.max_streams)
            .max_connection_age(config.max_connection_age)
            .layer(grpc::CallLayer::new(app.clone()))
            .add_service(grpc::admin_service(app.clone()))
            .add_service(grpc::certificate_service(app.clone()))
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?);
        Ok((app, routes))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where metrics and health are, if they are anywhere.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// The database that it serves.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Finishes the calls under way, within a limit, and closes the database.
    pub async fn stop(mut self) {
        // Callers that ask for its health go elsewhere.
        self.background.shutdown().await;
        self.state.send_replace(State::Stopping);
        set_health(&self.health, false).await;
        // Whoever watches its health has seen that, and its stream ends: the drain does not wait for it.
        for service in grpc::SERVICES {
            self.health.clear_service_status(service).await;
        }
        let finished = tokio::time::timeout(self.drain_time, async {
            self.serving.drain().await;
            self.app.finish().await;
        });
        if finished.await.is_err() {
            tracing::warn!("calls were still under way when the time to drain was over");
        }
        self.database.close().await;
        self.monitoring.shutdown().await;
    }
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
