//! The binary: hands over to the command line.

use std::process::ExitCode;

/// Rows and payloads are made on one thread and dropped on another, all the time; the system's allocator keeps what
/// each thread leaves (see docs/decisions/0008-jemalloc.md).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    posthaste::cli::run(std::env::args_os())
}
