//! The ledger: what this node holds, summed up in one sketch for each set of collections that it shares,
//! and in cell 0 alone for each collection.
//!
//! The committer keeps it: each document that moves is entered once it is durable, before any answer
//! is given. A book of sums that is new is made by one scan of the heads while commits go on, and is
//! then as if it had been kept from the beginning.

use super::{
    recent::{Recent, Stretch},
    relay::Relay,
};
use crate::{
    ident::{Collection, CollectionToken, DocumentId, Name, Version},
    store::{Committer, Moved, ReadError, Source, Store},
    sync::{Cell, Scope, SetId, Sketch, SketchKey, Slice, position},
};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, btree_map::Entry},
    ops::ControlFlow,
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError},
    time::Duration,
};
use tokio::time::Instant;

/// Most sets of which sketches are kept, of 1.3 MB each.
pub(super) const SETS_MAX: usize = 64;

/// Of more sets, those are forgotten at which nobody has looked for so long: a peer's is looked at with every
/// beat.
pub(super) const SET_TIME: Duration = Duration::from_secs(600);

/// What a node holds.
#[derive(Debug)]
pub(super) struct Ledger {
    key: SketchKey,
    /// Of each sketch.
    cells: usize,
    books: Mutex<Books>,
    /// Held by whoever makes a book.
    making: Mutex<()>,
    /// Held by whoever has the one of all collections made.
    rooting: Mutex<()>,
}

#[derive(Debug)]
struct Books {
    kept: BTreeMap<Title, Book>,
    /// All that moved up to here is entered.
    seq: u64,
    /// What went into quarantine, as far as that is entered.
    gone: BTreeSet<DocumentId>,
    relay: Relay,
    recent: Recent,
}

impl Books {
    /// Makes room for one more set. `false`: there is none.
    fn make_room(&mut self) -> bool {
        let sets = || self.kept.iter().filter(|(title, _)| **title != Title::Roots);
        if sets().count() < SETS_MAX {
            return true;
        }
        let (now, free) = (Instant::now(), sets().filter(|(_, book)| book.making.is_none()));
        let unseen = free.min_by_key(|(_, book)| book.looked);
        let unseen = unseen.filter(|(_, book)| SET_TIME <= now - book.looked);
        let title = unseen.map(|(title, _)| *title);
        title.is_some_and(|title| self.kept.remove(&title).is_some())
    }
}

/// Of what a book is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Title {
    /// A set, in a sketch.
    Set(SetId),
    /// Every collection, in cell 0 alone.
    Roots,
}

/// What is held of some collections, summed up.
#[derive(Debug)]
struct Book {
    scope: Scope,
    sums: Sums,
    making: Option<Making>,
    /// When somebody looked at it last.
    looked: Instant,
}

/// Sums of what is held.
#[derive(Debug)]
struct Sums {
    /// One of everything, under 0; or one of each collection, under its number.
    sketches: BTreeMap<u64, Sketch>,
    /// Whether there is one of each collection.
    apart: bool,
    /// Of each sketch.
    cells: usize,
    /// How many documents are held, deleted ones too.
    documents: i64,
}

impl Sums {
    /// Of nothing, in sketches of so many cells.
    fn new(title: Title, cells: usize) -> Self {
        let (apart, cells) = match title {
            Title::Set(_) => (false, cells),
            Title::Roots => (true, 1),
        };
        Self { sketches: BTreeMap::new(), apart, cells, documents: 0 }
    }

    /// A document of a collection had one value and has another.
    fn change(&mut self, key: &SketchKey, at: Place, was: u64, is: u64) {
        let (part, cells) = (if self.apart { at.collection } else { 0 }, self.cells);
        let sketch = self.sketches.entry(part).or_insert_with(|| Sketch::new(cells));
        sketch.change(key, at.position, was ^ is);
        self.documents += i64::from(was == 0) - i64::from(is == 0);
    }

    /// Adds what is held beside this.
    fn add(&mut self, other: Self) {
        for (part, sums) in other.sketches {
            match self.sketches.entry(part) {
                Entry::Vacant(free) => {
                    free.insert(sums);
                }
                Entry::Occupied(mut here) => here.get_mut().add(sums.cells()),
            }
        }
        self.documents += other.documents;
    }

    /// The cells of one sketch.
    fn cells(&self, part: u64) -> Vec<Cell> {
        let sketch = self.sketches.get(&part);
        sketch.map_or_else(|| vec![Cell::default(); self.cells], |sketch| sketch.cells().to_vec())
    }

    /// Cell 0 of one sketch.
    fn root(&self, part: u64) -> Cell {
        let cells = self.sketches.get(&part).map(Sketch::cells);
        cells.and_then(<[Cell]>::first).copied().unwrap_or_default()
    }
}

/// Where a document stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    collection: u64,
    position: u64,
}

impl Place {
    fn of(name: &Name, key: &SketchKey) -> Self {
        Self { collection: key.collection(name.collection()), position: position(name.id()) }
    }
}

