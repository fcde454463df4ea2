//! The folders of a repair: the damaged files are only read, and stay.
//!
//! ```text
//! rocksdb               what is repaired
//! rocksdb.salvage       links to its files, with a manifest that opens; goes at the end
//! rocksdb.repairing     the repaired store in the making; thrown away if there is one already
//! rocksdb.repaired      the repaired store, whole; takes the place of `rocksdb` in one step
//! rocksdb.damaged-N     what was repaired: remove it once nothing of it is wanted any more
//! ```

use super::{
    error::OpenError,
    folder::{private, sync_directory},
    manifest::{leave_out, table_number},
    rocks::{Access, REPAIRED, ROWS, RocksEngine, RocksOptions, lock},
};
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

const SALVAGE: &str = "rocksdb.salvage";
const REPAIRING: &str = "rocksdb.repairing";
const DAMAGED: &str = "rocksdb.damaged";

/// How much is tried where the files do not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// They have to open.
    Sound,
    /// What is missing or damaged is passed over, acknowledged writes in it too.
    Salvage,
}

/// A data directory under repair.
#[derive(Debug)]
pub struct RepairFolder {
    directory: PathBuf,
    options: RocksOptions,
    lock: Arc<File>,
    /// What was done so that the files opened.
    notes: Vec<String>,
}

impl RepairFolder {
    /// Holds a data directory for being repaired.
    ///
    /// # Errors
    /// `Locked`, `Directory`.
    pub fn hold(directory: &Path, options: RocksOptions) -> Result<Self, OpenError> {
        let lock = lock(directory)?;
        Ok(Self { directory: directory.to_path_buf(), options, lock, notes: Vec::new() })
    }

    /// Opens what is damaged, for reading.
    ///
    /// # Errors
    /// It does not open, by this effort.
    pub fn source(&mut self, effort: Effort) -> Result<RocksEngine, OpenError> {
        let path = self.directory.join(ROWS);
        let refused = match self.open(&path, Access::Read) {
            Ok(engine) => return Ok(engine),
            Err(refused) if effort == Effort::Sound => return Err(refused),
            Err(refused) => refused,
        };
        self.notes.push(format!("it did not open: {refused}"));
        let skipped = "what of its log and tables could not be read was passed over: \
            acknowledged writes that were there are lost";
        if let Ok(engine) = self.open(&path, Access::Salvage) {
            self.notes.push(skipped.to_owned());
            return Ok(engine);
        }
        let copy = self.link_files().map_err(|source| self.failed(SALVAGE, source))?;
        let manifest = newest_manifest(&copy).map_err(|source| self.failed(SALVAGE, source))?;
        if let Some(manifest) = manifest {
            let pointed = fs::write(copy.join("CURRENT"), format!("{manifest}\n"));
            pointed.map_err(|source| self.failed(SALVAGE, source))?;
            if let Some(engine) = self.salvage(&copy, &manifest) {
                self.notes.push(format!("by {manifest}; {skipped}"));
                return Ok(engine);
            }
        }
        RocksEngine::rebuild_manifest(&copy)?;
        let engine = self.open(&copy, Access::Salvage)?;
        self.notes.push(format!(
            "its manifest was made anew from its tables: values of 4 KiB and more, which are in files \
             of their own, are lost, and older rows may stand where newer ones did; {skipped}"
        ));
        Ok(engine)
    }

    /// What was done so that the files opened, for people.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// A store that holds nothing yet, for what is repaired.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn target(&self) -> Result<RocksEngine, OpenError> {
        let path = self.directory.join(REPAIRING);
        let made = remove(&path).and_then(|()| private().create(&path));
        made.map_err(|source| self.failed(REPAIRING, source))?;
        self.open(&path, Access::Write)
    }

    /// Puts the repaired store, which is closed, in the place of the damaged one. Gives where that is
    /// now.
    ///
    /// # Errors
    /// A folder could not be renamed; what the names say is right all the same.
    pub fn finish(self) -> Result<PathBuf, OpenError> {
        let at = |name: &str| self.directory.join(name);
        let count = (1..).find(|count| !at(&format!("{DAMAGED}-{count}")).exists());
        let damaged = at(&format!("{DAMAGED}-{}", count.unwrap_or(0)));
        // Between the second and the third step a start puts things right.
        let steps: [(PathBuf, &Path); 3] =
            [(at(REPAIRING), &at(REPAIRED)), (at(ROWS), &damaged), (at(REPAIRED), &at(ROWS))];
        for (from, to) in steps {
            let renamed = fs::rename(from, to).and_then(|()| sync_directory(&self.directory));
            renamed.map_err(|cause| OpenError::Directory { path: to.to_path_buf(), cause })?;
        }
        self.abandon()?;
        Ok(damaged)
    }

    /// Removes what is of no use any more.
    ///
    /// # Errors
    /// It could not be removed.
    pub fn abandon(&self) -> Result<(), OpenError> {
        for name in [SALVAGE, REPAIRING] {
            remove(&self.directory.join(name)).map_err(|source| self.failed(name, source))?;
        }
        Ok(())
    }

    /// What opens when the tables that do not are left out. With such a table nothing that its keys
    /// span could be read, in whatever table it is.
    fn salvage(&mut self, copy: &Path, manifest: &str) -> Option<RocksEngine> {
        loop {
            let refused = match self.open(copy, Access::Salvage) {
                Ok(engine) => return Some(engine),
                Err(refused) => refused.to_string(),
            };
            let number = table_number(&refused)?;
            // One that was left out already is not in it any more.
            let table = self.open(copy, Access::Manifest).ok()?.table(number).ok()??;
            leave_out(&copy.join(manifest), table).ok()?;
            self.notes.push(format!("a table is left out: {refused}"));
        }
    }

    fn open(&self, path: &Path, access: Access) -> Result<RocksEngine, OpenError> {
        RocksEngine::open_at(path, access, self.options, Arc::clone(&self.lock))
    }

    fn failed(&self, name: &str, source: io::Error) -> OpenError {
        OpenError::Directory { path: self.directory.join(name), cause: source }
    }

    /// A folder with the same files. Tables and blobs never change, and are the same on disk.
    fn link_files(&self) -> io::Result<PathBuf> {
        let copy = self.directory.join(SALVAGE);
        remove(&copy)?;
        private().create(&copy)?;
        for entry in fs::read_dir(self.directory.join(ROWS))? {
            let (from, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
            let to = copy.join(name);
            let constant = from.extension().is_some_and(|end| end == "sst" || end == "blob");
            if !constant || fs::hard_link(&from, &to).is_err() {
                fs::copy(&from, &to)?;
            }
        }
        Ok(copy)
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The name of the manifest that was begun last.
fn newest_manifest(folder: &Path) -> io::Result<Option<String>> {
    let mut newest = None;
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().into_string().unwrap_or_default();
        if name.starts_with("MANIFEST-") {
            newest = newest.max(Some(name));
        }
    }
    Ok(newest)
}
