//! Metrics for Prometheus. A label has few values: never an account, an id or a caller's text. The exceptions are [`rankings`].

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

#[cfg(target_os = "linux")]
use super::process;
use super::rankings;

const CALLS: &str = "certkeep_calls_total";
const CALL_DURATION: &str = "certkeep_call_duration_seconds";
const REFUSALS: &str = "certkeep_refusals_total";
const RATE_LIMITED: &str = "certkeep_rate_limited_total";
const FAILED_AUTHENTICATIONS: &str = "certkeep_failed_authentications_total";
const UPLOADS: &str = "certkeep_uploads_total";
const SECRETS_REFUSED: &str = "certkeep_secrets_refused_total";
const CERTIFICATES: &str = "certkeep_certificates";
const COMPROMISED: &str = "certkeep_compromised_certificates";
const DATABASE_UP: &str = "certkeep_database_up";
const DATABASE_CONNECTIONS: [(&str, &str); 4] = [
    ("certkeep_database_connections", "Open connections to Postgres"),
    (
        "certkeep_database_connections_idle",
        "Open connections to Postgres that are idle",
    ),
    (
        "certkeep_database_connections_max",
        "Maximum number of connections to Postgres",
    ),
    (
        "certkeep_database_waiting",
        "Calls that wait for a connection to Postgres",
    ),
];
const WATCHES: &str = "certkeep_watches";
const WATCH_DELAY: &str = "certkeep_watch_delay_seconds";
const TLS_NOT_AFTER: &str = "certkeep_tls_not_after_timestamp_seconds";
const CONNECTIONS: &str = "certkeep_connections";
const KEY_RING_USABLE: &str = "certkeep_key_ring_usable";
const CONNECTIONS_REFUSED: &str = "certkeep_connections_refused_total";
const CALL_MEMORY: &str = "certkeep_call_memory_bytes";
const AUDIT_PURGE_ENABLED: &str = "certkeep_audit_purge_enabled";
const AUDIT_DENIALS_DROPPED: &str = "certkeep_audit_denials_dropped_total";
const DATABASE_HOSTS_REFUSED: &str = "certkeep_database_hosts_refused_total";
const JOB_FAILURES: &str = "certkeep_job_failures_total";
const JOB_SUCCESS: &str = "certkeep_job_last_success_timestamp_seconds";
const STATEMENT_DURATION: &str = "certkeep_statement_duration_seconds";
const STATEMENT_RETRIES: &str = "certkeep_statement_retries_total";
const QUEUE_LENGTH: &str = "certkeep_batch_queue_length";
const BUILD_INFO: &str = "certkeep_build_info";

/// The names of the limits (`app::Limit`).
const LIMITS: [&str; 8] = [
    "access_key",
    "client_identity",
    "account",
    "failed_authentications",
    "unauthenticated",
    "all_unauthenticated",
    "open_calls",
    "call_memory",
];
const CREDENTIALS: [&str; 3] = ["access_key", "client_certificate", "none"];

/// Seconds. A describe takes a fraction of a millisecond, an upload a few.
const BUCKETS: [f64; 12] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0,
];

