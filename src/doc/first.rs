//! The first change of a document, made from its value alone, and its value, read from that change alone.
//!
//! Most documents are put once and not looked at again for a while. Automerge makes a change by
//! making the document, which takes ten times as long as encoding the change. So here are its
//! operations as Automerge's own transaction writes them, down to their order: level by level, the
//! members of an object in byte order of their keys. `tests` hold the two to the same bytes.
//!
//! Likewise a change that another node made so need not be applied to be known: if it is, to the byte, what
//! is made here from the value that it seems to write, it writes that value.

use super::{
    Stamp, Value,
    place::{scalar_of, value_of},
};
use automerge::{
    ActorId, Change, ExpandedChange, ObjType, ScalarValue,
    legacy::{ElementId, Key, ObjectId, Op, OpId, OpType, SortedVec},
};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
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

/// The object that a change gives to an untouched document, of a change that is just the one of
/// [`first_change`]; `None` for all others, and for containers deeper than `depth_max`.
pub(super) fn first_value(change: &Change, depth_max: usize) -> Option<Value> {
    let value = read(change, depth_max)?;
    let Value::Map(map) = &value else { return None };
    let message = change.message().map(str::to_owned);
    let stamp = Stamp { time_seconds: change.timestamp(), message };
    let made = first_change(map, change.actor_id(), &stamp)?;
    (made.raw_bytes() == change.raw_bytes()).then_some(value)
}

/// What a change seems to write.
fn read(change: &Change, depth_max: usize) -> Option<Value> {
    let actor = change.actor_id();
    let mut read = vec![Read { kind: ObjType::Map, depth: 1, items: Vec::new() }];
    let mut places = HashMap::from([(ObjectId::Root, 0)]);
    for (counter, op) in (1..).zip(change.decode().operations) {
        let place = *places.get(&op.obj)?;
        let item = match op.action {
            OpType::Make(kind) => {
                let depth = read[place].depth + 1;
                if depth_max < depth {
                    return None;
                }
                places.insert(ObjectId::Id(OpId::new(counter, actor)), read.len());
                read.push(Read { kind, depth, items: Vec::new() });
                Item::Container(read.len() - 1)
            }
            OpType::Put(scalar) => Item::Scalar(value_of(&scalar)),
            _ => return None,
        };
        read[place].items.push((op.key, item));
    }
    // What is in a container was made behind it.
    let mut values: Vec<Option<Value>> = read.iter().map(|_| None).collect();
    for (place, container) in read.into_iter().enumerate().rev() {
        values[place] = Some(container.value(&mut values)?);
    }
    values.first_mut()?.take()
}

/// A container, as far as it is read.
struct Read {
    kind: ObjType,
    depth: usize,
    items: Vec<(Key, Item)>,
}

enum Item {
    Scalar(Value),
    Container(usize),
}

impl Read {
    /// Its value. `values`: those of the containers in it.
    fn value(self, values: &mut [Option<Value>]) -> Option<Value> {
        let items = self.items.into_iter().map(|(key, item)| match item {
            Item::Scalar(value) => Some((key, value)),
            Item::Container(place) => Some((key, values.get_mut(place)?.take()?)),
        });
        match self.kind {
            ObjType::Map => {
                let member = |item: Option<(Key, Value)>| match item? {
                    (Key::Map(key), value) => Some((key.to_string(), value)),
                    (Key::Seq(_), _) => None,
                };
                items.map(member).collect::<Option<_>>().map(Value::Map)
            }
            ObjType::List => {
                let element = |item: Option<(Key, Value)>| item.map(|(_, value)| value);
                items.map(element).collect::<Option<_>>().map(Value::List)
            }
            ObjType::Text => {
                let letter = |item: Option<(Key, Value)>| match item? {
                    (_, Value::String(letter)) => Some(letter),
                    _ => None,
                };
                items.map(letter).collect::<Option<_>>().map(Value::Text)
            }
            ObjType::Table => None,
        }
    }
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
    use crate::doc::{
        Actor, Admitted, Document, Edit, Form, Limits, NewStrings, Room, Sender, life,
        standing::Standing, task::Task,
    };
    use automerge::{
        AutoCommit, Automerge, ROOT,
        marks::{ExpandMark, Mark},
        transaction::Transactable,
    };

    /// The change as Automerge makes it.
    fn by_transaction(value: &Value, actor: &ActorId, stamp: &Stamp) -> Option<Change> {
        let mut automerge = Automerge::new().with_actor(actor.clone());
        let limits = Limits::default();
        let edit = Edit::Put(value.clone());
        // What is there to read has no need of a touch, should there be nothing to write.
        let task = Task {
            edit: &edit,
            base: &[],
            present: None,
            absent: false,
            stamp,
            strings: NewStrings::Values,
            limits: &limits,
        };
        task.write(&mut automerge, Standing::default()).unwrap();
        automerge.get_changes(&[]).into_iter().next()
    }

