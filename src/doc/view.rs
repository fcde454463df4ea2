//! The union read: what a document shows.
//!
//! All visible maps of one place are read as one logical map: at each of its keys the greatest
//! operation over all backing maps shows, and if that is a map, the union of all maps there.
//! Deleted containers that hold an edit unseen by their deleters stand beside (see `standing.rs`).
//! One walk serves every reader through [`Sink`]. `get_all` is asked only where Automerge flags a
//! conflict, so a document without conflicts is read at the cost of a plain walk.

use super::{
    Form, Value, pairing,
    place::{Content, Entry, Shown, Slot},
    print,
    standing::{Stander, Standing, Standpoint},
};
use automerge::{Cursor, ObjId, ObjType, Prop, ReadDoc, ScalarValueRef, ValueRef};
use std::collections::BTreeMap;

/// A document as one version shows it: Automerge's own reading of it, and what stands besides.
#[derive(Debug)]
pub(super) struct Scope<'a, R> {
    doc: &'a R,
    standing: &'a Standing,
}

impl<R> Clone for Scope<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<R> Copy for Scope<'_, R> {}

/// An element of a logical list.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) slot: Slot,
    /// Its index in Automerge's list; `None` for an element that stands and is not visible.
    pub(super) index: Option<usize>,
}

/// A value without parts, borrowed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Leaf<'v> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    String(&'v str),
    Text(&'v str),
    Counter(i64),
    Timestamp(i64),
    Bytes(&'v [u8]),
}

/// Whoever is told what a walk finds, in the order of the view.
pub(super) trait Sink {
    fn leaf(&mut self, leaf: Leaf<'_>);
    fn map_begin(&mut self);
    fn key(&mut self, key: &str);
    fn map_end(&mut self);
    fn list_begin(&mut self);
    fn element(&mut self, index: usize);
    fn list_end(&mut self);
    /// The operation that made the value which comes next: what shows at a place.
    fn made_by(&mut self, _id: impl FnOnce() -> ObjId) {}
    /// Several operations stand at the place that comes next.
    fn several<R: ReadDoc>(&mut self, _scope: Scope<'_, R>, _slot: &Slot) {}
}

impl<'a, R: ReadDoc> Scope<'a, R> {
    pub(super) fn new(doc: &'a R, standing: &'a Standing) -> Self {
        Self { doc, standing }
    }

    pub(super) fn doc(self) -> &'a R {
        self.doc
    }

    pub(super) fn standing(self) -> &'a Standing {
        self.standing
    }

    /// The places of a logical map, in byte order of their keys.
    pub(super) fn slots(self, maps: &[ObjId]) -> Vec<(String, Slot)> {
        let mut all: Vec<(String, Slot)> = Vec::new();
        let mut sorted = true;
        for map in maps {
            sorted &= all.is_empty();
            for item in self.doc.map_range(map, ..) {
                let slot = if item.conflict {
                    self.conflicted(map, Prop::Map(item.key.to_string()))
                } else {
                    Some(Slot::one(visible(&item.value, item.id(), map)))
                };
                all.extend(slot.map(|slot| (item.key.to_string(), slot)));
            }
            for stander in self.standing.at(map) {
                if let Standpoint::Key(key) = &stander.place {
                    sorted = false;
                    all.push((key.clone(), Slot::one(stander.entry())));
                }
            }
        }
        if !sorted {
            all.sort_by(|a, b| a.0.cmp(&b.0));
            let mut joined: Vec<(String, Slot)> = Vec::with_capacity(all.len());
            for (key, slot) in all {
                match joined.last_mut() {
                    Some((last, there)) if *last == key => there.join(slot),
                    _ => joined.push((key, slot)),
                }
            }
            all = joined;
        }
        all
    }

    /// The place at one key of a logical map.
    pub(super) fn slot(self, maps: &[ObjId], key: &str) -> Option<Slot> {
        let mut entries = Vec::new();
        for map in maps {
            entries.extend(self.entries(map, Prop::Map(key.to_owned())));
            let here = |stander: &&Stander| stander.place == Standpoint::Key(key.to_owned());
            entries.extend(self.standing.at(map).iter().filter(here).map(Stander::entry));
        }
        Slot::new(entries)
    }

    /// The elements of a logical list: the visible ones with what stands beside them, and those
    /// that stand alone at the index where they would be.
    pub(super) fn items(self, list: &ObjId) -> Vec<Item> {
        let mut items: Vec<Item> = self
            .doc
            .list_range(list, ..)
            .filter_map(|item| {
                let slot = if item.conflict {
                    self.conflicted(list, Prop::Seq(item.index))?
                } else {
                    Slot::one(visible(&item.value, item.id(), list))
                };
                Some(Item { slot, index: Some(item.index) })
            })
            .collect();
        let standers = self.standing.at(list);
        if standers.is_empty() {
            return items;
        }
        let values: Vec<Value> = items.iter().map(|item| self.value(&item.slot)).collect();
        let mut alone: Vec<(usize, Slot)> = Vec::new();
        for stander in standers {
            let Standpoint::Element { element, siblings } = &stander.place else { continue };
            let (index, replaced) = self.locate(list, element, siblings);
            let slot = Slot::one(stander.entry());
            let beside = if replaced {
                Some(index)
            } else {
                let name = self.value(&slot);
                values.iter().position(|value| pairing::same_name(value, &name))
            };
            match beside.and_then(|beside| items.get_mut(beside)) {
                Some(item) => item.slot.join(slot),
                None => alone.push((index, slot)),
            }
        }
        alone.sort_by_key(|(index, _)| *index);
        for (index, slot) in alone.into_iter().rev() {
            items.insert(index.min(items.len()), Item { slot, index: None });
        }
        items
    }

    /// How many elements a logical list has.
    pub(super) fn length(self, list: &ObjId) -> usize {
        if self.is_plain(list) { self.doc.length(list) } else { self.items(list).len() }
    }

    /// One element of a logical list.
    pub(super) fn item(self, list: &ObjId, index: usize) -> Option<Item> {
        if self.is_plain(list) {
            let slot = self.conflicted(list, Prop::Seq(index))?;
            Some(Item { slot, index: Some(index) })
        } else {
            self.items(list).into_iter().nth(index)
        }
    }

    /// Whether nothing stands in a list, so that its elements are the visible ones.
    pub(super) fn is_plain(self, list: &ObjId) -> bool {
        self.standing.at(list).is_empty()
    }

    /// Where an element is or would be, and whether another value is visible there.
    fn locate(self, list: &ObjId, element: &ObjId, siblings: &[ObjId]) -> (usize, bool) {
        let index = Cursor::try_from(super::place::operation_name(element))
            .and_then(|cursor| self.doc.get_cursor_position(list, &cursor, None))
            // At an older version Automerge finds no place behind the last visible element.
            .unwrap_or_else(|_| self.doc.length(list));
        let ours = |entry: &Entry| entry.id == *element || siblings.contains(&entry.id);
        (index, self.entries(list, Prop::Seq(index)).iter().any(ours))
    }

    fn conflicted(self, holder: &ObjId, place: Prop) -> Option<Slot> {
        Slot::new(self.entries(holder, place))
    }

    /// The visible operations at a place of one backing object.
    fn entries(self, holder: &ObjId, place: Prop) -> Vec<Entry> {
        let all = self.doc.get_all(holder, place).unwrap_or_default();
        all.into_iter()
            .map(|(value, id)| Entry {
                content: Content::of(&value),
                id,
                holder: holder.clone(),
                stands: false,
            })
            .collect()
    }

    pub(super) fn text(self, text: &ObjId) -> String {
        self.doc.text(text).unwrap_or_default()
    }

    /// What a place shows, as a value.
    pub(super) fn value(self, slot: &Slot) -> Value {
        if let Shown::Scalar(value) = slot.shown() {
            return value.clone();
        }
        let mut sink = ValueSink::default();
        self.walk_shown(slot, &mut sink);
        sink.finish()
    }

    /// What a logical map shows, as a value.
    pub(super) fn map_value(self, maps: &[ObjId]) -> Value {
        let mut sink = ValueSink::default();
        self.walk_map(maps, &mut sink);
        sink.finish()
    }

    /// Tells `sink` what a logical map shows.
    pub(super) fn walk_map<S: Sink>(self, maps: &[ObjId], sink: &mut S) {
        sink.map_begin();
        match maps {
            [map] if self.standing.at(map).is_empty() => {
                for item in self.doc.map_range(map, ..) {
                    sink.key(&item.key);
                    match self.conflicting(item.conflict, map, || Prop::Map(item.key.to_string())) {
                        Some(slot) => self.walk_slot(&slot, sink),
                        None => self.walk_visible(&item.value, || item.id(), sink),
                    }
                }
            }
            _ => {
                for (key, slot) in self.slots(maps) {
                    sink.key(&key);
                    self.walk_slot(&slot, sink);
                }
            }
        }
        sink.map_end();
    }

    pub(super) fn walk_list<S: Sink>(self, list: &ObjId, sink: &mut S) {
        sink.list_begin();
        if self.standing.at(list).is_empty() {
            for item in self.doc.list_range(list, ..) {
                sink.element(item.index);
                match self.conflicting(item.conflict, list, || Prop::Seq(item.index)) {
                    Some(slot) => self.walk_slot(&slot, sink),
                    None => self.walk_visible(&item.value, || item.id(), sink),
                }
            }
        } else {
            for (index, item) in self.items(list).iter().enumerate() {
                sink.element(index);
                self.walk_slot(&item.slot, sink);
            }
        }
        sink.list_end();
    }

    fn conflicting(
        self,
        conflict: bool,
        holder: &ObjId,
        place: impl FnOnce() -> Prop,
    ) -> Option<Slot> {
        if conflict { self.conflicted(holder, place()) } else { None }
    }

    pub(super) fn walk_slot<S: Sink>(self, slot: &Slot, sink: &mut S) {
        if 1 < slot.entries().len() {
            sink.several(self, slot);
        }
        self.walk_shown(slot, sink);
    }

    fn walk_shown<S: Sink>(self, slot: &Slot, sink: &mut S) {
        sink.made_by(|| slot.top().id.clone());
        match slot.shown() {
            Shown::Scalar(value) => {
                if let Some(leaf) = Leaf::of(value) {
                    sink.leaf(leaf);
                }
            }
            Shown::Text(text) => sink.leaf(Leaf::Text(&self.text(text))),
            Shown::List(list) => self.walk_list(list, sink),
            Shown::Map(maps) => self.walk_map(&maps, sink),
        }
    }

    fn walk_visible<S: Sink>(self, value: &ValueRef<'_>, id: impl Fn() -> ObjId, sink: &mut S) {
        sink.made_by(&id);
        match value {
            ValueRef::Scalar(scalar) => sink.leaf(Leaf::borrow(scalar)),
            ValueRef::Object(ObjType::Text) => sink.leaf(Leaf::Text(&self.text(&id()))),
            ValueRef::Object(ObjType::List) => self.walk_list(&id(), sink),
            ValueRef::Object(ObjType::Map | ObjType::Table) => self.walk_map(&[id()], sink),
        }
    }
}

fn visible(value: &ValueRef<'_>, id: ObjId, holder: &ObjId) -> Entry {
    let content = match value {
        ValueRef::Object(kind) => Content::object(*kind),
        ValueRef::Scalar(scalar) => Content::Scalar(Leaf::borrow(scalar).to_value()),
    };
    Entry { content, id, holder: holder.clone(), stands: false }
}

impl<'v> Leaf<'v> {
    fn borrow(scalar: &'v ScalarValueRef<'_>) -> Self {
        match scalar {
            ScalarValueRef::Null => Self::Null,
            ScalarValueRef::Boolean(truth) => Self::Bool(*truth),
            ScalarValueRef::Int(number) => Self::Int(*number),
            ScalarValueRef::Uint(number) => Self::Uint(*number),
            ScalarValueRef::F64(number) => Self::Float(*number),
            ScalarValueRef::Str(text) => Self::String(text),
            ScalarValueRef::Counter(number) => Self::Counter(*number),
            ScalarValueRef::Timestamp(ms) => Self::Timestamp(*ms),
            ScalarValueRef::Bytes(bytes) | ScalarValueRef::Unknown { bytes, .. } => {
                Self::Bytes(bytes)
            }
        }
    }

    fn of(value: &'v Value) -> Option<Self> {
        Some(match value {
            Value::Null => Self::Null,
            Value::Bool(truth) => Self::Bool(*truth),
            Value::Int(number) => Self::Int(*number),
            Value::Uint(number) => Self::Uint(*number),
            Value::Float(number) => Self::Float(*number),
            Value::String(text) => Self::String(text),
            Value::Text(text) => Self::Text(text),
            Value::Counter(number) => Self::Counter(*number),
            Value::Timestamp(ms) => Self::Timestamp(*ms),
            Value::Bytes(bytes) => Self::Bytes(bytes),
            Value::List(_) | Value::Map(_) => return None,
        })
    }

    fn to_value(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(truth) => Value::Bool(truth),
            Self::Int(number) => Value::Int(number),
            Self::Uint(number) => Value::Uint(number),
            Self::Float(number) => Value::Float(number),
            Self::String(text) => Value::String(text.to_owned()),
            Self::Text(text) => Value::Text(text.to_owned()),
            Self::Counter(number) => Value::Counter(number),
            Self::Timestamp(ms) => Value::Timestamp(ms),
            Self::Bytes(bytes) => Value::Bytes(bytes.to_vec()),
        }
    }
}