static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Starts recording. A second call does nothing.
pub fn begin() {
    RECORDER.get_or_init(|| {
        let handle = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_duration_seconds".to_owned()), &BUCKETS)
            .and_then(|builder| builder.set_buckets_for_metric(Matcher::Full(WATCH_DELAY.to_owned()), &BUCKETS))
            .and_then(PrometheusBuilder::install_recorder);
        describe_counter!(CALLS, "Calls by method and gRPC code");
        describe_histogram!(
            CALL_DURATION,
            "Duration of calls that answer one message, by method, in seconds"
        );
        describe_counter!(REFUSALS, "Errors by the reason that their callers receive");
        describe_counter!(RATE_LIMITED, "Calls refused because of a limit of their rate, by limit");
        describe_counter!(
            FAILED_AUTHENTICATIONS,
            "Failed authentications by the credential that was refused"
        );
        describe_counter!(UPLOADS, "Stored certificates");
        describe_counter!(SECRETS_REFUSED, "Certificates that a proxy refused to load");
        describe_gauge!(
            CERTIFICATES,
            "Live certificates by kind and by the time left until the earliest end of their chain"
        );
        describe_gauge!(COMPROMISED, "Live certificates whose key is on a list of compromised keys");
        describe_gauge!(DATABASE_UP, "1 if Postgres accepts writes, else 0");
        for (name, text) in DATABASE_CONNECTIONS {
            describe_gauge!(name, text);
        }
        describe_gauge!(WATCHES, "Open streams of WatchServerCertificates");
        describe_histogram!(
            WATCH_DELAY,
            "Time from a change of a certificate until a watch has its message, in seconds. It grows when watches are behind"
        );
        describe_gauge!(CONNECTIONS, "Open connections by listener");
        describe_counter!(
            CONNECTIONS_REFUSED,
            "Connections that were refused, closed or kept waiting, by listener and reason"
        );
        describe_gauge!(CALL_MEMORY, "Bytes of requests and of unsent answers");
        describe_gauge!(
            TLS_NOT_AFTER,
            "Earliest end of the certificates in a TLS file of the listener, in Unix seconds, by setting"
        );
        describe_gauge!(
            KEY_RING_USABLE,
            "1 if the file of the key ring can be used, 0 if it is gone or a start with it would fail"
        );
        describe_gauge!(
            AUDIT_PURGE_ENABLED,
            "1 if audit events are purged after their retention, else 0"
        );
        describe_counter!(
            AUDIT_DENIALS_DROPPED,
            "Denied calls that are missing in the audit trail, because the queue was full or the database failed"
        );
        describe_counter!(
            DATABASE_HOSTS_REFUSED,
            "Connections to hosts of the database that were closed, because the host is an old primary or another cluster"
        );
        describe_counter!(JOB_FAILURES, "Failed runs of the jobs in the background, by task");
        describe_gauge!(
            JOB_SUCCESS,
            "Last time when a job in the background succeeded or began, in Unix seconds, by task"
        );
        describe_histogram!(
            STATEMENT_DURATION,
            "Duration of statements in Postgres by statement, without the wait for a connection, in seconds"
        );
        describe_counter!(STATEMENT_RETRIES, "Repeated statements, by statement");
        describe_gauge!(QUEUE_LENGTH, "Items that wait for the next batch, by queue");
        describe_gauge!(BUILD_INFO, "1, with the version");
        // Prometheus sees an increase from 0 only if it has seen the 0.
        counter!(UPLOADS).absolute(0);
        counter!(SECRETS_REFUSED).absolute(0);
        for limit in LIMITS {
            counter!(RATE_LIMITED, "limit" => limit).absolute(0);
        }
        for credential in CREDENTIALS {
            counter!(FAILED_AUTHENTICATIONS, "credential" => credential).absolute(0);
        }
        counter!(AUDIT_DENIALS_DROPPED).absolute(0);
        counter!(DATABASE_HOSTS_REFUSED).absolute(0);
        gauge!(WATCHES).set(0);
        gauge!(CALL_MEMORY).set(0);
        gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1);
        handle
            .inspect_err(|error| tracing::error!(%error, "there are no metrics"))
            .ok()
    });
}

/// Merges new samples into the histograms. Without it, memory grows with each call until metrics are read.
pub fn upkeep() {
    if let Some(handle) = RECORDER.get().and_then(Option::as_ref) {
        handle.run_upkeep();
    }
}

/// All metrics in Prometheus's text format.
pub fn render() -> String {
    let Some(handle) = RECORDER.get().and_then(Option::as_ref) else {
        return String::new();
    };
    let mut text = handle.render();
    rankings::render(&mut text);
    #[cfg(target_os = "linux")]
    process::render(&mut text);
    text
}

/// Counts a call that has ended, and its duration if it answered one message.
pub fn call_ended(method: &str, code: &'static str, duration: Option<Duration>) {
    counter!(CALLS, "method" => method.to_owned(), "code" => code).increment(1);
    if let Some(duration) = duration {
        histogram!(CALL_DURATION, "method" => method.to_owned()).record(duration.as_secs_f64());
    }
}

/// Counts an error.
pub fn refused(reason: &'static str) {
    counter!(REFUSALS, "reason" => reason).increment(1);
}

/// Counts a call that this limit refused.
pub fn rate_limited(limit: &'static str) {
    counter!(RATE_LIMITED, "limit" => limit).increment(1);
}

/// Counts an authentication that failed for this credential: `access_key`, `client_certificate`, or `none`.
pub fn authentication_failed(credential: &'static str) {
    counter!(FAILED_AUTHENTICATIONS, "credential" => credential).increment(1);
}

/// Declares a reason to refuse connections of this listener, so that the first one is seen as an increase.
pub fn connections_can_be_refused(listener: &'static str, reason: &'static str) {
    counter!(CONNECTIONS_REFUSED, "listener" => listener, "reason" => reason).absolute(0);
}

/// Counts a connection that was refused, closed or kept waiting for this reason.
pub fn connection_refused(listener: &'static str, reason: &'static str) {
    counter!(CONNECTIONS_REFUSED, "listener" => listener, "reason" => reason).increment(1);
}

/// Counts bytes that begin to be held for callers.
pub fn call_memory_taken(bytes: usize) {
    gauge!(CALL_MEMORY).increment(bytes as f64);
}

