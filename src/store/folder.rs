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
    if path.exists() {
        let cause = io::ErrorKind::NotADirectory.into();
        return Err(OpenError::Directory { path: PathBuf::from(path), cause });
    }
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) | None => Path::new("."),
    };
    make_directory(parent)?;
    let made = private().create(path).and_then(|()| sync_directory(parent));
    made.map_err(|cause| OpenError::Directory { path: PathBuf::from(path), cause })
}

/// Refuses a directory that is in use for something else: a name that was typed wrong. What a file
/// system has of itself is nothing, and so is what bears our name, as a configuration does.
#[cfg(feature = "rocksdb")]
pub(super) fn refuse_foreign(path: &Path, ours: &[&str]) -> Result<(), OpenError> {
    let failed = |cause| OpenError::Directory { path: PathBuf::from(path), cause };
    let mut foreign = false;
    for entry in fs::read_dir(path).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let name = name.to_string_lossy();
        if ours.contains(&&*name) {
            return Ok(());
        }
        foreign |= name != "lost+found" && !name.starts_with("tombolo");
    }
    if foreign { Err(OpenError::Foreign(PathBuf::from(path))) } else { Ok(()) }
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
