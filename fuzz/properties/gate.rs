//! The gate, against changes that were forged: what is taken saves, loads and reads back; what is
//! refused leaves the document as it was.

use super::{
    forge::{self, Forged},
    generate,
};
use arbitrary::{Arbitrary, Result, Unstructured};
use automerge::{
    ActorId, AutoCommit, Automerge, Change, ObjType, ROOT, ReadDoc, ScalarValue,
    transaction::Transactable,
};
use tombolo::{
    doc::{Actor, Document, Edit, Form, Limits, Room, Sender, Stamp, Value},
    ident::Version,
};

/// What may wait.
pub(super) const ROOM: Room = Room { changes: 256, bytes: 4 << 20 };

/// Small enough for a fuzzer's patience.
pub(super) fn limits() -> Limits {
    Limits {
        change_operations_max: 20_000,
        document_operations_max: 20_000,
        inflated_bytes_max: 1 << 20,
        document_bytes_max: 4 << 20,
        ..Limits::default()
    }
}

/// Holds for changes made, damaged and sent as `data` says.
pub fn property(data: &[u8]) {
    let mut bytes = Unstructured::new(data);
    let _ = scene(&mut bytes);
}

fn scene(bytes: &mut Unstructured<'_>) -> Result<()> {
    if bytes.ratio(1, 8)? {
        return beginning(bytes);
    }
    let base = base();
    let mut document = Document::new(Actor([1; 16]));
    let mut stored = Vec::new();
    if bytes.ratio(7, 8)? {
        stored.push(base.clone().save_nocompress());
        document.admit(&stored[0], Sender::Stranger, ROOM, &limits()).unwrap();
    }
    let mut author = base.clone().with_actor(ActorId::from([8; 16]));
    let mut other = base.with_actor(ActorId::from([9; 16]));
    for _ in 0..bytes.int_in_range(1..=4)? {
        let mut sent = Vec::new();
        for _ in 0..bytes.int_in_range(1..=3)? {
            let from = if bytes.ratio(3, 4)? { &mut author } else { &mut other };
            let change = edit(bytes, from)?;
            sent.extend(damaged(bytes, &change)?);
            if bytes.ratio(1, 8)? {
                // Who saw it goes on from it.
                let _ = other.apply_changes([change]);
            }
        }
        send(&mut document, &mut stored, &sent);
    }
    Ok(())
}

/// A member sends what begins a document: it is what anybody would find it to be.
fn beginning(bytes: &mut Unstructured<'_>) -> Result<()> {
    let stamp = Stamp { time_seconds: 0, message: bytes.arbitrary()? };
    let put = Edit::Put(generate::map(bytes, 3)?);
    let mut author = Document::new(Actor([8; 16]));
    let Ok(delta) = author.edit(&put, None, &stamp, &limits()) else { return Ok(()) };
    let Some(change) = delta.changes.first() else { return Ok(()) };
    let sent = damaged(bytes, &Change::try_from(&change[..]).unwrap())?;
    let sent_by = |sender| {
        let mut document = Document::new(Actor([1; 16]));
        document.admit(&sent, sender, ROOM, &limits()).map(|admitted| (document, admitted))
    };
    let Ok((mut document, admitted)) = sent_by(Sender::Member) else { return Ok(()) };
    if !admitted.delta.changes.is_empty() {
        sound(&mut document, &admitted.delta.changes);
    }
    if let Ok((other, by_stranger)) = sent_by(Sender::Stranger) {
        assert_eq!(admitted, by_stranger);
        let shown = |document: &Document| {
            let forms = [Form::Plain, Form::Typed].map(|form| document.render(form, None));
            (forms, document.standing(), document.save())
        };
        assert_eq!(shown(&document), shown(&other));
    }
    Ok(())
}

/// A document with one of everything.
fn base() -> AutoCommit {
    let mut document = AutoCommit::new().with_actor(ActorId::from([7; 16]));
    document.put(ROOT, "title", "before").unwrap();
    document.put(ROOT, "count", ScalarValue::counter(3)).unwrap();
    let list = document.put_object(ROOT, "list", ObjType::List).unwrap();
    document.insert(&list, 0, "first").unwrap();
    document.insert_object(&list, 1, ObjType::Map).unwrap();
    let text = document.put_object(ROOT, "text", ObjType::Text).unwrap();
    document.splice_text(&text, 0, 0, "some text").unwrap();
    document.commit();
    document.put(ROOT, "title", "after").unwrap();
    document.commit();
    document
}

/// An honest change.
fn edit(bytes: &mut Unstructured<'_>, document: &mut AutoCommit) -> Result<Change> {
    let object = |document: &AutoCommit, key| document.get(ROOT, key).unwrap().unwrap().1;
    for _ in 0..bytes.int_in_range(1..=3)? {
        // What was deleted meanwhile takes no edit.
        let done = match bytes.int_in_range(0..=6)? {
            0 => document.put(ROOT, "title", i64::from(u8::arbitrary(bytes)?)),
            1 => document.increment(ROOT, "count", 1),
            2 => document.insert(object(document, "list"), 0, "x"),
            3 => document.splice_text(object(document, "text"), 1, 1, "yz"),
            4 => document.put_object(ROOT, "map", ObjType::Map).map(drop),
            5 => document.delete(ROOT, "title"),
            _ => document.delete(object(document, "list"), 0),
        };
        let _ = done;
    }
    document.put(ROOT, "mark", i64::from(u8::arbitrary(bytes)?)).unwrap();
    document.put(ROOT, "made", true).unwrap();
    document.delete(ROOT, "made").unwrap();
    document.commit();
    Ok(document.get_last_local_change().unwrap())
}

