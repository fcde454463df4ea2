//! A place in a document: the operations that stand there, over all objects that back it.
//!
//! Concurrently created maps are one logical map, so a place is a key of a *set* of backing maps
//! (or an element of a list). Several operations may stand at it; the greatest one shows.

use super::Value;
use automerge::{ObjId, ObjType, ScalarValue};
use std::cmp::Ordering;

/// What an operation put at its place.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Content {
    Scalar(Value),
    Map,
    List,
    Text,
}

impl Content {
    pub(super) fn of(value: &automerge::Value<'_>) -> Self {
        match value {
            automerge::Value::Object(kind) => Self::object(*kind),
            automerge::Value::Scalar(scalar) => Self::Scalar(value_of(scalar)),
        }
    }

    pub(super) fn object(kind: ObjType) -> Self {
        match kind {
            ObjType::Map | ObjType::Table => Self::Map,
            ObjType::List => Self::List,
            ObjType::Text => Self::Text,
        }
    }
}

/// One operation that stands at a place. `id` names it, and the object where it makes one.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) content: Content,
    pub(super) id: ObjId,
    /// The object that holds the place.
    pub(super) holder: ObjId,
    /// Deleted, but standing by the rule of `standing.rs`.
    pub(super) stands: bool,
}

/// All that stands at one place, at least one operation: the one that shows is last.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    entries: Vec<Entry>,
}

