//! Which old element of a list becomes which new one.

use super::Value;

/// Past this many comparisons a run is paired by position.
const COMPARISONS_MAX: usize = 4_000_000;

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
        (Some((member, a)), Some((other, b))) => member == other && a.is_unchanged_by(b),
        _ => false,
    }
}

fn both_named(a: &Value, b: &Value) -> bool {
    name(a).is_some() && name(b).is_some()
}

/// Whether two elements are one: by name where both have one, else by content.
pub(super) fn matches(a: &Value, b: &Value) -> bool {
    if both_named(a, b) { same_name(a, b) } else { a.is_unchanged_by(b) }
}

/// Two containers that share more than half of their members are one that was edited.
fn is_alike(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Map(a), Value::Map(b)) => {
            let equal = a
                .iter()
                .filter(|(key, value)| b.get(*key).is_some_and(|b| b.is_unchanged_by(value)));
            let equal = equal.count();
            let small = a.len() <= 2 && a.len() == b.len() && a.keys().eq(b.keys());
            a.len().max(b.len()) < 2 * equal || (small && 1 <= equal)
        }
        (Value::List(a), Value::List(b)) => {
            let equal = a.iter().filter(|value| b.iter().any(|b| b.is_unchanged_by(value))).count();
            a.len().max(b.len()) < 2 * equal
        }
        _ => false,
    }
}

/// Pairs (old, new) in order: equal or of the same name; in the gaps between, alike. Named
/// elements pair only by name.
pub(super) fn pairs(old: &[Value], new: &[Value]) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    let (mut old_from, mut new_from) = (0, 0);
    let end = (old.len(), new.len());
    for (old_to, new_to) in align(old, new, matches).into_iter().chain([end]) {
        let (old_gap, new_gap) = (&old[old_from..old_to], &new[new_from..new_to]);
        let inner = gap_pairs(old_gap, new_gap);
        pairs.extend(inner.into_iter().map(|(a, b)| (old_from + a, new_from + b)));
        if (old_to, new_to) != end {
            pairs.push((old_to, new_to));
        }
        (old_from, new_from) = (old_to + 1, new_to + 1);
    }
    pairs
}

fn gap_pairs(old: &[Value], new: &[Value]) -> Vec<(usize, usize)> {
    if old.is_empty() || new.is_empty() {
        return Vec::new();
    }
    let same_kind = |a: &Value, b: &Value| {
        matches!((a, b), (Value::Map(_), Value::Map(_)) | (Value::List(_), Value::List(_)))
            && !both_named(a, b)
    };
    if old.len() == new.len() && old.iter().zip(new).all(|(a, b)| same_kind(a, b)) {
        return (0..old.len()).map(|index| (index, index)).collect();
    }
    align(old, new, |a, b| !both_named(a, b) && is_alike(a, b))
}

/// A longest common subsequence after trimming equal ends, as pairs in order. Past
/// [`COMPARISONS_MAX`] only the ends pair.
fn align(
    old: &[Value],
    new: &[Value],
    same: impl Fn(&Value, &Value) -> bool,
) -> Vec<(usize, usize)> {
    let head = old.iter().zip(new).take_while(|(a, b)| same(a, b)).count();
    let (old_rest, new_rest) = (&old[head..], &new[head..]);
    let tail =
        old_rest.iter().rev().zip(new_rest.iter().rev()).take_while(|(a, b)| same(a, b)).count();
    let old_middle = &old_rest[..old_rest.len() - tail];
    let new_middle = &new_rest[..new_rest.len() - tail];

    let mut pairs: Vec<(usize, usize)> = (0..head).map(|index| (index, index)).collect();
    let middle = common_subsequence(old_middle, new_middle, same);
    pairs.extend(middle.into_iter().map(|(a, b)| (head + a, head + b)));
    pairs.extend((0..tail).map(|back| (old.len() - tail + back, new.len() - tail + back)));
    pairs
}

fn common_subsequence(
    old: &[Value],
    new: &[Value],
    same: impl Fn(&Value, &Value) -> bool,
) -> Vec<(usize, usize)> {
    let (rows, columns) = (old.len(), new.len());
    if COMPARISONS_MAX < rows.saturating_mul(columns) {
        let pairable = |index: &usize| {
            let (a, b) = (&old[*index], &new[*index]);
            same(a, b) || !(both_named(a, b))
        };
        return (0..rows.min(columns)).filter(pairable).map(|index| (index, index)).collect();
    }
    let width = columns + 1;
    let mut length = vec![0u32; (rows + 1) * width];
    let mut equal = vec![false; rows * columns];
    for row in (0..rows).rev() {
        for column in (0..columns).rev() {
            let hit = same(&old[row], &new[column]);
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
            pairs.push((row, column));
            (row, column) = (row + 1, column + 1);
        } else if length[row * width + column + 1] <= length[(row + 1) * width + column] {
            row += 1;
        } else {
            column += 1;
        }
    }
    pairs
}
