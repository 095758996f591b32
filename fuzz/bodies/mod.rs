//! The bodies of the fuzz targets: ordinary functions. The targets of cargo-fuzz and the replay of the corpus call them.
//! A body panics if certkeep breaks a promise.

pub mod again;
pub mod authorization;
mod cost;
pub mod database_url;
pub mod key;
pub mod key_ring;
pub mod names;
pub mod page_token;
pub mod pem;
pub mod request;
pub mod sealed;
pub mod signing;
pub mod tree;

use certkeep::clock::Timestamp;

/// The function of a target. It gets an input.
pub type Body = fn(&[u8]);

/// The targets by name. Each corpus has the name of its target.
pub const TARGETS: [(&str, Body); 10] = [
    ("authorization", authorization::authorization),
    ("chain", request::chain),
    ("check", request::check),
    ("database_url", database_url::database_url),
    ("key", key::key),
    ("key_ring", key_ring::key_ring),
    ("names", names::names),
    ("page_token", page_token::page_token),
    ("pem", pem::pem),
    ("sealed", sealed::sealed),
];

/// Runs the target with this name.
pub fn run(target: &str, input: &[u8]) {
    let (_, body) = TARGETS
        .iter()
        .find(|(name, _)| *name == target)
        .expect("a target has its body");
    body(input);
}

/// 2024-06-01: the time of the check, unless the input has its own time.
const AT: Timestamp = Timestamp::from_secs(1_717_200_000);

/// The maximum length of a certificate text, in bytes.
const MAX_CERTIFICATES: usize = 256 * 1024;
/// The maximum length of a key text, in bytes.
const MAX_KEY: usize = 64 * 1024;