/// Writes plain JSON and counts conflicted places.
#[derive(Debug, Default)]
pub(super) struct JsonSink {
    pub(super) json: Vec<u8>,
    pub(super) conflicts: u32,
    /// Whether some place holds more than one value, be they equal.
    pub(super) several: bool,
    /// Whether a comma has to come before the next key or element.
    filled: bool,
}

impl JsonSink {
    fn begin(&mut self, bracket: u8) {
        self.json.push(bracket);
        self.filled = false;
    }

    fn next(&mut self) {
        if self.filled {
            self.json.push(b',');
        }
        self.filled = false;
    }

    fn end(&mut self, bracket: u8) {
        self.json.push(bracket);
        self.filled = true;
    }
}

impl Sink for JsonSink {
    fn leaf(&mut self, leaf: Leaf<'_>) {
        let out = &mut self.json;
        match leaf {
            Leaf::Null => out.extend_from_slice(b"null"),
            Leaf::Bool(true) => out.extend_from_slice(b"true"),
            Leaf::Bool(false) => out.extend_from_slice(b"false"),
            Leaf::Int(number) => print::write_int(out, number),
            Leaf::Uint(number) => print::write_uint(out, number, Form::Plain),
            Leaf::Float(number) => print::write_float(out, number, Form::Plain),
            Leaf::String(text) => print::write_string(out, text),
            Leaf::Text(text) => print::write_text(out, text, Form::Plain),
            Leaf::Counter(number) => print::write_counter(out, number, Form::Plain),
            Leaf::Timestamp(ms) => print::write_timestamp(out, ms, Form::Plain),
            Leaf::Bytes(bytes) => print::write_bytes(out, bytes, Form::Plain),
        }
        self.filled = true;
    }

