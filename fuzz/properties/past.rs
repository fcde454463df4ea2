//! Three replicas, and every version that one of them has seen: the difference of any two makes one
//! of the other, for another implementation of RFC 6902 too; the history tells each change once; and
//! the blame names every value that shows.

use super::generate;
use arbitrary::{Result, Unstructured};
use std::collections::HashSet;
use tombolo::{
    doc::{
        Actor, Document, Edit, Form, Limits, OPERATIONS_MAX, Operation, Patch, Pointer, Stamp,
        Value, parse,
    },
    ident::{Hash, Version},
};

const REPLICAS: usize = 3;
const STEPS_MAX: usize = 12;
/// Versions of which every two are compared.
const COMPARED_MAX: usize = 8;

/// What becomes of one object.
const OBJECT: &[&str] =
    &[r#"{"o":{"k":1}}"#, r#"{"o":{"k":2}}"#, r#"{"o":{"p":{"q":1}}}"#, r#"{"o":null}"#];

/// The property.
pub fn property(data: &[u8]) {
    let mut world = World {
        replicas: (1..=REPLICAS)
            .map(|n| Document::new(Actor([u8::try_from(n).unwrap_or(0); 16])))
            .collect(),
        seen: vec![Version::empty()],
    };
    // Running out of bytes ends the run.
    let _ = world.play(&mut Unstructured::new(data));
    for index in 1..REPLICAS {
        world.merge(0, index);
    }
    check_refusals(&mut world);
    let whole = &world.replicas[0];
    for from in world.seen.iter().rev().take(COMPARED_MAX) {
        for to in world.seen.iter().rev().take(COMPARED_MAX) {
            check_diff(whole, from, Some(to));
        }
        check_diff(whole, from, None);
        check_revert(whole, from);
    }
    check_history(whole);
    check_blame(whole);
}

/// Edits of old versions that are refused leave no trace: not in what the document shows, nor in what it
/// showed.
fn check_refusals(world: &mut World) {
    let World { replicas, seen } = world;
    let whole = &mut replicas[0];
    let fresh = Document::recover([&whole.save()[..]], Actor([9; 16])).expect("it loads");
    let place = Pointer(vec!["nowhere".to_owned()]);
    let add = Operation::Add { path: place.clone(), value: Value::Int(1) };
    let test = Operation::Test { path: place, value: Value::Int(2) };
    let refused = Edit::JsonPatch(Patch(vec![add, test]));
    for version in seen.iter() {
        let edited = whole.edit(&refused, Some(version), &Stamp::default(), &Limits::default());
        assert!(edited.is_err(), "{edited:?}");
        for at in [None, Some(version)] {
            assert_eq!(json(whole, at).to_string(), json(&fresh, at).to_string(), "{at:?}");
        }
    }
    for version in seen.iter() {
        let at = Some(version);
        assert_eq!(json(whole, at).to_string(), json(&fresh, at).to_string(), "{at:?}");
    }
}

/// Replicas, and the versions that they were at.
struct World {
    replicas: Vec<Document>,
    seen: Vec<Version>,
}

impl World {
    fn play(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        for _ in 0..STEPS_MAX {
            if u.is_empty() {
                break;
            }
            let at = u.int_in_range(0..=REPLICAS - 1)?;
            match u.int_in_range(0..=13u8)? {
                // One object, made, edited inside and taken away apart: what stands stood at some
                // versions and not at others.
                10..=13 => {
                    let json = u.choose(OBJECT)?;
                    let value = parse(json.as_bytes(), Form::Plain, &Limits::default());
                    self.edit(at, &Edit::MergePatch(value.expect("JSON")));
                }
                0..=2 => self.merge(at, (at + u.int_in_range(1..=REPLICAS - 1)?) % REPLICAS),
                3 => self.edit(at, &Edit::Delete),
                4 => {
                    let value = generate::map(u, 2)?;
                    self.edit(at, &Edit::MergePatch(value));
                }
                5..=7 => {
                    let value = self.replicas[at].value().unwrap_or(Value::Null);
                    let patch = generate::patch(u, &value)?;
                    self.edit(at, &Edit::JsonPatch(patch));
                }
                _ => {
                    let mut value = generate::map(u, 3)?;
                    if let Value::Map(map) = &mut value {
                        map.insert("list".to_owned(), list(u)?);
                    }
                    self.edit(at, &Edit::Put(value));
                }
            }
        }
        Ok(())
    }

    /// An edit, made or refused.
    fn edit(&mut self, at: usize, edit: &Edit) {
        let document = &mut self.replicas[at];
        if matches!(edit, Edit::Delete) && document.is_absent() {
            return;
        }
        let _ = document.edit(edit, None, &Stamp::default(), &Limits::default());
        self.remember(at);
    }

    fn merge(&mut self, at: usize, from: usize) {
        let changes = self.replicas[from].changes_since(&self.replicas[at].version());
        let delta = self.replicas[at].merge(changes.iter().map(Vec::as_slice));
        delta.expect("what another replica made merges");
        self.remember(at);
    }

    fn remember(&mut self, at: usize) {
        let version = self.replicas[at].version();
        if !self.seen.contains(&version) {
            self.seen.push(version);
        }
    }
}

/// A list that every put has, of few values, so that lists of two versions meet.
fn list(u: &mut Unstructured<'_>) -> Result<Value> {
    let length = u.int_in_range(0..=5)?;
    (0..length)
        .map(|_| Ok(Value::Int(u.int_in_range(0..=4)?)))
        .collect::<Result<_>>()
        .map(Value::List)
}

/// The history tells every change once, whatever rests on it before it, and what it did; on pages
/// of any size.
fn check_history(document: &Document) {
    let all = document.deeds(None, usize::MAX).expect("no defect");
    assert!(!all.more && all.deeds.len() == document.change_count());
    let mut told: HashSet<Hash> = HashSet::new();
    for deed in &all.deeds {
        assert!(deed.deps.hashes().iter().all(|dep| !told.contains(dep)));
        assert!(told.insert(deed.hash));
        let own = Version::from_iter([deed.hash]);
        let did = document.diff(Some(&deed.deps), Some(&own)).expect("both are here");
        assert_eq!(deed.operations_total, did.0.len());
        let same =
            deed.operations.iter().zip(&did.0).all(|(a, b)| format!("{a:?}") == format!("{b:?}"));
        assert!(same && deed.operations.len() == did.0.len().min(OPERATIONS_MAX));
    }
    let (mut paged, mut before) = (Vec::new(), None);
    loop {
        let page = document.deeds(before, 2).expect("no defect");
        before = page.deeds.last().map(|deed| deed.moment);
        paged.extend(page.deeds.into_iter().map(|deed| deed.hash));
        if !page.more {
            break;
        }
    }
    assert!(paged.iter().eq(all.deeds.iter().map(|deed| &deed.hash)));
}

/// What a version showed, with its types, written over what there is now: that is what shows then.
fn check_revert(document: &Document, to: &Version) {
    let then = document.render(Form::Typed, Some(to)).expect("the version is here");
    let Some(typed) = then.json else { return };
    let value = parse(&typed, Form::Typed, &Limits::default()).expect("typed JSON");
    let mut reverted = document.clone();
    let edit = Edit::Put(value);
    let made = reverted.edit(&edit, None, &Stamp::default(), &Limits::default());
    made.expect("what was once there can be there again");
    let plain = |document: &Document, at| json(document, at).to_string();
    assert_eq!(plain(&reverted, None), plain(document, Some(to)));
}

/// The leaves of the blame are those of the view, in its order, each set by a change that is here; what
/// is asked for one place is what stands there in the whole.
fn check_blame(document: &Document) {
    let blamed = document.blame(&Pointer::default());
    let mut leaves = Vec::new();
    if let Some(value) = document.value() {
        collect(&value, &mut Pointer::default(), &mut leaves);
    }
    let path = |leaf: &(Pointer, &'static str)| leaf.0.to_string();
    assert!(
        blamed.iter().map(|leaf| leaf.path.clone()).eq(leaves.iter().map(path)),
        "{blamed:?} of {:?}",
        document.value()
    );
    let all = document.deeds(None, usize::MAX).expect("no defect").deeds;
    for (leaf, (place, kind)) in blamed.iter().zip(&leaves) {
        let author = &leaf.author;
        let deed = all.iter().find(|deed| deed.hash == author.change).expect("a change of it");
        let own = (&deed.actor, deed.time_seconds, &deed.message);
        assert_eq!(own, (&author.actor, author.time_seconds, &author.message), "{kind}");
        assert_eq!(document.blame(place), std::slice::from_ref(leaf));
    }
}

/// The values without parts in a value, but for an empty root.
fn collect(value: &Value, at: &mut Pointer, leaves: &mut Vec<(Pointer, &'static str)>) {
    let mut member = |step: String, value: &Value| {
        at.0.push(step);
        collect(value, at, leaves);
        at.0.pop();
    };
    match value {
        Value::Map(map) if !map.is_empty() => {
            map.iter().for_each(|(key, value)| member(key.clone(), value));
        }
        Value::List(list) if !list.is_empty() => {
            list.iter().enumerate().for_each(|(index, value)| member(index.to_string(), value));
        }
        Value::Map(_) | Value::List(_) if at.0.is_empty() => {}
        Value::Map(_) | Value::List(_) => leaves.push((at.clone(), "empty")),
        _ => leaves.push((at.clone(), "scalar")),
    }
}

fn json(document: &Document, at: Option<&Version>) -> serde_json::Value {
    let rendering = document.render(Form::Plain, at).expect("the version is here");
    let json = rendering.json.unwrap_or_else(|| b"null".to_vec());
    serde_json::from_slice(&json).expect("JSON")
}

fn check_diff(document: &Document, from: &Version, to: Option<&Version>) {
    let (before, after) = (json(document, Some(from)), json(document, to));
    let patch = document.diff(Some(from), to).expect("both are here");
    let standard = |operation: &Operation| {
        matches!(
            operation,
            Operation::Add { .. } | Operation::Remove { .. } | Operation::Replace { .. }
        )
    };
    assert!(patch.0.iter().all(standard), "{patch:?}");
    assert!(before != after || patch.0.is_empty(), "{before} is the same: {patch:?}");
    let text = patch.to_json(Form::Plain);
    let theirs: json_patch::Patch = serde_json::from_slice(&text).expect("a patch");
    let mut made = before.clone();
    json_patch::patch(&mut made, &theirs).expect("it applies");
    // As text, which tells 1 from 1.0.
    let text = String::from_utf8_lossy(&text).into_owned();
    assert_eq!(made.to_string(), after.to_string(), "of {before} by {text}");
}
