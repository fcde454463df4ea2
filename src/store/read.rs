//! Reading: what is stored, checked, or an error; never bytes that are not what was written.

use super::{
    catalog::{Catalog, CollectionCount},
    engine::{Cached, Engine, Health, Range, Usage},
    error::{Damaged, EngineError, ReadError},
    kept::KeptAnswers,
    key::{self, ChunkAt, Family},
    orphan::{self, ORPHAN_BYTES_TOTAL_MAX, Waiting},
    quarantine::Ward,
    row::{Chunk, Head, View},
    sys::Incarnation,
    track::{Last, Track},
};
use crate::ident::{Collection, DocumentId, Hash, Key, Name, NodeId};
use bytes::Bytes;
use std::{
    collections::BTreeSet,
    ops::ControlFlow,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// An open store, for reading. Writing is the [`Committer`](super::Committer)'s.
#[derive(Debug)]
pub struct Store {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) catalog: Catalog,
    pub(super) last_seq: AtomicU64,
    pub(super) node: NodeId,
    pub(super) incarnation: Incarnation,
    /// All of them, the present one too.
    pub(super) incarnations: Vec<Incarnation>,
    pub(super) damaged_heads: u64,
    pub(super) kept: Arc<KeptAnswers>,
    pub(super) waiting: Waiting,
    pub(super) ward: Ward,
    pub(super) oversize: Oversize,
}

/// The documents that are larger than an edit may make them: merges of what others wrote made them so.
#[derive(Debug, Default)]
pub(super) struct Oversize(Mutex<BTreeSet<DocumentId>>);

impl Oversize {
    pub(super) fn new(documents: BTreeSet<DocumentId>) -> Self {
        Self(Mutex::new(documents))
    }

    /// Takes note of whether a document is.
    pub(super) fn note(&self, id: DocumentId, oversize: bool) {
        let mut documents = self.lock();
        if oversize {
            documents.insert(id);
        } else if !documents.is_empty() {
            documents.remove(&id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<DocumentId>> {
        // Nothing in it panics half way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A document, as it is stored.
#[derive(Debug)]
pub struct Stored {
    /// What is known of it.
    pub head: Head,
    /// What makes it, in order: a snapshot first, or changes alone.
    pub chunks: Vec<Bytes>,
    /// For the commits of whoever loads it.
    pub track: Arc<Track>,
    /// Changes that wait for others, by their names.
    pub orphans: Vec<(Hash, Bytes)>,
}

/// Which documents of a collection to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct List<'a> {
    /// Only keys that begin with this.
    pub prefix: &'a str,
    /// Only keys after this one.
    pub after: Option<&'a Key>,
    /// Most rows. A page always holds one, so that the next goes on behind it.
    pub limit: usize,
    /// The page ends once its JSON holds as many bytes.
    pub bytes_max: usize,
    /// Whether rows carry the JSON.
    pub values: bool,
}

/// A page of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Live documents, in key order.
    pub rows: Vec<(Key, View)>,
    /// Keys whose rows are damaged; they are not among the rows.
    pub damaged: Vec<Key>,
    /// The key to go on after; `None`: there is no more.
    pub next: Option<Key>,
}

/// Most names that are looked up for one page of a list around damage.
const LOOKED_UP_MAX: usize = 1_000;

/// A page of a list in the making.
struct Listing<'a> {
    list: List<'a>,
    page: Page,
    last: Option<Key>,
    bytes: usize,
}

impl Listing<'_> {
    /// Takes one row in; `None`: it is damaged. Breaks where the page is full.
    fn row<'v>(
        &mut self,
        name: Key,
        view: impl FnOnce() -> Option<View<&'v [u8]>>,
    ) -> ControlFlow<()> {
        let seen = self.page.rows.len() + self.page.damaged.len();
        if 0 < seen && (self.list.limit <= seen || self.list.bytes_max <= self.bytes) {
            self.page.next = self.last.take();
            return ControlFlow::Break(());
        }
        self.last = Some(name.clone());
        match view() {
            Some(View { version, conflicts, json }) => {
                let json = json.filter(|_| self.list.values).map(Bytes::copy_from_slice);
                self.bytes += json.as_ref().map_or(0, Bytes::len);
                self.page.rows.push((name, View { version, conflicts, json }));
            }
            None => self.page.damaged.push(name),
        }
        ControlFlow::Continue(())
    }
}

