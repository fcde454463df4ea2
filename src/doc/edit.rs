//! What a user asks for, and what it did.

use super::{Operation, Patch, Value};
use crate::ident::Version;

/// What a user asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Edit {
    /// The whole value. Its root has to be a map (`RootMustBeObject`).
    Put(Value),
    /// A merge patch (RFC 7396). Its root has to be a map.
    MergePatch(Value),
    /// A JSON Patch.
    JsonPatch(Patch),
    /// A tombstone.
    Delete,
}

/// What one operation of a JSON Patch costs beside its value, as bytes of JSON.
const OPERATION_BYTES: usize = 64;

impl Edit {
    /// About how many bytes of JSON have to be read or written to make it, beside those of the
    /// document that [`Edit::reads_whole`] tells of.
    pub fn size(&self) -> usize {
        match self {
            Self::Delete => 0,
            Self::Put(value) | Self::MergePatch(value) => value.size(),
            Self::JsonPatch(patch) => {
                let size = |operation: &Operation| OPERATION_BYTES + operation.value_size();
                patch.0.iter().map(size).sum()
            }
        }
    }

    /// Into how many places of a document it puts something, at the most.
    pub(super) fn places(&self) -> usize {
        match self {
            Self::Delete => 0,
            Self::Put(value) | Self::MergePatch(value) => value.count(),
            Self::JsonPatch(patch) => {
                patch.0.iter().map(Operation::places).fold(0, usize::saturating_add)
            }
        }
    }

    /// Whether all of the document, or any part of it, may have to be read to make it.
    pub fn reads_whole(&self) -> bool {
        match self {
            Self::Put(_) => true,
            Self::Delete | Self::MergePatch(_) => false,
            Self::JsonPatch(patch) => patch.0.iter().any(|operation| {
                matches!(
                    operation,
                    Operation::Move { .. } | Operation::Copy { .. } | Operation::Test { .. }
                )
            }),
        }
    }
}

/// What people are told about a change; decides nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Seconds since 1970.
    pub time_seconds: i64,
    /// `Tombolo-Message`
    pub message: Option<String>,
}

/// What an edit or merge did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// New changes, encoded, in an order that respects their dependencies. Empty: nothing changed.
    pub changes: Vec<Vec<u8>>,
    /// The version before.
    pub before: Version,
    /// The version after.
    pub after: Version,
    /// Whether the edit's base was not the version before.
    pub merged: bool,
    /// Whether the document did not exist, or was deleted, before.
    pub created: bool,
    /// Whether the document is deleted after.
    pub deleted: bool,
}
