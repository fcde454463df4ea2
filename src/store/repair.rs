//! Repairing: what can be read of one store, made sound, in another.
//!
//! Chunks are the truth: heads, feed rows and views are made from them anew, so the damage of any of
//! these costs nothing. A document whose chunks do not make the version that is known of it goes to
//! *quarantine*: whatever bytes of it can be read are kept aside, and its head says so.

use super::{
    catalog::COLLECTIONS_MAX,
    check::place,
    engine::{Batch, Durability, Engine},
    error::EngineError,
    format, frame,
    key::{self, ChunkAt, Family, SysKey},
    quarantine,
    row::{Chunk, FeedRow, Head, Origin, View},
    sys::{self, Incarnation, PeerRow},
    walk::{Gap, walk},
};
use crate::ident::{Collection, DocumentId, Key, Name, NodeId, Version};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::ControlFlow,
};

/// Bytes of rows that are written at once.
const BATCH_BYTES: usize = 1 << 20;

/// What chunks make, as the room that knows documents says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remade {
    /// Its version.
    pub version: Version,
    /// It is deleted.
    pub deleted: bool,
    /// How many places hold more than one value.
    pub conflicts: u32,
    /// Its plain JSON; `None`: it is deleted.
    pub json: Option<Bytes>,
    /// What stands in it without being visible.
    pub standing: Bytes,
    /// How many changes it holds.
    pub changes: u32,
}

/// Makes a document from its chunks, in order; or says why they make none.
pub type Remake<'a> = dyn Fn(&[Bytes]) -> Result<Remade, String> + 'a;

/// What a repair is given.
pub struct Repair<'a> {
    /// What is repaired; it is only read.
    pub source: &'a dyn Engine,
    /// Where the repaired store goes, an engine that holds nothing; `None`: nowhere.
    pub target: Option<&'a dyn Engine>,
    /// The node's id, should it be lost.
    pub node: NodeId,
    /// Names of collections that there may have been, should their rows be lost.
    pub collections: &'a [Collection],
    /// Makes documents.
    pub remake: &'a Remake<'a>,
    /// Is told what is done, document by document.
    pub told: &'a mut dyn FnMut(Mended),
}

impl fmt::Debug for Repair<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Repair").field("source", &self.source).finish_non_exhaustive()
    }
}

/// Something that was mended, or given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mended {
    /// Which document or row.
    pub place: String,
    /// What was done.
    pub what: String,
    /// Whether anything was lost.
    pub loss: Loss,
}

/// Whether something is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// It was made anew from what there is.
    Nothing,
    /// It is in quarantine, with the bytes that could be read.
    Quarantined,
    /// It could not be read.
    Lost,
}

/// What a repair came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Documents that are whole.
    pub documents: u64,
    /// Documents in quarantine.
    pub quarantined: u64,
}

/// Repairs a store.
///
/// # Errors
/// The target could not be written. The source is as before.
pub fn repair(repair: Repair<'_>) -> Result<Repaired, EngineError> {
    let mut work = Work {
        repair,
        names: BTreeMap::new(),
        unplaced: Vec::new(),
        done: BTreeSet::new(),
        batch: Batch::default(),
        batch_bytes: 0,
        repaired: Repaired::default(),
        last_seq: 0,
        failed: None,
    };
    work.sys();
    work.heads();
    work.feed();
    work.views();
    work.nameless();
    work.rest();
    work.collections();
    work.commit();
    match (work.failed, work.repair.target) {
        (Some(error), _) => Err(error),
        (None, Some(target)) => target.sync().map(|()| work.repaired),
        (None, None) => Ok(work.repaired),
    }
}

struct Work<'a> {
    repair: Repair<'a>,
    names: BTreeMap<u32, Collection>,
    /// Names of collections whose ids are not known.
    unplaced: Vec<Collection>,
    /// Documents that were seen to: 16 bytes each, the one thing that grows with the store.
    done: BTreeSet<DocumentId>,
    batch: Batch,
    batch_bytes: usize,
    repaired: Repaired,
    last_seq: u64,
    failed: Option<EngineError>,
}

/// What is known of a document beside its chunks.
#[derive(Default)]
struct Known {
    head: Option<Head>,
    feed: Option<(u64, FeedRow)>,
}

/// The chunks of a document, as far as they can be read.
#[derive(Default)]
struct Chunks {
    rows: Vec<(ChunkAt, Bytes, Chunk)>,
    /// Rows that are no chunks any more.
    bad: Vec<(Vec<u8>, Bytes)>,
    why: Option<String>,
}

