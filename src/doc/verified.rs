//! What the gate has found out of a document, for the next that comes.

use super::{history::History, width::Width};
use automerge::{ActorId, Change, ChangeHash};
use std::collections::BTreeMap;

/// What is known of a document's changes for judging others.
#[derive(Debug, Clone, Default)]
pub(super) struct Verified {
    /// The last change of each actor: its seq and its name. `None`: not looked up yet.
    last: Option<BTreeMap<ActorId, (u64, ChangeHash)>>,
    /// Bytes of the document as it was last saved and loaded again.
    pub(super) saved_bytes: usize,
    /// Bytes that came from strangers since.
    pub(super) unverified_bytes: usize,
    /// How wide it is.
    pub(super) width: Width,
    /// Letters were written again, and were others: this document is not written so.
    pub(super) strayed: bool,
}

impl Verified {
    /// Takes note of changes that have become part of the document.
    pub(super) fn note(&mut self, changes: &[Change]) {
        self.width.note(changes);
        for change in changes {
            if let Some(last) = &mut self.last {
                last.insert(change.actor_id().clone(), (change.seq(), change.hash()));
            }
        }
    }

    /// The last change of each actor: its seq and its name.
    pub(super) fn last(&mut self, history: &History) -> &BTreeMap<ActorId, (u64, ChangeHash)> {
        self.last.get_or_insert_with(|| {
            let metas = history.automerge().get_changes_meta(&[]);
            // Changes of one actor come in the order of their seqs.
            metas.into_iter().map(|meta| (meta.actor.into_owned(), (meta.seq, meta.hash))).collect()
        })
    }
}
