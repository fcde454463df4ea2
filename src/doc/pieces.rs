//! Which letters of a text differ from those of another one.
//!
//! Lines are compared first, then words where lines differ, then letters where words do, each by
//! [Myers' algorithm](https://doi.org/10.1007/BF01840446): the fewest that go and come. So a new paragraph between those that
//! stay comes as a whole, and does not take its letters from all over the one behind it.

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

/// Most steps that one edit takes to compare texts, all that it puts together: half a second at the worst.
pub(super) const STEPS_MAX: usize = 100_000_000;

/// Which part of the steps left one comparison may take to find the fewest differences: some 4,000.
const STEPS_PART: usize = 12;

/// What it takes at the most to guess where a line or a word belongs, if more differ.
const GUESS_STEPS: usize = 500;

/// Most lines, words or letters of two texts that are compared at once: some 50 bytes are held for each.
const TOKENS_MAX: usize = 1_000_000;

/// Past so many pairs of letters, half of the shorter text has to stay: one that was written anew has letters in
/// common with the old one, and to keep these is no use to anybody.
const PAIRS_MAX: usize = 4_000_000;

/// What texts are compared by.
#[derive(Debug, Clone, Copy)]
enum Unit {
    Line,
    Word,
    Letter,
}

/// From the coarsest to the finest.
const UNITS: [Unit; 3] = [Unit::Line, Unit::Word, Unit::Letter];

impl Unit {
    fn split(self, letters: &[char]) -> Box<dyn Iterator<Item = &[char]> + '_> {
        match self {
            Self::Line => Box::new(letters.split_inclusive(|letter| *letter == '\n')),
            Self::Word => Box::new(letters.split_inclusive(|letter| letter.is_whitespace())),
            Self::Letter => Box::new(letters.chunks(1)),
        }
    }
}

/// The runs that make one text of another, in their order; no two of them touch. `steps_left`: how much may be
/// compared; what is too long for that, or differs too much, is one piece.
pub(super) fn pieces(old: &[char], new: &[char], steps_left: &mut usize) -> Vec<Piece> {
    within(old, new, steps_left, PAIRS_MAX)
}

fn within(old: &[char], new: &[char], steps_left: &mut usize, pairs_max: usize) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let all = Piece { old: 0..old.len(), new: 0..new.len() };
    Search { old, new, steps_left, pairs_max }.search(all, &UNITS, &mut pieces);
    pieces
}

/// The texts, and how much of them may still be compared.
struct Search<'t> {
    old: &'t [char],
    new: &'t [char],
    steps_left: &'t mut usize,
    pairs_max: usize,
}

impl Search<'_> {
    /// Adds what differs in a piece, which is compared by these units.
    fn search(&mut self, piece: Piece, units: &[Unit], pieces: &mut Vec<Piece>) {
        let whole = piece.trimmed(self.old, self.new);
        match (whole.old.is_empty(), whole.new.is_empty()) {
            (true, true) => return,
            (false, false) => {}
            _ => return pieces.push(whole),
        }
        let Some((unit, finer)) = units.split_first() else { return pieces.push(whole) };
        let Some(found) = self.differences(&whole, *unit) else { return pieces.push(whole) };
        if self.is_anew(&whole, &found) {
            return self.search(whole, finer, pieces);
        }
        for piece in found {
            self.search(piece, finer, pieces);
        }
    }

    /// What differs in a piece; `None`: it is too long, or too many of its letters do.
    fn differences(&mut self, whole: &Piece, unit: Unit) -> Option<Vec<Piece>> {
        self.take(whole.old.len() + whole.new.len())?;
        let tokens = Tokens::of([(self.old, &whole.old), (self.new, &whole.new)], unit)?;
        match tokens.steps(*self.steps_left / STEPS_PART) {
            // Those to know how many differ, about twice as many to find them, and each token some times.
            Ok(steps) => {
                self.take(3 * steps + 10 * tokens.len())?;
                Some(tokens.differences(whole, Algorithm::RawMyers))
            }
            // Lines and words that are moved are found by guess as well; letters end up anywhere.
            Err(steps) => {
                self.take(steps)?;
                if matches!(unit, Unit::Letter) {
                    return None;
                }
                self.take(GUESS_STEPS * tokens.len())?;
                Some(tokens.differences(whole, Algorithm::Myers))
            }
        }
    }

    /// `None`: there are not so many steps left.
    fn take(&mut self, steps: usize) -> Option<()> {
        *self.steps_left = self.steps_left.checked_sub(steps)?;
        Some(())
    }

    /// Whether a piece is so large, and so much of it differs, that what does not is chance.
    fn is_anew(&self, whole: &Piece, found: &[Piece]) -> bool {
        let (old, new) = (whole.old.len(), whole.new.len());
        let stays = old - found.iter().map(|piece| piece.old.len()).sum::<usize>();
        self.pairs_max < old.saturating_mul(new) && 2 * stays < old.min(new)
    }
}

