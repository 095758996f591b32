//! The client of [certkeep](https://github.com/certkeep/certkeep), the certificate store of a fleet.
//!
//! [`Target::connect`] makes a [`Client`]. One client serves a whole process: its clones share one connection, which is opened by the first call
//! and opened again when it breaks. Nothing of a call is sent before the server has proved that it speaks HTTP/2, so a [`ConnectError`] says
//! that the call had no effect.
//!
//! ```no_run
//! use certkeep_client::{AccessKey, Endpoint, Repeat, Target, pb, repeated};
//!
//! # async fn upload(key: &str, server_certificate: String, private_key: String) -> Result<(), Box<dyn std::error::Error>> {
//! let mut target = Target::new(Endpoint::parse("https://certkeep.example:50051")?);
//! target.access_key = Some(AccessKey::parse(key)?);
//! let mut certificates = target.connect()?.certificates();
//! let request = pb::UploadServerCertificateRequest {
//!     server_certificate,
//!     private_key,
//!     // The service stores the pair once, however often the call is repeated.
//!     client_token: certkeep_client::client_token(),
//!     ..Default::default()
//! };
//! let uploaded = repeated(Repeat::Always, async || certificates.upload_server_certificate(request.clone()).await).await?;
//! println!("{}", uploaded.server_certificate_id);
//! # Ok(())
//! # }
//! ```
//!
//! `examples/upload.rs` is a whole program.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may panic"))]

mod access_key;
mod call_error;
mod channel;
mod connect_error;
mod connector;
mod endpoint;
mod http2;
mod pages;
mod reason;
mod repeat;
mod target;
mod tls;

pub use access_key::{AccessKey, AccessKeyError};
pub use call_error::{CallError, Outcome, Violation};
pub use channel::{Channel, refused_key};
pub use connect_error::{ConnectError, ConnectFault};
pub use endpoint::{Endpoint, EndpointError, is_same_server};
pub use pages::pages;
pub use repeat::{Repeat, client_token, repeated};
pub use target::{Client, Identity, SetupError, Target};

/// The messages and clients of `proto/certkeep/v1`. The schema's comments are the contract.
#[allow(
    missing_docs,
    clippy::all,
    reason = "generated; the schema's comments are the contract"
)]
pub mod pb {
    tonic::include_proto!("certkeep.v1");
}

/// A message with a private key is wiped when it is dropped. The buffers of the transport are not wiped: docs/security.md.
impl Drop for pb::GetKeyPairResponse {
    fn drop(&mut self) {
        use zeroize::Zeroize;
        self.private_key.zeroize();
        self.pkcs12.zeroize();
    }
}
