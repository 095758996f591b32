//! DeliveryService. Each call parses the request, runs the use case and renders the answer.

use super::pb::delivery_service_server::DeliveryService;
use crate::app::App;

pub(super) struct Door {
    #[allow(dead_code, reason = "the first method uses it")]
    app: App,
}

impl Door {
    pub(super) fn new(app: App) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl DeliveryService for Door {}