/// Counts bytes that are no longer held for callers.
pub fn call_memory_freed(bytes: usize) {
    gauge!(CALL_MEMORY).decrement(bytes as f64);
}

/// Counts a stored certificate.
pub fn uploaded() {
    counter!(UPLOADS).increment(1);
}

/// Counts a certificate that a proxy refused to load.
pub fn secret_refused() {
    counter!(SECRETS_REFUSED).increment(1);
}

/// Sets the number of certificates of this kind with this much time left.
pub fn certificates(kind: &'static str, expires_in: &'static str, count: i64) {
    gauge!(CERTIFICATES, "kind" => kind, "expires_in" => expires_in).set(count as f64);
}

/// Sets the number of certificates with a compromised key.
pub fn compromised_certificates(count: i64) {
    gauge!(COMPROMISED).set(count as f64);
}

/// Sets whether Postgres accepts writes.
pub fn database_up(is_up: bool) {
    gauge!(DATABASE_UP).set(f64::from(u8::from(is_up)));
}

/// Sets the earliest end of the certificates in the file of this setting, in seconds since 1970.
pub fn tls_not_after(setting: &'static str, secs: i64) {
    gauge!(TLS_NOT_AFTER, "setting" => setting).set(secs as f64);
}

/// Sets the numbers of connections to Postgres: open, idle, maximum, and calls that wait for one.
pub fn database_connections(counts: [usize; 4]) {
    for ((name, _), count) in DATABASE_CONNECTIONS.into_iter().zip(counts) {
        gauge!(name).set(count as f64);
    }
}

/// Sets whether the file of the key ring can be used.
pub fn key_ring_usable(is_usable: bool) {
    gauge!(KEY_RING_USABLE).set(f64::from(u8::from(is_usable)));
}

/// Sets whether audit events are purged after their retention.
pub fn audit_purge_enabled(is_enabled: bool) {
    gauge!(AUDIT_PURGE_ENABLED).set(f64::from(u8::from(is_enabled)));
}

/// Counts denied calls that the audit trail does not have.
pub fn audit_denials_dropped(count: u64) {
    counter!(AUDIT_DENIALS_DROPPED).increment(count);
}

/// Counts a connection that was closed because its host is an old primary or another cluster.
pub fn database_host_refused() {
    counter!(DATABASE_HOSTS_REFUSED).increment(1);
}

/// Declares a job that begins at this time, in seconds since 1970: its first failure is seen as an increase.
pub fn job_exists(job: &'static str, secs: i64) {
    counter!(JOB_FAILURES, "task" => job).absolute(0);
    job_succeeded(job, secs);
}

/// Notes that a run of a job succeeded at this time, in seconds since 1970. A job that hangs or is gone no longer does.
pub fn job_succeeded(job: &'static str, secs: i64) {
    gauge!(JOB_SUCCESS, "task" => job).set(secs as f64);
}

/// Counts a failed run of a job. The label is `task`: Prometheus itself adds a label `job`.
pub fn job_failed(job: &'static str) {
    counter!(JOB_FAILURES, "task" => job).increment(1);
}

/// Records how long a statement took in Postgres, whether it failed or not.
pub fn statement_ended(statement: &'static str, duration: Duration) {
    histogram!(STATEMENT_DURATION, "statement" => statement).record(duration.as_secs_f64());
}

/// Counts a statement that is repeated.
pub fn statement_repeated(statement: &'static str) {
    counter!(STATEMENT_RETRIES, "statement" => statement).increment(1);
}

/// Sets how many items wait for the next batch of this queue.
pub fn queue_length(queue: &'static str, length: usize) {
    gauge!(QUEUE_LENGTH, "queue" => queue).set(length as f64);
}

/// Records the time from a change until a watch has its message, in microseconds. Clocks can differ, so it can be negative.
pub fn watch_delay(us: i64) {
    histogram!(WATCH_DELAY).record(Duration::from_micros(us.max(0).unsigned_abs()).as_secs_f64());
}

/// An open watch, counted until this is dropped.
pub struct OpenWatch(());

impl OpenWatch {
    /// Counts a watch.
    pub fn count() -> Self {
        gauge!(WATCHES).increment(1);
        Self(())
    }
}

impl Drop for OpenWatch {
    fn drop(&mut self) {
        gauge!(WATCHES).decrement(1);
    }
}

/// An open connection, counted until this is dropped.
pub struct OpenConnection {
    listener: &'static str,
}

impl OpenConnection {
    /// Counts a connection of this listener.
    pub fn count(listener: &'static str) -> Self {
        gauge!(CONNECTIONS, "listener" => listener).increment(1);
        Self { listener }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        gauge!(CONNECTIONS, "listener" => self.listener).decrement(1);
    }
}
