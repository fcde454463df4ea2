//! Patches applied to a document: each operation becomes the operations of Automerge that say it.
//!
//! An insert stays an insert and an increment an increment, whatever happens beside them. What a
//! patch reads is the logical view, so it finds what a reader of the document finds.

use super::{
    Limits, Operation, Patch, Pointer, Refusal, RefusalKind, SpliceInsert, Value,
    place::{Shown, Slot},
    pointer::list_index,
    put::{Put, Unnamed},
    value::code_points,
    view::Item,
    write::Writing,
};
use automerge::{ObjId, Prop, ROOT, transaction::Transactable};

/// Applies a JSON Patch, one operation after the other.
pub(super) fn apply<T: Transactable>(
    write: &mut Writing<'_, T>,
    patch: &Patch,
    limits: &Limits,
) -> Result<(), Refusal> {
    let mut patching = Patching { write, limits };
    patch.0.iter().try_for_each(|operation| patching.step(operation))
}

struct Patching<'w, 'a, T> {
    write: &'w mut Writing<'a, T>,
    limits: &'w Limits,
}

/// A place that exists.
enum Place {
    Root,
    Member { maps: Vec<ObjId>, key: String, slot: Slot },
    Element { list: ObjId, item: Item, index: usize },
}

/// The container that holds a place, which itself may not exist.
enum Parent {
    Map(Vec<ObjId>),
    List(ObjId),
}

impl<T: Transactable> Patching<'_, '_, T> {
    fn step(&mut self, operation: &Operation) -> Result<(), Refusal> {
        match operation {
            Operation::Add { path, value } => self.add(path, value),
            Operation::Remove { path } => {
                let place = self.place(path)?;
                self.remove(path, place)
            }
            Operation::Replace { path, value } => {
                self.limits.check_depth(path.0.len(), path, value)?;
                let place = self.place(path)?;
                self.replace(place, value)
            }
            Operation::Move { from, path } => {
                let place = self.place(from)?;
                if from == path {
                    return Ok(());
                }
                let value = self.value(&place);
                self.remove(from, place)?;
                self.add_as_it_is(path, &value)
            }
            Operation::Copy { from, path } => {
                let place = self.place(from)?;
                let value = self.value(&place);
                self.add_as_it_is(path, &value)
            }
            Operation::Test { path, value } => {
                let holds = match self.place(path) {
                    Ok(place) => self.value(&place).reads_equal(value),
                    Err(_) => false,
                };
                let failed =
                    || refusal(RefusalKind::PatchTestFailed, path, "here is not what it names");
                holds.then_some(()).ok_or_else(failed)
            }
            Operation::Increment { path, by } => self.increment(path, *by),
            Operation::Splice { path, at, remove, insert } => {
                self.splice(path, *at, *remove, insert)
            }
        }
    }

    /// The place that a pointer leads to.
    fn place(&self, path: &Pointer) -> Result<Place, Refusal> {
        let Some((last, _)) = path.0.split_last() else { return Ok(Place::Root) };
        match self.parent(path)? {
            Parent::Map(maps) => {
                let slot = self.write.scope().slot(&maps, last);
                let slot = slot.ok_or_else(|| nothing_at(path))?;
                Ok(Place::Member { maps, key: last.clone(), slot })
            }
            Parent::List(list) => {
                let index = list_index(last).ok_or_else(|| nothing_at(path))?;
                let item = self.write.scope().item(&list, index);
                Ok(Place::Element { item: item.ok_or_else(|| nothing_at(path))?, list, index })
            }
        }
    }

    /// The container of the place that a pointer leads to.
    fn parent(&self, path: &Pointer) -> Result<Parent, Refusal> {
        let scope = self.write.scope();
        let mut parent = Parent::Map(vec![ROOT]);
        let steps = path.0.len().saturating_sub(1);
        for step in &path.0[..steps] {
            let slot = match &parent {
                Parent::Map(maps) => scope.slot(maps, step),
                Parent::List(list) => {
                    list_index(step).and_then(|index| Some(scope.item(list, index)?.slot))
                }
            };
            let slot = slot.ok_or_else(|| nothing_at(path))?;
            parent = match slot.shown() {
                Shown::Map(maps) => Parent::Map(maps),
                Shown::List(list) => Parent::List(list.clone()),
                Shown::Scalar(_) | Shown::Text(_) => return Err(nothing_at(path)),
            };
        }
        Ok(parent)
    }

