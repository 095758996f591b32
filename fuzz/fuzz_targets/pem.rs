//! PEM text, of which libFuzzer knows the words from `pem.dict`.
#![no_main]

#[path = "../bodies/mod.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|input: &[u8]| bodies::run("pem", input));
