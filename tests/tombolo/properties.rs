//! Drives every property of `fuzz/properties` with seeds and with the saved corpus.
//!
//! `TOMBOLO_SEEDS=n` tries n seeds of each, `TOMBOLO_SEED=n` that one alone.

use std::{env, fs, ops::Range, path::Path, thread};

#[path = "../../fuzz/properties/mod.rs"]
#[expect(unreachable_pub, reason = "it is a crate of its own when libFuzzer drives it")]
pub(crate) mod all;

/// Lengths of the byte strings that seeds make; each seed takes one.
const LENGTHS: [usize; 8] = [0, 1, 2, 8, 32, 128, 512, 4_096];

/// Tells how to repeat what was running when a property did not hold.
struct Running<'a> {
    property: &'a str,
    input: String,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let Self { property, input } = self;
            eprintln!("{property} does not hold for {input}: cargo test --test tombolo {property}");
        }
    }
}

pub(crate) fn drive(property: &str, seeds: u64, holds: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(property);
    // A property without inputs worth keeping has no folder.
    for entry in fs::read_dir(corpus).into_iter().flatten() {
        let path = entry.unwrap().path();
        let _running = Running { property, input: path.display().to_string() };
        holds(&fs::read(&path).unwrap());
    }
    for seed in chosen(seeds) {
        let _running = Running { property, input: format!("TOMBOLO_SEED={seed}") };
        holds(&bytes(seed));
    }
}

fn bytes(seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let length = LENGTHS[random.usize(..LENGTHS.len())];
    (0..length).map(|_| random.u8(..)).collect()
}

#[expect(clippy::disallowed_methods, reason = "how much to test is said by who runs the test")]
fn chosen(seeds: u64) -> Range<u64> {
    let number = |name| env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    match number("TOMBOLO_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TOMBOLO_SEEDS").unwrap_or(seeds),
    }
}
