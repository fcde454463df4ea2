//! The one door: every write ends here, in one batch and one sync for all that is waiting.
//!
//! The committer alone gives seqs and collection ids, while it builds the batch: a seq given earlier
//! could be overtaken by a greater one, and a reader of the feed would skip it.

use super::{
    catalog::{COLLECTIONS_MAX, Presence},
    engine::{Batch, Durability},
    error::{CommitError, EngineError, Refused},
    frame,
    kept::{Kept, KeptName},
    key::{self, ChunkAt, Family, SysKey},
    orphan::Orphans,
    quarantine,
    read::Store,
    row::{self, Chunk, FeedRow, Head, Origin, View},
    track::{Last, Track},
};
use crate::ident::{Collection, DocumentId, Version};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, atomic::Ordering},
};

/// What one edit or merge did to one document, without seq.
#[derive(Debug, Clone)]
pub struct Commit {
    /// The document, and what is stored of it.
    pub track: Arc<Track>,
    /// What becomes of its chunks.
    pub log: Log,
    /// Where the changes came to this group of nodes.
    pub origin: Origin,
    /// Its version now.
    pub version: Version,
    /// How many places hold more than one value.
    pub conflicts: u32,
    /// Its view now.
    pub view: NewView,
    /// What stands in it without being visible.
    pub standing: Bytes,
    /// Answers to be kept, of the writes that are in it.
    pub kept: Vec<Kept>,
    /// What becomes of the changes that wait for others.
    pub orphans: Orphans,
}

/// What becomes of a document's chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Log {
    /// These changes come behind those stored: none only if the version is what it was.
    Append(Vec<Bytes>),
    /// This snapshot, which loads to the commit's version, takes the place of everything stored.
    Fold {
        /// The document, as Automerge saves it.
        snapshot: Bytes,
        /// How many changes it holds, at least 1.
        changes: u32,
    },
}

/// What a reader finds after a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewView {
    /// This plain JSON.
    Made(Bytes),
    /// A document whose JSON has yet to be made.
    Stale,
    /// No document: it is deleted.
    Deleted,
}

/// A commit that is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The document's seq: a new one, unless its version is what it was (a fold, a view made late).
    /// Commits of one document in one group share it.
    pub seq: u64,
}

/// The only writer of a store.
#[derive(Debug)]
pub struct Committer {
    store: Arc<Store>,
    durability: Durability,
    /// Why nothing is written any more.
    poison: Option<EngineError>,
}

impl Committer {
    /// `poison`: why nothing can be written from the start.
    pub(super) fn new(
        store: Arc<Store>,
        durability: Durability,
        poison: Option<EngineError>,
    ) -> Self {
        Self { store, durability, poison }
    }

    /// Why nothing is written any more, if nothing is.
    pub fn poison(&self) -> Option<&EngineError> {
        self.poison.as_ref()
    }

    /// Writes a group of commits as one batch, and gives each its answer, in order. Commits of one
    /// document follow each other in the order in which they were prepared.
    ///
    /// A refused commit leaves the others be. It is refused together with all later ones of the same
    /// [`Track`], which rest on changes that were not stored.
    ///
    /// # Errors
    /// Nothing of the group may be answered as done, nothing more is written through this committer,
    /// and all tracks are as before.
    pub fn write(
        &mut self,
        commits: Vec<Commit>,
    ) -> Result<Vec<Result<Receipt, Refused>>, CommitError> {
        self.check()?;
        let store = Arc::clone(&self.store);
        let mut group = Group::new(&store);
        let places: Vec<_> = commits.into_iter().map(|commit| group.add(commit)).collect();
        let batch = group.batch();
        self.write_batch(batch)?;
        let receipts = group.publish();
        Ok(places.into_iter().map(|place| place.map(|place| receipts[place])).collect())
    }

    /// What it writes to.
    pub(super) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Writes rows that belong together.
    pub(super) fn write_batch(&mut self, batch: Batch) -> Result<(), CommitError> {
        self.check()?;
        if batch.is_empty() {
            return Ok(());
        }
        let done = self.store.engine.commit(batch, self.durability);
        done.map_err(|error| self.fail(error))
    }

    /// Syncs what was written as [`Durability::Relaxed`].
    ///
    /// # Errors
    /// As [`Committer::write`]; what was written since the last sync may be lost.
    pub fn sync(&mut self) -> Result<(), CommitError> {
        self.check()?;
        let done = self.store.engine.sync();
        done.map_err(|error| self.fail(error))
    }

