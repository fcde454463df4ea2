//! One simulation, from its seed to its end.

use super::machine::{Held, Machine, Phase, Sea, host};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fmt,
    str::FromStr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tombolo::store::Durability;

/// Longest until all hold the same, once nothing is in the way: two ticks of their sketches.
const HEALED_TIME_MAX: Duration = Duration::from_secs(75);
/// Longest until all hold the same where nothing went wrong: less than one tick.
const CALM_TIME_MAX: Duration = Duration::from_secs(10);
/// How finely time passes.
const STEP: Duration = Duration::from_millis(2);

/// Who connects to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Mesh,
    Ring,
    Star,
    Line,
}

/// How a simulation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Voyage {
    /// Of all that happened.
    pub(super) hash: String,
    /// How long it took to become equal.
    pub(super) healed_ms: u64,
    pub(super) promises: usize,
    pub(super) documents: usize,
    pub(super) faults: usize,
}

impl fmt::Display for Voyage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hash, healed_ms, promises, documents, faults } = self;
        write!(out, "voyage {hash} {healed_ms} {promises} {documents} {faults}")
    }
}

impl FromStr for Voyage {
    type Err = ();

    fn from_str(line: &str) -> Result<Self, ()> {
        let [hash, rest @ ..] =
            &line.strip_prefix("voyage ").ok_or(())?.split(' ').collect::<Vec<_>>()[..]
        else {
            return Err(());
        };
        let numbers: Vec<usize> = rest.iter().filter_map(|number| number.parse().ok()).collect();
        let [healed_ms, promises, documents, faults] = numbers[..] else { return Err(()) };
        Ok(Self {
            hash: (*hash).to_owned(),
            healed_ms: healed_ms as u64,
            promises,
            documents,
            faults,
        })
    }
}

/// What is simulated.
struct Fleet<'a> {
    sim: turmoil::Sim<'a>,
    machines: Vec<Arc<Machine>>,
    /// Those that are off, until when.
    off: BTreeMap<usize, Duration>,
    sea: Arc<Sea>,
    random: fastrand::Rng,
    shape: Shape,
    faults: usize,
}

impl Voyage {
    /// Runs the simulation of a seed.
    ///
    /// # Panics
    /// Something that was promised does not hold.
    pub(super) fn run(seed: u64, aloud: bool) -> Self {
        let mut fleet = Fleet::new(seed, aloud);
        fleet.sail(Duration::from_millis(500));
        fleet.rest_until_equal("setting out", HEALED_TIME_MAX);
        fleet.phase(Phase::Write);
        fleet.meet_misfortune();
        fleet.phase(Phase::Rest);
        fleet.heal();
        let (healed, held) = fleet.rest_until_equal("healed", HEALED_TIME_MAX);
        fleet.check_promises(&held);
        fleet.sail_in_calm_weather();
        let oracle = fleet.sea.oracle();
        Self {
            hash: oracle.hash().to_string(),
            healed_ms: u64::try_from(healed.as_millis()).unwrap(),
            promises: oracle.promises(),
            documents: held.documents.len(),
            faults: fleet.faults,
        }
    }
}

