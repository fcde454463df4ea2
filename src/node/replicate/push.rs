//! What was written, along the feed, to a peer: told as it is committed, or asked for.

use super::{
    holdings::held,
    outbox::BYTES_MAX,
    session::{ANSWER_TIME, End, Session},
};
use crate::{
    ident::DocumentId,
    node::Filter,
    peer,
    store::Source,
    sync::{
        Batch, POSITIONS_MAX, Pull, RepairAsk, RepairTold, Scope, Taken, Want, give_back, position,
    },
};
use std::{collections::BTreeMap, convert::Infallible, time::Duration};
use tokio::time;

/// How often a peer may go back to where it was before, of one session.
const REWINDS_MAX: u32 = 16;
/// How long a peer waits with the answer where nothing was written.
const WAIT: Duration = Duration::from_secs(20);
/// How often it is looked whether a peer pushes its feed, which then is not asked for.
const PULL_PAUSE: Duration = Duration::from_secs(1);

impl Session {
    /// Tells the peer what is committed, for ever.
    pub(super) async fn push(&self) -> Result<Infallible, End> {
        let busy = || peer::Error::Senseless("too many wait for the feed here".to_owned());
        let mut news = self.node.subscribe(Filter::default()).ok_or_else(busy)?;
        let start = self.node.start_for(&self.member()?);
        let (mut acknowledged, mut after, mut begins) = (start.after, start.after, start.begins);
        self.node.members().tell_from(self.id, start.after);
        let (mut window, mut rewinds) = (BYTES_MAX, 0);
        loop {
            let member = self.member()?;
            let batch = self.node.batch_for(&member, after, start.whole_until, window).await?;
            if batch.is_empty() && !begins {
                after = batch.to;
                self.node.members().acknowledge(self.id, after, &[]);
                if batch.end {
                    news.changed().await;
                }
                continue;
            }
            let to = batch.to;
            let batch = Batch { from: acknowledged, begins, ..batch };
            let told = self.ask("/_peer/push", batch.encode(), ANSWER_TIME).await?;
            let taken = Taken::decode(&told)?;
            begins = false;
            window = usize::try_from(taken.window).unwrap_or(BYTES_MAX).clamp(1, BYTES_MAX);
            if taken.acknowledged < to {
                // It has been started again, and was not further when it was kept last.
                rewinds += 1;
                if REWINDS_MAX < rewinds {
                    let why = "it goes back again and again".to_owned();
                    return Err(peer::Error::Senseless(why).into());
                }
                (acknowledged, after) = (taken.acknowledged, taken.acknowledged);
                continue;
            }
            (acknowledged, after) = (to, to);
            let lacks = [taken.lacks, self.give(taken.wants).await?].concat();
            self.node.members().acknowledge(self.id, to, &lacks);
        }
    }

    /// Sends what the peer wants of what it was offered. Gives what it lacks all the same.
    async fn give(&self, wants: Vec<Want>) -> Result<Vec<DocumentId>, End> {
        let (mut wants, mut lacks) = (&wants[..], Vec::new());
        while !wants.is_empty() {
            let scope = self.member()?.scope;
            let (parcels, done) = self.node.parcels(&scope, wants).await?;
            wants = &wants[done..];
            if !parcels.is_empty() {
                let batch = Batch { relayed: parcels, ..Batch::default() };
                let told = self.ask("/_peer/push", batch.encode(), ANSWER_TIME).await?;
                lacks.extend(Taken::decode(&told)?.lacks);
            }
        }
        Ok(lacks)
    }

    /// Asks the peer for what is committed there, as long as it does not push it itself.
    pub(super) async fn pull(&self) -> Result<Infallible, End> {
        let mut pause = true;
        loop {
            if pause {
                time::sleep(PULL_PAUSE).await;
            }
            let member = self.member()?;
            pause = member.hello.sends;
            if pause {
                continue;
            }
            let wait_ms = u32::try_from(WAIT.as_millis()).unwrap_or(u32::MAX);
            let pull = Pull { after: member.cursor, wait_ms };
            let told = self.ask("/_peer/feed", pull.encode(), WAIT + ANSWER_TIME).await?;
            let batch = Batch::decode(&told)?;
            let taken = self.node.take_batch(self.id, self.start, batch).await?;
            self.fetch_wanted(taken.wants).await?;
        }
    }

    /// Asks for what is wanted of what was offered.
    async fn fetch_wanted(&self, wants: Vec<Want>) -> Result<(), End> {
        for wants in wants.chunks(POSITIONS_MAX) {
            let mut at: BTreeMap<u64, Vec<_>> = BTreeMap::new();
            for Want { id, seen } in wants {
                at.entry(position(*id)).or_default().push((*id, seen.clone()));
            }
            let positions: Vec<u64> = at.keys().copied().collect();
            self.repair(positions, Giving::Nothing).await?;
        }
        Ok(())
    }

    /// Makes what is held at positions equal on both sides, as far as changes go both ways.
    pub(super) async fn repair(&self, positions: Vec<u64>, giving: Giving) -> Result<(), End> {
        let mut left = &positions[..];
        while !left.is_empty() {
            let scope = self.member()?.scope;
            let set = scope.set(self.node.ledger().key());
            let asked = &left[..left.len().min(POSITIONS_MAX)];
            let mine = self.node.held_at(scope.clone(), asked.to_vec()).await?;
            let ask = RepairAsk { set, held: held(&mine, asked) };
            let told = self.ask("/_peer/docs", ask.encode(), ANSWER_TIME).await?;
            let told = RepairTold::decode(&told)?;
            if !told.answers(&ask) {
                let why = "documents that were not asked for".to_owned();
                return Err(peer::Error::Senseless(why).into());
            }
            let done = usize::try_from(told.positions).unwrap_or(usize::MAX).min(asked.len());
            let from = Source { node: self.id, made: false };
            if self.peer.terms.direction.takes() {
                let unpacked = self.node.unpack(told.parcels.clone(), from).await?;
                for document in unpacked.refused {
                    self.peer.explain(position(document), "refused");
                }
            }
            if giving == Giving::Back {
                let held = ask.held[..done].to_vec();
                self.give_back(&scope, RepairAsk { set, held }, &told).await?;
            }
            left = &left[done..];
        }
        Ok(())
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
                Taken::decode(&told)?;
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
