//! certkeep: the certificate store of a fleet. `ARCHITECTURE.md` shows the rooms and the way of a request.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic"))]

pub mod certificate;
pub mod clock;
pub mod digest;
pub mod postgres;
pub mod seal;
pub mod secret;
