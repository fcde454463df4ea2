//! Writing into a transaction: values at places of logical maps and lists.
//!
//! A new value at a key goes into the backing map that holds the *shown* operation; in every other
//! backing map that holds the key it is deleted. Nothing is copied between backing maps. Whatever
//! stands at a place that is replaced or removed is remembered as settled.

use super::{
    Limits, NewStrings, Refusal, RefusalKind, Value,
    pieces::STEPS_MAX,
    place::{Entry, Slot, operation_name, scalar_of},
    standing::{Stander, Standing},
    view::{Item, Scope},
};
use automerge::{ObjId, Prop, ROOT, ScalarValue, hydrate, transaction::Transactable};
use std::collections::{BTreeMap, HashMap};

/// A transaction, and what stands at the version that it reads.
#[derive(Debug)]
pub(super) struct Writing<'a, T> {
    pub(super) tx: &'a mut T,
    /// What strings become that are new.
    pub(super) strings: NewStrings,
    standing: Standing,
    /// What stands at present, where the transaction's base is older.
    standing_now: Option<&'a Standing>,
    settled: Vec<String>,
    /// Most operations of the transaction.
    operations_max: usize,
    /// What may still be written, in bytes of strings and bytes.
    bytes_left: usize,
    /// Elements that may still be looked at; `None`: any number.
    steps: Option<Steps>,
    exhausted: bool,
    /// How many list elements were deleted, which Automerge goes on walking over.
    deleted: usize,
    /// How many of those may still be walked over.
    walk_left: usize,
    /// Steps that may still be taken to compare texts.
    pub(super) comparing_left: usize,
}

/// How many elements an edit at an older base may look at in place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Steps {
    left: usize,
    /// For one operation at least: what is deleted in its list or text, or came later, is looked at as well.
    least: usize,
}

impl Steps {
    /// Those in a document of so many operations.
    pub(super) fn of(operations: u64, limits: &Limits) -> Self {
        let operations = usize::try_from(operations).unwrap_or(usize::MAX);
        let begun = (operations >> 16).saturating_add(1);
        Self { left: limits.seek_steps_max.saturating_mul(begun), least: operations / SEEK_PART }
    }
}

/// Which part of a document an operation at an older base looks at, at least, as far as is known.
const SEEK_PART: usize = 16;

impl<'a, T: Transactable> Writing<'a, T> {
    pub(super) fn new(
        tx: &'a mut T,
        strings: NewStrings,
        standing: Standing,
        standing_now: Option<&'a Standing>,
        limits: &Limits,
        steps: Option<Steps>,
    ) -> Self {
        Self {
            tx,
            strings,
            standing,
            standing_now,
            settled: Vec::new(),
            operations_max: limits.change_operations_max,
            bytes_left: limits.document_bytes_max,
            steps,
            exhausted: false,
            deleted: 0,
            walk_left: limits.walked_elements_max,
            comparing_left: STEPS_MAX,
        }
    }

    /// Refuses to have more operations than a change may, before so many are made.
    pub(super) fn check_operations(&self, more: usize) -> Result<(), Refusal> {
        if self.operations_max < self.tx.pending_ops().saturating_add(more) {
            let detail = format!("more than {} operations", self.operations_max);
            return Err(Refusal::at(RefusalKind::TooLarge, "", detail));
        }
        Ok(())
    }

    /// Refuses to write more in one change than a document may hold: what was written first is kept
    /// in its history also where it is replaced at once.
    fn count_bytes(&mut self, bytes: usize) -> Result<(), Refusal> {
        let left = self.bytes_left.checked_sub(bytes);
        let detail = "one change writes more than a document may hold";
        self.bytes_left = left.ok_or_else(|| Refusal::at(RefusalKind::TooLarge, "", detail))?;
        Ok(())
    }

    /// Counts an operation at an index, where Automerge looks from the start on.
    pub(super) fn seek(&mut self, index: usize) -> Result<(), Refusal> {
        self.seek_times(index, 1)
    }

    fn seek_times(&mut self, index: usize, times: usize) -> Result<(), Refusal> {
        let Some(steps) = &mut self.steps else { return Ok(()) };
        let each = (index + self.deleted + 1).max(steps.least);
        match steps.left.checked_sub(times.saturating_mul(each)) {
            Some(left) => {
                steps.left = left;
                Ok(())
            }
            None => {
                self.exhausted = true;
                Err(Refusal::new(RefusalKind::Internal, "looked at too many elements"))
            }
        }
    }

    /// Whether [`Writing::seek`] has refused to go on.
    pub(super) fn is_exhausted(&self) -> bool {
        self.exhausted
    }

