//! DeliveryService. Each call parses the request, runs the use case and renders the answer.

use std::sync::Arc;

use tonic::{Request, Status};

use super::call::call_of;
use super::certificate_service::{Answer, answer};
use super::pb::{self, delivery_service_server::DeliveryService};
use super::watch::{self, Messages};
use super::{parse, render};
use crate::app::{App, BindCertificate, ListLeases, RenewLeases};
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
        let peer = request.extensions().get::<Arc<Peer>>();
        let client_certificate = peer.and_then(|peer| peer.certificate.clone());
        let request = parse::get_key_pair(request.into_inner(), password, client_certificate);
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
        let user_agent = user_agent_of(&request);
        let request = parse::watch_server_certificates(request.into_inner(), user_agent);
        let watch = self
            .app
            .watch(&call, &request, peer.certificate.clone(), peer.closing.clone())
            .await;
        answer(&call, watch.map(|watch| watch::messages(call.request_id, watch)))
    }

    async fn bind_server_certificate(
        &self,
        request: Request<pb::BindServerCertificateRequest>,
    ) -> Answer<pb::BindServerCertificateResponse> {
        let call = call_of(&request)?;
        let user_agent = user_agent_of(&request);
        let message = request.into_inner();
        let request = BindCertificate {
            region_id: message.region_id,
            id: message.server_certificate_id,
            holder: message.holder,
            ttl_seconds: message.ttl_seconds,
            version: message.version,
            user_agent,
        };
        let bound = self.app.bind(&call, &request).await;
        answer(
            &call,
            bound.map(|lease| pb::BindServerCertificateResponse {
                request_id: call.request_id.to_string(),
                lease: Some(render::lease(lease)),
            }),
        )
    }

    async fn renew_leases(&self, request: Request<pb::RenewLeasesRequest>) -> Answer<pb::RenewLeasesResponse> {
        let call = call_of(&request)?;
        let user_agent = user_agent_of(&request);
        let message = request.into_inner();
        let request = RenewLeases {
            holder: message.holder,
            versions: message.versions.into_iter().collect(),
            user_agent,
        };
        let renewed = self.app.renew_leases(&call, &request).await;
        answer(
            &call,
            renewed.map(|renewed| pb::RenewLeasesResponse {
                request_id: call.request_id.to_string(),
                expire_time: Some(render::timestamp(renewed.expires)),
                versions: renewed
                    .versions
                    .into_iter()
                    .map(|(id, version)| (id.to_string(), version))
                    .collect(),
            }),
        )
    }

    async fn release_server_certificate(
        &self,
        request: Request<pb::ReleaseServerCertificateRequest>,
    ) -> Answer<pb::ReleaseServerCertificateResponse> {
        let call = call_of(&request)?;
        let message = request.into_inner();
        let what = (&message.server_certificate_ids[..], message.all);
        let released = self.app.release(&call, &message.holder, what).await;
        answer(
            &call,
            released.map(|()| pb::ReleaseServerCertificateResponse {
                request_id: call.request_id.to_string(),
            }),
        )
    }

    async fn list_leases(&self, request: Request<pb::ListLeasesRequest>) -> Answer<pb::ListLeasesResponse> {
        let call = call_of(&request)?;
        let message = request.into_inner();
        let request = ListLeases {
            id: message.server_certificate_id,
            holder: message.holder,
            behind: message.behind,
            page_size: message.page_size,
            page_token: message.page_token,
        };
        let listed = self.app.list_leases(&call, &request).await;
        answer(
            &call,
            listed.map(|listed| pb::ListLeasesResponse {
                request_id: call.request_id.to_string(),
                leases: listed.leases.into_iter().map(render::lease).collect(),
                next_page_token: listed.next_page_token,
            }),
        )
    }
}

/// The caller's program and version, as the caller says.
pub(super) fn user_agent_of<T>(request: &Request<T>) -> String {
    let value = request.metadata().get("user-agent");
    value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned()
}
