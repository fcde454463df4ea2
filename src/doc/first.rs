//! The first change of a document, made from its value alone.
//!
//! Most documents are put once and not looked at again for a while. Automerge makes a change by
//! making the document, which takes ten times as long as encoding the change. So here are its
//! operations as Automerge's own transaction writes them, down to their order: level by level, the
//! members of an object in byte order of their keys. `tests` hold the two to the same bytes.

use super::{Stamp, Value, place::scalar_of};
use automerge::{
    ActorId, Change, ExpandedChange, ObjType, ScalarValue,
    legacy::{ElementId, Key, ObjectId, Op, OpId, OpType, SortedVec},
};
use std::{
    collections::{BTreeMap, VecDeque},
    num::NonZeroU64,
};

/// The change that gives an untouched document its content; `None` if that takes no operation.
pub(super) fn first_change(
    map: &BTreeMap<String, Value>,
    actor: &ActorId,
    stamp: &Stamp,
) -> Option<Change> {
    let mut making = Making { actor, operations: Vec::new(), open: VecDeque::new() };
    making.map(&ObjectId::Root, map);
    while let Some((object, value)) = making.open.pop_front() {
        match value {
            Value::Map(map) => making.map(&object, map),
            Value::List(list) => making.elements(&object, list.iter().map(Content::Value)),
            Value::Text(text) => making.elements(&object, text.chars().map(Content::Letter)),
            _ => {}
        }
    }
    let operations = making.operations;
    (!operations.is_empty()).then(|| {
        Change::from(ExpandedChange {
            operations,
            actor_id: actor.clone(),
            hash: None,
            seq: 1,
            start_op: NonZeroU64::MIN,
            time: stamp.time_seconds,
            message: stamp.message.clone(),
            deps: Vec::new(),
            extra_bytes: Vec::new(),
            author: None,
        })
    })
}

/// A change in the making.
struct Making<'v> {
    actor: &'v ActorId,
    operations: Vec<Op>,
    /// Containers whose content is yet to be written, in the order in which they were made.
    open: VecDeque<(ObjectId, &'v Value)>,
}

/// What an element holds.
#[derive(Clone, Copy)]
enum Content<'v> {
    Value(&'v Value),
    Letter(char),
}

impl<'v> Making<'v> {
    fn map(&mut self, object: &ObjectId, map: &'v BTreeMap<String, Value>) {
        for (key, value) in map {
            self.write(object, Key::Map(key.as_str().into()), false, Content::Value(value));
        }
    }

    fn elements(&mut self, object: &ObjectId, contents: impl Iterator<Item = Content<'v>>) {
        let mut after = ElementId::Head;
        for content in contents {
            after = ElementId::Id(self.write(object, Key::Seq(after), true, content));
        }
    }

