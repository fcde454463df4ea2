//! How much two sketches differ, guessed from which cells of their sum are zero.

use super::sketch::Cell;

/// How many probes are taken of the places from one power of two to the next.
const PROBES_PER_OCTAVE: usize = 32;

/// The places that are probed of a sketch of which the first `shown` cells, a power of two, are known
/// whole: 32 between each power of two and the next, up to `end`.
pub fn probed(shown: usize, end: usize) -> impl Iterator<Item = usize> {
    let octaves = std::iter::successors(Some(shown), |from| from.checked_mul(2));
    let octaves = octaves.take_while(move |from| *from < end);
    octaves.flat_map(|from| {
        (0..PROBES_PER_OCTAVE).map(move |probe| from + probe * from / PROBES_PER_OCTAVE)
    })
}

/// The most likely number of positions that differ: `cells` are the first of the sum of two sketches,
/// `probes` whether other places of it are zero.
///
/// Cell `i` is zero where none of `d` positions is mapped to it, which is so with a probability of
/// (1 − 1/(1 + i/2))ᵈ: the `d` of the greatest likelihood is searched, in steps of 1.4 %. One in 256 of
/// those probes seems zero that is not.
#[expect(clippy::cast_precision_loss, reason = "places are small")]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is within bounds")]
pub fn estimate(cells: &[Cell], probes: impl Iterator<Item = (usize, bool)>) -> usize {
    const STEPS_PER_DOUBLING: u32 = 50;
    const DOUBLINGS: u32 = 24;
    // Every difference is in cell 0, which tells nothing of how many they are.
    let shown = cells.iter().enumerate().skip(1).map(|(place, cell)| (place, cell.is_zero(), 0.0));
    let probes = probes.map(|(place, zero)| (place, zero, 1.0 / 256.0));
    let seen: Vec<(f64, bool, f64)> = shown
        .chain(probes)
        .map(|(place, zero, lies)| ((1.0 - 1.0 / (1.0 + place as f64 / 2.0)).ln(), zero, lies))
        .collect();
    let likelihood = |differences: f64| -> f64 {
        let of = |(missed, zero, lies): &(f64, bool, f64)| {
            let zero_at = (differences * missed).exp();
            let zero_at = (zero_at + (1.0 - zero_at) * lies).clamp(1e-12, 1.0 - 1e-12);
            if *zero { zero_at.ln() } else { (1.0 - zero_at).ln() }
        };
        seen.iter().map(of).sum()
    };
    let mut best = (f64::NEG_INFINITY, 1.0);
    for step in 0..STEPS_PER_DOUBLING * DOUBLINGS {
        let differences = (f64::from(step) / f64::from(STEPS_PER_DOUBLING)).exp2();
        let here = likelihood(differences);
        if best.0 < here {
            best = (here, differences);
        }
    }
    best.1.ceil() as usize
}
