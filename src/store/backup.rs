//! Backups: copies of a running store, which say of themselves what they are, and are whole or none.
//!
//! ```text
//! BACKUP/backup.json   what it is: written last
//! BACKUP/rocksdb/      the engine's files
//! ```

use super::{
    error::{OpenError, ReadError},
    folder::{sync_directory, sync_files},
    format,
    read::Store,
};
use crate::ident::{IncarnationId, NodeId};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// What says that a directory is a backup.
const MANIFEST: &str = "backup.json";
/// Largest manifest that is read.
const MANIFEST_BYTES_MAX: u64 = 64 << 10;

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// Whose store it is.
    pub node: NodeId,
    /// The start during which it was made.
    pub incarnation: IncarnationId,
    /// Every commit up to this one is in it.
    pub last_seq: u64,
    /// Its format.
    pub format: u32,
    /// When it was made, in milliseconds since 1970.
    pub unix_ms: u64,
    /// The version of the program that made it.
    pub version: String,
}

/// A backup was not made, or not restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Something is there already.
    #[error("{} is there already", .0.display())]
    Exists(PathBuf),
    /// It is no backup, or not a whole one.
    #[error("{}: {why}", path.display())]
    NoBackup {
        /// What was taken for one.
        path: PathBuf,
        /// Why it is none.
        why: String,
    },
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
    /// The engine made no copy.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The copy does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// A manifest as it is written.
#[derive(Serialize, Deserialize)]
struct Manifest {
    tombolo: String,
    format: u32,
    node: String,
    incarnation: String,
    last_seq: u64,
    unix_ms: u64,
}

impl Store {
    /// Makes a copy of everything durable in a directory that does not exist yet. Files are linked
    /// where that can be, and copied to another volume. It has its name only once it is whole.
    ///
    /// # Errors
    /// There is no backup of that name, unless there was one before.
    pub fn backup(&self, directory: &Path, unix_ms: u64) -> Result<Backup, BackupError> {
        let (Some(parent), Some(name)) = (directory.parent(), directory.file_name()) else {
            return Err(BackupError::Exists(directory.to_path_buf()));
        };
        let parent = if parent == Path::new("") { Path::new(".") } else { parent };
        if directory.symlink_metadata().is_ok() {
            return Err(BackupError::Exists(directory.to_path_buf()));
        }
        let backup = Backup {
            node: self.node,
            incarnation: self.incarnation.id,
            last_seq: self.last_seq(),
            format: format::format(),
            unix_ms,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let mut partial = std::ffi::OsString::from(".");
        partial.push(name);
        partial.push(".partial");
        let partial = parent.join(partial);
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |source| BackupError::Io { path, source }
        };
        // What an earlier one left that did not come to its end.
        remove(&partial).map_err(failed(&partial))?;
        let made = self.checkpoint(&partial).map_err(BackupError::from).and_then(|()| {
            let sealed = seal(&partial, &backup).map_err(failed(&partial));
            // Between the look above and here nobody else may have taken the name: a rename onto a
            // directory that holds anything fails.
            sealed.and_then(|()| fs::rename(&partial, directory).map_err(failed(directory)))
        });
        if made.is_err() {
            // Whatever happens to it, it has not the name of a backup.
            let _ = remove(&partial);
        }
        made?;
        sync_directory(parent).map_err(failed(parent))?;
        Ok(backup)
    }
}

