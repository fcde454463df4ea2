//! What it costs that a read looks for concurrent values, where there are none.

use super::{
    directory::{ACTOR, parse},
    order::{self, Orders},
    rounds::{Side, alternate, pair},
    row::{Bar, Row},
};
use automerge::{Automerge, ObjId, ObjType, ROOT, ReadDoc, ScalarValueRef, ValueRef};
use std::{hint::black_box, time::Instant};
use tombolo::doc::{Document, Edit, Form, Limits, Stamp};

const ROUNDS: usize = 15;

/// The JSON of a loaded document, against a walk that takes every visible value as it comes.
pub(crate) fn union() -> Vec<Row> {
    let order = Orders::first(1).remove(0);
    [("1 KB", order, 2_000), ("1 MB", order::large(), 5)]
        .map(|(size, json, repeats)| {
            let (ours, floor) = load(&json);
            assert_eq!(render(&ours), walk(&floor), "the plain walk writes something else");
            let rounds = alternate(&format!("union, {size}"), ROUNDS, |side| {
                let start = Instant::now();
                for _ in 0..repeats {
                    match side {
                        Side::Ours => black_box(render(black_box(&ours))),
                        Side::Floor => black_box(walk(black_box(&floor))),
                    };
                }
                1e6 * start.elapsed().as_secs_f64() / f64::from(repeats)
            });
            let row = Row::pair(format!("union read, {size}"), "µs", pair(&rounds, |time| *time));
            row.bar(Bar::ratio_at_most(1.1))
        })
        .into()
}

/// The same bytes, loaded by both: a document that was just put remembers its JSON.
fn load(json: &str) -> (Document, Automerge) {
    let mut document = Document::new(ACTOR);
    document.edit(&Edit::Put(parse(json)), None, &Stamp::default(), &Limits::default()).unwrap();
    let bytes = document.save();
    let version = document.version();
    let ours = Document::load([&bytes[..]], &document.standing(), &version, ACTOR).unwrap();
    (ours, Automerge::load(&bytes).unwrap())
}

fn render(document: &Document) -> Vec<u8> {
    document.render(Form::Plain, None).unwrap().json.unwrap()
}

fn walk(document: &Automerge) -> Vec<u8> {
    let mut out = Vec::new();
    write_map(document, &ROOT, &mut out);
    out
}

fn write_map(document: &Automerge, map: &ObjId, out: &mut Vec<u8>) {
    out.push(b'{');
    for (index, item) in document.map_range(map, ..).enumerate() {
        if index != 0 {
            out.push(b',');
        }
        serde_json::to_writer(&mut *out, &*item.key).unwrap();
        out.push(b':');
        write_value(document, &item.value, || item.id(), out);
    }
    out.push(b'}');
}

fn write_list(document: &Automerge, list: &ObjId, out: &mut Vec<u8>) {
    out.push(b'[');
    for (index, item) in document.list_range(list, ..).enumerate() {
        if index != 0 {
            out.push(b',');
        }
        write_value(document, &item.value, || item.id(), out);
    }
    out.push(b']');
}

fn write_value(
    document: &Automerge,
    value: &ValueRef<'_>,
    id: impl FnOnce() -> ObjId,
    out: &mut Vec<u8>,
) {
    let written = match value {
        ValueRef::Object(ObjType::Map | ObjType::Table) => return write_map(document, &id(), out),
        ValueRef::Object(ObjType::List) => return write_list(document, &id(), out),
        ValueRef::Object(ObjType::Text) => {
            serde_json::to_writer(out, &document.text(id()).unwrap())
        }
        ValueRef::Scalar(ScalarValueRef::Str(text)) => serde_json::to_writer(out, &**text),
        ValueRef::Scalar(ScalarValueRef::Int(number)) => serde_json::to_writer(out, number),
        ValueRef::Scalar(ScalarValueRef::Uint(number)) => serde_json::to_writer(out, number),
        ValueRef::Scalar(ScalarValueRef::F64(number)) => serde_json::to_writer(out, number),
        ValueRef::Scalar(ScalarValueRef::Boolean(truth)) => serde_json::to_writer(out, truth),
        // Orders hold nothing else.
        ValueRef::Scalar(_) => serde_json::to_writer(out, &()),
    };
    written.unwrap();
}
