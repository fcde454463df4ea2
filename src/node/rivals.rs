//! The starts of one node: which of two that run on copies of the same data is let in.

use crate::ident::IncarnationId;
use std::{collections::VecDeque, time::Duration};
use tokio::time::Instant;

/// Most starts of one node of which it is remembered that a later one took their place.
const DISPLACED_MAX: usize = 16;

/// How often a start says hello again after another one took its place, until it is plain that both run.
/// One hello may have been on its way, from each of two sessions.
const RETURNS_MIN: u32 = 3;

/// How long a start may be silent, and is still said to run: two of the longest pauses between two tries.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// The starts of a node that have said hello.
#[derive(Debug, Default)]
pub(super) struct Rivals {
    /// The count when the node was heard last.
    pub(super) heard: u64,
    last: Option<IncarnationId>,
    /// When that one was heard last.
    spoke: Option<Instant>,
    /// Those whose place was taken.
    displaced: VecDeque<IncarnationId>,
    /// How often one of those came back, since the last one that was new.
    returns: u32,
    /// Those that run beside another one, and are not let in, and when they last tried.
    refused: VecDeque<(IncarnationId, Instant)>,
}

impl Rivals {
    /// A start asks something, or answers.
    pub(super) fn hear(&mut self, start: IncarnationId) {
        if self.last == Some(start) {
            self.spoke = Some(Instant::now());
        }
    }

    /// A start says hello. `false`: another one of the same node runs, and it is the other's place.
    pub(super) fn lets_in(&mut self, start: IncarnationId) -> bool {
        let lets_in = self.takes_place(start);
        self.hear(start);
        lets_in
    }

    fn takes_place(&mut self, start: IncarnationId) -> bool {
        if let Some(at) = self.refused.iter().position(|(known, _)| *known == start) {
            if self.spoke.is_some_and(|spoke| spoke.elapsed() < SILENCE_MAX) {
                self.refused[at].1 = Instant::now();
                return false;
            }
            // The other one is gone, or has become a node of its own.
            self.refused.remove(at);
            self.displaced.clear();
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
        (tried.elapsed() < SILENCE_MAX).then_some(*start)
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
        for _ in 0..2 {
            tokio::time::advance(SILENCE_MAX / 2).await;
            rivals.hear(start(1));
        }
        assert_eq!(rivals.twin(), None, "it tries no more");
        assert!(!rivals.lets_in(start(2)));
        assert_eq!(rivals.twin(), Some(start(2)));
        // As long as the other one is heard.
        for _ in 0..5 {
            tokio::time::advance(SILENCE_MAX / 2).await;
            rivals.hear(start(1));
            rivals.hear(start(2));
            assert!(!rivals.lets_in(start(2)));
        }
        // Once that is gone, this one is alone; and if it comes again, one of them is refused again.
        tokio::time::advance(SILENCE_MAX).await;
        assert!(rivals.lets_in(start(2)));
        assert_eq!(rivals.twin(), None);
        let lets_in = [1, 2, 1, 2, 1].map(|hello| rivals.lets_in(start(hello)));
        assert_eq!(lets_in, [true, true, true, false, true]);
        assert!(!rivals.lets_in(start(2)));
        for later in 3..100 {
            assert!(rivals.lets_in(start(later)));
        }
        assert_eq!(rivals.displaced.len(), DISPLACED_MAX);
    }
}
