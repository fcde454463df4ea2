//! Orphans: changes that wait, beside their document, for others on which they rest.
//!
//! Which documents have any is held in memory, so that all others are loaded without looking.

use super::{
    codec::Writer,
    engine::{Batch, Engine, Range},
    error::{Damaged, EngineError},
    frame::{self, Kind},
    key::{self, Family},
};
use crate::ident::{DocumentId, Hash};
use bytes::Bytes;
use std::{
    collections::HashMap,
    ops::ControlFlow,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Most changes that wait for one document.
pub const ORPHANS_MAX: usize = 256;
/// Most bytes of them.
pub const ORPHAN_BYTES_MAX: usize = 4 << 20;
/// Most bytes of changes that wait, of all documents.
pub(super) const ORPHAN_BYTES_TOTAL_MAX: u64 = 256 << 20;

/// What becomes of the changes that wait for a document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Orphans {
    /// These wait from now on.
    pub put: Vec<(Hash, Bytes)>,
    /// These have become part of the document, or never will. None is also put.
    pub remove: Vec<Hash>,
}

impl Orphans {
    /// Whether nothing becomes of any.
    pub fn is_empty(&self) -> bool {
        self.put.is_empty() && self.remove.is_empty()
    }

    /// Writes their rows.
    pub(super) fn write(&self, id: DocumentId, batch: &mut Batch) {
        for hash in &self.remove {
            batch.remove(Family::Orphan, key::encode_orphan(id, *hash));
        }
        for (hash, bytes) in &self.put {
            let key = key::encode_orphan(id, *hash);
            batch.put(Family::Orphan, key, encode(&key, bytes));
        }
    }
}

/// How many bytes wait, by document. The committer alone changes it, after a batch is durable.
#[derive(Debug, Default)]
pub(super) struct Waiting(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    documents: HashMap<DocumentId, HashMap<Hash, u64>>,
    count: u64,
    bytes: u64,
}

impl Waiting {
    /// What an engine holds.
    pub(super) fn read(engine: &dyn Engine) -> Result<Self, EngineError> {
        let mut table = Table::default();
        engine.scan(Family::Orphan, &Range::all(), &mut |key, value| {
            // A key that is none is for `check` to find.
            if let Some((id, hash)) = key::decode_orphan(key) {
                table.insert(id, hash, value.len() as u64);
            }
            ControlFlow::Continue(())
        })?;
        Ok(Self(Mutex::new(table)))
    }

    /// Takes note of what is durable.
    pub(super) fn note(&self, id: DocumentId, orphans: &Orphans) {
        let mut table = self.lock();
        for hash in &orphans.remove {
            table.remove(id, hash);
        }
        for (hash, bytes) in &orphans.put {
            table.insert(id, *hash, bytes.len() as u64);
        }
    }

    /// Whether a document has any.
    pub(super) fn has(&self, id: DocumentId) -> bool {
        self.lock().documents.contains_key(&id)
    }

    /// How many there are, and their bytes.
    pub(super) fn total(&self) -> (u64, u64) {
        let table = self.lock();
        (table.count, table.bytes)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing in it panics half way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn insert(&mut self, id: DocumentId, hash: Hash, bytes: u64) {
        match self.documents.entry(id).or_default().insert(hash, bytes) {
            Some(before) => self.bytes -= before,
            None => self.count += 1,
        }
        self.bytes += bytes;
    }

    fn remove(&mut self, id: DocumentId, hash: &Hash) {
        let Some(hashes) = self.documents.get_mut(&id) else { return };
        if let Some(bytes) = hashes.remove(hash) {
            self.count -= 1;
            self.bytes -= bytes;
        }
        if hashes.is_empty() {
            self.documents.remove(&id);
        }
    }
}

/// The changes that wait for a document. Damaged ones are left out: they come again.
pub(super) fn read(engine: &dyn Engine, id: DocumentId) -> Result<Vec<(Hash, Bytes)>, EngineError> {
    let mut orphans = Vec::new();
    engine.scan(Family::Orphan, &Range::prefix(&id.to_bytes()), &mut |key, value| {
        if let (Some((_, hash)), Ok(bytes)) = (key::decode_orphan(key), decode(key, value)) {
            orphans.push((hash, bytes));
        }
        ControlFlow::Continue(())
    })?;
    Ok(orphans)
}

/// The row is the change, as Automerge writes it.
fn encode(key: &[u8], change: &[u8]) -> Bytes {
    let mut out = Writer::new(Kind::Orphan, change.len());
    out.raw(change);
    out.finish(key)
}

fn decode(key: &[u8], value: &[u8]) -> Result<Bytes, Damaged> {
    Ok(Bytes::copy_from_slice(frame::open(Kind::Orphan, key, value)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Durability, MemoryEngine};

    #[test]
    fn a_change_that_waits_has_golden_bytes() {
        let value = encode(b"key", b"change");
        assert_eq!(value[..2], [1, 6]);
        assert_eq!(value[frame::HEADER_BYTES..], *b"change");
        assert_eq!(decode(b"key", &value), Ok(Bytes::from_static(b"change")));
        assert!(decode(b"yek", &value).is_err());
    }

    #[test]
    fn what_waits_is_known_while_it_does_and_after_a_start() {
        let engine = MemoryEngine::new();
        let (id, other) = (DocumentId::from_bytes([7; 16]), DocumentId::from_bytes([8; 16]));
        let [a, b] = [1, 2].map(|byte| Hash::from_bytes([byte; 32]));
        let waiting = Waiting::default();
        let first = Orphans {
            put: vec![(a, Bytes::from_static(b"a")), (b, Bytes::from_static(b"b"))],
            remove: Vec::new(),
        };
        let second = Orphans { put: Vec::new(), remove: vec![a] };
        for (orphans, left) in [(first, vec![a, b]), (second, vec![b])] {
            let mut batch = Batch::default();
            orphans.write(id, &mut batch);
            engine.commit(batch, Durability::Sync).unwrap();
            waiting.note(id, &orphans);
            for waiting in [&waiting, &Waiting::read(&engine).unwrap()] {
                assert!(waiting.has(id) && !waiting.has(other));
                assert_eq!(waiting.total().0, left.len() as u64);
            }
            let read = read(&engine, id).unwrap();
            assert_eq!(read.iter().map(|(hash, _)| *hash).collect::<Vec<_>>(), left);
        }
        waiting.note(id, &Orphans { put: Vec::new(), remove: vec![b] });
        assert!(!waiting.has(id));
    }
}
