//! What a peer sent: through the gate, all documents at once, and then its cursor moves.

use crate::{
    ident::{Cursor, DocumentId, IncarnationId, Name, NodeId, Version},
    node::{Error, Node, members::Members, shard::Apart},
    store::Source,
    sync::{Batch, Offer, Parcel, Scope, Taken, Want},
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{
    sync::{Mutex, MutexGuard, Notify},
    time::{self, Instant},
};

/// Bytes of changes that are on their way through the gate, of all members, when no more are welcome.
const INBOX_BYTES_MAX: usize = 16 << 20;
/// Most bytes of changes that the next batch may hold.
const WINDOW_BYTES_MAX: usize = 1 << 20;
/// Fewest: whoever waits for room asks for it with something.
const WINDOW_BYTES_MIN: usize = 64 << 10;
/// A cursor is stored whenever it has moved so far.
const KEPT_EVERY: u64 = 1024;
/// Most documents that are on their way through the gate at once, of one batch.
const ADMITTED_MAX: usize = 256;

/// How long a batch waits for the one before it: longer than that may be on its way, and shorter than its
/// sender waits for an answer.
const EARLIER_TIME: Duration = Duration::from_secs(10);

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
    pub(super) waits: Vec<DocumentId>,
}

/// Batches of one member are taken one after the other, in the order of its feed.
#[derive(Debug, Default)]
pub(in crate::node) struct Turns {
    turn: Mutex<()>,
    /// Told when one has been taken.
    ended: Notify,
}

impl Turns {
    /// Waits for a turn that `follows` what was taken before, though not for long.
    async fn take(&self, follows: impl Fn() -> bool) -> Turn<'_> {
        let until = Instant::now() + EARLIER_TIME;
        loop {
            let mut ended = pin!(self.ended.notified());
            ended.as_mut().enable();
            let turn = self.turn.lock().await;
            if follows() || until <= Instant::now() {
                return Turn { _turn: turn, ended: &self.ended };
            }
            drop(turn);
            // Too late is asked for again.
            let _ = time::timeout_at(until, ended).await;
        }
    }
}

/// The turn of one batch.
struct Turn<'a> {
    _turn: MutexGuard<'a, ()>,
    ended: &'a Notify,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.ended.notify_waiters();
    }
}

/// What a batch weighs, as long as it is on its way through the gate.
struct Weight<'a> {
    members: &'a Members,
    bytes: usize,
}

impl<'a> Weight<'a> {
    fn of(members: &'a Members, batch: &Batch) -> Self {
        let parcels = batch.made.iter().chain(&batch.relayed);
        let bytes = parcels.map(|parcel| parcel.changes.len()).sum();
        members.inbox_bytes.fetch_add(bytes, Ordering::Relaxed);
        Self { members, bytes }
    }
}

