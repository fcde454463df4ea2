//! The `tombolo` binary.

use std::{env, process::ExitCode};

/// Of RocksDB's memory, too. Automerge makes and drops many small objects: with the system's
/// allocator a write costs a sixth more, and what compactions leave behind it never gives back.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    tombolo::cli::run(env::args_os())
}
