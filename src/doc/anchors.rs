//! Where two long runs are surely one: what is there once in each, in one order.
//!
//! It is the first step of Bram Cohen's *patience diff*, in O(n log n).

use std::collections::HashMap;

/// The most tokens, each once in `old` and once in `new`, that come in one order in both, as pairs
/// of indices (old, new) that both increase.
pub(super) fn anchors(old: &[u64], new: &[u64]) -> Vec<(usize, usize)> {
    let mut places: HashMap<u64, [Times; 2]> = HashMap::new();
    for (side, tokens) in [old, new].into_iter().enumerate() {
        for (index, token) in tokens.iter().enumerate() {
            let times = &mut places.entry(*token).or_default()[side];
            *times = match times {
                Times::Never => Times::Once(index),
                Times::Once(_) | Times::More => Times::More,
            };
        }
    }
    let in_both = old.iter().filter_map(|token| match places[token] {
        [Times::Once(old), Times::Once(new)] => Some((old, new)),
        _ => None,
    });
    longest_increasing(&in_both.collect::<Vec<_>>())
}

/// How often a token is in a run.
#[derive(Debug, Clone, Copy, Default)]
enum Times {
    #[default]
    Never,
    Once(usize),
    More,
}

/// The longest of the subsequences whose second members increase, by patience sorting.
fn longest_increasing(pairs: &[(usize, usize)]) -> Vec<(usize, usize)> {
    // Of the subsequences of each length: the one whose last member is the least.
    let mut ends: Vec<usize> = Vec::new();
    let mut previous: Vec<Option<usize>> = Vec::with_capacity(pairs.len());
    for (index, (_, new)) in pairs.iter().enumerate() {
        let length = ends.partition_point(|&end| pairs[end].1 < *new);
        previous.push(length.checked_sub(1).map(|shorter| ends[shorter]));
        match ends.get_mut(length) {
            Some(end) => *end = index,
            None => ends.push(index),
        }
    }
    let mut longest: Vec<(usize, usize)> =
        std::iter::successors(ends.last().copied(), |&end| previous[end])
            .map(|index| pairs[index])
            .collect();
    longest.reverse();
    longest
}

#[cfg(test)]
mod tests {
    use super::anchors;

    #[test]
    fn what_is_there_twice_is_no_anchor() {
        assert_eq!(anchors(&[1, 2, 2, 3], &[2, 1, 3]), [(0, 1), (3, 2)]);
        assert_eq!(anchors(&[1, 2, 3], &[3, 1, 3, 2]), [(0, 1), (1, 3)]);
        assert_eq!(anchors(&[], &[1]), []);
    }

    #[test]
    fn of_every_order_as_many_are_found_as_keep_theirs() {
        let old = [0, 1, 2, 3, 4, 5, 6];
        let mut orders = 0;
        each_order(&mut old.clone(), 0, &mut |new| {
            orders += 1;
            let found = anchors(&old, new);
            assert!(found.iter().all(|&(a, b)| old[a] == new[b]), "{new:?}: {found:?}");
            let rise = |two: &[(usize, usize)]| two[0].0 < two[1].0 && two[0].1 < two[1].1;
            assert!(found.windows(2).all(rise), "{new:?}: {found:?}");
            assert_eq!(found.len(), longest_rise(new), "{new:?}: {found:?}");
        });
        assert_eq!(orders, 5_040);
    }

    fn each_order(tokens: &mut [u64], fixed: usize, check: &mut impl FnMut(&[u64])) {
        if fixed == tokens.len() {
            return check(tokens);
        }
        for next in fixed..tokens.len() {
            tokens.swap(fixed, next);
            each_order(tokens, fixed + 1, check);
            tokens.swap(fixed, next);
        }
    }

    /// The length of the longest increasing subsequence, by trying every subset.
    fn longest_rise(tokens: &[u64]) -> usize {
        let rises = |subset: &u32| {
            let chosen = tokens.iter().enumerate().filter(|(index, _)| subset >> index & 1 == 1);
            chosen.map(|(_, token)| token).is_sorted()
        };
        let subsets = (0u32..1 << tokens.len()).filter(rises);
        subsets.map(|subset| subset.count_ones() as usize).max().unwrap_or(0)
    }
}
