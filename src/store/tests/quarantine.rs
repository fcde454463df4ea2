//! What is put into quarantine, and the two ways out.

use super::*;
use crate::store::{Aside, CHANGES_MAX, MemoryEngine, ReadError, What};

/// A store with the documents `notes/a`, which has two chunks, and `notes/b`.
fn sample() -> (Arc<MemoryEngine>, Bench) {
    let (engine, mut bench) = Bench::new();
    bench.put("notes/a", "1");
    bench.put("notes/a", "2");
    bench.put("notes/b", "3");
    bench.tracks.clear();
    (engine, bench)
}

fn set_aside(bench: &mut Bench, of: &str) -> bool {
    bench.committer.set_aside(&name(of), &Aside::Document, "why", 7).unwrap()
}

/// After this start, and after another one.
fn twice(engine: &Arc<MemoryEngine>, bench: Bench, check: impl Fn(&Bench)) -> Bench {
    check(&bench);
    let starts = u8::try_from(bench.store.incarnations().len()).unwrap();
    drop(bench);
    let again = Bench::open(Arc::<MemoryEngine>::clone(engine), starts + 1);
    check(&again);
    again
}

#[test]
fn a_document_is_put_aside_with_its_bytes_and_forgotten_without_a_trace() {
    let (engine, mut bench) = sample();
    assert!(set_aside(&mut bench, "notes/a"));
    assert!(!set_aside(&mut bench, "notes/a"), "it is there");
    assert!(!set_aside(&mut bench, "notes/c"), "there is no such document");
    let mut bench = twice(&engine, bench, |bench| {
        let read = bench.store.document(&name("notes/a"));
        assert!(matches!(read, Err(ReadError::Damaged(_))), "{read:?}");
        assert_eq!(
            (bench.counts(), bench.store.quarantine_size()),
            (vec!["notes: 1/0".into()], (1, 0))
        );
        let all = bench.store.quarantine().unwrap();
        let [held] = &all[..] else { panic!("{all:?}") };
        assert_eq!((held.what, held.name.clone()), (What::Document, Some(name("notes/a"))));
        assert_eq!((held.why.as_str(), held.time_seconds), ("why", 7));
        assert_eq!(held.id.to_bytes(), name("notes/a").id().to_bytes());
        let (_, bytes) = bench.store.quarantined(held.id).unwrap().unwrap();
        assert_eq!(bytes.concat(), b"change to 1change to 2");
        assert_eq!(unsound(&*bench.engine), None);
    });
    let id = bench.store.quarantine().unwrap()[0].id;
    assert!(bench.committer.forget(id).unwrap());
    assert!(!bench.committer.forget(id).unwrap());
    let mut bench = twice(&engine, bench, |bench| {
        assert!(bench.store.document(&name("notes/a")).unwrap().is_none());
        assert!(bench.store.quarantine().unwrap().is_empty());
        assert_eq!(
            (bench.counts(), bench.store.quarantine_size()),
            (vec!["notes: 1/0".into()], (0, 0))
        );
        assert_eq!(unsound(&*bench.engine), None);
        assert_eq!(rows(&*bench.engine, Family::Kept), []);
        assert_eq!(rows(&*bench.engine, Family::Chunk).len(), 1);
    });
    bench.put("notes/a", "4");
    assert_eq!(bench.json("notes/a").as_deref(), Some("4"));
    assert_eq!(bench.counts(), ["notes: 2/0"]);
    assert_eq!(unsound(&*bench.engine), None);
}

#[test]
fn what_is_whole_of_a_document_is_taken_out_of_quarantine() {
    let (engine, mut bench) = sample();
    let chunk = rows(&*engine, Family::Chunk)
        .into_iter()
        .filter(|(key, _)| key::decode_chunk(key).unwrap().0 == name("notes/a").id())
        .nth(1);
    let (key, value) = chunk.unwrap();
    let mut batch = crate::store::Batch::default();
    batch.put(Family::Chunk, key, value.slice(..value.len() - 1));
    engine.commit(batch, Durability::Sync).unwrap();
    set_aside(&mut bench, "notes/a");
    let remains = bench.store.remains(name("notes/a").id()).unwrap().unwrap();
    assert_eq!((remains.chunks.concat(), remains.damaged.len()), (b"change to 1".to_vec(), 1));
    let commit = Commit {
        track: remains.track,
        log: Log::Fold { snapshot: bytes("what is left"), changes: 1 },
        ..bench.edit("notes/c", "5")
    };
    bench.write(vec![commit]);
    bench.tracks.clear();
    twice(&engine, bench, |bench| {
        assert_eq!(bench.chunks("notes/a"), ["what is left"]);
        assert_eq!(bench.json("notes/a").as_deref(), Some("5"));
        assert!(bench.store.quarantine().unwrap().is_empty());
        assert_eq!(
            (bench.counts(), bench.store.quarantine_size()),
            (vec!["notes: 2/0".into()], (0, 0))
        );
        assert_eq!(unsound(&*bench.engine), None);
        assert_eq!(rows(&*bench.engine, Family::Kept), []);
    });
    let none = Bench::open(engine, 3).store.remains(name("notes/b").id()).unwrap();
    assert!(none.is_none(), "it is in none");
}

