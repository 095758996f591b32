//! OperatorService. Each call parses the request, runs the use case and renders the answer.

use std::pin::Pin;

use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::call::call_of;
use super::certificate_service::{Answer, answer};
use super::pb::{self, operator_service_server::OperatorService};
use super::render;
use super::status::status;
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
        let message = request.into_inner();
        let request = VerifyKeyRing {
            rate: message.rate,
            resume_token: message.resume_token,
        };
        let request_id = call.request_id;
        let steps = self
            .app
            .verify_key_ring(&request)
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
}
