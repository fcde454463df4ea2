//! Tests of the room as a whole: engines, opening, the door, reading, the disk.

mod committer;
mod conformance;
#[cfg(feature = "rocksdb")]
mod disk;
mod opening;
mod quarantine;
mod reading;
mod upkeep;

use super::{
    Brings, Commit, CommitError, Committer, Durability, Engine, Fresh, Head, List, Log,
    MemoryEngine, NewView, Origin, Orphans, Range, Receipt, Refused, Store, Track,
    key::{self, ChunkAt, Family, SysKey},
    row::{Chunk, FeedRow, View},
    sys,
};
use crate::ident::{Hash, IncarnationId, Name, NodeId, Version};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    sync::Arc,
};

/// `collection/key`.
fn name(text: &str) -> Name {
    let (collection, key) = text.split_once('/').unwrap();
    Name::new(collection.parse().unwrap(), key.parse().unwrap()).unwrap()
}

/// A version of one hash; 0 is none.
fn version(of: u64) -> Version {
    let mut hash = [0xcc; 32];
    hash[..8].copy_from_slice(&of.to_be_bytes());
    (of != 0).then_some(Hash::from_bytes(hash)).into_iter().collect()
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// A store that is open, with the tracks of the documents that it has loaded.
struct Bench {
    engine: Arc<dyn Engine>,
    store: Arc<Store>,
    committer: Committer,
    tracks: BTreeMap<Name, Arc<Track>>,
    versions: u64,
}

impl Bench {
    fn open(engine: Arc<dyn Engine>, start: u8) -> Self {
        Self::open_as(engine, start, Durability::Sync)
    }

    fn open_as(engine: Arc<dyn Engine>, start: u8, durability: Durability) -> Self {
        let (store, committer) =
            Store::open(Arc::clone(&engine), fresh(start), durability).unwrap();
        Self {
            engine,
            store,
            committer,
            tracks: BTreeMap::new(),
            versions: 1000 * u64::from(start),
        }
    }

    /// In memory.
    fn new() -> (Arc<MemoryEngine>, Self) {
        let engine = Arc::new(MemoryEngine::new());
        (Arc::clone(&engine), Self::open(engine, 1))
    }

    /// Loads a document as its shard would: once.
    fn track(&mut self, of: &str) -> Arc<Track> {
        let name = name(of);
        let store = &self.store;
        let load = || match store.document(&name).unwrap() {
            Some(stored) => stored.track,
            None => Arc::new(Track::absent(name.clone())),
        };
        Arc::clone(self.tracks.entry(name.clone()).or_insert_with(load))
    }

    /// A commit of one change that makes the JSON `json`; the empty text deletes.
    fn edit(&mut self, of: &str, json: &str) -> Commit {
        self.versions += 1;
        let view = if json.is_empty() { NewView::Deleted } else { NewView::Made(bytes(json)) };
        Commit {
            track: self.track(of),
            log: Log::Append(vec![(Origin::Own, bytes(&format!("change to {json}")))]),
            brings: Brings::default().and(Origin::Own),
            version: version(self.versions),
            conflicts: 0,
            view,
            standing: Bytes::new(),
            kept: Vec::new(),
            orphans: Orphans::default(),
            document_bytes_max: usize::MAX,
        }
    }

    fn write(&mut self, commits: Vec<Commit>) -> Vec<u64> {
        let receipts = self.committer.write(commits).unwrap();
        receipts.into_iter().map(|receipt| receipt.unwrap().seq).collect()
    }

    /// One commit, alone in its group.
    fn put(&mut self, of: &str, json: &str) -> u64 {
        let commit = self.edit(of, json);
        self.write(vec![commit])[0]
    }

    fn try_put(&mut self, of: &str, json: &str) -> Result<Receipt, CommitError> {
        let commit = self.edit(of, json);
        self.committer.write(vec![commit]).map(|receipts| receipts[0].unwrap())
    }

    fn json(&self, of: &str) -> Option<String> {
        let view = self.store.view(&name(of)).unwrap()?;
        Some(String::from_utf8(view.json.unwrap().to_vec()).unwrap())
    }

    /// The stored chunks, as text.
    fn chunks(&self, of: &str) -> Vec<String> {
        let stored = self.store.document(&name(of)).unwrap().unwrap();
        stored.chunks.iter().map(|chunk| String::from_utf8_lossy(chunk).into_owned()).collect()
    }

    /// `collection: live/deleted` of every collection.
    fn counts(&self) -> Vec<String> {
        let counts = self.store.collections();
        let text = |count: &super::CollectionCount| {
            format!("{}: {}/{}", count.name, count.documents, count.deleted)
        };
        counts.iter().map(text).collect()
    }
}

fn fresh(start: u8) -> Fresh {
    Fresh {
        renewed: false,
        node: NodeId::from_bytes([start; 16]),
        incarnation: IncarnationId::from_bytes([start; 16]),
    }
}

fn rows(engine: &dyn Engine, family: Family) -> Vec<(Vec<u8>, Bytes)> {
    let mut rows = Vec::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        rows.push((key.to_vec(), Bytes::copy_from_slice(value)));
        ControlFlow::Continue(())
    };
    engine.scan(family, &Range::all(), &mut visit).unwrap();
    rows
}