/// The lines, words or letters that two texts have in common: equal ones have the same number.
///
/// The others differ in any case, and of a text that was written anew they are the most.
struct Tokens {
    old: Side,
    new: Side,
}

#[derive(Default)]
struct Side {
    numbers: Vec<u32>,
    /// Which letters each of them is.
    spans: Vec<Range<usize>>,
}

impl Side {
    fn push(&mut self, number: u32, span: Range<usize>) {
        self.numbers.push(number);
        self.spans.push(span);
    }
}

impl Tokens {
    /// Those of a part of each text; `None`: there are too many.
    fn of<'t>([old, new]: [(&'t [char], &Range<usize>); 2], unit: Unit) -> Option<Self> {
        let split = |(text, range): (&'t [char], &Range<usize>)| {
            let mut end = range.start;
            unit.split(&text[range.clone()]).map(move |token| {
                let start = end;
                end += token.len();
                (token, start..end)
            })
        };
        if TOKENS_MAX < split(old).count() + split(new).count() {
            return None;
        }
        let mut numbers = HashMap::new();
        for (token, _) in split(old) {
            let next = u32::try_from(numbers.len()).ok()?;
            numbers.entry(token).or_insert((next, false));
        }
        let mut tokens = Self { old: Side::default(), new: Side::default() };
        for (token, span) in split(new) {
            if let Some((number, common)) = numbers.get_mut(token) {
                *common = true;
                tokens.new.push(*number, span);
            }
        }
        for (token, span) in split(old) {
            if let Some((number, true)) = numbers.get(token) {
                tokens.old.push(*number, span);
            }
        }
        Some(tokens)
    }

    fn len(&self) -> usize {
        self.old.numbers.len() + self.new.numbers.len()
    }

    /// How many steps it takes to know how many differ: one for each diagonal that is gone along, by the greedy
    /// algorithm of Myers' paper, and each token on it. Or, if it takes more than `steps_max`, how many were taken.
    fn steps(&self, steps_max: usize) -> Result<usize, usize> {
        let [old, new] = [&self.old.numbers[..], &self.new.numbers[..]];
        let apart = old.len().abs_diff(new.len());
        if steps_max < apart.saturating_mul(apart) / 2 {
            return Err(0);
        }
        let mut steps: usize = 0;
        // How far into the old text one comes, by how many of its tokens have gone.
        let mut reach: Vec<usize> = Vec::new();
        loop {
            let differ = reach.len();
            reach.push(0);
            for gone in (0..=differ).rev() {
                let came = if gone < differ { reach[gone] } else { 0 };
                let start = gone.checked_sub(1).map_or(came, |before| came.max(reach[before] + 1));
                let (old, new) = (old.get(start..), new.get(start + differ - 2 * gone..));
                let (old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
                let equal = old.iter().zip(new).take_while(|(old, new)| old == new).count();
                steps = steps.saturating_add(1 + equal);
                if steps_max < steps {
                    return Err(steps);
                }
                if equal == old.len() && equal == new.len() {
                    return Ok(steps);
                }
                reach[gone] = start + equal;
            }
        }
    }

    /// What lies between those that a piece has in common.
    fn differences(&self, whole: &Piece, algorithm: Algorithm) -> Vec<Piece> {
        let mut found = Vec::new();
        let mut left = whole.clone();
        let mut differs = |old: Range<usize>, new: Range<usize>| {
            if !old.is_empty() || !new.is_empty() {
                found.push(Piece { old, new });
            }
        };
        for part in capture_diff_slices(algorithm, &self.old.numbers, &self.new.numbers) {
            let DiffOp::Equal { old_index, new_index, len } = part else { continue };
            let (old, new) = (&self.old.spans[old_index..], &self.new.spans[new_index..]);
            for (old, new) in old.iter().zip(new).take(len) {
                differs(left.old.start..old.start, left.new.start..new.start);
                left = Piece { old: old.end..left.old.end, new: new.end..left.new.end };
            }
        }
        differs(left.old, left.new);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters(text: &str) -> Vec<char> {
        text.chars().collect()
    }

    /// The texts of the pieces.
    fn shown(old: &str, new: &str) -> Vec<(String, String)> {
        let (old, new, mut steps_left) = (letters(old), letters(new), STEPS_MAX);
        let pieces = pieces(&old, &new, &mut steps_left).into_iter();
        pieces
            .map(|piece| (old[piece.old].iter().collect(), new[piece.new].iter().collect()))
            .collect()
    }

    fn pair(old: &str, new: &str) -> (String, String) {
        (old.to_owned(), new.to_owned())
    }

    /// Words of letters as they come, in a line.
    fn prose(random: &mut fastrand::Rng, words: usize) -> String {
        let mut word =
            || (0..random.usize(2..9)).map(|_| random.char('a'..='p')).collect::<String>();
        (0..words).map(|_| word() + " ").collect::<String>() + "\n"
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
            let (mut steps_left, pairs_max) = (random.usize(..2_000), random.usize(..2_000));
            let pieces = within(&old, &new, &mut steps_left, pairs_max);
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
    fn lines_are_compared_then_words_then_letters() {
        let old = "low tide at noon\n\nhigh tide at six\nand rain";
        let new = "low tides at noon\n\nhigh tide at six\nand rains!";
        assert_eq!(shown(old, new), [pair("", "s"), pair("", "s!")]);
        // Nor does a line take its words from that behind it.
        let old = "the tide at six\nand rain";
        let new = "by the sea\nthe tide at six\nand rain, too";
        assert_eq!(shown(old, new), [pair("", "by the sea\n"), pair("", ", too")]);
        // What separates words is a letter.
        assert_eq!(shown("a b c d", "a\tb\tc\td").len(), 3);
    }

    #[test]
    fn what_is_put_before_and_behind_comes_whole() {
        let mut random = fastrand::Rng::with_seed(7);
        for (words, more) in [(100, 60), (700, 50), (3_000, 100), (20_000, 1_000), (40_000, 1_500)]
        {
            let [old, before, behind] = [words, more, more].map(|words| prose(&mut random, words));
            let new = format!("{before}{old}{behind}");
            let lengths = |(old, new): (String, String)| (old.len(), new.len());
            let found = shown(&old, &new).into_iter().map(lengths);
            let whole = [(0, before.len()), (0, behind.len())];
            assert_eq!(found.collect::<Vec<_>>(), whole, "{words}");
            // In one line, no word of them is taken for another that differs.
            let new = new.replace('\n', "");
            let inserted = shown(&old, &new)
                .iter()
                .map(|(old, new)| (old.len(), new.len()))
                .fold((0, 0), |(old, new), (more_old, more_new)| (old + more_old, new + more_new));
            assert_eq!(inserted, (1, before.len() + behind.len() - 2), "{words}");
        }
    }

    #[test]
    fn the_fewest_letters_go_and_come_in_a_text_without_words() {
        let mut random = fastrand::Rng::with_seed(7);
        for length in [10_000, 120_000, 400_000] {
            let old: Vec<char> = (0..length).map(|_| random.char('a'..='p')).collect();
            let mut new = old.clone();
            for _ in 0..40 {
                new[random.usize(..length)] = '#';
            }
            let changed = old.iter().zip(&new).filter(|(old, new)| old != new).count();
            let mut steps_left = STEPS_MAX;
            let pieces = pieces(&old, &new, &mut steps_left);
            let went: usize = pieces.iter().map(|piece| piece.old.len()).sum();
            let came: usize = pieces.iter().map(|piece| piece.new.len()).sum();
            assert_eq!((went, came), (changed, changed), "{length}");
        }
        let [old, new] = ["ab", "ba"].map(|two| two.repeat(70_000));
        assert_eq!(shown(&old, &new), [pair("", "b"), pair("b", "")]);
    }

    #[test]
    fn so_much_is_compared_in_all() {
        let (old, new) = (letters("1 low tide 1"), letters("2 low tide 2"));
        let mut steps_left = 300;
        assert_eq!(pieces(&old, &new, &mut steps_left).len(), 2);
        let taken = 300 - steps_left;
        assert!(20 < taken && taken < 150, "{taken}");
        steps_left = taken / 2;
        assert_eq!(pieces(&old, &new, &mut steps_left).len(), 1);
    }

    #[test]
    fn a_book_keeps_what_lies_between_two_edits() {
        let line = |line: usize| format!("line {line} of a book that nobody has written\n");
        let old: String = (0..20_000).map(line).collect();
        let new = old.replacen("line 1 of", "line one of", 1).replacen("19998 of", "19998th of", 1);
        assert_eq!(shown(&old, &new), [pair("1", "one"), pair("", "th")]);
    }

    #[test]
    fn what_moves_by_far_leaves_the_rest_where_it_is() {
        let mut random = fastrand::Rng::with_seed(7);
        let lines: Vec<String> = (0..6_000).map(|_| prose(&mut random, 8)).collect();
        let (stay, moved) = (lines[..3_900].concat(), lines[3_900..].concat());
        let changed = shown(&format!("{stay}{moved}"), &format!("{moved}{stay}"));
        let letters: usize = changed.iter().map(|(old, new)| old.len() + new.len()).sum();
        assert!(letters < 2 * moved.len() + 200, "{letters} of {} moved", moved.len());
        // A page behind a paragraph that is edited, of the same words.
        let words: Vec<String> = (0..50).map(|_| prose(&mut random, 1).replace('\n', "")).collect();
        let mut page =
            |count| (0..count).map(|_| &words[random.usize(..50)][..]).collect::<String>();
        let (paragraph, behind) = (page(200), page(10_000));
        let edited = format!("# {}", paragraph.replacen(&words[7], "", 1));
        let changed = shown(&paragraph, &format!("{edited}{behind}!"));
        let went: usize = changed.iter().map(|(old, _)| old.len()).sum();
        assert!(went < paragraph.len() / 2, "{went} of {}", paragraph.len());
    }

    #[test]
    fn what_was_written_anew_is_one_piece() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut text = |length| (0..length).map(|_| random.lowercase()).collect::<String>();
        for length in [3_000, 30_000] {
            assert_eq!(shown(&text(length), &text(length)).len(), 1);
        }
        // What is a part of the other stays,
        let (old, new) = (text(3_000), text(3_000));
        let longer = format!("+{}{}{}+", &old[..1_500], "#".repeat(3_000), &old[1_500..]);
        let pasted = [pair("", "+"), pair("", &"#".repeat(3_000)), pair("", "+")];
        assert_eq!(shown(&old, &longer), pasted);
        // and of a short one all that is common.
        assert!(1 < shown(&old[..300], &new[..300]).len());
    }
}