    /// Adds an operation, and gives its id.
    fn write(&mut self, object: &ObjectId, key: Key, insert: bool, content: Content<'v>) -> OpId {
        let id = OpId::new(self.operations.len() as u64 + 1, self.actor);
        let kind = match content {
            Content::Value(Value::Map(_)) => Some(ObjType::Map),
            Content::Value(Value::List(_)) => Some(ObjType::List),
            Content::Value(Value::Text(_)) => Some(ObjType::Text),
            Content::Value(_) | Content::Letter(_) => None,
        };
        let action = match (kind, content) {
            (Some(kind), Content::Value(value)) => {
                self.open.push_back((ObjectId::Id(id.clone()), value));
                OpType::Make(kind)
            }
            (_, Content::Value(value)) => {
                OpType::Put(scalar_of(value).unwrap_or(ScalarValue::Null))
            }
            (_, Content::Letter(letter)) => {
                OpType::Put(ScalarValue::from(&*letter.encode_utf8(&mut [0; 4])))
            }
        };
        let (obj, pred) = (object.clone(), SortedVec::new());
        self.operations.push(Op { action, obj, key, pred, insert });
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doc::standing::Standing;
    use crate::doc::{Edit, Limits, task::Task};
    use automerge::Automerge;

    /// The change as Automerge makes it.
    fn by_transaction(value: &Value, actor: &ActorId, stamp: &Stamp) -> Option<Change> {
        let mut automerge = Automerge::new().with_actor(actor.clone());
        let limits = Limits::default();
        let edit = Edit::Put(value.clone());
        // What is there to read has no need of a touch, should there be nothing to write.
        let task =
            Task { edit: &edit, base: &[], present: None, absent: false, stamp, limits: &limits };
        task.write(&mut automerge, Standing::default()).unwrap();
        automerge.get_changes(&[]).into_iter().next()
    }

    fn check(value: &Value, stamp: &Stamp) {
        let Value::Map(map) = value else { panic!("not an object") };
        let actor = ActorId::from([7; 16]);
        let ours = first_change(map, &actor, stamp);
        let theirs = by_transaction(value, &actor, stamp);
        let bytes = |change: &Option<Change>| change.as_ref().map(|it| it.raw_bytes().to_vec());
        assert_eq!(bytes(&ours), bytes(&theirs), "{value:?}");
        assert_eq!(ours.map(|it| it.hash()), theirs.map(|it| it.hash()));
    }

    fn text(random: &mut fastrand::Rng) -> String {
        const LETTERS: [&str; 8] =
            ["a", "b", "\u{0}", "é", "e\u{301}", "👩‍👩‍👧", "漢", "\u{1f1e9}\u{1f1ea}"];
        (0..random.usize(..5)).map(|_| *random.choice(LETTERS.iter()).unwrap()).collect()
    }

    fn value(random: &mut fastrand::Rng, depth: usize) -> Value {
        match random.u8(..if depth == 0 { 9 } else { 12 }) {
            0 => Value::Null,
            1 => Value::Bool(random.bool()),
            2 => Value::Int(random.i64(..) >> random.u32(..64)),
            3 => Value::Uint(random.u64(..) >> random.u32(..64)),
            4 => Value::Float(f64::from(random.i32(..)) / 8.0),
            5 => Value::Counter(random.i64(-5..5)),
            6 => Value::Timestamp(random.i64(..)),
            7 => Value::Bytes((0..random.usize(..4)).map(|_| random.u8(..)).collect()),
            8 => Value::String(text(random)),
            9 => Value::Text(text(random)),
            10 => Value::List((0..random.usize(..5)).map(|_| value(random, depth - 1)).collect()),
            _ => Value::Map(map(random, depth - 1)),
        }
    }

    fn map(random: &mut fastrand::Rng, depth: usize) -> BTreeMap<String, Value> {
        (0..random.usize(..6)).map(|_| (text(random), value(random, depth))).collect()
    }

    #[test]
    fn a_first_change_is_what_a_transaction_writes() {
        let mut random = fastrand::Rng::with_seed(1);
        for round in 0..3_000 {
            let message = [None, Some(String::new()), Some(text(&mut random))];
            let time_seconds = [0, -1, 1_763_856_000, i64::MAX, i64::MIN][round % 5];
            let stamp = Stamp { time_seconds, message: message[round % 3].clone() };
            check(&Value::Map(map(&mut random, 3)), &stamp);
        }
    }

    #[test]
    fn a_first_change_of_many_operations_is_what_a_transaction_writes() {
        let list = |length: i64| Value::List((0..length).map(Value::Int).collect());
        let large = BTreeMap::from([
            ("list".to_owned(), list(3_000)),
            ("lists".to_owned(), Value::List((0..40).map(list).collect())),
            ("text".to_owned(), Value::Text("low tide at noon. ".repeat(100))),
            ("string".to_owned(), Value::String("low tide at noon. ".repeat(100))),
        ]);
        check(&Value::Map(large), &Stamp::default());
    }
}
