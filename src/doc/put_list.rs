//! A put into the visible elements of one list (R6 of `put.rs`).
//!
//! Old and new elements are paired (`pairing.rs`). Where the base is older, pairs whose element is
//! still there divide the list into runs; what lies between two of them is deleted, inserted or
//! left, and the kept elements themselves are places like any other.

use super::{
    Refusal, Value, pairing,
    place::Slot,
    put::{Put, Step, same_run},
    view::Scope,
};
use automerge::{Automerge, ObjId, Prop, transaction::Transactable};
use std::{
    collections::{BTreeSet, HashMap},
    ops::Range,
    slice,
};

/// A list as it is now, beside its older base.
#[derive(Debug)]
pub(super) struct PresentList {
    slots: Vec<Slot>,
    values: Vec<Value>,
    /// Of each element of the base: its index now, if it is still there.
    lives: Vec<Option<usize>>,
    /// The present indices that the base knew.
    known: BTreeSet<usize>,
}

impl PresentList {
    pub(super) fn read(scope: Scope<'_, Automerge>, list: &ObjId, base: &[Slot]) -> Self {
        let slots: Vec<Slot> = scope.items(list).into_iter().map(|item| item.slot).collect();
        let values = slots.iter().map(|slot| scope.value(slot)).collect();
        let place: HashMap<&ObjId, usize> = slots
            .iter()
            .enumerate()
            .flat_map(|(index, slot)| slot.entries().iter().map(move |entry| (&entry.id, index)))
            .collect();
        let index_of =
            |slot: &Slot| slot.entries().iter().find_map(|entry| place.get(&entry.id).copied());
        let lives: Vec<Option<usize>> = base.iter().map(index_of).collect();
        let known = lives.iter().flatten().copied().collect();
        Self { slots, values, lives, known }
    }
}

/// A put into the visible elements of one list.
pub(super) struct ListPut<'n> {
    pub(super) list: &'n ObjId,
    pub(super) base: Vec<Slot>,
    pub(super) old: Vec<Value>,
    pub(super) new: &'n [Value],
    pub(super) present: Option<PresentList>,
}

/// What lies between two elements that base, new and present all keep.
struct Run {
    old: Range<usize>,
    new: Range<usize>,
    present: Range<usize>,
    pairs: Vec<(usize, usize)>,
}

