//! The engine on disk: RocksDB, and the only file that knows it.
//!
//! ```text
//! DIRECTORY/lock       held while the engine is open
//! DIRECTORY/rocksdb/   RocksDB's files
//! DIRECTORY/rocksdb.*  what a repair makes, and what it leaves: see `salvage.rs`
//! ```

use super::{
    engine::{
        Batch, Cached, Durability, Engine, Health, Op, Range, SCAN_STRETCH_ROWS, Usage, Visit,
    },
    error::{EngineError, OpenError},
    folder::{make_directory, private, refuse_foreign, sync_directory},
    key::Family,
    manifest::{Table, table_number},
    wal,
};
use bytes::Bytes;
use rocksdb::{
    BlockBasedOptions, BottommostLevelCompaction, Cache, ColumnFamily, ColumnFamilyDescriptor,
    CompactOptions, DBCompressionType, DBRecoveryMode, DBWithThreadMode, ErrorKind, Options,
    ReadOptions, ReadTier, SingleThreaded, SliceTransform, WriteBatch, WriteBufferManager,
    WriteOptions, checkpoint::Checkpoint, properties,
};
use std::{
    ffi::CStr,
    fmt,
    fs::{self, File, TryLockError},
    io,
    ops::ControlFlow,
    path::Path,
    sync::Arc,
};

/// Values from this size on live in blob files, where a compaction does not rewrite them.
const BLOB_BYTES_MIN: u64 = 4 << 10;
/// The part of all blob files, the oldest, out of which a compaction moves what is in use.
const BLOB_GC_AGE: f64 = 0.25;
/// Bytes of log after which the oldest tables in memory are written out; on a small volume less.
const WAL_BYTES_MAX: u64 = 256 << 20;
/// What part of its volume the log may take.
const WAL_VOLUME_PART: u64 = 16;
/// The file that is held while the engine is open.
const LOCK: &str = "lock";
/// Where RocksDB's files are, in the data directory.
pub(super) const ROWS: &str = "rocksdb";
/// A repaired store that has yet to take the place of the damaged one.
pub(super) const REPAIRED: &str = "rocksdb.repaired";
/// A backup that is being copied to where it will be opened.
pub(super) const RESTORING: &str = "rocksdb.restoring";
/// Tables that are not sorted into levels before a compaction does so.
const TABLES_UNSORTED_MAX: i32 = 8;
/// Bytes of a document id, by which chunks are found.
const CHUNK_PREFIX_BYTES: usize = 16;

/// What a user may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RocksOptions {
    /// Memory for blocks, blobs, indexes, filters and unwritten tables together, in bytes. RocksDB
    /// ends the process over zero, and over more than there are addresses.
    pub blocks_bytes: usize,
}

impl Default for RocksOptions {
    fn default() -> Self {
        Self { blocks_bytes: 256 << 20 }
    }
}

/// Families never change while a database is open, so handles need no lock.
type Database = DBWithThreadMode<SingleThreaded>;

/// What is done with the files of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Everything.
    Write,
    /// They are read, and nothing is changed. Every commit finds the disk full.
    Read,
    /// They are read, damaged log records are passed over, and every table has to open.
    Salvage,
    /// The same, whatever tables do not open: only what the manifest names can be asked for.
    Manifest,
}

/// Rows on disk.
pub struct RocksEngine {
    rows: Database,
    cached: ReadOptions,
    access: Access,
    /// Let go of after the rows are closed.
    _lock: Arc<File>,
}

impl fmt::Debug for RocksEngine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("RocksEngine").field("path", &self.rows.path()).finish_non_exhaustive()
    }
}

