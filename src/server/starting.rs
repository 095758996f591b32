//! What callers are told while the database is opened and migrated: health says NOT_SERVING, all else is unavailable.

use std::time::Duration;

use tonic_health::server::HealthReporter;

use super::listener::Connections;
use super::monitor::set_health;
use super::serving::Serving;
use crate::grpc;

/// Calls of this time are answered at once.
const ENDS_WITHIN: Duration = Duration::from_secs(2);

pub(super) struct Starting {
    health: HealthReporter,
    serving: Serving,
}

impl Starting {
    pub(super) async fn serve(connections: Connections) -> Self {
        let (health, service) = tonic_health::server::health_reporter();
        set_health(&health, false).await;
        let routes = tonic::transport::Server::builder()
            .layer(grpc::StartingLayer)
            .add_service(service);
        let serving = Serving::start(|stop| routes.serve_with_incoming_shutdown(connections, stop));
        Self { health, serving }
    }

    /// Ends the connections made so far: their callers connect anew, to what is served then.
    pub(super) async fn end(self) {
        for service in grpc::SERVICES {
            // Ends the streams of who watches.
            let mut health = self.health.clone();
            health.clear_service_status(service).await;
        }
        if tokio::time::timeout(ENDS_WITHIN, self.serving.drain()).await.is_err() {
            tracing::warn!("calls from the start were still under way");
        }
    }
}
