//! Whether the service can serve, for gRPC's health service and for the monitoring listener.

use tokio::sync::watch;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server;
use tonic_health::server::{HealthReporter, HealthService};

use crate::grpc;

/// The names in gRPC's health service of the readiness for reads and for writes. The names of the services, and the empty name, say
/// what [`WRITE`] says.
pub(super) const READ: &str = "certkeep.read";
const WRITE: &str = "certkeep.write";

/// What the service can do now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    /// It opens and migrates its database.
    Starting,
    /// It answers calls.
    Serving,
    /// Postgres accepts reads and no writes.
    ReadOnly,
    /// Postgres does not answer.
    DatabaseDown,
    /// It finishes the calls under way.
    Stopping,
}

impl State {
    /// Whether calls that change nothing can be answered.
    pub(super) fn can_read(self) -> bool {
        matches!(self, Self::Serving | Self::ReadOnly)
    }

    /// Whether all calls can be answered.
    pub(super) fn can_write(self) -> bool {
        self == Self::Serving
    }

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::ReadOnly => "the database accepts reads only",
            Self::DatabaseDown => "the database does not answer",
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
        let status = |is_ready| match is_ready {
            true => ServingStatus::Serving,
            false => ServingStatus::NotServing,
        };
        for service in grpc::SERVICES.into_iter().chain([WRITE]) {
            self.reporter
                .set_service_status(service, status(state.can_write()))
                .await;
        }
        self.reporter.set_service_status(READ, status(state.can_read())).await;
        before
    }
}