impl ListPut<'_> {
    /// Makes the list show `new`.
    pub(super) fn run<T: Transactable>(&self, put: &mut Put<'_, '_, T>) -> Result<(), Refusal> {
        let pairs = pairing::pairs(&self.old, self.new);
        let mut inner = Vec::new();
        let (mut old_from, mut new_from, mut present_from, mut at) = (0, 0, 0, 0);
        for (old, new) in pairs {
            let Some(present) = self.lives(old) else {
                inner.push((old, new));
                continue;
            };
            let run = Run {
                old: old_from..old,
                new: new_from..new,
                present: present_from..present,
                pairs: std::mem::take(&mut inner),
            };
            self.between(put, &run, &mut at)?;
            self.kept(put, old, new, at)?;
            (old_from, new_from, present_from, at) = (old + 1, new + 1, present + 1, at + 1);
        }
        let present_end = self.present.as_ref().map_or(self.old.len(), |now| now.slots.len());
        let run = Run {
            old: old_from..self.old.len(),
            new: new_from..self.new.len(),
            present: present_from..present_end,
            pairs: inner,
        };
        self.between(put, &run, &mut at)
    }

    /// Where an element of the base is now; where the base is the present, itself.
    fn lives(&self, old: usize) -> Option<usize> {
        match &self.present {
            Some(present) => present.lives[old],
            None => Some(old),
        }
    }

    /// Whether an element of the base is there to be deleted; one that only stands is deleted.
    fn is_visible(&self, old: usize) -> bool {
        let Some(present) = &self.present else { return true };
        let slot = present.lives[old].and_then(|index| present.slots.get(index));
        slot.is_some_and(|slot| self.base[old].is_visible_in(slot))
    }

    /// An element that all three sides keep.
    fn kept<T: Transactable>(
        &self,
        put: &mut Put<'_, '_, T>,
        old: usize,
        new: usize,
        at: usize,
    ) -> Result<(), Refusal> {
        let b = &self.base[old];
        let p = self.present.as_ref().and_then(|now| now.slots.get(now.lives[old]?));
        match put.decide(Some(b), Some(&self.new[new]), p) {
            Step::Nothing | Step::Remove => Ok(()),
            Step::Inside(n) => put.inside(b, Prop::Seq(at), n, p),
            Step::Write(n) => {
                put.write.settle(b);
                let n = put.write.strings.retype(Some(b), &n);
                put.write.replace_element(self.list, at, &n)
            }
        }
    }

    /// What lies between kept elements. `at`: the index in the transaction's list.
    fn between<T: Transactable>(
        &self,
        put: &mut Put<'_, '_, T>,
        run: &Run,
        at: &mut usize,
    ) -> Result<(), Refusal> {
        let now = self.present.as_ref().filter(|_| run.present.start <= run.present.end);
        if now.is_some_and(|now| {
            same_run(&now.values[run.present.clone()], &self.new[run.new.clone()])
        }) {
            *at += run.old.len();
            return Ok(());
        }
        let since = self.inserted_since(run);
        let old_of: HashMap<usize, usize> =
            run.pairs.iter().map(|&(old, new)| (new, old)).collect();
        let pieces = run.new.clone().collect::<Vec<_>>();
        let pieces = pieces.split(|new| old_of.contains_key(new));
        let stands_already = self.stand_in_order(&since, pieces);
        let (mut old, mut new) = (run.old.start, run.new.start);
        let end = (run.old.end, run.new.end);
        for (old_to, new_to) in run.pairs.iter().copied().chain([end]) {
            // New elements come before those that are deleted, where Automerge finds their place at
            // once; what is not visible any more stays in the transaction's list.
            let stays = (old..old_to).rev().find(|&gone| !self.is_visible(gone));
            let first_gone = stays.map_or(old, |stays| stays + 1);
            self.delete(put, old..first_gone, at)?;
            if !stands_already {
                put.write.insert_new_elements(self.list, *at, &self.new[new..new_to])?;
                *at += new_to - new;
            }
            self.delete(put, first_gone..old_to, at)?;
            if (old_to, new_to) != end {
                // Deleted there meanwhile: written whole if it was edited here, gone if not.
                let value = &self.new[new_to];
                let there = || since.iter().any(|theirs| pairing::matches(theirs, value));
                if !self.old[old_to].is_unchanged_by(value) && !there() {
                    let b = &self.base[old_to];
                    put.write.delete_element(self.list, *at, b)?;
                    let value = put.write.strings.retype(Some(b), value);
                    put.write.insert_elements(self.list, *at, slice::from_ref(&value))?;
                }
                *at += 1;
            }
            (old, new) = (old_to + 1, new_to + 1);
        }
        Ok(())
    }

    /// Takes those elements of the base out that are visible.
    fn delete<T: Transactable>(
        &self,
        put: &mut Put<'_, '_, T>,
        olds: Range<usize>,
        at: &mut usize,
    ) -> Result<(), Refusal> {
        for gone in olds {
            if self.is_visible(gone) {
                put.write.delete_element(self.list, *at, &self.base[gone])?;
            } else {
                *at += 1;
            }
        }
        Ok(())
    }

    /// Whether pieces of new elements stand, each as one and one after the other, in what was
    /// inserted since the base.
    fn stand_in_order<'p>(
        &self,
        since: &[&Value],
        pieces: impl Iterator<Item = &'p [usize]>,
    ) -> bool {
        let mut rest = since;
        for piece in pieces.filter(|piece| !piece.is_empty()) {
            let same = |theirs: &[&Value]| {
                theirs
                    .iter()
                    .zip(piece)
                    .all(|(value, new)| pairing::matches(value, &self.new[*new]))
            };
            let Some(start) = rest.windows(piece.len()).position(same) else { return false };
            rest = &rest[start + piece.len()..];
        }
        true
    }

    /// The elements of a run that were inserted since the base.
    fn inserted_since(&self, run: &Run) -> Vec<&Value> {
        let Some(now) = &self.present else { return Vec::new() };
        if run.present.end < run.present.start {
            return Vec::new();
        }
        let unknown = |index: &usize| !now.known.contains(index);
        run.present.clone().filter(unknown).map(|index| &now.values[index]).collect()
    }
}
