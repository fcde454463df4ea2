//! A put: the least that turns what a version shows into a value, merged with what came since.
//!
//! At an older base a put looks at three values of a place: b, at the base; n, the new one; p, at
//! present. The rules are
//!
//! - R1 b = n: nothing. R2 p = n: nothing, so equal edits and retries are no change.
//! - R3 b and n are both maps (lists, texts, counters) and b is part of what shows now: go inside.
//! - R5 otherwise write n whole at the base; beside another map that shows now, only the part
//!   that neither b nor p has. What the base had not seen keeps standing.
//! - R6 in lists, between two elements that base, new and present all keep: nothing if the new run
//!   stands already, and inserted elements that stand there as one piece are not inserted again.
//!
//! Where the base is the present, p is b. (R4 and R7 of an earlier design are the standing rule's
//! work now.)

use super::{
    Refusal, Value, pairing,
    place::{Shown, Slot},
    put_list::{ListPut, PresentList},
    text,
    view::{Item, Scope},
    write::Writing,
};
use automerge::{Automerge, ObjId, Prop, ROOT, transaction::Transactable};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
};

/// A put into a transaction at the base.
#[derive(Debug)]
pub(super) struct Put<'w, 'a, T> {
    pub(super) write: &'w mut Writing<'a, T>,
    /// The document now, where the base is older.
    present: Option<Scope<'w, Automerge>>,
}

/// Whether members that a value does not name stay (a merge patch) or go (a put).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unnamed {
    Go,
    Stay,
}

