//! Three replicas, edits and merges in any order: nothing is hidden, all become equal.
//!
//! The oracle knows only what users wrote and what a later write that had seen it took away. Every
//! leaf that a user writes is unique: an integer, a character of a text, the start of a counter.

use arbitrary::{Result, Unstructured};
use std::collections::{BTreeMap, BTreeSet};
use tombolo::{
    doc::{Actor, Conflict, Document, Edit, Form, Limits, Operation, Patch, Pointer, Stamp, Value},
    ident::Version,
};

const REPLICAS: usize = 3;
const STEPS_MAX: usize = 40;
const KEYS: [&str; 4] = ["a", "b", "c", "id"];
/// Counters start at multiples of this, so that increments keep them apart.
const COUNTER_STEP: i64 = 1_000_000;
/// A root key that is only ever incremented.
const TALLY: &str = "tally";

/// Whether reads obey the standing rule. Off: the control that has to hide edits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    On,
    Off,
}

/// What one run came to.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    pub puts: usize,
    pub late_puts: usize,
    pub patches: usize,
    pub merges: usize,
    pub written: usize,
    pub hidden: usize,
    pub standing: usize,
    /// Edits where every place held one value.
    pub singles: usize,
}

impl Tally {
    /// Adds what another run came to.
    pub fn add(&mut self, other: &Self) {
        self.puts += other.puts;
        self.late_puts += other.late_puts;
        self.patches += other.patches;
        self.merges += other.merges;
        self.written += other.written;
        self.hidden += other.hidden;
        self.standing += other.standing;
        self.singles += other.singles;
    }
}

/// The property: with the rule on, nothing is hidden.
pub fn property(data: &[u8]) {
    let tally = run(data, Rule::On);
    assert_eq!(tally.hidden, 0, "hidden and unlisted values");
}

/// One run. Panics on whatever must not happen, but counts what is hidden.
pub fn run(data: &[u8], rule: Rule) -> Tally {
    let mut world = World::new(rule);
    // Running out of bytes ends the run.
    let _ = world.play(&mut Unstructured::new(data));
    world.finish()
}

/// Leaves by what makes them unique.
type Leaves = BTreeSet<u64>;

struct Seen {
    version: Version,
    value: Option<Value>,
    leaves: Leaves,
}

struct Replica {
    document: Document,
    actor: Actor,
    past: Vec<Seen>,
}

struct World {
    rule: Rule,
    replicas: Vec<Replica>,
    next_leaf: u64,
    written: Leaves,
    taken: Leaves,
    increments: i64,
    tally: Tally,
}

impl World {
    fn new(rule: Rule) -> Self {
        let replica = |index: usize| {
            let actor = Actor([u8::try_from(index + 1).unwrap(); 16]);
            Replica { document: Document::new(actor), actor, past: Vec::new() }
        };
        Self {
            rule,
            replicas: (0..REPLICAS).map(replica).collect(),
            next_leaf: 1,
            written: Leaves::new(),
            taken: Leaves::new(),
            increments: 0,
            tally: Tally::default(),
        }
    }

    fn play(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let mut first = BTreeMap::new();
        for key in ["a", "b"] {
            first.insert(key.to_owned(), self.random(u, 3)?);
        }
        first.insert(TALLY.to_owned(), Value::Counter(0));
        if u.ratio(3, 4)? {
            // Mostly one creation that all know; else each creates the document on its own.
            self.put(0, &Value::Map(first), None);
            for other in 1..REPLICAS {
                self.merge(other, 0);
            }
        }
        for _ in 0..STEPS_MAX {
            if u.is_empty() {
                break;
            }
            let at = u.int_in_range(0..=REPLICAS - 1)?;
            match u.int_in_range(0..=99u8)? {
                0..=34 => {
                    let from = (at + u.int_in_range(1..=REPLICAS - 1)?) % REPLICAS;
                    self.merge(at, from);
                    if u.arbitrary()? {
                        self.merge(from, at);
                    }
                }
                35..=64 => {
                    let value = self.replicas[at].document.value();
                    let new = self.mutate(u, value.as_ref())?;
                    self.put(at, &new, None);
                }
                65..=79 if !self.replicas[at].past.is_empty() => {
                    let past = &self.replicas[at].past;
                    let index = u.int_in_range(0..=past.len() - 1)?;
                    let value = past[index].value.clone();
                    let new = self.mutate(u, value.as_ref())?;
                    self.put(at, &new, Some(index));
                }
                80..=84 => self.merge_patch(u, at)?,
                85..=90 => self.json_patch(u, at)?,
                91..=95 => self.increment(u, at)?,
                96 => self.delete(at),
                _ => self.reload(at),
            }
        }
        Ok(())
    }

