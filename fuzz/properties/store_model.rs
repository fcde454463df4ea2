//! The store against a plain map: any commits, crashes and failures, and it holds what the map holds.

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tombolo::{
    ident::{DocumentId, Hash, IncarnationId, Name, NodeId, Version},
    store::{
        Brings, Commit, CommitError, Committer, Crash, Durability, Engine, Fault, Fresh, List, Log,
        MemoryEngine, NewView, Origin, Orphans, Store, Track,
    },
};

/// Holds for all data, or panics.
pub fn property(data: &[u8]) {
    let mut input = Unstructured::new(data);
    // Too little data ends the run early.
    let _ = run(&mut input);
}

fn run(input: &mut Unstructured<'_>) -> Result<()> {
    let durability = *input.choose(&[Durability::Sync, Durability::Relaxed])?;
    let mut bench = Bench::new(durability);
    while !input.is_empty() {
        match input.int_in_range(0..=15)? {
            0 => bench.crash(input)?,
            1 => bench.tracks.clear(),
            2 => bench.sync(),
            3 => bench.fail(input)?,
            _ => bench.write(input)?,
        }
        bench.check();
    }
    bench.crash(input)?;
    bench.check();
    Ok(())
}

/// A document as the store should hold it.
#[derive(Clone)]
struct Document {
    version: Version,
    view: NewView,
    conflicts: u32,
    standing: Bytes,
    chunks: Vec<Bytes>,
    seq: u64,
    own_seq: u64,
}

/// Everything that the store should hold.
#[derive(Clone, Default)]
struct Model(BTreeMap<Name, Document>);

impl Model {
    fn last_seq(&self) -> u64 {
        self.0.values().map(|document| document.seq).max().unwrap_or(0)
    }

    /// What a group of commits makes of it.
    fn apply(&mut self, commits: &[Commit]) {
        let before = self.0.clone();
        let mut order: Vec<Name> = Vec::new();
        let mut own = BTreeSet::new();
        for commit in commits {
            let name = commit.track.name();
            let document = self.0.entry(name.clone()).or_insert_with(|| Document {
                version: Version::empty(),
                view: NewView::Deleted,
                conflicts: 0,
                standing: Bytes::new(),
                chunks: Vec::new(),
                seq: 0,
                own_seq: 0,
            });
            if document.version != commit.version && commit.brings.own {
                own.insert(name.clone());
            }
            match &commit.log {
                Log::Append(changes) => {
                    document.chunks.extend(changes.iter().map(|(_, change)| change.clone()));
                }
                Log::Fold { snapshot, .. } => document.chunks = vec![snapshot.clone()],
            }
            document.version = commit.version.clone();
            document.view = commit.view.clone();
            document.conflicts = commit.conflicts;
            document.standing = commit.standing.clone();
            if !order.contains(name) {
                order.push(name.clone());
            }
        }
        let mut seq = Self(before.clone()).last_seq();
        for name in order {
            let document = self.0.get_mut(&name).unwrap();
            if before.get(&name).is_none_or(|before| before.version != document.version) {
                seq += 1;
                document.seq = seq;
                if own.contains(&name) {
                    document.own_seq = seq;
                }
            }
        }
    }
}

/// An open store beside its model.
struct Bench {
    durability: Durability,
    engine: Arc<MemoryEngine>,
    store: Arc<Store>,
    committer: Committer,
    tracks: BTreeMap<Name, Arc<Track>>,
    /// The model after the last sync, then after each batch since.
    states: Vec<Model>,
    starts: u64,
    changes: u64,
}

impl Bench {
    fn new(durability: Durability) -> Self {
        Self::open(Arc::new(MemoryEngine::new()), durability, Model::default(), 1, 0)
    }