    /// The document as the transaction sees it.
    pub(super) fn scope(&self) -> Scope<'_, T> {
        Scope::new(self.tx, &self.standing)
    }

    /// The names of the standing containers that were replaced or removed.
    pub(super) fn into_settled(self) -> Vec<String> {
        self.settled
    }

    /// Notes that what stands at `slot` is replaced or removed. What was settled since an older
    /// base is not settled again.
    pub(super) fn settle(&mut self, slot: &Slot) {
        for entry in slot.entries().iter().filter(|entry| entry.stands) {
            self.standing.remove(&entry.id);
            if self.standing_now.is_none_or(|now| now.holds(&entry.id)) {
                self.settled.push(operation_name(&entry.id));
            }
        }
    }

    /// Settles everything that stands anywhere.
    pub(super) fn settle_all(&mut self) {
        let standers: Vec<Entry> = self.standing.all().map(Stander::entry).collect();
        for entry in standers {
            self.settle(&Slot::one(entry));
        }
    }

    /// Takes everything out that Automerge still shows of a deleted document.
    pub(super) fn clear(&mut self) -> Result<(), Refusal> {
        for (key, slot) in self.scope().slots(&[ROOT]) {
            self.delete_key(&key, &slot)?;
        }
        self.settle_all();
        Ok(())
    }

    /// Gives an untouched document its first content.
    pub(super) fn fill_root(&mut self, map: &BTreeMap<String, Value>) -> Result<(), Refusal> {
        Ok(self.tx.init_root_from_hydrate(&hydrate_map(map, self.tx.text_encoding()))?)
    }

    /// A new value at a key of a logical map. `old`: what the transaction sees there. `live`: the
    /// backing maps that can be seen now, at least one; a write into another would be hidden.
    pub(super) fn write_key(
        &mut self,
        live: &[ObjId],
        key: &str,
        old: Option<&Slot>,
        value: &Value,
    ) -> Result<(), Refusal> {
        let mut holders = Vec::new();
        if let Some(old) = old {
            holders = old.holders();
            self.settle(old);
        }
        let seen = holders.iter().find(|holder| live.contains(holder));
        let home = seen.or(live.first()).cloned().unwrap_or(ROOT);
        for holder in holders.iter().filter(|holder| **holder != home) {
            self.tx.delete(holder, key)?;
        }
        self.put(&home, Prop::Map(key.to_owned()), value)
    }

    /// Takes a key out of all backing maps in which the transaction sees it.
    pub(super) fn delete_key(&mut self, key: &str, old: &Slot) -> Result<(), Refusal> {
        self.settle(old);
        self.check_operations(1)?;
        for holder in old.holders() {
            self.tx.delete(holder, key)?;
        }
        Ok(())
    }

    /// Another value at a list element that stays the same element.
    pub(super) fn replace_element(
        &mut self,
        list: &ObjId,
        index: usize,
        value: &Value,
    ) -> Result<(), Refusal> {
        self.seek(index)?;
        self.put(list, Prop::Seq(index), value)
    }

    /// New list elements before the one at `index`, all in one step: after each insertion alone
    /// Automerge walks over the deleted elements that follow.
    pub(super) fn insert_elements(
        &mut self,
        list: &ObjId,
        index: usize,
        values: &[Value],
    ) -> Result<(), Refusal> {
        if values.is_empty() {
            return Ok(());
        }
        self.seek(index)?;
        let detail = "elements are deleted and inserted one by one too often: splice them";
        let too_many = || Refusal::at(RefusalKind::TooLarge, "", detail);
        self.walk_left = self.walk_left.checked_sub(self.deleted).ok_or_else(too_many)?;
        self.check_operations(values.iter().map(operations).sum())?;
        self.count_bytes(values.iter().map(bytes).sum())?;
        let encoding = self.tx.text_encoding();
        let values = values.iter().map(|value| hydrate_value(value, encoding));
        Ok(self.tx.splice(list, index, 0, values)?)
    }

    /// The same for elements that were nowhere before.
    pub(super) fn insert_new_elements(
        &mut self,
        list: &ObjId,
        index: usize,
        values: &[Value],
    ) -> Result<(), Refusal> {
        if self.strings == NewStrings::Values {
            return self.insert_elements(list, index, values);
        }
        let values: Vec<Value> =
            values.iter().map(|value| self.strings.fresh(value).into_owned()).collect();
        self.insert_elements(list, index, &values)
    }

    /// Letters of a text, which are there, out, and others in before those that follow.
    pub(super) fn splice_text(
        &mut self,
        text: &ObjId,
        at: usize,
        removed: usize,
        inserted: &str,
    ) -> Result<(), Refusal> {
        self.check_operations(removed.saturating_add(inserted.chars().count()))?;
        self.count_bytes(inserted.len())?;
        self.seek_times(at, removed.max(1))?;
        // Fewer are removed than are there.
        let removed = isize::try_from(removed).unwrap_or(isize::MAX);
        Ok(self.tx.splice_text(text, at, removed, inserted)?)
    }

    /// Takes a visible list element out.
    pub(super) fn delete_element(
        &mut self,
        list: &ObjId,
        index: usize,
        old: &Slot,
    ) -> Result<(), Refusal> {
        self.settle(old);
        self.seek(index)?;
        self.check_operations(1)?;
        self.deleted += 1;
        Ok(self.tx.delete(list, index)?)
    }

    /// Writes all standing elements of a list anew, as ordinary ones, where they stand.
    pub(super) fn write_standing_anew(&mut self, list: &ObjId) -> Result<(), Refusal> {
        let items = self.scope().items(list);
        for (index, Item { slot, index: visible }) in items.into_iter().enumerate() {
            if visible.is_none() {
                let value = self.scope().value(&slot);
                self.settle(&slot);
                self.insert_elements(list, index, &[value])?;
            }
        }
        Ok(())
    }

    /// Puts a value at a place of one backing object.
    fn put(&mut self, holder: &ObjId, at: Prop, value: &Value) -> Result<(), Refusal> {
        self.check_operations(operations(value))?;
        self.count_bytes(bytes(value))?;
        let encoding = self.tx.text_encoding();
        match value {
            Value::Map(_) | Value::List(_) | Value::Text(_) => {
                let object = hydrate_value(value, encoding);
                self.tx.batch_create_object(holder, at, &object, false)?;
            }
            value => {
                let Some(scalar) = scalar_of(value) else {
                    return Err(Refusal::new(RefusalKind::Internal, "a container as a scalar"));
                };
                self.displace(holder, &at, &scalar)?;
                self.tx.put(holder, at, scalar)?;
            }
        }
        Ok(())
    }

    /// Makes room for a scalar that Automerge takes for the one that shows. It would write nothing:
    /// of `-0.0` over `0.0`, and where that one is gone by now of the value that showed at an older
    /// base in a conflict.
    fn displace(&mut self, holder: &ObjId, at: &Prop, scalar: &ScalarValue) -> Result<(), Refusal> {
        let all = self.tx.get_all(holder, at.clone())?;
        let Some((automerge::Value::Scalar(shown), _)) = all.last() else { return Ok(()) };
        let zeros = match (shown.as_ref(), scalar) {
            (ScalarValue::F64(shown), ScalarValue::F64(new)) => shown.to_bits() != new.to_bits(),
            _ => false,
        };
        let late = self.standing_now.is_some() && 1 < all.len();
        if **shown == *scalar && (zeros || late) {
            let other = match scalar {
                ScalarValue::Null => ScalarValue::Boolean(true),
                _ => ScalarValue::Null,
            };
            self.tx.put(holder, at.clone(), other)?;
        }
        Ok(())
    }
}