/// How often a document is read again that is committed to while it is read.
const READ_ATTEMPTS: usize = 8;

impl Store {
    /// A live document's view; `None`: deleted, or never written.
    ///
    /// # Errors
    /// `Damaged`, `Engine`.
    pub fn view(&self, name: &Name) -> Result<Option<View>, ReadError> {
        let Some(key) = self.view_key(name) else {
            return Ok(None);
        };
        let value = self.engine.get(Family::View, &key)?;
        value.map(|value| decode_view(name, &key, &value)).transpose()
    }

    /// A live document's view, if no disk is needed to know it.
    ///
    /// # Errors
    /// As [`Store::view`].
    pub fn view_cached(&self, name: &Name) -> Result<Cached<View>, ReadError> {
        let Some(key) = self.view_key(name) else {
            return Ok(Cached::Missing);
        };
        match self.engine.get_cached(Family::View, &key)? {
            Cached::Found(value) => decode_view(name, &key, &value).map(Cached::Found),
            Cached::Missing => Ok(Cached::Missing),
            Cached::Unknown => Ok(Cached::Unknown),
        }
    }

    /// The answers that are kept.
    pub fn kept(&self) -> &Arc<KeptAnswers> {
        &self.kept
    }

    /// Whether a document was never written, where no disk is needed to know it. `false` also where
    /// it is not known.
    pub fn is_surely_absent(&self, id: DocumentId) -> bool {
        let head = self.engine.get_cached(Family::Head, &key::encode_head(id));
        matches!(head, Ok(Cached::Missing)) && !self.waiting.has(id)
    }

    /// What is known of a document, and its name; `None`: never written.
    ///
    /// # Errors
    /// `Damaged`, `Engine`.
    pub fn head(&self, id: DocumentId) -> Result<Option<(Name, Head)>, ReadError> {
        let key = key::encode_head(id);
        let Some(value) = self.engine.get(Family::Head, &key)? else {
            return Ok(None);
        };
        let decoded = Head::decode(&key, &value)
            .and_then(|head| Ok((self.name(id, head.collection, &head.key)?, head)));
        decoded.map(Some).map_err(|why| damaged(format_args!("the head of {id}"), why))
    }

    /// How many changes wait for others, of all documents.
    pub fn orphans(&self) -> u64 {
        self.waiting.total().0
    }

    /// Bytes of such changes that there is room for still.
    pub fn orphan_bytes_left(&self) -> u64 {
        ORPHAN_BYTES_TOTAL_MAX.saturating_sub(self.waiting.total().1)
    }

    /// All that is stored of a document; `None`: never written. Consistent, also while commits go
    /// on. The version to which it loads is for the room `doc` to check.
    ///
    /// # Errors
    /// `NameTaken`, `Damaged`, `Engine`.
    pub fn document(&self, name: &Name) -> Result<Option<Stored>, ReadError> {
        let mut unmatched = None;
        for _ in 0..READ_ATTEMPTS {
            let Some((stored_name, head)) = self.head(name.id())? else {
                return Ok(None);
            };
            if stored_name != *name {
                return Err(ReadError::NameTaken(stored_name));
            }
            if head.quarantined {
                let why = Damaged("its bytes were damaged and are kept aside");
                return Err(damaged(format_args!("the document {}", name.id()), why));
            }
            let chunks = self.chunks(name.id())?;
            if matches(&head, &chunks) {
                let orphans = self.waiting_for(name.id())?;
                return Ok(Some(stored(name, head, chunks, orphans)));
            }
            // A commit may have come between the two reads. If none did, rows are missing.
            if unmatched.as_ref() == Some(&head) {
                break;
            }
            unmatched = Some(head);
        }
        let why = Damaged("the chunks are not those of its head");
        Err(damaged(format_args!("the document {}", name.id()), why))
    }

