//! Quarantine: documents that do not load, and bytes that are kept aside for whoever wants to look.
//!
//! | kind | key, behind the kind | holds |
//! |---|---|---|
//! | 2 | name of a family, a zero byte, a key | the damaged row of that key, which a repair took out |
//! | 3 | document id | why and when the document was put here; its head says that it is |
//! | 4 | document id, hash of the bytes (16) | changes of others on which Automerge broke |

use super::{
    catalog::Presence,
    codec::{Reader, Writer},
    commit::{Brings, Committer, Moved},
    engine::{Batch, Engine, Range},
    error::{CommitError, Damaged, EngineError, ReadError},
    frame::{self, Kind},
    key::{self, Family},
    orphan::{self, Orphans},
    read::Store,
    row::{Chunk, Head},
    track::{Last, Track},
};
use crate::ident::{DocumentId, Name, QuarantineId, Version};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The kinds of these rows among those of their family.
const ROW: u8 = 2;
const NOTE: u8 = 3;
const CHANGES: u8 = 4;

/// Most times that changes of others are kept aside, and most bytes of them. What comes then is not
/// kept.
pub const CHANGES_MAX: usize = 256;
/// The bytes.
pub const CHANGES_BYTES_MAX: u64 = 64 << 20;

/// Something in quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its name here: a document's is its own id.
    pub id: QuarantineId,
    /// What it is.
    pub what: What,
    /// The document that it belongs to, if that is known.
    pub name: Option<Name>,
    /// Why it is here.
    pub why: String,
    /// Since when, in seconds since 1970; 0: nobody knows.
    pub time_seconds: u64,
    /// Bytes that are kept of it.
    pub bytes: u64,
}

/// What is in quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A document that does not load.
    Document,
    /// Changes that somebody sent for a document, which is as it was before.
    Changes,
    /// Damaged rows that belong to no document which is known here.
    Rows,
}

/// What is to be put into quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Aside {
    /// A stored document that does not load. Its bytes stay where they are.
    Document,
    /// Bytes that were sent for a document.
    Changes(Bytes),
}

/// A document in quarantine, as far as it can be read.
#[derive(Debug)]
pub struct Remains {
    /// Its name.
    pub name: Name,
    /// What is whole of what makes it, in order.
    pub chunks: Vec<Bytes>,
    /// The pieces that are not, as they are.
    pub damaged: Vec<Bytes>,
    /// The version that it had.
    pub version: Version,
    /// For the commit that takes it out.
    pub track: Arc<Track>,
}

/// The row that keeps a damaged one, value and all, under its family and key.
pub(super) fn row(family: Family, key: &[u8], value: &[u8]) -> (Vec<u8>, Bytes) {
    // A name never holds a zero byte.
    let name = [family.name().as_bytes(), &[0], key].concat();
    let key = key::encode_kept(ROW, &name);
    let mut out = Writer::new(Kind::Quarantined, value.len());
    out.raw(value);
    let value = out.finish(&key);
    (key, value)
}

/// The row that tells why a document is in quarantine.
pub(super) fn note(id: DocumentId, why: &str, time_seconds: u64) -> (Vec<u8>, Bytes) {
    let key = key::encode_kept(NOTE, &id.to_bytes());
    let mut out = Writer::new(Kind::Note, 12 + why.len());
    out.u64(time_seconds);
    out.counted(why.as_bytes());
    let value = out.finish(&key);
    (key, value)
}

/// Since when, and why.
fn read_note(key: &[u8], value: &[u8]) -> Result<(u64, String), Damaged> {
    let mut fields = Reader::new(frame::open(Kind::Note, key, value)?);
    let time_seconds = fields.u64()?;
    let why = String::from_utf8_lossy(fields.counted()?).into_owned();
    fields.end()?;
    Ok((time_seconds, why))
}

/// The row that keeps changes of others.
fn changes(name: &Name, bytes: &[u8], why: &str, time_seconds: u64) -> (Vec<u8>, Bytes) {
    let key = [&name.id().to_bytes()[..], &short_hash(&[bytes])].concat();
    let key = key::encode_kept(CHANGES, &key);
    let mut out = Writer::new(Kind::Changes, 512 + why.len() + bytes.len());
    out.u64(time_seconds);
    out.counted(why.as_bytes());
    out.counted(name.collection().as_str().as_bytes());
    out.counted(name.key().as_str().as_bytes());
    out.raw(bytes);
    let value = out.finish(&key);
    (key, value)
}