    fn leaf(&mut self) -> u64 {
        let leaf = self.next_leaf;
        self.next_leaf += 1;
        leaf
    }

    fn random(&mut self, u: &mut Unstructured<'_>, depth: usize) -> Result<Value> {
        let kinds = if depth == 0 { 3 } else { 7 };
        Ok(match u.int_in_range(0..=kinds - 1u8)? {
            // No integers: over a counter they would be increments.
            0 => Value::Float(f64::from(u32::try_from(self.leaf()).unwrap()) + 0.5),
            1 => Value::String(letter(self.leaf()).to_string()),
            2 => Value::Text((0..u.int_in_range(0..=3)?).map(|_| letter(self.leaf())).collect()),
            3 | 4 => {
                let length = u.int_in_range(0..=3)?;
                let list: Result<Vec<Value>> =
                    (0..length).map(|_| self.random(u, depth - 1)).collect();
                Value::List(list?)
            }
            _ => {
                let mut map = BTreeMap::new();
                for key in KEYS {
                    if u.ratio(1, 2)? {
                        let value = if key == "id" {
                            // Few names, so that elements are paired by them.
                            Value::String(u.choose(&["x", "y", "z"])?.to_string())
                        } else {
                            self.random(u, depth - 1)?
                        };
                        map.insert(key.to_owned(), value);
                    }
                }
                if u.ratio(1, 3)? {
                    // A key of its own: one counter put over another would be an increment.
                    let leaf = self.leaf();
                    let start = i64::try_from(leaf).unwrap() * COUNTER_STEP;
                    map.insert(format!("n{leaf}"), Value::Counter(start));
                }
                Value::Map(map)
            }
        })
    }

    fn mutate(&mut self, u: &mut Unstructured<'_>, value: Option<&Value>) -> Result<Value> {
        let empty = Value::Map(BTreeMap::new());
        let mut new = self.mutated(u, value.unwrap_or(&empty), 3)?;
        if let (Value::Map(new), Some(Value::Map(old))) = (&mut new, value)
            && let Some(tally) = old.get(TALLY)
        {
            new.insert(TALLY.to_owned(), tally.clone());
        }
        Ok(new)
    }

    fn mutated(&mut self, u: &mut Unstructured<'_>, value: &Value, depth: usize) -> Result<Value> {
        let inner = depth.saturating_sub(1);
        Ok(match value {
            Value::Map(map) => {
                let mut map = map.clone();
                let mut key = *u.choose(&["a", "b", "c"])?;
                let keys: Vec<String> = map.keys().cloned().collect();
                if !keys.is_empty() && u.ratio(1, 4)? {
                    key = u.choose(&keys)?;
                }
                match map.get(key) {
                    Some(old) if u.ratio(3, 4)? => {
                        let new = self.mutated(u, &old.clone(), inner)?;
                        map.insert(key.to_owned(), new);
                    }
                    Some(_) => {
                        map.remove(key);
                    }
                    None => {
                        let new = self.random(u, inner)?;
                        map.insert(key.to_owned(), new);
                    }
                }
                Value::Map(map)
            }
            Value::List(list) => {
                let mut list = list.clone();
                let index = u.int_in_range(0..=list.len())?;
                match u.int_in_range(0..=3u8)? {
                    0 if index < list.len() => {
                        list.remove(index);
                    }
                    1 if index < list.len() => {
                        list[index] = self.mutated(u, &list[index].clone(), inner)?;
                    }
                    2 if 1 < list.len() && index < list.len() => {
                        // A move.
                        let element = list.remove(index);
                        let to = u.int_in_range(0..=list.len())?;
                        list.insert(to, element);
                    }
                    _ => {
                        let new = self.random(u, inner)?;
                        list.insert(index, new);
                    }
                }
                Value::List(list)
            }
            Value::Text(text) => {
                let mut letters: Vec<char> = text.chars().collect();
                let index = u.int_in_range(0..=letters.len())?;
                if index < letters.len() && u.arbitrary()? {
                    letters.remove(index);
                } else {
                    letters.insert(index, letter(self.leaf()));
                }
                let text = letters.into_iter().collect();
                // A text is also edited by a plain string.
                if u.arbitrary()? { Value::Text(text) } else { Value::String(text) }
            }
            Value::Counter(sum) if u.ratio(2, 3)? => Value::Int(sum + 1),
            _ => self.random(u, depth)?,
        })
    }