    /// Without the difference of NaNs.
    fn printed(value: &Value) -> String {
        format!("{value:?}")
    }

    fn check(value: &Value, stamp: &Stamp) {
        let Value::Map(map) = value else { panic!("not an object") };
        let actor = ActorId::from([7; 16]);
        let ours = first_change(map, &actor, stamp);
        let theirs = by_transaction(value, &actor, stamp);
        let bytes = |change: &Option<Change>| change.as_ref().map(|it| it.raw_bytes().to_vec());
        assert_eq!(bytes(&ours), bytes(&theirs), "{value:?}");
        let hash = |change: &Option<Change>| change.as_ref().map(Change::hash);
        assert_eq!(hash(&ours), hash(&theirs));
        if let Some(change) = ours {
            let read = first_value(&change, 100);
            assert_eq!(read.as_ref().map(printed), Some(printed(value)));
            let depth = value.depth();
            assert!(depth < 2 || first_value(&change, depth - 1).is_none());
        }
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

    /// What the gate makes of a change that begins a document.
    fn admitted(change: &Change, sender: Sender) -> (Document, Admitted) {
        let mut document = Document::new(Actor([9; 16]));
        let room = Room { changes: 0, bytes: 0 };
        let admitted =
            document.admit(change.raw_bytes(), sender, room, &Limits::default()).unwrap();
        (document, admitted)
    }

    #[test]
    fn what_is_read_of_a_first_change_is_what_it_does() {
        let mut random = fastrand::Rng::with_seed(2);
        let limits = Limits::default();
        let mut read = 0;
        for round in 0..1_000 {
            let actor = ActorId::from([[7; 16], [9; 16]][round % 2]);
            let Some(change) = first_change(&map(&mut random, 3), &actor, &Stamp::default()) else {
                continue;
            };
            let next = Edit::Put(Value::Map(map(&mut random, 3)));
            let end = |sender| {
                let (mut document, admitted) = admitted(&change, sender);
                let filled = document.is_filled();
                let shown = [Form::Plain, Form::Typed].map(|form| document.render(form, None));
                let stored = (document.save(), document.standing());
                document.edit(&next, None, &Stamp::default(), &limits).unwrap();
                (filled, (admitted, shown, stored, document.save()))
            };
            let [(by_member, one), (by_stranger, other)] =
                [Sender::Member, Sender::Stranger].map(end);
            assert_eq!(one, other);
            assert!(!by_stranger);
            read += u32::from(by_member);
        }
        assert!(600 < read, "{read}");
    }

    #[test]
    fn a_change_that_is_another_one_is_not_read() {
        let edited = |edit: &dyn Fn(&mut AutoCommit)| {
            let mut automerge = AutoCommit::new().with_actor(ActorId::from([7; 16]));
            edit(&mut automerge);
            automerge.get_changes(&[]).remove(0)
        };
        let said = |message: &str| {
            let stamp = Stamp { time_seconds: 0, message: Some(message.to_owned()) };
            let map = BTreeMap::from([("a".to_owned(), Value::Int(1))]);
            first_change(&map, &ActorId::from([7; 16]), &stamp).unwrap()
        };
        let is_read = |change: &Change| admitted(change, Sender::Member).0.is_filled();
        assert!(is_read(&said("hello")));
        assert!(is_read(&edited(&|automerge| {
            automerge.put(ROOT, "a", 1).unwrap();
            automerge.put(ROOT, "b", 2).unwrap();
        })));
        for other in [
            said(life::DELETE),
            edited(&|automerge| {
                automerge.put(ROOT, "b", 2).unwrap();
                automerge.put(ROOT, "a", 1).unwrap();
            }),
            edited(&|automerge| {
                automerge.put(ROOT, "a", 1).unwrap();
                automerge.put(ROOT, "a", 2).unwrap();
            }),
            edited(&|automerge| {
                automerge.put(ROOT, "a", ScalarValue::counter(1)).unwrap();
                automerge.increment(ROOT, "a", 2).unwrap();
            }),
            edited(&|automerge| {
                let list = automerge.put_object(ROOT, "a", ObjType::List).unwrap();
                automerge.insert(&list, 0, 1).unwrap();
                automerge.insert(&list, 0, 2).unwrap();
            }),
            edited(&|automerge| {
                let text = automerge.put_object(ROOT, "a", ObjType::Text).unwrap();
                automerge.splice_text(&text, 0, 0, "ab").unwrap();
                let whole = ExpandMark::Both;
                let mark = Mark::new("bold".to_owned(), true, 0, 2);
                automerge.mark(&text, mark, whole).unwrap();
            }),
            edited(&|automerge| {
                let unknown = ScalarValue::Unknown { type_code: 13, bytes: vec![1] };
                automerge.put(ROOT, "a", unknown).unwrap();
            }),
        ] {
            assert!(!is_read(&other), "{other:?}");
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
