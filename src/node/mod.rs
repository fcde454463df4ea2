//! A running node: wires documents to disk. See `../../shared` design.

use crate::{
    doc::{Conflict, Edit, Form, Refusal},
    ident::{Collection, IncarnationId, Key, Name, NodeId, Version},
};
use bytes::Bytes;

/// A running node; clones share it.
#[derive(Debug, Clone)]
pub struct Node(());

/// What a read gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The bytes: JSON, or a saved Automerge document.
    pub body: Bytes,
    /// The version read.
    pub version: Version,
    /// Conflicted places.
    pub conflicts: u32,
}

/// How a document is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Representation {
    /// JSON, plain or typed.
    Json(Form),
    /// The saved Automerge document.
    Automerge,
}

/// What has to hold for a write to be made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Precondition {
    /// Nothing.
    #[default]
    None,
    /// `If-Match: *`: the document exists.
    Exists,
    /// `If-Match: "…"`: the document exists at one of these versions.
    VersionIn(Vec<Version>),
    /// `If-None-Match: *`: the document is missing or deleted.
    Absent,
}

/// A write, as asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Write {
    /// What to do.
    pub edit: Edit,
    /// `Parents`: the version that the edit was made on; `None`: the present.
    pub base: Option<Version>,
    /// What has to hold. Never together with `base`.
    pub precondition: Precondition,
    /// `Tombolo-Message`.
    pub message: Option<String>,
    /// Whether the document itself is wanted in the answer, and how.
    pub want: Option<Representation>,
}

/// A write that was made, durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The document's version after the write.
    pub version: Version,
    /// Conflicted places after the write.
    pub conflicts: u32,
    /// The base was not the document's version when the edit was made.
    pub merged: bool,
    /// The edit changed nothing.
    pub unchanged: bool,
    /// The document did not exist or was deleted, and lives now.
    pub created: bool,
    /// The document is deleted now.
    pub deleted: bool,
    /// What was wanted; `None` if nothing was, or the document is deleted.
    pub reading: Option<Reading>,
}

/// Why the node did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The edit was refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No such document, and there never was.
    #[error("there is no such document")]
    NotFound,
    /// The document was deleted, at this version.
    #[error("the document was deleted")]
    Deleted(Version),
    /// This node does not hold the version asked for.
    #[error("this node has not seen that version")]
    VersionNotFound,
    /// The precondition did not hold; the document's version, if it exists.
    #[error("the document is not at the expected version")]
    PreconditionFailed(Option<Version>),
    /// No writes until the node is started again; the reason.
    #[error("the node is read-only: {0}")]
    ReadOnly(String),
    /// Too much is waiting; try again.
    #[error("too many writes are waiting")]
    Stalled,
    /// The stored document is damaged; it is not served.
    #[error("the stored document is damaged: {0}")]
    Damaged(String),
    /// The node is going down.
    #[error("the node is stopping")]
    Stopping,
    /// There are as many collections as there may be.
    #[error("there are 10,000 collections already")]
    TooManyCollections,
    /// A defect.
    #[error("{0}")]
    Internal(String),
}

/// One document in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its name.
    pub name: Name,
    /// Its version.
    pub version: Version,
    /// Conflicted places.
    pub conflicts: u32,
    /// Its plain JSON, if asked for.
    pub json: Option<Bytes>,
}

/// Which documents of a collection to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListQuery {
    /// Keys that begin with this; empty: all.
    pub prefix: String,
    /// Keys after this one (bytes of a key; not itself listed).
    pub after: Option<Key>,
    /// Most rows.
    pub limit: usize,
    /// Whether rows carry the JSON.
    pub values: bool,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// In key order. Ends at the limit, or once the rows hold 8 MiB.
    pub rows: Vec<Row>,
    /// The key to go on after; `None` at the end.
    pub next: Option<Key>,
}

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

impl Node {
    /// The node's id.
    pub fn id(&self) -> NodeId {
        todo!()
    }

    /// This start of the node.
    pub fn incarnation(&self) -> IncarnationId {
        todo!()
    }

    /// Whether writes are synced before they are answered.
    pub fn durability(&self) -> crate::store::Durability {
        todo!()
    }

    /// `Ok` if the node takes reads and writes; else what is wrong, in words.
    pub fn ready(&self) -> Result<(), String> {
        todo!()
    }

    /// The document's plain JSON, from the stored view.
    ///
    /// # Errors
    /// `NotFound`, `Deleted`, `Damaged`, `Internal`.
    pub async fn read(&self, _name: &Name) -> Result<Reading, Error> {
        todo!()
    }

    /// The document in any representation, now or at a version. `includes`: a version that the
    /// answer has to include (`VersionNotFound` otherwise).
    ///
    /// # Errors
    /// As [`Node::read`], and `VersionNotFound`.
    pub async fn read_as(
        &self,
        _name: &Name,
        _representation: Representation,
        _at: Option<Version>,
        _includes: Option<Version>,
    ) -> Result<Reading, Error> {
        todo!()
    }

    /// Every conflicted place of a document, in the view's order, with its version.
    ///
    /// # Errors
    /// As [`Node::read`].
    pub async fn conflicts(&self, _name: &Name) -> Result<(Version, Vec<Conflict>), Error> {
        todo!()
    }

    /// Makes a write and waits until it is durable.
    ///
    /// # Errors
    /// `Refused`, `NotFound` and `Deleted` (deletes), `VersionNotFound`, `PreconditionFailed`,
    /// `ReadOnly`, `Stalled`, `Damaged`, `Stopping`.
    pub async fn write(&self, _name: &Name, _write: Write) -> Result<Written, Error> {
        todo!()
    }

    /// A key that was never used: a UUIDv7.
    pub fn fresh_key(&self) -> Key {
        todo!()
    }

    /// Lists documents in key order. An unknown collection is an empty page.
    ///
    /// # Errors
    /// `Damaged`, `Internal`.
    pub async fn list(&self, _collection: &Collection, _query: ListQuery) -> Result<Page, Error> {
        todo!()
    }

    /// All collections, by name.
    pub fn collections(&self) -> Vec<CollectionCount> {
        todo!()
    }

    /// Finishes what was accepted, then stops. Later calls answer `Stopping`.
    pub async fn stop(&self) {
        todo!()
    }
}
