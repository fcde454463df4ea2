//! Which letters of a text differ from those of another one.
//!
//! Letter by letter, by [Myers' algorithm](https://doi.org/10.1007/BF01840446). What is too long for that is
//! compared word by word first, or line by line, and then letter by letter where words or lines differ.

use similar::{Algorithm, DiffOp, capture_diff_slices};
use std::ops::Range;

/// A run of letters that another run replaces, as code points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) old: Range<usize>,
    pub(super) new: Range<usize>,
}

impl Piece {
    /// How many letters of both texts it has.
    fn len(&self) -> usize {
        self.old.len() + self.new.len()
    }

    /// The same without what it begins and ends with in both.
    fn trimmed(self, old: &[char], new: &[char]) -> Self {
        let Self { old: mut from, new: mut to } = self;
        let (a, b) = (&old[from.clone()], &new[to.clone()]);
        let head = a.iter().zip(b).take_while(|(a, b)| a == b).count();
        let (a, b) = (&a[head..], &b[head..]);
        let tail = a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count();
        from = from.start + head..from.end - tail;
        to = to.start + head..to.end - tail;
        Self { old: from, new: to }
    }
}

/// How long the search may take.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// Most letters, words and lines of both texts that are compared, in all.
    tokens_max: usize,
    /// Past so many pairs, what is common has to be a half: a text that was written anew has letters in common
    /// with the old one, and to keep these is no use to anybody.
    pairs_max: usize,
}

/// A second at the worst.
const BOUNDS: Bounds = Bounds { tokens_max: 200_000, pairs_max: 4_000_000 };

/// What texts are compared by.
#[derive(Debug, Clone, Copy)]
enum Unit {
    Letter,
    Word,
    Line,
}

/// From the finest to the coarsest.
const UNITS: [Unit; 3] = [Unit::Letter, Unit::Word, Unit::Line];

impl Unit {
    fn split(self, letters: &[char]) -> Vec<&[char]> {
        match self {
            Self::Letter => letters.chunks(1).collect(),
            Self::Word => letters.split_inclusive(|letter| letter.is_whitespace()).collect(),
            Self::Line => letters.split_inclusive(|letter| *letter == '\n').collect(),
        }
    }
}

/// The runs that make one text of another, in their order; no two of them touch.
pub(super) fn pieces(old: &[char], new: &[char]) -> Vec<Piece> {
    within(old, new, BOUNDS)
}

fn within(old: &[char], new: &[char], bounds: Bounds) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let all = Piece { old: 0..old.len(), new: 0..new.len() };
    let Bounds { tokens_max: tokens_left, pairs_max } = bounds;
    Search { old, new, tokens_left, pairs_max }.search(all, &UNITS, &mut pieces);
    pieces
}

/// The texts, and how much of them may still be compared.
struct Search<'t> {
    old: &'t [char],
    new: &'t [char],
    tokens_left: usize,
    pairs_max: usize,
}

impl Search<'_> {
    /// Adds what differs in a piece, which may be compared by some units.
    fn search(&mut self, piece: Piece, units: &[Unit], pieces: &mut Vec<Piece>) {
        let whole = piece.trimmed(self.old, self.new);
        if whole.old.is_empty() || whole.new.is_empty() {
            return add(whole, pieces);
        }
        let (old, new) = (&self.old[whole.old.clone()], &self.new[whole.new.clone()]);
        for (at, unit) in units.iter().enumerate() {
            if matches!(unit, Unit::Letter) && self.tokens_left < whole.len() {
                continue;
            }
            let (old_tokens, new_tokens) = (unit.split(old), unit.split(new));
            let Some(left) = self.tokens_left.checked_sub(old_tokens.len() + new_tokens.len())
            else {
                continue;
            };
            self.tokens_left = left;
            let found = differences(&old_tokens, &new_tokens, &whole);
            let changed: usize = found.iter().map(Piece::len).sum();
            if self.pairs_max < old.len().saturating_mul(new.len()) && whole.len() < 2 * changed {
                return add(whole, pieces);
            }
            for piece in found {
                self.search(piece, &units[..at], pieces);
            }
            return;
        }
        add(whole, pieces);
    }
}

