//! Changes that type into a text, written again instead of applied.
//!
//! Automerge applies a change of another's by going over all of the list that it touches: a letter in a
//! text of 60,000 changes takes 11 ms. A transaction finds its place by an index, and takes 0.05. So the
//! commonest change of all, letters that come and go in one text at the present version, is written by a
//! transaction under its own actor. If that makes the very same bytes, it is the change.

use automerge::{
    Automerge, Change, Cursor, ObjId, ObjType, ReadDoc, ScalarValue,
    legacy::{ElementId, Key, ObjectId, OpType},
    transaction::{CommitOptions, Transactable},
};

/// Changes of more operations are applied: to look for the place of each would take longer.
const OPERATIONS_MAX: usize = 256;

/// What a change does to a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Letters {
    /// The text, as operations name it.
    text: String,
    steps: Vec<Step>,
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Letters behind that one; `None`: at the start.
    Insert { behind: Option<String>, letters: String },
    /// Takes a letter out.
    Delete { letter: String },
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The change is part of the document.
    Written,
    /// It is not, and nothing else is.
    Unwritten,
    /// Another change was made, which is to be undone.
    Astray,
}

impl Letters {
    /// What a change does, if it is letters of one text and nothing else, in the encoding of this
    /// Automerge.
    pub(super) fn of(change: &Change) -> Option<Self> {
        if OPERATIONS_MAX < change.len() || change.message().is_some_and(str::is_empty) {
            return None;
        }
        let decoded = change.decode();
        let actor = decoded.actor_id.to_hex_string();
        let mut letters = Self { text: String::new(), steps: Vec::new() };
        // The letter that was inserted last.
        let mut last = None;
        for (number, op) in (decoded.start_op.get()..).zip(&decoded.operations) {
            let (ObjectId::Id(text), Key::Seq(element)) = (&op.obj, &op.key) else { return None };
            let text = text.to_string();
            if letters.steps.is_empty() {
                letters.text = text;
            } else if letters.text != text {
                return None;
            }
            match (&op.action, op.insert, element) {
                (OpType::Put(ScalarValue::Str(letter)), true, element)
                    if letter.chars().count() == 1 && op.pred.is_empty() =>
                {
                    let behind = match element {
                        ElementId::Head => None,
                        ElementId::Id(id) => Some(id.to_string()),
                    };
                    letters.insert(behind, letter, last.as_deref());
                    last = Some(format!("{number}@{actor}"));
                }
                (OpType::Delete, false, ElementId::Id(id)) if op.pred.len() == 1 => {
                    letters.steps.push(Step::Delete { letter: id.to_string() });
                    last = None;
                }
                _ => return None,
            }
        }
        let is_ours = !letters.steps.is_empty() && Change::from(decoded).hash() == change.hash();
        is_ours.then_some(letters)
    }

    /// One more letter, behind the one before if that is where it stands.
    fn insert(&mut self, behind: Option<String>, letter: &str, last: Option<&str>) {
        if behind.is_some()
            && behind.as_deref() == last
            && let Some(Step::Insert { letters, .. }) = self.steps.last_mut()
        {
            letters.push_str(letter);
        } else {
            self.steps.push(Step::Insert { behind, letters: letter.to_owned() });
        }
    }

    /// Writes them. `change` is the one that they are of, and the next to come: it rests on all that is
    /// here.
    pub(super) fn write(&self, automerge: &mut Automerge, change: &Change) -> Outcome {
        let Ok((text, ObjType::Text)) = automerge.import(&self.text) else {
            return Outcome::Unwritten;
        };
        automerge.set_actor(change.actor_id().clone());
        let mut tx = automerge.transaction();
        if self.steps(&mut tx, &text).is_none() || tx.pending_ops() != change.len() {
            tx.rollback();
            return Outcome::Unwritten;
        }
        let mut options = CommitOptions::default().with_time(change.timestamp());
        if let Some(message) = change.message() {
            options.set_message(message);
        }
        let (made, _) = tx.commit_with(options);
        let made = made.and_then(|hash| automerge.get_change_by_hash(&hash));
        if made.is_some_and(|made| made.raw_bytes() == change.raw_bytes()) {
            Outcome::Written
        } else {
            Outcome::Astray
        }
    }

