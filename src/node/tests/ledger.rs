//! The ledger is what the heads say, whatever was committed, and in whatever order.

use crate::{
    ident::{Hash, IncarnationId, Name, NodeId, Version},
    node::ledger::Ledger,
    store::{
        Aside, Brings, Commit, Committer, Durability, Fresh, Log, MemoryEngine, NewView, Origin,
        Orphans, Store, Track,
    },
    sync::{Cell, Scope, SetId, SketchKey},
};
use bytes::Bytes;
use fastrand::Rng;
use std::{collections::BTreeMap, sync::Arc, thread};

fn key() -> SketchKey {
    SketchKey::derived(b"a secret")
}

struct Bench {
    store: Arc<Store>,
    committer: Committer,
    ledger: Arc<Ledger>,
    tracks: BTreeMap<Name, Arc<Track>>,
    random: Rng,
}

impl Bench {
    fn new(seed: u64) -> Self {
        let fresh = Fresh {
            renewed: false,
            node: NodeId::from_bytes([1; 16]),
            incarnation: IncarnationId::from_bytes([2; 16]),
        };
        let engine = Arc::new(MemoryEngine::new());
        let (store, mut committer) = Store::open(engine, fresh, Durability::Sync).unwrap();
        let ledger = Ledger::kept_by(&mut committer, key(), 1 << 12, &store);
        let random = Rng::with_seed(seed);
        Self { store, committer, ledger, tracks: BTreeMap::new(), random }
    }

    /// A commit of some document; none of one in quarantine.
    fn commit(&mut self) -> Option<Commit> {
        let collection = self.random.choice(["a", "b"]).unwrap();
        let key = self.random.u8(0..40).to_string();
        let name = Name::new(collection.parse().unwrap(), key.parse().unwrap()).unwrap();
        let head = self.store.head(name.id()).unwrap();
        if head.is_some_and(|(_, head)| head.quarantined) {
            return None;
        }
        let track = self.tracks.entry(name.clone()).or_insert_with(|| {
            let stored = self.store.document(&name).unwrap();
            stored.map_or_else(|| Arc::new(Track::absent(name)), |stored| stored.track)
        });
        let head = Hash::from_bytes(std::array::from_fn(|_| self.random.u8(..)));
        let deleted = self.random.u8(0..4) == 0;
        Some(Commit {
            track: Arc::clone(track),
            log: Log::Append(vec![(Origin::Own, Bytes::from_static(b"change"))]),
            brings: Brings::default().and(Origin::Own),
            version: [head].into_iter().collect(),
            conflicts: 0,
            view: if deleted { NewView::Deleted } else { NewView::Made(Bytes::from_static(b"{}")) },
            standing: Bytes::new(),
            kept: Vec::new(),
            orphans: Orphans::default(),
            document_bytes_max: usize::MAX,
        })
    }

    /// A group of commits, or a document that goes into quarantine, or one that waits for its beginning.
    fn step(&mut self) {
        match self.random.u8(0..12) {
            0 => {
                let names: Vec<Name> = self.tracks.keys().cloned().collect();
                let Some(name) = self.random.choice(names) else { return };
                self.tracks.remove(&name);
                self.committer.set_aside(&name, &Aside::Document, "why", 1).unwrap();
            }
            1 => {
                let Some(commit) = self.commit() else { return };
                let fresh = Commit {
                    track: Arc::new(Track::absent(name("a/absent"))),
                    log: Log::Append(Vec::new()),
                    version: Version::empty(),
                    view: NewView::Deleted,
                    orphans: Orphans {
                        put: vec![(Hash::from_bytes([7; 32]), Bytes::from_static(b"x"))],
                        remove: Vec::new(),
                    },
                    ..commit
                };
                let receipts = self.committer.write(vec![fresh]).unwrap();
                assert_eq!(receipts[0].unwrap().seq, 0);
                assert_eq!(self.store.head(name("a/absent").id()).unwrap(), None);
            }
            count => {
                let group = (1..count).filter_map(|_| self.commit()).collect();
                self.committer.write(group).unwrap();
            }
        }
    }

    /// The cells and the count of a set, made now by who was not there.
    fn rebuilt(&self, scope: &Scope) -> (Vec<Cell>, (Cell, u64)) {
        let ledger = Ledger::new(key(), 1 << 12, &self.store);
        assert!(ledger.make(scope, &self.store).unwrap());
        let set = scope.set(&key());
        (ledger.summary(set).unwrap(), ledger.root(set).unwrap())
    }

    fn kept(&self, set: SetId) -> (Vec<Cell>, (Cell, u64)) {
        (self.ledger.summary(set).unwrap(), self.ledger.root(set).unwrap())
    }
}

fn name(of: &str) -> Name {
    let (collection, key) = of.split_once('/').unwrap();
    Name::new(collection.parse().unwrap(), key.parse().unwrap()).unwrap()
}

#[test]
fn what_is_kept_is_what_is_made_anew() {
    for seed in 0..20 {
        let mut bench = Bench::new(seed);
        let scopes = [Scope::All, Scope::of([&"b".parse().unwrap()], &key())];
        for steps in [0, 3, 30] {
            for _ in 0..steps {
                bench.step();
            }
            for scope in &scopes {
                assert!(bench.ledger.make(scope, &bench.store).unwrap());
                assert!(bench.kept(scope.set(&key())) == bench.rebuilt(scope), "seed {seed}");
            }
        }
        let [all, some] = scopes.map(|scope| bench.kept(scope.set(&key())).1);
        assert!(some.1 < all.1 && some.0 != all.0);
    }
}

#[test]
fn a_sketch_that_is_made_while_commits_go_on_is_as_if_kept_from_the_beginning() {
    for seed in 0..100 {
        let mut bench = Bench::new(seed);
        for _ in 0..20 {
            bench.step();
        }
        let (ledger, store) = (Arc::clone(&bench.ledger), Arc::clone(&bench.store));
        let make = move || ledger.make(&Scope::All, &store).unwrap();
        let made = thread::Builder::new().spawn(make).unwrap();
        for _ in 0..60 {
            bench.step();
        }
        assert!(made.join().unwrap());
        let (kept, rebuilt) = (bench.kept(Scope::All.set(&key())), bench.rebuilt(&Scope::All));
        assert_eq!(kept.1, rebuilt.1, "seed {seed}");
        assert!(kept == rebuilt, "seed {seed}");
    }
}