    fn check(&self) -> Result<(), CommitError> {
        self.poison.clone().map_or(Ok(()), |error| Err(CommitError::Poisoned(error)))
    }

    /// After a failed sync nobody knows what the disk holds, and a second one may report success
    /// for pages that the kernel has dropped.
    fn fail(&mut self, error: EngineError) -> CommitError {
        self.poison = Some(error.clone());
        CommitError::Failed(error)
    }
}

/// The commits of one batch, put together by document.
struct Group<'a> {
    store: &'a Store,
    planned: Vec<Planned>,
    places: HashMap<DocumentId, usize>,
    new_collections: BTreeMap<Collection, u32>,
    last_seq: u64,
    kept: Vec<Kept>,
    /// Answers that are kept no longer.
    gone: Vec<(u64, KeptName)>,
}

impl<'a> Group<'a> {
    fn new(store: &'a Store) -> Self {
        Self {
            store,
            planned: Vec::new(),
            places: HashMap::new(),
            new_collections: BTreeMap::new(),
            last_seq: store.last_seq(),
            kept: Vec::new(),
            gone: Vec::new(),
        }
    }

    /// The place of the commit's document among those planned.
    fn add(&mut self, commit: Commit) -> Result<usize, Refused> {
        let track = Arc::clone(&commit.track);
        let added = self.try_add(commit);
        if added.is_err() {
            track.lock().refused = true;
        }
        added
    }

    fn try_add(&mut self, mut commit: Commit) -> Result<usize, Refused> {
        if commit.track.lock().refused {
            return Err(Refused::Behind);
        }
        if commit.is_too_large() {
            return Err(Refused::TooLarge);
        }
        let id = commit.track.name().id();
        let place = match self.places.get(&id) {
            Some(place) => *place,
            None => {
                let collection = self.collection(commit.track.name().collection())?;
                self.planned.push(Planned::new(&commit, collection));
                self.places.insert(id, self.planned.len() - 1);
                self.planned.len() - 1
            }
        };
        self.kept.append(&mut commit.kept);
        self.planned[place].absorb(commit);
        Ok(place)
    }

    fn collection(&mut self, name: &Collection) -> Result<u32, Refused> {
        let known = self.store.catalog.id(name);
        if let Some(id) = known.or_else(|| self.new_collections.get(name).copied()) {
            return Ok(id);
        }
        let (stored, next) = self.store.catalog.size();
        let new = self.new_collections.len();
        if COLLECTIONS_MAX <= stored + new {
            return Err(Refused::TooManyCollections);
        }
        // There are at most 10,000 new ones.
        let id = next.saturating_add(u32::try_from(new).unwrap_or(u32::MAX));
        self.new_collections.insert(name.clone(), id);
        Ok(id)
    }

    /// Gives seqs and writes all rows.
    fn batch(&mut self) -> Batch {
        let mut batch = Batch::default();
        for (name, id) in &self.new_collections {
            let key = key::encode_sys(&SysKey::Collection(name.clone()));
            let value = row::encode_collection(*id, &key);
            batch.put(Family::Sys, key, value);
        }
        for planned in &mut self.planned {
            if planned.moved {
                self.last_seq += 1;
                planned.set_seq(self.last_seq);
            }
            planned.place_chunks();
            planned.put_chunks(&mut batch);
            planned.put_view(&mut batch);
            planned.put_feed(&mut batch);
            planned.put_head(&mut batch);
            let id = planned.track.name().id();
            planned.orphans.write(id, &mut batch);
            if planned.was_quarantined() {
                quarantine::take_out(self.store, id, &mut batch);
            }
        }
        self.gone = self.store.kept.prepare(&self.kept, &mut batch);
        batch
    }

    /// Tells everybody what is durable now.
    fn publish(self) -> Vec<Receipt> {
        for (name, id) in &self.new_collections {
            // Both were free when the group was built, and nobody else adds any.
            let _ = self.store.catalog.add(name, *id);
        }
        self.store.kept.publish(self.kept, &self.gone);
        let receipts = self.planned.into_iter().map(|planned| planned.publish(self.store));
        let receipts = receipts.collect();
        self.store.last_seq.store(self.last_seq, Ordering::Release);
        receipts
    }
}

