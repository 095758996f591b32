//! DeliveryService. Each call parses the request, runs the use case and renders the answer.

use std::sync::Arc;

use tonic::{Request, Status};
use zeroize::Zeroize;

use super::call::call_of;
use super::certificate_service::{Answer, answer};
use super::pb::{self, delivery_service_server::DeliveryService};
use super::watch::{self, Messages};
use super::{parse, render};
use crate::app::App;
use crate::peer::Peer;
use crate::secret::Secret;

pub(super) struct Door {
    app: App,
}

impl Door {
    pub(super) fn new(app: App) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl DeliveryService for Door {
    async fn get_key_pair(&self, mut request: Request<pb::GetKeyPairRequest>) -> Answer<pb::GetKeyPairResponse> {
        let password = Secret::from(std::mem::take(&mut request.get_mut().password));
        let call = call_of(&request)?;
        let request = parse::get_key_pair(request.into_inner(), password);
        let pair = self.app.get_key_pair(&call, request).await;
        answer(&call, pair.map(|pair| render::key_pair(call.request_id, pair)))
    }

    type WatchServerCertificatesStream = Messages;

    async fn watch_server_certificates(
        &self,
        request: Request<pb::WatchServerCertificatesRequest>,
    ) -> Answer<Messages> {
        let call = call_of(&request)?;
        let peer = request.extensions().get::<Arc<Peer>>().cloned();
        let peer = peer.ok_or_else(|| Status::internal("the caller has no address"))?;
        let request = parse::watch_server_certificates(request.into_inner());
        let watch = self
            .app
            .watch(&call, &request, peer.certificate.clone(), peer.closing.clone())
            .await;
        answer(&call, watch.map(|watch| watch::messages(call.request_id, watch)))
    }
}

/// The answer is dropped when it is encoded. The buffers of the transport are not wiped: docs/security.md.
impl Drop for pb::GetKeyPairResponse {
    fn drop(&mut self) {
        self.private_key.zeroize();
        self.pkcs12.zeroize();
    }
}
