//! A stretch of the feed, as one peer is told it.

use super::holdings::packed;
use crate::node::{Error, Node, member::Member};
use crate::{
    ident::NodeId,
    store::{FeedEntry, FeedQuery, Logged, Source, Store},
    sync::{Batch, Offer, Parcel},
};
use bytes::Bytes;
use std::sync::Arc;

/// Most rows that one batch looks at.
const ROWS_MAX: usize = 512;
/// A batch ends behind the document with which it has as many bytes of changes.
pub(super) const BYTES_MAX: usize = 1 << 20;

/// From where a peer is told the feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Start {
    /// Behind this seq.
    pub(super) after: u64,
    /// The peer does not know of it: what lies before is left to the sketch.
    pub(super) begins: bool,
    /// Up to here all documents go whole: the peer holds next to nothing.
    pub(super) whole_until: u64,
}

impl Node {
    /// From where a member is told the feed.
    pub(super) fn start_for(&self, member: &Member) -> Start {
        let last = self.store().last_seq();
        let cursor = member.hello.beat.cursor;
        if let Some(after) = cursor.and_then(|cursor| self.seq_of_cursor(cursor)) {
            return Start { after, begins: false, whole_until: 0 };
        }
        let set = member.scope.set(self.ledger().key());
        let held = self.ledger().root(set).map_or(0, |(_, documents)| documents);
        if member.hello.documents.saturating_mul(8) < held {
            return Start { after: 0, begins: true, whole_until: last };
        }
        Start { after: last, begins: true, whole_until: 0 }
    }

    /// What a member is told of the feed after a seq: the changes made here, and offers of what came from
    /// where it does not hear itself.
    ///
    /// # Errors
    /// `Damaged`, `Internal`.
    pub(super) async fn batch_for(
        &self,
        member: &Member,
        after: u64,
        whole_until: u64,
        bytes_max: usize,
    ) -> Result<Batch, Error> {
        let (node, member) = (self.clone(), member.clone());
        self.blocking(move || {
            let store = Arc::clone(node.store());
            let until = store.last_seq();
            let query =
                FeedQuery { after, until, filter: None, limit: ROWS_MAX, looked_at_max: ROWS_MAX };
            let feed = store.feed_page(&query)?;
            let (from, to) = (after, feed.looked_to);
            let mut batch = Batch { from, to, whole_until, ..Batch::default() };
            let mut bytes = 0;
            for entry in feed.entries {
                if bytes_max <= bytes {
                    batch.to = entry.seq - 1;
                    break;
                }
                bytes += tell(&node, &store, &member, &entry, after, whole_until, &mut batch)?;
            }
            batch.end = batch.to == until;
            Ok(batch)
        })
        .await
    }
}

/// Adds to a batch what a member is told of one row. Gives how many bytes of changes that is.
fn tell(
    node: &Node,
    store: &Store,
    member: &Member,
    entry: &FeedEntry,
    after: u64,
    whole_until: u64,
    batch: &mut Batch,
) -> Result<usize, Error> {
    let (ledger, to) = (node.ledger(), member.hello.node);
    let collection = ledger.key().collection(entry.name.collection());
    if !member.scope.holds(collection) {
        return Ok(0);
    }
    let parcel = |changes: &[Bytes]| {
        let (name, version) = (entry.name.clone(), entry.version.clone());
        Some(Parcel { changes: packed(changes, node.options().parcel_bytes_max)?, name, version })
    };
    let mut offers = false;
    let mut bytes = 0;
    // What does not go in one message, or cannot be sent, is offered: it is wanted in parts then, or is known
    // to be lacking.
    if entry.seq <= whole_until {
        let stored = store.document(&entry.name).ok().flatten();
        let whole = stored.and_then(|stored| {
            let version = stored.head.version;
            Some(Parcel { version, ..parcel(&stored.chunks)? })
        });
        if let Some(whole) = whole {
            let bytes = whole.changes.len();
            batch.relayed.push(whole);
            return Ok(bytes);
        }
        offers = true;
    } else if after < entry.own_seq {
        let made = ledger.made_after(entry.name.id(), after).map(Logged::Changes);
        match made.map_or_else(|| store.own_changes(entry.name.id(), after), Ok) {
            Ok(Logged::Changes(changes)) => match parcel(&changes) {
                Some(made) if !made.changes.is_empty() => {
                    bytes = made.changes.len();
                    batch.made.push(made);
                }
                Some(_) => {}
                None => offers = true,
            },
            Ok(Logged::Folded) | Err(_) => offers = true,
        }
    }
    offers |= ledger.relays(entry.name.id(), after, |source| hears(node, source, to, collection));
    if offers {
        let fingerprint = ledger.key().fingerprint(&entry.name, &entry.version);
        batch.offers.push(Offer { id: entry.name.id(), fingerprint });
    }
    Ok(bytes)
}

/// Whether what comes from a source reaches a node without this one.
fn hears(node: &Node, source: &Source, to: NodeId, collection: u64) -> bool {
    source.node == to || (source.made && node.members().is_linked(source.node, to, collection))
}
