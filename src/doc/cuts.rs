//! Cuts the values of a document into pieces, before others are put between them.
//!
//! Automerge 0.12 holds all values of a document in one column of bytes, in the order of its operations: by
//! object, then by key or place. hexane 1.0 keeps such a column in pieces of 4 KiB; but what was loaded, and each
//! run of values that changes bring, is one piece at first. Where something is put into such a large piece, it is
//! cut in two, and the part before the cut keeps the room of the whole (`splice_slab` in hexane's `raw.rs`). Who
//! puts a thousand values into a document of 4 MB, from front to back, holds 4 GB so.
//!
//! Cut from back to front beforehand, the first piece alone has room in vain, and a copy of it has none.

use automerge::{
    Automerge, AutomergeError, ObjId, ObjType, Prop, ReadDoc, ScalarValueRef, ValueRef,
    iter::{DocItem, DocObjItem},
    transaction::Transactable,
};
use std::sync::Arc;

/// Bytes of a piece, but for one value that is larger. Each cut takes about 30 µs; and a piece that is cut again
/// and again, until none is larger than hexane's, takes a few times its size.
pub(super) const PIECE_BYTES: usize = 16 << 10;

/// Cuts what is larger than a piece, as far as what shows tells. The document stays as it is, changes and all.
pub(super) fn cut(automerge: &mut Automerge, piece_bytes: usize) {
    let places = places(automerge, piece_bytes);
    let writer = automerge.get_heads().first().and_then(|head| {
        let meta = automerge.get_change_meta_by_hash(head);
        meta.map(|meta| meta.actor.into_owned())
    });
    let Some(writer) = writer.filter(|_| !places.is_empty()) else { return };
    // Where Automerge panics, the document is as before.
    let mut pieces = automerge.clone();
    // One who is there already: of another one, the index of marks would know when that is taken back.
    pieces.set_actor(writer);
    // hexane cuts where something is put, and leaves it so when that is taken back.
    let mut tx = pieces.transaction();
    for (object, at) in places.iter().rev() {
        // A place that takes nothing is not cut.
        drop(put(&mut tx, object, at));
    }
    tx.rollback();
    pieces.set_actor(automerge.get_actor().clone());
    *automerge = pieces.clone();
}

/// A place between two values: before an element, behind all letters, or behind a key.
type Place = (Arc<ObjId>, Prop);

/// Where to cut, in the order of the values.
fn places(automerge: &Automerge, piece_bytes: usize) -> Vec<Place> {
    let (places, visible) = each(automerge, piece_bytes);
    // What was overwritten or deleted lies between, and is taken for as large as what shows.
    let operations = usize::try_from(automerge.stats().num_ops).unwrap_or(usize::MAX);
    match operations / visible.max(1) {
        0 | 1 => places,
        times => each(automerge, (piece_bytes / times).max(1)).0,
    }
}

/// The places behind each so many bytes of values that show, and how many of these there are.
fn each(automerge: &Automerge, step: usize) -> (Vec<Place>, usize) {
    let (mut places, mut visible, mut bytes) = (Vec::new(), 0, 0);
    let mut text = None;
    for DocObjItem { obj, item } in automerge.iter() {
        let (at, value) = match item {
            DocItem::Map(item) => (Prop::Map(item.key.into_owned()), item.value),
            DocItem::List(item) => (Prop::Seq(item.index), item.value),
            // One of the spans of a text: it is looked at as a whole.
            DocItem::Text(_) if text.as_ref() == Some(&obj) => continue,
            DocItem::Text(_) => {
                let length = automerge.length(&*obj);
                let steps = (step - bytes..=length).step_by(step);
                places.extend(steps.map(|at| (Arc::clone(&obj), Prop::Seq(at))));
                visible += length;
                bytes = (bytes + length) % step;
                text = Some(obj);
                continue;
            }
        };
        visible += 1;
        bytes += size(&value);
        if step <= bytes {
            places.push((obj, at));
            bytes = 0;
        }
    }
    (places, visible)
}

/// Puts something beside what is at a place, so that nothing there is touched.
fn put(tx: &mut impl Transactable, object: &ObjId, at: &Prop) -> Result<(), AutomergeError> {
    match at {
        Prop::Map(key) => tx.put(object, format!("{key}\0"), "|"),
        Prop::Seq(at) if tx.object_type(object)? == ObjType::Text => {
            tx.splice_text(object, *at, 0, "|")
        }
        Prop::Seq(at) => tx.insert(object, *at, "|"),
    }
}