fn read_changes(key: &[u8], value: &[u8]) -> Result<(Held, Bytes), Damaged> {
    let mut fields = Reader::new(frame::open(Kind::Changes, key, value)?);
    let time_seconds = fields.u64()?;
    let why = String::from_utf8_lossy(fields.counted()?).into_owned();
    let collection = std::str::from_utf8(fields.counted()?).ok();
    let collection = collection.and_then(|text| text.parse().ok());
    let collection = collection.ok_or(Damaged("a collection is not one"))?;
    let name = Name::new(collection, fields.key()?).ok();
    let bytes = Bytes::copy_from_slice(fields.rest());
    let id = QuarantineId::from_bytes(short_hash(&[key]));
    let what = What::Changes;
    Ok((Held { id, what, name, why, time_seconds, bytes: bytes.len() as u64 }, bytes))
}

fn short_hash(parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    let mut short = [0; 16];
    short.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    short
}

/// Which documents are in quarantine, and how much else. The committer alone changes it, after a
/// batch is durable.
#[derive(Debug, Default)]
pub(super) struct Ward(Mutex<Inmates>);

#[derive(Debug, Default)]
struct Inmates {
    documents: BTreeSet<DocumentId>,
    /// Bytes of changes of others, by the keys of their rows.
    changes: BTreeMap<Vec<u8>, u64>,
}

impl Ward {
    /// What an engine holds, with the documents whose heads say so.
    pub(super) fn read(
        engine: &dyn Engine,
        documents: BTreeSet<DocumentId>,
    ) -> Result<Self, EngineError> {
        let mut changes = BTreeMap::new();
        let range = Range::prefix(&key::encode_kept(CHANGES, &[]));
        engine.scan(Family::Kept, &range, &mut |key, value| {
            changes.insert(key.to_vec(), value.len() as u64);
            ControlFlow::Continue(())
        })?;
        Ok(Self(Mutex::new(Inmates { documents, changes })))
    }

    fn holds(&self, id: DocumentId) -> bool {
        self.lock().documents.contains(&id)
    }

    /// All documents in it.
    pub(super) fn documents(&self) -> Vec<DocumentId> {
        self.lock().documents.iter().copied().collect()
    }

    /// A document has left it.
    pub(super) fn leave(&self, id: DocumentId) {
        self.lock().documents.remove(&id);
    }

    fn lock(&self) -> MutexGuard<'_, Inmates> {
        // Nothing in it panics half way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// How many documents are in quarantine, and how often changes of others are kept there.
    pub fn quarantine_size(&self) -> (u64, u64) {
        let inmates = self.ward.lock();
        (inmates.documents.len() as u64, inmates.changes.len() as u64)
    }

    /// Everything in quarantine, by its name there.
    ///
    /// # Errors
    /// `Engine`.
    pub fn quarantine(&self) -> Result<Vec<Held>, ReadError> {
        self.held_there(None)
    }

    /// All of it, or one thing of this name.
    fn held_there(&self, only: Option<QuarantineId>) -> Result<Vec<Held>, ReadError> {
        let wanted = |id: QuarantineId| only.is_none_or(|only| only == id);
        let mut all = BTreeMap::new();
        let mut documents = self.ward.lock().documents.clone();
        documents.retain(|id| wanted(QuarantineId::from_bytes(id.to_bytes())));
        for id in documents {
            let Ok(Some((name, head))) = self.head(id) else { continue };
            if head.quarantined {
                let mut held = self.held(id, Some(name), What::Document);
                self.scan(Family::Chunk, &key::chunk_range(id), |_, value| {
                    held.bytes += value.len() as u64;
                })?;
                all.insert(held.id, held);
            }
        }
        self.scan(Family::Kept, &Range::prefix(&[ROW]), |key, value| {
            let (id, document) = self.owner(key);
            if !wanted(id) {
                return;
            }
            let held = all.entry(id).or_insert_with(|| match document {
                Some(id) => self.held(id, None, What::Rows),
                None => Held {
                    id,
                    what: What::Rows,
                    name: None,
                    why: "a damaged row, which a repair took out".to_owned(),
                    time_seconds: 0,
                    bytes: 0,
                },
            });
            held.bytes += value.len() as u64;
        })?;
        self.scan(Family::Kept, &Range::prefix(&[CHANGES]), |key, value| {
            if wanted(QuarantineId::from_bytes(short_hash(&[key])))
                && let Ok((held, _)) = read_changes(key, value)
            {
                all.insert(held.id, held);
            }
        })?;
        Ok(all.into_values().collect())
    }

