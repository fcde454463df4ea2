//! Scratch driver.
#[path = "../fuzz/properties/merge_convergence.rs"]
mod merge_convergence;
use merge_convergence::{Rule, run};
#[test]
fn merges() {
    let seeds: u64 = std::env::var("SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(200);
    let from: u64 = std::env::var("FROM").ok().and_then(|s| s.parse().ok()).unwrap_or(0);
    let mut all = merge_convergence::Tally::default();
    let mut off = 0;
    let mut bad = 0;
    for seed in from..from + seeds {
        let mut rng = fastrand::Rng::with_seed(seed);
        let bytes: Vec<u8> = (0..rng.usize(200..3000)).map(|_| rng.u8(..)).collect();
        let got = std::panic::catch_unwind(|| run(&bytes, Rule::On));
        let Ok(t) = got else {
            bad += 1;
            eprintln!("SEED {seed}");
            if bad > 3 {
                break;
            }
            continue;
        };
        if t.hidden > 0 {
            eprintln!("SEED {seed} hides {}", t.hidden);
            bad += 1;
        }
        all.puts += t.puts;
        all.late_puts += t.late_puts;
        all.patches += t.patches;
        all.merges += t.merges;
        all.written += t.written;
        all.hidden += t.hidden;
        all.standing += t.standing;
        if std::env::var("OFF").is_ok() {
            off += run(&bytes, Rule::Off).hidden;
        }
    }
    eprintln!("{all:?} off hides {off}");
    assert_eq!(bad, 0);
}
