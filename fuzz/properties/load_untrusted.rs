//! The gate, against whole documents that were damaged: as `gate.rs` holds it to.

use super::{
    forge,
    gate::{ROOM, bend, limits, send},
};
use arbitrary::{Result, Unstructured};
use automerge::{ActorId, AutoCommit, ObjType, ROOT, ScalarValue, transaction::Transactable};
use tombolo::doc::{Actor, Document, Sender};

/// Holds for documents damaged as `data` says, and for `data` itself.
pub fn property(data: &[u8]) {
    let mut document = Document::new(Actor([1; 16]));
    send(&mut document, &mut Vec::new(), &forge::corrected(data));
    let _ = scene(&mut Unstructured::new(data));
}

fn scene(bytes: &mut Unstructured<'_>) -> Result<()> {
    let mut source = document(bytes)?;
    let whole = match bytes.int_in_range(0..=2)? {
        // Deflates columns of 256 bytes and more.
        0 => source.save(),
        _ => source.save_nocompress(),
    };
    let mut sent = whole;
    for _ in 0..bytes.int_in_range(1..=3)? {
        bend(bytes, &mut sent)?;
    }
    let mut document = Document::new(Actor([1; 16]));
    let mut stored = Vec::new();
    if bytes.ratio(1, 4)? {
        // It knows some of it already.
        let changes = source.get_changes(&[]);
        let known: Vec<u8> = changes[..changes.len() / 2]
            .iter()
            .flat_map(|change| change.raw_bytes().to_vec())
            .collect();
        let admitted = document.admit(&known, Sender::Stranger, ROOM, &limits()).unwrap();
        stored = admitted.delta.changes;
    }
    send(&mut document, &mut stored, &forge::corrected(&sent));
    Ok(())
}

/// A document of a few changes by two actors, one of whom did not see all.
fn document(bytes: &mut Unstructured<'_>) -> Result<AutoCommit> {
    let mut document = AutoCommit::new().with_actor(ActorId::from([7; 16]));
    document.put(ROOT, "title", "before").unwrap();
    document.put(ROOT, "count", ScalarValue::counter(3)).unwrap();
    let list = document.put_object(ROOT, "list", ObjType::List).unwrap();
    let text = document.put_object(ROOT, "text", ObjType::Text).unwrap();
    document.splice_text(&text, 0, 0, "some text").unwrap();
    document.commit();
    for round in 0..bytes.int_in_range(0..=4)? {
        let mut other = document.fork().with_actor(ActorId::from([8 + round; 16]));
        other.insert(&list, 0, i64::from(round)).unwrap();
        other.put(ROOT, "title", u64::from(round)).unwrap();
        other.commit();
        document.splice_text(&text, 2, 1, "xyz").unwrap();
        document.increment(ROOT, "count", 2).unwrap();
        document.delete(ROOT, "title").unwrap();
        document.commit();
        document.merge(&mut other).unwrap();
    }
    Ok(document)
}
