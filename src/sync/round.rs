//! A round: a node asks another what differs between them, and nearly always one answer tells.
//!
//! ```text
//! A                                        B
//! 32 cells, 352 probes             ──→     reads a small difference at once
//!                                  ←──     nothing differs │ these positions │ too many
//!                                  ←──     else as many cells as the probes make likely to suffice
//! reads the difference, or asks
//! for a quarter more               ──→     …
//! ```
//!
//! Who answers keeps nothing between messages: [`answer`] is a function of what is asked and held.

use super::{
    estimate::{estimate, probed},
    key::SketchKey,
    message::{Ask, Difference, Part, Told},
    sketch::{Cell, Peeled, peel},
};

/// Cells that are sent with the question.
const CELLS_ASKED: usize = 32;

/// Cells of which so many differences are read, but for one time in five hundred.
fn cells_for(differences: usize) -> usize {
    differences.saturating_mul(17) / 10 + 24
}

/// What the asked node answers, whose sketch of the set this is; none: it is not shared.
pub fn answer(mine: Option<&[Cell]>, key: &SketchKey, ask: &Ask) -> Told {
    let Some(mine) = mine else { return Told::Other };
    match ask {
        Ask::What { end, cells, probes, .. } => {
            // However many were sent: to read more takes long.
            let difference = sum(mine, &cells[..cells.len().min(CELLS_ASKED)]);
            if difference.first().is_none_or(|cell| cell.is_zero()) {
                return Told::Equal;
            }
            let end = usize::try_from(*end).unwrap_or(usize::MAX).min(mine.len());
            let Peeled { found, whole } = peel(difference.clone(), key);
            if whole {
                return Told::Found(differences(found));
            }
            let zeros = probed(CELLS_ASKED, end).zip(probes);
            let zeros = zeros
                .filter_map(|(place, theirs)| Some((place, mine.get(place)?.probe() == *theirs)));
            let about = estimate(&difference, zeros);
            let wanted = cells_for(about);
            if end < wanted {
                return Told::Many { about: u32::try_from(about).unwrap_or(u32::MAX) };
            }
            Told::Cells(mine[..wanted].to_vec())
        }
        Ask::More { cells, .. } => {
            let count = usize::try_from(*cells).unwrap_or(usize::MAX);
            Told::Cells(mine.iter().take(count).copied().collect())
        }
    }
}

/// Where two other nodes differ, by the cells of both, as far as both go.
pub fn between(one: &[Cell], two: &[Cell], key: &SketchKey) -> Peeled {
    peel(sum(one, two), key)
}

/// The sum of two sketches, as far as both go.
fn sum(mine: &[Cell], theirs: &[Cell]) -> Vec<Cell> {
    mine.iter().zip(theirs).map(|(mine, theirs)| mine.plus(*theirs)).collect()
}

fn differences(found: impl IntoIterator<Item = (u64, u64)>) -> Vec<Difference> {
    found.into_iter().map(|(position, by)| Difference { position, by }).collect()
}

/// The asking side of a round.
#[derive(Debug)]
pub struct Round {
    key: SketchKey,
    part: Part,
    /// All cells, of one moment.
    mine: Vec<Cell>,
    /// How many cells were asked for.
    wanted: usize,
}

/// What a round comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// This is to be asked as well.
    Ask(Ask),
    /// These positions differ, and no others.
    Differ(Vec<Difference>),
    /// More differ than a sketch tells: slices have to be compared. What it told all the same.
    Slices {
        /// How many differ, about.
        about: usize,
        /// Positions that differ.
        some: Vec<Difference>,
    },
    /// The peer does not share this set.
    Other,
}

/// Why an answer is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RoundError {
    /// More cells than can be compared.
    #[error("{0} cells for a sketch of {1}")]
    Cells(usize, usize),
    /// More positions than can be read of the cells that were sent.
    #[error("{0} differences, read of {CELLS_ASKED} cells")]
    Found(usize),
}