impl Drop for Weight<'_> {
    fn drop(&mut self) {
        self.members.inbox_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Node {
    /// Takes a batch of a member's feed, as far as it is of what both share.
    ///
    /// # Errors
    /// `ReadOnly`, `DiskFull`, `WritesStopped`, `Stalled`, `Stopping`: what was taken stays, and the batch is
    /// not acknowledged.
    pub(super) async fn take_batch(
        &self,
        from: NodeId,
        incarnation: IncarnationId,
        scope: &Scope,
        mut batch: Batch,
    ) -> Result<Taken, Error> {
        batch.made.retain(|parcel| self.is_shared(scope, &parcel.name));
        batch.relayed.retain(|parcel| self.is_shared(scope, &parcel.name));
        let moves = batch.from != batch.to || batch.begins;
        let turns = self.members().turns(from);
        let known = || {
            let member = self.members().member(from);
            // A cursor of an earlier start that its node honours counts on in this one.
            member.and_then(|member| member.cursor).map(|cursor| cursor.seq)
        };
        let follows = |known: Option<u64>| {
            !moves || batch.begins || known.is_some_and(|known| batch.from <= known)
        };
        // What lies before it may come a little later, over another connection.
        let _turn = turns.take(|| follows(known())).await;
        let known = known();
        if !follows(known) {
            let acknowledged = known.unwrap_or(0);
            return Ok(Taken { acknowledged, window: self.window(), ..Taken::default() });
        }
        if moves {
            let whole_until = batch.whole_until;
            self.members().update(from, |member| member.tells_whole = whole_until);
        }
        let _weight = Weight::of(self.members(), &batch);
        let made = self.unpack(batch.made, Source { node: from, made: true }).await?;
        let relayed = self.unpack(batch.relayed, Source { node: from, made: false }).await?;
        let (wants, unreadable) = self.wanted(scope, batch.offers).await?;
        let lacks = [made.refused, made.waits, relayed.refused, relayed.waits, unreadable].concat();
        let mut acknowledged = known.unwrap_or(0);
        if moves {
            acknowledged = if batch.begins { batch.to } else { batch.to.max(acknowledged) };
            self.advance(from, Cursor { incarnation, seq: acknowledged }, batch.begins).await?;
        }
        Ok(Taken { acknowledged, window: self.window(), wants, lacks })
    }

    /// Bytes of changes that the next batch of a member may hold: the less, the more is on its way through
    /// the gate.
    fn window(&self) -> u32 {
        let inbox = self.members().inbox_bytes.load(Ordering::Relaxed);
        let left = INBOX_BYTES_MAX.saturating_sub(inbox) / 4;
        u32::try_from(left.clamp(WINDOW_BYTES_MIN, WINDOW_BYTES_MAX)).unwrap_or(u32::MAX)
    }

    /// Takes note of how far a member's feed was taken in. It goes back where the member `begins` anew.
    pub(super) async fn advance(
        &self,
        from: NodeId,
        cursor: Cursor,
        begins: bool,
    ) -> Result<(), Error> {
        let mut keep = false;
        self.members().update(from, |member| {
            let same = member.cursor.filter(|known| known.incarnation == cursor.incarnation);
            if !begins && same.is_some_and(|known| cursor.seq <= known.seq) {
                return;
            }
            member.cursor = Some(cursor);
            // A cursor that is behind costs what is sent again, and nothing else.
            let kept = member.kept.filter(|kept| kept.incarnation == cursor.incarnation);
            keep = kept.is_none_or(|kept| kept.seq.saturating_add(KEPT_EVERY) <= cursor.seq);
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
            let changes = Bytes::from(changes);
            let whole = changes.clone();
            match self.admit_from(&name, changes, Some(from)).await {
                Ok(taken) => {
                    // What waits has come, too, and is counted when it is taken or comes again.
                    self.members().taken.add(taken.taken as u64);
                    self.members().held.add(taken.held as u64);
                    let waits = !taken.waiting.is_empty();
                    Ok(if waits { Fate::Waits(document) } else { Fate::Taken })
                }
                Err(error) if error.is_of_node() => Err(error),
                Err(Error::Damaged(_)) if self.mend(&name, whole).await.is_ok() => Ok(Fate::Taken),
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

    /// Whether a document is one of those that are shared.
    pub(super) fn is_shared(&self, scope: &Scope, name: &Name) -> bool {
        scope.holds(self.ledger().key().collection(name.collection()))
    }

    /// What is wanted of what is offered: all that is not held just so. And of which documents nothing can
    /// be taken.
    async fn wanted(
        &self,
        scope: &Scope,
        offers: Vec<Offer>,
    ) -> Result<(Vec<Want>, Vec<DocumentId>), Error> {
        if offers.is_empty() {
            return Ok(<_>::default());
        }
        let scope = scope.clone();
        let (store, node) = (Arc::clone(self.store()), self.clone());
        self.blocking(move || {
            let (mut wants, mut unreadable) = (Vec::new(), Vec::new());
            for Offer { id, fingerprint } in offers {
                let held = match store.head(id) {
                    Ok(Some((name, _))) if !node.is_shared(&scope, &name) => continue,
                    Err(_) => {
                        unreadable.push(id);
                        continue;
                    }
                    Ok(Some((_, head))) if head.quarantined => {
                        unreadable.push(id);
                        continue;
                    }
                    Ok(Some((name, head))) => {
                        let held = node.ledger().key().fingerprint(&name, &head.version);
                        (held != fingerprint).then_some(head.version)
                    }
                    Ok(None) => Some(Version::empty()),
                };
                wants.extend(held.map(|seen| Want { id, seen }));
            }
            Ok((wants, unreadable))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    #[tokio::test(start_paused = true)]
    async fn a_batch_waits_for_the_one_before_it_though_not_for_long() {
        let (turns, known) = (Turns::default(), AtomicU64::new(0));
        let second = async {
            let _turn = turns.take(|| known.load(Ordering::Relaxed) == 1).await;
            known.load(Ordering::Relaxed)
        };
        let first = async {
            time::sleep(EARLIER_TIME / 2).await;
            let _turn = turns.take(|| true).await;
            known.store(1, Ordering::Relaxed);
        };
        assert_eq!(tokio::join!(second, first), (1, ()));
        let began = Instant::now();
        let _turn = turns.take(|| false).await;
        assert_eq!(began.elapsed(), EARLIER_TIME);
    }
}
