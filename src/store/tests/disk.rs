//! RocksDB's files: who may open them, what is in force, what is done about damage.

use super::*;
use crate::{
    ident::DocumentId,
    store::{Batch, Cached, OpenError, RocksEngine, RocksOptions, wal},
};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

fn open(directory: &Path) -> Result<RocksEngine, OpenError> {
    RocksEngine::open(directory, RocksOptions { blocks_bytes: 8 << 20 })
}

/// The files of a data directory with one of these endings, by name.
fn files(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory.join("rocksdb")).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == ending));
    paths.sort();
    paths
}

/// What the disk would hold if power went now: the files as they are, while the engine is open.
fn copy_unclean(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("rocksdb")).unwrap();
    for entry in fs::read_dir(from.join("rocksdb")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap() != "LOCK" {
            fs::copy(&path, to.join("rocksdb").join(path.file_name().unwrap())).unwrap();
        }
    }
}

fn put(engine: &RocksEngine, family: Family, key: u32, value: &[u8]) {
    let mut batch = Batch::default();
    batch.put(family, key.to_be_bytes(), Bytes::copy_from_slice(value));
    engine.commit(batch, Durability::Sync).unwrap();
}

fn keys(engine: &RocksEngine, family: Family) -> Vec<u32> {
    let rows = rows(engine, family);
    rows.iter().map(|(key, _)| u32::from_be_bytes(key.as_slice().try_into().unwrap())).collect()
}

/// Bytes that do not compress, so that files are as long as what is in them.
fn noise(length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(1);
    (0..length).map(|_| random.u8(..)).collect()
}

/// An engine with 100 synced rows of 1,000 bytes in its log, and its log as it lies on the disk.
fn with_a_log(directory: &Path) -> (RocksEngine, PathBuf) {
    let engine = open(&directory.join("data")).unwrap();
    for key in 0..100 {
        put(&engine, Family::Head, key, &noise(1_000));
    }
    let log = files(&directory.join("data"), "log").pop().unwrap();
    assert!(100_000 < fs::metadata(&log).unwrap().len());
    (engine, log)
}

#[test]
fn a_torn_tail_opens_without_what_was_torn() {
    let directory = tempfile::tempdir().unwrap();
    let (_engine, log) = with_a_log(directory.path());
    let length = fs::metadata(&log).unwrap().len();
    for (cut, left) in [(0, 100), (1, 99), (7, 99), (500, 99), (1_010, 99), (1_500, 98)] {
        let copy = directory.path().join(format!("cut {cut}"));
        copy_unclean(&directory.path().join("data"), &copy);
        let torn = copy.join("rocksdb").join(log.file_name().unwrap());
        fs::File::options().write(true).open(torn).unwrap().set_len(length - cut).unwrap();
        let engine = open(&copy).unwrap();
        assert_eq!(keys(&engine, Family::Head), (0..left).collect::<Vec<_>>(), "cut {cut}");
    }
}

#[test]
fn a_log_says_whether_it_ends_in_the_middle_of_a_write() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, log) = with_a_log(directory.path());
    let whole = fs::metadata(&log).unwrap().len();
    // One record over several blocks.
    put(&engine, Family::Head, 100, &noise(100_000));
    let bytes = fs::read(&log).unwrap();
    let copy = directory.path().join("copy.log");
    let torn = |length: usize| {
        fs::write(&copy, &bytes[..length]).unwrap();
        wal::torn_bytes(&copy).unwrap()
    };
    let whole = usize::try_from(whole).unwrap();
    for (length, bytes_torn) in [
        (0, 0),
        (bytes.len(), 0),
        (whole, 0),
        (whole + 3, 3),
        (whole + 500, 500),
        (bytes.len() - 1, bytes.len() - 1 - whole),
        (whole + 70_000, 70_000),
    ] {
        assert_eq!(torn(length), bytes_torn as u64, "{length} of {}", bytes.len());
    }
}

#[test]
fn damage_inside_a_log_refuses_to_open_and_names_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let (_engine, log) = with_a_log(directory.path());
    for at in [200, 10_000, 50_000, 90_000] {
        let copy = directory.path().join(format!("flip {at}"));
        copy_unclean(&directory.path().join("data"), &copy);
        let path = copy.join("rocksdb").join(log.file_name().unwrap());
        let mut bytes = fs::read(&path).unwrap();
        bytes[at] ^= 0x10;
        fs::write(&path, bytes).unwrap();
        let refused = open(&copy).unwrap_err();
        assert!(matches!(refused, OpenError::Damaged(_)), "{refused:?}");
        let text = refused.to_string();
        assert!(text.contains(path.to_str().unwrap()), "{text}");
    }
}

