//! All integration tests in one binary, so that RocksDB links once.

#![expect(clippy::unwrap_used, reason = "a failing test says where")]

mod accept;
mod json_parsing;
mod json_patch;
mod merge_patch;