impl Round {
    /// Begins a round over what has these cells, under the keys that its part names.
    pub fn begin(key: SketchKey, part: Part, mine: Vec<Cell>) -> (Self, Ask) {
        let ask = Ask::What {
            part: part.clone(),
            end: u32::try_from(mine.len()).unwrap_or(u32::MAX),
            cells: mine.iter().take(CELLS_ASKED).copied().collect(),
            probes: probed(CELLS_ASKED, mine.len())
                .filter_map(|place| mine.get(place).map(|cell| cell.probe()))
                .collect(),
        };
        (Self { key, part, mine, wanted: 0 }, ask)
    }

    /// Goes on with an answer.
    ///
    /// # Errors
    /// Any [`RoundError`]: no node answers so that has this format.
    pub fn told(&mut self, told: Told) -> Result<Next, RoundError> {
        Ok(match told {
            Told::Equal => Next::Differ(Vec::new()),
            Told::Found(found) if found.len() <= 2 * CELLS_ASKED + 16 => Next::Differ(found),
            Told::Found(found) => return Err(RoundError::Found(found.len())),
            Told::Many { about } => Next::Slices {
                about: usize::try_from(about).unwrap_or(usize::MAX),
                some: Vec::new(),
            },
            Told::Other => Next::Other,
            Told::Cells(theirs) => self.read(&theirs)?,
        })
    }

