//! The sketch: what a node holds, summed up in cells from which a difference can be read.
//!
//! A *position* stands for a document, its *value* for what is held of it: the keyed fingerprint of its
//! names and version, 0 where it is not held. Each cell is the sum, in GF(2⁶⁴), over the positions that
//! are mapped to it:
//!
//! ```text
//! a = Σ value            8 bytes
//! b = Σ position·value   8 bytes
//! c = Σ low 32 bits of check(position)·value
//! ```
//!
//! Sums of two nodes, added, leave only where they differ. A cell to which one such position is mapped
//! tells it, b/a, and by how much, a, which c confirms; taken out of all its cells it lets others tell
//! theirs, until nothing is left. Cell `i` holds one position in `1 + i/2`, so cell 0 holds all of them,
//! and however large a difference is, the first 1.4 to 1.7 cells for each position in it suffice.
//!
//! Sources: the mapping is that of rateless invertible Bloom lookup tables (Yang, Gilad, Alizadeh,
//! *Practical Rateless Set Reconciliation*, SIGCOMM 2024), seeded by the position alone; sums of values
//! instead of items make of an updated document one unknown instead of two.

use super::{
    field::{inverse, product},
    key::SketchKey,
};
use std::collections::BTreeMap;

/// The sum of what is mapped to one place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Cell {
    a: u64,
    b: u64,
    c: u32,
}

impl Cell {
    /// Bytes of an encoded cell.
    pub const BYTES: usize = 20;

    /// One position with a value.
    fn of(seed: Seed, position: u64, value: u64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "the low half is what it is")]
        let c = product(seed.check(), value) as u32;
        Self { a: value, b: product(position, value), c }
    }

    /// The sum of two cells, which is their difference as well.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { a: self.a ^ other.a, b: self.b ^ other.b, c: self.c ^ other.c }
    }

    /// The sum of all values in it.
    pub fn sum(self) -> u64 {
        self.a
    }

    /// Whether nothing is in it, or what is in it cancels out.
    pub fn is_zero(self) -> bool {
        self == Self::default()
    }

    /// The position that is alone in it, if one is, and that position's seed.
    fn alone(self, key: &SketchKey) -> Option<(u64, Seed)> {
        if self.a == 0 {
            return None;
        }
        let position = product(self.b, inverse(self.a));
        let seed = key.seed(position);
        (Self::of(seed, position, self.a) == self).then_some((position, seed))
    }

    /// `a`, `b` and `c`, little-endian.
    pub fn encode(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.a.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.b.to_le_bytes());
        bytes[16..].copy_from_slice(&self.c.to_le_bytes());
        bytes
    }

    /// The cell that was encoded so.
    pub fn decode(bytes: [u8; Self::BYTES]) -> Self {
        let [a, b] = [0, 8].map(|from| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[from..from + 8]);
            u64::from_le_bytes(word)
        });
        let mut word = [0; 4];
        word.copy_from_slice(&bytes[16..]);
        Self { a, b, c: u32::from_le_bytes(word) }
    }

    /// The low 8 bits of `a`, by which it is told, nearly always, whether it is zero.
    #[expect(clippy::cast_possible_truncation, reason = "the low bits are what is wanted")]
    pub fn probe(self) -> u8 {
        self.a as u8
    }
}

/// Where a position's walk over the cells begins: its keyed hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seed(pub(super) u64);

