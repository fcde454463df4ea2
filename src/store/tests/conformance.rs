//! What every engine does, run on each that there is.

use super::*;
use crate::store::{Batch, Cached, EngineError, SCAN_STRETCH_ROWS};
use std::path::{Path, PathBuf};

/// An engine that can be closed and opened again.
struct Subject {
    engine: Arc<dyn Engine>,
    place: Place,
}

/// Where its rows are while it is closed.
enum Place {
    Memory(Arc<MemoryEngine>),
    #[cfg(feature = "rocksdb")]
    Disk {
        /// Removed with the last subject in it.
        directory: Arc<tempfile::TempDir>,
        at: PathBuf,
    },
}

impl Subject {
    fn in_memory(engine: MemoryEngine) -> Self {
        let engine = Arc::new(engine);
        Self { engine: Arc::clone(&engine) as Arc<dyn Engine>, place: Place::Memory(engine) }
    }

    #[cfg(feature = "rocksdb")]
    fn on_disk(directory: Arc<tempfile::TempDir>, at: PathBuf) -> Self {
        let options = crate::store::RocksOptions { blocks_bytes: 8 << 20 };
        let engine = crate::store::RocksEngine::open(&at, options).unwrap();
        Self { engine: Arc::new(engine), place: Place::Disk { directory, at } }
    }

    fn engine(&self) -> &dyn Engine {
        &*self.engine
    }

    /// Closes it, without syncing anything, and opens what is there.
    fn reopen(self) -> Self {
        drop(self.engine);
        match self.place {
            Place::Memory(engine) => Self::in_memory(engine.restart()),
            #[cfg(feature = "rocksdb")]
            Place::Disk { directory, at } => Self::on_disk(directory, at),
        }
    }

    /// Makes a checkpoint, and gives the way to it.
    fn checkpoint(&self) -> PathBuf {
        let path = match &self.place {
            Place::Memory(_) => PathBuf::from("copy"),
            #[cfg(feature = "rocksdb")]
            Place::Disk { directory, .. } => directory.path().join("copy"),
        };
        self.engine.checkpoint(&path).unwrap();
        path
    }

    fn open_checkpoint(&self, path: &Path) -> Self {
        match &self.place {
            Place::Memory(engine) => Self::in_memory(engine.restore(path).unwrap()),
            #[cfg(feature = "rocksdb")]
            Place::Disk { directory, .. } => Self::on_disk(Arc::clone(directory), path.into()),
        }
    }
}

/// Runs a test on a new engine of each kind.
fn each(test: impl Fn(Subject)) {
    test(Subject::in_memory(MemoryEngine::new()));
    #[cfg(feature = "rocksdb")]
    {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let at = directory.path().join("data");
        test(Subject::on_disk(directory, at));
    }
}

fn put(engine: &dyn Engine, rows: &[(Family, &str, &str)]) {
    let mut batch = Batch::default();
    for (family, key, value) in rows {
        batch.put(*family, key.as_bytes(), bytes(value));
    }
    engine.commit(batch, Durability::Sync).unwrap();
}

fn keys(engine: &dyn Engine, family: Family, range: &Range) -> Vec<String> {
    let mut keys = Vec::new();
    let mut visit = |key: &[u8], _: &[u8]| {
        keys.push(String::from_utf8(key.to_vec()).unwrap());
        ControlFlow::Continue(())
    };
    engine.scan(family, range, &mut visit).unwrap();
    keys
}

#[test]
fn a_row_is_in_its_family_until_it_is_removed() {
    each(|subject| {
        let engine = subject.engine();
        for (at, family) in Family::ALL.into_iter().enumerate() {
            assert_eq!(engine.get(family, b"key"), Ok(None));
            assert_eq!(engine.last_key(family), Ok(None));
            put(engine, &[(family, "key", &at.to_string())]);
        }
        for (at, family) in Family::ALL.into_iter().enumerate() {
            assert_eq!(engine.get(family, b"key"), Ok(Some(bytes(&at.to_string()))));
            assert_eq!(engine.get(family, b"ke"), Ok(None));
            let mut batch = Batch::default();
            batch.remove(family, b"key");
            engine.commit(batch, Durability::Sync).unwrap();
            assert_eq!(engine.get(family, b"key"), Ok(None));
        }
    });
}