    /// One thing in quarantine, and the bytes that are kept of it; `None`: there is no such thing.
    ///
    /// # Errors
    /// `Engine`.
    pub fn quarantined(&self, id: QuarantineId) -> Result<Option<(Held, Vec<Bytes>)>, ReadError> {
        let Some(held) = self.held_there(Some(id))?.pop() else { return Ok(None) };
        let mut bytes = Vec::new();
        for (family, key) in self.rows(&held)? {
            let value = self.engine.get(family, &key);
            let Ok(Some(value)) = value else { continue };
            bytes.push(match (family, held.what) {
                (Family::Kept, What::Changes) => {
                    read_changes(&key, &value).map_or(value, |(_, bytes)| bytes)
                }
                (Family::Kept, _) => {
                    let (key, value) = taken_out(&key, &value);
                    content(&key, &value).unwrap_or(value)
                }
                _ => content(&key, &value).unwrap_or(value),
            });
        }
        Ok(Some((held, bytes)))
    }

    /// What can be read of a document in quarantine; `None`: it is in none.
    ///
    /// # Errors
    /// `Engine`.
    pub fn remains(&self, id: DocumentId) -> Result<Option<Remains>, ReadError> {
        let Some((name, head)) = self.head(id)?.filter(|(_, head)| head.quarantined) else {
            return Ok(None);
        };
        let held = self.held(id, Some(name.clone()), What::Document);
        let (mut chunks, mut damaged, mut rows) = (BTreeMap::new(), Vec::new(), Vec::new());
        for (family, key) in self.rows(&held)? {
            let value = self.engine.get(family, &key).ok().flatten().unwrap_or_default();
            let (key, value) = match family {
                Family::Chunk => (key, value),
                Family::Kept => taken_out(&key, &value),
                // The view is made of the rest.
                _ => continue,
            };
            let Some((_, at)) = key::decode_chunk(&key) else { continue };
            if family == Family::Chunk {
                rows.push(at);
            }
            match content(&key, &value) {
                Some(chunk) => drop(chunks.insert(at, chunk)),
                None => damaged.push(value),
            }
        }
        let version = head.version.clone();
        let last = Last { head, rows, snapshot_bytes: 0 };
        let track = Arc::new(Track::stored(name.clone(), last));
        Ok(Some(Remains { name, chunks: chunks.into_values().collect(), damaged, version, track }))
    }

    fn held(&self, id: DocumentId, name: Option<Name>, what: What) -> Held {
        let key = key::encode_kept(NOTE, &id.to_bytes());
        let note = self.engine.get(Family::Kept, &key).ok().flatten();
        let note = note.and_then(|value| read_note(&key, &value).ok());
        let (time_seconds, why) = note.unwrap_or_else(|| {
            let why = match what {
                What::Document => "its bytes were damaged",
                What::Changes | What::Rows => "damaged rows of a document whose name is lost",
            };
            (0, why.to_owned())
        });
        let id = QuarantineId::from_bytes(id.to_bytes());
        Held { id, what, name, why, time_seconds, bytes: 0 }
    }

    /// The rows that make up something in quarantine, but for a document's head.
    pub(super) fn rows(&self, held: &Held) -> Result<Vec<(Family, Vec<u8>)>, ReadError> {
        let mut rows = Vec::new();
        if held.what == What::Changes {
            self.scan(Family::Kept, &Range::prefix(&[CHANGES]), |key, _| {
                if short_hash(&[key]) == held.id.to_bytes() {
                    rows.push((Family::Kept, key.to_vec()));
                }
            })?;
            return Ok(rows);
        }
        if held.what == What::Document {
            let range = key::chunk_range(DocumentId::from_bytes(held.id.to_bytes()));
            self.scan(Family::Chunk, &range, |key, _| rows.push((Family::Chunk, key.to_vec())))?;
        }
        self.scan(Family::Kept, &Range::prefix(&[ROW]), |key, _| {
            if self.owner(key).0 == held.id {
                rows.push((Family::Kept, key.to_vec()));
            }
        })?;
        Ok(rows)
    }

