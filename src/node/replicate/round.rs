//! A round: what differs from a peer, and its repair.

use super::{
    push::Giving,
    session::{ANSWER_TIME, End, Session},
};
use crate::{
    peer,
    sync::{Difference, Next, Round, Slice, Told},
};
use std::time::Duration;
use tokio::time;

/// Most questions of one round, or of one slice.
const QUESTIONS_MAX: u32 = 8;
/// How long a difference has to last, where something may be on its way.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a look at a slice tells.
enum Seen {
    /// All that differs.
    Differences(Vec<Difference>),
    /// More than a sketch tells.
    Many,
}

impl Session {
    /// Finds out what differs, and makes it equal as far as changes go both ways.
    ///
    /// `moving`: one of both has written of late. Then something may be on its way in the feed, also in
    /// that of a third node, and only what differs for longer is made equal here.
    pub(super) async fn round(&self, moving: bool) -> Result<(), End> {
        self.peer.rounds.increment();
        // Slices that are yet to be looked at, the next one last.
        let mut slices = vec![Slice::whole()];
        while let Some(slice) = slices.pop() {
            match self.look(&slice).await? {
                Seen::Many => {
                    let mut parts: Vec<Slice> = slice.parts().collect();
                    parts.reverse();
                    slices.append(&mut parts);
                }
                Seen::Differences(mut found) => {
                    if slice.is_whole() && (moving || self.is_in_flight()?) && !found.is_empty() {
                        time::sleep(PATIENCE).await;
                        let Seen::Differences(again) = self.look(&slice).await? else {
                            return Ok(());
                        };
                        found.retain(|difference| again.contains(difference));
                    }
                    self.settle(&slice, &found).await?;
                }
            }
        }
        Ok(())
    }

    /// Makes equal what differs in a slice.
    async fn settle(&self, slice: &Slice, found: &[Difference]) -> Result<(), End> {
        let both = self.sends() && self.peer.terms.direction.takes();
        let found: Vec<(u64, u64)> = found.iter().map(|one| (one.position, one.by)).collect();
        let why = if both { "not settled yet" } else { "one way" };
        let positions = self.peer.to_settle(slice, &found, why);
        self.peer.repaired.add(positions.len() as u64);
        if !positions.is_empty() {
            let (differ, peer) = (positions.len(), &self.peer.options.name);
            tracing::info!(differ, %peer, "documents differ from a peer's");
        }
        let giving = if self.sends() { Giving::Back } else { Giving::Nothing };
        self.repair(positions, giving).await
    }

    /// Whether something may be on its way in the feed of either side.
    fn is_in_flight(&self) -> Result<bool, End> {
        let member = self.member()?;
        let mine = self.sends() && member.acknowledged < self.node.store().last_seq();
        let heard = member.cursor.map_or(0, |cursor| cursor.seq);
        Ok(mine || (member.hello.sends && heard < member.hello.beat.seq))
    }

    /// What differs now, in a slice.
    async fn look(&self, slice: &Slice) -> Result<Seen, End> {
        let key = self.node.ledger().key().clone();
        let scope = self.member()?.scope;
        let set = scope.set(&key);
        let Some(cells) = self.node.cells(&scope, slice).await? else {
            return Ok(Seen::Differences(Vec::new()));
        };
        let (mut round, mut ask) = Round::begin(key, set, slice.clone(), cells);
        for _ in 0..QUESTIONS_MAX {
            let told = self.ask("/_peer/sketch", ask.encode(), ANSWER_TIME).await?;
            let next = round.told(Told::decode(&told)?);
            let next = next.map_err(|error| peer::Error::Senseless(error.to_string()))?;
            match next {
                Next::Ask(more) => ask = more,
                Next::Differ(found) => return Ok(Seen::Differences(found)),
                // As small as may be: what was told is made equal, and the rest is looked for again.
                Next::Slices { some, .. } if slice.parts().next().is_none() => {
                    return Ok(Seen::Differences(some));
                }
                Next::Slices { .. } => return Ok(Seen::Many),
                Next::Other => return Err(End::Renewed),
            }
        }
        Err(peer::Error::Senseless("cells that tell nothing".to_owned()).into())
    }
}
