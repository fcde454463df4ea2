//! All integration tests in one binary, so that RocksDB links once.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failing test says so"
)]

use std::sync::Arc;
use tombolo::{
    node::{Node, Options},
    store::MemoryEngine,
};

mod accept;
mod attacks;
#[cfg(feature = "rocksdb")]
mod backup;
mod bulk;
mod cli;
mod clock;
mod codings;
mod compare;
mod convergence;
mod costs;
mod crash;
#[cfg(feature = "rocksdb")]
mod damage;
mod demo;
mod edits;
#[cfg(feature = "rocksdb")]
mod faults;
mod feed;
#[cfg(feature = "rocksdb")]
mod full_disk;
mod gate;
mod hostile;
mod http;
mod import;
#[cfg(feature = "rocksdb")]
mod islands;
mod json_parsing;
mod json_patch;
mod large;
mod links;
mod logs;
mod mending;
mod merge_patch;
mod merges;
mod metrics;
mod once;
mod past;
mod peers;
mod process;
mod properties;
mod quarantine;
mod readme;
mod replicate;
mod roundtrip;
mod rust_client;
mod simulation;
mod sockets;
mod wire;

/// A node that holds nothing yet and keeps nothing.
fn node() -> Node {
    Node::start(Options::default(), Arc::new(MemoryEngine::new())).unwrap()
}