/// Nothing tells a page of the last record that never reached the disk from one that was lost there
/// later, so this refuses too, where it might have opened without the last, unacknowledged write.
#[test]
fn a_hole_in_the_last_record_refuses_to_open() {
    let directory = tempfile::tempdir().unwrap();
    let (_engine, log) = with_a_log(directory.path());
    let copy = directory.path().join("hole");
    copy_unclean(&directory.path().join("data"), &copy);
    let path = copy.join("rocksdb").join(log.file_name().unwrap());
    let mut bytes = fs::read(&path).unwrap();
    let length = bytes.len();
    bytes[length - 500..].fill(0);
    fs::write(&path, bytes).unwrap();
    assert!(matches!(open(&copy), Err(OpenError::Damaged(_))));
}

#[test]
fn damage_in_a_table_is_an_error_when_it_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, _) = with_a_log(directory.path());
    put(&engine, Family::View, 0, &noise(100_000));
    drop(engine);
    let data = directory.path().join("data");
    // Opening writes what the log holds into tables.
    drop(open(&data).unwrap());
    for path in files(&data, "sst").into_iter().chain(files(&data, "blob")) {
        let mut bytes = fs::read(&path).unwrap();
        bytes[100] ^= 0x10;
        fs::write(&path, bytes).unwrap();
    }
    let engine = open(&data).unwrap();
    for family in [Family::Head, Family::View] {
        let read = engine.get(family, &0_u32.to_be_bytes());
        assert!(matches!(read, Err(crate::store::EngineError::Corrupt(_))), "{read:?}");
        let scan = engine.scan(family, &Range::all(), &mut |_, _| ControlFlow::Continue(()));
        assert!(matches!(scan, Err(crate::store::EngineError::Corrupt(_))), "{scan:?}");
    }
}

#[test]
fn a_second_opening_is_refused_until_the_first_is_closed() {
    let directory = tempfile::tempdir().unwrap();
    let first = open(directory.path()).unwrap();
    let refused = open(directory.path()).unwrap_err();
    assert!(matches!(&refused, OpenError::Locked(path) if path == directory.path()));
    assert!(refused.to_string().ends_with(" is in use by another process"));
    drop(first);
    open(directory.path()).unwrap();
}

#[test]
fn only_its_user_may_enter_the_data() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("far/away");
    let engine = open(&data).unwrap();
    let copy = directory.path().join("copy");
    engine.checkpoint(&copy).unwrap();
    for path in [directory.path().join("far"), data.join("rocksdb"), data, copy] {
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{}", path.display());
    }
    assert!(matches!(open(Path::new("/dev/null/data")), Err(OpenError::Directory { .. })));
}

#[test]
fn a_compaction_rewrites_every_table() {
    // Tables side by side, as of keys that grow, and one over the other.
    for step in [1_000, 0] {
        for tables in 1..5 {
            let directory = tempfile::tempdir().unwrap();
            for table in 0..tables {
                // What is in the log alone becomes a table at the next start.
                let engine = open(directory.path()).unwrap();
                for key in 0..1_000 {
                    put(&engine, Family::View, table * step + key, &[7; 100]);
                }
            }
            let engine = open(directory.path()).unwrap();
            let before = files(directory.path(), "sst");
            assert!(!before.is_empty());
            engine.compact().unwrap();
            drop(engine);
            let after = files(directory.path(), "sst");
            let stayed: Vec<_> = after.iter().filter(|table| before.contains(table)).collect();
            assert!(!after.is_empty() && stayed.is_empty(), "{tables} by {step}: {stayed:?}");
        }
    }
}

#[test]
fn a_directory_of_something_else_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("lost+found")).unwrap();
    fs::write(at("tombolo.toml"), "").unwrap();
    fs::write(at("letter"), "dear").unwrap();
    assert!(matches!(open(directory.path()), Err(OpenError::Foreign(_))));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3);
    fs::rename(at("letter"), at("tombolo.letter")).unwrap();
    drop(open(directory.path()).unwrap());
    // What comes later is no concern of a data directory.
    fs::write(at("letter"), "dear").unwrap();
    drop(open(directory.path()).unwrap());
    assert!(matches!(open(&at("letter")), Err(OpenError::Directory { .. })));
}

