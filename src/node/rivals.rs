//! The starts of one node: which of two that run on copies of the same data is let in.

use crate::ident::IncarnationId;
use std::{collections::VecDeque, time::Duration};
use tokio::time::Instant;

/// Most starts of one node of which it is remembered that a later one took their place.
const DISPLACED_MAX: usize = 16;

/// How often a start says hello again after another one took its place, until it is plain that both run.
/// One hello may have been on its way, from each of two sessions.
const RETURNS_MIN: u32 = 3;

/// How long a start that is refused may be silent, and is still said to run: two of its longest pauses.
const TWIN_TIME: Duration = Duration::from_secs(60);

/// The starts of a node that have said hello.
#[derive(Debug, Default)]
pub(super) struct Rivals {
    /// The count when the node was heard last.
    pub(super) heard: u64,
    last: Option<IncarnationId>,
    /// Those whose place was taken.
    displaced: VecDeque<IncarnationId>,
    /// How often one of those came back, since the last one that was new.
    returns: u32,
    /// Those that run beside another one, and are not let in, and when they last tried.
    refused: VecDeque<(IncarnationId, Instant)>,
}

impl Rivals {
    /// A start says hello. `false`: another one of the same node runs, and it is the other's place.
    pub(super) fn lets_in(&mut self, start: IncarnationId) -> bool {
        if let Some((_, tried)) = self.refused.iter_mut().find(|(known, _)| *known == start) {
            *tried = Instant::now();
            return false;
        }
        let Some(last) = self.last.replace(start).filter(|last| *last != start) else {
            return true;
        };
        self.returns = if self.displaced.contains(&start) { self.returns + 1 } else { 0 };
        if !self.displaced.contains(&last) {
            self.displaced.push_back(last);
        }
        if self.returns < RETURNS_MIN {
            shorten(&mut self.displaced);
            return true;
        }
        let (less, greater) = (last.min(start), last.max(start));
        (self.last, self.returns) = (Some(less), 0);
        self.refused.push_back((greater, Instant::now()));
        shorten(&mut self.refused);
        start == less
    }

    /// How many starts are refused.
    pub(super) fn refused(&self) -> usize {
        self.refused.len()
    }

    /// The start that was refused last, as long as it goes on trying.
    pub(super) fn twin(&self) -> Option<IncarnationId> {
        let (start, tried) = self.refused.iter().max_by_key(|(_, tried)| *tried)?;
        (tried.elapsed() < TWIN_TIME).then_some(*start)
    }
}

/// Forgets the first of too many starts.
fn shorten<T>(starts: &mut VecDeque<T>) {
    while DISPLACED_MAX < starts.len() {
        starts.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn two_that_run_on_copies_of_the_same_data_are_told_from_one_that_is_started_again() {
        let start = |byte| IncarnationId::from_bytes([byte; 16]);
        let mut rivals = Rivals::default();
        // Started again and again; and once, a hello of before comes late, from each of two sessions.
        for (hello, count) in
            [(1, 1), (1, 1), (5, 2), (1, 2), (5, 2), (7, 3), (5, 3), (7, 3), (3, 4)]
        {
            assert!(rivals.lets_in(start(hello)), "{hello}, the {count}. start");
        }
        let mut rivals = Rivals::default();
        let lets_in: Vec<bool> = [1, 2, 1, 2, 1, 2, 2, 1, 1, 2]
            .iter()
            .map(|hello| rivals.lets_in(start(*hello)))
            .collect();
        assert_eq!(lets_in, [true, true, true, true, true, false, false, true, true, false]);
        assert_eq!(rivals.twin(), Some(start(2)), "the greater one");
        tokio::time::advance(TWIN_TIME).await;
        assert_eq!(rivals.twin(), None, "it tries no more");
        assert!(!rivals.lets_in(start(2)));
        assert_eq!(rivals.twin(), Some(start(2)));
        for later in 3..100 {
            assert!(rivals.lets_in(start(later)));
        }
        assert_eq!(rivals.displaced.len(), DISPLACED_MAX);
    }
}
