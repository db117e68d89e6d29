//! The binary: hands over to the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    posthaste::cli::run(std::env::args_os())
}
