//! What being a peer adds to a write: rows that are written, and rows that are read.

use crate::replicate::{Island, SECRET, SOON, equal, name};
use bytes::Bytes;
use std::{
    collections::BTreeMap,
    mem,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time;
use tombolo::store::{
    Batch, Cached, Durability, Engine, EngineError, Health, MemoryEngine, Op, Range, Usage, Visit,
    key::Family,
};

/// So few are not folded into a snapshot.
const WRITES: usize = 20;

/// How often what was done to rows: "read", "put" or "remove", and of which family.
type Counts = BTreeMap<(&'static str, Family), usize>;

/// An engine that counts what is asked of it.
#[derive(Debug, Default)]
struct Counting {
    engine: MemoryEngine,
    counts: Mutex<Counts>,
}

impl Counting {
    fn count(&self, what: &'static str, family: Family) {
        *self.counts.lock().unwrap().entry((what, family)).or_default() += 1;
    }

    fn take(&self) -> Counts {
        mem::take(&mut self.counts.lock().unwrap())
    }
}

impl Engine for Counting {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.count("read", family);
        self.engine.get(family, key)
    }

    fn get_cached(&self, family: Family, key: &[u8]) -> Result<Cached<Bytes>, EngineError> {
        self.count("read", family);
        self.engine.get_cached(family, key)
    }

    fn scan(&self, family: Family, at: &Range, visit: &mut Visit<'_>) -> Result<(), EngineError> {
        self.count("read", family);
        self.engine.scan(family, at, visit)
    }

    fn last_key(&self, family: Family) -> Result<Option<Vec<u8>>, EngineError> {
        self.count("read", family);
        self.engine.last_key(family)
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), EngineError> {
        for op in batch.ops() {
            match op {
                Op::Put { family, .. } => self.count("put", *family),
                Op::Remove { family, .. } => self.count("remove", *family),
            }
        }
        self.engine.commit(batch, durability)
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.engine.sync()
    }

    fn checkpoint(&self, directory: &Path) -> Result<(), EngineError> {
        self.engine.checkpoint(directory)
    }

    fn health(&self) -> Result<Health, EngineError> {
        self.engine.health()
    }

    fn usage(&self) -> Result<Usage, EngineError> {
        self.engine.usage()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_on_a_peer_touches_two_rows_for_the_feed_and_reads_none_for_the_sketch() {
    let [engine, alone] = [(); 2].map(|()| Arc::new(Counting::default()));
    let on = async |engine: &Arc<Counting>| {
        Island::on(Arc::clone(engine) as Arc<dyn Engine>, "127.0.0.1:0", SECRET).await
    };
    let (mut a, lone, b) = (on(&engine).await, on(&alone).await, Island::new().await);
    for island in [&a, &lone] {
        island.put("notes/1", r#"{"n":0}"#).await;
    }
    a.join(vec![b.peer()]);
    equal(&[&a, &b], 1).await;
    // Both keep a sketch of all documents now.
    b.put("notes/2", "{}").await;
    equal(&[&a, &b], 2).await;
    engine.take();
    alone.take();
    for n in 1..=WRITES {
        let json = format!(r#"{{"n":{n}}}"#);
        lone.put("notes/1", &json).await;
        let version = a.put("notes/1", &json).await.version;
        // One at a time: of a document that is written while a batch is put together the head is read.
        let there = async || {
            while b.all().await.get(&name("notes/1")).is_none_or(|held| held.0 != version) {
                time::sleep(Duration::from_millis(1)).await;
            }
        };
        time::timeout(SOON, there()).await.unwrap();
    }
    let (mut with, without) = (engine.take(), alone.take());
    // Who pushes looks for what is new, once for each batch: no row of a document is read.
    let scans = with.remove(&("read", Family::Feed)).unwrap_or_default();
    assert!(scans <= 2 * WRITES, "{scans}");
    assert_eq!(with, without);
    let each = |what, family| ((what, family), WRITES);
    let rows = [Family::View, Family::Head, Family::Chunk, Family::Feed].map(|at| each("put", at));
    let all: Counts = rows.into_iter().chain([each("remove", Family::Feed)]).collect();
    assert_eq!(without, all, "of these the last two are for the feed");
    equal(&[&a, &b], 2).await;
    assert_eq!(a.node.peer_statuses()[0].repaired, 0, "what was pushed was all of it");
    a.stop().await;
    lone.stop().await;
    b.stop().await;
}
