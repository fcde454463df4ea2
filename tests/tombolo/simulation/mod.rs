//! Whole nodes under one seed: their network loses messages and parts, machines fail, lose their last
//! writes, come back from backups, and start on copies of other machines' data. Then all is well again, and
//! all have to hold the same, and everything that was promised.
//!
//! `TOMBOLO_SIMULATIONS=n` runs n seeds, or `=m..n` those, and `TOMBOLO_SIMULATION=n` that one alone, and
//! tells what happens.
//! The same seed does the same where tokio is told to take it, `eval "$(.ci/setup tests)"`, and in a
//! process of its own: in futures-util, chance is handed out to one thread after the other.

mod machine;
mod network;
mod oracle;
mod voyage;

use std::{
    env,
    ops::Range,
    process::{Command, Output},
    str,
    sync::Mutex,
    thread,
    time::Duration,
};
use voyage::Voyage;

/// How many seeds `cargo test` runs.
const SEEDS: u64 = 200;
/// Nodes work on documents of any depth, on the stack of whoever simulates them.
const STACK_BYTES: usize = 64 << 20;
const ONE: &str = "TOMBOLO_SIMULATION";

#[expect(clippy::disallowed_methods, reason = "how much to test is said by who runs the test")]
fn said(variable: &str) -> Option<String> {
    env::var(variable).ok()
}

fn number(variable: &str) -> Option<u64> {
    said(variable).map(|text| text.parse().unwrap())
}

/// Which seeds are run.
fn seeds() -> Range<u64> {
    let Some(seeds) = said("TOMBOLO_SIMULATIONS") else { return 0..SEEDS };
    let (first, end) = seeds.split_once("..").unwrap_or(("0", &seeds));
    first.parse().unwrap()..end.parse().unwrap()
}

/// Runs a simulation in a process of its own.
fn sail(seed: u64) -> Output {
    let mut process = Command::new(env::current_exe().unwrap());
    process.args(["--exact", "simulation::a_simulation", "--nocapture"]);
    process.env(ONE, seed.to_string()).env("RUST_BACKTRACE", "0").output().unwrap()
}

/// What a simulation said in the end; `None`: it did not end well.
fn outcome(output: &Output) -> Option<Voyage> {
    let lines = str::from_utf8(&output.stdout).unwrap().lines();
    let said = lines.filter_map(|line| line.parse().ok()).next_back();
    said.filter(|_| output.status.success())
}

#[test]
fn a_simulation() {
    let (seed, aloud) = (number(ONE).unwrap_or(0), number(ONE).is_some());
    let thread = thread::Builder::new().name(format!("seed-{seed}")).stack_size(STACK_BYTES);
    println!("{}", thread.spawn(move || Voyage::run(seed, aloud)).unwrap().join().unwrap());
}

#[test]
fn nodes_that_meet_every_misfortune_hold_the_same_in_the_end() {
    let next = Mutex::new(seeds());
    let (done, failed) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            let work = || {
                loop {
                    let Some(seed) = next.lock().unwrap().next() else { return };
                    if seed.is_multiple_of(500) {
                        println!("seed {seed}");
                    }
                    let output = sail(seed);
                    match outcome(&output) {
                        Some(voyage) => done.lock().unwrap().push(voyage),
                        None => {
                            println!("{}", String::from_utf8_lossy(&output.stderr));
                            failed.lock().unwrap().push(seed);
                        }
                    }
                }
            };
            thread::Builder::new().spawn_scoped(scope, work).unwrap();
        }
    });
    let (done, failed) = (done.into_inner().unwrap(), failed.into_inner().unwrap());
    sum_up(&done);
    for seed in &failed {
        println!("again: {ONE}={seed} cargo test --test tombolo a_simulation -- --nocapture");
    }
    assert!(failed.is_empty(), "seeds {failed:?} did not end well");
}

/// Says how they went.
fn sum_up(voyages: &[Voyage]) {
    let mut healed: Vec<u64> = voyages.iter().map(|voyage| voyage.healed_ms).collect();
    healed.sort_unstable();
    let at = |part: usize| {
        let healed = healed.get(healed.len().saturating_sub(1) * part / 100);
        Duration::from_millis(healed.copied().unwrap_or(0))
    };
    let sum = |part: fn(&Voyage) -> usize| voyages.iter().map(part).sum::<usize>();
    let [faults, promises, documents] =
        [sum(|one| one.faults), sum(|one| one.promises), sum(|one| one.documents)];
    println!(
        "{} simulations, {faults} faults, {promises} promises kept in {documents} documents; equal \
         after {:.1?} (half), {:.1?} (99 of 100), {:.1?} (all)",
        voyages.len(),
        at(50),
        at(99),
        at(100),
    );
}

#[test]
fn a_simulation_does_the_same_whenever_it_is_run() {
    if !cfg!(tokio_unstable) {
        println!("SKIPPED: tokio wakes tasks as it likes: eval \"$(.ci/setup tests)\" before");
        return;
    }
    for seed in 0..3 {
        let [one, two] = [(); 2].map(|()| outcome(&sail(seed)).unwrap());
        assert_eq!(one.hash, two.hash, "seed {seed}");
    }
}