    /// To what a row that was taken out belongs, and which document that is.
    fn owner(&self, key: &[u8]) -> (QuarantineId, Option<DocumentId>) {
        let (_, name) = key::decode_kept(key).unwrap_or_default();
        let mut parts = name.splitn(2, |byte| *byte == 0);
        let (family, row) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let document = if family == Family::Chunk.name().as_bytes() {
            key::decode_chunk(row).map(|(id, _)| id)
        } else if family == Family::View.name().as_bytes() {
            let named = key::decode_view(row)
                .and_then(|(collection, key)| Name::new(self.catalog.name(collection)?, key).ok());
            named.map(|name| name.id())
        } else {
            None
        };
        let id = document.map_or_else(|| short_hash(&[key]), DocumentId::to_bytes);
        (QuarantineId::from_bytes(id), document)
    }

    fn scan(
        &self,
        family: Family,
        range: &Range,
        mut row: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), ReadError> {
        let scanned = self.engine.scan(family, range, &mut |key, value| {
            row(key, value);
            ControlFlow::Continue(())
        });
        match scanned {
            // What lies there is damaged: that is why somebody looks.
            Err(EngineError::Corrupt(_)) => Ok(()),
            scanned => Ok(scanned?),
        }
    }
}

/// The key and value of a damaged row, as they were.
fn taken_out(key: &[u8], value: &Bytes) -> (Vec<u8>, Bytes) {
    let (_, name) = key::decode_kept(key).unwrap_or_default();
    let row = name.iter().position(|byte| *byte == 0).map_or(name, |zero| &name[zero + 1..]);
    let inner = frame::open(Kind::Quarantined, key, value).ok();
    (row.to_vec(), inner.map_or_else(|| value.clone(), Bytes::copy_from_slice))
}

/// What a chunk that is whole holds.
fn content(key: &[u8], value: &Bytes) -> Option<Bytes> {
    Chunk::decode(key, value).ok().map(Chunk::into_bytes)
}

impl Committer {
    /// Puts something into quarantine, durably. `false`: it is there already, it is not there at all,
    /// or there is no room.
    ///
    /// # Errors
    /// As [`Committer::write`].
    pub fn set_aside(
        &mut self,
        name: &Name,
        aside: &Aside,
        why: &str,
        time_seconds: u64,
    ) -> Result<bool, CommitError> {
        let (store, id) = (Arc::clone(self.store()), name.id());
        let mut batch = Batch::default();
        match aside {
            Aside::Document => {
                if store.ward.holds(id) {
                    return Ok(false);
                }
                let Ok(Some((_, head))) = store.head(id) else { return Ok(false) };
                let (collection, was) = (head.collection, presence(&head));
                let head = Head { quarantined: true, ..head };
                let key = key::encode_head(id);
                batch.put(Family::Head, key, head.encode(&key));
                let (key, value) = note(id, why, time_seconds);
                batch.put(Family::Kept, key, value);
                self.write_batch(batch)?;
                store.ward.lock().documents.insert(id);
                // Its collection was found with its head.
                let _ = store.catalog.count(collection, was, Presence::Absent);
                self.tell(Moved {
                    name,
                    before: &head.version,
                    after: &Version::empty(),
                    seq: head.seq,
                    brings: &Brings::default(),
                });
            }
            Aside::Changes(bytes) => {
                let (key, value) = changes(name, bytes, why, time_seconds);
                let inmates = store.ward.lock();
                let held: u64 = inmates.changes.values().sum();
                let full = CHANGES_MAX <= inmates.changes.len()
                    || CHANGES_BYTES_MAX < held + value.len() as u64;
                if inmates.changes.contains_key(&key) || full {
                    return Ok(inmates.changes.contains_key(&key));
                }
                drop(inmates);
                let bytes = value.len() as u64;
                batch.put(Family::Kept, key.clone(), value);
                self.write_batch(batch)?;
                store.ward.lock().changes.insert(key, bytes);
            }
        }
        Ok(true)
    }

