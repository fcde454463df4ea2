//! Rounds that alternate, so that what else the machine does hits both sides alike.

use super::row::Pair;

/// Enough for a median that one disturbed round does not move.
pub(crate) const ROUNDS: usize = 5;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Ours.
    Ours,
    /// What it stands beside.
    Floor,
}

/// Runs both sides in turns, ours first in every other round, and gives what each round of each gave:
/// ours, then the floor.
pub(crate) fn alternate<T>(
    what: &str,
    rounds: usize,
    mut run: impl FnMut(Side) -> T,
) -> Vec<(T, T)> {
    let round = |round: usize| {
        eprintln!("{what}: round {} of {rounds}", round + 1);
        if round.is_multiple_of(2) {
            let ours = run(Side::Ours);
            (ours, run(Side::Floor))
        } else {
            let floor = run(Side::Floor);
            (run(Side::Ours), floor)
        }
    };
    (0..rounds).map(round).collect()
}

/// One number of each round.
pub(crate) fn pair<T>(rounds: &[(T, T)], number: impl Fn(&T) -> f64) -> Pair {
    let numbers: Vec<_> =
        rounds.iter().map(|(ours, floor)| (number(ours), number(floor))).collect();
    Pair::of(&numbers)
}
