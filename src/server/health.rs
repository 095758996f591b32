//! Whether the service can serve, for gRPC's health service and for the monitoring listener.

use tokio::sync::watch;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server;
use tonic_health::server::{HealthReporter, HealthService};

use crate::grpc;

/// What the service can do now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    /// It opens and migrates its database.
    Starting,
    /// It answers calls.
    Serving,
    /// Postgres does not accept writes.
    DatabaseDown,
    /// It finishes the calls under way.
    Stopping,
}

impl State {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::DatabaseDown => "the database does not accept writes",
            Self::Stopping => "stopping",
        }
    }
}

/// The state, and where it is reported. Cheap to clone.
#[derive(Clone)]
pub(super) struct Health {
    state: watch::Sender<State>,
    reporter: HealthReporter,
}

impl Health {
    /// The state is [`State::Starting`].
    pub(super) async fn new() -> Self {
        let health = Self {
            state: watch::Sender::new(State::Starting),
            reporter: HealthReporter::new(),
        };
        health.set(State::Starting).await;
        health
    }

    /// gRPC's health service.
    pub(super) fn service(&self) -> health_server::HealthServer<HealthService> {
        health_server::HealthServer::new(HealthService::from_health_reporter(self.reporter.clone()))
    }

    /// The state now.
    pub(super) fn state(&self) -> State {
        *self.state.borrow()
    }

    /// Reports a state, and returns the state before.
    pub(super) async fn set(&self, state: State) -> State {
        let before = self.state.send_replace(state);
        let status = if state == State::Serving {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        for service in grpc::SERVICES {
            self.reporter.set_service_status(service, status).await;
        }
        before
    }
}
