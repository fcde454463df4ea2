//! Three replicas, and every version that one of them has seen: the difference of any two makes one
//! of the other, for another implementation of RFC 6902 too.

use super::generate;
use arbitrary::{Result, Unstructured};
use std::collections::HashSet;
use tombolo::{
    doc::{Actor, Document, Edit, Form, Limits, OPERATIONS_MAX, Operation, Stamp, Value},
    ident::{Hash, Version},
};

const REPLICAS: usize = 3;
const STEPS_MAX: usize = 12;
/// Versions of which every two are compared.
const COMPARED_MAX: usize = 8;

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
    let whole = &world.replicas[0];
    for from in world.seen.iter().rev().take(COMPARED_MAX) {
        for to in world.seen.iter().rev().take(COMPARED_MAX) {
            check_diff(whole, from, Some(to));
        }
        check_diff(whole, from, None);
    }
    check_history(whole);
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
            match u.int_in_range(0..=9u8)? {
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
