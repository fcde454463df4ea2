//! What a peer sent: through the gate, all documents at once, and then its cursor moves.

use crate::{
    ident::{Cursor, DocumentId, IncarnationId, NodeId, Version},
    node::{Error, Node, shard::Apart},
    store::Source,
    sync::{Batch, Offer, Parcel, Taken, Want},
};
use futures_util::{StreamExt, stream};
use std::sync::Arc;

/// Bytes of changes that a batch may hold.
const WINDOW_BYTES: u32 = 1 << 20;
/// A cursor is stored whenever it has moved so far.
const KEPT_EVERY: u64 = 1024;
/// Most documents that are on their way through the gate at once, of one batch.
const ADMITTED_MAX: usize = 256;

/// What became of a parcel.
enum Fate {
    Taken,
    Waits(DocumentId),
    Refused(DocumentId),
}

/// What became of parcels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Unpacked {
    /// Documents of which nothing was taken that came.
    pub(super) refused: Vec<DocumentId>,
    /// Documents some of whose changes wait for others.
    waits: Vec<DocumentId>,
}

impl Node {
    /// Takes a batch of a member's feed.
    ///
    /// # Errors
    /// `ReadOnly`, `DiskFull`, `WritesStopped`, `Stalled`, `Stopping`: what was taken stays, and the batch is
    /// not acknowledged.
    pub(super) async fn take_batch(
        &self,
        from: NodeId,
        incarnation: IncarnationId,
        batch: Batch,
    ) -> Result<Taken, Error> {
        let member = self.members().member(from);
        let cursor = member.and_then(|member| member.cursor);
        let moves = batch.from != batch.to || batch.begins;
        // A cursor of an earlier start that its node honours counts on in this one.
        let known = cursor.map(|cursor| cursor.seq);
        if moves && !batch.begins && known.is_none_or(|known| known < batch.from) {
            let acknowledged = known.unwrap_or(0);
            return Ok(Taken { acknowledged, window: WINDOW_BYTES, ..Taken::default() });
        }
        let made = self.unpack(batch.made, Source { node: from, made: true }).await?;
        let relayed = self.unpack(batch.relayed, Source { node: from, made: false }).await?;
        let lacks = [made.refused, made.waits, relayed.refused, relayed.waits].concat();
        let wants = self.wanted(batch.offers).await?;
        let mut acknowledged = known.unwrap_or(0);
        if moves {
            acknowledged = if batch.begins { batch.to } else { batch.to.max(acknowledged) };
            self.advance(from, Cursor { incarnation, seq: acknowledged }).await?;
        }
        Ok(Taken { acknowledged, window: WINDOW_BYTES, wants, lacks })
    }

    /// Takes note of how far a member's feed was taken in.
    pub(super) async fn advance(&self, from: NodeId, cursor: Cursor) -> Result<(), Error> {
        let mut keep = false;
        self.members().update(from, |member| {
            member.cursor = Some(cursor);
            // A cursor that is behind costs what is sent again, and nothing else.
            let kept = member.kept.filter(|kept| kept.incarnation == cursor.incarnation);
            keep = kept.is_none_or(|kept| kept.seq + KEPT_EVERY <= cursor.seq);
            if keep {
                member.kept = Some(cursor);
            }
        });
        if keep { self.keep_cursor(from, cursor).await } else { Ok(()) }
    }

    /// Stores how far another node's feed was taken in.
    pub(super) async fn keep_cursor(&self, of: NodeId, cursor: Cursor) -> Result<(), Error> {
        self.apart(|reply| Apart::Cursor { of, cursor, reply }).await
    }

    /// How far another node's feed was taken in, as it is stored.
    pub(super) async fn kept_cursor(&self, of: NodeId) -> Result<Option<Cursor>, Error> {
        let store = Arc::clone(self.store());
        self.blocking(move || Ok(store.cursor(of)?)).await
    }

    /// Sends parcels through the gate. What is refused is refused for good, and the rest is taken.
    ///
    /// # Errors
    /// Those after which the same may be tried again.
    pub(super) async fn unpack(
        &self,
        parcels: Vec<Parcel>,
        from: Source,
    ) -> Result<Unpacked, Error> {
        let admit = |parcel: Parcel| async move {
            let Parcel { name, changes, .. } = parcel;
            let document = name.id();
            if changes.is_empty() {
                return Ok(Fate::Taken);
            }
            match self.admit_from(&name, changes.into(), Some(from)).await {
                Ok(taken) => {
                    // What waits has come, too, and is counted when it is taken or comes again.
                    self.members().taken.add(taken.taken as u64);
                    self.members().held.add(taken.held as u64);
                    let waits = !taken.waiting.is_empty();
                    Ok(if waits { Fate::Waits(document) } else { Fate::Taken })
                }
                Err(
                    error @ (Error::ReadOnly(_)
                    | Error::DiskFull
                    | Error::WritesStopped
                    | Error::Stalled
                    | Error::Stopping),
                ) => Err(error),
                // One bad document is one bad document, also where a defect is met.
                Err(error) => {
                    tracing::warn!(%document, peer = %from.node, %error, "changes are not taken");
                    Ok(Fate::Refused(document))
                }
            }
        };
        let mut unpacked = Unpacked::default();
        let mut admitted = stream::iter(parcels.into_iter().map(admit)).buffered(ADMITTED_MAX);
        while let Some(done) = admitted.next().await {
            match done? {
                Fate::Taken => {}
                Fate::Waits(document) => unpacked.waits.push(document),
                Fate::Refused(document) => unpacked.refused.push(document),
            }
        }
        Ok(unpacked)
    }

    /// What is wanted of what is offered: all that is not held just so.
    async fn wanted(&self, offers: Vec<Offer>) -> Result<Vec<Want>, Error> {
        if offers.is_empty() {
            return Ok(Vec::new());
        }
        let (store, node) = (Arc::clone(self.store()), self.clone());
        self.blocking(move || {
            let mut wants = Vec::new();
            for Offer { id, fingerprint } in offers {
                let held = match store.head(id) {
                    Err(_) => continue,
                    Ok(Some((_, head))) if head.quarantined => continue,
                    Ok(Some((name, head))) => {
                        let held = node.ledger().key().fingerprint(&name, &head.version);
                        (held != fingerprint).then_some(head.version)
                    }
                    Ok(None) => Some(Version::empty()),
                };
                wants.extend(held.map(|seen| Want { id, seen }));
            }
            Ok(wants)
        })
        .await
    }
}
