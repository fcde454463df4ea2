//! Directories that outlive a power cut, and that only their user can enter.

#[cfg(feature = "rocksdb")]
use super::error::OpenError;
#[cfg(feature = "rocksdb")]
use std::path::PathBuf;
use std::{
    fs::{self, File},
    io,
    path::Path,
};

/// Makes a directory, and those above it, durably.
#[cfg(feature = "rocksdb")]
pub(super) fn make_directory(path: &Path) -> Result<(), OpenError> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) | None => Path::new("."),
    };
    make_directory(parent)?;
    let made = private().create(path).and_then(|()| sync_directory(parent));
    made.map_err(|source| OpenError::Directory { path: PathBuf::from(path), source })
}

/// A new name outlives a power cut once the directory that holds it is synced.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    // Other systems do not open directories as files.
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}

/// Makes a directory that only its user can enter: 0700.
#[cfg(feature = "rocksdb")]
pub(super) fn private() -> fs::DirBuilder {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
}

/// Syncs every file of a directory, and the directory.
pub(super) fn sync_files(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        File::open(entry?.path())?.sync_all()?;
    }
    sync_directory(path)
}