#[test]
fn a_cold_read_does_not_know_until_the_disk_was_read() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path()).unwrap();
    for key in 0..1_000 {
        put(&engine, Family::View, 2 * key, &[7; 100]);
    }
    put(&engine, Family::View, 5_000, &[7; 100_000]);
    drop(engine);
    drop(open(directory.path()).unwrap());
    let engine = open(directory.path()).unwrap();
    let cached = |key: u32| engine.get_cached(Family::View, &key.to_be_bytes()).unwrap();
    for (key, value) in [(1_000, vec![7; 100]), (5_000, vec![7; 100_000])] {
        assert_eq!(cached(key), Cached::Unknown, "{key}");
        assert_eq!(
            engine.get(Family::View, &u32::to_be_bytes(key)),
            Ok(Some(value.clone().into()))
        );
        assert_eq!(cached(key), Cached::Found(value.into()), "{key}");
    }
    // The filter tells of nearly all keys that are not there.
    let missing = (0..1_000).filter(|key| cached(2 * key + 1) == Cached::Missing).count();
    assert!(950 < missing, "{missing}");
}

/// The prefix filter of chunks lets a seek skip files that do not hold the prefix sought: right for
/// one document, and wrong for a scan of them all.
#[test]
fn a_scan_of_all_chunks_skips_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let key =
        |of: u8| key::encode_chunk(DocumentId::from_bytes([of; 16]), ChunkAt { seq: 1, n: 0 });
    // Three files: at four a compaction would begin to make one of them.
    for of in 0..3 {
        let mut batch = Batch::default();
        batch.put(Family::Chunk, key(of), Bytes::new());
        // Opening writes what the log holds into a file of its own.
        open(directory.path()).unwrap().commit(batch, Durability::Sync).unwrap();
    }
    let engine = open(directory.path()).unwrap();
    let scan = |range: &Range| {
        let mut seen = Vec::new();
        let mut visit = |key: &[u8], _: &[u8]| {
            seen.push(key[0]);
            ControlFlow::Continue(())
        };
        engine.scan(Family::Chunk, range, &mut visit).unwrap();
        seen
    };
    assert_eq!(files(directory.path(), "sst").len(), 3);
    assert_eq!(scan(&Range::all()), [0, 1, 2]);
    assert_eq!(scan(&Range::all().after(&key(0))), [1, 2]);
    assert_eq!(scan(&key::chunk_range(DocumentId::from_bytes([2; 16]))), [2]);
    assert_eq!(scan(&key::chunk_range(DocumentId::from_bytes([9; 16]))), [0; 0]);
    assert_eq!(engine.last_key(Family::Chunk), Ok(Some(key(2).to_vec())));
}

/// A feed of which every row but one was removed, through compactions, is one row.
#[test]
fn removed_feed_rows_stay_removed_through_compactions() {
    let directory = tempfile::tempdir().unwrap();
    for start in 1..20 {
        let mut bench = Bench::open(Arc::new(open(directory.path()).unwrap()), start);
        for round in 0..50 {
            bench.put("notes/a", &round.to_string());
        }
        let feed = bench.store.feed(0, 10).unwrap();
        assert_eq!((feed.entries.len(), feed.entries[0].seq), (1, 50 * u64::from(start)));
        assert_eq!(bench.store.health().unwrap().background_errors, 0);
    }
    // Files of every start were compacted together.
    assert!(files(directory.path(), "sst").len() < 40);
}

#[test]
fn compaction_leaves_the_bytes_of_what_is_there_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path()).unwrap();
    // Some are large enough for files of their own.
    let families = [(Family::View, 3_000), (Family::Head, 3_000), (Family::Chunk, 30_000)];
    for _ in 0..3 {
        for (family, length) in families {
            for key in 0..20 {
                put(&engine, family, key, &noise(length));
            }
            // So that there are files, and what comes next removes what is in them.
            engine.compact().unwrap();
        }
    }
    let mut removals = Batch::default();
    for (family, _) in families {
        for key in 1..20_u32 {
            removals.remove(family, key.to_be_bytes());
        }
    }
    engine.commit(removals, Durability::Sync).unwrap();
    engine.compact().unwrap();
    for (family, length) in families {
        assert_eq!(keys(&engine, family), [0]);
        let value = engine.get(family, &0_u32.to_be_bytes());
        assert_eq!(value, Ok(Some(noise(length).into())));
    }
    drop(engine);
    let bytes = |ending: &str| -> u64 {
        let sizes = files(directory.path(), ending).into_iter();
        sizes.map(|path| fs::metadata(path).unwrap().len()).sum()
    };
    let (tables, blobs, log) = (bytes("sst"), bytes("blob"), bytes("log"));
    assert!(6_000 < tables && tables < 12_000, "{tables}");
    assert!(30_000 < blobs && blobs < 31_000, "{blobs}");
    assert!(log < 1_000, "{log}");
}