#[test]
fn later_steps_of_a_batch_win() {
    each(|subject| {
        let engine = subject.engine();
        let mut batch = Batch::default();
        batch.put(Family::View, b"a", bytes("1"));
        batch.remove(Family::View, b"a");
        batch.remove(Family::View, b"b");
        batch.put(Family::View, b"b", bytes("2"));
        engine.commit(batch, Durability::Sync).unwrap();
        assert_eq!(keys(engine, Family::View, &Range::all()), ["b"]);
    });
}

#[test]
fn a_scan_is_in_key_order_within_its_range() {
    each(|subject| {
        let engine = subject.engine();
        // Families with other options than the rest are the ones that could go wrong.
        for family in [Family::View, Family::Chunk, Family::Feed] {
            let long = format!("{}x", "p".repeat(16));
            for key in ["b", "a", "ab", "abc", "c", "\u{7f}", &long] {
                put(engine, &[(family, key, "")]);
            }
            let scan = |range: &Range| keys(engine, family, range);
            assert_eq!(scan(&Range::all()), ["a", "ab", "abc", "b", "c", &long, "\u{7f}"]);
            assert_eq!(scan(&Range::prefix(b"ab")), ["ab", "abc"]);
            assert_eq!(scan(&Range::prefix(b"a").after(b"ab")), ["abc"]);
            assert_eq!(scan(&Range::all().after(b"c")), [&long, "\u{7f}"]);
            assert_eq!(scan(&Range::prefix("p".repeat(16).as_bytes())), [long.as_str()]);
            assert_eq!(scan(&Range::prefix("q".repeat(16).as_bytes())), [""; 0]);
            assert_eq!(scan(&Range::prefix(b"a").after(b"b")), [""; 0]);
            assert_eq!(engine.last_key(family), Ok(Some(b"\x7f".to_vec())));
        }
    });
}

