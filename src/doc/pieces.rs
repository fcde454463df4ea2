//! Which letters of a text differ from those of another one.
//!
//! Letter by letter, by [Myers' algorithm](https://doi.org/10.1007/BF01840446). What is too long for that is
//! compared word by word first, or line by line, and then letter by letter where words or lines differ.

use similar::{Algorithm, DiffOp, capture_diff_slices};
use std::{collections::HashMap, ops::Range};

/// A run of letters that another run replaces, as code points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) old: Range<usize>,
    pub(super) new: Range<usize>,
}

impl Piece {
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

/// Most letters, words and lines that one edit compares, of all texts that it puts: a second at the worst.
pub(super) const TOKENS_MAX: usize = 200_000;

/// Past so many pairs of letters, half of the shorter text has to stay: one that was written anew has letters in
/// common with the old one, and to keep these is no use to anybody.
const PAIRS_MAX: usize = 4_000_000;

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
    fn split(self, letters: &[char]) -> Box<dyn Iterator<Item = &[char]> + '_> {
        match self {
            Self::Letter => Box::new(letters.chunks(1)),
            Self::Word => Box::new(letters.split_inclusive(|letter| letter.is_whitespace())),
            Self::Line => Box::new(letters.split_inclusive(|letter| *letter == '\n')),
        }
    }
}

/// The runs that make one text of another, in their order; no two of them touch. `tokens_left`: how many letters,
/// words and lines may be compared; what is too long for that is one piece.
pub(super) fn pieces(old: &[char], new: &[char], tokens_left: &mut usize) -> Vec<Piece> {
    within(old, new, tokens_left, PAIRS_MAX)
}

fn within(old: &[char], new: &[char], tokens_left: &mut usize, pairs_max: usize) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let all = Piece { old: 0..old.len(), new: 0..new.len() };
    Search { old, new, tokens_left, pairs_max }.search(all, &UNITS, &mut pieces);
    pieces
}

/// The texts, and how much of them may still be compared.
struct Search<'t> {
    old: &'t [char],
    new: &'t [char],
    tokens_left: &'t mut usize,
    pairs_max: usize,
}

impl Search<'_> {
    /// Adds what differs in a piece, which may be compared by some units.
    fn search(&mut self, piece: Piece, units: &[Unit], pieces: &mut Vec<Piece>) {
        let whole = piece.trimmed(self.old, self.new);
        match (whole.old.is_empty(), whole.new.is_empty()) {
            (true, true) => return,
            (false, false) => {}
            _ => return pieces.push(whole),
        }
        let (old, new) = (&self.old[whole.old.clone()], &self.new[whole.new.clone()]);
        let tokens = units.iter().enumerate().find_map(|(at, unit)| {
            let texts = [(unit.split(old), whole.old.start), (unit.split(new), whole.new.start)];
            Some((at, Tokens::of(texts, *self.tokens_left)?))
        });
        let Some((at, tokens)) = tokens else { return pieces.push(whole) };
        *self.tokens_left -= tokens.len();
        let found = tokens.differences();
        let stays = old.len() - found.iter().map(|piece| piece.old.len()).sum::<usize>();
        let pairs = old.len().saturating_mul(new.len());
        if self.pairs_max < pairs && 2 * stays < old.len().min(new.len()) {
            return pieces.push(whole);
        }
        for piece in found {
            self.search(piece, &units[..at], pieces);
        }
    }
}

/// Two texts in parts: equal ones have the same number.
struct Tokens {
    numbers: [Vec<u32>; 2],
    /// Where each part begins, and the last one ends, as letters.
    bounds: [Vec<usize>; 2],
}