    /// Takes something out of quarantine and forgets it, durably. A document is then one that nobody
    /// has written. `false`: it was not there.
    ///
    /// # Errors
    /// As [`Committer::write`]; also where what is there cannot be listed.
    pub fn forget(&mut self, id: QuarantineId) -> Result<bool, CommitError> {
        let store = Arc::clone(self.store());
        let failed = |error: ReadError| match error {
            ReadError::Engine(error) => CommitError::Failed(error),
            other => CommitError::Failed(EngineError::Corrupt(other.to_string())),
        };
        let found = store.held_there(Some(id)).map_err(failed)?.pop();
        let Some(held) = found else { return Ok(false) };
        let document = DocumentId::from_bytes(id.to_bytes());
        let rows = store.rows(&held).map_err(failed)?;
        let mut batch = Batch::default();
        let mut orphans = Orphans::default();
        if held.what == What::Document {
            let Ok(Some((_, head))) = store.head(document) else { return Ok(false) };
            batch.remove(Family::Head, key::encode_head(document));
            batch.remove(Family::Feed, key::encode_feed(head.seq));
            batch.remove(Family::View, key::encode_view(head.collection, &head.key));
            let waiting = orphan::read(&*store.engine, document);
            let waiting = waiting.map_err(CommitError::Failed)?;
            orphans.remove = waiting.into_iter().map(|(hash, _)| hash).collect();
            orphans.write(document, &mut batch);
        }
        if held.what != What::Changes {
            batch.remove(Family::Kept, key::encode_kept(NOTE, &document.to_bytes()));
        }
        for (family, key) in &rows {
            batch.remove(*family, key.clone());
        }
        self.write_batch(batch)?;
        let mut inmates = store.ward.lock();
        inmates.documents.remove(&document);
        for (_, key) in &rows {
            inmates.changes.remove(key);
        }
        drop(inmates);
        store.waiting.note(document, &orphans);
        Ok(true)
    }
}

/// Adds to a batch what takes a document out of quarantine: nothing of it is kept aside any more.
pub(super) fn take_out(store: &Store, id: DocumentId, batch: &mut Batch) {
    batch.remove(Family::Kept, key::encode_kept(NOTE, &id.to_bytes()));
    let held = store.held(id, None, What::Rows);
    // What cannot be listed stays, as rows of a document that is well.
    for (family, key) in store.rows(&held).unwrap_or_default() {
        batch.remove(family, key);
    }
}

fn presence(head: &Head) -> Presence {
    if head.deleted { Presence::Deleted } else { Presence::Live }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> Name {
        Name::new("notes".parse().unwrap(), "a".parse().unwrap()).unwrap()
    }

    #[test]
    fn rows_in_quarantine_have_golden_bytes() {
        let (key, value) = row(Family::Chunk, &[7, 8], b"bytes");
        assert_eq!(key, [b"\x02chunk\0".as_slice(), &[7, 8]].concat());
        assert_eq!(frame::open(Kind::Quarantined, &key, &value), Ok(b"bytes".as_slice()));
        assert_eq!(value[..2], [1, 32]);
        assert_eq!(taken_out(&key, &value), (vec![7, 8], Bytes::from_static(b"bytes")));

        let id = DocumentId::from_bytes([7; 16]);
        let (key, value) = note(id, "why", 0x0102);
        assert_eq!(key, [&[3][..], &[7; 16]].concat());
        let payload = [&[2, 1, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0][..], b"why"].concat();
        assert_eq!(value[frame::HEADER_BYTES..], payload);
        assert_eq!(value[..2], [1, 33]);
        assert_eq!(read_note(&key, &value), Ok((0x0102, "why".to_owned())));

        let (key, value) = changes(&name(), b"bytes", "why", 1);
        assert_eq!(key[..17], [&[4][..], &name().id().to_bytes()].concat());
        assert_eq!(key.len(), 33);
        let payload =
            [&[1, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0][..], b"why\x05\0\0\0notes\x01\0\0\0abytes"]
                .concat();
        assert_eq!(value[frame::HEADER_BYTES..], payload);
        assert_eq!(value[..2], [1, 34]);
        let (held, bytes) = read_changes(&key, &value).unwrap();
        assert_eq!((held.name, held.bytes, &bytes[..]), (Some(name()), 5, &b"bytes"[..]));
    }
}