/// What to do at one place.
pub(super) enum Step<'v> {
    Nothing,
    Inside(&'v Value),
    Write(Cow<'v, Value>),
    Remove,
}

impl<'w, 'a, T: Transactable> Put<'w, 'a, T> {
    pub(super) fn new(
        write: &'w mut Writing<'a, T>,
        present: Option<Scope<'w, Automerge>>,
    ) -> Self {
        Self { write, present }
    }

    /// Makes a logical map show `new`. `now`: its backing maps at present, where the base is older.
    pub(super) fn map(
        &mut self,
        maps: &[ObjId],
        new: &BTreeMap<String, Value>,
        now: Option<&[ObjId]>,
        unnamed: Unnamed,
    ) -> Result<(), Refusal> {
        let scope = self.write.scope();
        let old: BTreeMap<String, Slot> = match unnamed {
            Unnamed::Go => scope.slots(maps).into_iter().collect(),
            Unnamed::Stay => {
                new.keys().filter_map(|key| Some((key.clone(), scope.slot(maps, key)?))).collect()
            }
        };
        let live: Vec<ObjId> =
            maps.iter().filter(|map| now.is_none_or(|now| now.contains(map))).cloned().collect();
        let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for key in keys {
            let b = old.get(key);
            let p = self.present_slot(now, key);
            let stays = |n: &&Value| unnamed == Unnamed::Go || **n != Value::Null;
            let n = new.get(key).filter(stays);
            self.member(&live, key, b, n, p.as_ref(), unnamed)?;
        }
        Ok(())
    }

    /// Makes a document show `new` whose base is deleted: nothing is there, though Automerge still
    /// shows what was.
    pub(super) fn anew(&mut self, new: &BTreeMap<String, Value>) -> Result<(), Refusal> {
        let root = [ROOT];
        let old: BTreeMap<String, Slot> = self.write.scope().slots(&root).into_iter().collect();
        let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for key in keys {
            let b = old.get(key);
            let p = self.present_slot(self.present.map(|_| &root[..]), key);
            match (new.get(key), b) {
                (Some(n), b) => {
                    let back = |p: &&Slot| b.is_some_and(|b| b.is_visible_in(p));
                    let step = match p.as_ref().filter(back) {
                        // What was deleted is back meanwhile, and goes again: n is needed whole.
                        Some(p) if !same(self.present_value(p).as_ref(), Some(n)) => {
                            Step::Write(Cow::Borrowed(n))
                        }
                        _ => self.decide(None, Some(n), p.as_ref()),
                    };
                    match step {
                        Step::Write(n) => self.write_over(key, b, &n)?,
                        Step::Inside(n) => self.write_over(key, b, n)?,
                        Step::Nothing | Step::Remove => {}
                    }
                }
                (None, Some(b)) => {
                    let gone = |p: &Slot| !b.is_visible_in(p);
                    if self.present.is_none() || !p.as_ref().is_none_or(gone) {
                        self.write.delete_key(key, b)?;
                    }
                }
                (None, None) => {}
            }
        }
        self.write.settle_all();
        Ok(())
    }

    /// A new value at a root key of a deleted base. What Automerge still shows there goes first:
    /// a put of an equal value would be no operation.
    fn write_over(&mut self, key: &str, old: Option<&Slot>, new: &Value) -> Result<(), Refusal> {
        if let Some(old) = old {
            self.write.delete_key(key, old)?;
        }
        let new = self.write.strings.fresh(new);
        self.write.write_key(&[ROOT], key, None, &new)
    }

    /// Whether a value shows at a present place; of a map, all of its members.
    fn shows(&self, p: &Slot, n: &Value) -> bool {
        match (self.present_value(p), n) {
            (Some(Value::Map(present)), Value::Map(_)) => {
                changed_part(None, n, &present) == Value::Map(BTreeMap::new())
            }
            (present, n) => same(present.as_ref(), Some(n)),
        }
    }

    fn present_value(&self, p: &Slot) -> Option<Value> {
        self.present.map(|present| present.value(p))
    }

    fn present_slot(&self, now: Option<&[ObjId]>, key: &str) -> Option<Slot> {
        self.present?.slot(now?, key)
    }

    fn member(
        &mut self,
        live: &[ObjId],
        key: &str,
        b: Option<&Slot>,
        n: Option<&Value>,
        p: Option<&Slot>,
        unnamed: Unnamed,
    ) -> Result<(), Refusal> {
        let whole;
        let n = match (unnamed, n) {
            (Unnamed::Stay, Some(patch @ Value::Map(members))) => {
                if let Some(b) = b
                    && let Shown::Map(maps) = b.shown()
                    && self.present.is_none_or(|_| p.is_some_and(|p| b.is_shown_in(p)))
                {
                    let now = self.present.and(p).map(Slot::maps);
                    return self.map(&maps, members, now.as_deref(), unnamed);
                }
                whole = without_nulls(patch);
                Some(&whole)
            }
            (_, n) => n,
        };
        let step = match (unnamed, n) {
            (Unnamed::Stay, Some(n)) if let Some(b) = b.filter(|b| !is_settled(b)) => {
                if self.settled_since(b, n, p) {
                    Step::Nothing
                } else {
                    Step::Write(Cow::Borrowed(n))
                }
            }
            _ => self.decide(b, n, p),
        };
        match (step, b) {
            (Step::Nothing, _) | (Step::Remove, None) => Ok(()),
            (Step::Inside(n), Some(b)) => self.inside(b, Prop::Map(key.to_owned()), n, p),
            (Step::Inside(n), None) => {
                let n = self.write.strings.fresh(n);
                self.write.write_key(live, key, None, &n)
            }
            (Step::Write(n), b) => {
                let n = self.write.strings.retype(b, &n);
                self.write.write_key(live, key, b, &n)
            }
            (Step::Remove, Some(b)) => self.write.delete_key(key, b),
        }
    }

    /// Whether a conflict that the base saw was settled since, as `n` would settle it: what lost is
    /// gone where `n` is what won, else all of it is, and `n` shows.
    fn settled_since(&self, b: &Slot, n: &Value, p: Option<&Slot>) -> bool {
        if self.present.is_none() {
            return false;
        }
        let unchanged = self.write.scope().value(b).is_unchanged_by(n);
        match p {
            None => unchanged,
            Some(p) if unchanged => !b.losers().any(|loser| p.holds(loser)),
            Some(p) => !b.is_visible_in(p) && self.shows(p, n),
        }
    }

    /// Another value at a key that an operation names: it settles the place, also with the value
    /// that shows already.
    pub(super) fn member_named(
        &mut self,
        live: &[ObjId],
        key: &str,
        b: &Slot,
        n: &Value,
    ) -> Result<(), Refusal> {
        match self.named(b, n) {
            Step::Inside(n) => self.inside(b, Prop::Map(key.to_owned()), n, None),
            Step::Nothing | Step::Remove => Ok(()),
            Step::Write(n) => {
                let n = self.write.strings.retype(Some(b), &n);
                self.write.write_key(live, key, Some(b), &n)
            }
        }
    }

    /// Another value at a visible list element that an operation names.
    pub(super) fn element_named(
        &mut self,
        list: &ObjId,
        at: usize,
        b: &Slot,
        n: &Value,
    ) -> Result<(), Refusal> {
        match self.named(b, n) {
            Step::Inside(n) => self.inside(b, Prop::Seq(at), n, None),
            Step::Nothing | Step::Remove => Ok(()),
            Step::Write(n) => {
                self.write.settle(b);
                let n = self.write.strings.retype(Some(b), &n);
                self.write.replace_element(list, at, &n)
            }
        }
    }

    fn named<'v>(&self, b: &Slot, n: &'v Value) -> Step<'v> {
        // A null that is named is meant, also over a float that reads as null.
        if is_settled(b) && *n != Value::Null {
            self.decide(Some(b), Some(n), None)
        } else {
            Step::Write(Cow::Borrowed(n))
        }
    }

    /// The rules, all of them.
    pub(super) fn decide<'v>(
        &self,
        b: Option<&Slot>,
        n: Option<&'v Value>,
        p: Option<&Slot>,
    ) -> Step<'v> {
        let Some(present) = self.present else {
            return match (b, n) {
                (None, None) => Step::Nothing,
                (Some(_), None) => Step::Remove,
                (Some(b), Some(n)) if fits_inside(b, n) => Step::Inside(n),
                (Some(b), Some(n)) if is_scalar(b, n) => Step::Nothing,
                (_, Some(n)) => Step::Write(Cow::Borrowed(n)),
            };
        };
        let base_value = b.map(|b| self.write.scope().value(b));
        let present_value = p.map(|p| present.value(p));
        if same(base_value.as_ref(), n) || same(present_value.as_ref(), n) {
            return Step::Nothing;
        }
        match (b, n, p) {
            (Some(b), Some(n), Some(p)) if fits_inside(b, n) && b.is_shown_in(p) => Step::Inside(n),
            // What the base saw here may be gone already, by the same put or another's.
            (Some(b), None, Some(p)) if b.is_visible_in(p) => Step::Remove,
            (_, None, _) => Step::Nothing,
            // A map that only stands does not join a new one: beside it n is written whole.
            (_, Some(n @ Value::Map(_)), Some(p)) if !p.top().stands => match present_value {
                Some(Value::Map(present)) => {
                    // What is replaced here stands no more, so what it kept has to be written too.
                    let stood = b.is_some_and(|b| b.stands_in(p));
                    let unwritten = base_value.as_ref().filter(|_| !stood);
                    match changed_part(unwritten, n, &present) {
                        Value::Map(part) if part.is_empty() => Step::Nothing,
                        part => Step::Write(Cow::Owned(part)),
                    }
                }
                _ => Step::Write(Cow::Borrowed(n)),
            },
            (_, Some(n), _) => Step::Write(Cow::Borrowed(n)),
        }
    }

    /// Edits inside the container that shows at `b`, which is at `at` of its holder.
    pub(super) fn inside(
        &mut self,
        b: &Slot,
        at: Prop,
        n: &Value,
        p: Option<&Slot>,
    ) -> Result<(), Refusal> {
        match (b.shown(), n) {
            (Shown::Map(maps), Value::Map(new)) => {
                let now = self.present.and(p).map(Slot::maps);
                self.map(&maps, new, now.as_deref(), Unnamed::Go)
            }
            (Shown::List(list), Value::List(new)) => self.list(list, new),
            (Shown::Text(text), Value::String(new) | Value::Text(new)) => {
                text::put(self.write, text, new, self.present.map(Scope::doc))
            }
            (Shown::Scalar(Value::Counter(old)), Value::Int(new) | Value::Counter(new)) => {
                let by = new.wrapping_sub(*old);
                if by != 0 {
                    self.write.tx.increment(&b.top().holder, at, by)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Makes a logical list show `new`.
    fn list(&mut self, list: &ObjId, new: &[Value]) -> Result<(), Refusal> {
        let items = self.write.scope().items(list);
        let old: Vec<Value> =
            items.iter().map(|item| self.write.scope().value(&item.slot)).collect();
        if same_run(&old, new) {
            return Ok(());
        }
        let wanted = self.standing_elements(&items, &old, new)?;
        let (base, old): (Vec<Slot>, Vec<Value>) = items
            .into_iter()
            .zip(old)
            .filter(|(item, _)| item.index.is_some())
            .map(|(item, value)| (item.slot, value))
            .unzip();
        if same_run(&old, &wanted) {
            return Ok(());
        }
        let present = self.present.map(|scope| PresentList::read(scope, list, &base));
        ListPut { list, base, old, new: &wanted, present }.run(self)
    }

    /// Deals with the elements of a list that stand without being visible, and gives what the
    /// visible ones have to show. Standing elements stay where they are, edited in place, if the
    /// wanted order can be had; else they are all settled, and written anew with the rest.
    fn standing_elements<'n>(
        &mut self,
        items: &[Item],
        old: &[Value],
        new: &'n [Value],
    ) -> Result<Cow<'n, [Value]>, Refusal> {
        if items.iter().all(|item| item.index.is_some()) {
            return Ok(Cow::Borrowed(new));
        }
        let pairs = pairing::pairs(old, new);
        let stands = |index: usize| items[index].index.is_none();
        let Some((edits, visible)) = in_place(&pairs, items, old, new) else {
            for item in items.iter().filter(|item| item.index.is_none()) {
                self.write.settle(&item.slot);
            }
            return Ok(Cow::Borrowed(new));
        };
        for index in (0..items.len()).filter(|index| stands(*index)) {
            if pairs.binary_search_by_key(&index, |(paired, _)| *paired).is_err() {
                self.write.settle(&items[index].slot);
            }
        }
        for (index, value) in edits {
            let present = self.present.take();
            let slot = &items[index].slot;
            let edited = self.inside(slot, Prop::Seq(0), value, None);
            self.present = present;
            edited?;
        }
        Ok(Cow::Owned(visible))
    }
}

/// The edits of standing elements and the values of all others, if every standing element can
/// stay in its place; `None` if a new element would have to come right after a standing one.
type InPlace<'n> = (Vec<(usize, &'n Value)>, Vec<Value>);

