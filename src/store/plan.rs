//! What a group of commits does to one document, put together before anything is written.

use super::{
    catalog::Presence,
    commit::{Brings, Commit, Log, Moved, NewView, Receipt, Watcher},
    engine::Batch,
    key::{self, ChunkAt, Family},
    orphan::Orphans,
    read::Store,
    row::{Chunk, FeedRow, Head, Origin, View},
    track::{Last, Track},
};
use crate::ident::Version;
use bytes::Bytes;
use std::sync::Arc;

/// What a group does to one document. Its track is read, and changed only by [`Planned::publish`].
pub(super) struct Planned {
    pub(super) track: Arc<Track>,
    before: Option<Before>,
    head: Head,
    /// Whether there is more than before, and so a new seq.
    pub(super) moved: bool,
    /// Of which origins the changes are that moved it.
    brings: Brings,
    conflicts: u32,
    view: NewView,
    /// Whether the chunks that are stored go.
    folded: bool,
    /// New chunks, and where they are stored once seqs are given.
    chunks: Vec<Chunk>,
    rows: Vec<ChunkAt>,
    snapshot_bytes: u64,
    pub(super) orphans: Orphans,
}

/// What of the state before has to be undone.
struct Before {
    seq: u64,
    version: Version,
    deleted: bool,
    quarantined: bool,
}

impl Planned {
    /// What `commit`, the first of its document, begins from.
    pub(super) fn new(commit: &Commit, collection: u32) -> Self {
        let track = Arc::clone(&commit.track);
        let (before, head, snapshot_bytes) = match &track.lock().last {
            Some(last) => {
                let Head { seq, deleted, quarantined, .. } = last.head;
                let version = last.head.version.clone();
                // Only what takes a document out of quarantine comes with such a track.
                let head = Head { quarantined: false, ..last.head.clone() };
                (Some(Before { seq, version, deleted, quarantined }), head, last.snapshot_bytes)
            }
            None => (None, unwritten(&track, collection), 0),
        };
        Self {
            track,
            moved: before.is_none(),
            before,
            head,
            brings: Brings::default(),
            conflicts: commit.conflicts,
            view: NewView::Stale,
            folded: false,
            chunks: Vec::new(),
            rows: Vec::new(),
            snapshot_bytes,
            orphans: Orphans::default(),
        }
    }

    /// Whether there is no document, and only changes that wait for one.
    pub(super) fn is_absent(&self) -> bool {
        self.before.is_none() && self.head.version.is_empty()
    }

    pub(super) fn was_quarantined(&self) -> bool {
        self.before.as_ref().is_some_and(|before| before.quarantined)
    }

    pub(super) fn absorb(&mut self, commit: Commit) {
        let Commit { log, brings, version, conflicts, view, standing, orphans, .. } = commit;
        self.wait(orphans);
        let brings_changes = matches!(&log, Log::Append(changes) if !changes.is_empty());
        if version != self.head.version || brings_changes {
            self.moved = true;
            self.brings.join(&brings);
        }
        match log {
            Log::Append(changes) => {
                for (origin, bytes) in changes {
                    self.head.log_bytes = self.head.log_bytes.saturating_add(bytes.len() as u64);
                    self.head.log_count = self.head.log_count.saturating_add(1);
                    self.chunks.push(Chunk::Change { origin, bytes });
                }
            }
            Log::Fold { snapshot, changes } => {
                self.folded = true;
                self.snapshot_bytes = snapshot.len() as u64;
                self.head.log_bytes = 0;
                self.head.log_count = 0;
                self.head.snapshot_changes = changes;
                self.chunks = vec![Chunk::Snapshot { version: version.clone(), bytes: snapshot }];
            }
        }
        self.head.version = version;
        self.head.standing = standing;
        self.head.deleted = view == NewView::Deleted;
        self.head.oversize = match &view {
            NewView::Made(json) => commit.document_bytes_max < json.len(),
            NewView::Stale => self.head.oversize,
            NewView::Deleted => false,
        };
        self.head.view_stale = view == NewView::Stale;
        self.conflicts = conflicts;
        self.view = view;
    }

    /// Joins what becomes of waiting changes to what became of them earlier in the group.
    fn wait(&mut self, orphans: Orphans) {
        let Orphans { put, remove } = orphans;
        self.orphans.put.retain(|(hash, _)| !remove.contains(hash));
        self.orphans.remove.retain(|hash| !put.iter().any(|(put, _)| put == hash));
        self.orphans.put.extend(put);
        self.orphans.remove.extend(remove);
    }

