//! Directories for data: on the disk that holds the build, and gone when they are dropped.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

#[derive(Debug)]
pub(crate) struct Scratch(TempDir);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// Bytes of the files of data below a directory: all but what RocksDB writes for people, which has a
/// bound of its own.
pub(crate) fn data_bytes(directory: &Path) -> f64 {
    let kinds = files(directory).into_iter();
    kinds.filter(|(kind, _)| kind != "LOG" && kind != "OPTIONS").map(|(_, bytes)| bytes).sum()
}

/// Bytes of disk below a directory: the blocks that files and folders take, whatever they hold.
pub(crate) fn disk_bytes(directory: &Path) -> f64 {
    let blocks = |path: &Path| 512.0 * fs::metadata(path).unwrap().blocks() as f64;
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let below = entries.map(|path| if path.is_dir() { disk_bytes(&path) } else { blocks(&path) });
    blocks(directory) + below.sum::<f64>()
}

/// Bytes of all files below a directory, by the end of their names, or their beginning if they have
/// no end.
pub(crate) fn files(directory: &Path) -> BTreeMap<String, f64> {
    let mut kinds = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            for (kind, bytes) in files(&path) {
                *kinds.entry(kind).or_default() += bytes;
            }
        } else {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let kind = match path.extension() {
                Some(end) if !name.starts_with("LOG") => format!(".{}", end.to_string_lossy()),
                _ => name.split(['-', '.']).next().unwrap_or_default().to_owned(),
            };
            *kinds.entry(kind).or_default() += fs::metadata(&path).unwrap().len() as f64;
        }
    }
    kinds
}
