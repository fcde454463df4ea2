//! What was written, along the feed, to a peer: told as it is committed, or asked for.

use super::{
    holdings::held,
    outbox::{BYTES_MAX, Start},
    session::{ANSWER_TIME, End, Session, Took},
};
use crate::{
    ident::{Cursor, DocumentId},
    node::Subscription,
    peer,
    store::Source,
    sync::{
        Batch, POSITIONS_MAX, Pull, RepairAsk, RepairTold, Scope, Taken, Want, give_back, position,
    },
};
use bytes::Bytes;
use futures_util::{
    StreamExt,
    future::{self, BoxFuture},
    stream::FuturesOrdered,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::{
        MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::{self, Instant};

/// How often a peer may go back to where it was before, of one session.
const REWINDS_MAX: u32 = 16;
/// Most batches that are on their way to a peer at once.
const IN_FLIGHT_MAX: usize = 2;
/// Most documents of which the peer is told with one question that they did not come.
const LACKS_MAX: usize = 4096;
/// Most parts of documents in a row.
const PARTS_MAX: u32 = 4096;
/// How long a peer waits with the answer where nothing was written.
const WAIT: Duration = Duration::from_secs(20);
/// How often it is looked whether a peer pushes its feed, which then is not asked for.
const PULL_PAUSE: Duration = Duration::from_secs(1);

/// How far the feed was read for a peer.
struct Reading {
    news: Subscription,
    /// Behind this seq it goes on.
    after: u64,
    /// Up to here the peer was sent something.
    sent_to: u64,
    /// Nothing lay behind it.
    end: bool,
}

/// What became of a batch.
enum Pushed {
    /// It was taken, but for what the peer lacks of it.
    Taken { to: u64, lacks: Vec<DocumentId> },
    /// The peer is not as far: it was started again, and was not further when that was kept last.
    Back { to: u64 },
}

impl Session {
    /// Tells the peer what is committed, for ever.
    pub(super) async fn push(&self) -> Result<Infallible, End> {
        let Start { after, mut begins, whole_until } = self.node.start_for(&self.member()?);
        self.node.members().tell_from(self.id, after, whole_until);
        let mut from = after;
        for _ in 0..=REWINDS_MAX {
            from = self.push_from(Start { after: from, begins, whole_until }).await?;
            begins = false;
        }
        Err(peer::Error::Senseless("it goes back again and again".to_owned()).into())
    }

    /// Tells the peer what is committed behind a seq, until it goes back to an earlier one.
    async fn push_from(&self, start: Start) -> Result<u64, End> {
        let Start { after, begins, whole_until } = start;
        let news = self.node.listen();
        let window = AtomicUsize::new(BYTES_MAX);
        let mut reading = Reading { news, after, sent_to: after, end: false };
        if begins {
            // What the peer knew until now is no measure for what follows before this is taken.
            let batch = self.read(&mut reading, whole_until, &window).await?;
            match self.tell(Batch { begins, ..batch }, &window).await? {
                Pushed::Taken { to, lacks } => {
                    self.node.members().acknowledge(self.id, to, &lacks);
                    reading.sent_to = to;
                }
                Pushed::Back { to } => return Ok(to),
            }
        }
        let mut next = self.next(reading, whole_until, &window);
        let mut pushes = FuturesOrdered::new();
        loop {
            tokio::select! {
                biased;
                Some(pushed) = pushes.next() => match pushed? {
                    Pushed::Taken { to, lacks } => {
                        self.node.members().acknowledge(self.id, to, &lacks);
                    }
                    Pushed::Back { to } => return Ok(to),
                },
                read = &mut next, if pushes.len() < IN_FLIGHT_MAX => {
                    let (batch, reading) = read?;
                    pushes.push_back(self.tell(batch, &window));
                    next = self.next(reading, whole_until, &window);
                }
            }
        }
    }

    /// The next stretch of the feed, once there is one, and how far it was read then.
    fn next<'a>(
        &'a self,
        mut reading: Reading,
        whole_until: u64,
        window: &'a AtomicUsize,
    ) -> BoxFuture<'a, Result<(Batch, Reading), End>> {
        Box::pin(async move {
            if reading.end {
                reading.news.changed().await;
            }
            let batch = self.read(&mut reading, whole_until, window).await?;
            Ok((batch, reading))
        })
    }

    async fn read(
        &self,
        reading: &mut Reading,
        whole_until: u64,
        window: &AtomicUsize,
    ) -> Result<Batch, End> {
        let (member, bytes_max) = (self.member()?, window.load(Ordering::Relaxed));
        let batch = self.node.batch_for(&member, reading.after, whole_until, bytes_max).await?;
        let from = reading.sent_to;
        (reading.after, reading.end) = (batch.to, batch.end);
        if !batch.is_empty() {
            reading.sent_to = batch.to;
        }
        Ok(Batch { from, ..batch })
    }

    /// Tells the peer a stretch of the feed, and gives what it wants of what was offered.
    async fn tell(&self, batch: Batch, window: &AtomicUsize) -> Result<Pushed, End> {
        let to = batch.to;
        if batch.is_empty() && !batch.begins {
            return Ok(Pushed::Taken { to, lacks: Vec::new() });
        }
        let told = self.ask("/_peer/push", batch.encode(), ANSWER_TIME).await?;
        let taken = Taken::decode(&told)?;
        let bytes_max = usize::try_from(taken.window).unwrap_or(BYTES_MAX).clamp(1, BYTES_MAX);
        window.store(bytes_max, Ordering::Relaxed);
        if taken.acknowledged < to {
            return Ok(Pushed::Back { to: taken.acknowledged });
        }
        let lacks = [taken.lacks, self.give(taken.wants).await?].concat();
        Ok(Pushed::Taken { to, lacks })
    }

    /// Sends what the peer wants of what it was offered. Gives what it lacks all the same.
    async fn give(&self, wants: Vec<Want>) -> Result<Vec<DocumentId>, End> {
        let (mut wants, mut lacks) = (wants, Vec::new());
        while !wants.is_empty() {
            let scope = self.member()?.scope;
            let (parcels, done, mut rest) = self.node.parcels(&scope, &wants).await?;
            let sent = |id| parcels.iter().any(|parcel| parcel.name.id() == id);
            let unsent = wants.drain(..done).map(|want| want.id).filter(|id| !sent(*id));
            lacks.extend(unsent);
            if !parcels.is_empty() {
                let batch = Batch { relayed: parcels, ..Batch::default() };
                let told = self.ask("/_peer/push", batch.encode(), ANSWER_TIME).await?;
                let refused = Taken::decode(&told)?.lacks;
                rest.retain(|want| !refused.contains(&want.id));
                lacks.extend(refused);
            }
            // One part of a document follows the other.
            wants.splice(..0, rest);
        }
        Ok(lacks)
    }

    /// Asks the peer for what is committed there, as long as it does not push it itself.
    pub(super) async fn pull(&self) -> Result<Infallible, End> {
        loop {
            while self.member()?.hello.sends {
                time::sleep(PULL_PAUSE).await;
            }
            let asked = Instant::now();
            let mut told = self.ask_for_feed(self.member()?.cursor, 0).await?;
            loop {
                let batch = Batch::decode(&told)?;
                let (end, to, whole_until) = (batch.end, batch.to, batch.whole_until);
                let idle = batch.is_empty() && !batch.begins;
                let take = async {
                    let taken = self.node.take_batch(self.id, self.start, &self.scope, batch);
                    let taken = taken.await?;
                    let is_taken = to <= taken.acknowledged;
                    let lacks = [taken.lacks, self.fetch_wanted(taken.wants).await?].concat();
                    self.take_note(is_taken.then_some(to), lacks);
                    Ok(())
                };
                if end || self.member()?.hello.sends {
                    take.await?;
                    // A peer that pushes as well answers at once, and with nothing.
                    time::sleep_until(if idle { asked + PULL_PAUSE } else { asked }).await;
                    break;
                }
                // What lies behind it is there already: it is asked for meanwhile.
                let next = Cursor { incarnation: self.start, seq: to };
                let next = self.ask_for_feed(Some(next), whole_until);
                ((), told) = future::try_join(take, next).await?;
            }
        }
    }

    async fn ask_for_feed(&self, after: Option<Cursor>, whole_until: u64) -> Result<Bytes, End> {
        let wait_ms = u32::try_from(WAIT.as_millis()).unwrap_or(u32::MAX);
        let (taken, lacks) = {
            let mut took = self.took();
            (took.seq, std::mem::take(&mut took.lacks))
        };
        let pull = Pull { after, whole_until, wait_ms, taken, lacks };
        Ok(self.ask("/_peer/feed", pull.encode(), WAIT + ANSWER_TIME).await?)
    }

    /// Takes note of how far the feed was taken in that was asked for, but for some documents; none: not as
    /// it should.
    fn take_note(&self, seq: Option<u64>, mut lacks: Vec<DocumentId>) {
        let mut took = self.took();
        took.lacks.append(&mut lacks);
        took.seq = seq;
        if LACKS_MAX < took.lacks.len() {
            // Then as if it was asked for the first time.
            *took = Took::default();
        }
    }

    fn took(&self) -> MutexGuard<'_, Took> {
        // Nothing in it panics half way.
        self.took.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for what is wanted of what was offered. Gives what did not come.
    async fn fetch_wanted(&self, wants: Vec<Want>) -> Result<Vec<DocumentId>, End> {
        let mut lacks = Vec::new();
        for wants in wants.chunks(POSITIONS_MAX) {
            let mut at: BTreeMap<u64, Vec<_>> = BTreeMap::new();
            for Want { id, seen } in wants {
                at.entry(position(*id)).or_default().push((*id, seen.clone()));
            }
            let positions: Vec<u64> = at.keys().copied().collect();
            let came = self.repair(positions, Giving::Nothing).await?;
            lacks.extend(wants.iter().map(|want| want.id).filter(|id| !came.contains(id)));
        }
        Ok(lacks)
    }

    /// Makes what is held at positions equal on both sides, as far as changes go both ways. Gives the
    /// documents of which all came that the peer told.
    pub(super) async fn repair(
        &self,
        positions: Vec<u64>,
        giving: Giving,
    ) -> Result<BTreeSet<DocumentId>, End> {
        let mut came = BTreeSet::new();
        let (mut left, mut parts) = (&positions[..], 0);
        while !left.is_empty() {
            let scope = self.member()?.scope;
            let set = scope.set(self.node.ledger().key());
            let asked = &left[..left.len().min(POSITIONS_MAX)];
            let mine = self.node.held_at(scope.clone(), asked.to_vec()).await?;
            let ask = RepairAsk { set, held: held(&mine, asked) };
            let told = self.ask("/_peer/docs", ask.encode(), ANSWER_TIME).await?;
            let mut told = RepairTold::decode(&told)?;
            if !told.answers(&ask) {
                let why = "documents that were not asked for".to_owned();
                return Err(peer::Error::Senseless(why).into());
            }
            told.parcels.retain(|parcel| self.node.is_shared(&scope, &parcel.name));
            let mut done = usize::try_from(told.positions).unwrap_or(usize::MAX).min(asked.len());
            let from = Source { node: self.id, made: false };
            let mut goes_on = false;
            if self.peer.terms.direction.takes() {
                let unpacked = self.node.unpack(told.parcels.clone(), from).await?;
                goes_on = unpacked.refused.is_empty() && unpacked.waits.is_empty();
                let brought = told.parcels.iter().filter(|parcel| !parcel.changes.is_empty());
                came.extend(brought.map(|parcel| parcel.name.id()));
                for document in unpacked.refused.iter().chain(&unpacked.waits) {
                    came.remove(document);
                }
                for document in unpacked.refused {
                    self.peer.explain(position(document), "refused");
                }
            }
            // Of a large document a part is told. Where nothing comes of it, so it would be again.
            parts = if done == 0 { parts + 1 } else { 0 };
            if done == 0 && (!goes_on || PARTS_MAX <= parts) {
                for parcel in &told.parcels {
                    came.remove(&parcel.name.id());
                }
                done = 1;
            }
            if giving == Giving::Back {
                let held = ask.held[..done].to_vec();
                told.positions = u32::try_from(done).unwrap_or(u32::MAX);
                self.give_back(&scope, RepairAsk { set, held }, &told).await?;
            }
            left = &left[done..];
        }
        Ok(came)
    }

    /// Sends what the peer's answer shows it to lack, in as many messages as that takes.
    async fn give_back(
        &self,
        scope: &Scope,
        mut ask: RepairAsk,
        told: &RepairTold,
    ) -> Result<(), End> {
        let theirs: BTreeMap<_, _> =
            told.parcels.iter().map(|parcel| (parcel.name.id(), &parcel.version)).collect();
        let seen = |id| theirs.get(&id).copied().cloned().unwrap_or_default();
        while !ask.held.is_empty() {
            let positions: Vec<u64> = ask.held.iter().map(|held| held.position).collect();
            let fetched = self.node.fetch(scope, &positions, seen).await?;
            let rest = ask.held.split_off(fetched.positions());
            let back = give_back(&fetched, &ask, told)?;
            if !back.is_empty() {
                let batch = Batch { relayed: back, ..Batch::default() };
                let told = self.ask("/_peer/push", batch.encode(), ANSWER_TIME).await?;
                let refused = Taken::decode(&told)?.lacks;
                let mut rest = fetched.rest();
                rest.retain(|want| !refused.contains(&want.id));
                self.give(rest).await?;
            }
            ask.held = rest;
        }
        Ok(())
    }
}

/// Whether a repair gives back what the peer lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Giving {
    Back,
    Nothing,
}
