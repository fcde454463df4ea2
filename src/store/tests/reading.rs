//! Reading: lists, feeds, cached reads, and damage that is never served.

use super::*;
use crate::store::{Batch, Cached, EngineError, Fault, Page, ReadError};

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
    let feed = bench.store.feed(0, 10).unwrap();
    assert_eq!((feed.entries, feed.damaged), (vec![], vec![1]));
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

#[test]
fn a_missing_or_foreign_chunk_is_damage() {
    let (engine, mut bench) = Bench::new();
    for json in ["1", "2", "3"] {
        bench.put("notes/a", json);
    }
    for (key, value) in rows(&*engine, Family::Chunk) {
        let mut batch = Batch::default();
        batch.remove(Family::Chunk, key.clone());
        engine.commit(batch, Durability::Sync).unwrap();
        assert!(is_damaged(&bench.store.document(&name("notes/a"))));
        set(&*engine, Family::Chunk, &key, value);
        assert!(bench.store.document(&name("notes/a")).unwrap().is_some());
    }
    let at = key::encode_chunk(name("notes/a").id(), ChunkAt { seq: 9, n: 0 });
    let chunk = Chunk::Change { origin: Origin::Own, bytes: Bytes::new() };
    set(&*engine, Family::Chunk, &at, chunk.encode(&at));
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

/// A reader that loads a document while it is written to finds one state of it, never a mixture.
#[test]
fn a_document_is_read_whole_while_it_is_written() {
    let (_, mut bench) = Bench::new();
    bench.put("notes/a", "0");
    let store = Arc::clone(&bench.store);
    let reader = std::thread::spawn(move || {
        let mut last = 0;
        for _ in 0..2_000 {
            let stored = store.document(&name("notes/a")).unwrap().unwrap();
            assert!(last <= stored.head.seq);
            last = stored.head.seq;
            let last = stored.chunks.last().unwrap();
            assert!(last.ends_with(format!(" {}", stored.head.seq - 1).as_bytes()), "{last:?}");
        }
    });
    for round in 1_u64.. {
        let mut commit = bench.edit("notes/a", &round.to_string());
        if round.is_multiple_of(5) {
            let snapshot = bytes(&format!("all to {round}"));
            commit.log = Log::Fold { snapshot, changes: 1 };
        }
        bench.write(vec![commit]);
        if reader.is_finished() {
            break;
        }
        std::thread::yield_now();
    }
    reader.join().unwrap();
}
