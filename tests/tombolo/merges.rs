//! Real concurrent edits: what people merged by hand, merged by a late put.
//!
//! Base, then ours and theirs, each put on the base. *Equal*: the result is what people accepted.
//! *Hidden*: a leaf value that one side set, that neither shows, nor is listed, nor went into a list
//! that was merged element by element.

use serde_json::Value as Json;
use std::{collections::BTreeMap, env, fs};
use tombolo::{
    doc::{Actor, Conflict, Document, Edit, Form, Limits, Stamp, Value, parse},
    ident::Version,
};

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/merges/sample.jsonl");

/// The least share of cases, in per cent, that has to equal what people accepted.
pub(crate) type Least = [(&'static str, usize)];

/// For a late put, which knows all three: the base, what is there, and what is new.
const LATE_PUT: &Least = &[
    ("mdn+browser-compat-data", 90),
    ("apache+pouchdb", 94),
    ("automerge+automerge-repo", 63),
    ("SchemaStore+schemastore", 79),
    ("json-schema-org+JSON-Schema-Test-Suite", 88),
];

/// What two people made of the same document, and what they agreed on then.
pub(crate) struct Case {
    corpus: String,
    pub(crate) base: Value,
    pub(crate) ours: Value,
    pub(crate) theirs: Value,
    merged: Value,
}

/// The cases of the sample, or of the file that `TOMBOLO_MERGES` names.
pub(crate) fn cases() -> Vec<Case> {
    #[expect(clippy::disallowed_methods, reason = "who runs the test says which cases")]
    let file = env::var("TOMBOLO_MERGES").unwrap_or_else(|_| SAMPLE.to_owned());
    let case = |line: &str| {
        let case: Json = serde_json::from_str(line).unwrap();
        let [base, ours, theirs, merged] =
            ["base", "ours", "theirs", "merged"].map(|side| wrapped(&case[side]));
        Case { corpus: case["corpus"].as_str().unwrap().to_owned(), base, ours, theirs, merged }
    };
    fs::read_to_string(file).unwrap().lines().map(case).collect()
}

#[derive(Default)]
struct Score {
    cases: usize,
    equal: usize,
    set: usize,
    shown: usize,
    listed: usize,
    in_lists: usize,
}

/// How the cases of each corpus were merged.
#[derive(Default)]
pub(crate) struct Scores(BTreeMap<String, Score>);

impl Scores {
    /// Takes note of what became of a case.
    pub(crate) fn note(&mut self, case: &Case, result: &Value, conflicts: &[Conflict]) {
        let score = self.0.entry(case.corpus.clone()).or_default();
        score.cases += 1;
        score.equal += usize::from(result.same_content(&case.merged));
        for side in [&case.ours, &case.theirs] {
            for (path, value) in set(&case.base, side) {
                score.set += 1;
                let place = at(result, &path);
                if place.is_some_and(|shown| shows(shown, value)) {
                    score.shown += 1;
                } else if is_listed(conflicts, &path, value) {
                    score.listed += 1;
                } else if matches!((place, value), (Some(Value::List(_)), Value::List(_))) {
                    score.in_lists += 1;
                } else {
                    println!("hidden: {path:?} {value:?}, shows {place:?}");
                }
            }
        }
    }

    /// # Panics
    /// Something is hidden, or too few are as people merged them.
    pub(crate) fn check(&self, least: &Least) {
        for (corpus, score) in &self.0 {
            let Score { cases, equal, set, shown, listed, in_lists } = score;
            println!(
                "{corpus}: {equal} of {cases} equal; of {set} leaf values set, {shown} show, \
                 {listed} are listed, {in_lists} are in merged lists"
            );
            assert_eq!(shown + listed + in_lists, *set, "{corpus} hides values");
            let least =
                least.iter().find(|(name, _)| name == corpus).map_or(0, |(_, least)| *least);
            // The sample is small and holds the shortest cases; whole corpora have to reach the bar.
            let least = if *cases < 80 { least / 2 } else { least };
            assert!(least * cases <= 100 * equal, "{corpus}: {equal} of {cases} are equal");
        }
    }
}

/// For two puts on two nodes, of which neither knows the other: of lists that both edit alike, both edits
/// stay.
pub(crate) const TWO_NODES: &Least = &[
    ("mdn+browser-compat-data", 90),
    ("apache+pouchdb", 93),
    ("automerge+automerge-repo", 63),
    ("json-schema-org+JSON-Schema-Test-Suite", 88),
];

#[test]
fn real_concurrent_edits_are_merged_and_none_is_hidden() {
    let mut scores = Scores::default();
    for case in cases() {
        let mut document = Document::new(Actor([1; 16]));
        let version = put(&mut document, &case.base, None);
        put(&mut document, &case.ours, Some(&version));
        put(&mut document, &case.theirs, Some(&version));
        scores.note(&case, &document.value().unwrap(), &document.conflicts());
    }
    scores.check(LATE_PUT);
}

/// A root that is no object is wrapped into one.
fn wrapped(json: &Json) -> Value {
    let json = if json.is_object() { json.clone() } else { serde_json::json!({ "value": json }) };
    parse(json.to_string().as_bytes(), Form::Plain, &Limits::default()).unwrap()
}

fn put(document: &mut Document, value: &Value, base: Option<&Version>) -> Version {
    let edit = Edit::Put(value.clone());
    document.edit(&edit, base, &Stamp::default(), &Limits::default()).unwrap().after
}

/// The leaf values of `side` that are not in `base`. Lists and empty objects are leaves.
fn set<'v>(base: &Value, side: &'v Value) -> Vec<(Vec<String>, &'v Value)> {
    let mut leaves = Vec::new();
    flatten(side, &mut Vec::new(), &mut leaves);
    leaves.retain(|(path, value)| !at(base, path).is_some_and(|old| old.same_content(value)));
    leaves
}

fn flatten<'v>(
    value: &'v Value,
    path: &mut Vec<String>,
    leaves: &mut Vec<(Vec<String>, &'v Value)>,
) {
    match value {
        Value::Map(map) if !map.is_empty() => {
            for (key, value) in map {
                path.push(key.clone());
                flatten(value, path, leaves);
                path.pop();
            }
        }
        value => leaves.push((path.clone(), value)),
    }
}

fn at<'v>(value: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, key| match value {
        Value::Map(map) => map.get(key),
        _ => None,
    })
}

/// An empty object shows in any object: what others put there does not hide it.
fn shows(shown: &Value, value: &Value) -> bool {
    let empty = matches!(value, Value::Map(map) if map.is_empty());
    shown.same_content(value) || (empty && matches!(shown, Value::Map(_)))
}

fn is_listed(conflicts: &[Conflict], path: &[String], value: &Value) -> bool {
    conflicts.iter().any(|conflict| {
        let place: Vec<String> = conflict
            .path
            .split('/')
            .skip(1)
            .map(|step| step.replace("~1", "/").replace("~0", "~"))
            .collect();
        path.strip_prefix(&place[..]).is_some_and(|rest| {
            let inside = |listed: &Value| at(listed, rest).is_some_and(|found| shows(found, value));
            conflict.values.iter().any(|listed| inside(&listed.value))
        })
    })
}
