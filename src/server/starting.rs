//! What callers are told while the database is opened and migrated: health says NOT_SERVING, all else is unavailable.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic_health::server::HealthReporter;

use super::listener::Connections;
use super::monitor::set_health;
use crate::grpc;

/// Calls of this time are answered at once.
const ENDS_WITHIN: Duration = Duration::from_secs(2);

pub(super) struct Starting {
    health: HealthReporter,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Starting {
    pub(super) async fn serve(connections: Connections) -> Self {
        let (health, service) = tonic_health::server::health_reporter();
        set_health(&health, false).await;
        let (stop, stopped) = oneshot::channel();
        let routes = tonic::transport::Server::builder()
            .layer(grpc::StartingLayer)
            .add_service(service);
        let serving = tokio::spawn(routes.serve_with_incoming_shutdown(connections, async {
            // A sender that was dropped asks for the same.
            let _ = stopped.await;
        }));
        Self { health, stop, serving }
    }

    /// Ends the connections made so far: their callers connect anew, to what is served then.
    pub(super) async fn end(self) {
        for service in grpc::SERVICES {
            // Ends the streams of who watches.
            let mut health = self.health.clone();
            health.clear_service_status(service).await;
        }
        // The receiver is gone only if serving ended by itself.
        let _ = self.stop.send(());
        if tokio::time::timeout(ENDS_WITHIN, self.serving).await.is_err() {
            tracing::warn!("calls from the start were still under way");
        }
    }
}