/// How many operations make a value.
fn operations(value: &Value) -> usize {
    1 + match value {
        Value::Map(map) => map.values().map(operations).sum(),
        Value::List(list) => list.iter().map(operations).sum(),
        Value::Text(text) => text.chars().count(),
        _ => 0,
    }
}

/// How many bytes the strings, keys and bytes of a value have.
fn bytes(value: &Value) -> usize {
    match value {
        Value::Map(map) => map.iter().map(|(key, value)| key.len() + bytes(value)).sum(),
        Value::List(list) => list.iter().map(bytes).sum(),
        Value::String(text) | Value::Text(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        _ => 0,
    }
}

fn hydrate_map(map: &BTreeMap<String, Value>, encoding: automerge::TextEncoding) -> hydrate::Map {
    let members: HashMap<&str, hydrate::Value> =
        map.iter().map(|(key, value)| (key.as_str(), hydrate_value(value, encoding))).collect();
    hydrate::Map::from(members)
}

fn hydrate_value(value: &Value, encoding: automerge::TextEncoding) -> hydrate::Value {
    match value {
        Value::Map(map) => hydrate::Value::Map(hydrate_map(map, encoding)),
        Value::List(list) => {
            let list: Vec<hydrate::Value> =
                list.iter().map(|value| hydrate_value(value, encoding)).collect();
            hydrate::Value::List(list.into())
        }
        Value::Text(text) => hydrate::Value::Text(hydrate::Text::new(encoding, text)),
        scalar => hydrate::Value::Scalar(scalar_of(scalar).unwrap_or(ScalarValue::Null)),
    }
}