    fn put(&mut self, at: usize, new: &Value, late: Option<usize>) {
        self.write_down(new);
        let before = self.replicas[at].document.value();
        let conflicts = self.replicas[at].document.conflicts();
        let seen_before = self.seen(at);
        let base = late.map(|index| self.replicas[at].past[index].version.clone());
        let seen_base = match late {
            Some(index) => self.replicas[at].past[index].leaves.clone(),
            None => seen_before.clone(),
        };
        let edit = Edit::Put(new.clone());
        match &base {
            None => self.edit_present(at, &edit),
            Some(_) => {
                let document = &mut self.replicas[at].document;
                document.edit(&edit, base.as_ref(), &Stamp::default(), &Limits::default()).unwrap();
            }
        }
        self.obey(at);
        let after = self.replicas[at].document.value().expect("a put brings to life");
        let seen_after = self.seen(at);
        match late {
            None => {
                self.tally.puts += 1;
                assert!(after.same_content(new), "put {new:?}\nafter {before:?}\ngave {after:?}");
                check_listed(before.as_ref(), new, conflicts, &seen_after);
            }
            Some(index) => {
                self.tally.late_puts += 1;
                let base = self.replicas[at].past[index].value.as_ref();
                check_late(before.as_ref(), base, new, &after);
            }
        }
        // A leaf that was seen at the base, that the new value does not have, and that is gone.
        let kept = leaves_of(new);
        let gone = |leaf: &&u64| !kept.contains(leaf) && !seen_after.contains(leaf);
        self.taken.extend(seen_base.iter().filter(gone));
        // A counter that is put is incremented, and by a retry again; nothing tells the two apart.
        let base_value = late.and_then(|index| self.replicas[at].past[index].value.as_ref());
        let adds = late.is_some() && counters(base_value) != counters(Some(new));
        if self.rule == Rule::On && !adds {
            let document = &mut self.replicas[at].document;
            let delta =
                document.edit(&edit, base.as_ref(), &Stamp::default(), &Limits::default()).unwrap();
            assert!(
                delta.changes.is_empty(),
                "a retry changed the document: base {base:?} {before:?}\nput {new:?}\ngave {after:?}\nthen {:?}",
                document.value()
            );
        }
        self.remember(at);
    }

    fn merge_patch(&mut self, u: &mut Unstructured<'_>, at: usize) -> Result<()> {
        let mut members = BTreeMap::new();
        let key = *u.choose(&["a", "b", "c"])?;
        let value = if u.ratio(1, 4)? { Value::Null } else { self.random(u, 2)? };
        members.insert(key.to_owned(), value);
        let patch = Value::Map(members);
        let before = self.replicas[at].document.value().unwrap_or(Value::Map(BTreeMap::new()));
        let expected = tombolo::doc::merge_patch(&before, &patch);
        self.write_down(&patch);
        self.patch(at, &Edit::MergePatch(patch), Some(expected));
        Ok(())
    }