impl RocksEngine {
    /// Opens the data in a directory, or begins with none. What it makes only its user can read.
    ///
    /// A log whose end is torn (power was lost) opens without what was never synced. A log that is
    /// damaged before its end does not open: what follows the damage was acknowledged. A page missing
    /// inside the last record counts as damage, since nothing tells the two apart.
    ///
    /// # Errors
    /// `Locked`, `Directory`, `Foreign`, `Damaged` (names the file), `Engine`.
    pub fn open(directory: &Path, options: RocksOptions) -> Result<Self, OpenError> {
        make_directory(directory)?;
        refuse_foreign(directory, &[LOCK, ROWS, REPAIRED, RESTORING])?;
        let lock = lock(directory)?;
        let path = directory.join(ROWS);
        let repaired = directory.join(REPAIRED);
        if !path.exists() && repaired.is_dir() {
            // A repair was cut off between its two last steps.
            let renamed = fs::rename(&repaired, &path).and_then(|()| sync_directory(directory));
            renamed.map_err(|cause| OpenError::Directory { path: repaired, cause })?;
        }
        let restoring = directory.join(RESTORING);
        if !path.exists() && restoring.is_dir() {
            let what = "a restore into it was cut off: remove it, and restore again";
            return Err(OpenError::Damaged(format!("{}: {what}", directory.display())));
        }
        make_directory(&path)?;
        Self::open_at(&path, Access::Write, options, lock)
    }

    /// Opens the data in a directory for reading. Nothing in it is changed, the disk may be full, and
    /// every commit finds it so.
    ///
    /// # Errors
    /// `Locked`, `Directory`, `Damaged`, `Engine`.
    pub fn open_read_only(directory: &Path, options: RocksOptions) -> Result<Self, OpenError> {
        let lock = lock(directory)?;
        Self::open_at(&directory.join(ROWS), Access::Read, options, lock)
    }

    /// Opens RocksDB's files, wherever they are.
    pub(super) fn open_at(
        path: &Path,
        access: Access,
        options: RocksOptions,
        lock: Arc<File>,
    ) -> Result<Self, OpenError> {
        // Zero lets RocksDB measure what an entry is charged.
        let cache = Cache::new_hyper_clock_cache(options.blocks_bytes, 0);
        let written_max = (options.blocks_bytes / 2, wal_bytes_max(path));
        let mut options = database_options(access, &cache, written_max).map_err(error)?;
        let mut families = Family::ALL.to_vec();
        if matches!(access, Access::Salvage | Access::Manifest) {
            // A manifest that was made anew knows of no family without a table.
            let there = Database::list_cf(&options, path).map_err(error)?;
            families.retain(|family| there.iter().any(|there| there == family.name()));
        }
        let families = families.into_iter().map(|family| {
            ColumnFamilyDescriptor::new(family.name(), family_options(family, &cache))
        });
        if access == Access::Write {
            tell_of_a_torn_log(path);
        }
        let opened = match access {
            Access::Write => Database::open_cf_descriptors(&options, path, families),
            Access::Read => {
                Database::open_cf_descriptors_read_only(&options, path, families, false)
            }
            Access::Salvage | Access::Manifest => {
                options.set_paranoid_checks(access == Access::Salvage);
                options.set_wal_recovery_mode(DBRecoveryMode::SkipAnyCorruptedRecord);
                options.set_track_and_verify_wals_in_manifest(false);
                Database::open_cf_descriptors_read_only(&options, path, families, false)
            }
        };
        let rows = opened.map_err(|fault| open_error(path, access, fault))?;
        let mut cached = ReadOptions::default();
        cached.set_read_tier(ReadTier::BlockCache);
        Ok(Self { rows, cached, access, _lock: lock })
    }

    /// Where the manifest has the table whose file has this number; `None`: nowhere.
    pub(super) fn table(&self, number: u64) -> Result<Option<Table>, EngineError> {
        let files = self.rows.live_files().map_err(error)?;
        let file = files.iter().find(|file| table_number(&file.name) == Some(number));
        Ok(file.and_then(|file| {
            let families =
                Family::ALL.iter().position(|family| family.name() == file.column_family_name);
            // RocksDB counts families as they are made: its own, then all of ours at once, in order.
            let family = 1 + u64::try_from(families?).ok()?;
            Some(Table { family, level: u64::try_from(file.level).ok()?, number })
        }))
    }

