//! Sketches: what differs is read of the sum of two, whatever is held; a sketch depends on what is held
//! alone; and of cells that nobody has made a difference is read, or none, and it ends.

use arbitrary::{Arbitrary, Result, Unstructured};
use std::collections::{BTreeMap, BTreeSet};
use tombolo::sync::{
    Ask, Batch, Beat, Cell, Difference, Hello, NamesAsk, NamesTold, Next, Part, Pull, RepairAsk,
    RepairTold, Round, SetId, Sketch, SketchKey, Taken, Told, answer, peel,
};

const SET: SetId = SetId(1);
/// Most differences that may be in the same cells by chance.
const TANGLED_MAX: usize = 8;

/// Holds for all data, or panics.
pub fn property(data: &[u8]) {
    let key = SketchKey::derived(&data[..data.len().min(4)]);
    // Too little data ends the run early.
    let _ = two_nodes(&mut Unstructured::new(data), &key);
    hostile(data, &key);
}

/// Documents of a node: positions, often alike, and values.
#[derive(Debug, Clone, Default)]
struct Held(BTreeMap<u64, u64>);

impl Held {
    fn set(&mut self, sketch: &mut Sketch, key: &SketchKey, position: u64, value: u64) {
        let before = match value {
            0 => self.0.remove(&position),
            value => self.0.insert(position, value),
        };
        sketch.change(key, position, before.unwrap_or(0) ^ value);
    }

    fn sketch(&self, key: &SketchKey, cells: usize) -> Sketch {
        let mut sketch = Sketch::new(cells);
        for (position, value) in self.0.iter().rev() {
            sketch.change(key, *position, *value);
        }
        sketch
    }
}

fn two_nodes(input: &mut Unstructured<'_>, key: &SketchKey) -> Result<()> {
    let cells = 64 << input.int_in_range(0..=4)?;
    let mut nodes = [0, 1].map(|_| (Held::default(), Sketch::new(cells)));
    for _ in 0..input.int_in_range(0..=cells / 2)? {
        // A position far from others, or near; a value of a document, or none.
        let position = match u8::arbitrary(input)? {
            near @ 0..=99 => u64::from(near % 10),
            _ => u64::arbitrary(input)?,
        };
        let value = if input.ratio(1, 8)? { 0 } else { u64::arbitrary(input)? };
        let whose: u8 = input.int_in_range(0..=5)?;
        for (node, (held, sketch)) in nodes.iter_mut().enumerate() {
            if whose > 1 || usize::from(whose) == node {
                held.set(sketch, key, position, value);
            }
        }
    }
    for (held, sketch) in &nodes {
        assert_eq!(*sketch, held.sketch(key, cells), "as rebuilt, in another order");
        assert_eq!(sketch.cells()[..64], *held.sketch(key, 64).cells(), "growing keeps the first");
    }
    let [(one, first), (two, second)] = &nodes;
    let mut both = first.clone();
    both.add(second.cells());
    let mut sum = Sketch::new(cells);
    for (position, value) in one.0.iter().chain(&two.0) {
        sum.change(key, *position, *value);
    }
    assert_eq!(both, sum, "sums of sketches are sketches of sums");

    let value = |held: &Held, position| held.0.get(position).copied().unwrap_or(0);
    let positions: BTreeSet<&u64> = one.0.keys().chain(two.0.keys()).collect();
    let differ = positions.into_iter().map(|position| Difference {
        position: *position,
        by: value(one, position) ^ value(two, position),
    });
    let differ: Vec<Difference> = differ.filter(|difference| difference.by != 0).collect();
    let (mut round, mut ask) = Round::begin(key.clone(), Part::whole(SET), first.cells().to_vec());
    for trip in 0.. {
        assert!(trip < 32, "a round ends");
        let asked = Ask::decode(&ask.encode());
        let told = answer(Some(second.cells()), key, asked.as_ref().expect("a question"));
        assert_eq!(Told::decode(&told.encode()).as_ref(), Ok(&told));
        match round.told(told).expect("an answer") {
            Next::Ask(more) => ask = more,
            Next::Differ(found) => {
                assert_eq!(found, differ);
                break;
            }
            Next::Slices { some, .. } => {
                assert!(some.iter().all(|found| differ.contains(found)));
                let rest = differ.iter().filter(|difference| !some.contains(difference));
                let rest: Vec<&Difference> = rest.collect();
                let many = cells < 4 * differ.len() + 64;
                // What was read of all cells leaves what chance has put into the same ones: few.
                let chance = is_tangled(&rest, key, cells) && (many || rest.len() <= TANGLED_MAX);
                let excused = chance || many && some.is_empty();
                assert!(excused, "{} of {} in {cells}", some.len(), differ.len());
                break;
            }
            Next::Other => panic!("the set is shared"),
        }
    }
    Ok(())
}

/// Whether no cell holds one of these alone, as happens now and then: then none can be read.
fn is_tangled(differ: &[&Difference], key: &SketchKey, cells: usize) -> bool {
    let mut held = vec![0; cells];
    for difference in differ {
        let mut alone = Sketch::new(cells);
        alone.change(key, difference.position, difference.by);
        let at = alone.cells().iter().map(|cell| usize::from(!cell.is_zero()));
        held.iter_mut().zip(at).for_each(|(held, at)| *held += at);
    }
    held.iter().any(|held| *held != 0) && !held.contains(&1)
}

/// Bytes as cells, and as each message: one that is decoded has no other spelling.
fn hostile(data: &[u8], key: &SketchKey) {
    let (chunks, _) = data.as_chunks::<{ Cell::BYTES }>();
    let cells: Vec<Cell> = chunks.iter().copied().map(Cell::decode).collect();
    let peeled = peel(cells.clone(), key);
    assert!(peeled.found.len() <= 2 * cells.len() + 16);
    let mine = Sketch::new(64);
    if let Ok(ask) = Ask::decode(data) {
        assert_eq!(ask.encode(), data);
        let _ = answer(Some(mine.cells()), key, &ask);
    }
    if let Ok(told) = Told::decode(data) {
        assert_eq!(told.encode(), data);
        let (mut round, _) = Round::begin(key.clone(), Part::whole(SET), mine.cells().to_vec());
        let _ = round.told(told);
    }
    if let Ok(ask) = RepairAsk::decode(data) {
        assert_eq!(ask.encode(), data);
    }
    if let Ok(told) = RepairTold::decode(data) {
        assert_eq!(told.encode(), data);
    }
    if let Ok(ask) = NamesAsk::decode(data) {
        assert_eq!(ask.encode(), data);
    }
    if let Ok(told) = NamesTold::decode(data) {
        assert_eq!(told.encode(), data);
    }
    if let Ok(hello) = Hello::decode(data) {
        assert_eq!(hello.encode(), data);
    }
    if let Ok(beat) = Beat::decode(data) {
        assert_eq!(beat.encode(), data);
    }
    if let Ok(batch) = Batch::decode(data) {
        assert_eq!(batch.encode(), data);
    }
    if let Ok(taken) = Taken::decode(data) {
        assert_eq!(taken.encode(), data);
    }
    if let Ok(pull) = Pull::decode(data) {
        assert_eq!(pull.encode(), data);
    }
}
