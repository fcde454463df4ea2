//! The collections: their names, their ids, and how many documents each has.

use crate::ident::Collection;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
};

/// Most collections of a store.
pub const COLLECTIONS_MAX: usize = 10_000;

/// A collection and how many documents it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectionCount {
    /// Its name.
    pub name: Collection,
    /// Documents that live.
    pub documents: u64,
    /// Documents that are deleted.
    pub deleted: u64,
}

/// What a document adds to its collection's counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    Absent,
    Live,
    Deleted,
}

#[derive(Debug)]
struct Entry {
    name: Collection,
    documents: AtomicU64,
    deleted: AtomicU64,
}

impl Entry {
    fn counter(&self, presence: Presence) -> Option<&AtomicU64> {
        match presence {
            Presence::Absent => None,
            Presence::Live => Some(&self.documents),
            Presence::Deleted => Some(&self.deleted),
        }
    }
}

#[derive(Debug, Default)]
struct Entries {
    ids: BTreeMap<Collection, u32>,
    by_id: BTreeMap<u32, Arc<Entry>>,
}

/// All collections. Reads look a name up for every request; it is written only when a collection is
/// new, which at most [`COLLECTIONS_MAX`] ever are.
#[derive(Debug, Default)]
pub(super) struct Catalog(RwLock<Entries>);

impl Catalog {
    /// Adds a collection. `None`: its name or its id is taken.
    pub(super) fn add(&self, name: &Collection, id: u32) -> Option<()> {
        let mut entries = self.write();
        if entries.ids.contains_key(name) || entries.by_id.contains_key(&id) {
            return None;
        }
        let entry =
            Entry { name: name.clone(), documents: AtomicU64::new(0), deleted: AtomicU64::new(0) };
        entries.ids.insert(name.clone(), id);
        entries.by_id.insert(id, Arc::new(entry));
        Some(())
    }

    pub(super) fn id(&self, name: &Collection) -> Option<u32> {
        self.read().ids.get(name).copied()
    }

    pub(super) fn name(&self, id: u32) -> Option<Collection> {
        self.read().by_id.get(&id).map(|entry| entry.name.clone())
    }

    /// How many there are, and the id of the next.
    pub(super) fn size(&self) -> (usize, u32) {
        let entries = self.read();
        let last = entries.by_id.last_key_value().map_or(0, |(id, _)| *id);
        (entries.by_id.len(), last.saturating_add(1))
    }

    /// Counts a document that was one thing and is another now. `None`: no such collection.
    pub(super) fn count(&self, id: u32, was: Presence, is: Presence) -> Option<()> {
        let entry = self.read().by_id.get(&id).cloned()?;
        if was != is {
            // The committer alone counts, so nothing comes between the two.
            if let Some(counter) = entry.counter(was) {
                let fewer = counter.load(Ordering::Relaxed).saturating_sub(1);
                counter.store(fewer, Ordering::Relaxed);
            }
            if let Some(counter) = entry.counter(is) {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        }
        Some(())
    }

    /// All of them, by name.
    pub(super) fn counts(&self) -> Vec<CollectionCount> {
        let entries = self.read();
        let entry = |id: &u32| entries.by_id.get(id);
        let count = |entry: &Arc<Entry>| CollectionCount {
            name: entry.name.clone(),
            documents: entry.documents.load(Ordering::Relaxed),
            deleted: entry.deleted.load(Ordering::Relaxed),
        };
        entries.ids.values().filter_map(entry).map(count).collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, Entries> {
        // Both maps are changed by inserts alone, which do not panic half way.
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Entries> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}