/// The bytes of a change, or of what became of it.
fn damaged(bytes: &mut Unstructured<'_>, change: &Change) -> Result<Vec<u8>> {
    let mut forged = Forged::read(change);
    for _ in 0..bytes.int_in_range(0..=2)? {
        match bytes.int_in_range(0..=9)? {
            0 => forged.seq = number(bytes)?,
            1 => forged.start_op = number(bytes)?,
            2 => forged.deps.clear(),
            3 => forged.deps.push(bytes.arbitrary()?),
            4 => forged.actor = vec![bytes.int_in_range(6..=10)?; 16],
            5 => forged.others.push(vec![bytes.int_in_range(6..=10)?; 16]),
            6 => drop(forged.columns.pop()),
            7 => forged.message = bytes.arbitrary::<&[u8]>()?.to_vec(),
            _ => {
                let count = forged.columns.len();
                if count != 0 {
                    let (kind, column) = &mut forged.columns[bytes.choose_index(count)?];
                    if bytes.ratio(1, 8)? {
                        *kind = bytes.int_in_range(0..=0x90)?;
                    }
                    bend(bytes, column)?;
                }
            }
        }
    }
    let mut sent = match bytes.int_in_range(0..=7)? {
        0 => forge::deflated(&forged.body()),
        _ => forged.chunk(),
    };
    if bytes.ratio(1, 4)? {
        bend(bytes, &mut sent)?;
        sent = forge::corrected(&sent);
    }
    Ok(sent)
}

fn number(bytes: &mut Unstructured<'_>) -> Result<u64> {
    Ok(match bytes.int_in_range(0..=3)? {
        0 => u64::arbitrary(bytes)?,
        1 => u64::from(u32::MAX) - u64::from(u8::arbitrary(bytes)?),
        _ => u64::from(u8::arbitrary(bytes)? % 32),
    })
}

/// Changes a few bytes.
pub(super) fn bend(bytes: &mut Unstructured<'_>, target: &mut Vec<u8>) -> Result<()> {
    for _ in 0..bytes.int_in_range(1..=3)? {
        if target.is_empty() {
            return Ok(());
        }
        let at = bytes.choose_index(target.len())?;
        match bytes.int_in_range(0..=3)? {
            0 => drop(target.remove(at)),
            1 => target.insert(at, bytes.arbitrary()?),
            _ => target[at] = bytes.arbitrary()?,
        }
    }
    Ok(())
}

/// Sends bytes, and holds the node to what it says became of them.
pub(super) fn send(document: &mut Document, stored: &mut Vec<Vec<u8>>, sent: &[u8]) {
    let version = document.version();
    match document.admit(sent, Sender::Stranger, ROOM, &limits()) {
        Ok(admitted) => {
            assert_eq!(admitted.delta.before, version);
            assert_eq!(admitted.delta.after, document.version());
            stored.extend(admitted.delta.changes);
            if !stored.is_empty() {
                sound(document, stored);
            }
        }
        Err(_) => assert_eq!(document.version(), version),
    }
}

/// What a node does with a document, it can do with this one.
fn sound(document: &mut Document, stored: &[Vec<u8>]) {
    let version = document.version();
    let plain = document.render(Form::Plain, None).unwrap();
    let typed = document.render(Form::Typed, None).unwrap();
    document.conflicts();
    // From a snapshot, and from the changes as they came.
    let saved = document.save();
    let heads: Version = Automerge::load(&saved)
        .unwrap()
        .get_heads()
        .iter()
        .map(|head| tombolo::ident::Hash::from_bytes(head.0))
        .collect();
    assert_eq!(heads, version);
    for chunks in [vec![&saved[..]], stored.iter().map(Vec::as_slice).collect()] {
        let again = Document::recover(chunks, Actor([2; 16])).unwrap();
        assert_eq!(again.version(), version);
        assert_eq!(again.render(Form::Plain, None).unwrap(), plain);
        assert_eq!(again.render(Form::Typed, None).unwrap(), typed);
    }
    // To another node, which has none of it, and with an edit on top.
    let mut copy = document.clone();
    let edit = Edit::Put(Value::Map([("edited".to_owned(), Value::Bool(true))].into()));
    if copy.edit(&edit, None, &Stamp::default(), &Limits::default()).is_ok() {
        let changes = copy.changes_since(&Version::default());
        let mut other = Document::new(Actor([3; 16]));
        other.admit(&changes.concat(), Sender::Member, ROOM, &Limits::default()).unwrap();
        assert_eq!(other.version(), copy.version());
        let plain = |document: &Document| document.render(Form::Plain, None).unwrap();
        assert_eq!(plain(&other), plain(&copy));
    }
}
