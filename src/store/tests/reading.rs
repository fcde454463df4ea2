//! Reading: lists, feeds, cached reads, and damage that is never served.

use super::*;
use crate::ident::Collection;
use crate::store::{
    Batch, Cached, EngineError, Fault, FeedQuery, Health, Page, ReadError, Usage, Visit,
};
use std::{path::Path, sync::Mutex};

/// A page's keys, then what damage it met and where the next one begins.
fn text(page: &Page) -> String {
    let mut words: Vec<_> = page.rows.iter().map(|(key, _)| key.to_string()).collect();
    words.extend(page.damaged.iter().map(|key| format!("({key})")));
    words.extend(page.next.iter().map(|key| format!("then {key}")));
    words.join(" ")
}

fn set(engine: &dyn Engine, family: Family, key: &[u8], value: Bytes) {
    let mut batch = Batch::default();
    batch.put(family, key, value);
    engine.commit(batch, Durability::Sync).unwrap();
}

/// Flips the last bit of a document's first row in a family.
fn damage(engine: &dyn Engine, family: Family) {
    let (key, value) = rows(engine, family).remove(0);
    let mut value = value.to_vec();
    *value.last_mut().unwrap() ^= 1;
    set(engine, family, &key, Bytes::from(value));
}

fn is_damaged<T>(read: &Result<T, ReadError>) -> bool {
    matches!(read, Err(ReadError::Damaged(_)))
}

#[test]
fn nothing_is_read_where_nothing_was_written() {
    let (_, mut bench) = Bench::new();
    let missing = |bench: &Bench, of: &str| {
        assert_eq!(bench.store.view(&name(of)), Ok(None));
        assert_eq!(bench.store.view_cached(&name(of)), Ok(Cached::Missing));
        assert_eq!(bench.store.head(name(of).id()), Ok(None));
        assert!(bench.store.document(&name(of)).unwrap().is_none());
    };
    missing(&bench, "notes/a");
    let notes = "notes".parse().unwrap();
    assert_eq!(bench.store.list(&notes, WHOLE), Ok(Page::default()));
    bench.put("notes/b", "1");
    missing(&bench, "notes/a");
    assert_eq!(bench.store.feed(1, 10).unwrap().entries, []);
}

#[test]
fn a_cached_read_is_found_missing_or_unknown() {
    let (engine, mut bench) = Bench::new();
    bench.put("notes/a", "1");
    let Ok(Cached::Found(view)) = bench.store.view_cached(&name("notes/a")) else { unreachable!() };
    assert_eq!((view.json, view.version), (Some(bytes("1")), version(1001)));
    engine.inject(Fault::Cold);
    assert_eq!(bench.store.view_cached(&name("notes/a")), Ok(Cached::Unknown));
    assert_eq!(bench.store.view_cached(&name("never/a")), Ok(Cached::Missing));
}

#[test]
fn a_list_goes_page_by_page_through_one_collection() {
    let (_, mut bench) = Bench::new();
    for of in ["notes/b1", "notes/b2", "notes/a", "notes/b3", "notes/c", "other/b", "notes/gone"] {
        bench.put(of, &format!("\"{of}\""));
    }
    bench.put("notes/gone", "");
    let notes = "notes".parse().unwrap();
    let list = |list: List<'_>| bench.store.list(&notes, list).unwrap();
    let page = list(WHOLE);
    assert_eq!(text(&page), "a b1 b2 b3 c");
    assert_eq!(page.rows[0].1.json, Some(bytes("\"notes/a\"")));

    let page = list(List { limit: 2, prefix: "b", values: false, ..WHOLE });
    assert_eq!(text(&page), "b1 b2 then b2");
    assert_eq!((&page.rows[0].1.json, &page.rows[0].1.version), (&None, &version(1001)));
    let page = list(List { limit: 2, prefix: "b", after: page.next.as_ref(), ..WHOLE });
    assert_eq!(text(&page), "b3", "the page before was full, and not the last");

    let page = list(List { limit: 5, ..WHOLE });
    assert_eq!(text(&page), "a b1 b2 b3 c", "this one is full, and the last");
    assert_eq!(text(&list(List { bytes_max: 10, ..WHOLE })), "a b1 then b1");
    assert_eq!(text(&list(List { bytes_max: 0, limit: 0, ..WHOLE })), "a then a");
}

