//! Flags in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    portolan::cli::run(std::env::args_os())
}
