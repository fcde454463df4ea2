//! Who made an operation.

use crate::ident::Hash;
use automerge::{Automerge, ObjId};

/// A change, as far as it says who made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// The change.
    pub change: Hash,
    /// Its actor, in hex.
    pub actor: String,
    /// Its time as its author's clock had it, in seconds since 1970.
    pub time_seconds: i64,
    /// What its author told of it.
    pub message: Option<String>,
}

impl Author {
    /// Whose operation this is, which the document holds.
    pub(super) fn of(document: &Automerge, operation: &ObjId) -> Self {
        let hash = document.hash_for_opid(operation);
        let meta = hash.and_then(|hash| document.get_change_meta_by_hash(&hash));
        match meta {
            Some(meta) => Self {
                change: Hash::from_bytes(meta.hash.0),
                actor: meta.actor.to_hex_string(),
                time_seconds: meta.timestamp,
                message: meta.message.as_deref().map(str::to_owned),
            },
            None => Self {
                change: Hash::from_bytes([0; 32]),
                actor: String::new(),
                time_seconds: 0,
                message: None,
            },
        }
    }
}