/// A book in the making: what moved since it began.
#[derive(Debug, Default)]
struct Making {
    /// The value that each document had before.
    before: HashMap<DocumentId, u64>,
    /// A document has gone, of which the scan may or may not have known.
    spoiled: bool,
}

impl Ledger {
    /// An empty ledger of a store that nobody writes to yet.
    pub(super) fn new(key: SketchKey, cells: usize, store: &Store) -> Self {
        let (seq, gone) = (store.last_seq(), store.quarantined_documents().into_iter().collect());
        let cells = cells.clamp(Sketch::CELLS_MIN, Sketch::CELLS_MAX);
        let books = Books {
            kept: BTreeMap::new(),
            seq,
            gone,
            relay: Relay::new(seq),
            recent: Recent::new(seq),
        };
        let (making, rooting) = Default::default();
        Self { key, cells, books: Mutex::new(books), making, rooting }
    }

    /// An empty ledger of a store, kept by its committer.
    pub(super) fn kept_by(
        committer: &mut Committer,
        key: SketchKey,
        cells: usize,
        store: &Store,
    ) -> Arc<Self> {
        let ledger = Arc::new(Self::new(key, cells, store));
        let entering = Arc::clone(&ledger);
        committer.watch(Box::new(move |moved| entering.enter(&moved)));
        ledger
    }

    /// The keys under which it sums up.
    pub(super) fn key(&self) -> &SketchKey {
        &self.key
    }

    /// Enters a document that has moved.
    pub(super) fn enter(&self, moved: &Moved<'_>) {
        let Moved { name, before, after, seq, brings } = moved;
        let value = |version: &Version| {
            if version.is_empty() { 0 } else { self.key.fingerprint(name, version) }
        };
        let (was, is) = (value(before), value(after));
        let at = Place::of(name, &self.key);
        let mut books = self.lock();
        books.seq = books.seq.max(*seq);
        if is == 0 {
            books.gone.insert(name.id());
        } else {
            books.gone.remove(&name.id());
        }
        if brings.own && brings.made.is_empty() {
            // Something out of quarantine: whatever it is, it is not among the last.
            books.recent.skip(*seq);
        }
        if is != 0 {
            books.recent.note(name.id(), *seq, &brings.made);
        }
        if brings.foreign {
            books.relay.note(name.id(), *seq, &brings.from);
        }
        for book in books.kept.values_mut().filter(|book| book.scope.holds(at.collection)) {
            if let Some(making) = &mut book.making {
                making.before.entry(name.id()).or_insert(was);
                making.spoiled |= is == 0;
            }
            book.sums.change(&self.key, at, was, is);
        }
    }

    /// Whether a commit's foreign changes of a document after `seq` have to be told to a peer; see
    /// [`Relay::wants`].
    pub(super) fn relays(&self, id: DocumentId, seq: u64, told: impl Fn(&Source) -> bool) -> bool {
        self.lock().relay.wants(id, seq, told)
    }

    /// The last commits after a seq; see [`Recent::stretch`].
    pub(super) fn stretch(
        &self,
        after: u64,
        until: u64,
        documents_max: usize,
        bytes_max: usize,
    ) -> Option<Stretch> {
        self.lock().recent.stretch(after, until, documents_max, bytes_max)
    }

    /// The changes that were made here in a document after a seq up to another one, where all of them are in
    /// memory.
    pub(super) fn made(&self, id: DocumentId, after: u64, until: u64) -> Option<Vec<Bytes>> {
        self.lock().recent.made(id, after, until)
    }

    /// The cells of a set, of one moment; `None`: its sketch is not made yet.
    pub(super) fn summary(&self, set: SetId) -> Option<Vec<Cell>> {
        self.look(Title::Set(set), |sums| sums.cells(0))
    }

    /// What anybody may see of what is held of each of these collections; `None`: they are not summed up
    /// yet.
    pub(super) fn tokens(&self, names: &[Collection]) -> Option<Vec<CollectionToken>> {
        let roots: Vec<Cell> = self.look(Title::Roots, |sums| {
            names.iter().map(|name| sums.root(self.key.collection(name))).collect()
        })?;
        Some(roots.into_iter().map(|root| self.key.token(root)).collect())
    }

    /// Looks at a book that is made.
    fn look<T>(&self, title: Title, of: impl FnOnce(&Sums) -> T) -> Option<T> {
        let mut books = self.lock();
        let book = books.kept.get_mut(&title).filter(|book| book.making.is_none())?;
        book.looked = Instant::now();
        Some(of(&book.sums))
    }