/// Which tokens of one text differ from those of another, as letters; both begin where `whole` does.
fn differences(old: &[&[char]], new: &[&[char]], whole: &Piece) -> Vec<Piece> {
    let [old_ends, new_ends] =
        [(old, whole.old.start), (new, whole.new.start)].map(|(tokens, start)| {
            let ends = tokens.iter().scan(start, |end, token| {
                *end += token.len();
                Some(*end)
            });
            std::iter::once(start).chain(ends).collect::<Vec<_>>()
        });
    let letters = |ends: &[usize], tokens: Range<usize>| ends[tokens.start]..ends[tokens.end];
    let found = capture_diff_slices(Algorithm::Myers, old, new).into_iter();
    let found = found.filter(|found| !matches!(found, DiffOp::Equal { .. }));
    let found = found.map(|found| Piece {
        old: letters(&old_ends, found.old_range()),
        new: letters(&new_ends, found.new_range()),
    });
    let mut pieces = Vec::new();
    found.for_each(|piece| add(piece, &mut pieces));
    pieces
}

/// Adds a piece behind others, or to the last one where it goes on there.
fn add(piece: Piece, pieces: &mut Vec<Piece>) {
    match pieces.last_mut() {
        _ if piece.len() == 0 => {}
        Some(last) if last.old.end == piece.old.start && last.new.end == piece.new.start => {
            last.old.end = piece.old.end;
            last.new.end = piece.new.end;
        }
        _ => pieces.push(piece),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters(text: &str) -> Vec<char> {
        text.chars().collect()
    }

    /// The texts of the pieces.
    fn shown(old: &str, new: &str, bounds: Bounds) -> Vec<(String, String)> {
        let (old, new) = (letters(old), letters(new));
        let pieces = within(&old, &new, bounds).into_iter();
        pieces
            .map(|piece| (old[piece.old].iter().collect(), new[piece.new].iter().collect()))
            .collect()
    }

    fn pair(old: &str, new: &str) -> (String, String) {
        (old.to_owned(), new.to_owned())
    }

    #[test]
    fn the_pieces_make_one_text_of_the_other() {
        let mut random = fastrand::Rng::with_seed(7);
        for round in 0..2_000 {
            let word = |random: &mut fastrand::Rng| {
                ["a", "b", "tide", "noon ", " ", "\n"][random.usize(..6)]
            };
            let old: String = (0..random.usize(..40)).map(|_| word(&mut random)).collect();
            let mut new = letters(&old);
            for _ in 0..random.usize(..6) {
                let at = random.usize(..=new.len());
                let end = (at + random.usize(..5)).min(new.len());
                new.splice(at..end, word(&mut random).chars());
            }
            let old = letters(&old);
            let bounds =
                Bounds { tokens_max: random.usize(..100), pairs_max: random.usize(..2_000) };
            let pieces = within(&old, &new, bounds);
            let touch = |two: &[Piece]| {
                two[1].old.start <= two[0].old.end && two[1].new.start <= two[0].new.end
            };
            assert!(!pieces.windows(2).any(touch), "round {round}: {pieces:?}");
            let mut made = old.clone();
            for piece in pieces.iter().rev() {
                assert_ne!(old[piece.old.clone()], new[piece.new.clone()], "round {round}");
                made.splice(piece.old.clone(), new[piece.new.clone()].iter().copied());
            }
            assert_eq!(made, new, "round {round}");
        }
    }

    #[test]
    fn a_long_text_is_compared_by_words_or_lines_and_then_by_letters() {
        let bounds = |tokens_max| Bounds { tokens_max, pairs_max: usize::MAX };
        let old = "low tide at noon\n\nhigh tide at six\nand rain";
        let new = "low tides at noon\n\nhigh tide at six\nand rains!";
        let changed = [pair("", "s"), pair("", "s!")];
        for tokens_max in [1_000, 30, 12] {
            assert_eq!(shown(old, new, bounds(tokens_max)), changed, "{tokens_max}");
        }
        let whole = [pair(&old[8..], &new[8..])];
        assert_eq!(shown(old, new, bounds(3)), whole);
    }

    #[test]
    fn a_book_keeps_what_lies_between_two_edits() {
        let line = |line: usize| format!("line {line} of a book that nobody has written\n");
        let old: String = (0..20_000).map(line).collect();
        let new = old.replacen("line 1 of", "line one of", 1).replacen("19998 of", "19998th of", 1);
        assert_eq!(shown(&old, &new, BOUNDS), [pair("1", "one"), pair("", "th")]);
    }

    #[test]
    fn what_was_written_anew_is_one_piece() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut text = || (0..3_000).map(|_| random.lowercase()).collect::<String>();
        let (old, new) = (text(), text());
        assert_eq!(shown(&old, &new, BOUNDS).len(), 1);
        // Of a short one what stays is kept.
        assert!(1 < shown(&old[..300], &new[..300], BOUNDS).len());
    }
}
