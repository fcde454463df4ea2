//! What it costs to find out where two nodes differ, in bytes and trips, and to be ready for it.

use super::{
    directory::name,
    row::{Bar, Row, median},
};
use fastrand::Rng;
use std::{collections::BTreeMap, hint::black_box, time::Instant};
use tombolo::{
    ident::{Cursor, Hash, IncarnationId, Version},
    sync::{Ask, Beat, Cell, Next, Part, Round, SetId, Sketch, SketchKey, Told, answer, position},
};

/// How many documents are held.
const HELD: [usize; 3] = [10_000, 100_000, 1_000_000];
/// How many differ, and in how many trials.
const TRIALS: [(usize, u32); 5] =
    [(1, 100), (10, 1_000), (100, 1_000), (1_000, 400), (10_000, 100)];
/// Bytes for each document that differs, of the contract: what it may be, and a hash trie of fan-out 16
/// over the same million documents, the best of the peers measured for it. It sends them in this many
/// trips at the least.
const BYTES: [(usize, Option<f64>, f64); 5] = [
    (1, None, 1_037.0),
    (10, None, 645.0),
    (100, Some(55.0), 507.0),
    (1_000, Some(42.0), 403.0),
    (10_000, Some(42.0), 293.0),
];
const PEER_TRIPS: f64 = 2.5;
/// Bytes of the root of that trie, with what it is the root of.
const PEER_ROOT: f64 = 24.0;
/// Documents that move, and how often in a round.
const NAMES: usize = 1 << 16;
const ROUNDS: usize = 5;
const SET: SetId = SetId(7);

/// What one node holds: positions and values, and their sketch.
#[derive(Clone)]
struct Node {
    values: Vec<(u64, u64)>,
    sketch: Sketch,
}

/// Rounds by the messages that nodes send, encoded and decoded.
pub(crate) fn sketch() -> Vec<Row> {
    let key = SketchKey::derived(b"a secret that is long");
    let mut random = Rng::with_seed(1);
    let mut rows = equal(&key, &mut random);
    // By how many differ: bytes for each of them, and trips, for each number of documents.
    let mut seen: BTreeMap<usize, Vec<(f64, f64)>> = BTreeMap::new();
    for held in HELD {
        let node = Node::new(&key, &mut random, held);
        for (differ, trials) in TRIALS {
            let (mut bytes, mut trips) = (0, 0);
            for _ in 0..trials {
                let other = node.apart(&key, &mut random, differ);
                let round = round(&key, &other.0, &other.1);
                assert_eq!(round.found, differ, "not all that differs was named");
                (bytes, trips) = (bytes + round.bytes, trips + round.trips);
            }
            let bytes = bytes as f64 / f64::from(trials) / differ as f64;
            let trips = f64::from(trips) / f64::from(trials);
            eprintln!("sketch: {held} held, {differ} differ: {bytes:.1} bytes each, {trips} trips");
            seen.entry(differ).or_default().push((bytes, trips));
        }
    }
    for (differ, bar, peer) in BYTES {
        // The last is of the most documents, as the peer's is.
        let figure = format!("naming {differ} of 1,000,000 documents: bytes for each that differs");
        let row = Row::beside(figure, "B", seen[&differ][HELD.len() - 1].0, peer);
        rows.push(bar.into_iter().fold(row, |row, bar| row.bar(Bar::at_most(bar))));
    }
    let trips = seen.values().map(|held| {
        let trips = held.iter().map(|(_, trips)| trips);
        trips.sum::<f64>() / HELD.len() as f64
    });
    let figure = "naming what differs: mean trips, of the number of differences with the most";
    let trips = Row::beside(figure, "", trips.fold(0.0, f64::max), PEER_TRIPS);
    rows.push(trips.bar(Bar::at_most(1.1)));
    for (differ, held) in &seen {
        let bytes = || held.iter().map(|(bytes, _)| *bytes);
        let (most, least) = (bytes().fold(0.0, f64::max), bytes().fold(f64::MAX, f64::min));
        let figure =
            format!("naming {differ} of 10,000 to 1,000,000 documents: most against least");
        rows.push(Row::beside(figure, "B", most, least).bar(Bar::ratio_at_most(1.1)));
    }
    rows
}

