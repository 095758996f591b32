//! The gRPC door: protobuf to use case and back, and one table from error to Status.

mod admin_service;
mod call;
mod certificate_service;
mod deadline;
mod parse;
mod render;
mod starting;
mod status;

pub use call::CallLayer;
pub use parse::key_algorithm_of;
pub use render::{checked, key_algorithm, uploaded};
pub use starting::StartingLayer;

use crate::app::App;
use pb::admin_service_server::AdminServiceServer;
use pb::certificate_service_server::CertificateServiceServer;

/// The messages and services of `proto/certkeep/v1`.
#[allow(
    missing_docs,
    clippy::all,
    reason = "generated; the schema's comments are the contract"
)]
pub mod pb {
    tonic::include_proto!("certkeep.v1");
}

/// The schema's descriptors, for reflection and for JSON.
pub const DESCRIPTORS: &[u8] = tonic::include_file_descriptor_set!("certkeep.v1");

/// A request is no larger than this: a certificate of 256 KiB and a key of 64 KiB leave room for the rest.
const MAX_REQUEST_LEN: usize = 1024 * 1024;

/// The names of the services, and of all of them together, by which their health is asked.
pub const SERVICES: [&str; 3] = [
    "",
    pb::admin_service_server::SERVICE_NAME,
    pb::certificate_service_server::SERVICE_NAME,
];

/// The admin service of these use cases. It takes its calls from [`CallLayer`].
pub fn admin_service(app: App) -> AdminServiceServer<impl pb::admin_service_server::AdminService> {
    AdminServiceServer::new(admin_service::Door::new(app)).max_decoding_message_size(MAX_REQUEST_LEN)
}

/// The certificate service of these use cases. It takes its calls from [`CallLayer`].
pub fn certificate_service(
    app: App,
) -> CertificateServiceServer<impl pb::certificate_service_server::CertificateService> {
    CertificateServiceServer::new(certificate_service::Door::new(app)).max_decoding_message_size(MAX_REQUEST_LEN)
}
