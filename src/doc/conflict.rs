//! Conflicts: the values that stand at a place and do not show.
//!
//! All losing maps of a place are one value, their union; equal values are one; a value equal to
//! the one that shows is none. What is in conflict inside a losing value is listed too.

use super::{
    Value,
    author::Author,
    place::{Content, Entry, Slot},
    pointer::Trail,
    view::{Leaf, Scope, Sink},
};
use automerge::{Automerge, ReadDoc};

/// Most values listed at one place; there may be more.
pub(super) const VALUES_MAX: usize = 32;

/// A place with several values.
#[derive(Debug, Clone, PartialEq)]
pub struct Conflict {
    /// JSON Pointer (RFC 6901).
    pub path: String,
    /// The value that shows (or would, inside a losing value) first; at most 32.
    pub values: Vec<ConflictingValue>,
    /// How many there are.
    pub values_total: usize,
}

/// One of the values at a place.
#[derive(Debug, Clone, PartialEq)]
pub struct ConflictingValue {
    /// The value.
    pub value: Value,
    /// The change that set it; of a union of maps, the one with the greatest operation.
    pub author: Author,
    /// Whether this is the value that shows in the document.
    pub winner: bool,
}

/// Every conflicted place, in the order of the view.
pub(super) fn list(scope: Scope<'_, Automerge>) -> Vec<Conflict> {
    let mut sink =
        Listing { document: scope.doc(), trail: Trail::default(), shows: true, found: vec![] };
    scope.walk_map(&[automerge::ROOT], &mut sink);
    sink.found
}

/// How many conflicted places there are at `slot` and inside its losing values.
pub(super) fn count<R: ReadDoc>(scope: Scope<'_, R>, slot: &Slot) -> u32 {
    let mut sink = Counting(0);
    sink.place(scope, slot);
    sink.0
}

/// A value that stands at a place and does not show, with the operation that names it.
struct Loser<'s> {
    value: Value,
    entry: &'s Entry,
}

fn losers<'s, R: ReadDoc>(scope: Scope<'_, R>, slot: &'s Slot) -> Vec<Loser<'s>> {
    let shown = scope.value(slot);
    let mut losers: Vec<Loser<'_>> = Vec::new();
    let mut add = |value: Value, entry: &'s Entry| {
        let known = |loser: &Loser<'_>| loser.value.same_content(&value);
        if !value.same_content(&shown) && !losers.iter().any(known) {
            losers.push(Loser { value, entry });
        }
    };
    for part in losing(slot) {
        add(scope.value(&part.slot), part.entry);
    }
    losers
}

/// What loses at a place, greatest operation first: the union of maps as one, the rest by itself.
struct Losing<'s> {
    slot: Slot,
    entry: &'s Entry,
}

fn losing(slot: &Slot) -> Vec<Losing<'_>> {
    let shows_map = slot.top().content == Content::Map;
    let stands = slot.top().stands;
    let in_union = |entry: &Entry| entry.content == Content::Map && entry.stands == stands;
    let mut parts = Vec::new();
    let mut union_listed = shows_map;
    for entry in slot.entries().iter().rev().skip(1) {
        if !in_union(entry) {
            parts.push(Losing { slot: Slot::one(entry.clone()), entry });
        } else if !union_listed {
            union_listed = true;
            let maps: Vec<Entry> = slot.map_entries().cloned().collect();
            parts.extend(Slot::new(maps).map(|slot| Losing { slot, entry }));
        }
    }
    parts
}

/// A sink that only asks for conflicts inside what it is shown.
struct Counting(u32);

impl Counting {
    fn place<R: ReadDoc>(&mut self, scope: Scope<'_, R>, slot: &Slot) {
        if !losers(scope, slot).is_empty() {
            self.0 = self.0.saturating_add(1);
        }
        for part in losing(slot) {
            scope.walk_slot(&part.slot, self);
        }
    }
}

impl Sink for Counting {
    fn leaf(&mut self, _leaf: Leaf<'_>) {}
    fn map_begin(&mut self) {}
    fn key(&mut self, _key: &str) {}
    fn map_end(&mut self) {}
    fn list_begin(&mut self) {}
    fn element(&mut self, _index: usize) {}
    fn list_end(&mut self) {}

    fn several<R: ReadDoc>(&mut self, scope: Scope<'_, R>, slot: &Slot) {
        self.place(scope, slot);
    }
}

/// A sink that lists conflicts with their paths.
struct Listing<'d> {
    document: &'d Automerge,
    trail: Trail,
    /// Whether the walk is in what the document shows, not in a losing value.
    shows: bool,
    found: Vec<Conflict>,
}

impl Listing<'_> {
    fn describe(&self, value: Value, entry: &Entry, winner: bool) -> ConflictingValue {
        ConflictingValue { value, author: Author::of(self.document, &entry.id), winner }
    }
}

impl Sink for Listing<'_> {
    fn leaf(&mut self, _leaf: Leaf<'_>) {}

    fn map_begin(&mut self) {
        self.trail.enter();
    }

    fn key(&mut self, key: &str) {
        self.trail.step(key.to_owned());
    }

    fn map_end(&mut self) {
        self.trail.leave();
    }

    fn list_begin(&mut self) {
        self.trail.enter();
    }

    fn element(&mut self, index: usize) {
        self.trail.step(index.to_string());
    }

    fn list_end(&mut self) {
        self.trail.leave();
    }

    fn several<R: ReadDoc>(&mut self, scope: Scope<'_, R>, slot: &Slot) {
        let losers = losers(scope, slot);
        if !losers.is_empty() {
            let shown = self.describe(scope.value(slot), slot.top(), self.shows);
            let values_total = losers.len() + 1;
            let rest = losers.into_iter().take(VALUES_MAX - 1);
            let rest = rest.map(|loser| self.describe(loser.value, loser.entry, false));
            let values = std::iter::once(shown).chain(rest).collect();
            self.found.push(Conflict { path: self.trail.to_string(), values, values_total });
        }
        let shows = std::mem::replace(&mut self.shows, false);
        for part in losing(slot) {
            scope.walk_slot(&part.slot, self);
        }
        self.shows = shows;
    }
}
