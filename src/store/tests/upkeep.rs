//! Checking and repairing: what is wrong is found, and what a repair leaves is sound.

use super::*;
use crate::store::{
    Batch, Fault, Finding, Listener, Loss, Mended, Remade, Repair, Repaired, frame, repair,
    sys::encode_collection,
};

/// A store with documents of every kind.
fn sample() -> (Arc<MemoryEngine>, Bench) {
    let (engine, mut bench) = Bench::new();
    for (of, json) in [("notes/a", "1"), ("notes/b", "2"), ("notes/c", "3"), ("tasks/a", "4")] {
        bench.put(of, json);
    }
    bench.put("notes/c", "");
    bench.put("notes/b", "5");
    let mut fold = bench.edit("tasks/a", "6");
    fold.log = Log::Fold { snapshot: bytes("folded to 6"), changes: 2 };
    bench.write(vec![fold]);
    (engine, bench)
}

/// Everything that a check of what the engine holds finds, and how many documents it hands on.
fn check(engine: &Arc<MemoryEngine>) -> (Vec<String>, usize) {
    let store = Store::inspect(Arc::<MemoryEngine>::clone(engine)).unwrap();
    let (mut found, mut documents) = (Vec::new(), 0);
    let checked = store.check(Listener {
        found: &mut |finding: Finding| found.push(finding.to_string()),
        document: &mut |_, _| documents += 1,
        progress: &mut |_| {},
    });
    assert!(4 <= checked.documents + found.len() as u64, "{checked:?}");
    (found, documents)
}

/// What documents of this bench are made of: the last change, or the snapshot, says it all.
fn remake(versions: &BTreeMap<String, Version>, chunks: &[Bytes]) -> Result<Remade, String> {
    let last = String::from_utf8(chunks.last().unwrap().to_vec()).unwrap();
    let json = last.split(" to ").nth(1).ok_or("no change")?;
    let version = versions.get(json).ok_or("of no version")?.clone();
    Ok(Remade {
        version,
        deleted: json.is_empty(),
        conflicts: 0,
        json: (!json.is_empty()).then(|| bytes(json)),
        standing: Bytes::new(),
        changes: 2,
    })
}

/// Repairs a store, and gives the repaired one, what was told, and what it came to.
pub(super) fn repaired(engine: &MemoryEngine) -> (Arc<MemoryEngine>, Vec<Mended>, Repaired) {
    let target = Arc::new(MemoryEngine::new());
    let mut told = Vec::new();
    let by_json: BTreeMap<String, Version> =
        [("1", 1001), ("2", 1002), ("5", 1006), ("", 1005), ("6", 1007), ("3", 1003)]
            .map(|(json, at)| (json.to_owned(), version(at)))
            .into();
    let came = repair(Repair {
        source: engine,
        target: Some(&*target),
        node: NodeId::from_bytes([9; 16]),
        collections: &[],
        remake: &|chunks| remake(&by_json, chunks),
        told: &mut |mended| told.push(mended),
    })
    .unwrap();
    (target, told, came)
}

#[test]
fn a_sound_store_is_clean_and_a_repair_leaves_every_row_as_it_was() {
    let (engine, _) = sample();
    assert_eq!(check(&engine), (vec![], 4));
    let (target, told, came) = repaired(&engine);
    assert_eq!(told, []);
    assert_eq!((came.documents, came.quarantined), (4, 0));
    for family in Family::ALL {
        assert_eq!(rows(&*target, family), rows(&*engine, family), "{family:?}");
    }
}

#[test]
fn every_flipped_row_is_found_and_mended_or_given_up() {
    for family in [Family::View, Family::Head, Family::Chunk, Family::Feed, Family::Sys] {
        let (sound, _) = sample();
        for (key, value) in rows(&*sound, family) {
            let (engine, _) = sample();
            let mut value = value.to_vec();
            *value.last_mut().unwrap() ^= 1;
            let mut batch = Batch::default();
            batch.put(family, key.clone(), value.into());
            engine.commit(batch, Durability::Sync).unwrap();
            let at = format!("{family:?} {}", String::from_utf8_lossy(&key));
            if family != Family::Sys {
                let (found, _) = check(&engine);
                assert!(!found.is_empty(), "{at}");
            }
            let (target, told, came) = repaired(&engine);
            assert_eq!(check(&target).0, [""; 0], "{at}: {told:?}");
            let given_up = u64::from(family == Family::Chunk);
            assert_eq!((came.documents, came.quarantined), (4 - given_up, given_up), "{at}");
            if key != b"format" {
                assert!(!told.is_empty(), "{at}");
            }
            let loss = told.iter().any(|mended| mended.loss != Loss::Nothing);
            assert_eq!(loss, family == Family::Chunk, "{at}: {told:?}");
        }
    }
}