impl Seed {
    fn check(self) -> u64 {
        mixed(self.0 ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// The cells to which the position is mapped, each further away; the first is cell 0.
    fn places(self) -> Places {
        Places { state: self.0, next: 0.0 }
    }
}

struct Places {
    state: u64,
    /// A whole number.
    next: f64,
}

impl Places {
    /// The places below `end`.
    fn below(self, end: usize) -> impl Iterator<Item = usize> {
        self.take_while(move |place| *place < end)
    }
}

impl Iterator for Places {
    type Item = usize;

    #[expect(clippy::cast_precision_loss, reason = "places past 2⁵³ are past every sketch")]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
    fn next(&mut self) -> Option<usize> {
        let place = self.next as usize;
        // splitmix64
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let random = mixed(self.state);
        // The distance to the next place, where one of `1 + i/2` is mapped to place `i`: all of it IEEE
        // 754's exact operations, the same on every machine.
        let uniform = 4_294_967_296.0 / (random as f64 + 1.0).sqrt();
        let distance = (self.next + 1.5) * (uniform - 1.0);
        self.next += distance.ceil().max(1.0);
        Some(place)
    }
}

/// The finalizer of splitmix64 (Steele, Lea, Flood, *Fast Splittable Pseudorandom Number Generators*).
fn mixed(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// What is held, summed up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sketch {
    cells: Vec<Cell>,
}

impl Sketch {
    /// Most cells.
    pub const CELLS_MAX: usize = 1 << 16;
    /// Fewest cells.
    pub const CELLS_MIN: usize = 1 << 6;

    /// Of nothing, in so many cells.
    pub fn new(cells: usize) -> Self {
        Self { cells: vec![Cell::default(); cells] }
    }

    /// A position's value changes by this: the sum of what it was and what it is.
    pub fn change(&mut self, key: &SketchKey, position: u64, by: u64) {
        if by == 0 {
            return;
        }
        let seed = key.seed(position);
        let cell = Cell::of(seed, position, by);
        for place in seed.places().below(self.cells.len()) {
            self.cells[place] = self.cells[place].plus(cell);
        }
    }

    /// Adds the cells of another one, of what is held beside this: as many as both have.
    pub fn add(&mut self, other: &[Cell]) {
        self.cells.truncate(other.len());
        for (cell, other) in self.cells.iter_mut().zip(other) {
            *cell = cell.plus(*other);
        }
    }

    /// The cells; the first so many are the sketch of that size.
    pub fn cells(&self) -> &[Cell] {
        &self.cells
    }
}

/// What was read from a difference of cells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Peeled {
    /// By how much the value of each position that was found differs.
    pub found: BTreeMap<u64, u64>,
    /// Whether nothing is left: these are all.
    pub whole: bool,
}

/// Reads a difference, the sum of the cells of two sketches. Whatever the cells are, it ends: at most
/// as many positions are taken out as could have been put in.
pub fn peel(mut cells: Vec<Cell>, key: &SketchKey) -> Peeled {
    let mut found: BTreeMap<u64, u64> = BTreeMap::new();
    let mut budget = 2 * cells.len() + 16;
    // From the last cell to the first: where the fewest are mapped, most are alone.
    let mut queue: Vec<usize> = (0..cells.len()).collect();
    let mut queued = vec![true; cells.len()];
    while let Some(place) = queue.pop() {
        queued[place] = false;
        let cell = cells[place];
        let Some((position, seed)) = cell.alone(key) else { continue };
        let Some(left) = budget.checked_sub(1) else { break };
        budget = left;
        *found.entry(position).or_default() ^= cell.a;
        for other in seed.places().below(cells.len()) {
            cells[other] = cells[other].plus(cell);
            if !queued[other] && other != place {
                queued[other] = true;
                queue.push(other);
            }
        }
    }
    // What was taken out and put back again never was.
    found.retain(|_, by| *by != 0);
    Peeled { found, whole: cells.iter().all(|cell| cell.is_zero()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::{estimate, probed};
    use fastrand::Rng;

    fn key() -> SketchKey {
        SketchKey::derived(b"a secret")
    }

    /// The cells of what differs.
    fn difference(random: &mut Rng, count: usize, cells: usize) -> (BTreeMap<u64, u64>, Sketch) {
        let (mut all, mut sketch) = (BTreeMap::new(), Sketch::new(cells));
        for _ in 0..count {
            let (position, by) = (random.u64(..), random.u64(1..));
            sketch.change(&key(), position, by);
            all.insert(position, by);
        }
        (all, sketch)
    }

    #[test]
    fn how_often_a_size_of_the_contract_is_read_whole() {
        let mut random = Rng::with_seed(7);
        for (count, trials, failures_max) in [
            (0, 1, 0),
            (1, 99, 0),
            (2, 500, 5),
            (10, 500, 5),
            (100, 500, 3),
            (1_000, 50, 0),
            (10_000, 3, 0),
        ] {
            let cells = count * 17 / 10 + 24;
            let mut failures = 0;
            for _ in 0..trials {
                let (all, sketch) = difference(&mut random, count, cells);
                let peeled = peel(sketch.cells().to_vec(), &key());
                if peeled.whole {
                    assert_eq!(peeled.found, all, "{count}");
                } else {
                    failures += 1;
                }
            }
            assert!(failures <= failures_max, "{count}: {failures} of {trials}");
        }
    }

    #[test]
    fn a_guess_is_near_enough() {
        let mut random = Rng::with_seed(8);
        // The last one is near the end of the sketch, behind which nothing tells.
        for (count, low, high) in
            [(40, 3, 8), (100, 4, 6), (1_000, 4, 6), (10_000, 4, 6), (30_000, 3, 8)]
        {
            let (_, sketch) = difference(&mut random, count, Sketch::CELLS_MAX);
            let cells = sketch.cells();
            let probes = probed(32, cells.len()).map(|place| (place, cells[place].probe() == 0));
            let guess = estimate(&cells[..32], probes);
            assert!((count * low / 5..count * high / 5).contains(&guess), "{count}: {guess}");
        }
        assert_eq!(probed(32, Sketch::CELLS_MAX).count(), 352);
    }
    /// Golden: a sketch is the same on every machine and in every release.
    #[test]
    fn a_sketch_is_these_bytes() {
        let mut sketch = Sketch::new(1 << 12);
        for document in 0..1_000 {
            sketch.change(&key(), 0x0123_4567_89ab_cdefu64.wrapping_mul(document), document + 1);
        }
        let hex = |cell: Cell| cell.encode().map(|byte| format!("{byte:02x}")).concat();
        let cells = sketch.cells();
        assert_eq!(hex(cells[0]), "e8030000000000007cf28f9023e269964374d14a");
        assert_eq!(hex(cells[63]), "a702000000000000830939a1bc98a55d30091176");
        let all: Vec<u8> = cells.iter().flat_map(|cell| cell.encode()).collect();
        assert_eq!(
            blake3::hash(&all).to_hex().as_str(),
            "971a2db672596c98ea52318c9ccc6e74685fdad8e0269e0456e40a2c938dc8d9"
        );
        let places: Vec<usize> = key().seed(7).places().below(300).collect();
        assert_eq!(places, [0, 3, 4, 18, 19, 23, 27, 29, 62, 117, 122, 130, 196, 249, 282]);
    }
}
