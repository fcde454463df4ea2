//! The ledger: what this node holds, summed up in one sketch for each set of collections that it shares.
//!
//! The committer keeps it: each document that moves is entered once it is durable, before any answer
//! is given. A sketch of a set that is new is made by one scan of the heads while commits go on, and is
//! then as if it had been kept from the beginning.

use super::{recent::Recent, relay::Relay};
use crate::{
    ident::{DocumentId, Version},
    store::{Committer, Moved, ReadError, Source, Store},
    sync::{Cell, Scope, SetId, Sketch, SketchKey, Slice, position},
};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::ControlFlow,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Most sets of which sketches are kept, of 1.3 MB each.
pub(super) const SETS_MAX: usize = 64;

/// What a node holds.
#[derive(Debug)]
pub(super) struct Ledger {
    key: SketchKey,
    /// Of each sketch.
    cells: usize,
    books: Mutex<Books>,
    /// Held by whoever makes a sketch.
    making: Mutex<()>,
}

#[derive(Debug)]
struct Books {
    sets: BTreeMap<SetId, Book>,
    /// All that moved up to here is entered.
    seq: u64,
    /// What went into quarantine, as far as that is entered.
    gone: BTreeSet<DocumentId>,
    relay: Relay,
    recent: Recent,
}

/// The sketch of one set.
#[derive(Debug)]
struct Book {
    scope: Scope,
    sketch: Sketch,
    /// How many documents are held, deleted ones too.
    documents: i64,
    making: Option<Making>,
}

/// A sketch in the making: what moved since it began.
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
            sets: BTreeMap::new(),
            seq,
            gone,
            relay: Relay::new(seq),
            recent: Recent::new(seq),
        };
        Self { key, cells, books: Mutex::new(books), making: Mutex::default() }
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
        let (at, collection) = (position(name.id()), self.key.collection(name.collection()));
        let mut books = self.lock();
        books.seq = books.seq.max(*seq);
        if is == 0 {
            books.gone.insert(name.id());
        } else {
            books.gone.remove(&name.id());
        }
        books.recent.note(name.id(), *seq, &brings.made);
        if brings.foreign {
            books.relay.note(name.id(), *seq, &brings.from);
        }
        for book in books.sets.values_mut().filter(|book| book.scope.holds(collection)) {
            if let Some(making) = &mut book.making {
                making.before.entry(name.id()).or_insert(was);
                making.spoiled |= is == 0;
            }
            book.sketch.change(&self.key, at, was ^ is);
            book.documents += i64::from(was == 0) - i64::from(is == 0);
        }
    }

    /// Whether a commit's foreign changes of a document after `seq` have to be told to a peer; see
    /// [`Relay::wants`].
    pub(super) fn relays(&self, id: DocumentId, seq: u64, told: impl Fn(&Source) -> bool) -> bool {
        self.lock().relay.wants(id, seq, told)
    }

    /// The changes that were made here in a document after `seq`, where all of them are in memory.
    pub(super) fn made_after(&self, id: DocumentId, seq: u64) -> Option<Vec<Bytes>> {
        self.lock().recent.after(id, seq)
    }

    /// The cells of a set, of one moment; `None`: its sketch is not made yet.
    pub(super) fn summary(&self, set: SetId) -> Option<Vec<Cell>> {
        let books = self.lock();
        let book = books.sets.get(&set).filter(|book| book.making.is_none())?;
        Some(book.sketch.cells().to_vec())
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
        let books = self.lock();
        let book = books.sets.get(&set).filter(|book| book.making.is_none())?;
        let root = book.sketch.cells().first().copied().unwrap_or_default();
        Some((root, u64::try_from(book.documents).unwrap_or(0)))
    }

    /// Forgets the sketch of a set, which is wrong: it is made anew when it is needed next.
    pub(super) fn forget(&self, set: SetId) {
        self.lock().sets.retain(|known, book| *known != set || book.making.is_some());
    }

    /// Has the sketch of a set made, unless there is one. Takes as long as a scan of all heads.
    ///
    /// # Errors
    /// `Engine`; `false`: there are as many sets as may be.
    pub(super) fn make(&self, scope: &Scope, store: &Store) -> Result<bool, ReadError> {
        let set = scope.set(&self.key);
        let _alone = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let began = {
                let mut books = self.lock();
                if books.sets.get(&set).is_some_and(|book| book.making.is_none()) {
                    return Ok(true);
                }
                if SETS_MAX <= books.sets.len() && !books.sets.contains_key(&set) {
                    return Ok(false);
                }
                let book = Book {
                    scope: scope.clone(),
                    sketch: Sketch::new(self.cells),
                    documents: 0,
                    making: Some(Making::default()),
                };
                books.sets.insert(set, book);
                books.seq
            };
            let scanned = self.scan(scope, store, began);
            let mut books = self.lock();
            let Some(book) = books.sets.get_mut(&set) else { continue };
            let making = book.making.take().unwrap_or_default();
            match scanned {
                Ok(scanned) if !making.spoiled => {
                    book.sketch.add(scanned.sketch.cells());
                    book.documents += scanned.documents;
                    for id in scanned.late {
                        // What is not known to have been something before was nothing.
                        let was = making.before.get(&id).copied().unwrap_or(0);
                        book.sketch.change(&self.key, position(id), was);
                        book.documents += i64::from(was != 0);
                    }
                    return Ok(true);
                }
                Ok(_) => book.making = Some(Making::default()),
                Err(error) => {
                    books.sets.remove(&set);
                    return Err(error);
                }
            }
        }
    }

    fn scan(&self, scope: &Scope, store: &Store, began: u64) -> Result<Scanned, ReadError> {
        let sketch = Sketch::new(self.cells);
        let mut scanned = Scanned { sketch, documents: 0, late: BTreeSet::new(), last: 0 };
        store.heads(&[], &mut |name, head| {
            // What is not entered yet will be, as a document that has gone: until then it is here.
            let gone = head.quarantined && self.lock().gone.contains(&name.id());
            if scope.holds(self.key.collection(name.collection())) && !gone {
                if head.seq <= began {
                    let value = self.key.fingerprint(&name, &head.version);
                    scanned.sketch.change(&self.key, position(name.id()), value);
                    scanned.documents += 1;
                } else {
                    scanned.late.insert(name.id());
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
    sketch: Sketch,
    documents: i64,
    /// What had.
    late: BTreeSet<DocumentId>,
    /// The last commit of those.
    last: u64,
}