fn in_place<'n>(
    pairs: &[(usize, usize)],
    items: &[Item],
    old: &[Value],
    new: &'n [Value],
) -> Option<InPlace<'n>> {
    let old_of: HashMap<usize, usize> = pairs.iter().map(|&(old, new)| (new, old)).collect();
    let (mut edits, mut visible) = (Vec::new(), Vec::new());
    let mut after_standing = false;
    for (index, value) in new.iter().enumerate() {
        match old_of.get(&index) {
            Some(&at) if items[at].index.is_none() => {
                after_standing = true;
                if !old[at].is_unchanged_by(value) {
                    let slot = &items[at].slot;
                    let object = !matches!(slot.shown(), Shown::Scalar(_));
                    if !(object && fits_inside(slot, value)) {
                        return None;
                    }
                    edits.push((at, value));
                }
            }
            Some(_) => {
                after_standing = false;
                visible.push(value.clone());
            }
            None if after_standing => return None,
            None => visible.push(value.clone()),
        }
    }
    Some((edits, visible))
}

/// Whether one value stands at a place, or maps that are one.
fn is_settled(b: &Slot) -> bool {
    b.entries().len() == 1 || b.map_entries().count() == b.entries().len()
}

/// Whether `n` can be had by an edit inside the container that shows at `b`.
fn fits_inside(b: &Slot, n: &Value) -> bool {
    match (b.shown(), n) {
        (Shown::Map(_), Value::Map(_))
        | (Shown::List(_), Value::List(_))
        | (Shown::Text(_), Value::String(_) | Value::Text(_)) => true,
        (Shown::Scalar(Value::Counter(_)), Value::Int(_) | Value::Counter(_)) => {
            // An increment at a place in conflict would take the other values away unsettled,
            // and a counter that stands cannot be incremented.
            b.entries().len() == 1 && !b.top().stands
        }
        _ => false,
    }
}

