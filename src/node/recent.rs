//! The changes that were made here last, in memory: nearly all that peers are told is among them, and it
//! is there also where a document was folded since.

use crate::ident::DocumentId;
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};

/// Most bytes of them, with what is held beside each.
const BYTES_MAX: usize = 16 << 20;
/// What is held beside a change, about.
const BESIDE_BYTES: usize = 128;

/// The last changes of this node's own.
#[derive(Debug)]
pub(super) struct Recent {
    /// All that were made after this seq are here.
    floor: u64,
    bytes: usize,
    documents: HashMap<DocumentId, VecDeque<(u64, Bytes)>>,
    /// In the order in which they were made.
    order: VecDeque<(u64, DocumentId)>,
}

impl Recent {
    /// Nothing was made after `seq` yet.
    pub(super) fn new(seq: u64) -> Self {
        Self { floor: seq, bytes: 0, documents: HashMap::new(), order: VecDeque::new() }
    }

    /// Something was made up to `seq` that is not here.
    pub(super) fn skip(&mut self, seq: u64) {
        self.floor = self.floor.max(seq);
    }

    /// Takes note of the changes of one commit.
    pub(super) fn note(&mut self, id: DocumentId, seq: u64, made: &[Bytes]) {
        for change in made {
            self.bytes += change.len() + BESIDE_BYTES;
            self.documents.entry(id).or_default().push_back((seq, change.clone()));
            self.order.push_back((seq, id));
        }
        while BYTES_MAX < self.bytes {
            let Some((seq, id)) = self.order.pop_front() else { break };
            self.floor = self.floor.max(seq);
            let Some(changes) = self.documents.get_mut(&id) else { continue };
            let dropped = changes.pop_front().map_or(0, |(_, change)| change.len() + BESIDE_BYTES);
            self.bytes = self.bytes.saturating_sub(dropped);
            if changes.is_empty() {
                self.documents.remove(&id);
            }
        }
    }

    /// The changes that were made in a document after `seq`; `None`: some may be here no more.
    pub(super) fn after(&self, id: DocumentId, seq: u64) -> Option<Vec<Bytes>> {
        if seq < self.floor {
            return None;
        }
        let changes = self.documents.get(&id).into_iter().flatten();
        Some(changes.filter(|(at, _)| seq < *at).map(|(_, change)| change.clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_here_is_all_or_not_told() {
        let (one, two) = (DocumentId::from_bytes([1; 16]), DocumentId::from_bytes([2; 16]));
        let mut recent = Recent::new(5);
        let large = Bytes::from(vec![0; BYTES_MAX / 2 - 2 * BESIDE_BYTES]);
        recent.note(one, 6, &[Bytes::from_static(b"a"), Bytes::from_static(b"b")]);
        recent.note(two, 7, std::slice::from_ref(&large));
        recent.note(one, 8, &[Bytes::from_static(b"c")]);
        assert_eq!(recent.after(one, 4), None, "before the start");
        assert_eq!(recent.after(one, 5).unwrap().concat(), b"abc");
        assert_eq!(recent.after(one, 6).unwrap(), [&b"c"[..]]);
        assert_eq!(recent.after(two, 7).unwrap(), [&b""[..]; 0]);
        recent.note(two, 9, &[large]);
        assert_eq!(recent.after(one, 5), None, "some of it went");
        assert_eq!(recent.after(one, 6).unwrap(), [&b"c"[..]]);
        assert_eq!(recent.after(two, 6).unwrap().len(), 2);
        assert!(recent.bytes <= BYTES_MAX);
        recent.skip(10);
        assert_eq!(recent.after(two, 9), None);
        assert_eq!(recent.after(two, 10).unwrap(), [&b""[..]; 0]);
    }
}