impl Commit {
    /// About how many bytes it brings.
    pub fn bytes(&self) -> u64 {
        let log = match &self.log {
            Log::Append(changes) => changes.iter().map(Bytes::len).sum(),
            Log::Fold { snapshot, .. } => snapshot.len(),
        };
        let view = match &self.view {
            NewView::Made(json) => json.len(),
            NewView::Stale | NewView::Deleted => 0,
        };
        // A head and a feed row, with their versions.
        (log + view + self.standing.len() + 512) as u64
    }

    fn is_too_large(&self) -> bool {
        let standing = self.standing.len();
        let log = match &self.log {
            Log::Append(changes) => changes.iter().map(Bytes::len).max().unwrap_or(0),
            Log::Fold { snapshot, .. } => snapshot.len(),
        };
        let view = match &self.view {
            NewView::Made(json) => json.len(),
            NewView::Stale | NewView::Deleted => 0,
        };
        // Every row carries a version beside its bytes, and a head a name as well.
        let beside = 1024 + 32 * self.version.hashes().len();
        frame::PAYLOAD_BYTES_MAX - beside.min(frame::PAYLOAD_BYTES_MAX)
            < standing.max(log).max(view)
    }
}

/// What a group does to one document. Its track is read, and changed only by [`Planned::publish`].
struct Planned {
    track: Arc<Track>,
    before: Option<Before>,
    head: Head,
    /// Whether there is more than before, and so a new seq.
    moved: bool,
    /// Whether a change of this node's own is among those that moved it.
    own: bool,
    /// Where the last changes came from.
    origin: Origin,
    conflicts: u32,
    view: NewView,
    /// Whether the chunks that are stored go.
    folded: bool,
    /// New chunks, and where they are stored once seqs are given.
    chunks: Vec<Chunk>,
    rows: Vec<ChunkAt>,
    snapshot_bytes: u64,
    orphans: Orphans,
}

/// What of the state before has to be undone.
struct Before {
    seq: u64,
    deleted: bool,
    quarantined: bool,
}

impl Planned {
    /// What `commit`, the first of its document, begins from.
    fn new(commit: &Commit, collection: u32) -> Self {
        let track = Arc::clone(&commit.track);
        let (before, head, snapshot_bytes) = match &track.lock().last {
            Some(last) => {
                let Head { seq, deleted, quarantined, .. } = last.head;
                // Only what takes a document out of quarantine comes with such a track.
                let head = Head { quarantined: false, ..last.head.clone() };
                (Some(Before { seq, deleted, quarantined }), head, last.snapshot_bytes)
            }
            None => (None, unwritten(&track, collection), 0),
        };
        Self {
            track,
            moved: before.is_none(),
            before,
            head,
            own: false,
            origin: commit.origin,
            conflicts: commit.conflicts,
            view: NewView::Stale,
            folded: false,
            chunks: Vec::new(),
            rows: Vec::new(),
            snapshot_bytes,
            orphans: Orphans::default(),
        }
    }

    fn was_quarantined(&self) -> bool {
        self.before.as_ref().is_some_and(|before| before.quarantined)
    }

    fn absorb(&mut self, commit: Commit) {
        let Commit { track: _, log, origin, version, conflicts, view, standing, kept: _, orphans } =
            commit;
        self.wait(orphans);
        let brings_changes = matches!(&log, Log::Append(changes) if !changes.is_empty());
        if version != self.head.version || brings_changes {
            self.moved = true;
            self.own |= origin == Origin::Own;
            self.origin = origin;
        }
        match log {
            Log::Append(changes) => {
                for bytes in changes {
                    self.head.log_bytes = self.head.log_bytes.saturating_add(bytes.len() as u64);
                    self.head.log_count = self.head.log_count.saturating_add(1);
                    self.chunks.push(Chunk::Change { origin, bytes });
                }
            }
            Log::Fold { snapshot, changes } => {
                self.folded = true;
                self.snapshot_bytes = snapshot.len() as u64;
                self.head.log_bytes = 0;
                self.head.log_count = 0;
                self.head.snapshot_changes = changes;
                self.chunks = vec![Chunk::Snapshot { version: version.clone(), bytes: snapshot }];
            }
        }
        self.head.version = version;
        self.head.standing = standing;
        self.head.deleted = view == NewView::Deleted;
        self.head.view_stale = view == NewView::Stale;
        self.conflicts = conflicts;
        self.view = view;
    }

