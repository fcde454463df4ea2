//! The ledger is what the heads say, whatever was committed, and in whatever order.

use crate::{
    ident::{Collection, CollectionToken, Hash, IncarnationId, Name, NodeId, Version},
    node::ledger::{Ledger, SET_TIME, SETS_MAX},
    store::{
        Aside, Brings, Commit, Committer, Durability, Fresh, Log, MemoryEngine, NewView, Origin,
        Orphans, Store, Track,
    },
    sync::{Cell, Scope, SetId, SketchKey},
};
use bytes::Bytes;
use fastrand::Rng;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    thread,
};

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
        let head = std::array::from_fn(|_| self.random.u8(..));
        let deleted = self.random.u8(0..4) == 0;
        Some(self.edit(name, head, deleted))
    }

    /// A commit after which a document has this head alone.
    fn edit(&mut self, name: Name, head: [u8; 32], deleted: bool) -> Commit {
        let track = self.tracks.entry(name.clone()).or_insert_with(|| {
            let stored = self.store.document(&name).unwrap();
            stored.map_or_else(|| Arc::new(Track::absent(name)), |stored| stored.track)
        });
        let change = Bytes::from_static(b"change");
        let brings = Brings { made: vec![change.clone()], ..Brings::default() };
        Commit {
            track: Arc::clone(track),
            log: Log::Append(vec![(Origin::Own, change)]),
            brings: brings.and(Origin::Own),
            version: [Hash::from_bytes(head)].into_iter().collect(),
            conflicts: 0,
            view: if deleted { NewView::Deleted } else { NewView::Made(Bytes::from_static(b"{}")) },
            standing: Bytes::new(),
            kept: Vec::new(),
            orphans: Orphans::default(),
            document_bytes_max: usize::MAX,
        }
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

    /// The token of each collection, as it is kept; it is what is made now by who was not there.
    fn tokens(&self) -> [CollectionToken; 2] {
        let names = ["a", "b"].map(|name| name.parse::<Collection>().unwrap());
        let anew = Ledger::new(key(), 1 << 12, &self.store);
        anew.make_roots(&self.store).unwrap();
        let [kept, made] = [&*self.ledger, &anew].map(|ledger| ledger.tokens(&names).unwrap());
        assert_eq!(kept, made);
        kept.try_into().unwrap()
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
            bench.ledger.make_roots(&bench.store).unwrap();
            bench.tokens();
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
        let make = move || {
            ledger.make_roots(&store).unwrap();
            ledger.make(&Scope::All, &store).unwrap()
        };
        let made = thread::Builder::new().spawn(make).unwrap();
        for _ in 0..60 {
            bench.step();
        }
        assert!(made.join().unwrap());
        let (kept, rebuilt) = (bench.kept(Scope::All.set(&key())), bench.rebuilt(&Scope::All));
        assert_eq!(kept.1, rebuilt.1, "seed {seed}");
        assert!(kept == rebuilt, "seed {seed}");
        bench.tokens();
    }
}

#[test]
fn a_token_is_that_of_what_is_held_and_another_after_every_change() {
    let (mut one, mut two) = (Bench::new(1), Bench::new(2));
    one.ledger.make_roots(&one.store).unwrap();
    let mut seen = BTreeSet::from([one.tokens()]);
    let nothing = one.tokens();
    assert_eq!(nothing[0], nothing[1]);
    let write = |bench: &mut Bench, (of, head, deleted): (String, u8, bool)| {
        let commit = bench.edit(name(&of), [head; 32], deleted);
        bench.committer.write(vec![commit]).unwrap();
        bench.tokens()
    };
    let documents: Vec<_> = (0..10).map(|n| (format!("a/{n}"), n, n % 3 == 0)).collect();
    for document in documents.clone() {
        assert!(seen.insert(write(&mut one, document)));
    }
    two.ledger.make_roots(&two.store).unwrap();
    for document in documents.into_iter().rev() {
        write(&mut two, document);
    }
    assert_eq!(one.tokens(), two.tokens(), "in whatever order it came");
    assert_eq!(one.tokens()[1], nothing[1]);
    // A collection has a token also when all that was in it is deleted, which is no empty one.
    for bench in [&mut one, &mut two] {
        write(bench, ("b/1".to_owned(), 50, false));
        write(bench, ("b/1".to_owned(), 51, true));
    }
    assert_eq!(one.tokens(), two.tokens());
    assert!(seen.insert(one.tokens()) && one.tokens()[1] != nothing[1]);
    let other = Ledger::new(SketchKey::derived(b"another"), 1 << 12, &one.store);
    other.make_roots(&one.store).unwrap();
    let of_other = other.tokens(&["a".parse().unwrap()]).unwrap();
    assert_ne!(of_other[0], one.tokens()[0], "who has another secret compares nothing");
}