    /// The changes that wait for a document, which may not be there itself, by their names.
    ///
    /// # Errors
    /// `Engine`.
    pub fn waiting_for(&self, id: DocumentId) -> Result<Vec<(Hash, Bytes)>, ReadError> {
        let any = self.waiting.has(id);
        Ok(if any { orphan::read(&*self.engine, id)? } else { Vec::new() })
    }

    /// Lists the live documents of a collection. An unknown collection has none.
    ///
    /// Where the engine cannot go on, the names that the heads tell are looked up one by one: damage
    /// costs a page the time that it takes to read all heads, and takes nothing else from it.
    ///
    /// # Errors
    /// `Damaged` (a key that is none), `Engine`.
    pub fn list(&self, collection: &Collection, list: List<'_>) -> Result<Page, ReadError> {
        let Some(id) = self.catalog.id(collection) else {
            return Ok(Page::default());
        };
        let mut listing = Listing { list, page: Page::default(), last: None, bytes: 0 };
        let mut outcome = Ok(());
        let range = key::view_range(id, list.prefix, list.after);
        let scanned = self.engine.scan(Family::View, &range, &mut |key, value| {
            let Some((_, name)) = key::decode_view(key) else {
                let why = Damaged("its key is none");
                outcome = Err(damaged(format_args!("a view in {collection}"), why));
                return ControlFlow::Break(());
            };
            listing.row(name, || View::borrow(key, value).ok())
        });
        match scanned {
            Err(EngineError::Corrupt(_)) => self.list_by_heads(id, &mut listing)?,
            scanned => scanned?,
        }
        outcome.map(|()| listing.page)
    }

    /// Goes on with a list by the names that the heads tell.
    fn list_by_heads(&self, collection: u32, listing: &mut Listing<'_>) -> Result<(), ReadError> {
        let after = listing.last.as_ref().or(listing.list.after).cloned();
        let prefix = listing.list.prefix;
        let mut names = BTreeSet::new();
        self.engine.scan(Family::Head, &Range::all(), &mut |key, value| {
            if let Ok(head) = Head::decode(key, value)
                && (head.collection, head.deleted, head.quarantined) == (collection, false, false)
                && head.key.as_str().starts_with(prefix)
                && after.as_ref().is_none_or(|after| *after < head.key)
            {
                names.insert(head.key);
                if LOOKED_UP_MAX < names.len() {
                    names.pop_last();
                }
            }
            ControlFlow::Continue(())
        })?;
        let last = names.last().filter(|_| names.len() == LOOKED_UP_MAX).cloned();
        for name in names {
            let key = key::encode_view(collection, &name);
            let flow = match self.engine.get(Family::View, &key) {
                // Deleted since its head was read.
                Ok(None) => continue,
                Ok(Some(value)) => listing.row(name, || View::borrow(&key, &value).ok()),
                Err(EngineError::Corrupt(_)) => listing.row(name, || None),
                Err(error) => return Err(error.into()),
            };
            if flow == ControlFlow::Break(()) {
                return Ok(());
            }
        }
        listing.page.next = last;
        Ok(())
    }

    /// All collections with their counts, by name: as of the last durable commit.
    pub fn collections(&self) -> Vec<CollectionCount> {
        self.catalog.counts()
    }

    /// How many documents are larger than an edit may make them.
    pub fn oversize(&self) -> u64 {
        self.oversize.lock().len() as u64
    }

    /// The node's id.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// This start.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// All starts of this node, this one last.
    pub fn incarnations(&self) -> &[Incarnation] {
        &self.incarnations
    }

    /// The last seq that is durable.
    pub fn last_seq(&self) -> u64 {
        self.last_seq.load(Ordering::Acquire)
    }

    /// How many heads could not be read when the store was opened; their documents are in no count.
    pub fn damaged_heads(&self) -> u64 {
        self.damaged_heads
    }

    /// Makes a copy of everything durable in a directory that does not exist yet.
    ///
    /// # Errors
    /// `Engine`.
    pub fn checkpoint(&self, directory: &Path) -> Result<(), ReadError> {
        Ok(self.engine.checkpoint(directory)?)
    }