    fn map_begin(&mut self) {
        self.begin(b'{');
    }

    fn key(&mut self, key: &str) {
        self.next();
        print::write_key(&mut self.json, key);
    }

    fn map_end(&mut self) {
        self.end(b'}');
    }

    fn list_begin(&mut self) {
        self.begin(b'[');
    }

    fn element(&mut self, _index: usize) {
        self.next();
    }

    fn list_end(&mut self) {
        self.end(b']');
    }

    fn several<R: ReadDoc>(&mut self, scope: Scope<'_, R>, slot: &Slot) {
        self.several = true;
        self.conflicts = self.conflicts.saturating_add(super::conflict::count(scope, slot));
    }
}

/// Builds a value.
#[derive(Debug, Default)]
struct ValueSink {
    open: Vec<(Value, String)>,
    key: String,
    done: Option<Value>,
}

impl ValueSink {
    fn finish(self) -> Value {
        self.done.unwrap_or(Value::Null)
    }

    fn place(&mut self, value: Value) {
        match self.open.last_mut() {
            Some((Value::Map(map), _)) => {
                map.insert(std::mem::take(&mut self.key), value);
            }
            Some((Value::List(list), _)) => list.push(value),
            _ => self.done = Some(value),
        }
    }

    fn begin(&mut self, empty: Value) {
        self.open.push((empty, std::mem::take(&mut self.key)));
    }

    fn end(&mut self) {
        if let Some((value, key)) = self.open.pop() {
            self.key = key;
            self.place(value);
        }
    }
}

impl Sink for ValueSink {
    fn leaf(&mut self, leaf: Leaf<'_>) {
        self.place(leaf.to_value());
    }

    fn map_begin(&mut self) {
        self.begin(Value::Map(BTreeMap::new()));
    }

    fn key(&mut self, key: &str) {
        key.clone_into(&mut self.key);
    }

    fn map_end(&mut self) {
        self.end();
    }

    fn list_begin(&mut self) {
        self.begin(Value::List(Vec::new()));
    }

    fn element(&mut self, _index: usize) {}

    fn list_end(&mut self) {
        self.end();
    }
}
