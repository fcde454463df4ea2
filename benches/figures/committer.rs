//! What the committer adds to the engine: groups of new documents, against RocksDB's crate writing
//! the same rows.

use super::{
    directory::{engine, fresh, name, put},
    engine::Observed,
    order::Orders,
    rounds::{Side, alternate, pair},
    row::{Bar, Row},
    scratch::Scratch,
    server::CACHE_BYTES,
};
use rocksdb::{DB, Options, WriteBatch, WriteOptions};
use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Instant,
};
use tombolo::store::{Batch, Commit, Committer, Durability, Engine, Op, Store, key::Family};

const GROUP: u64 = 32;
/// Groups of one round. Rounds are short and many: a disk is slow now and then, for long.
const GROUPS: u64 = 40;
const ROUNDS: usize = 31;

/// Groups of 32 new documents, one sync each.
pub(crate) fn committer() -> Vec<Row> {
    let orders = Orders::first(GROUP * GROUPS);
    let groups = |round: u64| (0..GROUPS).map(|group| prepare(&orders, round, group)).collect();
    let scratch = Scratch::new();
    let mut ours = open(engine(&scratch.path("ours")));
    let floor = raw(&scratch.path("floor"));
    // The same commits, written by a committer whose engine keeps what it is given.
    let seen: Arc<Mutex<Vec<Batch>>> = Arc::default();
    let recorder = Arc::clone(&seen);
    let mut recording = open(Arc::new(Observed::new(move |batch| {
        recorder.lock().unwrap().extend(batch.cloned());
    })));
    let (mut written, mut copied) = (0, 0);
    let rounds = alternate("committer", ROUNDS, |side| match side {
        Side::Ours => {
            let groups: Vec<Vec<Commit>> = groups(written);
            written += 1;
            let start = Instant::now();
            for group in groups {
                let receipts = ours.write(group).unwrap();
                assert!(receipts.iter().all(Result::is_ok), "a document was refused");
            }
            rate(start)
        }
        Side::Floor => {
            seen.lock().unwrap().clear();
            for group in groups(copied) {
                recording.write(group).unwrap();
            }
            copied += 1;
            let batches = std::mem::take(&mut *seen.lock().unwrap());
            let start = Instant::now();
            for batch in &batches {
                write(&floor, batch);
            }
            rate(start)
        }
    });
    check(&floor, &scratch.path("ours"), ours);
    let row =
        Row::pair("committer alone, groups of 32 new documents", "/s", pair(&rounds, |rate| *rate));
    vec![row.bar(Bar::ratio_at_least(0.8))]
}

fn rate(start: Instant) -> f64 {
    (GROUP * GROUPS) as f64 / start.elapsed().as_secs_f64()
}

fn prepare(orders: &[String], round: u64, group: u64) -> Vec<Commit> {
    let commit = |place: u64| {
        let number = group * GROUP + place;
        let order = &orders[usize::try_from(number).unwrap()];
        put(name(round * GROUPS * GROUP + number), order)
    };
    (0..GROUP).map(commit).collect()
}

fn open(engine: Arc<dyn Engine>) -> Committer {
    Store::open(engine, fresh(), Durability::Sync).unwrap().1
}

/// A database of the same families and as much memory for what is not yet in tables; all else as
/// RocksDB comes.
fn raw(path: &Path) -> DB {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_db_write_buffer_size(CACHE_BYTES / 4);
    DB::open_cf(&options, path, Family::ALL.map(Family::name)).unwrap()
}

fn write(rows: &DB, batch: &Batch) {
    let mut writes = WriteBatch::default();
    for op in batch.ops() {
        match op {
            Op::Put { family, key, value } => {
                writes.put_cf(&rows.cf_handle(family.name()).unwrap(), key, value);
            }
            Op::Remove { family, key } => {
                writes.delete_cf(&rows.cf_handle(family.name()).unwrap(), key);
            }
        }
    }
    let mut options = WriteOptions::default();
    options.set_sync(true);
    rows.write_opt(writes, &options).unwrap();
}

/// Checks that both hold the same rows.
fn check(floor: &DB, path: &Path, ours: Committer) {
    drop(ours);
    let ours = engine(path);
    for family in [Family::View, Family::Head, Family::Chunk, Family::Feed] {
        let mut rows = 0;
        let handle = floor.cf_handle(family.name()).unwrap();
        let mut visit = |key: &[u8], value: &[u8]| {
            rows += 1;
            let copy = floor.get_pinned_cf(&handle, key).unwrap();
            assert_eq!(copy.as_deref(), Some(value), "a row was not written alike");
            std::ops::ControlFlow::Continue(())
        };
        ours.scan(family, &tombolo::store::Range::all(), &mut visit).unwrap();
        assert_eq!(rows, GROUP * GROUPS * ROUNDS as u64, "{}", family.name());
    }
}
