//! The `piaogen` command.

use std::process::ExitCode;

/// Batches of megabytes go from thread to thread many times a second, and tables of keys are read
/// all over: this allocator keeps pages instead of giving them back, and asks for large ones.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    piaogen_node::cli::main()
}
