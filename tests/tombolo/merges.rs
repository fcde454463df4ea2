//! Real concurrent edits: what people merged by hand, merged by a late put.
//!
//! Base, then ours and theirs, each put on the base: on one node, and on two that are cut off from each other. *Equal*: the result is what people accepted.
//! *Hidden*: a leaf value that one side set, that neither shows, nor is listed, nor went into a list
//! that was merged element by element.

use crate::replicate::{Island, SECRET, equal, name, until};
use serde_json::Value as Json;
use std::{
    collections::BTreeMap,
    env, fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::watch;
use tombolo::{
    doc::{Actor, Conflict, Document, Edit, Form, Limits, Stamp, Value, parse},
    ident::Version,
    node::{Ambient, Options, Secret, Source},
    peer::Client,
    store::MemoryEngine,
};

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/merges/sample.jsonl");

/// The least share of cases, in per cent, that has to equal what people accepted.
type Least = [(&'static str, usize)];

/// For a late put, which knows all three: the base, what is there, and what is new.
const LATE_PUT: &Least = &[
    ("mdn+browser-compat-data", 90),
    ("apache+pouchdb", 94),
    ("automerge+automerge-repo", 63),
    ("SchemaStore+schemastore", 79),
    ("json-schema-org+JSON-Schema-Test-Suite", 88),
];

/// For two puts on two nodes, of which neither knows the other: of lists that both edit alike, both edits
/// stay. Of two values, the greater actor's shows, and so it is with places in a list: here, theirs.
const THEIRS_GREATER: &Least = &[
    ("mdn+browser-compat-data", 90),
    ("apache+pouchdb", 93),
    ("automerge+automerge-repo", 63),
    ("json-schema-org+JSON-Schema-Test-Suite", 88),
];

/// The same, where ours is the greater actor.
const OURS_GREATER: &Least = &[
    ("mdn+browser-compat-data", 90),
    ("apache+pouchdb", 93),
    ("automerge+automerge-repo", 80),
    ("json-schema-org+JSON-Schema-Test-Suite", 80),
];

/// What two people made of the same document, and what they agreed on then.
struct Case {
    corpus: String,
    base: Value,
    ours: Value,
    theirs: Value,
    merged: Value,
}

/// The cases of the sample, or of the file that `TOMBOLO_MERGES` names.
fn cases() -> Vec<Case> {
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
struct Scores(BTreeMap<String, Score>);

impl Scores {
    /// Takes note of what became of a case.
    fn note(&mut self, case: &Case, result: &Value, conflicts: &[Conflict]) {
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
    fn check(&self, least: &Least) {
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

/// A node whose actor is greater than, or less than, that of others.
async fn island(rank: u8) -> Island {
    let ambient = Ambient::from_source(Arc::new(Ranked { rank, count: AtomicU64::new(0) }));
    let options = Options { ambient, secret: Secret(SECRET.to_vec()), ..Options::default() };
    Island::with(options, Arc::new(MemoryEngine::new()), "127.0.0.1:0").await
}

/// Chance that begins with the rank.
#[derive(Debug)]
struct Ranked {
    rank: u8,
    count: AtomicU64,
}

impl Source for Ranked {
    fn unix_ms(&self) -> u64 {
        1_000_000_000_000
    }

    fn chance(&self) -> [u8; 16] {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let mut bytes = [self.rank; 16];
        bytes[8..].copy_from_slice(&blake3::hash(&count.to_be_bytes()).as_bytes()[..8]);
        bytes
    }
}

/// Writes each case on two nodes that are cut off from each other, and lets them meet.
async fn meet(ours: Island, mut theirs: Island, least: &Least) {
    let cases = cases();
    let of = |index: usize| format!("merges/{index}");
    for (index, case) in cases.iter().enumerate() {
        ours.write(&of(index), Edit::Put(case.base.clone())).await;
    }
    // Until both hold everything; then they are cut off from each other.
    let (cut, is_cut) = watch::channel(false);
    let link = ours.node.replicate(vec![theirs.peer()], Client::tcp(), until(is_cut));
    let link = tokio::spawn(link);
    equal(&[&ours, &theirs], cases.len()).await;
    cut.send_replace(true);
    link.await.unwrap();
    for (index, case) in cases.iter().enumerate() {
        ours.write(&of(index), Edit::Put(case.ours.clone())).await;
        theirs.write(&of(index), Edit::Put(case.theirs.clone())).await;
    }
    theirs.join(vec![ours.peer()]);
    equal(&[&ours, &theirs], cases.len()).await;
    let (all, mut scores) = (ours.all().await, Scores::default());
    for (index, case) in cases.iter().enumerate() {
        let name = name(&of(index));
        let json = all[&name].2.clone().unwrap();
        let result = parse(&json, Form::Plain, &Limits::default()).unwrap();
        let conflicts = ours.node.conflicts(&name).await.unwrap();
        assert_eq!(conflicts, theirs.node.conflicts(&name).await.unwrap(), "{name:?}");
        scores.note(case, &result, &conflicts.1);
    }
    scores.check(least);
    ours.stop().await;
    theirs.stop().await;
}

// Which actor is greater is chance, so each corpus has two outcomes.

#[tokio::test(flavor = "multi_thread")]
async fn what_people_wrote_apart_is_merged_on_two_nodes_and_none_is_hidden() {
    meet(island(1).await, island(2).await, THEIRS_GREATER).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_it_is_where_the_other_actor_is_greater() {
    meet(island(2).await, island(1).await, OURS_GREATER).await;
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
