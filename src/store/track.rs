//! What the committer knows of a loaded document, so that a write reads nothing.

use super::{key::ChunkAt, row::Head};
use crate::ident::Name;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The last committed state of one loaded document.
///
/// A document that is loaded has one track, which goes into each of its commits and is dropped with
/// it: a second track of the same document would not know what was committed through the first.
/// Only the committer changes it, and only after what it says is durable.
#[derive(Debug)]
pub struct Track {
    name: Name,
    state: Mutex<State>,
}

/// How much a document's chunks hold: what decides when it is folded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogSize {
    /// Bytes of the changes since the snapshot.
    pub bytes: u64,
    /// Changes since the snapshot.
    pub changes: u32,
    /// Bytes of the snapshot; 0: there is none.
    pub snapshot_bytes: u64,
    /// Changes in the snapshot; 0: there is none.
    pub snapshot_changes: u32,
}

#[derive(Debug)]
pub(super) struct State {
    /// `None`: there is no such document.
    pub(super) last: Option<Last>,
    /// A commit was refused, so whatever was prepared behind it rests on changes that are not here.
    pub(super) refused: bool,
}

/// A stored document, without its bytes.
#[derive(Debug)]
pub(super) struct Last {
    pub(super) head: Head,
    /// Where its chunks are, in order.
    pub(super) rows: Vec<ChunkAt>,
    pub(super) snapshot_bytes: u64,
}

impl Track {
    /// A document that is not stored: `Store::document` found none.
    pub fn absent(name: Name) -> Self {
        Self { name, state: Mutex::new(State { last: None, refused: false }) }
    }

    pub(super) fn stored(name: Name, last: Last) -> Self {
        Self { name, state: Mutex::new(State { last: Some(last), refused: false }) }
    }

    /// The document's name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The seq of the document's last commit; 0: there was none.
    pub fn seq(&self) -> u64 {
        self.lock().last.as_ref().map_or(0, |last| last.head.seq)
    }

    /// Whether its stored view has yet to be made.
    pub fn is_view_stale(&self) -> bool {
        self.lock().last.as_ref().is_some_and(|last| last.head.view_stale)
    }

    /// How much its stored chunks hold.
    pub fn log_size(&self) -> LogSize {
        self.lock().last.as_ref().map_or_else(LogSize::default, |last| LogSize {
            bytes: last.head.log_bytes,
            changes: last.head.log_count,
            snapshot_bytes: last.snapshot_bytes,
            snapshot_changes: last.head.snapshot_changes,
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // The committer replaces the state as a whole, so a panic elsewhere leaves it sound.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
