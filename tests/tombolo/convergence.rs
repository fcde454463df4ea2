//! The convergence property in the large: how much was tried, and that the check can fail.

use crate::properties::all::merge_convergence::{Rule, Tally, run};

/// At least so many puts of present versions.
const PUTS_MIN: usize = 10_000;

fn bytes(seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..random.usize(200..3_000)).map(|_| random.u8(..)).collect()
}

#[test]
fn ten_thousand_puts_on_three_replicas_hide_nothing() {
    let mut total = Tally::default();
    for seed in 0.. {
        let tally = run(&bytes(seed), Rule::On);
        assert_eq!(tally.hidden, 0, "seed {seed} hides values");
        total.add(&tally);
        if PUTS_MIN <= total.puts {
            println!("{total:?} in {} seeds", seed + 1);
            break;
        }
    }
    assert!(0 < total.late_puts && 0 < total.patches && 0 < total.standing, "{total:?}");
    assert!(1_000 < total.singles, "{total:?}");
}

#[test]
fn without_the_standing_rule_values_are_hidden() {
    let hidden: usize = (0..100).map(|seed| run(&bytes(seed), Rule::Off).hidden).sum();
    assert!(20 < hidden, "the control hides {hidden} values: the check cannot fail");
}