    pub(super) fn set_seq(&mut self, seq: u64) {
        self.head.seq = seq;
        if self.brings.own {
            self.head.own_seq = seq;
        }
    }

    /// Numbers the new chunks. Under a seq of its own, or, where a fold keeps the seq, in the place
    /// of all there were: either way from 0.
    pub(super) fn place_chunks(&mut self) {
        let seq = self.head.seq;
        for (n, chunk) in (0..).zip(&self.chunks) {
            if let Chunk::Snapshot { .. } = chunk {
                self.head.snapshot_seq = seq;
            }
            self.rows.push(ChunkAt { seq, n });
        }
    }

    pub(super) fn put_chunks(&self, batch: &mut Batch) {
        let id = self.track.name().id();
        if self.folded
            && let Some(last) = &self.track.lock().last
        {
            for at in &last.rows {
                batch.remove(Family::Chunk, key::encode_chunk(id, *at));
            }
        }
        for (at, chunk) in self.rows.iter().zip(&self.chunks) {
            let key = key::encode_chunk(id, *at);
            batch.put(Family::Chunk, key, chunk.encode(&key));
        }
    }

    pub(super) fn put_view(&self, batch: &mut Batch) {
        let key = key::encode_view(self.head.collection, &self.head.key);
        let json = match &self.view {
            NewView::Made(json) => Some(json),
            NewView::Stale => None,
            NewView::Deleted => {
                if self.before.as_ref().is_some_and(|before| !before.deleted) {
                    batch.remove(Family::View, key);
                }
                return;
            }
        };
        let view = View { version: self.head.version.clone(), conflicts: self.conflicts, json };
        let value = view.encode(&key);
        batch.put(Family::View, key, value);
    }

    pub(super) fn put_feed(&self, batch: &mut Batch) {
        if !self.moved {
            return;
        }
        if let Some(before) = &self.before {
            batch.remove(Family::Feed, key::encode_feed(before.seq));
        }
        let key = key::encode_feed(self.head.seq);
        let row = FeedRow {
            id: self.track.name().id(),
            collection: self.head.collection,
            key: self.head.key.clone(),
            version: self.head.version.clone(),
            deleted: self.head.deleted,
            conflicts: self.conflicts,
            own_seq: self.head.own_seq,
            origin: if self.brings.foreign { Origin::Foreign } else { Origin::Own },
        };
        batch.put(Family::Feed, key, row.encode(&key));
    }

    pub(super) fn put_head(&self, batch: &mut Batch) {
        let key = key::encode_head(self.track.name().id());
        batch.put(Family::Head, key, self.head.encode(&key));
    }

    pub(super) fn publish(self, store: &Store, watcher: &mut Watcher) -> Receipt {
        if !self.orphans.is_empty() {
            store.waiting.note(self.track.name().id(), &self.orphans);
        }
        if self.is_absent() {
            return Receipt { seq: 0 };
        }
        let presence = |deleted| if deleted { Presence::Deleted } else { Presence::Live };
        let was = match &self.before {
            Some(before) if !before.quarantined => presence(before.deleted),
            Some(_) => {
                store.ward.leave(self.track.name().id());
                Presence::Absent
            }
            None => Presence::Absent,
        };
        store.oversize.note(self.track.name().id(), self.head.oversize);
        // The collection was found or added before.
        let _ = store.catalog.count(self.head.collection, was, presence(self.head.deleted));
        let receipt = Receipt { seq: self.head.seq };
        if self.moved {
            let nothing = Version::empty();
            let before = self.before.as_ref().filter(|before| !before.quarantined);
            watcher(Moved {
                name: self.track.name(),
                before: before.map_or(&nothing, |before| &before.version),
                after: &self.head.version,
                seq: self.head.seq,
                brings: &self.brings,
            });
        }
        let mut state = self.track.lock();
        let kept = state.last.take().filter(|_| !self.folded).map(|last| last.rows);
        let mut rows = kept.unwrap_or_default();
        rows.extend(self.rows);
        let snapshot_bytes = self.snapshot_bytes;
        state.last = Some(Last { head: self.head, rows, snapshot_bytes });
        receipt
    }
}

/// The head of a document before its first commit.
fn unwritten(track: &Track, collection: u32) -> Head {
    Head {
        collection,
        key: track.name().key().clone(),
        version: Version::empty(),
        seq: 0,
        own_seq: 0,
        deleted: false,
        oversize: false,
        quarantined: false,
        view_stale: false,
        standing: Bytes::new(),
        log_bytes: 0,
        log_count: 0,
        snapshot_changes: 0,
        snapshot_seq: 0,
    }
}
