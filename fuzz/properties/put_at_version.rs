//! Edits of one document at any of its versions: versions stay what they were, retries change
//! nothing, and the changes can be delivered in every order that respects their dependencies.

use arbitrary::{Result, Unstructured};
use automerge::{Automerge, Change, ChangeHash};
use std::collections::{BTreeMap, HashMap, HashSet};
use tombolo::{
    doc::{Actor, Document, Edit, Form, Limits, Rendering, Stamp, Value},
    ident::Version,
};

const EDITS_MAX: usize = 10;
/// Changes whose every delivery order is tried.
const ORDERED_MAX: usize = 6;
const KEYS: [&str; 3] = ["a", "b", "id"];
const WORDS: [&str; 4] = ["", "x", "xy", "yx"];

/// The property.
pub fn property(data: &[u8]) {
    let mut line =
        Line { document: Document::new(Actor([7; 16])), seen: vec![(Version::empty(), None)] };
    // Running out of bytes ends the run.
    let _ = line.play(&mut Unstructured::new(data));
    line.check_past();
    let automerge = Automerge::load(&line.document.save()).expect("what was saved loads");
    let changes = automerge.get_changes(&[]);
    check_actors(&changes);
    if changes.len() <= ORDERED_MAX {
        let all = line.document.render(Form::Typed, None).unwrap();
        let changes: Vec<&Change> = changes.iter().collect();
        check_delivery(&Document::new(Actor([9; 16])), &changes, &all);
    }
}

struct Line {
    document: Document,
    /// Every version that was the present once, and what it showed then.
    seen: Vec<(Version, Option<Rendering>)>,
}

impl Line {
    fn play(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        for _ in 0..EDITS_MAX {
            let (base, shown) = u.choose(&self.seen)?.clone();
            let late = u.arbitrary::<bool>()?.then_some(base);
            let edit = match u.int_in_range(0..=9u8)? {
                0 if !self.document.is_absent() => Edit::Delete,
                1 | 2 => Edit::MergePatch(Value::Map(map(u, 2)?)),
                3 if shown.is_some() => Edit::Put(Value::Map(BTreeMap::new())),
                _ => Edit::Put(Value::Map(map(u, 3)?)),
            };
            self.edit(&edit, late.as_ref());
            if u.is_empty() {
                break;
            }
        }
        Ok(())
    }

    fn edit(&mut self, edit: &Edit, late: Option<&Version>) {
        let (stamp, limits) = (Stamp::default(), Limits::default());
        let before = self.document.value();
        let base = late.map(|version| self.shown_at(version));
        let mut copied = self.document.clone();
        let in_copy = Limits { seek_steps_max: 0, ..limits };
        copied.edit(edit, late, &stamp, &in_copy).unwrap();
        let delta = self.document.edit(edit, late, &stamp, &limits).unwrap();
        assert_eq!(delta.after, self.document.version());
        assert_eq!(delta.after, copied.version(), "made in place and in a copy: {edit:?}");
        assert_eq!(delta.deleted, self.document.is_deleted());
        assert_eq!(delta.created, before.is_none() && self.document.value().is_some());
        if let (Edit::Put(new), None) = (edit, late) {
            let after = self.document.value().expect("a put brings to life");
            assert!(after.same_content(new), "{new:?} over {before:?} shows as {after:?}");
        }
        if let (Edit::Put(new), Some(base)) = (edit, base) {
            check_written(base.as_ref(), new, self.document.value().as_ref());
        }
        if let Edit::Put(_) | Edit::MergePatch(_) = edit {
            assert!(!self.document.is_absent(), "{edit:?} at {late:?} brings to life");
            let shown = self.document.render(Form::Plain, None).unwrap();
            let again = self.document.edit(edit, late, &stamp, &limits).unwrap();
            let then = self.document.render(Form::Plain, None).unwrap();
            assert!(again.changes.is_empty(), "{edit:?} at {late:?} again: {shown:?}, {then:?}");
        }
        if let (Edit::Delete, Some(_)) = (edit, late) {
            let again = self.document.edit(edit, late, &stamp, &limits).unwrap();
            assert!(again.changes.is_empty(), "a delete at {late:?} again");
        }
        let rendering = self.document.render(Form::Typed, None).unwrap();
        self.seen.push((rendering.version.clone(), Some(rendering)));
    }

    fn shown_at(&self, version: &Version) -> Option<Value> {
        let json = self.document.render(Form::Typed, Some(version)).unwrap().json?;
        Some(tombolo::doc::parse(&json, Form::Typed, &Limits::default()).unwrap())
    }

