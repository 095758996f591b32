//! Whether the service can serve: watched, told to gRPC's health and to the listener for metrics.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::app::App;
use crate::grpc;
use crate::store::Store;
use crate::telemetry::metrics;

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A database that is slower than this counts as away.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);
/// One slow answer is no reason to send callers elsewhere.
const MISSES: u32 = 2;
const COUNT_EVERY: Duration = Duration::from_secs(300);
const KEEP_HOUSE_EVERY: Duration = Duration::from_secs(300);

/// What the service can do now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    /// It opens and migrates its database.
    Starting,
    /// It answers calls.
    Serving,
    /// Postgres can't be reached or written.
    DatabaseAway,
    /// It finishes the calls under way.
    Stopping,
}

impl State {
    fn text(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::DatabaseAway => "the database can not be reached or written",
            Self::Stopping => "stopping",
        }
    }
}

/// Tells `state` and gRPC's health whether Postgres takes writes, until it is dropped.
pub(super) async fn watch_database(store: Store, health: HealthReporter, state: watch::Sender<State>) {
    let mut misses = 0;
    loop {
        metrics::tidy();
        metrics::database_connections(store.connections());
        let answer = tokio::time::timeout(ANSWERS_WITHIN, store.can_write()).await;
        misses = if matches!(answer, Ok(Ok(true))) { 0 } else { misses + 1 };
        let is_up = misses < MISSES;
        metrics::database_up(is_up);
        let now = if is_up { State::Serving } else { State::DatabaseAway };
        let before = state.send_replace(now);
        if before != now {
            match now {
                State::DatabaseAway => tracing::error!("the database can not be reached or written"),
                _ => tracing::info!("the database takes writes"),
            }
            set_health(&health, is_up).await;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

pub(super) async fn set_health(health: &HealthReporter, is_serving: bool) {
    let status = if is_serving {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    };
    for service in grpc::SERVICES {
        health.set_service_status(service, status).await;
    }
}

/// Counts certificates by the time they have left, now and then, until it is dropped.
pub(super) async fn count_certificates(app: App) {
    loop {
        match app.time_left().await {
            Ok(left) => {
                metrics::certificates("expired", left.expired);
                metrics::certificates("7d", left.week);
                metrics::certificates("30d", left.month);
                metrics::certificates("90d", left.quarter);
                metrics::certificates("later", left.later);
            }
            Err(error) => tracing::warn!(reason = %error.reason(), "the certificates could not be counted"),
        }
        tokio::time::sleep(COUNT_EVERY).await;
    }
}

/// Removes what is past its time, now and then, until it is dropped.
pub(super) async fn keep_house(app: App) {
    loop {
        if let Err(error) = app.keep_house().await {
            tracing::warn!(reason = %error.reason(), "what is past its time could not be removed");
        }
        tokio::time::sleep(KEEP_HOUSE_EVERY).await;
    }
}

/// The listener for metrics and health. It serves until it is dropped.
pub(super) struct Monitor {
    listener: TcpListener,
}

impl Monitor {
    pub(super) async fn bind(address: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            listener: TcpListener::bind(address).await?,
        })
    }

    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    pub(super) async fn serve(self, state: watch::Receiver<State>) {
        let readiness = move || {
            let state = *state.borrow();
            let code = if state == State::Serving {
                StatusCode::OK
            } else {
                StatusCode::SERVICE_UNAVAILABLE
            };
            std::future::ready((code, format!("{}\n", state.text())))
        };
        let text = || std::future::ready(([("content-type", "text/plain; version=0.0.4")], metrics::render()));
        let routes = Router::new()
            .route("/metrics", get(text))
            .route("/healthz", get(|| std::future::ready("alive\n")))
            .route("/readyz", get(readiness));
        if let Err(error) = axum::serve(self.listener, routes).await {
            tracing::error!(%error, "the listener for metrics failed");
        }
    }
}