impl Fleet<'_> {
    fn new(seed: u64, aloud: bool) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let count = random.usize(2..=5);
        let shapes = [Shape::Mesh, Shape::Mesh, Shape::Ring, Shape::Star, Shape::Line];
        let shape = shapes[random.usize(..shapes.len())];
        let relaxed = random.u8(..3) == 0;
        let sea = Arc::new(Sea {
            seed,
            phase: Mutex::new(Phase::Begin),
            oracle: Mutex::default(),
            durability: if relaxed { Durability::Relaxed } else { Durability::Sync },
            machines: Mutex::default(),
        });
        sea.oracle().aloud = aloud;
        let mut builder = turmoil::Builder::new();
        builder
            .rng_seed(seed)
            .tick_duration(STEP)
            .simulation_duration(Duration::from_secs(3600))
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(random.u64(2..60)))
            .tcp_capacity(1 << 16);
        let mut sim = builder.build();
        let mut peers = vec![Vec::new(); count];
        for (a, b) in shape.links(count) {
            // Mostly each knows the other; else one is asked for its feed.
            let both = random.u8(..4) != 0 || shape == Shape::Mesh;
            if both || random.bool() {
                peers[a].push(b);
            }
            if both || !peers[a].contains(&b) {
                peers[b].push(a);
            }
        }
        sea.oracle().tell(Duration::ZERO, &format!("{shape:?} {peers:?} {:?}", sea.durability));
        let machines: Vec<Arc<Machine>> = peers
            .into_iter()
            .enumerate()
            .map(|(index, peers)| Arc::new(Machine::new(index, Arc::clone(&sea), peers)))
            .collect();
        (*sea.machines.lock().unwrap()).clone_from(&machines);
        for machine in &machines {
            let machine = Arc::clone(machine);
            sim.host(host(machine.index), move || Arc::clone(&machine).run());
        }
        Self { sim, machines, off: BTreeMap::new(), sea, random, shape, faults: 0 }
    }

    fn now(&self) -> Duration {
        self.sim.elapsed()
    }

    fn tell(&self, what: &str) {
        self.sea.oracle().tell(self.now(), what);
    }

    fn phase(&self, phase: Phase) {
        self.tell(&format!("{phase:?}"));
        *self.sea.phase.lock().unwrap() = phase;
        for machine in &self.machines {
            machine.look_again();
        }
    }

    /// Lets time pass.
    fn sail(&mut self, time: Duration) {
        let until = self.now() + time;
        while self.now() < until {
            self.sim.step().unwrap();
            let due = self.off.iter().find(|(_, until)| **until <= self.sim.elapsed());
            if let Some(index) = due.map(|(index, _)| *index) {
                self.off.remove(&index);
                self.sim.bounce(host(index));
            }
        }
    }

    /// Everything that can go wrong, for some time.
    fn meet_misfortune(&mut self) {
        let until = self.now() + Duration::from_millis(self.random.u64(5_000..20_000));
        while self.now() < until {
            let pause = Duration::from_millis(self.random.u64(50..2_000));
            self.sail(pause);
            self.faults += 1;
            let one = self.random.usize(..self.machines.len());
            let other = (one + self.random.usize(1..self.machines.len())) % self.machines.len();
            let (a, b) = (host(one), host(other));
            let fault = self.random.u8(..20);
            match fault {
                0..4 => self.switch_off(one, fault),
                15 if self.random.u8(..4) == 0 => self.copy(one, other),
                4 if self.off.contains_key(&one) => {}
                4 => self.machines[one].break_disk(self.now()),
                5..8 => self.machines[one].back_up(self.now()),
                8..11 => self.sim.partition(a.clone(), b.clone()),
                11..13 => self.sim.partition_oneway(a.clone(), b.clone()),
                13..15 => self.sim.set_link_fail_rate(a.clone(), b.clone(), 0.01),
                _ => self.sim.repair(a.clone(), b.clone()),
            }
            self.tell(&format!("fault {fault} of {a} and {b}"));
        }
    }

    fn switch_off(&mut self, index: usize, how: u8) {
        if self.off.contains_key(&index) {
            return;
        }
        self.sim.crash(host(index));
        let (now, machine) = (self.now(), &self.machines[index]);
        match how {
            0 => machine.kill(),
            1 | 2 => machine.lose_power(now),
            _ => {
                let pick = self.random.usize(..);
                if !machine.restore(pick, now) {
                    machine.kill();
                }
            }
        }
        self.off.insert(index, now + Duration::from_millis(self.random.u64(10..4_000)));
    }

    /// A machine starts on a copy of the data of another one, which goes on.
    fn copy(&mut self, index: usize, of: usize) {
        if self.off.contains_key(&index) {
            return;
        }
        self.sim.crash(host(index));
        self.machines[index].copy_of(&self.machines[of], self.now());
        self.off.insert(index, self.now() + Duration::from_millis(self.random.u64(10..1_000)));
    }

    /// Nothing is wrong any more, and everything is switched on.
    fn heal(&mut self) {
        for a in 0..self.machines.len() {
            for b in 0..a {
                self.sim.repair(host(a), host(b));
                self.sim.set_link_fail_rate(host(a), host(b), 0.0);
            }
        }
        // Those whose disk failed take no writes before they are started again.
        for index in 0..self.machines.len() {
            if !self.off.contains_key(&index) {
                self.sim.crash(host(index));
                self.machines[index].kill();
            }
            self.machines[index].renew();
            self.sim.bounce(host(index));
        }
        self.off.clear();
    }

    /// Waits until all machines say that they hold the same. Gives how long that took, and what it is.
    fn rest_until_equal(&mut self, when: &str, most: Duration) -> (Duration, Held) {
        let began = self.now();
        loop {
            self.sail(Duration::from_millis(500));
            let all: Vec<Option<Held>> = self.machines.iter().map(|one| one.held()).collect();
            if let [Some(first), rest @ ..] = &all[..]
                && first.documents.keys().any(|name| name.key().as_str() == "count")
                && rest.iter().flatten().filter(|held| held.documents == first.documents).count()
                    == rest.len()
                && all.iter().flatten().all(|held| held.reader_agrees)
            {
                self.tell(&format!("equal: {} documents", first.documents.len()));
                return (self.now() - began, first.clone());
            }
            assert!(self.now() - began < most, "{when}: not equal: {}", differences(&all));
        }
    }

    fn check_promises(&self, held: &Held) {
        let value = |json: &bytes::Bytes| serde_json::from_slice::<Value>(json).unwrap();
        let all = held.documents.iter().filter_map(|(name, (_, _, json))| {
            Some((format!("{}/{}", name.collection(), name.key()), value(json.as_ref()?)))
        });
        let broken = self.sea.oracle().broken(&all.collect());
        assert!(broken.is_empty(), "broken promises: {broken:?}");
    }

    /// Nothing goes wrong: the feed alone brings everything to everybody, and to each once.
    fn sail_in_calm_weather(&mut self) {
        // Until whatever was late has come, and nobody is tried again later.
        self.sail(Duration::from_secs(45));
        let before = self.sum();
        let made = self.made();
        self.phase(Phase::Write);
        self.sail(Duration::from_secs(8));
        self.phase(Phase::Rest);
        let (_, held) = self.rest_until_equal("in calm weather", CALM_TIME_MAX);
        self.check_promises(&held);
        self.sail(Duration::from_secs(1));
        let after = self.sum();
        self.tell(&format!("{before:?} {after:?}"));
        assert_eq!(before.repaired, after.repaired, "the feed left something to the sketch");
        if self.shape == Shape::Mesh {
            // A write makes one change, and two where it brings back what two have deleted.
            let (others, taken) = (self.machines.len() as u64 - 1, after.taken - before.taken);
            assert!((self.made() - made) * others <= taken, "all changes come to all others");
            assert_eq!(taken % others, 0, "one copy of each change for each other");
            assert_eq!(after.held, before.held, "and not one more");
        }
    }

    fn made(&self) -> u64 {
        self.machines.iter().map(|machine| machine.made()).sum()
    }

    fn sum(&self) -> Sum {
        let mut sum = Sum::default();
        for machine in &self.machines {
            let held = machine.held().unwrap();
            sum.taken += held.changes_taken;
            sum.held += held.changes_held;
            sum.repaired += held.peers.iter().map(|peer| peer.repaired).sum::<u64>();
            sum.sent += held.peers.iter().map(|peer| peer.bytes_sent).sum::<u64>();
            sum.received += held.peers.iter().map(|peer| peer.bytes_received).sum::<u64>();
        }
        sum
    }
}

