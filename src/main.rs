//! The `tombolo` binary.

use std::{env, process::ExitCode};

/// Automerge makes and drops many small objects: with the system's allocator a write costs a sixth
/// more.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tombolo::cli::run(env::args_os())
}