#[tokio::test(start_paused = true)]
async fn of_too_many_sets_those_that_nobody_looks_at_are_forgotten() {
    let bench = Bench::new(3);
    let scope = |n: usize| Scope::of(&BTreeSet::from([format!("c{n}").parse().unwrap()]), &key());
    let make = |n| bench.ledger.make(&scope(n), &bench.store).unwrap();
    let is_kept = |n| bench.ledger.root(scope(n).set(&key())).is_some();
    assert!((0..SETS_MAX).all(make));
    bench.ledger.make_roots(&bench.store).unwrap();
    tokio::time::advance(SET_TIME / 2).await;
    assert!((2..SETS_MAX).all(is_kept));
    tokio::time::advance(SET_TIME / 2).await;
    assert_eq!([100, 101, 102].map(make), [true, true, false]);
    assert_eq!([0, 1, 2, 100, 101].map(is_kept), [false, false, true, true, true]);
    assert!(make(2), "what is there is there");
}

#[test]
fn a_commit_that_does_not_tell_what_it_brings_is_not_one_that_brings_nothing() {
    let mut bench = Bench::new(4);
    let name = name("a/a");
    let commit = bench.edit(name.clone(), [1; 32], false);
    let made = commit.brings.made.clone();
    bench.committer.write(vec![commit]).unwrap();
    assert_eq!(bench.ledger.made(name.id(), 0, 9), Some(made));
    // As what comes out of quarantine does.
    let commit = bench.edit(name.clone(), [2; 32], false);
    let brings = Brings { made: Vec::new(), ..commit.brings };
    bench.committer.write(vec![Commit { brings, ..commit }]).unwrap();
    assert_eq!(bench.ledger.made(name.id(), 1, 9), None);
    assert_eq!(bench.ledger.made(name.id(), 2, 9), Some(Vec::new()));
}

#[test]
fn the_last_commits_are_those_that_moved_documents_whatever_else_became_of_them() {
    for seed in 0..20 {
        let mut bench = Bench::new(seed);
        let mut moved = BTreeMap::new();
        for _ in 0..200 {
            let before = bench.store.last_seq();
            match bench.commit() {
                Some(commit) if bench.random.u8(0..8) != 0 => {
                    let id = commit.track.name().id();
                    bench.committer.write(vec![commit]).unwrap();
                    moved.insert(before + 1, id);
                }
                Some(commit) if bench.store.head(commit.track.name().id()).unwrap().is_some() => {
                    let name = commit.track.name().clone();
                    bench.tracks.remove(&name);
                    assert_eq!(bench.committer.set_aside(&name, &Aside::Document, "", 1), Ok(true));
                }
                _ => {}
            }
            let last = bench.store.last_seq();
            let after = bench.random.u64(0..=last);
            let until = bench.random.u64(after..=last);
            let told = bench.ledger.stretch(after, until, usize::MAX, usize::MAX).unwrap();
            let are = moved.range(..=until).filter(|(seq, _)| after < **seq);
            let are = are.map(|(_, id)| *id).collect();
            assert_eq!((told.to, told.documents), (until, are), "seed {seed}");
        }
    }
}
