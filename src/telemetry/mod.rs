//! Logs, traces and metrics. Logs go to standard error: text on a terminal, otherwise JSON. Traces go to an OTLP endpoint, if one is
//! set. Metrics: see [`metrics`].

mod json;
pub mod metrics;
mod traces;

use std::io::IsTerminal;
use std::str::FromStr;

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{FilterExt, ParseError, Targets, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

pub use traces::continue_trace;

/// Libraries that print parameters and frames below info. certkeep drops these lines with any filter.
const NEVER_BELOW_INFO: [&str; 4] = ["tokio_postgres", "h2", "hyper", "rustls"];
const NAME: &str = "certkeep";

/// The log filter: directives of tracing-subscriber, for example `info` or `certkeep=debug`.
pub struct Filter(EnvFilter);

impl FromStr for Filter {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        EnvFilter::builder().parse(text).map(Self)
    }
}

/// Traces cannot be exported to this endpoint.
#[derive(Debug, thiserror::Error)]
#[error("otlp_endpoint is not usable")]
pub struct Error(#[from] opentelemetry_otlp::ExporterBuildError);

/// Sends the remaining traces when it is dropped.
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.traces.take().map(|traces| traces.shutdown()) {
            tracing::warn!(%error, "sending the last traces failed");
        }
    }
}

/// Starts logs and traces. `otlp_endpoint` receives a span for each call, over gRPC.
pub fn begin(Filter(filter): Filter, otlp_endpoint: Option<&http::Uri>) -> Result<Telemetry, Error> {
    let quiet = filter_fn(|metadata| *metadata.level() <= LevelFilter::INFO || !is_quiet(metadata.target()))
        // Without this hint, libraries produce all their traces, and the filter drops them one by one.
        .with_max_level_hint(LevelFilter::TRACE);
    let logs = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let logs = if std::io::stderr().is_terminal() {
        logs.boxed()
    } else {
        logs.fmt_fields(json::JsonMembers).event_format(json::JsonLine).boxed()
    };
    let traces = otlp_endpoint.map(traces::provider).transpose()?;
    let spans = traces.as_ref().map(|traces| {
        tracing_opentelemetry::layer()
            .with_tracer(traces.tracer(NAME))
            .with_location(false)
            .with_threads(false)
            // Only certkeep's spans: spans of the exporter's transport would cause more spans.
            .with_filter(Targets::new().with_target(NAME, LevelFilter::INFO))
    });
    tracing_subscriber::registry()
        .with(logs.with_filter(filter.and(quiet)))
        .with(spans)
        .init();
    Ok(Telemetry { traces })
}

fn is_quiet(target: &str) -> bool {
    NEVER_BELOW_INFO
        .iter()
        .any(|library| target == *library || target.starts_with(&format!("{library}::")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_is_matched_by_its_whole_name() {
        assert!(is_quiet("tokio_postgres::connection"));
        assert!(is_quiet("h2"));
        assert!(!is_quiet("h2o"));
        assert!(!is_quiet("certkeep::store"));
    }
}
