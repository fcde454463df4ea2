//! The changes of one document: loaded, or as the one that made it until more is asked.

use super::{
    Refusal,
    ancestry::ancestors,
    chunk,
    cuts::{PIECE_BYTES, cut},
};
use automerge::{Automerge, AutomergeError, Change, ChangeHash, ReadDoc};
use std::sync::OnceLock;

/// Into so many places of a document that is in one piece something may be put: each takes the memory of its
/// values again, at the most.
const PUT_UNCUT_MAX: usize = 2;

/// About so many operations are applied at once, or [`APPLIED_PART`] of those that are there if these are more:
/// Automerge takes some 500 bytes for each until all are there.
const APPLIED_AT_ONCE: usize = 1 << 16;
/// Automerge walks over the lists and texts into which it puts them: in batches that grow with these, that comes
/// to so many times each element.
const APPLIED_PART: u64 = 8;

/// What Automerge holds of a document.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    /// The only change, as long as nothing is loaded. It has no dependencies.
    first: Option<Box<Change>>,
    loaded: OnceLock<Box<Automerge>>,
    /// Whether its values are in pieces.
    cut: bool,
    /// Into how many places something was put while they were not.
    put: usize,
}

impl History {
    /// A history of one change without dependencies. It is loaded once somebody asks for more than
    /// what a change tells of itself.
    pub(super) fn begin(first: Change) -> Self {
        Self { first: Some(Box::new(first)), ..Self::default() }
    }

    /// The history that stored chunks hold: a snapshot and changes, or changes alone.
    ///
    /// # Errors
    /// As [`Automerge::load`].
    pub(super) fn load(chunks: &[&[u8]]) -> Result<Self, AutomergeError> {
        // Not at once: a snapshot is cut before changes are put into it.
        if let Some((snapshot, changes)) = chunks.split_first()
            && chunk::is_document(snapshot)
            && let Some(changes) = changes.iter().map(|bytes| chunk::change(bytes)).collect()
        {
            let mut history = Self::from(Automerge::load(snapshot)?);
            history.apply(changes)?;
            return Ok(history);
        }
        Ok(Automerge::load(&chunks.concat())?.into())
    }

    /// All changes, loaded.
    pub(super) fn automerge(&self) -> &Automerge {
        self.loaded.get_or_init(|| Box::new(applied(self.first.as_deref())))
    }

    /// All changes, loaded, to be added to.
    pub(super) fn automerge_mut(&mut self) -> &mut Automerge {
        self.automerge();
        self.first = None;
        let made = || unreachable!("it was loaded two lines above");
        self.loaded.get_mut().map_or_else(made, Box::as_mut)
    }

    /// Readies it for something to be put into so many places: else that may take many times its memory, see
    /// [`cuts`](super::cuts).
    pub(super) fn ready(&mut self, places: usize) {
        // What is not loaded is small.
        let Some(loaded) = self.loaded.get_mut().filter(|_| !self.cut) else { return };
        self.put = self.put.saturating_add(places);
        if PUT_UNCUT_MAX < self.put {
            cut(loaded, PIECE_BYTES);
            (self.cut, self.put) = (true, 0);
        }
    }

    /// Adds changes that others made.
    ///
    /// # Errors
    /// As [`Automerge::apply_changes`]: then it may have some of them.
    pub(super) fn apply(&mut self, mut changes: Vec<Change>) -> Result<(), AutomergeError> {
        while !changes.is_empty() {
            let part = self.automerge().stats().num_ops / APPLIED_PART;
            let at_once = usize::try_from(part).unwrap_or(usize::MAX).max(APPLIED_AT_ONCE);
            let (mut operations, mut bytes) = (0, 0);
            let full = changes.iter().position(|change| {
                operations += change.len();
                bytes += change.raw_bytes().len();
                at_once <= operations
            });
            let later = changes.split_off(full.map_or(changes.len(), |last| last + 1));
            self.ready(operations);
            self.note_added(bytes);
            self.automerge_mut().apply_changes(changes)?;
            changes = later;
        }
        Ok(())
    }

    /// Takes note of changes of so many bytes, made or applied at once: their values may be in one piece.
    pub(super) fn note_added(&mut self, bytes: usize) {
        self.cut &= bytes <= PIECE_BYTES;
    }

    /// What is known without loading it: the only change, or `None` if there is no change.
    fn unloaded(&self) -> Option<Option<&Change>> {
        if self.loaded.get().is_none() { Some(self.first.as_deref()) } else { None }
    }

    /// Bytes that it holds, if nothing is loaded.
    pub(super) fn unloaded_bytes(&self) -> Option<usize> {
        self.unloaded().map(|first| first.map_or(0, |first| first.raw_bytes().len()))
    }

    /// The changes on which no other rests.
    pub(super) fn heads(&self) -> Vec<ChangeHash> {
        match self.unloaded() {
            Some(first) => first.map(Change::hash).into_iter().collect(),
            None => self.automerge().get_heads(),
        }
    }

    /// Whether there is no change.
    pub(super) fn is_empty(&self) -> bool {
        match self.unloaded() {
            Some(first) => first.is_none(),
            None => self.automerge().is_empty(),
        }
    }

    /// Whether this change is here.
    pub(super) fn holds(&self, hash: &ChangeHash) -> bool {
        match self.unloaded() {
            Some(first) => first.is_some_and(|first| first.hash() == *hash),
            None => self.automerge().get_change_meta_by_hash(hash).is_some(),
        }
    }

    /// The number of the last operation of a change, or of what it rests on.
    pub(super) fn last_operation(&self, hash: &ChangeHash) -> Option<u64> {
        Some(self.automerge().get_change_meta_by_hash(hash)?.max_op)
    }

    /// What a change rests on directly.
    pub(super) fn dependencies(&self, hash: &ChangeHash) -> Vec<ChangeHash> {
        let meta = self.automerge().get_change_meta_by_hash(hash);
        meta.map(|meta| meta.deps).unwrap_or_default()
    }

    /// How many changes there are.
    pub(super) fn len(&self) -> u64 {
        match self.unloaded() {
            Some(first) => u64::from(first.is_some()),
            None => self.automerge().stats().num_changes,
        }
    }
}

impl From<Automerge> for History {
    fn from(automerge: Automerge) -> Self {
        Self { loaded: OnceLock::from(Box::new(automerge)), ..Self::default() }
    }
}

#[expect(clippy::expect_used, reason = "an encoded change without dependencies applies to nothing")]
fn applied(first: Option<&Change>) -> Automerge {
    let mut automerge = Automerge::new();
    let applied = automerge.apply_changes(first.cloned());
    applied.expect("a change that Automerge encoded does not apply");
    automerge
}

/// The document as it was at a version, with nothing that came since.
pub(super) fn past(automerge: &Automerge, version: &[ChangeHash]) -> Result<History, Refusal> {
    let seen = ancestors(automerge, version);
    let mut changes = automerge.get_changes(&[]);
    changes.retain(|change| seen.contains(&change.hash()));
    let mut past = History::from(Automerge::new());
    past.apply(changes)?;
    Ok(past)
}
