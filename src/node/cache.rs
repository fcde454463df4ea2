//! Which loaded documents stay in memory: the least recently used go first.

use crate::ident::DocumentId;
use std::collections::{BTreeMap, HashMap};

/// What is loaded, by document, with a budget in bytes.
#[derive(Debug)]
pub(super) struct Cache<T> {
    entries: HashMap<DocumentId, Entry<T>>,
    /// By last use, oldest first.
    uses: BTreeMap<u64, DocumentId>,
    clock: u64,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Entry<T> {
    value: T,
    used: u64,
    bytes: usize,
}

impl<T> Cache<T> {
    pub(super) fn new(bytes_max: usize) -> Self {
        let (entries, uses) = (HashMap::new(), BTreeMap::new());
        Self { entries, uses, clock: 0, bytes: 0, bytes_max }
    }

    /// What is loaded of a document, now the most recently used.
    pub(super) fn touch(&mut self, id: DocumentId) -> Option<&mut T> {
        let entry = self.entries.get_mut(&id)?;
        self.uses.remove(&entry.used);
        self.clock += 1;
        entry.used = self.clock;
        self.uses.insert(self.clock, id);
        Some(&mut entry.value)
    }

    /// What is loaded of a document, without counting as a use.
    pub(super) fn peek(&mut self, id: DocumentId) -> Option<&mut T> {
        self.entries.get_mut(&id).map(|entry| &mut entry.value)
    }

    /// Adds a document, which must not be here.
    pub(super) fn insert(&mut self, id: DocumentId, value: T, bytes: usize) {
        self.clock += 1;
        self.uses.insert(self.clock, id);
        self.bytes += bytes;
        self.entries.insert(id, Entry { value, used: self.clock, bytes });
    }

    /// Tells what a document holds now.
    pub(super) fn weigh(&mut self, id: DocumentId, bytes: usize) {
        if let Some(entry) = self.entries.get_mut(&id) {
            self.bytes = self.bytes - entry.bytes + bytes;
            entry.bytes = bytes;
        }
    }

    pub(super) fn remove(&mut self, id: DocumentId) -> Option<T> {
        let entry = self.entries.remove(&id)?;
        self.uses.remove(&entry.used);
        self.bytes -= entry.bytes;
        Some(entry.value)
    }

    /// Whether more is held than the budget allows.
    pub(super) fn is_over(&self) -> bool {
        self.bytes_max < self.bytes
    }

    /// The documents from the least recently used on.
    pub(super) fn oldest(&self) -> impl Iterator<Item = DocumentId> + '_ {
        self.uses.values().copied()
    }

    /// The documents that are here, in no order.
    pub(super) fn ids(&self) -> impl Iterator<Item = DocumentId> + '_ {
        self.entries.keys().copied()
    }
}
