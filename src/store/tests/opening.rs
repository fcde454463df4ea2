//! Opening: what is begun, what is found again, what is refused.

use super::*;
use crate::store::{Batch, Crash, OpenError, frame, key::SysKey};

fn open(engine: Arc<dyn Engine>, start: u8) -> Result<Arc<Store>, OpenError> {
    Store::open(engine, fresh(start), Durability::Sync).map(|(store, _)| store)
}

fn set(engine: &dyn Engine, family: Family, key: Vec<u8>, value: Bytes) {
    let mut batch = Batch::default();
    batch.put(family, key, value);
    engine.commit(batch, Durability::Sync).unwrap();
}

fn damage(engine: &dyn Engine, family: Family, key: Vec<u8>) {
    let mut value = engine.get(family, &key).unwrap().unwrap().to_vec();
    *value.last_mut().unwrap() ^= 1;
    set(engine, family, key, Bytes::from(value));
}

#[test]
fn a_new_store_is_durable_before_it_is_used() {
    let engine = Arc::new(MemoryEngine::new());
    let store = open(Arc::<MemoryEngine>::clone(&engine), 1).unwrap();
    assert_eq!(store.node(), NodeId::from_bytes([1; 16]));
    assert_eq!((store.incarnation().start_seq, store.last_seq()), (1, 0));
    let store = open(Arc::new(engine.crash(Crash::Keep { batches: 0 })), 2).unwrap();
    assert_eq!(store.node(), NodeId::from_bytes([1; 16]), "a node keeps its id");
    assert_eq!(store.incarnations().len(), 2);
}

#[test]
fn a_store_finds_again_what_it_knew() {
    let (engine, mut bench) = Bench::new();
    for (of, json) in
        [("a/1", "x"), ("a/2", "x"), ("b/1", "x"), ("a/1", ""), ("a/3", ""), ("a/2", "y")]
    {
        bench.put(of, json);
    }
    let (counts, last_seq) = (bench.counts(), bench.store.last_seq());
    let mut again = Bench::open(engine, 2);
    assert_eq!(again.counts(), counts);
    assert_eq!(again.counts(), ["a: 1/2", "b: 1/0"]);
    assert_eq!((again.store.last_seq(), last_seq), (6, 6));
    assert_eq!(again.store.damaged_heads(), 0);
    let starts: Vec<_> = again
        .store
        .incarnations()
        .iter()
        .map(|start| (start.id.to_bytes()[0], start.start_seq))
        .collect();
    assert_eq!(starts, [(1, 1), (2, 7)]);
    assert_eq!(again.store.incarnation(), again.store.incarnations()[1]);
    assert_eq!(again.put("c/1", "x"), 7);
    assert_eq!(again.put("a/1", "x"), 8);
    assert_eq!(again.counts(), ["a: 2/1", "b: 1/0", "c: 1/0"]);
    assert_sound(&*again.engine);
}

#[test]
fn incarnations_stay_in_order_and_are_used_once() {
    let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
    for start in 1..=20 {
        let store = open(Arc::clone(&engine), start).unwrap();
        let ids: Vec<u8> =
            store.incarnations().iter().map(|start| start.id.to_bytes()[0]).collect();
        assert_eq!(ids, (1..=start).collect::<Vec<u8>>());
    }
    assert!(matches!(open(engine, 7), Err(OpenError::IncarnationUsed(_))));
}

#[test]
fn a_newer_format_is_refused() {
    let (engine, _) = Bench::new();
    let key = key::encode_sys(&SysKey::Format);
    set(&*engine, Family::Sys, key.clone(), sys::encode_format(2, &key));
    let refused = open(engine, 2).unwrap_err();
    assert!(matches!(refused, OpenError::NewerFormat { found: 2, known: 1 }));
    assert_eq!(
        refused.to_string(),
        "the data has format 2; this version of Tombolo knows formats up to 1"
    );
}

#[test]
fn rows_without_a_format_are_not_a_store() {
    let engine = Arc::new(MemoryEngine::new());
    set(&*engine, Family::Kept, vec![1], Bytes::new());
    assert!(matches!(open(engine, 1), Err(OpenError::Damaged(_))));
}

#[test]
fn damage_in_what_every_store_has_refuses_to_open_and_names_the_row() {
    for key in [
        SysKey::Format,
        SysKey::Node,
        SysKey::Incarnation(0),
        SysKey::Collection("notes".parse().unwrap()),
    ] {
        let (engine, mut bench) = Bench::new();
        bench.put("notes/a", "1");
        let key = key::encode_sys(&key);
        damage(&*engine, Family::Sys, key.clone());
        let refused = open(engine, 2).unwrap_err().to_string();
        let named = String::from_utf8(key).unwrap();
        assert!(refused.contains(&named), "{refused}");
        assert!(refused.contains("the checksum is wrong"), "{refused}");
    }
}

#[test]
fn a_missing_incarnation_refuses_to_open() {
    let (engine, _) = Bench::new();
    open(Arc::<MemoryEngine>::clone(&engine), 2).unwrap();
    let mut batch = Batch::default();
    batch.remove(Family::Sys, key::encode_sys(&SysKey::Incarnation(0)));
    engine.commit(batch, Durability::Sync).unwrap();
    assert!(matches!(open(engine, 3), Err(OpenError::Damaged(_))));
}

#[test]
fn two_collections_of_one_id_refuse_to_open() {
    let (engine, mut bench) = Bench::new();
    bench.put("notes/a", "1");
    let key = key::encode_sys(&SysKey::Collection("other".parse().unwrap()));
    set(&*engine, Family::Sys, key.clone(), sys::encode_collection(1, &key));
    assert!(matches!(open(engine, 2), Err(OpenError::Damaged(_))));
}

#[test]
fn one_damaged_head_is_one_document_less() {
    let (engine, mut bench) = Bench::new();
    bench.put("notes/a", "1");
    bench.put("notes/b", "2");
    damage(&*engine, Family::Head, key::encode_head(name("notes/b").id()).to_vec());
    let mut again = Bench::open(engine, 2);
    assert_eq!(again.store.damaged_heads(), 1);
    assert_eq!(again.counts(), ["notes: 1/0"]);
    assert_eq!(again.put("notes/a", "3"), 3, "no seq is given twice");
    assert_eq!(frame::HEADER_BYTES, 10);
}

#[test]
fn a_full_disk_opens_for_reading_what_is_there_and_nothing_new() {
    use crate::store::{CommitError, EngineError, Fault};
    let (engine, mut bench) = Bench::new();
    bench.put("notes/a", "1");
    engine.inject(Fault::Full { after: 0 });
    let mut again = Bench::open(Arc::<MemoryEngine>::clone(&engine), 2);
    assert_eq!(again.json("notes/a"), Some("1".into()));
    let refused = again.try_put("notes/a", "2");
    assert!(matches!(refused, Err(CommitError::Poisoned(EngineError::Full(_)))), "{refused:?}");
    let new = MemoryEngine::new();
    new.inject(Fault::Full { after: 0 });
    assert!(matches!(open(Arc::new(new), 1), Err(OpenError::Engine(EngineError::Full(_)))));
    engine.heal();
    let last = Bench::open(engine, 3);
    assert_eq!(last.store.incarnations().len(), 2, "the start that wrote nothing left nothing");
}
