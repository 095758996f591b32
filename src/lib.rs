//! certkeep: the certificate store of a fleet. `ARCHITECTURE.md` describes the modules and the way of a request.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic"))]

pub mod account;
pub mod alibaba;
pub mod app;
pub mod certificate;
pub mod cli;
pub mod clock;
pub mod config;
pub mod digest;
pub mod grpc;
pub mod http_client;
pub mod inventory;
pub mod peer;
pub mod postgres;
pub mod seal;
pub mod secret;
pub mod server;
pub mod slb;
pub mod store;
pub mod telemetry;