/// About how many bytes a value takes in the column.
fn size(value: &ValueRef<'_>) -> usize {
    let ValueRef::Scalar(value) = value else { return 0 };
    match value {
        ScalarValueRef::Null | ScalarValueRef::Boolean(_) => 0,
        ScalarValueRef::Str(text) => text.len(),
        ScalarValueRef::Bytes(bytes) | ScalarValueRef::Unknown { bytes, .. } => bytes.len(),
        ScalarValueRef::Int(_)
        | ScalarValueRef::Uint(_)
        | ScalarValueRef::F64(_)
        | ScalarValueRef::Counter(_)
        | ScalarValueRef::Timestamp(_) => size_of::<u64>(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use automerge::{
        ActorId, AutoCommit, ROOT, ScalarValue,
        marks::{ExpandMark, Mark},
    };

    fn is_object(value: &ValueRef<'_>) -> bool {
        matches!(value, ValueRef::Object(_))
    }

    /// The marks of every text.
    fn marks(doc: &Automerge) -> Vec<Vec<Mark>> {
        let texts = doc.iter().filter(|item| matches!(item.item, DocItem::Text(_)));
        texts.map(|text| doc.marks(&*text.obj).unwrap()).collect()
    }

    /// Something that two may do to a document at once.
    fn edit(doc: &mut impl Transactable, random: &mut fastrand::Rng) {
        let objects: Vec<ObjId> = std::iter::once(ROOT)
            .chain(doc.iter().filter_map(|item| match item.item {
                DocItem::Map(item) => is_object(&item.value).then(|| item.id()),
                DocItem::List(item) => is_object(&item.value).then(|| item.id()),
                DocItem::Text(_) => None,
            }))
            .collect();
        let object = random.choice(&objects).unwrap();
        let (kind, length) = (doc.object_type(object).unwrap(), doc.length(object));
        let of = [ObjType::Map, ObjType::List, ObjType::Text][random.usize(..3)];
        let value = match random.u8(..5) {
            0 => ScalarValue::Null,
            1 => ScalarValue::counter(random.i64(..)),
            2 => ScalarValue::Bytes(vec![7; random.usize(..9)]),
            3 => ScalarValue::F64(random.f64()),
            _ => "a value".into(),
        };
        let key = ["a", "a\0", "b", "c"][random.usize(..4)];
        let at = random.usize(..=length);
        let done = match (kind, random.u8(..6)) {
            (ObjType::Map | ObjType::Table, 0) => doc.delete(object, key),
            (ObjType::Map | ObjType::Table, 1) => doc.put_object(object, key, of).map(drop),
            (ObjType::Map | ObjType::Table, 2) => doc.increment(object, key, 1),
            (ObjType::Map | ObjType::Table, _) => doc.put(object, key, value),
            (_, 0) => doc.delete(object, at),
            (ObjType::List, 1) => doc.insert_object(object, at, of).map(drop),
            (ObjType::List, 2) => doc.put(object, at, value),
            (ObjType::List, _) => doc.insert(object, at, value),
            (ObjType::Text, 1) => {
                let value = random.u64(..2);
                let mark = Mark::new("bold".into(), value, random.usize(..=at), at);
                doc.mark(object, mark, ExpandMark::Both)
            }
            (ObjType::Text, _) => doc.splice_text(object, at, 0, "é and 🌊"),
        };
        // Not all of that can be done everywhere.
        drop(done);
    }

    #[test]
    fn texts_count_together_and_what_was_overwritten_counts_as_what_shows() {
        let mut doc = AutoCommit::new();
        let texts: Vec<ObjId> = (0..100)
            .map(|at| doc.put_object(ROOT, format!("{at:03}"), ObjType::Text).unwrap())
            .collect();
        for text in &texts {
            doc.splice_text(text, 0, 0, &"a".repeat(100)).unwrap();
        }
        assert_eq!(places(doc.document(), 500).len(), 20);
        let mut doc = AutoCommit::new();
        for round in 0..10 {
            for key in 0..100 {
                doc.put(ROOT, format!("{key:02}"), format!("{round:0100}")).unwrap();
            }
        }
        assert_eq!(places(doc.document(), 5_000).len(), 20);
    }

    #[test]
    fn a_document_that_was_cut_is_the_same_and_goes_on_the_same() {
        let mut cuts = 0;
        for seed in 0..300 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut one = AutoCommit::new().with_actor(vec![1].into());
            for _ in 0..random.usize(..6) {
                (0..9).for_each(|_| edit(&mut one, &mut random));
                let mut two = one.fork().with_actor(vec![2].into());
                (0..9).for_each(|_| edit(&mut one, &mut random));
                (0..9).for_each(|_| edit(&mut two, &mut random));
                one.merge(&mut two).unwrap();
            }
            let saved = one.save();
            let writer = ActorId::from(vec![random.u8(0..4)]);
            let load = || Automerge::load(&saved).unwrap().with_actor(writer.clone());
            let (whole, mut pieces) = (load(), load());
            let size = random.usize(1..9);
            cuts += places(&pieces, size).len();
            cut(&mut pieces, size);
            assert_eq!(pieces.save(), saved, "seed {seed}");
            assert_eq!(pieces.get_heads(), whole.get_heads(), "seed {seed}");
            assert!(pieces.iter().eq(whole.iter()), "seed {seed}");
            assert_eq!(marks(&pieces), marks(&whole), "seed {seed}");
            let [whole, pieces] = [whole, pieces].map(|mut doc| {
                let (mut random, mut tx) = (random.clone(), doc.transaction());
                (0..20).for_each(|_| edit(&mut tx, &mut random));
                tx.commit();
                (doc.save(), marks(&doc))
            });
            assert_eq!(whole, pieces, "seed {seed}");
        }
        assert!(1000 < cuts, "{cuts}");
    }
}