impl<'a> Work<'a> {
    fn tell(&mut self, loss: Loss, place: &dyn fmt::Display, what: &dyn fmt::Display) {
        (self.repair.told)(Mended { place: place.to_string(), what: what.to_string(), loss });
    }

    fn put(&mut self, family: Family, key: impl Into<Vec<u8>>, value: Bytes) {
        self.batch_bytes += value.len();
        self.batch.put(family, key, value);
        if BATCH_BYTES <= self.batch_bytes {
            self.commit();
        }
    }

    fn commit(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        if let (Some(target), None) = (self.repair.target, &self.failed) {
            self.failed = target.commit(batch, Durability::Relaxed).err();
        }
    }

    /// Every row of a family that can be read.
    fn walk(&mut self, family: Family, mut visit: impl FnMut(&mut Self, &[u8], &[u8])) {
        let source: &'a dyn Engine = self.repair.source;
        let mut gaps = Vec::new();
        let mut row = |key: &[u8], value: &[u8]| {
            visit(self, key, value);
            if self.failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        walk(source, family, &mut row, &mut |gap| gaps.push(gap));
        for Gap { after, why } in gaps {
            let behind = after.map_or_else(|| "the start".to_owned(), |key| place(family, &key));
            let what = format!("cannot be read ({why}); what it told is made anew where it can be");
            self.tell(Loss::Nothing, &format_args!("{}, behind {behind}", family.name()), &what);
        }
    }

    /// What the store knows of itself; what is lost of it is begun anew.
    fn sys(&mut self) {
        let mut node = None;
        let mut starts = Vec::new();
        self.walk(Family::Sys, |work, key, value| match key::decode_sys(key) {
            Some(SysKey::Node) => node = sys::decode_node(key, value).ok(),
            Some(SysKey::Incarnation(count)) => {
                let start = Incarnation::decode(key, value).ok();
                starts.push(start.filter(|_| usize::try_from(count) == Ok(starts.len())));
            }
            Some(SysKey::Collection(name)) => match sys::decode_collection(key, value) {
                Ok(id) => drop(work.names.insert(id, name)),
                Err(_) => work.unplaced.push(name),
            },
            Some(SysKey::Peer(_)) => match PeerRow::decode(key, value) {
                Ok(_) => work.put(Family::Sys, key, Bytes::copy_from_slice(value)),
                Err(why) => work.tell(Loss::Lost, &place(Family::Sys, key), &why),
            },
            // Peers tell how far they went; without a cursor, what differs is found out.
            Some(SysKey::Format | SysKey::Cursor(_)) => {}
            None => work.keep_aside(Family::Sys, key, value),
        });
        for name in self.repair.collections {
            if !self.names.values().chain(&self.unplaced).any(|known| known == name) {
                self.unplaced.push(name.clone());
            }
        }
        if node.is_none() {
            self.tell(Loss::Nothing, &"sys node", &"the node's id is lost: it gets a new one");
        }
        let key = key::encode_sys(&SysKey::Node);
        let value = sys::encode_node(node.unwrap_or(self.repair.node), &key);
        self.put(Family::Sys, key, value);
        let key = key::encode_sys(&SysKey::Format);
        let value = sys::encode_format(format::format(), &key);
        self.put(Family::Sys, key, value);
        let whole: Option<Vec<_>> = starts.into_iter().collect();
        if whole.as_ref().is_none_or(Vec::is_empty) {
            // A gap in the list would let a cursor pass for sound that is not.
            let what = "an earlier start is lost: they all are forgotten, and cursors with them";
            self.tell(Loss::Nothing, &"sys incarnation", &what);
        }
        for (count, start) in (0..).zip(&whole.unwrap_or_default()) {
            let key = key::encode_sys(&SysKey::Incarnation(count));
            let value = start.encode(&key);
            self.put(Family::Sys, key, value);
        }
    }

    /// The collections, those too of which documents told the name.
    fn collections(&mut self) {
        for (id, name) in std::mem::take(&mut self.names) {
            let key = key::encode_sys(&SysKey::Collection(name));
            let value = sys::encode_collection(id, &key);
            self.put(Family::Sys, key, value);
        }
        for name in std::mem::take(&mut self.unplaced) {
            self.tell(Loss::Nothing, &format_args!("collection {name}"), &"has no document");
        }
    }

    fn heads(&mut self) {
        self.walk(Family::Head, |work, key, value| {
            let Some(id) = key::decode_head(key) else { return };
            let Ok(head) = Head::decode(key, value) else { return };
            let Some(name) = work.name(id, head.collection, &head.key) else { return };
            let feed = work.feed_row(id, head.seq);
            work.document(&name, head.collection, Known { head: Some(head), feed });
        });
    }

    fn feed(&mut self) {
        self.walk(Family::Feed, |work, key, value| {
            let Some(seq) = key::decode_feed(key) else { return };
            let Ok(row) = FeedRow::decode(key, value) else { return };
            if work.done.contains(&row.id) {
                return;
            }
            let Some(name) = work.name(row.id, row.collection, &row.key) else { return };
            let head = work.head(row.id);
            let collection = row.collection;
            work.document(&name, collection, Known { head, feed: Some((seq, row)) });
        });
    }

    fn views(&mut self) {
        self.walk(Family::View, |work, key, _| {
            let Some((collection, key)) = key::decode_view(key) else { return };
            let Some(name) = work.names.get(&collection).cloned() else { return };
            let Ok(name) = Name::new(name, key) else { return };
            if !work.done.contains(&name.id()) {
                let head = work.head(name.id());
                let feed = head.as_ref().and_then(|head| work.feed_row(name.id(), head.seq));
                work.document(&name, collection, Known { head, feed });
            }
        });
    }

    /// Chunks of documents whose names are lost.
    fn nameless(&mut self) {
        let mut last = None;
        self.walk(Family::Chunk, |work, key, value| {
            let id = key::decode_chunk(key).map(|(id, _)| id);
            if id.is_some_and(|id| work.done.contains(&id)) {
                return;
            }
            if last != Some(id) {
                last = Some(id);
                let what = "nothing tells its name: its bytes are kept aside";
                work.tell(Loss::Quarantined, &place(Family::Chunk, key), &what);
                work.repaired.quarantined += 1;
            }
            work.keep_aside(Family::Chunk, key, value);
        });
    }

    /// Rows that are only carried over.
    fn rest(&mut self) {
        for family in [Family::Orphan, Family::Kept] {
            self.walk(family, |work, key, value| match frame::verify(key, value) {
                Ok(()) => work.put(family, key, Bytes::copy_from_slice(value)),
                Err(why) => {
                    work.tell(Loss::Quarantined, &place(family, key), &why);
                    work.keep_aside(family, key, value);
                }
            });
        }
    }

    fn keep_aside(&mut self, family: Family, key: &[u8], value: &[u8]) {
        let (key, value) = quarantine::row(family, key, value);
        self.put(Family::Kept, key, value);
    }

    /// The name that makes this id; learns which collection has which id.
    fn name(&mut self, id: DocumentId, collection: u32, key: &Key) -> Option<Name> {
        let makes = |name: &Collection| {
            Name::new(name.clone(), key.clone()).ok().filter(|name| name.id() == id)
        };
        if let Some(known) = self.names.get(&collection) {
            return makes(known);
        }
        let (at, name) =
            self.unplaced.iter().enumerate().find_map(|(at, name)| Some((at, makes(name)?)))?;
        if COLLECTIONS_MAX <= self.names.len() {
            return None;
        }
        let learned = self.unplaced.swap_remove(at);
        self.tell(Loss::Nothing, &format_args!("collection {learned}"), &"its id is found again");
        self.names.insert(collection, learned);
        Some(name)
    }

    fn head(&self, id: DocumentId) -> Option<Head> {
        let key = key::encode_head(id);
        let value = self.repair.source.get(Family::Head, &key).ok()??;
        Head::decode(&key, &value).ok()
    }

    fn feed_row(&self, id: DocumentId, seq: u64) -> Option<(u64, FeedRow)> {
        let key = key::encode_feed(seq);
        let value = self.repair.source.get(Family::Feed, &key).ok()??;
        let row = FeedRow::decode(&key, &value).ok().filter(|row| row.id == id)?;
        Some((seq, row))
    }

    fn chunks(&self, id: DocumentId) -> Chunks {
        let mut chunks = Chunks::default();
        let scan =
            self.repair.source.scan(Family::Chunk, &key::chunk_range(id), &mut |key, value| {
                let value = Bytes::copy_from_slice(value);
                match (key::decode_chunk(key), Chunk::decode(key, &value)) {
                    (Some((_, at)), Ok(chunk)) => chunks.rows.push((at, value, chunk)),
                    (_, decoded) => {
                        let why = decoded.err().map_or_else(String::new, |why| format!(": {why}"));
                        chunks.why = Some(format!("{}{why}", place(Family::Chunk, key)));
                        chunks.bad.push((key.to_vec(), value));
                    }
                }
                ControlFlow::Continue(())
            });
        if let Err(error) = scan {
            chunks.why = Some(error.to_string());
        }
        chunks
    }

    fn document(&mut self, name: &Name, collection: u32, known: Known) {
        if !self.done.insert(name.id()) {
            return;
        }
        let chunks = self.chunks(name.id());
        if let Some(head) = known.head.as_ref().filter(|head| head.quarantined)
            && (chunks.rows.len() + chunks.bad.len(), &chunks.why) == (0, &None)
        {
            // An earlier repair keeps its bytes.
            let (head, feed) = (head.clone(), known.feed);
            return self.put_quarantined(name, &head, feed);
        }
        let bytes: Vec<_> = chunks.rows.iter().map(|(_, _, chunk)| chunk.bytes().clone()).collect();
        let remade = match &chunks.why {
            Some(why) => Err(why.clone()),
            None if bytes.is_empty() => Err("there are no chunks of it".to_owned()),
            None => (self.repair.remake)(&bytes),
        };
        let expected = known.head.as_ref().map(|head| &head.version);
        let expected = expected.or(known.feed.as_ref().map(|(_, row)| &row.version));
        match remade {
            Ok(remade) if expected.is_none_or(|expected| *expected == remade.version) => {
                self.put_document(name, collection, &known, &chunks, remade);
            }
            Ok(remade) => {
                let why = format!("its chunks make version {}, and not its own", remade.version);
                self.give_up(name, collection, known, &chunks, &why);
            }
            Err(why) => self.give_up(name, collection, known, &chunks, &why),
        }
    }

    /// A document that is whole.
    fn put_document(
        &mut self,
        name: &Name,
        collection: u32,
        known: &Known,
        chunks: &Chunks,
        remade: Remade,
    ) {
        let head = head_of(name, collection, known, chunks, &remade);
        let row = feed_row_of(name, &head, remade.conflicts, known);
        let mut mended = Vec::new();
        if known.head.as_ref().map(settled) != Some(settled(&head)) {
            mended.push("head");
        }
        if known.feed.as_ref() != Some(&(head.seq, row.clone())) {
            mended.push("feed row");
        }
        let key = key::encode_view(collection, name.key());
        let view = View { version: remade.version, conflicts: remade.conflicts, json: remade.json };
        let there = self.repair.source.get(Family::View, &key);
        let there = there.map(|value| value.map(|value| View::decode(&key, &value)));
        let same = match there {
            Ok(None) => head.deleted,
            Ok(Some(Ok(there))) => {
                let stale = known.head.as_ref().is_some_and(|head| head.view_stale);
                there == view || stale && there.json.is_none() && there.version == view.version
            }
            Ok(Some(Err(_))) | Err(_) => false,
        };
        if !same {
            mended.push("view");
        }
        if !mended.is_empty() {
            let what = format!("made anew from its changes: {}", mended.join(", "));
            self.tell(Loss::Nothing, &format_args!("{}/{}", name.collection(), name.key()), &what);
        }
        for (at, value, _) in &chunks.rows {
            self.put(Family::Chunk, key::encode_chunk(name.id(), *at), value.clone());
        }
        if !head.deleted {
            let value = view.encode(&key);
            self.put(Family::View, key, value);
        }
        self.put_head(name, &head, &row);
        self.repaired.documents += 1;
    }

    /// A document that is not whole: its bytes are kept aside.
    fn give_up(&mut self, name: &Name, collection: u32, known: Known, chunks: &Chunks, why: &str) {
        let seq = known.head.as_ref().map(|head| head.seq);
        let seq = seq.or(known.feed.as_ref().map(|(seq, _)| *seq));
        let seq = seq.or(chunks.rows.iter().map(|(at, ..)| at.seq).max());
        for (at, value, _) in &chunks.rows {
            self.keep_aside(Family::Chunk, &key::encode_chunk(name.id(), *at), value);
        }
        for (key, value) in &chunks.bad {
            self.keep_aside(Family::Chunk, key, value);
        }
        let view = key::encode_view(collection, name.key());
        if let Ok(Some(value)) = self.repair.source.get(Family::View, &view) {
            self.keep_aside(Family::View, &view, &value);
        }
        let version = known.head.as_ref().map(|head| head.version.clone());
        let version = version.or(known.feed.as_ref().map(|(_, row)| row.version.clone()));
        let deleted = known.head.as_ref().map(|head| head.deleted);
        let deleted = deleted.or(known.feed.as_ref().map(|(_, row)| row.deleted));
        let head = Head {
            collection,
            key: name.key().clone(),
            version: version.unwrap_or_else(Version::empty),
            seq: seq.unwrap_or_else(|| self.spare_seq()),
            own_seq: own_seq(&known).unwrap_or(0),
            deleted: deleted.unwrap_or(false),
            oversize: false,
            quarantined: true,
            view_stale: false,
            standing: Bytes::new(),
            log_bytes: 0,
            log_count: 0,
            snapshot_changes: 0,
            snapshot_seq: 0,
        };
        let at = format!("{}/{}", name.collection(), name.key());
        self.tell(Loss::Quarantined, &at, &why);
        let (key, value) = quarantine::note(name.id(), why, 0);
        self.put(Family::Kept, key, value);
        self.put_quarantined(name, &head, known.feed);
    }

    fn put_quarantined(&mut self, name: &Name, head: &Head, feed: Option<(u64, FeedRow)>) {
        let known = Known { head: None, feed };
        let conflicts = known.feed.as_ref().map_or(0, |(_, row)| row.conflicts);
        let row = feed_row_of(name, head, conflicts, &known);
        self.put_head(name, head, &row);
        self.repaired.quarantined += 1;
    }

    fn put_head(&mut self, name: &Name, head: &Head, row: &FeedRow) {
        self.last_seq = self.last_seq.max(head.seq);
        let key = key::encode_head(name.id());
        self.put(Family::Head, key, head.encode(&key));
        let key = key::encode_feed(head.seq);
        self.put(Family::Feed, key, row.encode(&key));
    }

    /// A seq that nobody has: behind all that the source can name.
    fn spare_seq(&mut self) -> u64 {
        let last = self.repair.source.last_key(Family::Feed).ok().flatten();
        let last = last.and_then(|key| key::decode_feed(&key)).unwrap_or(0);
        self.last_seq = self.last_seq.max(last) + 1;
        self.last_seq
    }
}

fn own_seq(known: &Known) -> Option<u64> {
    let head = known.head.as_ref().map(|head| head.own_seq);
    head.or(known.feed.as_ref().map(|(_, row)| row.own_seq))
}

/// What a repaired head shares with the one that was there: its view was made in the meantime.
fn settled(head: &Head) -> Head {
    Head { view_stale: false, ..head.clone() }
}

fn head_of(name: &Name, collection: u32, known: &Known, chunks: &Chunks, remade: &Remade) -> Head {
    let last_chunk = chunks.rows.iter().map(|(at, ..)| at.seq).max();
    let seq = known.head.as_ref().map(|head| head.seq);
    let seq = seq.or(known.feed.as_ref().map(|(seq, _)| *seq)).or(last_chunk).unwrap_or(0);
    let (mut log_bytes, mut log_count, mut snapshot_seq) = (0, 0_u32, 0);
    for (at, _, chunk) in &chunks.rows {
        match chunk {
            Chunk::Change { bytes, .. } => {
                log_bytes += bytes.len() as u64;
                log_count = log_count.saturating_add(1);
            }
            Chunk::Snapshot { .. } => snapshot_seq = at.seq,
        }
    }
    let folded = if snapshot_seq == 0 { 0 } else { remade.changes.saturating_sub(log_count) };
    Head {
        collection,
        key: name.key().clone(),
        version: remade.version.clone(),
        seq,
        own_seq: own_seq(known).unwrap_or(seq),
        deleted: remade.deleted,
        oversize: known.head.as_ref().is_some_and(|head| head.oversize),
        quarantined: false,
        view_stale: false,
        standing: remade.standing.clone(),
        log_bytes,
        log_count,
        snapshot_changes: known.head.as_ref().map_or(folded, |head| head.snapshot_changes),
        snapshot_seq,
    }
}

fn feed_row_of(name: &Name, head: &Head, conflicts: u32, known: &Known) -> FeedRow {
    FeedRow {
        id: name.id(),
        collection: head.collection,
        key: head.key.clone(),
        version: head.version.clone(),
        deleted: head.deleted,
        conflicts,
        own_seq: head.own_seq,
        origin: known.feed.as_ref().map_or(Origin::Own, |(_, row)| row.origin),
    }
}

/// Gives a store that is no node's another node's id, before it is opened.
///
/// # Errors
/// Nothing was changed.
pub fn rename_node(engine: &dyn Engine, node: NodeId) -> Result<(), EngineError> {
    let mut batch = Batch::default();
    format::put_node(node, &mut batch);
    engine.commit(batch, Durability::Sync)
}