/// What all nodes have counted.
#[derive(Debug, Default)]
struct Sum {
    taken: u64,
    held: u64,
    repaired: u64,
    sent: u64,
    received: u64,
}

impl Shape {
    fn links(self, count: usize) -> Vec<(usize, usize)> {
        let line = (1..count).map(|index| (index - 1, index));
        match self {
            Self::Line => line.collect(),
            Self::Ring if count < 3 => line.collect(),
            Self::Ring => line.chain([(count - 1, 0)]).collect(),
            Self::Star => (1..count).map(|index| (0, index)).collect(),
            Self::Mesh => (0..count).flat_map(|a| (a + 1..count).map(move |b| (a, b))).collect(),
        }
    }
}

/// What some machines hold and others do not, and how their peers fare.
fn differences(all: &[Option<Held>]) -> String {
    let Some(Some(first)) = all.first() else { return "the first machine says nothing".to_owned() };
    let mut text = String::new();
    for (index, held) in all.iter().enumerate() {
        let Some(held) = held else {
            text += &format!("\nn{index} says nothing");
            continue;
        };
        let differ =
            held.documents.iter().filter(|(name, said)| first.documents.get(name) != Some(said));
        let names: Vec<String> =
            differ.map(|(name, _)| format!("{}/{}", name.collection(), name.key())).collect();
        text += &format!("\nn{index}: {} documents, others: {names:?}", held.documents.len());
        if !held.reader_agrees {
            text += "; its reader knows something else";
        }
        for peer in &held.peers {
            text += &format!("\n  {peer:?}");
        }
    }
    text
}
