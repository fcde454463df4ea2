//! What nodes have promised to those who wrote, and whether they kept it.

use serde_json::Value;
use std::{collections::BTreeMap, time::Duration};

/// A write that sets a field which no other write sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) document: String,
    pub(super) field: String,
}

/// A write that a node has acknowledged.
#[derive(Debug)]
struct Promise {
    node: usize,
    at: Duration,
    /// `None`: it has counted up.
    field: Option<Field>,
    /// The node, or its disk, has gone back to before it.
    lost: bool,
}

/// All that was promised, in order, and a hash of all that happened.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    promises: Vec<Promise>,
    /// Increments of which nobody knows.
    open: i64,
    /// What happened.
    log: blake3::Hasher,
    /// Tells it, too.
    pub(super) aloud: bool,
}

impl Oracle {
    /// Something happened.
    pub(super) fn tell(&mut self, at: Duration, what: &str) {
        if self.aloud {
            println!("{:>8.3} {what}", at.as_secs_f64());
        }
        self.log.update(&at.as_nanos().to_le_bytes());
        self.log.update(what.as_bytes());
        self.log.update(b"\n");
    }

    /// The hash of all that happened.
    pub(super) fn hash(&self) -> blake3::Hash {
        self.log.finalize()
    }

    /// A node begins to count up.
    pub(super) fn counts(&mut self) {
        self.open += 1;
    }

    /// A node has acknowledged that it counted up. One that gives an error may have, or not.
    pub(super) fn has_counted(&mut self, node: usize, at: Duration) {
        self.open -= 1;
        self.promises.push(Promise { node, at, field: None, lost: false });
    }

    /// A node has acknowledged a field.
    pub(super) fn has_written(&mut self, node: usize, at: Duration, field: Field) {
        self.promises.push(Promise { node, at, field: Some(field), lost: false });
    }

    /// A node has gone back to what it held at some time: what it alone had promised since may be lost.
    pub(super) fn goes_back(&mut self, node: usize, to: Duration) {
        let since = |promise: &&mut Promise| promise.node == node && to <= promise.at;
        self.promises.iter_mut().filter(since).for_each(|promise| promise.lost = true);
    }

    /// How many promises there are that have to be kept.
    pub(super) fn promises(&self) -> usize {
        self.promises.iter().filter(|promise| !promise.lost).count()
    }

    /// Which promises are broken by what all nodes hold: JSON by `collection/key`.
    pub(super) fn broken(&self, all: &BTreeMap<String, Value>) -> Vec<String> {
        let (mut broken, mut least, mut lost) = (Vec::new(), 0, 0);
        for promise in &self.promises {
            match &promise.field {
                None if promise.lost => lost += 1,
                None => least += 1,
                Some(_) if promise.lost => {}
                Some(Field { document, field }) => {
                    if all.get(document).is_none_or(|value| value[field].is_null()) {
                        broken.push(format!("{document} lacks {field} of node {}", promise.node));
                    }
                }
            }
        }
        let counted = all.get("kept/count").and_then(|count| count["n"].as_i64()).unwrap_or(-1);
        if !(least..=least + lost + self.open).contains(&counted) {
            broken.push(format!("{counted} counted: {least} promised, {lost} lost"));
        }
        broken
    }
}

#[test]
fn a_promise_that_is_not_kept_is_seen() {
    let mut oracle = Oracle::default();
    let second = Duration::from_secs(1);
    let field = |name: &str| Field { document: "kept/a".to_owned(), field: name.to_owned() };
    oracle.has_written(0, second, field("x"));
    oracle.has_written(1, second, field("y"));
    oracle.counts();
    oracle.has_counted(0, second);
    let all = |kept: Value, count: i64| {
        let count = serde_json::json!({ "n": count });
        BTreeMap::from([("kept/a".to_owned(), kept), ("kept/count".to_owned(), count)])
    };
    let [whole, part] =
        [r#"{"x":1,"y":1}"#, r#"{"x":1}"#].map(|json| json.parse::<Value>().unwrap());
    assert!(oracle.broken(&all(whole.clone(), 1)).is_empty());
    assert_eq!(oracle.broken(&all(part.clone(), 1)).len(), 1, "a field is lost");
    assert_eq!(oracle.broken(&all(whole.clone(), 0)).len(), 1, "an increment is lost");
    assert_eq!(oracle.broken(&all(whole.clone(), 2)).len(), 1, "one was made twice");
    assert_eq!(oracle.broken(&BTreeMap::new()).len(), 3, "everything is lost");
    oracle.counts();
    assert!(oracle.broken(&all(whole, 2)).is_empty(), "of one nobody knows");
    oracle.goes_back(1, second);
    assert!(oracle.broken(&all(part, 1)).is_empty(), "what only a lost disk held");
    assert_eq!(oracle.promises(), 2);
}