    fn value(&self, place: &Place) -> Value {
        let scope = self.write.scope();
        match place {
            Place::Root => scope.map_value(&[ROOT]),
            Place::Member { slot, .. } => scope.value(slot),
            Place::Element { item, .. } => scope.value(&item.slot),
        }
    }

    fn add(&mut self, path: &Pointer, value: &Value) -> Result<(), Refusal> {
        self.limits.check_depth(path.0.len(), path, value)?;
        let Some(last) = path.0.last() else { return self.replace(Place::Root, value) };
        match self.parent(path)? {
            Parent::Map(maps) => match self.write.scope().slot(&maps, last) {
                Some(slot) => self.replace(Place::Member { maps, key: last.clone(), slot }, value),
                None => {
                    let keys: usize = maps.iter().map(|map| self.write.tx.length(map)).sum();
                    if self.limits.object_keys_max <= keys {
                        return Err(refusal(RefusalKind::TooLarge, path, "the object is full"));
                    }
                    let value = self.write.strings.fresh(value);
                    self.write.write_key(&maps, last, None, &value)
                }
            },
            Parent::List(list) => {
                let length = self.write.scope().length(&list);
                let index = if last == "-" { Some(length) } else { list_index(last) };
                let index = index.filter(|index| *index <= length);
                let index = index.ok_or_else(|| nothing_at(path))?;
                self.insert(path, &list, index, std::slice::from_ref(value))
            }
        }
    }

    /// Adds what the document held already: its strings are not new.
    fn add_as_it_is(&mut self, path: &Pointer, value: &Value) -> Result<(), Refusal> {
        let strings = std::mem::take(&mut self.write.strings);
        let added = self.add(path, value);
        self.write.strings = strings;
        added
    }

    /// Inserts elements before the one at `index` of a logical list.
    fn insert(
        &mut self,
        path: &Pointer,
        list: &ObjId,
        index: usize,
        values: &[Value],
    ) -> Result<(), Refusal> {
        if self.limits.list_length_max < self.write.scope().length(list) + values.len() {
            return Err(refusal(RefusalKind::TooLarge, path, "the list is full"));
        }
        let visible_before =
            if self.write.scope().is_plain(list) { index } else { self.make_room(list, index)? };
        self.write.insert_new_elements(list, visible_before, values)
    }

    /// Makes it possible to insert at an index of a list in which something stands: how many visible
    /// elements come before. Right after a standing element nothing can be inserted, since it has no
    /// visible neighbour that would hold the new one behind it.
    fn make_room(&mut self, list: &ObjId, index: usize) -> Result<usize, Refusal> {
        let mut items = self.write.scope().items(list);
        let before = index.checked_sub(1).and_then(|before| items.get(before));
        if before.is_some_and(|item| item.index.is_none()) {
            self.write.write_standing_anew(list)?;
            items = self.write.scope().items(list);
        }
        Ok(items[..index].iter().filter(|item| item.index.is_some()).count())
    }

    fn remove(&mut self, path: &Pointer, place: Place) -> Result<(), Refusal> {
        match place {
            Place::Root => {
                Err(refusal(RefusalKind::RootMustBeObject, path, "the root cannot be removed"))
            }
            Place::Member { key, slot, .. } => self.write.delete_key(&key, &slot),
            Place::Element { list, item, .. } => self.remove_item(&list, &item),
        }
    }

    fn remove_item(&mut self, list: &ObjId, item: &Item) -> Result<(), Refusal> {
        match item.index {
            Some(index) => self.write.delete_element(list, index, &item.slot),
            None => {
                self.write.settle(&item.slot);
                Ok(())
            }
        }
    }

