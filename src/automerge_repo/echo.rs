//! Ephemeral messages that have been passed on before: nodes and clients pass them on in circles.

use super::Ephemeral;
use std::collections::{HashMap, VecDeque};

/// Most sessions of senders that are remembered; the one heard of first is forgotten for another.
const SESSIONS_MAX: usize = 4096;

/// The last ephemeral message of each session of each sender.
#[derive(Debug, Default)]
pub struct Echo {
    last: HashMap<(String, String), u64>,
    /// Oldest first.
    order: VecDeque<(String, String)>,
}

impl Echo {
    /// Whether a message is heard for the first time: its count is greater than any of its session.
    pub fn is_new(&mut self, message: &Ephemeral) -> bool {
        let session = (message.sender.clone(), message.session.clone());
        if let Some(last) = self.last.get_mut(&session) {
            let new = *last < message.count;
            *last = message.count.max(*last);
            return new;
        }
        if SESSIONS_MAX <= self.order.len()
            && let Some(oldest) = self.order.pop_front()
        {
            self.last.remove(&oldest);
        }
        self.order.push_back(session.clone());
        self.last.insert(session, message.count);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(sender: &str, session: &str, count: u64) -> Ephemeral {
        let own = str::to_owned;
        let (target, document) = (own("t"), own("d"));
        Ephemeral {
            sender: own(sender),
            session: own(session),
            count,
            target,
            document,
            data: vec![],
        }
    }

    #[test]
    fn each_message_is_new_once() {
        let mut echo = Echo::default();
        assert!(echo.is_new(&message("a", "s", 1)));
        assert!(!echo.is_new(&message("a", "s", 1)));
        assert!(echo.is_new(&message("a", "s", 5)));
        assert!(!echo.is_new(&message("a", "s", 4)), "older than one that was passed on");
        assert!(echo.is_new(&message("b", "s", 1)), "of another sender");
        assert!(echo.is_new(&message("a", "t", 1)), "of another session");
    }

    #[test]
    fn it_remembers_so_many_sessions_and_forgets_the_oldest() {
        let mut echo = Echo::default();
        for n in 0..=SESSIONS_MAX {
            assert!(echo.is_new(&message("a", &n.to_string(), 1)));
        }
        assert_eq!(echo.last.len(), SESSIONS_MAX);
        assert!(!echo.is_new(&message("a", "1", 1)));
        assert!(echo.is_new(&message("a", "0", 1)), "it was forgotten");
    }
}
