//! Data directories that no node has open, for the commands of operators.

use crate::store::{RocksEngine, RocksOptions};
use anyhow::{Context, bail};
use std::path::Path;

/// Memory for blocks while a closed store is read or written, in bytes.
pub(crate) const BLOCKS_BYTES: usize = 64 << 20;

/// Opens a store for reading.
pub(crate) fn read(data: &Path) -> anyhow::Result<RocksEngine> {
    exists(data)?;
    let engine = RocksEngine::open_read_only(data, RocksOptions { blocks_bytes: BLOCKS_BYTES });
    engine.with_context(|| data.display().to_string())
}

/// Refuses what is no data directory, before anything is made there.
pub(crate) fn exists(data: &Path) -> anyhow::Result<()> {
    if !data.join("rocksdb").is_dir() {
        bail!("{} is no data directory of Tombolo", data.display());
    }
    Ok(())
}