    /// Another value at a place that exists: inside what is there where it fits, and settling the
    /// place where it is in conflict.
    fn replace(&mut self, place: Place, value: &Value) -> Result<(), Refusal> {
        match place {
            Place::Root => match value {
                Value::Map(map) => Put::new(self.write, None).map(&[ROOT], map, None, Unnamed::Go),
                _ => Err(Refusal::new(
                    RefusalKind::RootMustBeObject,
                    "a list or a plain value goes under a key of it",
                )),
            },
            Place::Member { maps, key, slot } => {
                Put::new(self.write, None).member_named(&maps, &key, &slot, value)
            }
            Place::Element { list, mut item, index } => {
                if item.index.is_none() {
                    self.write.write_standing_anew(&list)?;
                    item = self.write.scope().item(&list, index).unwrap_or(item);
                }
                let at = item.index.unwrap_or(index);
                Put::new(self.write, None).element_named(&list, at, &item.slot, value)
            }
        }
    }

    fn increment(&mut self, path: &Pointer, by: i64) -> Result<(), Refusal> {
        let wrong = |detail| refusal(RefusalKind::WrongType, path, detail);
        let missing = match self.parent(path)? {
            Parent::Map(maps) => {
                let key = path.0.last().map_or("", String::as_str);
                self.write.scope().slot(&maps, key).is_none()
            }
            Parent::List(_) => false,
        };
        if missing && !path.0.is_empty() {
            return self.add(path, &Value::Counter(by));
        }
        let place = self.place(path)?;
        let (slot, holder, at) = match &place {
            Place::Root => return Err(wrong("only a counter can be incremented")),
            Place::Member { key, slot, .. } => {
                (slot, slot.top().holder.clone(), Some(Prop::Map(key.clone())))
            }
            Place::Element { list, item, .. } => {
                (&item.slot, list.clone(), item.index.map(Prop::Seq))
            }
        };
        let Shown::Scalar(Value::Counter(sum)) = slot.shown() else {
            return Err(wrong("only a counter can be incremented"));
        };
        let after = sum.checked_add(by).ok_or_else(|| wrong("the counter would leave i64"))?;
        match at.filter(|_| slot.entries().len() == 1 && !slot.top().stands) {
            Some(at) if by != 0 => Ok(self.write.tx.increment(&holder, at, by)?),
            Some(_) => Ok(()),
            None => self.replace(place, &Value::Counter(after)),
        }
    }

    fn splice(
        &mut self,
        path: &Pointer,
        at: usize,
        remove: usize,
        insert: &SpliceInsert,
    ) -> Result<(), Refusal> {
        let past_the_end = || refusal(RefusalKind::BadPointer, path, "past the end");
        let place = self.place(path)?;
        let shown = match &place {
            Place::Root => None,
            Place::Member { slot, .. } => Some(slot.shown()),
            Place::Element { item, .. } => Some(item.slot.shown()),
        };
        match (shown, insert) {
            (Some(Shown::Text(text)), SpliceInsert::Text(insert)) => {
                let end = at.checked_add(remove).filter(|end| *end <= self.write.tx.length(text));
                end.ok_or_else(past_the_end)?;
                self.write.splice_text(text, at, remove, insert)
            }
            (Some(Shown::Scalar(Value::String(old))), SpliceInsert::Text(insert)) => {
                let mut new = old.clone();
                let range = code_points(&new, at, remove).ok_or_else(past_the_end)?;
                new.replace_range(range, insert);
                self.replace(place, &Value::String(new))
            }
            (Some(Shown::List(list)), SpliceInsert::List(insert)) => {
                for value in insert {
                    self.limits.check_depth(path.0.len() + 1, path, value)?;
                }
                let list = list.clone();
                let length = self.write.scope().length(&list);
                let end = at.checked_add(remove).filter(|end| *end <= length);
                for index in (at..end.ok_or_else(past_the_end)?).rev() {
                    if let Some(item) = self.write.scope().item(&list, index) {
                        self.remove_item(&list, &item)?;
                    }
                }
                self.insert(path, &list, at, insert)
            }
            _ => Err(refusal(
                RefusalKind::WrongType,
                path,
                "a string is spliced into a text or string, an array into a list",
            )),
        }
    }
}

fn refusal(kind: RefusalKind, path: &Pointer, detail: &str) -> Refusal {
    Refusal::at(kind, path.to_string(), detail)
}

fn nothing_at(path: &Pointer) -> Refusal {
    refusal(RefusalKind::BadPointer, path, "there is nothing at this place")
}
