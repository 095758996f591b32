//! The `certkeep` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    certkeep::cli::run()
}
