//! The `certkeep` command.

use std::io::Write;
use std::process::ExitCode;

/// Freed memory may have held a private key.
#[global_allocator]
static ALLOCATOR: wiping_allocator::WipingAllocator = wiping_allocator::WipingAllocator;

fn main() -> ExitCode {
    if let Err(error) = wiping_allocator::wipe_openssl() {
        // Nothing has run yet, so there is no log.
        let _ = writeln!(std::io::stderr(), "certkeep: {error}");
        return ExitCode::FAILURE;
    }
    certkeep::cli::run()
}