    /// Whether writers have to wait.
    ///
    /// # Errors
    /// `Engine`.
    pub fn health(&self) -> Result<Health, ReadError> {
        Ok(self.engine.health()?)
    }

    /// What the engine uses.
    ///
    /// # Errors
    /// `Engine`.
    pub fn usage(&self) -> Result<Usage, ReadError> {
        Ok(self.engine.usage()?)
    }

    fn view_key(&self, name: &Name) -> Option<Vec<u8>> {
        let collection = self.catalog.id(name.collection())?;
        Some(key::encode_view(collection, name.key()))
    }

    /// The name that a row gives to an id, if it is one that makes this id.
    pub(super) fn name(&self, id: DocumentId, collection: u32, key: &Key) -> Result<Name, Damaged> {
        let collection =
            self.catalog.name(collection).ok_or(Damaged("its collection is unknown"))?;
        Name::new(collection, key.clone())
            .ok()
            .filter(|name| name.id() == id)
            .ok_or(Damaged("its name makes another id"))
    }

    fn chunks(&self, id: DocumentId) -> Result<Vec<(ChunkAt, Chunk)>, ReadError> {
        let mut chunks = Vec::new();
        let mut outcome = Ok(());
        self.engine.scan(Family::Chunk, &key::chunk_range(id), &mut |key, value| {
            let chunk = key::decode_chunk(key).ok_or(Damaged("its key is none"));
            // The scan lends the row, so this is the one copy between disk and Automerge.
            let value = Bytes::copy_from_slice(value);
            match chunk.and_then(|(_, at)| Ok((at, Chunk::decode(key, &value)?))) {
                Ok(chunk) => {
                    chunks.push(chunk);
                    ControlFlow::Continue(())
                }
                Err(why) => {
                    outcome = Err(damaged(format_args!("a chunk of {id}"), why));
                    ControlFlow::Break(())
                }
            }
        })?;
        outcome.map(|()| chunks)
    }
}

/// Whether these are the chunks of which a head tells.
pub(super) fn matches(head: &Head, chunks: &[(ChunkAt, Chunk)]) -> bool {
    let (snapshot, changes) = match chunks {
        [(at, Chunk::Snapshot { version, .. }), changes @ ..] => (Some((at, version)), changes),
        changes => (None, changes),
    };
    let snapshot_matches = match snapshot {
        None => head.snapshot_seq == 0,
        // With changes behind the snapshot only loading them tells the version.
        Some((at, version)) => {
            head.snapshot_seq == at.seq && (!changes.is_empty() || *version == head.version)
        }
    };
    let mut bytes = 0;
    let mut count = 0;
    for (at, chunk) in changes {
        match chunk {
            Chunk::Change { bytes: change, .. } if at.seq <= head.seq => {
                bytes += change.len() as u64;
                count += 1;
            }
            Chunk::Change { .. } | Chunk::Snapshot { .. } => return false,
        }
    }
    snapshot_matches && (bytes, count) == (head.log_bytes, head.log_count)
}

fn stored(
    name: &Name,
    head: Head,
    chunks: Vec<(ChunkAt, Chunk)>,
    orphans: Vec<(Hash, Bytes)>,
) -> Stored {
    let snapshot_bytes = match chunks.first() {
        Some((_, Chunk::Snapshot { bytes, .. })) => bytes.len() as u64,
        Some((_, Chunk::Change { .. })) | None => 0,
    };
    let (rows, chunks) = chunks.into_iter().map(|(at, chunk)| (at, chunk.into_bytes())).unzip();
    let last = Last { head: head.clone(), rows, snapshot_bytes };
    Stored { head, chunks, track: Arc::new(Track::stored(name.clone(), last)), orphans }
}

fn decode_view(name: &Name, key: &[u8], value: &Bytes) -> Result<View, ReadError> {
    View::decode(key, value).map_err(|why| damaged(format_args!("the view of {}", name.id()), why))
}

fn damaged(row: impl std::fmt::Display, why: Damaged) -> ReadError {
    ReadError::Damaged(format!("{row}: {why}"))
}
