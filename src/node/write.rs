//! What a write asks for, and what it gives.

use super::{Error, Reading, Representation};
use crate::{
    doc::Edit,
    ident::{Hash, Version},
    store::{Kept, KeptName},
};

/// What has to hold for a write to be made. Local to this node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Precondition {
    /// Nothing.
    #[default]
    None,
    /// `If-Match: *`: the document exists.
    Exists,
    /// `If-Match: "…"`: the document exists, at one of these versions.
    VersionIn(Vec<Version>),
    /// `If-None-Match: *`: the document is missing or deleted.
    Absent,
}

impl Precondition {
    /// Checks it against a document's version; `None`: missing or deleted.
    pub(super) fn check(&self, version: Option<&Version>) -> Result<(), Error> {
        let holds = match (self, version) {
            (Self::None, _) | (Self::Exists, Some(_)) | (Self::Absent, None) => true,
            (Self::VersionIn(versions), Some(version)) => versions.contains(version),
            (Self::Exists | Self::VersionIn(_), None) | (Self::Absent, Some(_)) => false,
        };
        if holds { Ok(()) } else { Err(Error::PreconditionFailed(version.cloned())) }
    }
}

/// A write, as asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Write {
    /// What to do.
    pub edit: Edit,
    /// `Parents`: the version that the edit was made on; `None`: the present.
    pub base: Option<Version>,
    /// What has to hold.
    pub precondition: Precondition,
    /// `Tombolo-Message`.
    pub message: Option<String>,
    /// Whether the document itself is wanted in the answer, and how.
    pub want: Option<Representation>,
    /// `Idempotency-Key`: the write is made once, and who asks again has the first answer.
    pub once: Option<Once>,
}

/// What tells a request that is made again from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Once {
    /// The hash of who asks for which document under which key.
    pub name: KeptName,
    /// The hash of what is asked for.
    pub asked: [u8; 32],
}

/// A write that was made, durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The document's version after the write.
    pub version: Version,
    /// Conflicted places after the write, or after one that came right behind it.
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
    /// It was made before, and this is what was answered then.
    pub replayed: bool,
}

/// Foreign changes that went through the gate, durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The document's version after them.
    pub version: Version,
    /// Conflicted places after them, or after what came right behind them.
    pub conflicts: u32,
    /// Changes that became part of the document, some of which may have waited for what came.
    pub taken: usize,
    /// Changes that were here already.
    pub held: usize,
    /// Changes that came and wait, with what they wait for.
    pub waiting: Vec<(Hash, Vec<Hash>)>,
    /// The document did not exist or was deleted, and lives now.
    pub created: bool,
    /// The document is deleted now, or there is none.
    pub deleted: bool,
}

impl Written {
    /// What is kept of it for who asks again, and for how long.
    pub(super) fn keep(&self, once: &Once, until_seconds: u64) -> Kept {
        Kept {
            name: once.name,
            asked: once.asked,
            until_seconds,
            version: self.version.clone(),
            conflicts: self.conflicts,
            merged: self.merged,
            unchanged: self.unchanged,
            created: self.created,
            deleted: self.deleted,
        }
    }

    /// The same answer again.
    pub(super) fn replayed(kept: Kept) -> Self {
        let Kept { version, conflicts, merged, unchanged, created, deleted, .. } = kept;
        let (reading, replayed) = (None, true);
        Self { version, conflicts, merged, unchanged, created, deleted, reading, replayed }
    }
}
