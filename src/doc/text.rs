//! A put into a collaborative text: the letters that changed, merged with what came since.
//!
//! At an older base the rules of lists hold for letters: what is deleted there already is not
//! deleted again, and a piece that stands already between the same neighbours is not inserted
//! again, so equal edits and retries are no change.

use super::{Refusal, pieces::pieces, place::operation_name, write::Writing};
use automerge::{Automerge, ObjId, ReadDoc, transaction::Transactable};
use std::ops::Range;

/// Makes a text show `new`. `present`: the document now, where the transaction's base is older.
pub(super) fn put<T: Transactable>(
    write: &mut Writing<'_, T>,
    text: &ObjId,
    new: &str,
    present: Option<&Automerge>,
) -> Result<(), Refusal> {
    let old: Vec<char> = write.tx.text(text)?.chars().collect();
    let new: Vec<char> = new.chars().collect();
    let pieces = pieces(&old, &new, &mut write.comparing_left);
    let now: Vec<char> = match present {
        Some(present) => present.text(text)?.chars().collect(),
        None => {
            let lengths = pieces.iter().map(|piece| piece.old.len() + piece.new.len());
            write.check_operations(lengths.sum())?;
            Vec::new()
        }
    };
    // From the last piece to the first, so that the indices before it stay what they are.
    for piece in pieces.into_iter().rev() {
        let mut living = Vec::new();
        for index in piece.old.clone().rev() {
            write.seek(index)?;
            let gone = match present {
                Some(present) => place(write.tx, text, index, present)?.1 == Lives::No,
                None => false,
            };
            if !gone {
                living.push(index);
                write.check_operations(living.len())?;
            }
        }
        write.seek(piece.old.end)?;
        let inserted: String = new[piece.new.clone()].iter().collect();
        let stands = match present {
            Some(present) if !inserted.is_empty() => {
                let since = since(write.tx, text, old.len(), &piece.old, present)?;
                let since: String = now.get(since).unwrap_or_default().iter().collect();
                since.contains(&inserted)
            }
            _ => false,
        };
        if !stands && !inserted.is_empty() {
            write.splice_text(text, piece.old.end, 0, &inserted)?;
        }
        for index in living {
            write.splice_text(text, index, 1, "")?;
        }
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lives {
    Yes,
    No,
}

/// Where a letter of the base is at present (or would be), and whether it is still there.
fn place<T: Transactable>(
    tx: &T,
    text: &ObjId,
    index: usize,
    present: &Automerge,
) -> Result<(usize, Lives), Refusal> {
    let cursor = tx.get_cursor(text, index, None)?;
    let now = present.get_cursor_position(text, &cursor, None)?;
    let there = present.get(text, now)?;
    let lives = there.is_some_and(|(_, id)| operation_name(&id) == cursor.to_string());
    Ok((now, if lives { Lives::Yes } else { Lives::No }))
}

/// Where at present the neighbours of a run of the base have others between them.
fn since<T: Transactable>(
    tx: &T,
    text: &ObjId,
    length: usize,
    run: &Range<usize>,
    present: &Automerge,
) -> Result<Range<usize>, Refusal> {
    let start = match run.start.checked_sub(1) {
        None => 0,
        Some(before) => match place(tx, text, before, present)? {
            (now, Lives::Yes) => now + 1,
            (now, Lives::No) => now,
        },
    };
    let end =
        if run.end < length { place(tx, text, run.end, present)?.0 } else { present.length(text) };
    Ok(start..end)
}
