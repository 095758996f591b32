//! Metrics for Prometheus: their names, descriptions and values. Labels have few values: no account, id or text of a caller.

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

const CALLS: &str = "certkeep_calls_total";
const CALL_DURATION: &str = "certkeep_call_duration_seconds";
const REFUSALS: &str = "certkeep_refusals_total";
const UPLOADS: &str = "certkeep_uploads_total";
const CERTIFICATES: &str = "certkeep_certificates";
const DATABASE_UP: &str = "certkeep_database_up";
const DATABASE_CONNECTIONS: [(&str, &str); 4] = [
    ("certkeep_database_connections", "Open connections to Postgres"),
    ("certkeep_database_connections_idle", "Idle connections to Postgres"),
    (
        "certkeep_database_connections_max",
        "Maximum number of connections to Postgres",
    ),
    (
        "certkeep_database_waiting",
        "Calls that wait for a connection to Postgres",
    ),
];
const CONNECTIONS: &str = "certkeep_connections";
const BUILD_INFO: &str = "certkeep_build_info";

/// In seconds. A describe takes a fraction of a millisecond, an upload a few milliseconds.
const BUCKETS: [f64; 12] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0,
];

static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Starts recording. Earlier events are not counted. A second call does nothing.
pub fn begin() {
    RECORDER.get_or_init(|| {
        let builder =
            PrometheusBuilder::new().set_buckets_for_metric(Matcher::Full(CALL_DURATION.to_owned()), &BUCKETS);
        let handle = builder.and_then(PrometheusBuilder::install_recorder);
        describe_counter!(CALLS, "Answered calls by method and gRPC code");
        describe_histogram!(CALL_DURATION, "Duration of calls by method, in seconds");
        describe_counter!(REFUSALS, "Errors by reason");
        describe_counter!(UPLOADS, "Stored certificates of both kinds");
        describe_gauge!(CERTIFICATES, "Live server certificates by time left");
        describe_gauge!(DATABASE_UP, "1 if Postgres is writable, else 0");
        for (name, text) in DATABASE_CONNECTIONS {
            describe_gauge!(name, text);
        }
        describe_gauge!(CONNECTIONS, "Open client connections");
        describe_gauge!(BUILD_INFO, "Always 1, with the version");
        // Start at 0, so that the first upload is an increase.
        counter!(UPLOADS).absolute(0);
        gauge!(CONNECTIONS).set(0);
        gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1);
        handle
            .inspect_err(|error| tracing::error!(%error, "metrics are not available"))
            .ok()
    });
}

/// Aggregates the recorded samples. Each sample takes memory until then, so call this regularly, even if nobody reads the metrics.
pub fn tidy() {
    if let Some(handle) = RECORDER.get().and_then(Option::as_ref) {
        handle.run_upkeep();
    }
}

/// All metrics in Prometheus's text format.
pub fn render() -> String {
    let handle = RECORDER.get().and_then(Option::as_ref);
    handle.map(PrometheusHandle::render).unwrap_or_default()
}

/// Records an answered call.
pub fn answered(method: &str, code: &str, duration: Duration) {
    counter!(CALLS, "method" => method.to_owned(), "code" => code.to_owned()).increment(1);
    histogram!(CALL_DURATION, "method" => method.to_owned()).record(duration.as_secs_f64());
}

/// Records an error.
pub fn refused(reason: &'static str) {
    counter!(REFUSALS, "reason" => reason).increment(1);
}

/// Records a stored certificate.
pub fn uploaded() {
    counter!(UPLOADS).increment(1);
}

/// Sets the number of certificates in a bucket of time left.
pub fn certificates(expires_in: &'static str, count: i64) {
    gauge!(CERTIFICATES, "expires_in" => expires_in).set(count as f64);
}

/// Sets whether Postgres is writable.
pub fn database_up(is_up: bool) {
    gauge!(DATABASE_UP).set(f64::from(u8::from(is_up)));
}

/// Sets the connections to Postgres: open, idle, maximum, and calls that wait for one.
pub fn database_connections(counts: [usize; 4]) {
    for ((name, _), count) in DATABASE_CONNECTIONS.into_iter().zip(counts) {
        gauge!(name).set(count as f64);
    }
}

/// A client connection. It is counted until this is dropped.
pub struct OpenConnection(());

impl OpenConnection {
    /// Counts one connection.
    pub fn count() -> Self {
        gauge!(CONNECTIONS).increment(1);
        Self(())
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        gauge!(CONNECTIONS).decrement(1);
    }
}