    fn json_patch(&mut self, u: &mut Unstructured<'_>, at: usize) -> Result<()> {
        let empty = Value::Map(BTreeMap::new());
        let before = self.replicas[at].document.value().unwrap_or(empty);
        let mut operations = Vec::new();
        for _ in 0..u.int_in_range(1..=3)? {
            let mut path = Vec::new();
            let mut value = &before;
            loop {
                match value {
                    Value::Map(map) => {
                        let key = *u.choose(&["a", "b", "c"])?;
                        path.push(key.to_owned());
                        match map.get(key) {
                            Some(inner) if u.arbitrary()? => value = inner,
                            _ => break,
                        }
                    }
                    Value::List(list) => {
                        let index = u.int_in_range(0..=list.len())?;
                        path.push(index.to_string());
                        match list.get(index) {
                            Some(inner) if u.arbitrary()? => value = inner,
                            _ => break,
                        }
                    }
                    _ => break,
                }
            }
            let path = Pointer(path);
            operations.push(match u.int_in_range(0..=4u8)? {
                0 => Operation::Remove { path },
                1 => Operation::Replace { path, value: self.random(u, 2)? },
                2 => Operation::Increment { path, by: 1 },
                _ => Operation::Add { path, value: self.random(u, 2)? },
            });
        }
        for operation in &operations {
            if let Operation::Add { value, .. } | Operation::Replace { value, .. } = operation {
                self.write_down(value);
            }
        }
        let patch = Patch(operations);
        let expected = patch.apply(&before, &Limits::default());
        match expected {
            Ok(expected) => self.patch(at, &Edit::JsonPatch(patch), Some(expected)),
            Err(refusal) => {
                let document = &mut self.replicas[at].document;
                let version = document.version();
                let edit = Edit::JsonPatch(patch.clone());
                let got = document.edit(&edit, None, &Stamp::default(), &Limits::default());
                let got = got.expect_err("the model refuses this patch");
                assert_eq!(got.kind, refusal.kind, "{patch:?} on {before:?}");
                assert_eq!(document.version(), version);
                // Nothing was written.
                let leaves: Vec<u64> = patch.0.iter().flat_map(operation_leaves).collect();
                self.written.retain(|leaf| !leaves.contains(leaf));
            }
        }
        Ok(())
    }

    fn patch(&mut self, at: usize, edit: &Edit, expected: Option<Value>) {
        self.tally.patches += 1;
        let before = self.seen(at);
        let shown = self.replicas[at].document.value();
        self.edit_present(at, edit);
        self.obey(at);
        if let Some(expected) = expected {
            let after = self.replicas[at].document.value().expect("a patch brings to life");
            assert!(
                after.same_content(&expected),
                "{edit:?}\non {shown:?}\ngave {after:?}\nwanted {expected:?}"
            );
        }
        let after = self.seen(at);
        self.taken.extend(before.difference(&after));
        // What a patch adds and takes away again in one go is nobody's loss.
        let written: Leaves = match edit {
            Edit::JsonPatch(patch) => patch.0.iter().flat_map(operation_leaves).collect(),
            _ => Leaves::new(),
        };
        self.taken.extend(written.difference(&after));
        self.remember(at);
    }

    /// Edits what is here: where every place holds one value, that makes no conflict.
    fn edit_present(&mut self, at: usize, edit: &Edit) {
        let document = &mut self.replicas[at].document;
        let single = document.render(Form::Plain, None).unwrap().single;
        document.edit(edit, None, &Stamp::default(), &Limits::default()).unwrap();
        if single && self.rule == Rule::On {
            self.tally.singles += 1;
            let after = document.render(Form::Plain, None).unwrap();
            let conflicts = document.conflicts();
            assert!(after.single && after.conflicts == 0, "{edit:?} made {conflicts:?}");
        }
    }

    fn increment(&mut self, u: &mut Unstructured<'_>, at: usize) -> Result<()> {
        let by = i64::from(u.int_in_range(1..=9u8)?);
        let shown = member(self.replicas[at].document.value().as_ref(), TALLY);
        if let Some(Value::Counter(_)) = shown {
            let path = Pointer(vec![TALLY.to_owned()]);
            let edit = Edit::JsonPatch(Patch(vec![Operation::Increment { path, by }]));
            self.increments += by;
            self.patch(at, &edit, None);
        }
        Ok(())
    }

