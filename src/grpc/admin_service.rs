//! AdminService. Each call parses the request, runs the use case and renders the answer.

use tonic::{Request, Response};

use super::call::call_of;
use super::certificate_service::{Answer, answer};
use super::pb::{self, admin_service_server::AdminService};
use super::render;
use crate::app::App;
use crate::clock;

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

    async fn describe_caller(&self, request: Request<pb::DescribeCallerRequest>) -> Answer<pb::DescribeCallerResponse> {
        let call = call_of(&request)?;
        Ok(Response::new(render::caller(&call, clock::now())))
    }
}
