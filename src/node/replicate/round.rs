//! A round: what differs from a peer, and its repair.

use super::{
    peers::PeerStatus,
    push::Giving,
    session::{ANSWER_TIME, End, Session},
};
use crate::{
    peer,
    sync::{Difference, Next, Part, Round, Salt, Slice, Told},
};
use std::time::Duration;
use tokio::time;

/// Most questions of one round, or of one slice.
const QUESTIONS_MAX: u32 = 8;
/// How long a difference has to last, where something may be on its way.
const PATIENCE: Duration = Duration::from_secs(5);

/// More documents than these are audited slice by slice.
const AUDITED_AT_ONCE_MAX: u64 = 1 << 16;

/// What may be on its way to a peer, or from it, while both are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Weather {
    /// One of both has written of late. Then something may be on its way in a feed, also in that of a third
    /// node, and only what differs for longer is made equal by a round.
    pub(super) moving: bool,
    /// Both have just met: what is much is left to the feed, as long as that goes on.
    pub(super) early: bool,
}

/// What a look at a slice tells.
enum Seen {
    /// All that differs.
    Differences(Vec<Difference>),
    /// More than a sketch tells.
    Many,
}

impl Session {
    /// Finds out what differs, and makes it equal as far as changes go both ways.
    pub(super) async fn round(&self, weather: Weather) -> Result<(), End> {
        if self.member()?.is_copied() {
            // All of it is on its way.
            return Ok(());
        }
        self.peer.rounds.increment();
        self.compare(vec![Slice::whole()], None, weather).await?;
        Ok(())
    }

    /// Compares what both hold by sums made anew under keys that are used just once: what is alike by
    /// accident, or because a sketch is wrong, is found.
    pub(super) async fn audit(&self) -> Result<(), End> {
        self.peer.audits.increment();
        let set = self.member()?.scope.set(self.node.ledger().key());
        let (_, documents) = self.node.ledger().root(set).unwrap_or_default();
        let slices = match documents <= AUDITED_AT_ONCE_MAX {
            true => vec![Slice::whole()],
            false => Slice::whole().parts().collect(),
        };
        let salt = Some(self.node.ambient().chance());
        let weather = Weather { moving: true, early: false };
        let found = self.compare(slices, salt, weather).await?;
        if found != 0 {
            let peer = &self.peer.options.name;
            tracing::error!(found, %peer, "documents differ from a peer's that sums showed as equal");
            self.node.ledger().forget(set);
        }
        Ok(())
    }

    /// Compares slices, the last one first, and makes equal what differs. Gives how many positions that
    /// were.
    async fn compare(
        &self,
        mut slices: Vec<Slice>,
        salt: Option<Salt>,
        weather: Weather,
    ) -> Result<usize, End> {
        let mut count = 0;
        while let Some(slice) = slices.pop() {
            match self.look(&slice, salt).await? {
                Seen::Many if weather.early && self.is_in_flight()? => return Ok(count),
                Seen::Many => {
                    let mut parts: Vec<Slice> = slice.parts().collect();
                    parts.reverse();
                    slices.append(&mut parts);
                }
                Seen::Differences(mut found) => {
                    let patient = salt.is_some() || slice.is_whole();
                    let moving = weather.moving || self.is_in_flight()?;
                    if patient && moving && !found.is_empty() {
                        time::sleep(PATIENCE).await;
                        let Seen::Differences(again) = self.look(&slice, salt).await? else {
                            return Ok(count);
                        };
                        found.retain(|difference| again.contains(difference));
                    }
                    count += found.len();
                    self.settle(&slice, &found).await?;
                }
            }
        }
        Ok(count)
    }

    /// Makes equal what differs in a slice.
    async fn settle(&self, slice: &Slice, found: &[Difference]) -> Result<(), End> {
        let both = self.sends() && self.peer.terms.direction.takes();
        let found: Vec<(u64, u64)> = found.iter().map(|one| (one.position, one.by)).collect();
        let why = if both { "not settled yet" } else { PeerStatus::ONE_WAY };
        let positions = self.peer.to_settle(slice, &found, why);
        self.peer.repaired.add(positions.len() as u64);
        if !positions.is_empty() {
            let (differ, peer) = (positions.len(), &self.peer.options.name);
            tracing::info!(differ, %peer, "documents differ from a peer's");
        }
        let giving = if self.sends() { Giving::Back } else { Giving::Nothing };
        self.repair(positions, giving).await?;
        Ok(())
    }

    /// Whether something may be on its way in the feed of either side.
    fn is_in_flight(&self) -> Result<bool, End> {
        let member = self.member()?;
        let mine = self.sends() && member.acknowledged < self.node.store().last_seq();
        let heard = member.cursor.map_or(0, |cursor| cursor.seq);
        let takes = self.peer.terms.direction.takes();
        Ok(mine || (takes && heard < member.hello.beat.seq))
    }

    /// What differs now, in a slice.
    async fn look(&self, slice: &Slice, salt: Option<Salt>) -> Result<Seen, End> {
        let scope = self.member()?.scope;
        let set = scope.set(self.node.ledger().key());
        let part = Part { set, slice: slice.clone(), salt };
        let Some(cells) = self.node.cells(&scope, &part).await? else {
            return Ok(Seen::Differences(Vec::new()));
        };
        let key = self.node.key_for(&part);
        let (mut round, mut ask) = Round::begin(key, part, cells);
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