    /// `None`: it is not to be written so.
    fn steps<T: Transactable>(&self, tx: &mut T, text: &ObjId) -> Option<()> {
        for step in &self.steps {
            match step {
                Step::Insert { behind, letters } => {
                    let index = match behind {
                        None => 0,
                        Some(letter) => place(tx, text, letter)? + 1,
                    };
                    tx.splice_text(text, index, 0, letters).ok()?;
                }
                Step::Delete { letter } => {
                    let index = place(tx, text, letter)?;
                    tx.splice_text(text, index, 1, "").ok()?;
                }
            }
        }
        Some(())
    }
}

/// The index of a letter; `None` for one that does not show.
fn place<R: ReadDoc>(doc: &R, text: &ObjId, letter: &str) -> Option<usize> {
    let cursor = Cursor::try_from(letter).ok()?;
    let index = doc.get_cursor_position(text, &cursor, None).ok()?;
    (doc.get_cursor(text, index, None).ok()? == cursor).then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doc::{Actor, Document, Form, Limits, Room, Sender};
    use automerge::{
        ActorId, AutoCommit, ROOT,
        legacy::{Op, OpId},
        marks::{ExpandMark, Mark},
    };
    use std::num::NonZeroU64;

    const ROOM: Room = Room { changes: 0, bytes: 0 };

    /// A text by several hands, and the object that it is.
    fn begun(random: &mut fastrand::Rng) -> (AutoCommit, ObjId) {
        let mut author = AutoCommit::new().with_actor(ActorId::from([1; 16]));
        let text = author.put_object(ROOT, "text", ObjType::Text).unwrap();
        author.splice_text(&text, 0, 0, &"low tide at noon ".repeat(random.usize(1..60))).unwrap();
        for n in 0..random.u8(..3) {
            let mut other = author.fork().with_actor(ActorId::from([9 + n; 16]));
            type_into(&mut other, &text, random, false);
            type_into(&mut author, &text, random, false);
            author.merge(&mut other).unwrap();
        }
        (author, text)
    }

    /// One change.
    fn type_into(doc: &mut AutoCommit, text: &ObjId, random: &mut fastrand::Rng, marks: bool) {
        for _ in 0..=random.usize(..3) {
            let length = doc.length(text);
            let at = random.usize(..=length);
            let (remove, letters) = match random.u8(..4) {
                0 => (random.usize(..=(length - at).min(3)), ""),
                1 => (random.usize(..=(length - at).min(3)), "é😀"),
                _ => (0, ["a", "bc", "d e", "👩‍🚀"][random.usize(..4)]),
            };
            doc.splice_text(text, at, isize::try_from(remove).unwrap(), letters).unwrap();
            if marks && random.u8(..4) == 0 && at < doc.length(text) {
                let expand = [ExpandMark::Both, ExpandMark::None][random.usize(..2)];
                let mark = Mark::new("strong".to_owned(), random.bool(), at, doc.length(text));
                doc.mark(text, mark, expand).unwrap();
            }
        }
        doc.commit();
    }

    /// One document as members and as strangers write it.
    fn both(saved: &[u8]) -> [(Document, Sender); 2] {
        [Sender::Member, Sender::Stranger]
            .map(|sender| (Document::recover([saved], Actor([5; 16])).unwrap(), sender))
    }

    /// What comes of a change by the gate, and by Automerge alone, has to be the same. Gives what comes of
    /// writing it again.
    fn check(documents: &mut [(Document, Sender); 2], change: &Change) -> Option<Outcome> {
        let mut applied = documents[0].0.automerge().clone();
        let outcome =
            Letters::of(change).map(|letters| letters.write(&mut applied.clone(), change));
        applied.apply_changes([change.clone()]).unwrap();
        for (document, sender) in documents {
            document.admit(change.raw_bytes(), *sender, ROOM, &Limits::default()).unwrap();
            assert_eq!(document.save(), applied.save_nocompress(), "{change:?}");
            let shown = Document::recover([&document.save()[..]], Actor([5; 16])).unwrap();
            for form in [Form::Plain, Form::Typed] {
                assert_eq!(document.render(form, None), shown.render(form, None));
            }
        }
        outcome
    }

    #[test]
    fn letters_that_are_written_again_are_what_they_would_be_applied() {
        for marks in [false, true] {
            let (mut written, mut all) = (0, 0);
            for seed in 0..40 {
                let mut random = fastrand::Rng::with_seed(seed);
                let (mut author, text) = begun(&mut random);
                let mut documents = both(&author.save());
                for n in 0..8 {
                    author.set_actor(ActorId::from([20 + random.u8(..3); 16]));
                    let before = author.get_heads();
                    type_into(&mut author, &text, &mut random, marks && n % 3 == 0);
                    for change in author.get_changes(&before) {
                        all += 1;
                        let outcome = check(&mut documents, &change);
                        written += u32::from(outcome == Some(Outcome::Written));
                    }
                }
            }
            // All of them where there are no marks: those that only mark are not letters.
            assert!(if marks { all < 2 * written } else { all == written }, "{written} of {all}");
        }
    }

    /// A change by somebody who writes operations by hand.
    fn by_hand(author: &mut AutoCommit, ops: Vec<Op>) -> Change {
        let last = author.get_changes_meta(&[]).iter().map(|meta| meta.max_op).max().unwrap();
        Change::from(automerge::ExpandedChange {
            operations: ops,
            actor_id: ActorId::from([77; 16]),
            hash: None,
            seq: 1,
            start_op: NonZeroU64::new(last + 1).unwrap(),
            time: 0,
            message: None,
            deps: author.get_heads(),
            extra_bytes: Vec::new(),
            author: None,
        })
    }

    #[test]
    fn what_no_transaction_writes_is_applied() {
        let mut author = AutoCommit::new().with_actor(ActorId::from([1; 16]));
        let text = author.put_object(ROOT, "text", ObjType::Text).unwrap();
        author.splice_text(&text, 0, 0, "abc").unwrap();
        author.splice_text(&text, 1, 1, "").unwrap();
        author.commit();
        let whole = Mark::new("strong".to_owned(), true, 0, 1);
        author.mark(&text, whole, ExpandMark::None).unwrap();
        author.commit();
        let id = |counter| OpId(counter, ActorId::from([1; 16]));
        let insert = |behind: ElementId, letter: &str| Op {
            action: OpType::Put(ScalarValue::Str(letter.into())),
            obj: ObjectId::Id(id(1)),
            key: Key::Seq(behind),
            pred: Vec::<OpId>::new().into(),
            insert: true,
        };
        let delete = |letter: u64, pred: u64| Op {
            action: OpType::Delete,
            obj: ObjectId::Id(id(1)),
            key: Key::Seq(ElementId::Id(id(letter))),
            pred: vec![id(pred)].into(),
            insert: false,
        };
        let behind = |counter| ElementId::Id(id(counter));
        let (written, unwritten) = (Some(Outcome::Written), Some(Outcome::Unwritten));
        for (ops, outcome) in [
            // Behind a letter that is gone, behind one that a mark follows, of two code points, twice gone.
            (vec![insert(behind(3), "x")], unwritten),
            (vec![insert(behind(2), "x")], Some(Outcome::Astray)),
            (vec![insert(behind(2), "x"), insert(behind(2), "y")], Some(Outcome::Astray)),
            (vec![insert(behind(4), "xy")], None),
            (vec![delete(3, 3)], unwritten),
            (vec![delete(4, 4), insert(behind(4), "x")], unwritten),
            (vec![insert(ElementId::Head, "x")], written),
        ] {
            let change = by_hand(&mut author.clone(), ops);
            let mut documents = both(&author.save());
            assert_eq!(check(&mut documents, &change), outcome, "{change:?}");
            // Whatever it was, what comes next is taken, too.
            let mut next = author.fork().with_actor(ActorId::from([78; 16]));
            next.apply_changes([change]).unwrap();
            let before = next.get_heads();
            next.splice_text(&text, 0, 0, "z").unwrap();
            next.commit();
            check(&mut documents, &next.get_changes(&before)[0]);
        }
    }
}