    fn read(&mut self, theirs: &[Cell]) -> Result<Next, RoundError> {
        if self.mine.len() < theirs.len() {
            return Err(RoundError::Cells(theirs.len(), self.mine.len()));
        }
        let Peeled { found, whole } = peel(sum(&self.mine, theirs), &self.key);
        if whole {
            return Ok(Next::Differ(differences(found)));
        }
        // Fewer than were asked for are all that the peer has.
        let all = theirs.len() < self.wanted || theirs.len() == self.mine.len();
        if all {
            return Ok(Next::Slices { about: found.len().max(1), some: differences(found) });
        }
        self.wanted = (theirs.len() * 5 / 4 + 16).min(self.mine.len());
        let cells = u32::try_from(self.wanted).unwrap_or(u32::MAX);
        Ok(Next::Ask(Ask::More { part: self.part.clone(), cells }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::{SetId, Sketch};
    use fastrand::Rng;
    use std::collections::BTreeMap;

    const SET: SetId = SetId(7);

    fn key() -> SketchKey {
        SketchKey::derived(b"a secret")
    }

    fn sketch(documents: &BTreeMap<u64, u64>, cells: usize) -> Sketch {
        let mut sketch = Sketch::new(cells);
        for (position, value) in documents {
            sketch.change(&key(), *position, *value);
        }
        sketch
    }

    /// Two nodes that share some documents and differ in others: updated, and held by one alone.
    fn nodes(random: &mut Rng, shared: usize, differ: usize) -> [BTreeMap<u64, u64>; 2] {
        let mut nodes = [BTreeMap::new(), BTreeMap::new()];
        for index in 0..shared + differ {
            let (position, values) = (random.u64(..), [random.u64(1..), random.u64(1..)]);
            let holders =
                if index < shared || index % 4 < 2 { 0..2 } else { index % 2..index % 2 + 1 };
            for node in holders {
                nodes[node].insert(position, values[if index < shared { 0 } else { node }]);
            }
        }
        nodes
    }

    fn differences_of([one, two]: &[BTreeMap<u64, u64>; 2]) -> Vec<Difference> {
        let positions: std::collections::BTreeSet<_> = one.keys().chain(two.keys()).collect();
        let value = |node: &BTreeMap<u64, u64>, position| node.get(position).copied().unwrap_or(0);
        let by = |position| value(one, position) ^ value(two, position);
        let all = positions.into_iter().map(|k| Difference { position: *k, by: by(k) });
        all.filter(|difference| difference.by != 0).collect()
    }

    /// What a round comes to, its trips, and its bytes both ways.
    fn round(asking: &Sketch, asked: &Sketch) -> (Next, usize, usize) {
        let (mut round, mut ask) = Round::begin(key(), Part::whole(SET), asking.cells().to_vec());
        let (mut trips, mut bytes) = (0, 0);
        loop {
            let question = ask.encode();
            let told = answer(Some(asked.cells()), &key(), &Ask::decode(&question).unwrap());
            let answered = told.encode();
            (trips, bytes) = (trips + 1, bytes + question.len() + answered.len());
            match round.told(Told::decode(&answered).unwrap()).unwrap() {
                Next::Ask(more) => ask = more,
                next => return (next, trips, bytes),
            }
        }
    }

    /// The figures of the contract: bytes for each document that differs, and round trips.
    #[test]
    fn a_difference_costs_what_it_is_and_not_what_is_held() {
        let mut random = Rng::with_seed(5);
        for (differ, trials, bytes_max) in
            [(1, 50, 1_200), (10, 50, 150), (100, 50, 55), (1_000, 20, 42), (10_000, 3, 42)]
        {
            let (mut all_trips, mut all_bytes) = (0, 0);
            for _ in 0..trials {
                let nodes = nodes(&mut random, 1_000, differ);
                let sketches = nodes.each_ref().map(|node| sketch(node, Sketch::CELLS_MAX));
                let (next, trips, bytes) = round(&sketches[0], &sketches[1]);
                assert_eq!(next, Next::Differ(differences_of(&nodes)));
                (all_trips, all_bytes) = (all_trips + trips, all_bytes + bytes);
            }
            eprintln!(
                "{differ}: {} bytes, {all_trips} trips in {trials}",
                all_bytes / trials / differ
            );
            assert!(all_bytes / trials / differ <= bytes_max, "{differ}: {all_bytes}");
            assert!(all_trips * 10 <= trials * 11, "{differ}: {all_trips} trips");
        }
    }

    #[test]
    fn sketches_of_any_two_sizes_are_compared() {
        let mut random = Rng::with_seed(6);
        for (sizes, differ) in
            [([64, 65_536], 5), ([65_536, 64], 5), ([256, 64], 30), ([64, 256], 60)]
        {
            let nodes = nodes(&mut random, 50, differ);
            let [one, two] = [0, 1].map(|node| sketch(&nodes[node], sizes[node]));
            match round(&one, &two).0 {
                Next::Differ(found) => assert_eq!(found, differences_of(&nodes)),
                Next::Slices { about, some } => {
                    assert!(differ > 20 && about > 0, "{sizes:?} {differ}: {about}");
                    let all = differences_of(&nodes);
                    assert!(some.iter().all(|one| all.contains(one)));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn equal_nodes_say_so_and_more_than_fits_is_told() {
        let mut random = Rng::with_seed(9);
        let nodes = nodes(&mut random, 3_000, 3_000);
        let [one, two] = nodes.each_ref().map(|node| sketch(node, 1_024));
        assert_eq!(round(&one, &one).0, Next::Differ(Vec::new()));
        let Next::Slices { about, .. } = round(&one, &two).0 else { panic!("it fits") };
        assert!(1_000 < about, "{about}");
        let (_, ask) = Round::begin(key(), Part::whole(SET), one.cells().to_vec());
        assert_eq!(answer(None, &key(), &ask), Told::Other);
    }

    #[test]
    fn an_answer_that_cannot_be_is_refused() {
        let one = sketch(&BTreeMap::from([(1, 2)]), 64);
        let (mut round, _) = Round::begin(key(), Part::whole(SET), one.cells().to_vec());
        let told = Told::Cells(vec![Cell::default(); 65]);
        assert_eq!(round.told(told), Err(RoundError::Cells(65, 64)));
        let told = Told::Found(vec![Difference { position: 1, by: 1 }; 81]);
        assert_eq!(round.told(told), Err(RoundError::Found(81)));
        // A peer whose cells never peel is asked for all it has, and no further.
        let noise: Vec<Cell> = (0..64u8).map(|byte| Cell::decode([byte + 1; 20])).collect();
        let mut asked = 0;
        let mut count = 32;
        while let Next::Ask(Ask::More { cells, .. }) =
            round.told(Told::Cells(noise[..count].to_vec())).unwrap()
        {
            (asked, count) = (asked + 1, usize::try_from(cells).unwrap());
        }
        assert_eq!((asked, count), (2, 64));
    }
}
