//! The messages of a watch as protobuf.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use prost_types::Timestamp;
use tokio_stream::Stream;
use tonic::Status;

use super::pb::{self, CertificateEventKind};
use super::render;
use super::status::status;
use crate::app::{RequestId, Watch, Watched, WatchedKind};

/// The stream of a watch.
pub(super) struct Messages {
    request_id: RequestId,
    watch: Watch,
}

pub(super) fn messages(request_id: RequestId, watch: Watch) -> Messages {
    Messages { request_id, watch }
}

impl Stream for Messages {
    type Item = Result<pb::WatchServerCertificatesResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = std::task::ready!(self.watch.poll_next(cx));
        Poll::Ready(next.map(|next| match next {
            Ok(message) => Ok(watched(message)),
            Err(error) => Err(status(self.request_id, &error)),
        }))
    }
}

fn watched(message: Watched) -> pb::WatchServerCertificatesResponse {
    let chain = message.chain;
    let certificate = message.certificate.map(|stored| pb::ServerCertificate {
        certificate_chain: chain.map(|chain| chain.to_pem()).unwrap_or_default(),
        ..render::server_certificate(Arc::unwrap_or_clone(stored))
    });
    let event = message.event;
    pb::WatchServerCertificatesResponse {
        kind: kind(message.kind).into(),
        resume_token: message.resume_token,
        server_certificate_id: message.id.map(|id| id.to_string()).unwrap_or_default(),
        event_id: event.map(|event| event.request_id.to_string()).unwrap_or_default(),
        event_time: event.map(|event| Timestamp {
            seconds: event.occurred_us.div_euclid(1_000_000),
            nanos: event.occurred_us.rem_euclid(1_000_000) as i32 * 1000, // Below 1000 million.
        }),
        version: match event {
            Some(event) => event.version,
            None => certificate.as_ref().map_or(0, |certificate| certificate.version),
        },
        server_certificate: certificate,
    }
}

fn kind(kind: WatchedKind) -> CertificateEventKind {
    match kind {
        WatchedKind::Present => CertificateEventKind::Present,
        WatchedKind::Synced => CertificateEventKind::Synced,
        WatchedKind::Heartbeat => CertificateEventKind::Heartbeat,
        WatchedKind::Uploaded => CertificateEventKind::Uploaded,
        WatchedKind::Renewed => CertificateEventKind::Renewed,
        WatchedKind::RolledBack => CertificateEventKind::RolledBack,
        WatchedKind::Renamed => CertificateEventKind::Renamed,
        WatchedKind::Tagged => CertificateEventKind::Tagged,
        WatchedKind::Moved => CertificateEventKind::Moved,
        WatchedKind::Deleted => CertificateEventKind::Deleted,
        WatchedKind::Undeleted => CertificateEventKind::Undeleted,
        WatchedKind::Purged => CertificateEventKind::Purged,
        WatchedKind::Left => CertificateEventKind::Left,
        WatchedKind::Rejected => CertificateEventKind::Rejected,
    }
}