#[test]
fn the_feed_goes_on_after_a_seq() {
    let (_, mut bench) = Bench::new();
    for of in ["notes/a", "notes/b", "notes/c", "notes/a"] {
        bench.put(of, "1");
    }
    let feed = |after, limit| {
        let feed = bench.store.feed(after, limit).unwrap();
        feed.entries.iter().map(|entry| (entry.seq, entry.name.to_owned())).collect::<Vec<_>>()
    };
    assert_eq!(feed(0, 2), [(2, name("notes/b")), (3, name("notes/c"))]);
    assert_eq!(feed(3, 2), [(4, name("notes/a"))]);
    assert_eq!(feed(4, 2), []);
    assert_eq!(feed(u64::MAX, 2), []);
}

#[test]
fn damage_is_an_error_and_never_served() {
    let damaged = |family| {
        let (engine, mut bench) = Bench::new();
        bench.put("notes/a", "1");
        bench.tracks.clear();
        damage(&*engine, family);
        bench
    };
    let a = name("notes/a");
    let bench = damaged(Family::View);
    assert!(is_damaged(&bench.store.view(&a)));
    assert!(is_damaged(&bench.store.view_cached(&a)));
    assert!(bench.store.document(&a).unwrap().is_some(), "the rest of it is well");
    let bench = damaged(Family::Head);
    assert!(is_damaged(&bench.store.head(a.id())));
    assert!(is_damaged(&bench.store.document(&a)));
    let bench = damaged(Family::Chunk);
    assert!(is_damaged(&bench.store.document(&a)));
    let bench = damaged(Family::Feed);
    damage(&*bench.engine, Family::Head);
    let feed = bench.store.feed(0, 10).unwrap();
    assert_eq!((feed.entries, feed.damaged), (vec![], vec![1]), "neither tells what it was");
}

#[test]
fn the_feed_is_told_by_the_heads_where_its_rows_are_damaged() {
    let (engine, mut bench) = Bench::new();
    for of in ["notes/a", "trips/a", "notes/b", "notes/c", "notes/a"] {
        bench.put(of, "1");
    }
    bench.put("notes/c", "");
    let notes: Collection = "notes".parse().unwrap();
    let pages = |limit| {
        let (mut pages, mut after) = (Vec::new(), 0);
        loop {
            let (until, looked_at_max) = (bench.store.last_seq(), 100);
            let filter = Some((&notes, ""));
            let query = FeedQuery { after, until, filter, limit, looked_at_max };
            let feed = bench.store.feed_page(&query).unwrap();
            assert!(feed.damaged.is_empty());
            after = feed.looked_to;
            pages.push(feed.entries);
            if after == until {
                return pages;
            }
        }
    };
    let whole = pages(10);
    assert_eq!(whole.concat().len(), 3);
    let row = |seq| key::encode_feed(seq).to_vec();
    engine.inject(Fault::Unreadable { family: Family::Feed, key: row(3) });
    for limit in [1, 2, 10] {
        assert_eq!(pages(limit).concat(), whole.concat(), "a block that cannot be read, {limit}");
    }
    engine.heal();
    let mut batch = Batch::default();
    batch.put(Family::Feed, row(5), bytes("nonsense"));
    engine.commit(batch, Durability::Sync).unwrap();
    for limit in [1, 2, 10] {
        assert_eq!(pages(limit).concat(), whole.concat(), "a row that is none, {limit}");
    }
}

#[test]
fn one_damaged_row_does_not_end_a_list() {
    let (engine, mut bench) = Bench::new();
    for of in ["notes/a", "notes/b", "notes/c"] {
        bench.put(of, "1");
    }
    damage(&*engine, Family::View);
    let notes = "notes".parse().unwrap();
    assert_eq!(text(&bench.store.list(&notes, WHOLE).unwrap()), "b c (a)");
    let first = List { limit: 1, ..WHOLE };
    assert_eq!(text(&bench.store.list(&notes, first).unwrap()), "(a) then a");
}