    /// Makes a new manifest from the tables that are there. Values in blob files are lost with the
    /// old one, since only it told of those files.
    pub(super) fn rebuild_manifest(path: &Path) -> Result<(), OpenError> {
        let mut options = Options::default();
        options.create_if_missing(true);
        Database::repair(&options, path).map_err(|fault| error(fault).into())
    }

    /// Writes out every table in memory, then rewrites all files of every family, so that nothing
    /// is stored that was removed or overwritten. It takes as long as reading and writing all there
    /// is, and room for it twice; reads and commits go on meanwhile.
    ///
    /// # Errors
    /// A table could not be written, or background work failed while this ran. All that was
    /// committed is as before.
    pub fn compact(&self) -> Result<(), EngineError> {
        let failed = self.health()?.background_errors;
        for family in Family::ALL {
            self.compact_family(family)?;
        }
        // The crate does not hand on what came of a compaction.
        if failed < self.health()?.background_errors {
            return Err(EngineError::Io("a compaction failed; the file LOG says why".to_owned()));
        }
        Ok(())
    }

    fn compact_family(&self, family: Family) -> Result<(), EngineError> {
        let handle = self.family(family)?;
        let collect_up_to = |age: f64| {
            let age = age.to_string();
            let options = [("blob_garbage_collection_age_cutoff", age.as_str())];
            if has_blobs(family) { self.rows.set_options_cf(handle, &options) } else { Ok(()) }
        };
        let mut options = CompactOptions::default();
        // By default files on the last level stay as they are.
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        // A compaction would flush as well, and not tell if that fails.
        self.rows.flush_cf(handle).map_err(error)?;
        // What is removed stays in blob files for as long as anything in them is in use, unless
        // they are old: now all are.
        collect_up_to(1.0).map_err(error)?;
        self.rows.compact_range_cf_opt(handle, None::<&[u8]>, None::<&[u8]>, &options);
        collect_up_to(BLOB_GC_AGE).map_err(error)
    }

    /// Whether a family had no table, where a manifest was made anew from tables.
    fn is_empty(&self, family: Family) -> bool {
        self.access == Access::Salvage && self.rows.cf_handle(family.name()).is_none()
    }

    fn family(&self, family: Family) -> Result<&ColumnFamily, EngineError> {
        let missing = || EngineError::Io(format!("the column family {} is gone", family.name()));
        self.rows.cf_handle(family.name()).ok_or_else(missing)
    }

    /// A number that RocksDB tells of a family, or of itself.
    fn number(&self, family: Option<Family>, name: &CStr) -> Result<u64, EngineError> {
        let told = match family {
            Some(family) => self.rows.property_int_value_cf(self.family(family)?, name),
            None => self.rows.property_int_value(name),
        };
        Ok(told.map_err(error)?.unwrap_or(0))
    }

    /// The log's size, which RocksDB does not tell.
    fn log_bytes(&self) -> Result<u64, EngineError> {
        let failed = |fault: io::Error| EngineError::Io(fault.to_string());
        let mut bytes = 0;
        for entry in fs::read_dir(self.rows.path()).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                // A log that was removed in the meantime has no size.
                bytes += fs::metadata(path).map_or(0, |metadata| metadata.len());
            }
        }
        Ok(bytes)
    }
}

fn database_options(
    access: Access,
    cache: &Cache,
    (unwritten_bytes, wal_bytes_max): (usize, u64),
) -> Result<Options, rocksdb::Error> {
    let mut options = Options::default();
    if access == Access::Write {
        // A node looks at tables after the start, so that a damaged one keeps only its own rows from
        // being read: it stops commits, as any damage that is met does. No setter in the crate.
        options = options.get_options_from_string("open_files_async=true")?;
        // Goes with the former: how many removed rows each table has is not asked for.
        options.set_skip_stats_update_on_db_open(true);
    }
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_paranoid_checks(true);
    // Point-in-time recovery, the default, would drop acknowledged writes behind the damage.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_track_and_verify_wals_in_manifest(true);
    // A reused log file ends in old records, which a torn tail cannot be told from.
    options.set_recycle_log_file_num(0);
    options.set_max_total_wal_size(wal_bytes_max);
    // One log holds a whole batch, so families need not be flushed together.
    options.set_atomic_flush(false);
    options.set_unordered_write(false);
    // Tables in memory are charged to the one cache, so that one number bounds them all.
    options.set_write_buffer_manager(&WriteBufferManager::new_write_buffer_manager_with_cache(
        unwritten_bytes,
        false,
        cache.clone(),
    ));
    options.set_keep_log_file_num(4);
    options.set_max_log_file_size(16 << 20);
    // Not exposed by the crate: `paranoid_file_checks`, a listener for background errors (they are
    // polled in `health`), and `verify_checksum` over a whole database.
    Ok(options)
}