/// Writes the manifest, and syncs everything.
fn seal(directory: &Path, backup: &Backup) -> io::Result<()> {
    let manifest = Manifest {
        tombolo: backup.version.clone(),
        format: backup.format,
        node: backup.node.to_string(),
        incarnation: backup.incarnation.to_string(),
        last_seq: backup.last_seq,
        unix_ms: backup.unix_ms,
    };
    sync_files(&directory.join("rocksdb"))?;
    let mut file = File::create_new(directory.join(MANIFEST))?;
    file.write_all(&serde_json::to_vec_pretty(&manifest)?)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    sync_directory(directory)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

impl Backup {
    /// Reads what a directory says that it is.
    ///
    /// # Errors
    /// It is no backup.
    pub fn read(directory: &Path) -> Result<Self, BackupError> {
        let refused = |why: String| BackupError::NoBackup { path: directory.to_path_buf(), why };
        let path = directory.join(MANIFEST);
        let length = fs::metadata(&path).map(|metadata| metadata.len());
        let length = length.map_err(|why| refused(format!("no backup: {MANIFEST}: {why}")))?;
        if MANIFEST_BYTES_MAX < length {
            return Err(refused(format!("{MANIFEST} is no manifest")));
        }
        let bytes = fs::read(&path).map_err(|source| BackupError::Io { path, source })?;
        let manifest: Manifest = serde_json::from_slice(&bytes)
            .map_err(|why| refused(format!("{MANIFEST} is no manifest: {why}")))?;
        let unnamed = || refused(format!("{MANIFEST} names no node"));
        Ok(Self {
            node: manifest.node.parse().map_err(|_| unnamed())?,
            incarnation: manifest.incarnation.parse().map_err(|_| unnamed())?,
            last_seq: manifest.last_seq,
            format: manifest.format,
            unix_ms: manifest.unix_ms,
            version: manifest.tombolo,
        })
    }
}

#[cfg(feature = "rocksdb")]
pub use restoring::restore;

#[cfg(feature = "rocksdb")]
mod restoring {
    use super::{Backup, BackupError};
    use crate::{
        ident::NodeId,
        store::{
            OpenError, Store,
            folder::{make_directory, private, sync_directory, sync_files},
            format,
            repair::rename_node,
            rocks::{Access, RESTORING, ROWS, RocksEngine, RocksOptions, lock},
        },
    };
    use std::{fs, io, path::Path, sync::Arc};

    /// Makes a data directory of a backup, and opens it to see that it is what it says. `new_node`:
    /// the id that it gets if it is to stand beside the node that was backed up; else it is that node.
    ///
    /// # Errors
    /// There is no data directory.
    pub fn restore(
        from: &Path,
        data: &Path,
        options: RocksOptions,
        new_node: Option<NodeId>,
    ) -> Result<Backup, BackupError> {
        let backup = Backup::read(from)?;
        let known = format::format();
        if known < backup.format {
            return Err(OpenError::NewerFormat { found: backup.format, known }.into());
        }
        let failed = |source| BackupError::Io { path: data.to_path_buf(), source };
        if data.symlink_metadata().is_ok() && fs::read_dir(data).map_err(failed)?.next().is_some() {
            return Err(BackupError::Exists(data.to_path_buf()));
        }
        make_directory(data)?;
        let lock = lock(data)?;
        let restoring = data.join(RESTORING);
        copy(&from.join("rocksdb"), &restoring).map_err(failed)?;
        let engine: Arc<RocksEngine> =
            Arc::new(RocksEngine::open_at(&restoring, Access::Write, options, lock)?);
        let store = Store::inspect(Arc::<RocksEngine>::clone(&engine))?;
        let refused = |why: &str| {
            Err(BackupError::NoBackup { path: from.to_path_buf(), why: why.to_owned() })
        };
        if store.node() != backup.node {
            return refused("it is another node's than it says");
        }
        if store.last_seq() < backup.last_seq {
            return refused("its last commits are missing");
        }
        if let Some(node) = new_node {
            rename_node(&*engine, node).map_err(OpenError::from)?;
        }
        drop((store, engine));
        sync_files(&restoring)
            .and_then(|()| fs::rename(&restoring, data.join(ROWS)))
            .and_then(|()| sync_directory(data))
            .map_err(failed)?;
        Ok(backup)
    }

    fn copy(from: &Path, to: &Path) -> io::Result<()> {
        private().create(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
        sync_files(to)
    }
}