/// What is wrong with the stored rows taken together: nothing, if every batch was written whole.
fn unsound(engine: &dyn Engine) -> Option<String> {
    let heads: BTreeMap<_, _> = rows(engine, Family::Head)
        .iter()
        .map(|(key, value)| (key::decode_head(key).unwrap(), Head::decode(key, value).unwrap()))
        .collect();
    let feed: Vec<_> = rows(engine, Family::Feed)
        .iter()
        .map(|(key, value)| (key::decode_feed(key).unwrap(), FeedRow::decode(key, value).unwrap()))
        .collect();
    if feed.len() != heads.len() {
        return Some(format!("{} feed rows for {} documents", feed.len(), heads.len()));
    }
    for (seq, row) in feed {
        let Some(head) = heads.get(&row.id) else {
            return Some(format!("a feed row without a head at {seq}"));
        };
        let of_head = (head.seq, head.own_seq, &head.version, head.deleted, &head.key);
        if of_head != (seq, row.own_seq, &row.version, row.deleted, &row.key) {
            return Some(format!("the feed row at {seq} is not that of its head"));
        }
    }
    let live: BTreeMap<_, _> = heads
        .values()
        .filter(|head| !head.deleted)
        .map(|head| ((head.collection, head.key.clone()), head))
        .collect();
    let views = rows(engine, Family::View);
    if views.len() != live.len() {
        return Some(format!("{} views for {} live documents", views.len(), live.len()));
    }
    for (key, value) in views {
        let (view, at) = (View::decode(&key, &value).unwrap(), key::decode_view(&key).unwrap());
        let Some(head) = live.get(&at) else {
            return Some(format!("a view without a live head: {at:?}"));
        };
        if (&head.version, head.view_stale) != (&view.version, view.json.is_none()) {
            return Some(format!("the view of {at:?} is not that of its head"));
        }
    }
    let collections: BTreeSet<_> = rows(engine, Family::Sys)
        .iter()
        .filter(|(key, _)| matches!(key::decode_sys(key), Some(SysKey::Collection(_))))
        .map(|(key, value)| sys::decode_collection(key, value).unwrap())
        .collect();
    if collections != heads.values().map(|head| head.collection).collect() {
        return Some("the collections are not those of the documents".into());
    }
    let known: BTreeSet<_> = heads.keys().copied().collect();
    let mut of: BTreeMap<_, (u64, u32, u64)> = BTreeMap::new();
    for (key, value) in rows(engine, Family::Chunk) {
        let (id, ChunkAt { seq, .. }) = key::decode_chunk(&key).unwrap();
        if !known.contains(&id) {
            return Some(format!("a chunk without a head: {id}"));
        }
        let (log_bytes, count, snapshot) = of.entry(id).or_default();
        match Chunk::decode(&key, &value).unwrap() {
            Chunk::Change { bytes, .. } => {
                *log_bytes += bytes.len() as u64;
                *count += 1;
            }
            Chunk::Snapshot { .. } if *count == 0 && *snapshot == 0 => *snapshot = seq,
            Chunk::Snapshot { .. } => return Some(format!("{id}: a snapshot behind chunks")),
        }
    }
    let unlike = heads.iter().find(|(id, head)| {
        of.get(id).copied().unwrap_or_default()
            != (head.log_bytes, head.log_count, head.snapshot_seq)
    });
    unlike.map(|(id, _)| format!("the chunks of {id} are not those of its head"))
}

fn assert_sound(engine: &dyn Engine) {
    assert_eq!(unsound(engine), None);
}

/// Everything of a page, from the beginning of a collection.
const WHOLE: List<'_> =
    List { prefix: "", after: None, limit: 1000, bytes_max: usize::MAX, values: true };
