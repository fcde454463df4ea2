//! Data directories that no node has open, for the commands of operators.

use crate::store::{OpenError, RocksEngine, RocksOptions};
use anyhow::bail;
use std::path::Path;

/// Memory for blocks while a closed store is read or written, in bytes.
pub(crate) const BLOCKS_BYTES: usize = 64 << 20;

/// Opens a store for reading.
pub(crate) fn read(data: &Path) -> anyhow::Result<RocksEngine> {
    exists(data)?;
    let engine = RocksEngine::open_read_only(data, RocksOptions { blocks_bytes: BLOCKS_BYTES });
    engine.map_err(|error| named(error, data))
}

/// An error that names the directory.
pub(crate) fn named(error: OpenError, data: &Path) -> anyhow::Error {
    match error {
        OpenError::Locked(_) | OpenError::Directory { .. } | OpenError::Foreign(_) => error.into(),
        _ => anyhow::Error::from(error).context(data.display().to_string()),
    }
}

/// Refuses what is no data directory, before anything is made there.
pub(crate) fn exists(data: &Path) -> anyhow::Result<()> {
    if !data.join("rocksdb").is_dir() {
        bail!("{} is no data directory of Tombolo", data.display());
    }
    Ok(())
}