    /// The cells of a slice of a set, made now under these keys. Takes as long as a scan of its heads.
    ///
    /// # Errors
    /// `Engine`.
    pub(super) fn slice(
        &self,
        scope: &Scope,
        slice: &Slice,
        key: &SketchKey,
        store: &Store,
    ) -> Result<Vec<Cell>, ReadError> {
        let mut sketch = Sketch::new(self.cells);
        store.heads(slice.first(), &mut |name, head| {
            let shared = scope.holds(self.key.collection(name.collection()));
            if shared && !head.quarantined {
                let value = key.fingerprint(&name, &head.version);
                sketch.change(key, position(name.id()), value);
            }
            ControlFlow::Continue(())
        })?;
        Ok(sketch.cells().to_vec())
    }

    /// The sum of all documents of a set, and how many they are; `None`: its sketch is not made yet.
    pub(super) fn root(&self, set: SetId) -> Option<(Cell, u64)> {
        self.look(Title::Set(set), |sums| {
            (sums.root(0), u64::try_from(sums.documents).unwrap_or(0))
        })
    }

    /// Forgets the sums of a set, and those of collections: they are wrong, and are made anew when they
    /// are needed next.
    pub(super) fn forget(&self, set: SetId) {
        let wrong = [Title::Set(set), Title::Roots];
        self.lock().kept.retain(|title, book| !wrong.contains(title) || book.making.is_some());
    }

    /// Has the sketch of a set made, unless there is one. Takes as long as a scan of all heads.
    ///
    /// # Errors
    /// `Engine`; `false`: there are as many sets as may be.
    pub(super) fn make(&self, scope: &Scope, store: &Store) -> Result<bool, ReadError> {
        self.make_book(Title::Set(scope.set(&self.key)), scope, store)
    }

    /// Has the sums of all collections made, unless there are some, or somebody is at it: then it returns
    /// at once. Takes as long as a scan of all heads.
    ///
    /// # Errors
    /// `Engine`.
    pub(super) fn make_roots(&self, store: &Store) -> Result<(), ReadError> {
        let _alone = match self.rooting.try_lock() {
            Ok(alone) => alone,
            Err(TryLockError::Poisoned(alone)) => alone.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(()),
        };
        self.make_book(Title::Roots, &Scope::All, store).map(drop)
    }

    fn make_book(&self, title: Title, scope: &Scope, store: &Store) -> Result<bool, ReadError> {
        let _alone = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let Some(began) = self.begin(title, scope) else {
                return Ok(self.look(title, |_| ()).is_some());
            };
            let scanned = self.scan(title, scope, store, began);
            let mut books = self.lock();
            let Some(book) = books.kept.get_mut(&title) else { continue };
            let making = book.making.take().unwrap_or_default();
            match scanned {
                Ok(scanned) if !making.spoiled => {
                    book.sums.add(scanned.sums);
                    for (id, at) in scanned.late {
                        // What is not known to have been something before was nothing.
                        let was = making.before.get(&id).copied().unwrap_or(0);
                        book.sums.change(&self.key, at, 0, was);
                    }
                    return Ok(true);
                }
                Ok(_) => book.making = Some(Making::default()),
                Err(error) => {
                    books.kept.remove(&title);
                    return Err(error);
                }
            }
        }
    }

    /// Begins a book anew, of all that moves from a seq on, which it gives; `None`: it is made, or there
    /// are as many as may be.
    fn begin(&self, title: Title, scope: &Scope) -> Option<u64> {
        let mut books = self.lock();
        let known = books.kept.get(&title).map(|book| book.making.is_some());
        let may_be = match known {
            Some(making) => making,
            None => title == Title::Roots || books.make_room(),
        };
        if !may_be {
            return None;
        }
        let (sums, making) = (Sums::new(title, self.cells), Some(Making::default()));
        let book = Book { scope: scope.clone(), sums, making, looked: Instant::now() };
        books.kept.insert(title, book);
        Some(books.seq)
    }

    fn scan(
        &self,
        title: Title,
        scope: &Scope,
        store: &Store,
        began: u64,
    ) -> Result<Scanned, ReadError> {
        let sums = Sums::new(title, self.cells);
        let mut scanned = Scanned { sums, late: BTreeMap::new(), last: 0 };
        store.heads(&[], &mut |name, head| {
            // What is not entered yet will be, as a document that has gone: until then it is here.
            let gone = head.quarantined && self.lock().gone.contains(&name.id());
            let at = Place::of(&name, &self.key);
            if scope.holds(at.collection) && !gone {
                if head.seq <= began {
                    let value = self.key.fingerprint(&name, &head.version);
                    scanned.sums.change(&self.key, at, 0, value);
                } else {
                    scanned.late.insert(name.id(), at);
                    scanned.last = scanned.last.max(head.seq);
                }
            }
            ControlFlow::Continue(())
        })?;
        // A commit can be read a moment before it is entered.
        while self.lock().seq < scanned.last {
            std::thread::yield_now();
        }
        Ok(scanned)
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        // Nothing in it panics half way.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a scan of the heads found.
struct Scanned {
    /// Of what had not moved since the scan began.
    sums: Sums,
    /// What had.
    late: BTreeMap<DocumentId, Place>,
    /// The last commit of those.
    last: u64,
}