/// Whether large values of a family have files of their own.
fn has_blobs(family: Family) -> bool {
    matches!(family, Family::View | Family::Chunk)
}

fn family_options(family: Family, cache: &Cache) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_cache_index_and_filter_blocks_with_high_priority(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    let mut options = Options::default();
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_bottommost_compression_type(DBCompressionType::Zstd);
    // At its default level, 3, compactions took a fifth of the CPU of an import.
    options.set_bottommost_compression_options(-14, 1, 0, 0, true);
    // Until there is a quarter of a gigabyte every compaction rewrites all there is.
    options.set_level_zero_file_num_compaction_trigger(TABLES_UNSORTED_MAX);
    match family {
        Family::View | Family::Head => blocks.set_bloom_filter(10.0, false),
        Family::Chunk => {
            blocks.set_bloom_filter(10.0, false);
            blocks.set_whole_key_filtering(false);
            options.set_prefix_extractor(SliceTransform::create_fixed_prefix(CHUNK_PREFIX_BYTES));
        }
        Family::Feed | Family::Orphan | Family::Kept | Family::Sys => {}
    }
    if has_blobs(family) {
        options.set_enable_blob_files(true);
        options.set_min_blob_size(BLOB_BYTES_MIN);
        options.set_blob_compression_type(DBCompressionType::Lz4);
        options.set_enable_blob_gc(true);
        options.set_blob_gc_age_cutoff(BLOB_GC_AGE);
        options.set_blob_gc_force_threshold(0.5);
        options.set_blob_cache(cache);
    }
    options.set_block_based_table_factory(&blocks);
    options
}