/// What a place shows.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Shown<'s> {
    Scalar(&'s Value),
    Text(&'s ObjId),
    List(&'s ObjId),
    /// The backing maps, greatest operation first.
    Map(Vec<ObjId>),
}

impl Slot {
    pub(super) fn one(entry: Entry) -> Self {
        Self { entries: vec![entry] }
    }

    /// A slot of several operations in any order; `None` of none.
    pub(super) fn new(mut entries: Vec<Entry>) -> Option<Self> {
        sort(&mut entries);
        (!entries.is_empty()).then_some(Self { entries })
    }

    /// Takes in what another backing object holds at the same place.
    pub(super) fn join(&mut self, other: Self) {
        self.entries.extend(other.entries);
        sort(&mut self.entries);
    }

    /// Least operation first.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The operation that shows.
    pub(super) fn top(&self) -> &Entry {
        &self.entries[self.entries.len() - 1]
    }

    pub(super) fn shown(&self) -> Shown<'_> {
        let top = self.top();
        match &top.content {
            Content::Scalar(value) => Shown::Scalar(value),
            Content::Text => Shown::Text(&top.id),
            Content::List => Shown::List(&top.id),
            Content::Map => Shown::Map(self.maps()),
        }
    }

    /// The maps that are one logical map here, greatest operation first. A visible value never
    /// joins a standing one.
    pub(super) fn maps(&self) -> Vec<ObjId> {
        self.map_entries().map(|entry| entry.id.clone()).collect()
    }

    pub(super) fn map_entries(&self) -> impl Iterator<Item = &Entry> {
        let stands = self.top().stands;
        self.entries
            .iter()
            .rev()
            .filter(move |entry| entry.content == Content::Map && entry.stands == stands)
    }

    /// The operations that do not show: another takes their place.
    pub(super) fn losers(&self) -> impl Iterator<Item = &Entry> {
        let top = self.top();
        let shows = |entry: &Entry| match top.content {
            Content::Map => entry.content == Content::Map && entry.stands == top.stands,
            Content::Scalar(_) | Content::List | Content::Text => entry.id == top.id,
        };
        self.entries.iter().filter(move |entry| !shows(entry))
    }

    /// Whether an operation stands here, visible or not.
    pub(super) fn holds(&self, entry: &Entry) -> bool {
        self.entries.iter().any(|here| here.id == entry.id)
    }

    /// Backing objects in which a visible value stands here: first the one that shows.
    pub(super) fn holders(&self) -> Vec<ObjId> {
        let mut holders: Vec<ObjId> = Vec::new();
        for entry in self.entries.iter().rev().filter(|entry| !entry.stands) {
            if !holders.contains(&entry.holder) {
                holders.push(entry.holder.clone());
            }
        }
        holders
    }

    /// Whether one of the operations here is still visible in `present`.
    pub(super) fn is_visible_in(&self, present: &Self) -> bool {
        let ours = |entry: &Entry| self.entries.iter().any(|here| here.id == entry.id);
        present.entries.iter().filter(|entry| !entry.stands).any(ours)
    }

    /// Whether one of the operations here stands in `present` without being visible.
    pub(super) fn stands_in(&self, present: &Self) -> bool {
        let ours = |entry: &Entry| self.entries.iter().any(|here| here.id == entry.id);
        present.entries.iter().filter(|entry| entry.stands).any(ours)
    }

    /// Whether what shows here is a container that is also (part of) what `present` shows.
    pub(super) fn is_shown_in(&self, present: &Self) -> bool {
        match self.shown() {
            Shown::Scalar(Value::Counter(_)) | Shown::Text(_) | Shown::List(_) => {
                self.top().id == present.top().id
            }
            Shown::Scalar(_) => false,
            Shown::Map(maps) => match present.shown() {
                Shown::Map(present) => maps.iter().any(|map| present.contains(map)),
                Shown::Scalar(_) | Shown::Text(_) | Shown::List(_) => false,
            },
        }
    }
}

fn sort(entries: &mut [Entry]) {
    entries.sort_by(|a, b| b.stands.cmp(&a.stands).then_with(|| order(&a.id, &b.id)));
}

/// Automerge's order of operations: the greatest (counter, actor) wins a place.
pub(super) fn order(a: &ObjId, b: &ObjId) -> Ordering {
    fn parts(id: &ObjId) -> (u64, &[u8]) {
        match id {
            ObjId::Root => (0, &[]),
            ObjId::Id(counter, actor, _) => (*counter, actor.to_bytes()),
        }
    }
    parts(a).cmp(&parts(b))
}

/// The name of an operation, `counter@actor`, as messages and Automerge's cursors write it.
pub(super) fn operation_name(id: &ObjId) -> String {
    match id {
        ObjId::Root => "_root".to_owned(),
        ObjId::Id(counter, actor, _) => format!("{counter}@{}", actor.to_hex_string()),
    }
}

/// A scalar of Automerge as a value. One of a later Automerge is shown by its bytes.
pub(super) fn value_of(scalar: &ScalarValue) -> Value {
    match scalar {
        ScalarValue::Null => Value::Null,
        ScalarValue::Boolean(truth) => Value::Bool(*truth),
        ScalarValue::Int(number) => Value::Int(*number),
        ScalarValue::Uint(number) => Value::Uint(*number),
        ScalarValue::F64(number) => Value::Float(*number),
        ScalarValue::Str(text) => Value::String(text.to_string()),
        ScalarValue::Counter(counter) => Value::Counter(i64::from(counter)),
        ScalarValue::Timestamp(ms) => Value::Timestamp(*ms),
        ScalarValue::Bytes(bytes) | ScalarValue::Unknown { bytes, .. } => {
            Value::Bytes(bytes.clone())
        }
    }
}

/// A value as Automerge's scalar; `None` for what makes an object.
pub(super) fn scalar_of(value: &Value) -> Option<ScalarValue> {
    Some(match value {
        Value::Null => ScalarValue::Null,
        Value::Bool(truth) => ScalarValue::Boolean(*truth),
        Value::Int(number) => ScalarValue::Int(*number),
        Value::Uint(number) => ScalarValue::Uint(*number),
        Value::Float(number) => ScalarValue::F64(*number),
        Value::String(text) => ScalarValue::Str(text.as_str().into()),
        Value::Counter(number) => ScalarValue::counter(*number),
        Value::Timestamp(ms) => ScalarValue::Timestamp(*ms),
        Value::Bytes(bytes) => ScalarValue::Bytes(bytes.clone()),
        Value::Text(_) | Value::List(_) | Value::Map(_) => return None,
    })
}