#[test]
fn a_row_in_another_rows_place_is_damage() {
    let (engine, mut bench) = Bench::new();
    bench.put("notes/a", "1");
    bench.put("notes/b", "2");
    let views = rows(&*engine, Family::View);
    set(&*engine, Family::View, &views[0].0, views[1].1.clone());
    assert!(is_damaged(&bench.store.view(&name("notes/a"))));
    assert_eq!(bench.json("notes/b"), Some("2".into()));
}

/// Each case is whole frames under right keys, which taken together are not what was written.
#[test]
fn chunks_other_than_those_of_the_head_are_damage() {
    let (engine, mut bench) = Bench::new();
    let mut fold = bench.edit("notes/a", "1");
    fold.log = Log::Fold { snapshot: bytes("snapshot"), changes: 1 };
    bench.write(vec![fold]);
    bench.put("notes/a", "2");
    bench.put("notes/a", "3");
    let read = || bench.store.document(&name("notes/a"));
    let all = rows(&*engine, Family::Chunk);
    let put = |seq, n, chunk: &Chunk| {
        let at = key::encode_chunk(name("notes/a").id(), ChunkAt { seq, n });
        set(&*engine, Family::Chunk, &at, chunk.encode(&at));
    };
    let restore = || {
        let mut batch = Batch::default();
        rows(&*engine, Family::Chunk)
            .into_iter()
            .for_each(|(key, _)| batch.remove(Family::Chunk, key));
        all.iter().for_each(|(key, value)| batch.put(Family::Chunk, key.clone(), value.clone()));
        engine.commit(batch, Durability::Sync).unwrap();
        assert!(read().unwrap().is_some());
    };
    let remove = |at: usize| {
        let mut batch = Batch::default();
        batch.remove(Family::Chunk, all[at].0.clone());
        engine.commit(batch, Durability::Sync).unwrap();
    };
    let chunk = |at: usize| Chunk::decode(&all[at].0, &all[at].1).unwrap();
    for at in 0..all.len() {
        remove(at);
        assert!(is_damaged(&read()), "chunk {at} is missing");
        restore();
    }
    put(2, 7, &Chunk::Change { origin: Origin::Own, bytes: Bytes::new() });
    assert!(is_damaged(&read()), "an empty change too many");
    restore();
    remove(2);
    put(9, 0, &chunk(2));
    assert!(is_damaged(&read()), "a change from after the head");
    restore();
    remove(0);
    put(0, 0, &chunk(0));
    assert!(is_damaged(&read()), "a snapshot of another seq");
    restore();
    put(2, 1, &chunk(0));
    assert!(is_damaged(&read()), "a second snapshot");
    restore();
    put(2, 0, &Chunk::Change { origin: Origin::Own, bytes: bytes("change to 22") });
    assert!(is_damaged(&read()), "a change of another length");
}

#[test]
fn a_snapshot_of_another_version_is_damage() {
    let (engine, mut bench) = Bench::new();
    let mut fold = bench.edit("notes/a", "1");
    fold.log = Log::Fold { snapshot: bytes("snapshot"), changes: 1 };
    bench.write(vec![fold]);
    let (key, _) = rows(&*engine, Family::Chunk).remove(0);
    let other = Chunk::Snapshot { version: version(7), bytes: bytes("snapshot") };
    set(&*engine, Family::Chunk, &key, other.encode(&key));
    assert!(is_damaged(&bench.store.document(&name("notes/a"))));
}

#[test]
fn one_id_under_two_names_is_never_served() {
    let (_, mut bench) = Bench::new();
    let id = crate::ident::DocumentId::from_bytes([0x41; 16]).to_bs58check();
    let (first, second) = (format!("automerge/{id}"), format!("notes/{id}"));
    assert_eq!(name(&first).id(), name(&second).id());
    bench.put(&first, "1");
    assert_eq!(bench.json(&second), None);
    assert_eq!(
        bench.store.document(&name(&second)).unwrap_err(),
        ReadError::NameTaken(name(&first))
    );
    assert!(bench.store.document(&name(&first)).unwrap().is_some());
}

