//! The `certkeep` command.

use std::process::ExitCode;

/// See Cargo.toml.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    certkeep::cli::run()
}
