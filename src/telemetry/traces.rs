//! Traces: where they go, the caller's trace that a call belongs to, and attributes as OpenTelemetry's conventions name them.

use std::net::IpAddr;

use http::{HeaderMap, Uri};
use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::Status;
use opentelemetry_otlp::tonic_types::metadata::MetadataMap;
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::resource::EnvResourceDetector;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::{Level, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::{Error, NAME};

const TRACEPARENT: &str = "traceparent";
/// The target of spans inside a call. They are for traces only: no log line has them.
pub(super) const INNER: &str = "certkeep::trace";

/// Where traces go, over OTLP and gRPC.
#[derive(Clone, Copy, Debug)]
pub struct Export<'a> {
    /// The collector, over TLS if it is https.
    pub endpoint: &'a Uri,
    /// Headers of each request to the collector.
    pub headers: &'a HeaderMap,
    /// The share of traces that are exported, 0 to 1. A caller that names its trace decides itself.
    pub sample_ratio: f64,
}

pub(super) fn provider(export: &Export<'_>) -> Result<SdkTracerProvider, Error> {
    let mut exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(export.endpoint.to_string())
        .with_metadata(MetadataMap::from_headers(export.headers.clone()));
    if export.endpoint.scheme_str() == Some("https") {
        // Without this, no root is trusted.
        exporter = exporter.with_tls_config(ClientTlsConfig::new().with_native_roots());
    }
    // OTEL_RESOURCE_ATTRIBUTES, which may name the service too.
    let resource = Resource::builder_empty()
        .with_service_name(NAME)
        .with_detector(Box::new(EnvResourceDetector::new()))
        .build();
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(export.sample_ratio)));
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter.build()?)
        .with_resource(resource)
        .with_sampler(sampler)
        .build())
}

/// A call that this service answers.
#[derive(Clone, Copy, Debug)]
pub struct ServedCall<'a> {
    /// The protocol: `grpc`, or `slb` for Alibaba Cloud's.
    pub system: &'static str,
    /// The full name of the service.
    pub service: &'a str,
    /// The method.
    pub method: &'a str,
    /// The caller's address.
    pub address: Option<IpAddr>,
}

/// Names the span of a call and makes it a child of the span that the caller names in `traceparent` (W3C Trace Context 3.2). A
/// header that is malformed or occurs twice is ignored. The caller's `tracestate` is dropped: it is text of any kind.
pub fn start_call(span: &Span, call: &ServedCall<'_>, headers: &HeaderMap) {
    let mut given = headers.get_all(TRACEPARENT).iter();
    let parent = match (given.next(), given.next()) {
        (Some(traceparent), None) => traceparent.to_str().ok(),
        _ => None,
    };
    let parent = parent.map_or_else(Context::new, |traceparent| {
        TraceContextPropagator::new().extract(&Traceparent(traceparent))
    });
    // An error means that this span is not exported.
    if span.set_parent(parent).is_err() {
        return;
    }
    span.record(
        "otel.name",
        tracing::field::display(format_args!("{}/{}", call.service, call.method)),
    );
    span.record("otel.kind", "server");
    span.set_attribute("rpc.system", call.system);
    span.set_attribute("rpc.service", call.service.to_owned());
    span.set_attribute("rpc.method", call.method.to_owned());
    if let Some(address) = call.address {
        span.set_attribute("client.address", address.to_string());
    }
}

/// The code of a call's answer.
#[derive(Clone, Copy, Debug)]
pub enum AnswerCode {
    /// That of gRPC.
    Grpc(i32),
    /// The status of HTTP.
    Http(u16),
}

/// Sets the code of a call, and its error if the service is to blame.
pub fn end_call(span: &Span, code: AnswerCode, error: Option<&'static str>) {
    match code {
        AnswerCode::Grpc(code) => span.set_attribute("rpc.grpc.status_code", i64::from(code)),
        AnswerCode::Http(status) => span.set_attribute("http.response.status_code", i64::from(status)),
    }
    if let Some(error) = error {
        span.set_attribute("error.type", error);
        span.set_status(Status::error(error));
    }
}

/// A span for a step of a call.
pub fn step(name: &'static str) -> Span {
    tracing::span!(target: INNER, Level::INFO, "step", otel.name = name)
}

/// A span for a statement in Postgres, if a call runs it. The statements of jobs and probes would only fill the traces.
pub fn statement(name: &'static str) -> Span {
    if Span::current().is_none() {
        return Span::none();
    }
    tracing::span!(
        target: INNER,
        Level::INFO,
        "statement",
        otel.name = name,
        otel.kind = "client",
        db.system.name = "postgresql",
        db.query.summary = name,
    )
}

struct Traceparent<'a>(&'a str);

impl Extractor for Traceparent<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == TRACEPARENT).then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}
