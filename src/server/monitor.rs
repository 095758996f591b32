//! The monitoring routes: metrics for Prometheus, and health over HTTP.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;

use super::health::{Health, State};
use crate::telemetry::metrics;

pub(super) fn routes(health: Health) -> Router {
    let readiness = |is_ready: fn(State) -> bool| {
        let health = health.clone();
        get(move || {
            let state = health.state();
            let code = match is_ready(state) {
                true => StatusCode::OK,
                false => StatusCode::SERVICE_UNAVAILABLE,
            };
            std::future::ready((code, format!("{}\n", state.text())))
        })
    };
    let text = || std::future::ready(([("content-type", "text/plain; version=0.0.4")], metrics::render()));
    Router::new()
        .route("/metrics", get(text))
        .route("/healthz", get(|| std::future::ready("alive\n")))
        .route("/readyz", readiness(State::can_write))
        .route("/readyz/read", readiness(State::can_read))
}