/// RocksDB writes down the options that are in force, in its own words.
#[test]
fn the_settings_are_in_force() {
    let directory = tempfile::tempdir().unwrap();
    let _engine = open(directory.path()).unwrap();
    let entries = fs::read_dir(directory.path().join("rocksdb")).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with("OPTIONS-"));
    paths.sort();
    let options = fs::read_to_string(paths.pop().unwrap()).unwrap();
    let section = |title: &str| {
        let from = options.find(title).unwrap_or_else(|| panic!("{title} in {options}"));
        options[from + title.len()..].split("\n[").next().unwrap()
    };
    let check = |title: &str, expected: &[&str]| {
        for line in expected {
            let found = section(title).lines().any(|found| found.trim() == *line);
            assert!(found, "{line} in {title}: {}", section(title));
        }
    };
    check(
        "[DBOptions]",
        &[
            "wal_recovery_mode=kTolerateCorruptedTailRecords",
            "track_and_verify_wals_in_manifest=true",
            "paranoid_checks=true",
            "recycle_log_file_num=0",
            "max_total_wal_size=268435456",
            "atomic_flush=false",
            "unordered_write=false",
            "manual_wal_flush=false",
            "allow_2pc=false",
        ],
    );
    for family in Family::ALL {
        let blobs = matches!(family, Family::View | Family::Chunk);
        let filter = matches!(family, Family::View | Family::Head | Family::Chunk);
        let title = format!("CFOptions \"{}\"]", family.name());
        check(
            &title,
            &[
                "compression=kLZ4Compression",
                "bottommost_compression=kZSTD",
                if blobs { "enable_blob_files=true" } else { "enable_blob_files=false" },
                if blobs { "min_blob_size=4096" } else { "min_blob_size=0" },
            ],
        );
        if blobs {
            check(
                &title,
                &[
                    "blob_compression_type=kLZ4Compression",
                    "enable_blob_garbage_collection=true",
                    "blob_garbage_collection_age_cutoff=0.250000",
                    "blob_garbage_collection_force_threshold=0.500000",
                ],
            );
        }
        let prefix = if family == Family::Chunk { "rocksdb.FixedPrefix.16" } else { "nullptr" };
        check(&title, &[&format!("prefix_extractor={prefix}")]);
        let title = format!("TableOptions/BlockBasedTable \"{}\"]", family.name());
        check(
            &title,
            &[
                "cache_index_and_filter_blocks=true",
                if filter { "filter_policy=bloomfilter" } else { "filter_policy=nullptr" },
                if family == Family::Chunk {
                    "whole_key_filtering=false"
                } else {
                    "whole_key_filtering=true"
                },
            ],
        );
    }
}

#[test]
fn the_engine_tells_what_it_uses() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path()).unwrap();
    let before = engine.usage().unwrap();
    assert_eq!((before.table_bytes, before.blob_bytes), (0, 0));
    assert_eq!(before.cache_bytes_max, 8 << 20);
    put(&engine, Family::Head, 1, &noise(100_000));
    put(&engine, Family::View, 1, &noise(300_000));
    let usage = engine.usage().unwrap();
    assert!((400_000..2_000_000).contains(&usage.memtable_bytes), "{usage:?}");
    assert!((400_000..500_000).contains(&usage.log_bytes), "{usage:?}");
    assert!(usage.memtable_bytes <= usage.cache_bytes, "tables in memory are charged to it");
    // A checkpoint writes the tables in memory out.
    engine.checkpoint(&directory.path().join("copy")).unwrap();
    let usage = engine.usage().unwrap();
    assert!((100_000..200_000).contains(&usage.table_bytes), "{usage:?}");
    assert!((300_000..310_000).contains(&usage.blob_bytes), "{usage:?}");
    assert_eq!(usage.disk_bytes(), usage.table_bytes + usage.blob_bytes + usage.log_bytes);
}
