//! What the fuzz targets do with an input: ordinary functions, which cargo-fuzz's targets and the replay of the corpus call.
//! Each panics where certkeep breaks a promise.

pub mod again;
mod cost;
pub mod key;
pub mod names;
pub mod page_token;
pub mod pem;
pub mod request;
pub mod signing;
pub mod tree;

use certkeep::clock::Timestamp;

/// What a target does with an input.
pub type Body = fn(&[u8]);

/// The targets by their names, which are those of their corpora.
pub const TARGETS: [(&str, Body); 6] = [
    ("chain", request::chain),
    ("check", request::check),
    ("key", key::key),
    ("names", names::names),
    ("page_token", page_token::page_token),
    ("pem", pem::pem),
];

/// Does what the target of that name does.
pub fn run(target: &str, input: &[u8]) {
    let (_, body) = TARGETS
        .iter()
        .find(|(name, _)| *name == target)
        .expect("a target has its body");
    body(input);
}

/// 2024-06-01: when an input that does not say otherwise is checked.
const AT: Timestamp = Timestamp::from_secs(1_717_200_000);

/// The longest text of certificates, in bytes.
const MAX_CERTIFICATES: usize = 256 * 1024;
/// The longest text of a key, in bytes.
const MAX_KEY: usize = 64 * 1024;
