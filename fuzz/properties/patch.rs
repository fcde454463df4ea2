//! Patches: reading and applying never panics, agrees with another implementation, and can be undone.

use super::generate;
use arbitrary::{Result, Unstructured};
use tombolo::doc::{
    Actor, Document, Edit, Form, Limits, Operation, Patch, Pointer, RefusalKind, SpliceInsert,
    Stamp, Value, merge_patch, parse,
};

/// Holds for `data` as the text of a patch, and for a document and a patch made from it.
pub fn property(data: &[u8]) {
    let limits = Limits::default();
    for form in [Form::Plain, Form::Typed] {
        if let Ok(patch) = Patch::parse(data, form, &limits) {
            check(&Value::Map([("a".to_owned(), Value::List(Vec::new()))].into()), &patch);
        }
    }
    let mut bytes = Unstructured::new(data);
    let _ = made(&mut bytes);
}

fn made(bytes: &mut Unstructured<'_>) -> Result<()> {
    let document = generate::map(bytes, 3)?;
    let patch = generate::patch(bytes, &document)?;
    check_text(&patch);
    check(&document, &patch);
    check_document(&document, &patch);
    check_merge(&document, &generate::value(bytes, 3)?);
    for operation in &patch.0 {
        check_undo(&document, operation);
    }
    Ok(())
}

/// Typed, a patch reads back as it was; only a move into its own inside cannot be read.
fn check_text(patch: &Patch) {
    let back = Patch::parse(&patch.to_json(Form::Typed), Form::Typed, &Limits::default());
    let into_itself = |operation: &Operation| matches!(operation, Operation::Move { from, path } if from.is_above(path));
    let readable = !patch.0.iter().any(into_itself);
    match back {
        Ok(back) => assert!(readable && format!("{back:?}") == format!("{patch:?}")),
        Err(refusal) => assert!(!readable && refusal.kind == RefusalKind::BadPatch, "{refusal:?}"),
    }
}

fn check(document: &Value, patch: &Patch) {
    let limits = Limits::default();
    let after = patch.apply(document, &limits);
    // All at once is one after the other.
    let mut stepwise = Ok(document.clone());
    for operation in &patch.0 {
        stepwise = stepwise.and_then(|before| one(operation).apply(&before, &limits));
    }
    assert_eq!(format!("{after:?}"), format!("{stepwise:?}"));
    if let Ok(after) = &after {
        assert!(after.depth() <= limits.depth_max);
    }
    check_against_other(document, patch);
}

/// On a stored document a patch does what it does on a value, or is refused for the same reason
/// and leaves it as it was.
fn check_document(value: &Value, patch: &Patch) {
    let (limits, stamp) = (Limits::default(), Stamp::default());
    let mut document = Document::new(Actor([7; 16]));
    document.edit(&Edit::Put(value.clone()), None, &stamp, &limits).expect("an object");
    let before = document.version();
    let done = document.edit(&Edit::JsonPatch(patch.clone()), None, &stamp, &limits);
    if done.is_err() {
        assert_eq!(document.version(), before);
    }
    let typed = patch.0.iter().any(|operation| match operation {
        Operation::Increment { .. } => true,
        Operation::Add { value, .. } | Operation::Replace { value, .. } => has_types(value),
        _ => false,
    });
    let expected = patch.apply(value, &limits);
    let kinds = [expected.as_ref().err(), done.as_ref().err()];
    let mistyped =
        kinds.into_iter().flatten().any(|refusal| refusal.kind == RefusalKind::WrongType);
    if typed && mistyped {
        // What is replaced keeps its type in a stored document, so that more can be incremented
        // there, and less be spliced.
        return;
    }
    match (expected, done) {
        // Its root is an object at all times, also between two operations.
        (_, Err(refusal)) if refusal.kind == RefusalKind::RootMustBeObject => {
            let first = |count| Patch(patch.0[..count].to_vec()).apply(value, &limits);
            let root = |count| match first(count) {
                Ok(root) => !matches!(root, Value::Map(_)),
                Err(refused) => refused.kind == refusal.kind,
            };
            assert!((1..=patch.0.len()).any(root), "{patch:?} on {value:?}");
        }
        (Ok(expected), Ok(_)) => {
            let after = document.value().expect("it lives");
            assert!(after.same_content(&expected), "{patch:?} on {value:?}: {after:?}");
        }
        (Err(expected), Err(refusal)) => {
            assert_eq!(refusal.kind, expected.kind, "{patch:?} on {value:?}");
        }
        (expected, done) => panic!("{patch:?} on {value:?}: {done:?}, {expected:?}"),
    }
}