    fn delete(&mut self, at: usize) {
        let seen = self.seen(at);
        let document = &mut self.replicas[at].document;
        if document.is_absent() {
            return;
        }
        document.edit(&Edit::Delete, None, &Stamp::default(), &Limits::default()).unwrap();
        assert!(document.is_deleted() && document.value().is_none());
        self.taken.extend(seen);
        // Increments from here on may meet another tally.
        self.increments = i64::MIN / 2;
        self.remember(at);
    }

    /// A restart: saved, loaded, and on under another actor.
    fn reload(&mut self, at: usize) {
        let replica = &mut self.replicas[at];
        if replica.document.version().is_empty() {
            return;
        }
        let loaded = reloaded(&replica.document, replica.actor);
        assert_equal(&replica.document, &loaded);
        replica.document = loaded;
        let next = u64::from_le_bytes(replica.actor.0[..8].try_into().unwrap()) + 0x0100;
        replica.actor.0[..8].copy_from_slice(&next.to_le_bytes());
        replica.document.set_actor(replica.actor);
        self.obey(at);
    }

    fn merge(&mut self, to: usize, from: usize) {
        self.tally.merges += 1;
        let have = self.replicas[to].document.version();
        let changes = self.replicas[from].document.changes_since(&have);
        let document = &mut self.replicas[to].document;
        document.merge(changes.iter().map(Vec::as_slice)).unwrap();
        if self.rule == Rule::On && !document.version().is_empty() {
            // What stands is the same, found step by step or by one scan of the history.
            let actor = self.replicas[to].actor;
            let document = &self.replicas[to].document;
            let whole = Document::load([&document.save()[..]], b"?", &document.version(), actor);
            let whole = whole.unwrap();
            assert_eq!(whole.standing(), document.standing());
            assert_equal(&whole, document);
            self.tally.standing += usize::from(!document.standing().is_empty());
        }
        self.obey(to);
    }

    /// The control forgets what stands.
    fn obey(&mut self, at: usize) {
        let replica = &mut self.replicas[at];
        if self.rule == Rule::Off && !replica.document.version().is_empty() {
            let (bytes, version) = (replica.document.save(), replica.document.version());
            replica.document = Document::load([&bytes[..]], b"", &version, replica.actor).unwrap();
        }
    }

    fn write_down(&mut self, value: &Value) {
        self.written.extend(leaves_of(value));
    }

    fn seen(&self, at: usize) -> Leaves {
        seen(&self.replicas[at].document)
    }

    fn remember(&mut self, at: usize) {
        let document = &self.replicas[at].document;
        let (version, value) = (document.version(), document.value());
        let leaves = seen(document);
        self.replicas[at].past.push(Seen { version, value, leaves });
    }

    fn finish(mut self) -> Tally {
        for _ in 0..2 {
            for to in 0..REPLICAS {
                for from in 0..REPLICAS {
                    if to != from {
                        self.merge(to, from);
                    }
                }
            }
        }
        for other in 1..REPLICAS {
            assert_equal(&self.replicas[0].document, &self.replicas[other].document);
        }
        let document = &self.replicas[0].document;
        if !document.version().is_empty() && self.rule == Rule::On {
            assert_equal(document, &reloaded(document, self.replicas[0].actor));
        }
        if 0 <= self.increments
            && let Some(Value::Counter(sum)) = member(document.value().as_ref(), TALLY)
        {
            assert_eq!(sum, self.increments, "increments add up");
        }
        let seen = seen(document);
        self.tally.written = self.written.len();
        self.tally.hidden =
            self.written.iter().filter(|l| !seen.contains(l) && !self.taken.contains(l)).count();
        self.tally
    }
}

fn reloaded(document: &Document, actor: Actor) -> Document {
    let bytes = document.save();
    Document::load([&bytes[..]], &document.standing(), &document.version(), actor).unwrap()
}

fn assert_equal(a: &Document, b: &Document) {
    assert_eq!(a.version(), b.version());
    assert_eq!(a.render(Form::Plain, None), b.render(Form::Plain, None));
    assert_eq!(a.render(Form::Typed, None), b.render(Form::Typed, None));
    let (listed, other) = (a.conflicts(), b.conflicts());
    assert_eq!(listed, other);
    let counted = a.render(Form::Plain, None).unwrap().conflicts;
    assert_eq!(usize::try_from(counted).unwrap(), listed.len(), "{listed:?}");
}

