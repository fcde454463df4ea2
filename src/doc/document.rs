//! One document: its changes, loaded.

use super::{Delta, Edit, Form, Limits, Refusal, Stamp, Value};
use crate::ident::{Hash, Version};

/// The 16 random bytes under which one incarnation of a node writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Actor(pub [u8; 16]);

/// Stored bytes that do not make the document that they should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Damaged(pub String);

/// One document, loaded. Its state is a pure function of its changes.
#[derive(Debug, Clone)]
pub struct Document(());

/// A document as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendering {
    /// Compact JSON; `None` where the document is deleted (or was never written).
    pub json: Option<Vec<u8>>,
    /// How many places hold values beside the one that shows.
    pub conflicts: u32,
    /// The version that is shown.
    pub version: Version,
}

/// A place with several values.
#[derive(Debug, Clone, PartialEq)]
pub struct Conflict {
    /// JSON Pointer.
    pub path: String,
    /// The winner first; at most 32.
    pub values: Vec<ConflictingValue>,
    /// How many there are.
    pub values_total: usize,
}

/// One of the values at a place.
#[derive(Debug, Clone, PartialEq)]
pub struct ConflictingValue {
    /// The value.
    pub value: Value,
    /// The change that set it.
    pub change: Hash,
    /// Its actor, in hex.
    pub actor: String,
    /// Its time, seconds since 1970.
    pub time: i64,
    /// Whether it is the one that shows.
    pub winner: bool,
}

impl Document {
    /// A document that nobody has written yet.
    pub fn new(_actor: Actor) -> Self {
        todo!()
    }

    /// A document from its stored chunks, in stored order (a snapshot first, or changes alone).
    /// `standing` is what [`Document::standing`] gave when `version` was stored.
    ///
    /// # Errors
    /// [`Damaged`] if the chunks do not load, or not to `version`.
    pub fn load<'a>(
        _chunks: impl IntoIterator<Item = &'a [u8]>,
        _standing: &[u8],
        _version: &Version,
        _actor: Actor,
    ) -> Result<Self, Damaged> {
        todo!()
    }

    /// What has been seen.
    pub fn version(&self) -> Version {
        todo!()
    }

    /// Whether every head is a tombstone. `false` for a document that nobody has written.
    pub fn is_deleted(&self) -> bool {
        todo!()
    }

    /// Whether there is nothing to read: never written, or deleted.
    pub fn is_absent(&self) -> bool {
        todo!()
    }

    /// Whether every change that `version` names is here.
    pub fn holds(&self, _version: &Version) -> bool {
        todo!()
    }

    /// Makes an edit, at `base` or at the present.
    ///
    /// # Errors
    /// A [`Refusal`]; the document is as before.
    pub fn edit(
        &mut self,
        _edit: &Edit,
        _base: Option<&Version>,
        _stamp: &Stamp,
        _limits: &Limits,
    ) -> Result<Delta, Refusal> {
        todo!()
    }

    /// Takes changes that others made (trusted bytes; the gate has seen them).
    ///
    /// # Errors
    /// [`Damaged`] if they do not apply; the document is as before.
    pub fn merge<'a>(
        &mut self,
        _changes: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Delta, Damaged> {
        todo!()
    }

    /// The document as JSON, now or at a version.
    ///
    /// # Errors
    /// `VersionNotFound`.
    pub fn render(&self, _form: Form, _at: Option<&Version>) -> Result<Rendering, Refusal> {
        todo!()
    }

    /// Every conflicted place, in the view's order.
    pub fn conflicts(&self) -> Vec<Conflict> {
        todo!()
    }

    /// The whole document as one snapshot, which [`Document::load`] and every Automerge library take.
    pub fn save(&self) -> Vec<u8> {
        todo!()
    }

    /// What stands without being visible, for the head row; usually empty.
    pub fn standing(&self) -> Vec<u8> {
        todo!()
    }

    /// How many changes there are.
    pub fn change_count(&self) -> usize {
        todo!()
    }

    /// An estimate of the memory held, in bytes.
    pub fn memory_bytes(&self) -> usize {
        todo!()
    }
}
