//! The one door: every write ends here, in one batch and one sync for all that is waiting.
//!
//! The committer alone gives seqs and collection ids, while it builds the batch: a seq given earlier
//! could be overtaken by a greater one, and a reader of the feed would skip it.

use super::{
    catalog::COLLECTIONS_MAX,
    engine::{Batch, Durability},
    error::{CommitError, EngineError, Refused},
    frame,
    kept::{Kept, KeptName},
    key::{self, Family, SysKey},
    orphan::Orphans,
    plan::Planned,
    quarantine,
    read::Store,
    row::Origin,
    sys,
    track::Track,
};
use crate::ident::{Collection, DocumentId, Name, NodeId, Version};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, atomic::Ordering},
};

/// What one edit or merge did to one document, without seq.
#[derive(Debug, Clone)]
pub struct Commit {
    /// The document, and what is stored of it.
    pub track: Arc<Track>,
    /// What becomes of its chunks.
    pub log: Log,
    /// Where the changes came to this group of nodes that it brings.
    pub brings: Brings,
    /// Its version now. Empty: there is no document, and all that it brings waits.
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
    /// A view of more bytes makes the document one that is marked as too large.
    pub document_bytes_max: usize,
}

/// A node that sent changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// The node.
    pub node: NodeId,
    /// Whether they were made there.
    pub made: bool,
}

impl Source {
    /// Some node, of which nothing is known.
    pub const UNKNOWN: Self = Self { node: NodeId::from_bytes([0; 16]), made: false };
}

/// Of which origins the changes of a commit are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Brings {
    /// Some are this node's own.
    pub own: bool,
    /// Some are others'.
    pub foreign: bool,
    /// Who sent those.
    pub from: Vec<Source>,
    /// Those of this node's own, for whoever is told of them.
    pub made: Vec<Bytes>,
}

impl Brings {
    /// These, and changes of this origin.
    #[must_use]
    pub fn and(mut self, origin: Origin) -> Self {
        match origin {
            Origin::Own => self.own = true,
            Origin::Foreign => self.foreign = true,
        }
        self
    }

    /// Takes in what a later commit of the same document brings.
    pub(super) fn join(&mut self, later: &Self) {
        self.own |= later.own;
        self.foreign |= later.foreign;
        self.made.extend(later.made.iter().cloned());
        for source in &later.from {
            if !self.from.contains(source) {
                self.from.push(*source);
            }
        }
    }
}

/// What becomes of a document's chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Log {
    /// These changes come behind those stored: none only if the version is what it was.
    Append(Vec<(Origin, Bytes)>),
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
    /// Commits of one document in one group share it. 0: there is no document.
    pub seq: u64,
}

/// A document whose version is another one now, which is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved<'a> {
    /// The document.
    pub name: &'a Name,
    /// The version before; empty: it was not held, or damaged and kept aside.
    pub before: &'a Version,
    /// Its version now; empty: as before.
    pub after: &'a Version,
    /// The commit that moved it.
    pub seq: u64,
    /// Where its changes came to this group of nodes.
    pub brings: &'a Brings,
}

/// Who is told of every document that moves, in order, before any answer is given.
pub type Watcher = Box<dyn FnMut(Moved<'_>) + Send>;

/// The only writer of a store.
pub struct Committer {
    store: Arc<Store>,
    durability: Durability,
    /// Why nothing is written any more.
    poison: Option<EngineError>,
    watcher: Watcher,
}

impl fmt::Debug for Committer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { store, durability, poison, watcher: _ } = self;
        let mut out = out.debug_struct("Committer");
        out.field("store", store).field("durability", durability);
        out.field("poison", poison).finish_non_exhaustive()
    }
}

impl Committer {
    /// `poison`: why nothing can be written from the start.
    pub(super) fn new(
        store: Arc<Store>,
        durability: Durability,
        poison: Option<EngineError>,
    ) -> Self {
        Self { store, durability, poison, watcher: Box::new(|_| {}) }
    }

    /// Has every document that moves from now on told to `watcher`.
    pub fn watch(&mut self, watcher: Watcher) {
        self.watcher = watcher;
    }

    /// Tells that a document has moved.
    pub(super) fn tell(&mut self, moved: Moved<'_>) {
        (self.watcher)(moved);
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
        let receipts = group.publish(&mut self.watcher);
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
            let value = sys::encode_collection(*id, &key);
            batch.put(Family::Sys, key, value);
        }
        for planned in &mut self.planned {
            let id = planned.track.name().id();
            planned.orphans.write(id, &mut batch);
            if planned.is_absent() {
                continue;
            }
            if planned.moved {
                self.last_seq += 1;
                planned.set_seq(self.last_seq);
            }
            planned.place_chunks();
            planned.put_chunks(&mut batch);
            planned.put_view(&mut batch);
            planned.put_feed(&mut batch);
            planned.put_head(&mut batch);
            if planned.was_quarantined() {
                quarantine::take_out(self.store, id, &mut batch);
            }
        }
        self.gone = self.store.kept.prepare(&self.kept, &mut batch);
        batch
    }

    /// Tells everybody what is durable now.
    fn publish(self, watcher: &mut Watcher) -> Vec<Receipt> {
        for (name, id) in &self.new_collections {
            // Both were free when the group was built, and nobody else adds any.
            let _ = self.store.catalog.add(name, *id);
        }
        self.store.kept.publish(self.kept, &self.gone);
        let receipts = self.planned.into_iter().map(|planned| planned.publish(self.store, watcher));
        let receipts = receipts.collect();
        self.store.last_seq.store(self.last_seq, Ordering::Release);
        receipts
    }
}

impl Commit {
    /// About how many bytes it brings.
    pub fn bytes(&self) -> u64 {
        let log = match &self.log {
            Log::Append(changes) => changes.iter().map(|(_, bytes)| bytes.len()).sum(),
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
            Log::Append(changes) => changes.iter().map(|(_, bytes)| bytes.len()).max().unwrap_or(0),
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
