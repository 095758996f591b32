//! The gRPC door: protobuf to use case and back, and the words for each error.

mod admin_service;
mod audit;
mod call;
mod certificate_service;
mod deadline;
mod delivery_service;
mod memory;
mod method;
mod operator_service;
mod parse;
mod reason;
mod record;
mod render;
mod repeats;
mod secret_discovery;
mod status;
mod watch;
mod words;

pub use call::Door;
pub use memory::{AnswerKind, Answering, CallMemory, Received, Share};
pub use parse::key_algorithm_of;
pub use reason::{code as code_of, of_error as reason_of};
pub use record::{RecordedBody, is_server_error, name_of};
pub use render::{checked, finding, key_algorithm, uploaded, verification_fault, verified_counts, violation};
pub use repeats::Repeats;
pub use words::{FieldName, error as words_of, field_name, violation as words_of_violation};

use std::sync::Arc;

use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic_health::pb::health_server::{Health, HealthServer};

use crate::app::App;
use envoy::service::secret::v3::secret_discovery_service_server::{
    SecretDiscoveryService, SecretDiscoveryServiceServer,
};
use pb::admin_service_server::AdminServiceServer;
use pb::certificate_service_server::CertificateServiceServer;
use pb::delivery_service_server::DeliveryServiceServer;
use pb::operator_service_server::OperatorServiceServer;

/// The messages and services of `proto/certkeep/v1`.
#[allow(
    missing_docs,
    clippy::all,
    reason = "generated; the schema's comments are the contract"
)]
pub mod pb {
    pub use certkeep_client::pb::*;

    tonic::include_proto!("certkeep.v1");
}

/// The messages and the service of `proto/envoy`.
#[allow(
    missing_docs,
    clippy::all,
    reason = "generated; the schema's comments are the contract"
)]
pub mod envoy {
    pub mod config {
        pub mod core {
            pub mod v3 {
                tonic::include_proto!("envoy.config.core.v3");
            }
        }
    }
    pub mod extensions {
        pub mod transport_sockets {
            pub mod tls {
                pub mod v3 {
                    tonic::include_proto!("envoy.extensions.transport_sockets.tls.v3");
                }
            }
        }
    }
    pub mod service {
        pub mod discovery {
            pub mod v3 {
                tonic::include_proto!("envoy.service.discovery.v3");
            }
        }
        pub mod secret {
            pub mod v3 {
                tonic::include_proto!("envoy.service.secret.v3");
            }
        }
    }
    pub mod r#type {
        pub mod v3 {
            tonic::include_proto!("envoy.r#type.v3");
        }
    }
}

/// The schema's descriptors, for reflection and for JSON.
pub const DESCRIPTORS: &[u8] = tonic::include_file_descriptor_set!("certkeep.v1");

/// The maximum size of a request, decompressed. A certificate has up to 256 KiB, a key up to 64 KiB.
const MAX_REQUEST_LEN: usize = 1024 * 1024;

/// The names under which health is reported: the name of each service, and the empty name for all services.
pub const SERVICES: [&str; 6] = [
    "",
    pb::admin_service_server::SERVICE_NAME,
    pb::certificate_service_server::SERVICE_NAME,
    pb::delivery_service_server::SERVICE_NAME,
    pb::operator_service_server::SERVICE_NAME,
    envoy::service::secret::v3::secret_discovery_service_server::SERVICE_NAME,
];

/// The maximum size of a request to health and reflection.
const MAX_OPEN_REQUEST_LEN: usize = 16 * 1024;

/// The door, with health, and with reflection if wanted. Its requests and answers take from `memory`.
pub fn door(
    health: HealthServer<impl Health>,
    reflection: bool,
    memory: Arc<CallMemory>,
) -> Result<Door, tonic_reflection::server::Error> {
    let mut open = Routes::new(health.max_decoding_message_size(MAX_OPEN_REQUEST_LEN));
    if reflection {
        let builder = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                // Without these descriptors, grpcurl prints the details of an error in base64.
                .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        };
        let v1 = builder().build_v1()?.max_decoding_message_size(MAX_OPEN_REQUEST_LEN);
        // Older tools know only this version.
        let v1alpha = builder()
            .build_v1alpha()?
            .max_decoding_message_size(MAX_OPEN_REQUEST_LEN);
        open = open.add_service(v1).add_service(v1alpha);
    }
    Ok(Door::new(open, reflection, memory))
}

fn admin_service(app: App) -> AdminServiceServer<impl pb::admin_service_server::AdminService> {
    AdminServiceServer::new(admin_service::Door::new(app))
        .max_decoding_message_size(MAX_REQUEST_LEN)
        .accept_compressed(CompressionEncoding::Gzip)
}

fn certificate_service(app: App) -> CertificateServiceServer<impl pb::certificate_service_server::CertificateService> {
    CertificateServiceServer::new(certificate_service::Door::new(app))
        .max_decoding_message_size(MAX_REQUEST_LEN)
        .accept_compressed(CompressionEncoding::Gzip)
}

fn delivery_service(app: App) -> DeliveryServiceServer<impl pb::delivery_service_server::DeliveryService> {
    DeliveryServiceServer::new(delivery_service::Door::new(app))
        .max_decoding_message_size(MAX_REQUEST_LEN)
        .accept_compressed(CompressionEncoding::Gzip)
}

fn operator_service(app: App) -> OperatorServiceServer<impl pb::operator_service_server::OperatorService> {
    OperatorServiceServer::new(operator_service::Door::new(app))
        .max_decoding_message_size(MAX_REQUEST_LEN)
        .accept_compressed(CompressionEncoding::Gzip)
}

fn secret_discovery_service(app: App) -> SecretDiscoveryServiceServer<impl SecretDiscoveryService> {
    SecretDiscoveryServiceServer::new(secret_discovery::Door::new(app))
        .max_decoding_message_size(MAX_REQUEST_LEN)
        .accept_compressed(CompressionEncoding::Gzip)
}