/// What it costs to learn that nothing differs: what a beat has for it, the beat, and the question.
fn equal(key: &SketchKey, random: &mut Rng) -> Vec<Row> {
    let node = Node::new(key, random, HELD[0]);
    let root = node.sketch.cells()[0];
    let cursor = Some(Cursor { incarnation: IncarnationId::from_bytes([1; 16]), seq: 1 });
    let beat = Beat { seq: 1, cursor, told: 1, set: SET, root, state: 1 };
    let asked = round(key, &node.sketch, &node.sketch);
    assert_eq!((asked.found, asked.trips), (0, 1));
    let told = (Cell::BYTES + size_of_val(&SET.0)) as f64;
    vec![
        Row::beside("equal: the sum and what it is of, in a beat", "B", told, PEER_ROOT)
            .bar(Bar::at_most(48.0)),
        Row::alone("equal: the whole beat, one way", "B", beat.encode().len() as f64),
        Row::alone("equal: a question about it and its answer", "B", asked.bytes as f64),
    ]
}

impl Node {
    fn new(key: &SketchKey, random: &mut Rng, held: usize) -> Self {
        let mut sketch = Sketch::new(Sketch::CELLS_MAX);
        let values: Vec<(u64, u64)> =
            (0..held).map(|_| (random.u64(..), random.u64(1..))).collect();
        for (position, value) in &values {
            sketch.change(key, *position, *value);
        }
        Self { values, sketch }
    }

    /// Two nodes that held the same as this one, until each wrote for itself: of four documents, one was
    /// changed, one deleted, which is a change, and each of both made one.
    fn apart(&self, key: &SketchKey, random: &mut Rng, differ: usize) -> (Sketch, Sketch) {
        let mut nodes = [self.sketch.clone(), self.sketch.clone()];
        let first = random.usize(..self.values.len());
        for number in 0..differ {
            match number % 4 {
                kind @ (0 | 1) => {
                    let (position, value) = self.values[(first + number) % self.values.len()];
                    nodes[kind].change(key, position, value ^ random.u64(1..));
                }
                kind => nodes[kind - 2].change(key, random.u64(..), random.u64(1..)),
            }
        }
        let [one, two] = nodes;
        (one, two)
    }
}

/// What a round cost.
struct Cost {
    found: usize,
    trips: u32,
    /// Both ways.
    bytes: usize,
}

fn round(key: &SketchKey, asking: &Sketch, asked: &Sketch) -> Cost {
    let cells = asking.cells().to_vec();
    let (mut round, mut ask) = Round::begin(key.clone(), Part::whole(SET), cells);
    let mut cost = Cost { found: 0, trips: 0, bytes: 0 };
    loop {
        let question = ask.encode();
        let told = answer(Some(asked.cells()), key, &Ask::decode(&question).unwrap()).encode();
        cost.trips += 1;
        cost.bytes += question.len() + told.len();
        match round.told(Told::decode(&told).unwrap()).unwrap() {
            Next::Ask(more) => ask = more,
            Next::Differ(found) => return Cost { found: found.len(), ..cost },
            other => unreachable!("no node says so of one set: {other:?}"),
        }
    }
}

/// What a write costs more for it: both fingerprints, and the change of the sketch.
pub(crate) fn ledger() -> Vec<Row> {
    let key = SketchKey::derived(b"a secret that is long");
    let mut random = Rng::with_seed(2);
    let mut version = || -> Version {
        let hash = std::array::from_fn(|_| random.u8(..));
        std::iter::once(Hash::from_bytes(hash)).collect()
    };
    let moved: Vec<_> =
        (0..NAMES as u64).map(|number| (name(number), version(), version())).collect();
    let mut sketch = Sketch::new(Sketch::CELLS_MAX);
    let round = |_| {
        let start = Instant::now();
        for (name, before, after) in &moved {
            black_box(key.collection(name.collection()));
            let [was, is] = [before, after].map(|version| key.fingerprint(name, version));
            sketch.change(&key, position(name.id()), was ^ is);
        }
        black_box(&sketch);
        1e9 * start.elapsed().as_secs_f64() / NAMES as f64
    };
    let each = median((0..ROUNDS).map(round));
    let figure = "what the sketch costs each write: two fingerprints and a change";
    vec![Row::alone(figure, "ns", each).bar(Bar::at_most(1_000.0))]
}