/// Whether there is a value whose type plain JSON does not tell.
fn has_types(value: &Value) -> bool {
    match value {
        Value::List(list) => list.iter().any(has_types),
        Value::Map(map) => map.values().any(has_types),
        Value::Counter(_) | Value::Text(_) | Value::Timestamp(_) | Value::Bytes(_) => true,
        _ => false,
    }
}

/// Another implementation of RFC 6902 gives the same, for what that RFC knows.
fn check_against_other(document: &Value, patch: &Patch) {
    // Its `test` tells 1 from 1.0, and it does not move the root to where it is.
    let standard = |operation: &&Operation| match operation {
        Operation::Move { from, .. } => !from.0.is_empty(),
        Operation::Test { .. } | Operation::Increment { .. } | Operation::Splice { .. } => false,
        Operation::Add { .. }
        | Operation::Remove { .. }
        | Operation::Replace { .. }
        | Operation::Copy { .. } => true,
    };
    let patch = Patch(patch.0.iter().filter(standard).cloned().collect());
    let text = patch.to_json(Form::Plain);
    let Ok(ours) = Patch::parse(&text, Form::Plain, &Limits::default()) else { return };
    let before = document.to_json(Form::Plain);
    let plain = parse(&before, Form::Plain, &Limits::default()).expect("printed JSON reads back");
    let ours = ours.apply(&plain, &Limits::default()).map(|after| after.to_json(Form::Plain));

    let mut theirs: serde_json::Value = serde_json::from_slice(&before).expect("JSON");
    let patch: json_patch::Patch = serde_json::from_slice(&text).expect("a patch");
    // Its `patch` undoes what failed, and panics where it cannot.
    let done = json_patch::patch_unsafe(&mut theirs, &patch);
    match (ours, done) {
        (Ok(ours), Ok(())) => {
            let theirs = serde_json::to_vec(&theirs).expect("JSON");
            assert_eq!(String::from_utf8_lossy(&ours), String::from_utf8_lossy(&theirs));
        }
        (Err(_), Err(_)) => (),
        (ours, theirs) => panic!("{ours:?} {theirs:?}: {}", String::from_utf8_lossy(&text)),
    }
}

/// What an operation has done, another one takes back.
fn check_undo(document: &Value, operation: &Operation) {
    let Ok(after) = apply(document, operation) else { return };
    let undo = match operation {
        // A counter that was there goes back by as much as it went on.
        Operation::Increment { path, by } if at(document, path).is_some() => {
            let Some(by) = by.checked_neg() else { return };
            Operation::Increment { path: path.clone(), by }
        }
        Operation::Add { path, .. } | Operation::Copy { path, .. } => match at(document, path) {
            // A key that was there, or the root: its value comes back.
            Some(before) if !in_list(document, path) => {
                Operation::Replace { path: path.clone(), value: before.clone() }
            }
            _ => Operation::Remove { path: last(&after, path) },
        },
        Operation::Increment { path, .. } => Operation::Remove { path: path.clone() },
        Operation::Remove { path } => {
            let value = at(document, path).expect("what was removed was there").clone();
            Operation::Add { path: path.clone(), value }
        }
        Operation::Replace { path, .. } => {
            let value = at(document, path).expect("what was replaced was there").clone();
            Operation::Replace { path: path.clone(), value }
        }
        Operation::Move { from, path } => {
            let moved = at(document, from).expect("what was moved was there");
            let found = at(&after, &last(&after, path)).expect("it is where it was moved");
            assert_eq!(format!("{moved:?}"), format!("{found:?}"));
            return;
        }
        Operation::Test { .. } => {
            Operation::Test { path: Pointer::default(), value: document.clone() }
        }
        Operation::Splice { path, at: start, remove, insert } => {
            let before = at(document, path).expect("what was spliced was there");
            let (length, insert) = removed(before, *start, *remove, insert);
            Operation::Splice { path: path.clone(), at: *start, remove: length, insert }
        }
    };
    let back = apply(&after, &undo);
    assert_eq!(format!("{back:?}"), format!("Ok({document:?})"), "{operation:?} {undo:?}");
}