    /// What a version showed when it was the present is what it shows now.
    fn check_past(&self) {
        for (version, rendering) in &self.seen {
            let now = self.document.render(Form::Typed, Some(version)).unwrap();
            if let Some(then) = rendering {
                assert_eq!(now, *then, "{version}");
            }
        }
        let (bytes, standing) = (self.document.save(), self.document.standing());
        if let Some((version, then)) = self.seen.last().filter(|(version, _)| !version.is_empty()) {
            let loaded = Document::load([&bytes[..]], &standing, version, Actor([8; 16])).unwrap();
            assert_eq!(loaded.render(Form::Typed, None).ok(), *then);
        }
    }
}

/// A late put shows all that it changed, whatever came meanwhile. What lists and texts become
/// depends on what others inserted.
fn check_written(base: Option<&Value>, new: &Value, shown: Option<&Value>) {
    match (base, new) {
        (Some(base), new) if base.same_content(new) => {}
        (_, Value::Map(members)) => {
            let Some(Value::Map(shown)) = shown else { panic!("{new:?} shows as {shown:?}") };
            for (key, new) in members {
                let base = match base {
                    Some(Value::Map(base)) => base.get(key),
                    _ => None,
                };
                check_written(base, new, shown.get(key));
            }
        }
        (Some(Value::List(_)), Value::List(_))
        | (Some(Value::Text(_)), Value::Text(_) | Value::String(_)) => {
            assert!(shown.is_some(), "{new:?} is not there");
        }
        _ => assert!(shown.is_some_and(|shown| shown.same_content(new)), "{new:?}: {shown:?}"),
    }
}

fn map(u: &mut Unstructured<'_>, depth: usize) -> Result<BTreeMap<String, Value>> {
    let mut map = BTreeMap::new();
    for key in KEYS {
        if u.ratio(2, 3)? {
            map.insert(key.to_owned(), value(u, depth - 1)?);
        }
    }
    Ok(map)
}

/// Few values, so that edits are often equal, and no counters: a put over one is an increment.
fn value(u: &mut Unstructured<'_>, depth: usize) -> Result<Value> {
    let kinds = if depth == 0 { 3 } else { 7 };
    Ok(match u.int_in_range(0..=kinds)? {
        0 => Value::Null,
        1 => Value::Int(u.int_in_range(0..=2)?),
        2 => Value::String((*u.choose(&WORDS)?).to_owned()),
        3 => Value::Text((*u.choose(&WORDS)?).to_owned()),
        4 | 5 => {
            let length = u.int_in_range(0..=3)?;
            Value::List((0..length).map(|_| value(u, depth - 1)).collect::<Result<_>>()?)
        }
        _ => Value::Map(map(u, depth)?),
    })
}

/// Every change descends from its actor's previous one.
fn check_actors(changes: &[Change]) {
    let mut past: HashMap<ChangeHash, HashSet<ChangeHash>> = HashMap::new();
    let mut last: HashMap<Vec<u8>, (u64, ChangeHash)> = HashMap::new();
    for change in changes {
        let mut seen: HashSet<ChangeHash> = HashSet::new();
        for dep in change.deps() {
            seen.insert(*dep);
            seen.extend(&past[dep]);
        }
        let actor = change.actor_id().to_bytes().to_vec();
        let previous = last.insert(actor, (change.seq(), change.hash()));
        assert_eq!(change.seq(), previous.map_or(0, |(seq, _)| seq) + 1);
        if let Some((_, hash)) = previous {
            assert!(seen.contains(&hash), "{} does not descend from {hash}", change.hash());
        }
        past.insert(change.hash(), seen);
    }
}

/// In each order in which none comes before what it depends on, every change has to land, one by
/// one, and the end is the same.
fn check_delivery(peer: &Document, rest: &[&Change], expected: &Rendering) {
    if rest.is_empty() {
        assert_eq!(peer.render(Form::Typed, None).unwrap(), *expected);
    }
    for (index, next) in rest.iter().enumerate() {
        let waits = |hash: &ChangeHash| rest.iter().any(|change| change.hash() == *hash);
        if !next.deps().iter().any(waits) {
            let mut peer = peer.clone();
            let delta = peer.merge([next.raw_bytes()]).expect("a change applies by itself");
            assert_eq!(delta.changes.len(), 1);
            let mut rest = rest.to_vec();
            rest.remove(index);
            check_delivery(&peer, &rest, expected);
        }
    }
}
