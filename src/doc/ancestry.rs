//! Ancestry: which change has seen which.

use automerge::{Automerge, Change, ChangeHash};
use std::collections::{HashMap, HashSet};

/// All changes in the past of `version`, with itself.
pub(super) fn ancestors(document: &Automerge, version: &[ChangeHash]) -> HashSet<ChangeHash> {
    let mut past: HashSet<ChangeHash> = HashSet::new();
    let deps: HashMap<ChangeHash, Vec<ChangeHash>> =
        document.get_changes_meta(&[]).into_iter().map(|meta| (meta.hash, meta.deps)).collect();
    let mut open: Vec<ChangeHash> = version.to_vec();
    while let Some(hash) = open.pop() {
        if past.insert(hash) {
            open.extend(deps.get(&hash).into_iter().flatten());
        }
    }
    past
}

/// Who has seen whom, among changes in an order that respects their dependencies.
pub(super) struct Ancestry {
    /// Of each change: its stretch, and its place there.
    place: Vec<(usize, usize)>,
    /// Of each stretch: one row of bits a change, set where the column is in its past.
    seen: Vec<Bits>,
}

impl Ancestry {
    pub(super) fn of(changes: &[Change]) -> Self {
        let index: HashMap<ChangeHash, usize> =
            changes.iter().enumerate().map(|(index, change)| (change.hash(), index)).collect();
        let deps: Vec<Vec<usize>> = changes
            .iter()
            .map(|change| change.deps().iter().filter_map(|dep| index.get(dep).copied()).collect())
            .collect();
        let mut place = vec![(0, 0); changes.len()];
        let mut seen = Vec::new();
        let mut start = 0;
        for end in ends(&deps) {
            let mut bits = Bits::new(end - start);
            for (row, deps) in deps[start..end].iter().enumerate() {
                place[start + row] = (seen.len(), row);
                for dep in deps.iter().filter_map(|dep| dep.checked_sub(start)) {
                    bits.join(row, dep);
                }
                bits.set(row, row);
            }
            seen.push(bits);
            start = end;
        }
        Self { place, seen }
    }

    pub(super) fn stretch(&self, change: usize) -> usize {
        self.place[change].0
    }

    /// Whether `older`, of the same stretch, is `newer` or in its past.
    pub(super) fn holds(&self, newer: usize, older: usize) -> bool {
        let ((stretch, row), (_, column)) = (self.place[newer], self.place[older]);
        self.seen[stretch].is_set(row, column)
    }
}

/// Where stretches end: after a change that has seen all before it, if all after it have seen it.
fn ends(deps: &[Vec<usize>]) -> Vec<usize> {
    let count = deps.len();
    // The oldest change that some change at or after this one depends on; a root, on nothing.
    let mut reach = vec![count; count + 1];
    for (index, deps) in deps.iter().enumerate().rev() {
        let oldest = deps.iter().min().map_or(0, |oldest| oldest + 1);
        reach[index] = reach[index + 1].min(oldest);
    }
    let mut heads: HashSet<usize> = HashSet::new();
    let mut ends = Vec::new();
    for (index, deps) in deps.iter().enumerate() {
        for dep in deps {
            heads.remove(dep);
        }
        heads.insert(index);
        let later_see_it = index < reach[index + 1];
        if heads.len() == 1 && later_see_it {
            ends.push(index + 1);
        }
    }
    if ends.last() != Some(&count) && 0 < count {
        ends.push(count);
    }
    ends
}

/// A square of bits.
struct Bits {
    words: usize,
    bits: Vec<u64>,
}

impl Bits {
    fn new(rows: usize) -> Self {
        let words = rows.div_ceil(64);
        Self { words, bits: vec![0; rows * words] }
    }

    fn set(&mut self, row: usize, column: usize) {
        self.bits[row * self.words + column / 64] |= 1 << (column % 64);
    }

    fn is_set(&self, row: usize, column: usize) -> bool {
        self.bits[row * self.words + column / 64] >> (column % 64) & 1 == 1
    }

    /// Adds all of an earlier row to a later one.
    fn join(&mut self, row: usize, earlier: usize) {
        let (head, tail) = self.bits.split_at_mut(row * self.words);
        let from = &head[earlier * self.words..(earlier + 1) * self.words];
        for (to, from) in tail[..self.words].iter_mut().zip(from) {
            *to |= from;
        }
    }
}