    fn open(
        engine: Arc<MemoryEngine>,
        durability: Durability,
        model: Model,
        starts: u64,
        changes: u64,
    ) -> Self {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&starts.to_le_bytes());
        let fresh = Fresh {
            node: NodeId::from_bytes([7; 16]),
            renewed: false,
            incarnation: IncarnationId::from_bytes(id),
        };
        let shared: Arc<dyn Engine> = Arc::<MemoryEngine>::clone(&engine);
        let (store, committer) = Store::open(shared, fresh, durability).unwrap();
        assert_eq!(store.incarnations().len() as u64, starts);
        assert_eq!(store.incarnation().start_seq, model.last_seq() + 1);
        let tracks = BTreeMap::new();
        let states = vec![model];
        Self { durability, engine, store, committer, tracks, states, starts, changes }
    }

    fn model(&self) -> &Model {
        self.states.last().unwrap()
    }

    fn write(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let group = self.group(input)?;
        let mut after = self.model().clone();
        after.apply(&group);
        let names: Vec<Name> = group.iter().map(|commit| commit.track.name().clone()).collect();
        let receipts = self.committer.write(group).unwrap();
        for (name, receipt) in names.iter().zip(receipts) {
            assert_eq!(receipt.unwrap().seq, after.0[name].seq);
        }
        self.wrote(after);
        Ok(())
    }

    fn wrote(&mut self, after: Model) {
        match self.durability {
            Durability::Sync => self.states = vec![after],
            Durability::Relaxed => self.states.push(after),
        }
    }

    fn sync(&mut self) {
        self.committer.sync().unwrap();
        self.states.drain(..self.states.len() - 1);
    }

    /// A write that fails: nobody sees it, nothing follows it, and it is there after the crash or not.
    fn fail(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let group = self.group(input)?;
        let mut after = self.model().clone();
        after.apply(&group);
        let is_full = input.arbitrary()?;
        self.engine.inject(if is_full {
            Fault::Full { after: 0 }
        } else {
            Fault::SyncFails { after: 0 }
        });
        match self.committer.write(group) {
            Err(error) => {
                assert!(matches!(error, CommitError::Failed(_)));
                self.check();
                self.engine.heal();
                let group = self.group(input)?;
                let again = self.committer.write(group);
                assert!(matches!(again, Err(CommitError::Poisoned(_))));
                if !is_full {
                    self.states.push(after);
                }
            }
            Ok(_) => {
                // Nobody asked for a sync: the fault waits for the next one.
                assert!(self.durability == Durability::Relaxed && !is_full);
                self.wrote(after);
                assert!(matches!(self.committer.sync(), Err(CommitError::Failed(_))));
            }
        }
        self.crash(input)
    }

    fn crash(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        assert_eq!(self.engine.unsynced_batches(), self.states.len() - 1);
        let batches = input.int_in_range(0..=self.states.len() - 1).unwrap_or(0);
        let engine = Arc::new(self.engine.crash(Crash::Keep { batches }));
        let model = self.states.swap_remove(batches);
        *self = Self::open(engine, self.durability, model, self.starts + 1, self.changes);
        Ok(())
    }

    fn group(&mut self, input: &mut Unstructured<'_>) -> Result<Vec<Commit>> {
        let mut after = self.model().clone();
        let mut group = Vec::new();
        for _ in 0..input.int_in_range(1..=4)? {
            let commit = self.commit(&after, input)?;
            after.apply(std::slice::from_ref(&commit));
            group.push(commit);
        }
        Ok(group)
    }

    fn commit(&mut self, model: &Model, input: &mut Unstructured<'_>) -> Result<Commit> {
        let name = name(input)?;
        let known = model.0.get(&name);
        let track = Arc::clone(self.tracks.entry(name.clone()).or_insert_with(|| {
            match self.store.document(&name).unwrap() {
                Some(stored) => stored.track,
                None => Arc::new(Track::absent(name.clone())),
            }
        }));
        self.changes += 1;
        let json = Bytes::from(format!("{{\"at\":{}}}", self.changes));
        // Now and then the version stays: a fold, or a view made later.
        let same = known.filter(|_| input.ratio(1, 6).unwrap_or(false));
        let length = input.int_in_range(0..=20)?;
        let origin = *input.choose(&[Origin::Own, Origin::Foreign])?;
        let log = match (input.int_in_range(0..=6)?, same) {
            (0, _) => Log::Fold { snapshot: self.chunk("snapshot", length), changes: 1 },
            (_, Some(_)) => Log::Append(Vec::new()),
            (count, None) => {
                Log::Append((0..count).map(|_| (origin, self.chunk("change", length))).collect())
            }
        };
        let deleted = match same {
            Some(document) => document.view == NewView::Deleted,
            None => input.ratio(1, 4)?,
        };
        let view = match input.ratio(1, 5)? {
            _ if deleted => NewView::Deleted,
            true => NewView::Stale,
            false => NewView::Made(json),
        };
        let version = same.map_or_else(|| version(self.changes), |same| same.version.clone());
        let conflicts = same.map_or(input.int_in_range(0..=2)?, |same| same.conflicts);
        let standing = Bytes::from(vec![1; length]);
        Ok(Commit {
            track,
            log,
            brings: Brings::default().and(origin),
            version,
            conflicts,
            view,
            standing,
            kept: Vec::new(),
            orphans: Orphans::default(),
            document_bytes_max: usize::MAX,
        })
    }

    fn chunk(&mut self, what: &str, length: usize) -> Bytes {
        self.changes += 1;
        Bytes::from(format!("{what} {} {}", self.changes, "x".repeat(length)))
    }

    fn check(&self) {
        let model = self.model();
        assert_eq!(self.store.last_seq(), model.last_seq());
        self.check_documents(model);
        self.check_feed(model);
        self.check_lists(model);
    }

    fn check_documents(&self, model: &Model) {
        for (name, document) in &model.0 {
            let stored = self.store.document(name).unwrap().unwrap();
            assert_eq!(stored.chunks, document.chunks);
            assert_eq!(stored.head.version, document.version);
            assert_eq!(stored.head.seq, document.seq);
            assert_eq!(stored.head.own_seq, document.own_seq);
            assert_eq!(stored.head.standing, document.standing);
            assert_eq!(stored.head.deleted, document.view == NewView::Deleted);
            assert_eq!(stored.head.view_stale, document.view == NewView::Stale);
            let view = self.store.view(name).unwrap();
            match &document.view {
                NewView::Deleted => assert_eq!(view, None),
                NewView::Stale => assert_eq!(view.unwrap().json, None),
                NewView::Made(json) => assert_eq!(view.unwrap().json.as_ref(), Some(json)),
            }
            if let Some(track) = self.tracks.get(name) {
                assert_eq!(track.seq(), document.seq);
                assert_eq!(track.log_size(), stored.track.log_size());
            }
        }
    }

    fn check_feed(&self, model: &Model) {
        let mut expected: Vec<_> = model.0.iter().collect();
        expected.sort_by_key(|(_, document)| document.seq);
        let feed = self.store.feed(0, usize::MAX).unwrap().entries;
        assert_eq!(feed.len(), expected.len());
        for (entry, (name, document)) in feed.iter().zip(expected) {
            assert_eq!((entry.seq, &entry.name), (document.seq, name));
            assert_eq!((&entry.version, entry.own_seq), (&document.version, document.own_seq));
            assert_eq!(entry.deleted, document.view == NewView::Deleted);
            assert_eq!(entry.conflicts, document.conflicts);
        }
    }

    fn check_lists(&self, model: &Model) {
        let collections: BTreeSet<_> = model.0.keys().map(Name::collection).collect();
        let counts = self.store.collections();
        assert!(counts.iter().map(|count| &count.name).eq(collections));
        for count in counts {
            let mut rows = Vec::new();
            let mut after = None;
            loop {
                let list = List {
                    prefix: "",
                    after: after.as_ref(),
                    limit: 2,
                    bytes_max: usize::MAX,
                    values: false,
                };
                let page = self.store.list(&count.name, list).unwrap();
                assert_eq!(page.damaged, []);
                rows.extend(page.rows.into_iter().map(|(key, _)| key));
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            let all = || model.0.iter().filter(|(name, _)| *name.collection() == count.name);
            let live = all().filter(|(_, document)| document.view != NewView::Deleted);
            assert!(rows.iter().eq(live.map(|(name, _)| name.key())));
            assert_eq!(count.documents, rows.len() as u64);
            assert_eq!(count.documents + count.deleted, all().count() as u64);
        }
    }
}

fn name(input: &mut Unstructured<'_>) -> Result<Name> {
    let foreign = DocumentId::from_bytes([0x41; 16]).to_bs58check();
    let texts =
        ["a/1", "a/2", "a/22", "a/3", "b/1", "c/1", "c/x/y", &format!("automerge/{foreign}")];
    let (collection, key) = input.choose(&texts)?.split_once('/').unwrap();
    Ok(Name::new(collection.parse().unwrap(), key.parse().unwrap()).unwrap())
}

fn version(of: u64) -> Version {
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&of.to_be_bytes());
    [Hash::from_bytes(hash), Hash::from_bytes([0xff; 32])].into_iter().collect()
}
