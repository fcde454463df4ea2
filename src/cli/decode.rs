//! `tombolo __decode`: opens documents for a node, in a process that may die of them.

use super::args::Decode;
use crate::{
    doc::Limits,
    node::{self, DECODER_MEMORY_BYTES},
};
use anyhow::Context;
use rustix::process::{Resource, Rlimit, setrlimit};
use std::io;

/// Runs the command.
pub(crate) fn run(line: &Decode) -> anyhow::Result<()> {
    let most = Some(DECODER_MEMORY_BYTES);
    setrlimit(Resource::As, Rlimit { current: most, maximum: most })
        .context("a limit of memory")?;
    // Where memory is short it is this process that goes, and not the node. If that cannot be said, the kernel
    // chooses as it likes.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let none = Some(0);
    setrlimit(Resource::Core, Rlimit { current: none, maximum: none })
        .context("a limit of cores")?;
    let limits = Limits {
        depth_max: line.depth,
        document_bytes_max: line.document_bytes,
        ..Limits::default()
    };
    Ok(node::decode(io::stdin(), io::stdout(), limits)?)
}