#[test]
fn a_scan_ends_where_its_visitor_breaks() {
    each(|subject| {
        let engine = subject.engine();
        put(engine, &[(Family::Head, "a", ""), (Family::Head, "b", ""), (Family::Head, "c", "")]);
        let mut seen = 0;
        let mut visit = |key: &[u8], _: &[u8]| {
            seen += 1;
            if key == b"b" { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        engine.scan(Family::Head, &Range::all(), &mut visit).unwrap();
        assert_eq!(seen, 2);
    });
}

#[test]
fn a_long_scan_misses_nothing_and_its_visitor_may_write() {
    each(|subject| {
        let engine = subject.engine();
        for family in [Family::Feed, Family::Chunk] {
            let count = 2 * SCAN_STRETCH_ROWS + 1;
            let mut batch = Batch::default();
            for at in 0..count {
                batch.put(family, format!("one prefix of 16:{at:08}"), Bytes::new());
            }
            engine.commit(batch, Durability::Relaxed).unwrap();
            for range in [Range::all(), Range::prefix(b"one prefix of 16")] {
                let mut seen = Vec::new();
                let mut visit = |key: &[u8], _: &[u8]| {
                    if seen.is_empty() {
                        put(engine, &[(family, "one prefix of 16:z", "")]);
                    }
                    seen.push(key.to_vec());
                    ControlFlow::Continue(())
                };
                engine.scan(family, &range, &mut visit).unwrap();
                assert!(seen.is_sorted_by(|a, b| a < b));
                assert_eq!(seen.len(), count + 1, "the last stretch sees what was put");
                let mut batch = Batch::default();
                batch.remove(family, b"one prefix of 16:z");
                engine.commit(batch, Durability::Sync).unwrap();
                if family == Family::Feed {
                    // A key of the feed is put once.
                    break;
                }
            }
        }
    });
}

#[test]
fn a_cached_read_knows_what_was_just_written() {
    each(|subject| {
        let engine = subject.engine();
        put(engine, &[(Family::View, "a", "1")]);
        assert_eq!(engine.get_cached(Family::View, b"a"), Ok(Cached::Found(bytes("1"))));
        assert_eq!(engine.get_cached(Family::View, b"b"), Ok(Cached::Missing));
    });
}

#[test]
fn what_is_committed_is_found_after_reopening() {
    each(|mut subject| {
        let large = "x".repeat(100_000);
        for durability in [Durability::Sync, Durability::Relaxed] {
            let key = format!("{durability:?}");
            let mut batch = Batch::default();
            for family in Family::ALL {
                batch.put(family, key.clone(), bytes(&large));
            }
            subject.engine().commit(batch, durability).unwrap();
            subject = subject.reopen();
            for family in Family::ALL {
                let found = subject.engine().get(family, key.as_bytes());
                assert_eq!(found, Ok(Some(bytes(&large))), "{family:?}");
            }
        }
        assert_eq!(subject.engine().sync(), Ok(()));
        assert!(!subject.engine().health().unwrap().stalled);
        assert_eq!(subject.engine().health().unwrap().background_errors, 0);
    });
}

#[test]
fn a_checkpoint_holds_what_was_committed_before_it() {
    each(|subject| {
        let engine = subject.engine();
        put(engine, &[(Family::View, "a", "1"), (Family::Feed, "b", "2")]);
        let directory = subject.checkpoint();
        put(engine, &[(Family::View, "a", "3")]);
        let copy = subject.open_checkpoint(&directory);
        assert_eq!(copy.engine().get(Family::View, b"a"), Ok(Some(bytes("1"))));
        assert_eq!(copy.engine().get(Family::Feed, b"b"), Ok(Some(bytes("2"))));
        put(copy.engine(), &[(Family::View, "a", "4")]);
        assert_eq!(engine.get(Family::View, b"a"), Ok(Some(bytes("3"))));
        assert!(matches!(engine.checkpoint(&directory), Err(EngineError::Io(_))));
    });
}

#[test]
fn a_store_works_the_same_on_every_engine() {
    each(|mut subject| {
        let mut bench = Bench::open(Arc::clone(&subject.engine), 1);
        let large = "x".repeat(10_000);
        bench.put("notes/a", "1");
        bench.put("notes/b", &large);
        bench.put("notes/a", "2");
        bench.put("other/c", "3");
        bench.put("other/c", "");
        let mut fold = bench.edit("notes/a", "4");
        fold.log = Log::Fold { snapshot: bytes(&large), changes: 3 };
        bench.write(vec![fold]);
        bench.put("notes/a", "5");
        for start in 2..4 {
            assert_sound(&*bench.engine);
            assert_eq!(bench.json("notes/a"), Some("5".into()));
            assert_eq!(bench.json("notes/b"), Some(large.clone()));
            assert_eq!(bench.json("other/c"), None);
            assert_eq!(bench.chunks("notes/a"), [large.as_str(), "change to 5"]);
            assert_eq!(bench.chunks("other/c"), ["change to 3", "change to "]);
            assert_eq!(bench.counts(), ["notes: 2/0", "other: 0/1"]);
            assert_eq!(bench.store.last_seq(), 7);
            let feed = bench.store.feed(0, 10).unwrap();
            let seqs: Vec<u64> = feed.entries.iter().map(|entry| entry.seq).collect();
            assert_eq!(seqs, [2, 5, 7]);
            drop(bench);
            subject = subject.reopen();
            bench = Bench::open(Arc::clone(&subject.engine), start);
        }
    });
}
