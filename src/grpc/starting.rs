//! Calls that come before the service can answer them.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use super::status::unavailable;
use crate::app::RequestId;

/// Lets health through, and refuses all else as unavailable.
#[derive(Clone)]
pub struct StartingLayer;

impl<S> Layer<S> for StartingLayer {
    type Service = StartingService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        StartingService { inner }
    }
}

/// See [`StartingLayer`].
#[derive(Clone)]
pub struct StartingService<S> {
    inner: S,
}

impl<S> Service<Request<Body>> for StartingService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.uri().path().starts_with("/grpc.health.v1.") {
            return Box::pin(self.inner.call(request));
        }
        let response = match RequestId::random() {
            Ok(request_id) => unavailable(request_id, "the service is starting and nothing was changed: try again"),
            Err(_) => Status::unavailable("the service is starting: try again"),
        };
        Box::pin(std::future::ready(Ok(response.into_http())))
    }
}
