//! Logs, traces and metrics. Logs go to standard error: as text to a terminal, else as JSON. Traces go to a collector over OTLP, if one
//! is configured. For metrics see [`metrics`].

mod causes;
mod json;
pub mod metrics;
#[cfg(target_os = "linux")]
mod process;
pub mod rankings;
mod seldom;
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

pub use causes::causes;
pub use seldom::Seldom;
pub use traces::{AnswerCode, Export, ServedCall, end_call, start_call, statement, step};

/// Libraries that print parameters and frames below info. No filter makes them do so here.
const NEVER_BELOW_INFO: [&str; 4] = ["tokio_postgres", "h2", "hyper", "rustls"];
/// The HTTP/2 library warns of each broken frame, so callers could fill the log. No filter lets these warnings through.
const ERRORS_ONLY: &str = "h2";
const NAME: &str = "certkeep";

/// The log filter: tracing-subscriber's directives, for example `info` or `certkeep=debug`.
pub struct Filter(EnvFilter);

impl FromStr for Filter {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        EnvFilter::builder().parse(text).map(Self)
    }
}

/// Traces can't be exported to this endpoint.
#[derive(Debug, thiserror::Error)]
#[error("otlp_endpoint cannot be used")]
pub struct Error(#[from] opentelemetry_otlp::ExporterBuildError);

/// The exporters. Dropped, it sends the last traces.
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

/// Starts logs, and traces if `export` says where they go.
pub fn begin(Filter(filter): Filter, export: Option<&Export<'_>>) -> Result<Telemetry, Error> {
    let loggable = filter_fn(|metadata| {
        let (level, target) = (*metadata.level(), metadata.target());
        let is_broken_frame = level > LevelFilter::ERROR && is_of(target, ERRORS_ONLY);
        (level <= LevelFilter::INFO || !is_quiet(target)) && !is_broken_frame && target != traces::INNER
    })
    // Without this hint, every event of every library is built and then refused.
    .with_max_level_hint(LevelFilter::TRACE);
    let logs = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let logs = if std::io::stderr().is_terminal() {
        logs.boxed()
    } else {
        logs.fmt_fields(json::JsonMembers).event_format(json::JsonLine).boxed()
    };
    let traces = export.map(traces::provider).transpose()?;
    let spans = traces.as_ref().map(|traces| {
        tracing_opentelemetry::layer()
            .with_tracer(traces.tracer(NAME))
            .with_location(false)
            .with_threads(false)
            // certkeep's own spans only: exporting the spans of the exporter's transport would create more of them.
            .with_filter(Targets::new().with_target(NAME, LevelFilter::INFO))
    });
    tracing_subscriber::registry()
        .with(logs.with_filter(filter.and(loggable)))
        .with(spans)
        .init();
    Ok(Telemetry { traces })
}

fn is_quiet(target: &str) -> bool {
    NEVER_BELOW_INFO.iter().any(|library| is_of(target, library))
}

fn is_of(target: &str, library: &str) -> bool {
    target
        .strip_prefix(library)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_libraries_are_told_by_their_whole_name() {
        assert!(is_quiet("tokio_postgres::connection"));
        assert!(is_quiet("h2"));
        assert!(!is_quiet("h2o"));
        assert!(!is_quiet("certkeep::store"));
    }
}
