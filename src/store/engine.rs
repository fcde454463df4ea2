//! What the store asks of whatever keeps its bytes: few verbs, and no compare-and-swap.

use super::{error::EngineError, key::Family};
use bytes::Bytes;
use std::{fmt, ops::ControlFlow, path::Path};

/// When a write is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// After it is synced to disk.
    #[default]
    Sync,
    /// After it is handed to the kernel; synced every 100 ms.
    Relaxed,
}

/// What a read that may not touch the disk found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cached<T> {
    /// The row, from memory.
    Found(T),
    /// There is surely no such row.
    Missing,
    /// Only the disk knows.
    Unknown,
}

/// A range of keys: from `start` on, before `end`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    start: Vec<u8>,
    end: Option<Vec<u8>>,
}

impl Range {
    /// Every key.
    pub fn all() -> Self {
        Self { start: Vec::new(), end: None }
    }

    /// The keys that begin with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        Self { start: prefix.to_vec(), end: successor(prefix) }
    }

    /// The keys from `key` on.
    pub fn starting_at(key: &[u8]) -> Self {
        Self { start: key.to_vec(), end: None }
    }

    /// Only what comes after `key`.
    #[must_use]
    pub fn after(mut self, key: &[u8]) -> Self {
        // No key lies between `key` and `key` with a zero byte behind it.
        let next = [key, &[0]].concat();
        self.start = self.start.max(next);
        self
    }

    /// The first key that may be in the range.
    pub fn start(&self) -> &[u8] {
        &self.start
    }

    /// The first key that is past the range; `None` if it has no end.
    pub fn end(&self) -> Option<&[u8]> {
        self.end.as_deref()
    }

    /// Whether no key is in the range.
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }

    /// Whether `key` is in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.start.as_slice() <= key && self.end().is_none_or(|end| key < end)
    }

    /// Whether every key of the range begins with the same `length` bytes.
    pub fn shares_prefix(&self, length: usize) -> bool {
        let prefix = self.start.get(..length);
        prefix
            .and_then(successor)
            .is_some_and(|past| self.end().is_some_and(|end| end <= &past[..]))
    }
}

/// The first key that is greater than every key that begins with `prefix`.
pub(super) fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut next = prefix[..=last].to_vec();
    next[last] += 1;
    Some(next)
}

/// One step of a [`Batch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// A row is as given.
    Put {
        /// Where.
        family: Family,
        /// Its key.
        key: Vec<u8>,
        /// Its value.
        value: Bytes,
    },
    /// A row is gone.
    ///
    /// In [`Family::Feed`] an engine may rest on every key having been put exactly once and removed
    /// at most once: no seq is ever given twice.
    Remove {
        /// Where.
        family: Family,
        /// Its key.
        key: Vec<u8>,
    },
}

/// Rows that are written all or not at all, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    ops: Vec<Op>,
}

impl Batch {
    /// Sets a row.
    pub fn put(&mut self, family: Family, key: impl Into<Vec<u8>>, value: Bytes) {
        self.ops.push(Op::Put { family, key: key.into(), value });
    }

    /// Removes a row.
    pub fn remove(&mut self, family: Family, key: impl Into<Vec<u8>>) {
        self.ops.push(Op::Remove { family, key: key.into() });
    }

    /// The steps.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }
}

/// How an engine fares, as far as writers should know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Health {
    /// Writes wait until background work has caught up.
    pub stalled: bool,
    /// How many flushes and compactions have failed since the engine was opened.
    pub background_errors: u64,
    /// Bytes that may still be written to the volume; `None`: there is no volume, or it does not
    /// say.
    pub free_bytes: Option<u64>,
    /// Bytes of all of the volume.
    pub volume_bytes: Option<u64>,
    /// Bytes in memory that have still to be written to tables.
    pub unwritten_bytes: u64,
}

/// What an engine uses of memory and disk, and what it does behind its callers' backs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Rows in memory that are in no table on disk yet, in bytes.
    pub memtable_bytes: u64,
    /// The cache of blocks: bytes in it.
    pub cache_bytes: u64,
    /// The cache of blocks: its budget.
    pub cache_bytes_max: u64,
    /// Tables on disk, in bytes.
    pub table_bytes: u64,
    /// Large values on disk, in bytes.
    pub blob_bytes: u64,
    /// The log on disk, in bytes.
    pub log_bytes: u64,
    /// Bytes that compactions have still to rewrite.
    pub compaction_bytes_pending: u64,
    /// Compactions that run.
    pub compactions_running: u64,
    /// Flushes that run.
    pub flushes_running: u64,
    /// Bytes a second to which writes are slowed down; 0: they are not.
    pub write_bytes_per_second_max: u64,
}

impl Usage {
    /// All that is on disk, in bytes.
    pub fn disk_bytes(&self) -> u64 {
        self.table_bytes + self.blob_bytes + self.log_bytes
    }
}

/// What a scan calls with each row, key and value, in key order.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// How many rows a scan reads before it lets go of what it holds of the engine and looks again.
/// Each such stretch is one consistent state; a longer scan may see what was committed meanwhile.
pub const SCAN_STRETCH_ROWS: usize = 1_000;

/// Keeps rows. Every verb may be called from any thread at any time.
pub trait Engine: Send + Sync + fmt::Debug {
    /// One row. May wait for the disk.
    ///
    /// # Errors
    /// The row could not be read: that says nothing about whether it exists.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// One row, if no disk is needed to know it.
    ///
    /// # Errors
    /// As [`Engine::get`].
    fn get_cached(&self, family: Family, key: &[u8]) -> Result<Cached<Bytes>, EngineError>;

    /// Visits the rows of a range in key order, until the visitor breaks.
    ///
    /// # Errors
    /// The scan could not go on; what was visited is right.
    fn scan(&self, family: Family, range: &Range, visit: &mut Visit<'_>)
    -> Result<(), EngineError>;

    /// The greatest key.
    ///
    /// # Errors
    /// It could not be read.
    fn last_key(&self, family: Family) -> Result<Option<Vec<u8>>, EngineError>;

    /// Writes a batch: all of it or nothing, over all families. Readers see it only after it is as
    /// durable as was asked.
    ///
    /// # Errors
    /// The batch may or may not be found when the engine is opened again. Never try again.
    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), EngineError>;

    /// Syncs what was committed as [`Durability::Relaxed`].
    ///
    /// # Errors
    /// What was committed since the last sync may be lost. Never try again.
    fn sync(&self) -> Result<(), EngineError>;

    /// Makes a copy of everything committed, in a directory that does not exist yet.
    ///
    /// # Errors
    /// There is no copy.
    fn checkpoint(&self, directory: &Path) -> Result<(), EngineError>;

    /// Whether writers have to wait.
    ///
    /// # Errors
    /// The engine does not say.
    fn health(&self) -> Result<Health, EngineError>;

    /// What the engine uses. For people: it asks each family, and the file system.
    ///
    /// # Errors
    /// The engine does not say.
    fn usage(&self) -> Result<Usage, EngineError>;
}