#[test]
fn a_head_that_names_another_document_is_damage() {
    let (engine, mut bench) = Bench::new();
    bench.put("notes/a", "1");
    let id = name("notes/a").id();
    let head = bench.store.head(id).unwrap().unwrap().1;
    let key = key::encode_head(id);
    let other = Head { key: "b".parse().unwrap(), ..head.clone() };
    set(&*engine, Family::Head, &key, other.encode(&key));
    assert!(is_damaged(&bench.store.head(id)));
    let other = Head { collection: 77, ..head };
    set(&*engine, Family::Head, &key, other.encode(&key));
    assert!(is_damaged(&bench.store.head(id)));
}

#[test]
fn a_failing_read_is_an_error_and_not_an_absence() {
    let (engine, mut bench) = Bench::new();
    bench.put("notes/a", "1");
    let fails = |after| engine.inject(Fault::ReadFails { after });
    fails(0);
    let failed = bench.store.view(&name("notes/a"));
    assert!(matches!(failed, Err(ReadError::Engine(EngineError::Io(_)))));
    assert!(bench.store.view(&name("notes/a")).unwrap().is_some(), "it fails once");
    for after in 0..2 {
        fails(after);
        assert!(bench.store.document(&name("notes/a")).is_err());
    }
    fails(0);
    assert!(bench.store.list(&"notes".parse().unwrap(), WHOLE).is_err());
}

/// An engine that does something between a reader's read of the head and its scan of the chunks.
struct Between {
    rows: Arc<dyn Engine>,
    act: Mutex<Box<dyn FnMut() + Send>>,
}

impl std::fmt::Debug for Between {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.rows.fmt(out)
    }
}

impl Engine for Between {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.rows.get(family, key)
    }

    fn get_cached(&self, family: Family, key: &[u8]) -> Result<Cached<Bytes>, EngineError> {
        self.rows.get_cached(family, key)
    }

    fn scan(
        &self,
        family: Family,
        range: &Range,
        visit: &mut Visit<'_>,
    ) -> Result<(), EngineError> {
        if family == Family::Chunk {
            self.act.lock().unwrap()();
        }
        self.rows.scan(family, range, visit)
    }

    fn last_key(&self, family: Family) -> Result<Option<Vec<u8>>, EngineError> {
        self.rows.last_key(family)
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), EngineError> {
        self.rows.commit(batch, durability)
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.rows.sync()
    }

    fn checkpoint(&self, directory: &Path) -> Result<(), EngineError> {
        self.rows.checkpoint(directory)
    }

    fn health(&self) -> Result<Health, EngineError> {
        self.rows.health()
    }

    fn usage(&self) -> Result<Usage, EngineError> {
        self.rows.usage()
    }
}

/// Opens a second store over the same rows, whose reads of documents are come between by `act`.
fn come_between(rows: Arc<dyn Engine>, act: impl FnMut() + Send + 'static) -> Arc<Store> {
    let between = Between { rows, act: Mutex::new(Box::new(act)) };
    Store::open(Arc::new(between), fresh(9), Durability::Sync).unwrap().0
}

/// A reader that loads a document while it is written to finds one state of it, never a mixture.
#[test]
fn a_document_is_read_whole_while_it_is_written() {
    for folds in [false, true] {
        let (engine, mut bench) = Bench::new();
        bench.put("notes/a", "1");
        let mut writes = 3;
        let store = come_between(engine, move || {
            if 0 < writes {
                writes -= 1;
                let mut commit = bench.edit("notes/a", "2");
                if folds {
                    commit.log = Log::Fold { snapshot: bytes("snapshot"), changes: 1 };
                }
                bench.write(vec![commit]);
            }
        });
        let stored = store.document(&name("notes/a")).unwrap().unwrap();
        assert_eq!((stored.head.seq, stored.chunks.len()), (4, if folds { 1 } else { 4 }));
    }
}

#[test]
fn a_document_that_never_rests_is_an_error_in_the_end() {
    let (engine, mut bench) = Bench::new();
    bench.put("notes/a", "1");
    let store = come_between(engine, move || {
        bench.put("notes/a", "2");
    });
    assert!(is_damaged(&store.document(&name("notes/a"))));
}