/// What was listed beside a value that a put did not change is listed still.
fn check_listed(before: Option<&Value>, new: &Value, conflicts: Vec<Conflict>, seen: &Leaves) {
    for conflict in conflicts {
        let key = conflict.path.split('/').nth(1).unwrap();
        let (old, new) = (member(before, key), member(Some(new), key));
        if old.is_some() && old == new {
            for value in conflict.values {
                let leaves = leaves_of(&value.value);
                assert!(leaves.is_subset(seen), "a put hid {leaves:?} at {key}");
            }
        }
    }
}

/// A late put shows what it changed at the root, and touches no root key that it did not change.
fn check_late(before: Option<&Value>, base: Option<&Value>, new: &Value, after: &Value) {
    for key in ["a", "b", "c", "id"] {
        let (b, n) = (member(base, key), member(Some(new), key));
        let unchanged = match (&b, &n) {
            (Some(b), Some(n)) => b.same_content(n),
            (None, None) => true,
            _ => false,
        };
        let shown = member(Some(after), key);
        match n {
            // An edit of what is deleted brings it back, so more may show than before.
            _ if unchanged && base.is_some() && before.is_some() => {
                assert_eq!(member(before, key), shown, "{key} was not put");
            }
            _ if unchanged => {}
            Some(n @ (Value::Float(_) | Value::String(_)))
                if !matches!(b, Some(Value::Text(_) | Value::Counter(_))) =>
            {
                let shown = shown.expect("a value that was put");
                assert!(shown.same_content(&n), "{key} shows {shown:?}, not {n:?}");
            }
            _ => {}
        }
    }
}

fn member(value: Option<&Value>, key: &str) -> Option<Value> {
    match value {
        Some(Value::Map(map)) => map.get(key).cloned(),
        _ => None,
    }
}

/// The sums of all counters, and of the integers that were put over them.
fn counters(value: Option<&Value>) -> Vec<i64> {
    match value {
        Some(Value::Map(map)) => map.values().flat_map(|value| counters(Some(value))).collect(),
        Some(Value::List(list)) => list.iter().flat_map(|value| counters(Some(value))).collect(),
        Some(Value::Counter(sum) | Value::Int(sum)) => vec![*sum],
        _ => Vec::new(),
    }
}

fn letter(leaf: u64) -> char {
    char::from_u32(0x2_0000 + u32::try_from(leaf).unwrap()).unwrap()
}

fn operation_leaves(operation: &Operation) -> Leaves {
    match operation {
        Operation::Add { value, .. } | Operation::Replace { value, .. } => leaves_of(value),
        _ => Leaves::new(),
    }
}

fn leaves_of(value: &Value) -> Leaves {
    let mut leaves = Leaves::new();
    collect(value, &mut leaves);
    leaves
}

fn collect(value: &Value, leaves: &mut Leaves) {
    match value {
        Value::Map(map) => {
            map.iter().filter(|(key, _)| *key != TALLY).for_each(|(_, v)| collect(v, leaves));
        }
        Value::List(list) => list.iter().for_each(|value| collect(value, leaves)),
        Value::Float(number) => {
            leaves.extend(
                (1..).take_while(|leaf: &u32| f64::from(*leaf) < *number).last().map(u64::from),
            );
        }
        Value::Int(number) | Value::Counter(number) => {
            leaves.insert(u64::try_from(number / COUNTER_STEP).unwrap());
        }
        Value::Text(text) | Value::String(text) => {
            leaves.extend(
                text.chars()
                    .filter_map(|letter| u32::from(letter).checked_sub(0x2_0000).map(u64::from)),
            );
        }
        _ => {}
    }
}

fn seen(document: &Document) -> Leaves {
    let mut leaves = document.value().map_or_else(Leaves::new, |value| leaves_of(&value));
    for conflict in document.conflicts() {
        for value in conflict.values {
            collect(&value.value, &mut leaves);
        }
    }
    leaves
}
