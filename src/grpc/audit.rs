//! Audit events from and to protobuf.

use std::pin::Pin;

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Timestamp, Value};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::Status;

use super::parse::timestamp;
use super::pb;
use super::status::status;
use crate::app::{
    AuditEvent, AuditOutcome, AuditVerification, Error, FieldError, ListAuditEvents, RequestId, TailedAuditEvent,
    Trail, TrailFault, TrailReport,
};

/// The messages of a stream.
pub(super) type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Renders each message of a use case. An error ends the stream.
pub(super) fn messages<T: Send + 'static, M: 'static>(
    request_id: RequestId,
    received: mpsc::Receiver<Result<T, Error>>,
    render: impl Fn(RequestId, T) -> M + Send + 'static,
) -> Messages<M> {
    let rendered = ReceiverStream::new(received).map(move |received| match received {
        Ok(message) => Ok(render(request_id, message)),
        Err(error) => Err(status(request_id, &error)),
    });
    Box::pin(rendered)
}

pub(super) fn list_audit_events(message: pb::ListAuditEventsRequest) -> ListAuditEvents {
    let time = |time: Option<Timestamp>| time.map(timestamp).transpose().map_err(|_| FieldError::Time);
    let outcome = |number: i32| match pb::AuditOutcome::try_from(number) {
        Ok(pb::AuditOutcome::Done) => Some(AuditOutcome::Done),
        Ok(pb::AuditOutcome::Denied) => Some(AuditOutcome::Denied),
        Ok(pb::AuditOutcome::Delivered) => Some(AuditOutcome::Delivered),
        Ok(pb::AuditOutcome::Unspecified) | Err(_) => None,
    };
    ListAuditEvents {
        resource_id: message.resource_id,
        principal: message.principal,
        methods: message.methods,
        outcomes: message.outcomes.into_iter().map(outcome).collect(),
        from: time(message.event_time_from),
        before: time(message.event_time_before),
        page_size: message.page_size,
        page_token: message.page_token,
    }
}

pub(super) fn tailed(request_id: RequestId, tailed: TailedAuditEvent) -> pb::TailAuditEventsResponse {
    pb::TailAuditEventsResponse {
        request_id: request_id.to_string(),
        audit_event: tailed.event.map(audit_event),
        resume_token: tailed.resume_token,
    }
}

pub(super) fn verification(request_id: RequestId, verified: AuditVerification) -> pb::VerifyAuditTrailResponse {
    let complete = verified.report.is_some();
    let (trails, missing_heads) = match verified.report {
        Some(report) => (report.trails, report.missing_heads),
        None => (Vec::new(), Vec::new()),
    };
    pb::VerifyAuditTrailResponse {
        request_id: request_id.to_string(),
        verified_events: verified.verified_events,
        complete,
        trails: trails.into_iter().map(trail_state).collect(),
        missing_heads: missing_heads.iter().map(hex::encode).collect(),
    }
}

fn trail_state(report: TrailReport) -> pb::AuditTrailState {
    let (broken_position, fault) = match report.fault {
        Some((position, fault)) => (position, trail_fault(fault)),
        None => (0, pb::AuditTrailFault::Unspecified),
    };
    pb::AuditTrailState {
        trail: trail(report.trail).into(),
        first_position: report.first_position,
        last_position: report.last_position,
        sealed_position: report.sealed_position,
        head: report.head.map(hex::encode).unwrap_or_default(),
        broken_position,
        fault: fault.into(),
    }
}

fn trail_fault(fault: TrailFault) -> pb::AuditTrailFault {
    match fault {
        TrailFault::EventMissing => pb::AuditTrailFault::EventMissing,
        TrailFault::EventChanged => pb::AuditTrailFault::EventChanged,
        TrailFault::SealMissing => pb::AuditTrailFault::SealMissing,
    }
}

fn trail(trail: Trail) -> pb::AuditTrail {
    match trail {
        Trail::Certificates => pb::AuditTrail::Certificates,
        Trail::Access => pb::AuditTrail::Access,
    }
}

pub(super) fn audit_event(event: AuditEvent) -> pb::AuditEvent {
    let outcome = match event.outcome {
        AuditOutcome::Done => pb::AuditOutcome::Done,
        AuditOutcome::Denied => pb::AuditOutcome::Denied,
        AuditOutcome::Delivered => pb::AuditOutcome::Delivered,
    };
    // The database has the names of the schema.
    let reason = pb::Reason::from_str_name(&format!("REASON_{}", event.reason)).unwrap_or_default();
    let resource_type = event.resource_type.to_ascii_uppercase();
    let resource_type = pb::AuditResourceType::from_str_name(&format!("AUDIT_RESOURCE_TYPE_{resource_type}"));
    let changes = event.changes.into_iter().map(|change| pb::AuditChange {
        field: change.field,
        before: change.before.map(value),
        after: change.after.map(value),
    });
    pb::AuditEvent {
        trail: trail(event.trail).into(),
        position: event.position,
        event_time: Some(Timestamp {
            seconds: event.occurred_us.div_euclid(1_000_000),
            nanos: event.occurred_us.rem_euclid(1_000_000) as i32 * 1000, // Below 1000 million.
        }),
        request_id: event.request_id.to_string(),
        method: event.method,
        outcome: outcome.into(),
        reason: reason.into(),
        principal: event.principal,
        address: event.address,
        resource_type: resource_type.unwrap_or_default().into(),
        resource_id: event.resource_id,
        version: event.version,
        changes: changes.collect(),
        count: event.count,
    }
}

fn value(json: serde_json::Value) -> Value {
    use serde_json::Value as Json;
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(is_true) => Kind::BoolValue(is_true),
        // Larger numbers are texts in the trail.
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Json::String(text) => Kind::StringValue(text),
        Json::Array(values) => Kind::ListValue(ListValue {
            values: values.into_iter().map(value).collect(),
        }),
        Json::Object(fields) => Kind::StructValue(Struct {
            fields: fields.into_iter().map(|(name, json)| (name, value(json))).collect(),
        }),
    };
    Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The statements of audited changes name the types of their resources.
    #[test]
    fn the_schema_has_the_type_of_every_audited_resource() {
        let mut count = 0;
        let store = concat!(env!("CARGO_MANIFEST_DIR"), "/src/store");
        for entry in std::fs::read_dir(store).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let text = std::fs::read_to_string(path).unwrap();
            for call in text.split("audited!(").skip(1) {
                // The method, the type.
                let Some(resource_type) = call.split(',').nth(1) else {
                    continue;
                };
                let resource_type = resource_type.trim().trim_matches('"');
                let name = format!("AUDIT_RESOURCE_TYPE_{}", resource_type.to_ascii_uppercase());
                assert!(pb::AuditResourceType::from_str_name(&name).is_some(), "{resource_type}");
                count += 1;
            }
        }
        assert!(count > 0);
    }
}