#[test]
fn every_unreadable_row_is_found_and_mended_or_given_up() {
    for family in [Family::View, Family::Head, Family::Chunk, Family::Feed] {
        let (sound, _) = sample();
        for (key, _) in rows(&*sound, family) {
            let (engine, _) = sample();
            engine.inject(Fault::Unreadable { family, key: key.clone() });
            let at = format!("{family:?} {key:?}");
            assert_ne!(check(&engine).0, [""; 0], "{at}");
            let (target, _, came) = repaired(&engine);
            assert_eq!(check(&target).0, [""; 0], "{at}");
            let given_up = u64::from(family == Family::Chunk);
            assert_eq!((came.documents, came.quarantined), (4 - given_up, given_up), "{at}");
        }
    }
}

#[test]
fn every_missing_row_is_found() {
    let (sound, _) = sample();
    for family in [Family::View, Family::Head, Family::Feed] {
        for (key, _) in rows(&*sound, family) {
            let (engine, _) = sample();
            let mut batch = Batch::default();
            batch.remove(family, key.clone());
            engine.commit(batch, Durability::Sync).unwrap();
            assert_ne!(check(&engine).0, [""; 0], "{family:?} {key:?}");
        }
    }
}

#[test]
fn a_document_in_quarantine_is_neither_read_nor_listed_nor_an_error() {
    let (engine, _) = sample();
    let key = rows(&*engine, Family::Head)
        .iter()
        .find(|(key, value)| Head::decode(key, value).unwrap().key.as_str() == "b")
        .map(|(key, _)| key::decode_head(key).unwrap())
        .unwrap();
    let chunk = rows(&*engine, Family::Chunk)
        .into_iter()
        .find(|(row, _)| key::decode_chunk(row).unwrap().0 == key);
    let (chunk, value) = chunk.unwrap();
    let mut batch = Batch::default();
    batch.put(Family::Chunk, chunk.clone(), value.slice(..value.len() - 1));
    engine.commit(batch, Durability::Sync).unwrap();
    let (target, told, came) = repaired(&engine);
    assert_eq!(came, Repaired { documents: 3, quarantined: 1 });
    let lost: Vec<_> = told.iter().map(|mended| (&*mended.place, mended.loss)).collect();
    assert_eq!(lost, [("notes/b", Loss::Quarantined)]);

    let kept = rows(&*target, Family::Kept);
    let raw = kept.iter().find(|(key, _)| key.ends_with(&chunk)).unwrap();
    assert_eq!(raw.1[frame::HEADER_BYTES..], value[..value.len() - 1], "its bytes are kept");

    let again = Bench::open(Arc::<MemoryEngine>::clone(&target), 2);
    let read = again.store.document(&name("notes/b"));
    assert!(matches!(read, Err(crate::store::ReadError::Damaged(_))), "{read:?}");
    let page = again.store.list(&"notes".parse().unwrap(), WHOLE).unwrap();
    assert_eq!(page.rows.len(), 1);
    assert_eq!(again.counts(), ["notes: 1/1", "tasks: 1/0"]);
    assert_eq!(check(&target).0, [""; 0]);
    // A second repair leaves it as it is.
    let (twice, told, came) = repaired(&target);
    assert_eq!((told, came), (vec![], Repaired { documents: 3, quarantined: 1 }));
    for family in [Family::Head, Family::Feed, Family::Kept] {
        assert_eq!(rows(&*twice, family), rows(&*target, family));
    }
}

#[test]
fn a_list_goes_on_around_rows_that_cannot_be_read() {
    let (engine, mut bench) = Bench::new();
    for key in ["a", "b1", "b2", "b3", "c"] {
        bench.put(&format!("notes/{key}"), "1");
    }
    bench.put("other/z", "1");
    let notes = "notes".parse().unwrap();
    let at = |key: &str| key::encode_view(1, &key.parse().unwrap());
    engine.inject(Fault::Unreadable { family: Family::View, key: at("b2") });
    let list = |list: List<'_>| {
        let page = bench.store.list(&notes, list).unwrap();
        let keys: Vec<_> = page.rows.iter().map(|row| row.0.to_string()).collect();
        let damaged: Vec<_> = page.damaged.iter().map(ToString::to_string).collect();
        (keys.join(" "), damaged.join(" "), page.next.map(|key| key.to_string()))
    };
    assert_eq!(list(WHOLE), ("a b1 b3 c".into(), "b2".into(), None));
    let after = "b1".parse().unwrap();
    assert_eq!(list(List { after: Some(&after), ..WHOLE }), ("b3 c".into(), "b2".into(), None));
    assert_eq!(list(List { prefix: "b", ..WHOLE }), ("b1 b3".into(), "b2".into(), None));
    let (keys, damaged, next) = list(List { limit: 3, ..WHOLE });
    assert_eq!((&*keys, &*damaged, next), ("a b1", "b2", Some("b2".into())));
}

#[test]
fn a_collection_whose_row_is_damaged_is_found_again_by_its_documents() {
    let (engine, _) = sample();
    let key = b"collection/tasks".to_vec();
    let mut batch = Batch::default();
    batch.put(Family::Sys, key.clone(), bytes("nonsense"));
    engine.commit(batch, Durability::Sync).unwrap();
    let (target, told, _) = repaired(&engine);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].place, "collection tasks");
    let row = target.get(Family::Sys, &key).unwrap();
    assert_eq!(row, Some(encode_collection(2, &key)));
}