impl Engine for RocksEngine {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        if self.is_empty(family) {
            return Ok(None);
        }
        let value = self.rows.get_cf(self.family(family)?, key).map_err(error)?;
        Ok(value.map(Bytes::from))
    }

    fn get_cached(&self, family: Family, key: &[u8]) -> Result<Cached<Bytes>, EngineError> {
        match self.rows.get_cf_opt(self.family(family)?, key, &self.cached) {
            Ok(Some(value)) => Ok(Cached::Found(value.into())),
            Ok(None) => Ok(Cached::Missing),
            Err(fault) if fault.kind() == ErrorKind::Incomplete => Ok(Cached::Unknown),
            Err(fault) => Err(error(fault)),
        }
    }

    fn scan(
        &self,
        family: Family,
        range: &Range,
        visit: &mut Visit<'_>,
    ) -> Result<(), EngineError> {
        if self.is_empty(family) {
            return Ok(());
        }
        let handle = self.family(family)?;
        let mut range = range.clone();
        while !range.is_empty() {
            // An open iterator keeps every file of its moment alive, so a long scan takes new ones.
            let mut rows = self.rows.raw_iterator_cf_opt(handle, scan_options(family, &range));
            rows.seek(range.start());
            let mut last = None;
            for visited in 1..=SCAN_STRETCH_ROWS {
                let Some((key, value)) = rows.item() else {
                    return rows.status().map_err(error);
                };
                if visit(key, value) == ControlFlow::Break(()) {
                    return Ok(());
                }
                if visited == SCAN_STRETCH_ROWS {
                    last = Some(key.to_vec());
                }
                rows.next();
            }
            match last {
                Some(last) => range = range.after(&last),
                None => break,
            }
        }
        Ok(())
    }

    fn last_key(&self, family: Family) -> Result<Option<Vec<u8>>, EngineError> {
        let options = scan_options(family, &Range::all());
        let mut rows = self.rows.raw_iterator_cf_opt(self.family(family)?, options);
        rows.seek_to_last();
        rows.status().map_err(error)?;
        Ok(rows.key().map(<[u8]>::to_vec))
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), EngineError> {
        if self.access != Access::Write {
            return Err(EngineError::Full("opened for reading alone".into()));
        }
        let mut writes = WriteBatch::default();
        for op in batch.ops() {
            match op {
                Op::Put { family, key, value } => {
                    writes.put_cf(self.family(*family)?, key, value);
                }
                // Compaction fails on a key that has met both kinds of delete.
                Op::Remove { family: Family::Feed, key } => {
                    writes.single_delete_cf(self.family(Family::Feed)?, key);
                }
                Op::Remove { family, key } => writes.delete_cf(self.family(*family)?, key),
            }
        }
        let mut options = WriteOptions::default();
        options.set_sync(durability == Durability::Sync);
        self.rows.write_opt(writes, &options).map_err(error)
    }

    fn sync(&self) -> Result<(), EngineError> {
        if self.access != Access::Write {
            return Ok(());
        }
        self.rows.flush_wal(true).map_err(error)
    }

    fn checkpoint(&self, directory: &Path) -> Result<(), EngineError> {
        let failed =
            |fault: io::Error| EngineError::Io(format!("{}: {fault}", directory.display()));
        private().create(directory).map_err(failed)?;
        let made = Checkpoint::new(&self.rows)
            .and_then(|checkpoint| checkpoint.create_checkpoint(directory.join("rocksdb")));
        made.map_err(|fault| {
            // Nobody should take an empty directory for a backup. RocksDB removes its own part.
            let _ = fs::remove_dir(directory);
            error(fault)
        })?;
        sync_directory(directory).map_err(failed)
    }

    fn health(&self) -> Result<Health, EngineError> {
        let number = |name| self.rows.property_int_value(name).map_err(error);
        let mut unwritten_bytes = 0;
        for family in Family::ALL {
            let name = properties::CUR_SIZE_ALL_MEM_TABLES;
            let bytes = self.rows.property_int_value_cf(self.family(family)?, name);
            unwritten_bytes += bytes.map_err(error)?.unwrap_or(0);
        }
        let volume = volume(self.rows.path()).ok();
        Ok(Health {
            stalled: number(properties::IS_WRITE_STOPPED)?.unwrap_or(0) != 0,
            background_errors: number(properties::BACKGROUND_ERRORS)?.unwrap_or(0),
            free_bytes: volume.map(|volume| volume.free_bytes),
            volume_bytes: volume.map(|volume| volume.bytes),
            unwritten_bytes,
        })
    }

    fn usage(&self) -> Result<Usage, EngineError> {
        let all = |name: &CStr| self.number(None, name);
        // One cache serves all families, but the unused default one has another.
        let view = |name: &CStr| self.number(Some(Family::View), name);
        let sum = |name: &CStr| {
            let families = Family::ALL.iter();
            families
                .map(|family| self.number(Some(*family), name))
                .try_fold(0, |sum, number| Ok(sum + number?))
        };
        Ok(Usage {
            memtable_bytes: sum(properties::CUR_SIZE_ALL_MEM_TABLES)?,
            cache_bytes: view(properties::BLOCK_CACHE_USAGE)?,
            cache_bytes_max: view(properties::BLOCK_CACHE_CAPACITY)?,
            table_bytes: sum(properties::LIVE_SST_FILES_SIZE)?,
            blob_bytes: sum(c"rocksdb.live-blob-file-size")?,
            log_bytes: self.log_bytes()?,
            compaction_bytes_pending: sum(properties::ESTIMATE_PENDING_COMPACTION_BYTES)?,
            compactions_running: all(properties::NUM_RUNNING_COMPACTIONS)?,
            flushes_running: all(properties::NUM_RUNNING_FLUSHES)?,
            write_bytes_per_second_max: all(properties::ACTUAL_DELAYED_WRITE_RATE)?,
        })
    }
}

