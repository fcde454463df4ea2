//! Walking over every row of a family, past what cannot be read.

use super::{
    engine::{Engine, Range, Visit, successor},
    error::EngineError,
    key::Family,
};
use std::ops::ControlFlow;

/// Rows that a walk could not read: they lie behind `after`, which is the last that it did read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) after: Option<Vec<u8>>,
    /// What the engine says.
    pub(super) why: EngineError,
}

/// Visits the rows of a family in key order. Where the engine cannot go on, the walk leaps ahead,
/// a little first and then further, and tells of the gap; a leap may pass over rows that are well,
/// which are found again through the rows of other families. Where nothing says how to leap, the
/// walk ends.
pub(super) fn walk(
    engine: &dyn Engine,
    family: Family,
    visit: &mut Visit<'_>,
    gap: &mut dyn FnMut(Gap),
) {
    let mut range = Range::all();
    let mut last: Option<Vec<u8>> = None;
    let mut leaps = 0;
    loop {
        let mut stopped = false;
        let walked = engine.scan(family, &range, &mut |key, value| {
            last = Some(key.to_vec());
            leaps = 0;
            let flow = visit(key, value);
            stopped = flow == ControlFlow::Break(());
            flow
        });
        let Err(why) = walked else { return };
        if stopped {
            return;
        }
        if leaps == 0 {
            gap(Gap { after: last.clone(), why });
        }
        leaps += 1;
        let from = last.as_deref().unwrap_or_default();
        let Some(start) = leap(family, from, leaps) else { return };
        range = Range::starting_at(&start);
    }
}

/// Where to go on behind `from`, the further the more leaps there were.
fn leap(family: Family, from: &[u8], leaps: u32) -> Option<Vec<u8>> {
    match family {
        // These begin with a number, or with what is as good as one.
        Family::Head | Family::Chunk | Family::Orphan | Family::Feed => {
            let mut first = [0; 8];
            for (byte, known) in first.iter_mut().zip(from) {
                *byte = *known;
            }
            let step = 1_u64.checked_shl(4 * (leaps - 1))?;
            u64::from_be_bytes(first).checked_add(step).map(|next| next.to_be_bytes().to_vec())
        }
        // Whatever shares less and less of the key; the collection's id is the first four bytes.
        Family::View if from.is_empty() => {
            let step = 1_u32.checked_shl(leaps - 1)?;
            Some(step.to_be_bytes().to_vec())
        }
        Family::View => {
            let dropped = 1_usize.checked_shl(leaps - 1)?;
            let kept = from.len().saturating_sub(dropped);
            let over = 4_usize.saturating_sub(kept);
            // Past the collection whole collections are left out.
            let collections = 1_u32.checked_shl(u32::try_from(over).ok()?.saturating_sub(1))?;
            if over == 0 {
                return successor(&from[..kept]);
            }
            let (id, _) = from.split_first_chunk()?;
            let next = u32::from_be_bytes(*id).checked_add(collections)?;
            Some(next.to_be_bytes().to_vec())
        }
        Family::Kept | Family::Sys => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Batch, Durability, Fault, MemoryEngine};
    use bytes::Bytes;

    #[test]
    fn a_walk_goes_on_behind_rows_that_cannot_be_read() {
        for (family, keys) in [
            (Family::Feed, (1..=200_u64).map(|seq| seq.to_be_bytes().to_vec()).collect()),
            (Family::Head, (1..=200_u8).map(|id| vec![id; 16]).collect()),
            (
                Family::View,
                (1..=200_u8)
                    .map(|key| vec![0, 0, 0, key / 50, b'a', b'0' + key % 10, key])
                    .collect::<Vec<_>>(),
            ),
        ] {
            let mut keys: Vec<Vec<u8>> = keys;
            keys.sort();
            let engine = MemoryEngine::new();
            let mut batch = Batch::default();
            for key in &keys {
                batch.put(family, key.clone(), Bytes::new());
            }
            engine.commit(batch, Durability::Sync).unwrap();
            engine.inject(Fault::Unreadable { family, key: keys[40].clone() });
            let (mut seen, mut gaps) = (Vec::new(), Vec::new());
            walk(
                &engine,
                family,
                &mut |key, _| {
                    seen.push(key.to_vec());
                    ControlFlow::Continue(())
                },
                &mut |gap| gaps.push(gap.after),
            );
            assert_eq!(gaps, [Some(keys[39].clone())], "{family:?}");
            assert!(seen.is_sorted() && !seen.contains(&keys[40]), "{family:?}");
            assert!(180 <= seen.len(), "{family:?}: {}", seen.len());
        }
    }
}