#[test]
fn changes_of_others_are_kept_once_and_not_without_end() {
    let (engine, mut bench) = sample();
    let keep = |bench: &mut Bench, text: &str| {
        let aside = Aside::Changes(bytes(text));
        bench.committer.set_aside(&name("notes/x"), &aside, "why", 7).unwrap()
    };
    assert!(keep(&mut bench, "one") && keep(&mut bench, "one") && keep(&mut bench, "two"));
    let mut bench = twice(&engine, bench, |bench| {
        assert_eq!(bench.store.quarantine_size(), (0, 2));
        let all = bench.store.quarantine().unwrap();
        let mut texts: Vec<_> = all
            .iter()
            .map(|held| {
                assert_eq!((held.what, held.name.clone()), (What::Changes, Some(name("notes/x"))));
                bench.store.quarantined(held.id).unwrap().unwrap().1.concat()
            })
            .collect();
        texts.sort();
        assert_eq!(texts, [b"one", b"two"]);
    });
    let first = bench.store.quarantine().unwrap()[0].id;
    assert!(bench.committer.forget(first).unwrap());
    assert_eq!(bench.store.quarantine_size(), (0, 1));
    for n in 1..CHANGES_MAX {
        assert!(keep(&mut bench, &n.to_string()), "{n}");
    }
    assert!(!keep(&mut bench, "one too many"));
    assert_eq!(bench.store.quarantine_size(), (0, CHANGES_MAX as u64));
}

#[test]
fn rows_that_a_repair_took_out_and_that_are_nobodys_can_be_seen_and_forgotten() {
    let (engine, mut bench) = sample();
    let mut batch = crate::store::Batch::default();
    let (key, value) = crate::store::quarantine::row(Family::Feed, b"key", b"value");
    batch.put(Family::Kept, key, value);
    let lost = key::encode_chunk(name("notes/lost").id(), ChunkAt { seq: 9, n: 0 });
    let (key, value) = crate::store::quarantine::row(Family::Chunk, &lost, b"chunk");
    batch.put(Family::Kept, key, value);
    engine.commit(batch, Durability::Sync).unwrap();
    let all = bench.store.quarantine().unwrap();
    assert_eq!(all.len(), 2);
    for held in all {
        assert_eq!((held.what, &held.name), (What::Rows, &None));
        let (_, bytes) = bench.store.quarantined(held.id).unwrap().unwrap();
        let expected: &[u8] = if held.id.to_bytes() == name("notes/lost").id().to_bytes() {
            b"chunk"
        } else {
            b"value"
        };
        assert_eq!(bytes.concat(), expected);
        assert!(bench.committer.forget(held.id).unwrap());
    }
    assert_eq!(rows(&*engine, Family::Kept), []);
    assert_eq!(bench.counts(), ["notes: 2/0"]);
}

#[test]
fn a_repair_tries_documents_again_whose_bytes_are_in_their_place() {
    let (engine, mut bench) = sample();
    set_aside(&mut bench, "notes/a");
    let (target, _, came) = super::upkeep::repaired(&engine);
    assert_eq!((came.documents, came.quarantined), (2, 0));
    let again = Bench::open(target, 2);
    assert_eq!(again.chunks("notes/a"), ["change to 1", "change to 2"]);
    assert_eq!(
        (again.counts(), again.store.quarantine_size()),
        (vec!["notes: 2/0".into()], (0, 0))
    );

    // What is damaged stays in quarantine, and nothing of it is lost.
    let (key, value) = rows(&*engine, Family::Chunk)
        .into_iter()
        .find(|(key, _)| key::decode_chunk(key).unwrap().0 == name("notes/a").id())
        .unwrap();
    let mut batch = crate::store::Batch::default();
    batch.put(Family::Chunk, key, value.slice(..value.len() - 1));
    engine.commit(batch, Durability::Sync).unwrap();
    let (target, _, came) = super::upkeep::repaired(&engine);
    assert_eq!((came.documents, came.quarantined), (1, 1));
    let again = Bench::open(target, 2);
    let held = &again.store.quarantine().unwrap()[0];
    assert_eq!((held.what, held.name.clone()), (What::Document, Some(name("notes/a"))));
    let (_, bytes) = again.store.quarantined(held.id).unwrap().unwrap();
    assert!(bytes.contains(&super::bytes("change to 2")), "{bytes:?}");
    assert_eq!(again.store.remains(name("notes/a").id()).unwrap().unwrap().damaged.len(), 1);
}