/// A volume, as its file system tells of it.
#[derive(Debug, Clone, Copy)]
struct Volume {
    bytes: u64,
    /// What one who is not root may still write.
    free_bytes: u64,
}

fn volume(path: &Path) -> io::Result<Volume> {
    let told = rustix::fs::statvfs(path)?;
    Ok(Volume {
        bytes: told.f_blocks.saturating_mul(told.f_frsize),
        free_bytes: told.f_bavail.saturating_mul(told.f_frsize),
    })
}

fn wal_bytes_max(path: &Path) -> u64 {
    let part = volume(path).map_or(WAL_BYTES_MAX, |volume| volume.bytes / WAL_VOLUME_PART);
    part.clamp(1 << 20, WAL_BYTES_MAX)
}

fn scan_options(family: Family, range: &Range) -> ReadOptions {
    let mut options = ReadOptions::default();
    if let Some(end) = range.end() {
        options.set_iterate_upper_bound(end);
    }
    if family == Family::Chunk {
        // Within one document the prefix filter skips files; across documents it would skip rows.
        let within = range.shares_prefix(CHUNK_PREFIX_BYTES);
        options.set_prefix_same_as_start(within);
        options.set_total_order_seek(!within);
    }
    options
}

/// Holds a directory against other processes until the file is dropped.
pub(super) fn lock(directory: &Path) -> Result<Arc<File>, OpenError> {
    let path = directory.join(LOCK);
    let file = match File::options().create(true).truncate(false).write(true).open(&path) {
        Ok(file) => file,
        Err(cause) => return Err(OpenError::Directory { path, cause }),
    };
    match file.try_lock() {
        Ok(()) => Ok(Arc::new(file)),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked(directory.to_path_buf())),
        Err(TryLockError::Error(cause)) => Err(OpenError::Directory { path, cause }),
    }
}

/// RocksDB names a damaged table, but a damaged log only in its own log file, anew at each opening.
fn open_error(path: &Path, access: Access, fault: rocksdb::Error) -> OpenError {
    let error = error(fault);
    if let EngineError::Corrupt(what) = &error
        // One who only reads writes no log file, and the one that is there is of another opening.
        && access == Access::Write
        && let Ok(report) = fs::read_to_string(path.join("LOG"))
        && let Some(file) = report.lines().find_map(dropping_from)
    {
        return OpenError::Damaged(format!("{file}: {what}"));
    }
    error.into()
}

/// Says so where the newest log ends in the middle of a record. A log that was cut between two
/// records, or that is gone, tells nothing.
fn tell_of_a_torn_log(path: &Path) {
    let newest = wal::newest(path).and_then(|log| {
        let torn = log.as_deref().map(wal::torn_bytes).transpose()?;
        Ok(log.zip(torn).filter(|(_, torn)| *torn != 0))
    });
    // What cannot be read here RocksDB cannot read either, and says so.
    if let Ok(Some((log, bytes))) = newest {
        let log = log.display();
        tracing::warn!(%log, bytes, "the log ends in the middle of a write, which is left out");
    }
}

/// The file of a line `DATE THREAD [WARN] [SOURCE.cc:LINE] FILE: dropping 123 bytes; Corruption: …`.
fn dropping_from(line: &str) -> Option<&str> {
    let (before, _) = line.split_once(": dropping ")?;
    let (_, behind_source) = before.split_once(".cc:")?;
    behind_source.split_once("] ").map(|(_, file)| file)
}

fn error(fault: rocksdb::Error) -> EngineError {
    let kind = fault.kind();
    let message = fault.into_string();
    // A file that RocksDB knows of and that is not there is damage, too.
    if kind == ErrorKind::Corruption || message.contains("No such file or directory") {
        EngineError::Corrupt(message)
    } else if message.contains("No space left on device") {
        EngineError::Full(message)
    } else {
        EngineError::Io(message)
    }
}
