//! A round: what differs from a peer, and its repair.

use super::{
    push::Giving,
    session::{ANSWER_TIME, End, Session},
};
use crate::{
    peer,
    sync::{Difference, Next, Round, Told},
};
use std::time::Duration;
use tokio::time;

/// Most questions of one round.
const QUESTIONS_MAX: u32 = 8;
/// How long a difference has to last, where something may be on its way.
const PATIENCE: Duration = Duration::from_secs(5);

impl Session {
    /// Finds out what differs, and makes it equal as far as changes go both ways.
    ///
    /// `moving`: one of both has written of late. Then something may be on its way in the feed, also in
    /// that of a third node, and only what differs for longer is made equal here.
    pub(super) async fn round(&self, moving: bool) -> Result<(), End> {
        self.peer.rounds.increment();
        let mut found = self.differences().await?;
        if (moving || self.is_in_flight()?) && !found.is_empty() {
            time::sleep(PATIENCE).await;
            let again = self.differences().await?;
            found.retain(|difference| again.contains(difference));
        }
        let direction = self.peer.terms.direction;
        let both = self.sends() && direction.takes();
        let found: Vec<(u64, u64)> = found.iter().map(|one| (one.position, one.by)).collect();
        let why = if both { "not settled yet" } else { "one way" };
        let positions = self.peer.to_settle(&found, why);
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

    /// What differs now.
    async fn differences(&self) -> Result<Vec<Difference>, End> {
        let key = self.node.ledger().key().clone();
        let set = self.member()?.scope.set(&key);
        let Some(cells) = self.node.ledger().summary(set) else { return Ok(Vec::new()) };
        let (mut round, mut ask) = Round::begin(key, set, cells);
        for _ in 0..QUESTIONS_MAX {
            let told = self.ask("/_peer/sketch", ask.encode(), ANSWER_TIME).await?;
            let next = round.told(Told::decode(&told)?);
            let next = next.map_err(|error| peer::Error::Senseless(error.to_string()))?;
            match next {
                Next::Ask(more) => ask = more,
                Next::Differ(found) => return Ok(found),
                Next::Slices { some, .. } => return Ok(some),
                Next::Other => return Err(End::Renewed),
            }
        }
        Err(peer::Error::Senseless("cells that tell nothing".to_owned()).into())
    }
}
