//! Which old element of a list becomes which new one.

use super::{Value, anchors::anchors};
use std::{
    cell::Cell,
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    ops::Range,
};

/// A run that takes more comparisons is divided, or paired by position.
const COMPARISONS_MAX: usize = 4_000_000;
/// Most steps of all comparisons of one pairing: some tenths of a second.
const STEPS_MAX: usize = 40_000_000;
/// How often a run is divided at most.
const DIVISIONS_MAX: usize = 16;

/// The member that names a list element: `id`, `_id` or `key`, a string or a number.
fn name(value: &Value) -> Option<(&'static str, &Value)> {
    let Value::Map(map) = value else { return None };
    let is_name = |value: &&Value| {
        matches!(
            value,
            Value::String(_) | Value::Text(_) | Value::Int(_) | Value::Uint(_) | Value::Float(_)
        )
    };
    ["id", "_id", "key"]
        .into_iter()
        .find_map(|member| map.get(member).filter(is_name).map(|value| (member, value)))
}

/// Whether both elements have a name, and it is the same.
pub(super) fn same_name(a: &Value, b: &Value) -> bool {
    match (name(a), name(b)) {
        (Some((member, a)), Some((other, b))) => member == other && a.holds(b),
        _ => false,
    }
}

fn both_named(a: &Value, b: &Value) -> bool {
    name(a).is_some() && name(b).is_some()
}

/// Whether two elements are one: by name where both have one, else by content.
pub(super) fn matches(a: &Value, b: &Value) -> bool {
    if both_named(a, b) { same_name(a, b) } else { a.holds(b) }
}

/// The elements of a list.
struct Side<'v> {
    values: &'v [Value],
    /// The hash of the content of each.
    hashes: Vec<u64>,
    /// What each is known by: the hash of its name where it has one, else of its content.
    tokens: Vec<u64>,
}

impl<'v> Side<'v> {
    fn of(values: &'v [Value]) -> Self {
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let hashes: Vec<u64> = values.iter().map(Value::content_hash).collect();
        let token = |(value, hash): (&Value, &u64)| match name(value) {
            Some((member, name)) => hasher.hash_one((member, name.content_hash())),
            None => *hash,
        };
        let tokens = values.iter().zip(&hashes).map(token).collect();
        Self { values, hashes, tokens }
    }

    fn members(&self, range: Range<usize>) -> Vec<Vec<u64>> {
        self.values[range].iter().map(members).collect()
    }
}

/// The hashes of what a container holds, sorted.
fn members(value: &Value) -> Vec<u64> {
    let mut members: Vec<u64> = match value {
        Value::Map(map) => {
            let hasher = BuildHasherDefault::<DefaultHasher>::default();
            map.iter().map(|(key, value)| hasher.hash_one((key, value.content_hash()))).collect()
        }
        Value::List(list) => list.iter().map(Value::content_hash).collect(),
        _ => Vec::new(),
    };
    members.sort_unstable();
    members
}

/// How many of some hashes are among others.
fn shared(a: &[u64], b: &[u64]) -> usize {
    a.iter().filter(|member| b.binary_search(member).is_ok()).count()
}

/// Two containers that share more than half of their members are one that was edited.
fn is_alike(a: &Value, b: &Value, shared: usize) -> bool {
    match (a, b) {
        (Value::Map(map), Value::Map(other)) => {
            let small =
                || map.len() <= 2 && map.len() == other.len() && map.keys().eq(other.keys());
            let edited = map.len().max(other.len()) < 2 * shared || (1 <= shared && small());
            edited && !both_named(a, b)
        }
        (Value::List(list), Value::List(other)) => list.len().max(other.len()) < 2 * shared,
        _ => false,
    }
}

/// The elements of a list before and after.
struct Pairing<'v> {
    old: Side<'v>,
    new: Side<'v>,
    /// Steps of comparisons that may still be taken.
    steps_left: Cell<usize>,
}

/// What two runs are aligned by.
struct Likeness<F> {
    same: F,
    /// What one comparison takes.
    steps: usize,
}

/// Pairs (old, new) in order: equal or of the same name; in the gaps between, alike. Named
/// elements pair only by name.
pub(super) fn pairs(old: &[Value], new: &[Value]) -> Vec<(usize, usize)> {
    let steps_left = Cell::new(STEPS_MAX);
    let pairing = Pairing { old: Side::of(old), new: Side::of(new), steps_left };
    let mut pairs = Vec::new();
    let (mut old_from, mut new_from) = (0, 0);
    let end = (old.len(), new.len());
    let likeness = Likeness { same: |a, b| pairing.matches(a, b), steps: 1 };
    let matching = pairing.align(0..old.len(), 0..new.len(), &likeness, DIVISIONS_MAX);
    for (old_to, new_to) in matching.into_iter().chain([end]) {
        pairs.extend(pairing.in_gap(old_from..old_to, new_from..new_to));
        if (old_to, new_to) != end {
            pairs.push((old_to, new_to));
        }
        (old_from, new_from) = (old_to + 1, new_to + 1);
    }
    pairs
}

