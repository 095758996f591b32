//! The export of traces, and the caller's trace of a call.

use http::{HeaderMap, Uri};
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::{Error, NAME};

const TRACEPARENT: &str = "traceparent";

/// Sends spans to this endpoint. https means TLS.
pub(super) fn provider(endpoint: &Uri) -> Result<SdkTracerProvider, Error> {
    let mut exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint.to_string());
    if endpoint.scheme_str() == Some("https") {
        // Without this, the exporter trusts no CA certificates.
        exporter = exporter.with_tls_config(ClientTlsConfig::new().with_native_roots());
    }
    let resource = Resource::builder_empty().with_service_name(NAME).build();
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter.build()?)
        .with_resource(resource)
        .build())
}

/// Makes the span in the caller's `traceparent` (W3C Trace Context, 3.2) the parent of `span`. A malformed or repeated header is
/// ignored. So is the caller's `tracestate`: it may contain any text.
pub fn continue_trace(span: &Span, headers: &HeaderMap) {
    let mut given = headers.get_all(TRACEPARENT).iter();
    let (Some(traceparent), None) = (given.next(), given.next()) else {
        return;
    };
    let Ok(traceparent) = traceparent.to_str() else {
        return;
    };
    let parent = TraceContextPropagator::new().extract(&Traceparent(traceparent));
    // An error means that no traces are exported.
    let _ = span.set_parent(parent);
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
