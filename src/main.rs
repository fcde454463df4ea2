//! The `tombolo` binary.

use std::{env, process::ExitCode};

fn main() -> ExitCode {
    tombolo::cli::run(env::args_os())
}