impl Pairing<'_> {
    /// As [`matches`](fn@matches), by hash first.
    fn matches(&self, old: usize, new: usize) -> bool {
        let (a, b) = (&self.old.values[old], &self.new.values[new]);
        if self.old.hashes[old] == self.new.hashes[new] {
            return matches(a, b);
        }
        // Of the same name they may differ otherwise.
        matches!((a, b), (Value::Map(_), Value::Map(_))) && same_name(a, b)
    }

    fn in_gap(&self, old: Range<usize>, new: Range<usize>) -> Vec<(usize, usize)> {
        if old.is_empty() || new.is_empty() {
            return Vec::new();
        }
        let of_one_kind = |(a, b): (usize, usize)| {
            let (a, b) = (&self.old.values[a], &self.new.values[b]);
            matches!((a, b), (Value::Map(_), Value::Map(_)) | (Value::List(_), Value::List(_)))
                && !both_named(a, b)
        };
        if old.len() == new.len() && old.clone().zip(new.clone()).all(of_one_kind) {
            return old.zip(new).collect();
        }
        let (olds, news) = (self.old.members(old.clone()), self.new.members(new.clone()));
        let steps = 1 + olds.iter().map(Vec::len).max().unwrap_or(0);
        let (first_old, first_new) = (old.start, new.start);
        let same = |a: usize, b: usize| {
            let shared = shared(&olds[a - first_old], &news[b - first_new]);
            is_alike(&self.old.values[a], &self.new.values[b], shared)
        };
        self.align(old, new, &Likeness { same, steps }, 0)
    }

    /// A longest common subsequence after trimming equal ends, as pairs in order. Where that would
    /// take too long, the runs are divided at what is there once on both sides, `divisions` times;
    /// then elements pair by position.
    fn align<F: Fn(usize, usize) -> bool>(
        &self,
        old: Range<usize>,
        new: Range<usize>,
        likeness: &Likeness<F>,
        divisions: usize,
    ) -> Vec<(usize, usize)> {
        let same = |&(a, b): &(usize, usize)| (likeness.same)(a, b);
        let head = old.clone().zip(new.clone()).take_while(same).count();
        let (old_from, new_from) = (old.start + head, new.start + head);
        let ends = (old_from..old.end).rev().zip((new_from..new.end).rev());
        let tail = ends.take_while(same).count();
        let (old_to, new_to) = (old.end - tail, new.end - tail);

        let mut pairs: Vec<(usize, usize)> = old.zip(new).take(head).collect();
        let (old, new) = (old_from..old_to, new_from..new_to);
        let comparisons = old.len().saturating_mul(new.len());
        let steps = comparisons.saturating_mul(likeness.steps);
        match self.steps_left.get().checked_sub(steps) {
            Some(left) if comparisons <= COMPARISONS_MAX => {
                self.steps_left.set(left);
                pairs.extend(common_subsequence(old, new, &likeness.same));
            }
            _ => pairs.extend(self.divide(old, new, likeness, divisions)),
        }
        pairs.extend((0..tail).map(|back| (old_to + back, new_to + back)));
        pairs
    }

    /// Aligns two long runs between what surely is one, or by position.
    fn divide<F: Fn(usize, usize) -> bool>(
        &self,
        old: Range<usize>,
        new: Range<usize>,
        likeness: &Likeness<F>,
        divisions: usize,
    ) -> Vec<(usize, usize)> {
        let mut sure = Vec::new();
        if 0 < divisions {
            let found = anchors(&self.old.tokens[old.clone()], &self.new.tokens[new.clone()]);
            sure.extend(found.into_iter().map(|(a, b)| (old.start + a, new.start + b)));
            sure.retain(|&(a, b)| (likeness.same)(a, b));
        }
        if sure.is_empty() {
            let pairable = |&(a, b): &(usize, usize)| {
                (likeness.same)(a, b) || !both_named(&self.old.values[a], &self.new.values[b])
            };
            return old.zip(new).filter(pairable).collect();
        }
        let mut pairs = Vec::new();
        let (mut old_from, mut new_from) = (old.start, new.start);
        let end = (old.end, new.end);
        for (old_to, new_to) in sure.into_iter().chain([end]) {
            let between = (old_from..old_to, new_from..new_to);
            pairs.extend(self.align(between.0, between.1, likeness, divisions - 1));
            if (old_to, new_to) != end {
                pairs.push((old_to, new_to));
            }
            (old_from, new_from) = (old_to + 1, new_to + 1);
        }
        pairs
    }
}

/// A longest common subsequence, as pairs in order.
fn common_subsequence(
    old: Range<usize>,
    new: Range<usize>,
    same: impl Fn(usize, usize) -> bool,
) -> Vec<(usize, usize)> {
    let (rows, columns) = (old.len(), new.len());
    let width = columns + 1;
    let mut length = vec![0u32; (rows + 1) * width];
    let mut equal = vec![false; rows * columns];
    for row in (0..rows).rev() {
        for column in (0..columns).rev() {
            let hit = same(old.start + row, new.start + column);
            equal[row * columns + column] = hit;
            length[row * width + column] = if hit {
                length[(row + 1) * width + column + 1] + 1
            } else {
                length[(row + 1) * width + column].max(length[row * width + column + 1])
            };
        }
    }
    let mut pairs = Vec::new();
    let (mut row, mut column) = (0, 0);
    while row < rows && column < columns {
        let here = length[row * width + column];
        if equal[row * columns + column] && here == length[(row + 1) * width + column + 1] + 1 {
            pairs.push((old.start + row, new.start + column));
            (row, column) = (row + 1, column + 1);
        } else if length[row * width + column + 1] <= length[(row + 1) * width + column] {
            row += 1;
        } else {
            column += 1;
        }
    }
    pairs
}