    /// Joins what becomes of waiting changes to what became of them earlier in the group.
    fn wait(&mut self, orphans: Orphans) {
        let Orphans { put, remove } = orphans;
        self.orphans.put.retain(|(hash, _)| !remove.contains(hash));
        self.orphans.remove.retain(|hash| !put.iter().any(|(put, _)| put == hash));
        self.orphans.put.extend(put);
        self.orphans.remove.extend(remove);
    }

    fn set_seq(&mut self, seq: u64) {
        self.head.seq = seq;
        if self.own {
            self.head.own_seq = seq;
        }
    }

    /// Numbers the new chunks. Under a seq of its own, or, where a fold keeps the seq, in the place
    /// of all there were: either way from 0.
    fn place_chunks(&mut self) {
        let seq = self.head.seq;
        for (n, chunk) in (0..).zip(&self.chunks) {
            if let Chunk::Snapshot { .. } = chunk {
                self.head.snapshot_seq = seq;
            }
            self.rows.push(ChunkAt { seq, n });
        }
    }

    fn put_chunks(&self, batch: &mut Batch) {
        let id = self.track.name().id();
        if self.folded
            && let Some(last) = &self.track.lock().last
        {
            for at in &last.rows {
                batch.remove(Family::Chunk, key::encode_chunk(id, *at));
            }
        }
        for (at, chunk) in self.rows.iter().zip(&self.chunks) {
            let key = key::encode_chunk(id, *at);
            batch.put(Family::Chunk, key, chunk.encode(&key));
        }
    }

    fn put_view(&self, batch: &mut Batch) {
        let key = key::encode_view(self.head.collection, &self.head.key);
        let json = match &self.view {
            NewView::Made(json) => Some(json),
            NewView::Stale => None,
            NewView::Deleted => {
                if self.before.as_ref().is_some_and(|before| !before.deleted) {
                    batch.remove(Family::View, key);
                }
                return;
            }
        };
        let view = View { version: self.head.version.clone(), conflicts: self.conflicts, json };
        let value = view.encode(&key);
        batch.put(Family::View, key, value);
    }

    fn put_feed(&self, batch: &mut Batch) {
        if !self.moved {
            return;
        }
        if let Some(before) = &self.before {
            batch.remove(Family::Feed, key::encode_feed(before.seq));
        }
        let key = key::encode_feed(self.head.seq);
        let row = FeedRow {
            id: self.track.name().id(),
            collection: self.head.collection,
            key: self.head.key.clone(),
            version: self.head.version.clone(),
            deleted: self.head.deleted,
            conflicts: self.conflicts,
            own_seq: self.head.own_seq,
            origin: self.origin,
        };
        batch.put(Family::Feed, key, row.encode(&key));
    }

    fn put_head(&self, batch: &mut Batch) {
        let key = key::encode_head(self.track.name().id());
        batch.put(Family::Head, key, self.head.encode(&key));
    }

    fn publish(self, store: &Store) -> Receipt {
        let presence = |deleted| if deleted { Presence::Deleted } else { Presence::Live };
        let was = match &self.before {
            Some(before) if !before.quarantined => presence(before.deleted),
            Some(_) => {
                store.ward.leave(self.track.name().id());
                Presence::Absent
            }
            None => Presence::Absent,
        };
        // The collection was found or added before.
        let _ = store.catalog.count(self.head.collection, was, presence(self.head.deleted));
        let receipt = Receipt { seq: self.head.seq };
        if !self.orphans.is_empty() {
            store.waiting.note(self.track.name().id(), &self.orphans);
        }
        let mut state = self.track.lock();
        let kept = state.last.take().filter(|_| !self.folded).map(|last| last.rows);
        let mut rows = kept.unwrap_or_default();
        rows.extend(self.rows);
        let snapshot_bytes = self.snapshot_bytes;
        state.last = Some(Last { head: self.head, rows, snapshot_bytes });
        receipt
    }
}

/// The head of a document before its first commit.
fn unwritten(track: &Track, collection: u32) -> Head {
    Head {
        collection,
        key: track.name().key().clone(),
        version: Version::empty(),
        seq: 0,
        own_seq: 0,
        deleted: false,
        oversize: false,
        quarantined: false,
        view_stale: false,
        standing: Bytes::new(),
        log_bytes: 0,
        log_count: 0,
        snapshot_changes: 0,
        snapshot_seq: 0,
    }
}
