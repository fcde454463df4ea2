//! When a round is run with a peer that differs.

use std::time::Duration;
use tokio::time::Instant;

/// How often, if nothing happens; at most a fifth more.
const TICK: Duration = Duration::from_secs(30);
/// How many rounds of a session may follow each other with the pause of a beat: when nodes meet, much is
/// on its way at first, which a round leaves alone.
const QUICK_ROUNDS_MAX: u32 = 6;

/// The pace of a session.
#[derive(Debug)]
pub(super) struct Pace {
    next: Instant,
    quick: u32,
}

impl Pace {
    /// Both have just met.
    pub(super) fn new() -> Self {
        Self { next: Instant::now(), quick: QUICK_ROUNDS_MAX }
    }

    /// Whether a round is due, if both differ.
    pub(super) fn is_due(&self) -> bool {
        self.next <= Instant::now()
    }

    /// Whether both have just met.
    pub(super) fn is_early(&self) -> bool {
        0 < self.quick
    }

    /// A round was run. `below` draws a number below another one.
    pub(super) fn ran(&mut self, below: impl FnOnce(u64) -> u64) {
        self.quick = self.quick.saturating_sub(1);
        self.next = Instant::now();
        if self.quick == 0 {
            self.next += TICK + Duration::from_secs(below(TICK.as_secs() / 5));
        }
    }

    /// A node is gone, or is there, that told one of both: what it left behind is looked for now.
    pub(super) fn hurry(&mut self) {
        self.next = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time;

    #[tokio::test(start_paused = true)]
    async fn rounds_follow_each_other_at_first_and_when_a_node_is_gone() {
        let mut pace = Pace::new();
        for _ in 1..QUICK_ROUNDS_MAX {
            pace.ran(|most| most - 1);
            assert!(pace.is_due() && pace.is_early());
        }
        pace.ran(|most| most - 1);
        assert!(!pace.is_early());
        time::advance(Duration::from_secs(34)).await;
        assert!(!pace.is_due());
        time::advance(Duration::from_secs(1)).await;
        assert!(pace.is_due());
        pace.ran(|_| 0);
        assert!(!pace.is_due());
        pace.hurry();
        assert!(pace.is_due() && !pace.is_early());
    }
}