impl Tokens {
    /// The parts of both texts, and where these begin; `None`: there are more parts than so many.
    fn of<'t>(texts: [(impl Iterator<Item = &'t [char]>, usize); 2], most: usize) -> Option<Self> {
        let (mut known, mut left) = (HashMap::new(), most);
        let [old, new] = texts.map(|(parts, start)| {
            let (mut numbers, mut bounds) = (Vec::new(), vec![start]);
            for part in parts {
                left = left.checked_sub(1)?;
                let next = u32::try_from(known.len()).ok()?;
                numbers.push(*known.entry(part).or_insert(next));
                bounds.push(bounds.last()? + part.len());
            }
            Some((numbers, bounds))
        });
        let (old, new) = (old?, new?);
        Some(Self { numbers: [old.0, new.0], bounds: [old.1, new.1] })
    }

    fn len(&self) -> usize {
        self.numbers.iter().map(Vec::len).sum()
    }

    /// Which letters belong to parts that differ.
    fn differences(&self) -> Vec<Piece> {
        let letters = |side: usize, parts: Range<usize>| {
            self.bounds[side][parts.start]..self.bounds[side][parts.end]
        };
        let [old, new] = &self.numbers;
        let found = capture_diff_slices(Algorithm::Myers, old, new).into_iter();
        let found = found.filter(|found| !matches!(found, DiffOp::Equal { .. }));
        let piece = |found: DiffOp| Piece {
            old: letters(0, found.old_range()),
            new: letters(1, found.new_range()),
        };
        found.map(piece).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters(text: &str) -> Vec<char> {
        text.chars().collect()
    }

    /// The texts of the pieces.
    fn shown(old: &str, new: &str, mut tokens_max: usize) -> Vec<(String, String)> {
        let (old, new) = (letters(old), letters(new));
        let pieces = pieces(&old, &new, &mut tokens_max).into_iter();
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
            let (mut tokens_left, pairs_max) = (random.usize(..100), random.usize(..2_000));
            let pieces = within(&old, &new, &mut tokens_left, pairs_max);
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
        let old = "low tide at noon\n\nhigh tide at six\nand rain";
        let new = "low tides at noon\n\nhigh tide at six\nand rains!";
        let changed = [pair("", "s"), pair("", "s!")];
        for tokens_max in [1_000, 30, 12] {
            assert_eq!(shown(old, new, tokens_max), changed, "{tokens_max}");
        }
        let whole = [pair(&old[8..], &new[8..])];
        assert_eq!(shown(old, new, 3), whole);
    }

    #[test]
    fn so_much_is_compared_in_all() {
        let (old, new) = (letters("1 low tide 1"), letters("2 low tide 2"));
        let mut tokens_left = 30;
        assert_eq!(pieces(&old, &new, &mut tokens_left).len(), 2);
        assert_eq!(tokens_left, 30 - 24);
        assert_eq!(pieces(&old, &new, &mut tokens_left).len(), 1);
    }

    #[test]
    fn a_book_keeps_what_lies_between_two_edits() {
        let line = |line: usize| format!("line {line} of a book that nobody has written\n");
        let old: String = (0..20_000).map(line).collect();
        let new = old.replacen("line 1 of", "line one of", 1).replacen("19998 of", "19998th of", 1);
        assert_eq!(shown(&old, &new, TOKENS_MAX), [pair("1", "one"), pair("", "th")]);
    }

    #[test]
    fn what_was_written_anew_is_one_piece() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut text = || (0..3_000).map(|_| random.lowercase()).collect::<String>();
        let (old, new) = (text(), text());
        assert_eq!(shown(&old, &new, TOKENS_MAX).len(), 1);
        // What is a part of the other stays,
        let longer = format!("+{}{}{}+", &old[..1_500], "#".repeat(7_000), &old[1_500..]);
        let pasted = [pair("", "+"), pair("", &"#".repeat(7_000)), pair("", "+")];
        assert_eq!(shown(&old, &longer, TOKENS_MAX), pasted);
        // and of a short one all that is common.
        assert!(1 < shown(&old[..300], &new[..300], TOKENS_MAX).len());
    }
}
