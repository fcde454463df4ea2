//! Which foreign changes have to be told on, and to whom: where the last of them came from.
//!
//! A peer to which a node pushes its changes itself need not hear of them from others. What came from
//! where is held in memory alone, and of the last documents alone; of all others it is not known, and they
//! are told on, which costs an offer.

use crate::{ident::DocumentId, store::Source};
use std::collections::{HashMap, VecDeque};

/// Most documents of which it is known.
const DOCUMENTS_MAX: usize = 1 << 16;
/// Most sources of one document, the last ones.
const SOURCES_MAX: usize = 8;

/// Where foreign changes came from.
#[derive(Debug)]
pub(super) struct Relay {
    /// Of everything after this seq it is known.
    floor: u64,
    documents: HashMap<DocumentId, Vec<(Source, u64)>>,
    /// In the order in which they came.
    order: VecDeque<(u64, DocumentId)>,
}

impl Relay {
    /// Of nothing up to `seq` it is known.
    pub(super) fn new(seq: u64) -> Self {
        Self { floor: seq, documents: HashMap::new(), order: VecDeque::new() }
    }

    /// Takes note of a commit with foreign changes.
    pub(super) fn note(&mut self, id: DocumentId, seq: u64, from: &[Source]) {
        let sources = self.documents.entry(id).or_default();
        for source in from {
            match sources.iter_mut().find(|(known, _)| known == source) {
                Some((_, last)) => *last = seq,
                None => sources.push((*source, seq)),
            }
        }
        while SOURCES_MAX < sources.len() {
            let oldest = (0..sources.len()).min_by_key(|place| sources[*place].1).unwrap_or(0);
            let (_, last) = sources.swap_remove(oldest);
            self.floor = self.floor.max(last);
        }
        self.order.push_back((seq, id));
        while DOCUMENTS_MAX < self.order.len() {
            let Some((seq, id)) = self.order.pop_front() else { break };
            self.floor = self.floor.max(seq);
            if let Some(sources) = self.documents.get_mut(&id) {
                sources.retain(|(_, last)| seq < *last);
                if sources.is_empty() {
                    self.documents.remove(&id);
                }
            }
        }
    }

    /// Whether any foreign change that came after `seq` may be new to a peer. `told`: whether what comes
    /// from a source reaches that peer without this node.
    pub(super) fn wants(&self, id: DocumentId, seq: u64, told: impl Fn(&Source) -> bool) -> bool {
        let sources = self.documents.get(&id);
        let after = |(source, last): &(Source, u64)| seq < *last && !told(source);
        seq < self.floor || sources.is_some_and(|sources| sources.iter().any(after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ident::NodeId;

    fn source(node: u8) -> Source {
        Source { node: NodeId::from_bytes([node; 16]), made: true }
    }

    fn id(number: usize) -> DocumentId {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        DocumentId::from_bytes(bytes)
    }

    #[test]
    fn what_a_peer_hears_elsewhere_is_not_told_on() {
        let mut relay = Relay::new(10);
        relay.note(id(1), 11, &[source(1)]);
        relay.note(id(1), 12, &[source(2)]);
        let hears = |node| move |from: &Source| *from == source(node);
        assert!(relay.wants(id(1), 10, hears(1)), "the second is new to it");
        assert!(relay.wants(id(1), 10, hears(2)));
        assert!(!relay.wants(id(1), 11, hears(2)));
        assert!(!relay.wants(id(1), 10, |_| true));
        assert!(!relay.wants(id(1), 12, |_| false), "all of it was told");
        assert!(!relay.wants(id(2), 10, |_| false), "there is nothing foreign");
        assert!(relay.wants(id(2), 9, |_| true), "of which nothing is known");
    }

    #[test]
    fn of_more_sources_than_are_known_the_last_ones_are() {
        let mut relay = Relay::new(0);
        for seq in 1..=2 * SOURCES_MAX as u64 {
            relay.note(id(1), seq, &[source(u8::try_from(seq).unwrap())]);
        }
        assert_eq!((relay.floor, relay.documents[&id(1)].len()), (8, SOURCES_MAX));
        assert!(relay.wants(id(1), 7, |_| true));
        assert!(!relay.wants(id(1), 8, |_| true));
        assert!(relay.wants(id(1), 8, |from| from.node != source(9).node));
        let many: Vec<Source> = (0..=8).map(source).collect();
        relay.note(id(2), 20, &many);
        assert_eq!(relay.floor, 20, "of one commit more than are known");
    }

    #[test]
    fn what_is_forgotten_is_told_on() {
        let mut relay = Relay::new(0);
        for seq in 1..=DOCUMENTS_MAX + 10 {
            relay.note(id(seq), seq as u64, &[source(1)]);
        }
        assert_eq!((relay.documents.len(), relay.floor), (DOCUMENTS_MAX, 10));
        assert!(relay.wants(id(5), 4, |_| true));
        assert!(!relay.wants(id(11), 10, |_| true));
    }
}
