//! OperatorService. Each call parses the request, runs the use case and renders the answer.

use std::pin::Pin;

use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::call::{call_of, certificate_of};
use super::certificate_service::{Answer, answer};
use super::pb::{self, operator_service_server::OperatorService};
use super::status::status;
use super::{parse, render};
use crate::app::{App, VerifyKeyRing};

pub(super) struct Door {
    app: App,
}

impl Door {
    pub(super) fn new(app: App) -> Self {
        Self { app }
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl OperatorService for Door {
    async fn create_account(&self, request: Request<pb::CreateAccountRequest>) -> Answer<pb::CreateAccountResponse> {
        let call = call_of(&request)?;
        let message = request.into_inner();
        let created = self
            .app
            .create_account(&call, &message.name, &message.secret_sha256)
            .await;
        answer(
            &call,
            created.map(|created| pb::CreateAccountResponse {
                request_id: call.request_id.to_string(),
                account: Some(render::account(created.account)),
                secret: render::secret(created.key.secret.as_ref()),
                access_key: Some(render::access_key(created.key.key)),
            }),
        )
    }

    async fn list_accounts(&self, request: Request<pb::ListAccountsRequest>) -> Answer<pb::ListAccountsResponse> {
        let call = call_of(&request)?;
        let message = request.into_inner();
        let listed = self.app.accounts(&call, message.page_size, &message.page_token).await;
        answer(
            &call,
            listed.map(|listed| pb::ListAccountsResponse {
                request_id: call.request_id.to_string(),
                accounts: listed.accounts.into_iter().map(render::account).collect(),
                next_page_token: listed.next_page_token,
            }),
        )
    }

    async fn update_account(&self, request: Request<pb::UpdateAccountRequest>) -> Answer<pb::UpdateAccountResponse> {
        let call = call_of(&request)?;
        let message = request.into_inner();
        let updated = self
            .app
            .update_account(&call, &message.account_id, message.name.as_deref(), message.disabled)
            .await;
        answer(
            &call,
            updated.map(|account| pb::UpdateAccountResponse {
                request_id: call.request_id.to_string(),
                account: Some(render::account(account)),
            }),
        )
    }

    async fn create_account_admin_key(
        &self,
        request: Request<pb::CreateAccountAdminKeyRequest>,
    ) -> Answer<pb::CreateAccountAdminKeyResponse> {
        let call = call_of(&request)?;
        let message = request.into_inner();
        let created = self
            .app
            .create_account_admin_key(&call, &message.account_id, &message.description, &message.secret_sha256)
            .await;
        answer(
            &call,
            created.map(|created| pb::CreateAccountAdminKeyResponse {
                request_id: call.request_id.to_string(),
                secret: render::secret(created.secret.as_ref()),
                access_key: Some(render::access_key(created.key)),
            }),
        )
    }

    async fn describe_account_quotas(
        &self,
        request: Request<pb::DescribeAccountQuotasRequest>,
    ) -> Answer<pb::DescribeAccountQuotasResponse> {
        let call = call_of(&request)?;
        let quotas = self.app.account_quotas(&request.into_inner().account_id).await;
        answer(
            &call,
            quotas.map(|quotas| pb::DescribeAccountQuotasResponse {
                request_id: call.request_id.to_string(),
                quotas: quotas.into_iter().map(render::quota).collect(),
            }),
        )
    }

    async fn update_quota(&self, request: Request<pb::UpdateQuotaRequest>) -> Answer<pb::UpdateQuotaResponse> {
        let call = call_of(&request)?;
        let request = parse::update_quota(request.into_inner());
        let updated = self.app.update_quota(&call, &request).await;
        answer(
            &call,
            updated.map(|quota| pb::UpdateQuotaResponse {
                request_id: call.request_id.to_string(),
                quota: Some(render::quota(quota)),
            }),
        )
    }

    async fn describe_key_ring(
        &self,
        request: Request<pb::DescribeKeyRingRequest>,
    ) -> Answer<pb::DescribeKeyRingResponse> {
        let call = call_of(&request)?;
        let described = self.app.describe_key_ring().await;
        answer(
            &call,
            described.map(|described| render::key_ring(call.request_id, described)),
        )
    }

    async fn rotate_key_ring(&self, request: Request<pb::RotateKeyRingRequest>) -> Answer<pb::RotateKeyRingResponse> {
        let call = call_of(&request)?;
        let key = request.into_inner().key_encryption_key_id;
        let rotation = self.app.rotate_key_ring(&call, &key).await;
        answer(
            &call,
            rotation.map(|rotation| pb::RotateKeyRingResponse {
                request_id: call.request_id.to_string(),
                rotation: Some(render::key_rotation(rotation)),
            }),
        )
    }

    type VerifyKeyRingStream = Answers<pb::VerifyKeyRingResponse>;

    async fn verify_key_ring(
        &self,
        request: Request<pb::VerifyKeyRingRequest>,
    ) -> Answer<Answers<pb::VerifyKeyRingResponse>> {
        let call = call_of(&request)?;
        let certificate = certificate_of(&request);
        let message = request.into_inner();
        let request = VerifyKeyRing {
            rate: message.rate,
            resume_token: message.resume_token,
        };
        let request_id = call.request_id;
        let steps = self
            .app
            .verify_key_ring(&call, &request, certificate)
            .map_err(|error| status(request_id, &error))?;
        let steps = ReceiverStream::new(steps).map(move |step| match step {
            Ok(step) => Ok(render::verified_rows(request_id, step)),
            Err(error) => Err(status(request_id, &error)),
        });
        Ok(Response::new(Box::pin(steps)))
    }

    async fn retire_key_encryption_key(
        &self,
        request: Request<pb::RetireKeyEncryptionKeyRequest>,
    ) -> Answer<pb::RetireKeyEncryptionKeyResponse> {
        let call = call_of(&request)?;
        let key = request.into_inner().key_encryption_key_id;
        let retired = self.app.retire_key_encryption_key(&call, &key).await;
        answer(
            &call,
            retired.map(|()| pb::RetireKeyEncryptionKeyResponse {
                request_id: call.request_id.to_string(),
            }),
        )
    }

    async fn create_client_identity(
        &self,
        request: Request<pb::CreateClientIdentityRequest>,
    ) -> Answer<pb::CreateClientIdentityResponse> {
        let call = call_of(&request)?;
        let new = parse::new_client_identity(request.into_inner());
        let created = self.app.create_client_identity(&call, &new).await;
        answer(
            &call,
            created.map(|identity| pb::CreateClientIdentityResponse {
                request_id: call.request_id.to_string(),
                client_identity: Some(render::client_identity(identity)),
            }),
        )
    }

    async fn list_client_identities(
        &self,
        request: Request<pb::ListClientIdentitiesRequest>,
    ) -> Answer<pb::ListClientIdentitiesResponse> {
        let call = call_of(&request)?;
        let message = request.into_inner();
        let listed = self
            .app
            .list_client_identities(&call, &message.account_id, message.page_size, &message.page_token)
            .await;
        answer(
            &call,
            listed.map(|listed| pb::ListClientIdentitiesResponse {
                request_id: call.request_id.to_string(),
                client_identities: listed.identities.into_iter().map(render::client_identity).collect(),
                next_page_token: listed.next_page_token,
            }),
        )
    }

    async fn delete_client_identity(
        &self,
        request: Request<pb::DeleteClientIdentityRequest>,
    ) -> Answer<pb::DeleteClientIdentityResponse> {
        let call = call_of(&request)?;
        let message = request.into_inner();
        let kind = parse::identity_kind(message.kind());
        let deleted = self.app.delete_client_identity(&call, kind, &message.value).await;
        answer(
            &call,
            deleted.map(|()| pb::DeleteClientIdentityResponse {
                request_id: call.request_id.to_string(),
            }),
        )
    }
}