/// How much a splice put in, and what it took out.
fn removed(
    before: &Value,
    at: usize,
    remove: usize,
    insert: &SpliceInsert,
) -> (usize, SpliceInsert) {
    match (before, insert) {
        (Value::List(list), SpliceInsert::List(insert)) => {
            (insert.len(), SpliceInsert::List(list[at..at + remove].to_vec()))
        }
        (Value::Text(text) | Value::String(text), SpliceInsert::Text(insert)) => {
            let taken = text.chars().skip(at).take(remove).collect();
            (insert.chars().count(), SpliceInsert::Text(taken))
        }
        _ => panic!("{before:?} took {insert:?}"),
    }
}

/// A merge patch done twice is done once, and what it names is there after.
fn check_merge(target: &Value, patch: &Value) {
    let once = merge_patch(target, patch);
    assert_eq!(format!("{:?}", merge_patch(&once, patch)), format!("{once:?}"));
    let Value::Map(members) = patch else {
        return assert_eq!(format!("{once:?}"), format!("{patch:?}"));
    };
    let Value::Map(merged) = &once else { panic!("a merge with an object is one") };
    let nothing = Default::default();
    let before = if let Value::Map(map) = target { map } else { &nothing };
    for key in before.keys().chain(members.keys()) {
        let expected = match members.get(key) {
            Some(Value::Null) => None,
            Some(member) => Some(merge_patch(before.get(key).unwrap_or(&Value::Null), member)),
            None => before.get(key).cloned(),
        };
        assert_eq!(format!("{:?}", merged.get(key)), format!("{:?}", expected.as_ref()));
    }
}

fn one(operation: &Operation) -> Patch {
    Patch(vec![operation.clone()])
}

fn apply(document: &Value, operation: &Operation) -> std::result::Result<Value, RefusalKind> {
    one(operation).apply(document, &Limits::default()).map_err(|refusal| refusal.kind)
}

fn at<'a>(root: &'a Value, path: &Pointer) -> Option<&'a Value> {
    path.0.iter().try_fold(root, |place, token| {
        if let Value::Map(map) = place {
            map.get(token)
        } else if let Value::List(list) = place {
            token.parse::<usize>().ok().and_then(|index| list.get(index))
        } else {
            None
        }
    })
}

fn in_list(root: &Value, path: &Pointer) -> bool {
    let Some((_, parent)) = path.0.split_last() else { return false };
    matches!(at(root, &Pointer(parent.to_vec())), Some(Value::List(_)))
}

/// The place that `-` named, now that it exists.
fn last(after: &Value, path: &Pointer) -> Pointer {
    let Some((token, parent)) = path.0.split_last() else { return path.clone() };
    match at(after, &Pointer(parent.to_vec())) {
        Some(Value::List(list)) if token == "-" => {
            let index = (list.len() - 1).to_string();
            Pointer(parent.iter().cloned().chain([index]).collect())
        }
        _ => path.clone(),
    }
}
