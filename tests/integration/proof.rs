//! The long form of tests: `make prove` sets the variable PROOF_FIGURES to the file of the figures, and `tools/prove` prints them. certkeep
//! refuses to start with an unknown variable CERTKEEP_*.

use std::fmt::Display;
use std::io::Write;

/// How often a test does what it proves: `long` times in `make prove`, `short` times in `make test`.
pub fn times(short: usize, long: usize) -> usize {
    if file().is_some() { long } else { short }
}

/// Writes a figure for the table of `docs/proofs.md`.
pub fn figure(name: &str, value: impl Display) {
    let Some(path) = file() else { return };
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .unwrap();
    writeln!(file, "{name}: {value}").unwrap();
}

fn file() -> Option<std::ffi::OsString> {
    #[expect(clippy::disallowed_methods, reason = "only a variable reaches a test")]
    std::env::var_os("PROOF_FIGURES")
}