fn is_scalar(b: &Slot, n: &Value) -> bool {
    matches!(b.shown(), Shown::Scalar(value) if value.is_unchanged_by(n))
}

fn same(a: Option<&Value>, b: Option<&Value>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a.is_unchanged_by(b),
        (None, None) => true,
        _ => false,
    }
}

pub(super) fn same_run(a: &[Value], b: &[Value]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.is_unchanged_by(b))
}

/// The part of a new map that the put changed and that does not stand already (R5).
fn changed_part(b: Option<&Value>, n: &Value, p: &BTreeMap<String, Value>) -> Value {
    let Value::Map(n) = n else { return n.clone() };
    let none = BTreeMap::new();
    let b = match b {
        Some(Value::Map(b)) => b,
        _ => &none,
    };
    let changed = |(key, value): &(&String, &Value)| {
        !same(b.get(*key), Some(value)) && !same(p.get(*key), Some(value))
    };
    let part = |(key, value): (&String, &Value)| match (value, p.get(key)) {
        (Value::Map(_), Some(Value::Map(p))) => match changed_part(b.get(key), value, p) {
            // A map shows there already, with all that this one would bring.
            Value::Map(part) if part.is_empty() => None,
            part => Some((key.clone(), part)),
        },
        _ => Some((key.clone(), value.clone())),
    };
    Value::Map(n.iter().filter(changed).filter_map(part).collect())
}

/// A merge patch as the value that it makes of nothing (RFC 7396).
pub(super) fn without_nulls(patch: &Value) -> Value {
    match patch {
        Value::Map(members) => Value::Map(
            members
                .iter()
                .filter(|(_, value)| **value != Value::Null)
                .map(|(key, value)| (key.clone(), without_nulls(value)))
                .collect(),
        ),
        value => value.clone(),
    }
}
