//! AdminService. Each call parses the request, runs the use case and renders the answer.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::audit::{self, Messages};
use super::call::{call_of, certificate_of};
use super::certificate_service::{Answer, answer};
use super::pb::{self, admin_service_server::AdminService};
use super::{parse, render};
use crate::app::App;
use crate::clock;
use crate::peer::Peer;

pub(super) struct Door {
    app: App,
}

impl Door {
    pub(super) fn new(app: App) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl AdminService for Door {
    async fn create_resource_group(
        &self,
        request: Request<pb::CreateResourceGroupRequest>,
    ) -> Answer<pb::CreateResourceGroupResponse> {
        let call = call_of(&request)?;
        let made = self.app.make_resource_group(&call, &request.into_inner().name).await;
        answer(
            &call,
            made.map(|group| pb::CreateResourceGroupResponse {
                request_id: call.request_id.to_string(),
                resource_group: Some(render::resource_group(group)),
            }),
        )
    }

    async fn list_resource_groups(
        &self,
        request: Request<pb::ListResourceGroupsRequest>,
    ) -> Answer<pb::ListResourceGroupsResponse> {
        let call = call_of(&request)?;
        let message = request.into_inner();
        let listed = self
            .app
            .resource_groups(&call, message.page_size, &message.page_token)
            .await;
        answer(
            &call,
            listed.map(|listed| pb::ListResourceGroupsResponse {
                request_id: call.request_id.to_string(),
                resource_groups: listed.groups.into_iter().map(render::resource_group).collect(),
                next_page_token: listed.next_page_token,
            }),
        )
    }

    async fn update_resource_group(
        &self,
        request: Request<pb::UpdateResourceGroupRequest>,
    ) -> Answer<pb::UpdateResourceGroupResponse> {
        let call = call_of(&request)?;
        let message = request.into_inner();
        let renamed = self
            .app
            .rename_resource_group(&call, &message.resource_group_id, &message.name)
            .await;
        answer(
            &call,
            renamed.map(|group| pb::UpdateResourceGroupResponse {
                request_id: call.request_id.to_string(),
                resource_group: Some(render::resource_group(group)),
            }),
        )
    }

    async fn delete_resource_group(
        &self,
        request: Request<pb::DeleteResourceGroupRequest>,
    ) -> Answer<pb::DeleteResourceGroupResponse> {
        let call = call_of(&request)?;
        let id = request.into_inner().resource_group_id;
        let deleted = self.app.delete_resource_group(&call, &id).await;
        answer(
            &call,
            deleted.map(|()| pb::DeleteResourceGroupResponse {
                request_id: call.request_id.to_string(),
            }),
        )
    }

    async fn list_audit_events(
        &self,
        request: Request<pb::ListAuditEventsRequest>,
    ) -> Answer<pb::ListAuditEventsResponse> {
        let call = call_of(&request)?;
        let request = audit::list_audit_events(request.into_inner());
        let listed = self.app.list_audit_events(&call, request).await;
        answer(
            &call,
            listed.map(|listed| pb::ListAuditEventsResponse {
                request_id: call.request_id.to_string(),
                audit_events: listed.events.into_iter().map(audit::audit_event).collect(),
                next_page_token: listed.next_page_token,
            }),
        )
    }

    type TailAuditEventsStream = Messages<pb::TailAuditEventsResponse>;

    async fn tail_audit_events(
        &self,
        request: Request<pb::TailAuditEventsRequest>,
    ) -> Answer<Self::TailAuditEventsStream> {
        let call = call_of(&request)?;
        let peer = request.extensions().get::<Arc<Peer>>().cloned();
        let peer = peer.ok_or_else(|| Status::internal("the caller has no address"))?;
        let resume_token = request.into_inner().resume_token;
        let tail = self
            .app
            .tail_audit_events(&call, &resume_token, peer.certificate.clone(), peer.closing.clone())
            .await;
        answer(
            &call,
            tail.map(|received| audit::messages(call.request_id, received, audit::tailed)),
        )
    }

    type VerifyAuditTrailStream = Messages<pb::VerifyAuditTrailResponse>;

    async fn verify_audit_trail(
        &self,
        request: Request<pb::VerifyAuditTrailRequest>,
    ) -> Answer<Self::VerifyAuditTrailStream> {
        let call = call_of(&request)?;
        let certificate = certificate_of(&request);
        let heads = request.into_inner().heads;
        let verifying = self.app.verify_audit_trail(&call, &heads, certificate).await;
        answer(
            &call,
            verifying.map(|received| audit::messages(call.request_id, received, audit::verification)),
        )
    }

    async fn describe_caller(&self, request: Request<pb::DescribeCallerRequest>) -> Answer<pb::DescribeCallerResponse> {
        let call = call_of(&request)?;
        Ok(Response::new(render::caller(&call, clock::now())))
    }

    async fn create_access_key(
        &self,
        request: Request<pb::CreateAccessKeyRequest>,
    ) -> Answer<pb::CreateAccessKeyResponse> {
        let call = call_of(&request)?;
        let request = parse::create_access_key(request.into_inner());
        let created = self.app.create_access_key(&call, request).await;
        answer(
            &call,
            created.map(|created| pb::CreateAccessKeyResponse {
                request_id: call.request_id.to_string(),
                secret: render::secret(created.secret.as_ref()),
                access_key: Some(render::access_key(created.key)),
            }),
        )
    }

    async fn list_access_keys(
        &self,
        request: Request<pb::ListAccessKeysRequest>,
    ) -> Answer<pb::ListAccessKeysResponse> {
        let call = call_of(&request)?;
        let request = parse::list_access_keys(request.into_inner());
        let listed = self.app.access_keys(&call, &request).await;
        answer(
            &call,
            listed.map(|listed| pb::ListAccessKeysResponse {
                request_id: call.request_id.to_string(),
                access_keys: listed.keys.into_iter().map(render::access_key).collect(),
                next_page_token: listed.next_page_token,
            }),
        )
    }

    async fn update_access_key(
        &self,
        request: Request<pb::UpdateAccessKeyRequest>,
    ) -> Answer<pb::UpdateAccessKeyResponse> {
        let call = call_of(&request)?;
        let request = parse::update_access_key(request.into_inner());
        let updated = self.app.update_access_key(&call, &request).await;
        answer(
            &call,
            updated.map(|key| pb::UpdateAccessKeyResponse {
                request_id: call.request_id.to_string(),
                access_key: Some(render::access_key(key)),
            }),
        )
    }

    async fn delete_access_key(
        &self,
        request: Request<pb::DeleteAccessKeyRequest>,
    ) -> Answer<pb::DeleteAccessKeyResponse> {
        let call = call_of(&request)?;
        let id = request.into_inner().access_key_id;
        let deleted = self.app.delete_access_key(&call, &id).await;
        answer(
            &call,
            deleted.map(|()| pb::DeleteAccessKeyResponse {
                request_id: call.request_id.to_string(),
            }),
        )
    }

    async fn describe_quotas(&self, request: Request<pb::DescribeQuotasRequest>) -> Answer<pb::DescribeQuotasResponse> {
        let call = call_of(&request)?;
        let quotas = self.app.quotas(&call).await;
        answer(
            &call,
            quotas.map(|quotas| pb::DescribeQuotasResponse {
                request_id: call.request_id.to_string(),
                quotas: quotas.into_iter().map(render::quota).collect(),
            }),
        )
    }
}
