//! The last commits, in memory: which document each moved, and the changes of it that were made here. Nearly
//! all that peers are told is among them, and it is there also where a document was folded since.
//!
//! A document has one row in the feed, at its last commit. What an earlier commit brought is found by its
//! row no more once the document has moved on, and here it is.

use crate::ident::DocumentId;
use bytes::Bytes;
use std::collections::{BTreeSet, HashMap, VecDeque};

/// Most bytes of them, with what is held beside each.
const BYTES_MAX: usize = 16 << 20;
/// Most commits of one stretch.
const COMMITS_MAX: usize = 1 << 13;
/// What is held beside a change, about.
const CHANGE_BYTES: usize = 128;
/// What is held of a commit that brings none, about.
const COMMIT_BYTES: usize = 64;

/// The last commits.
#[derive(Debug)]
pub(super) struct Recent {
    /// All after this seq are here.
    floor: u64,
    bytes: usize,
    /// The changes made here, behind the seqs of their commits.
    made: HashMap<DocumentId, VecDeque<(u64, Bytes)>>,
    /// In order.
    commits: VecDeque<Moved>,
}

/// A document that a commit moved.
#[derive(Debug)]
struct Moved {
    seq: u64,
    id: DocumentId,
    /// Of the changes made here that the commit brought.
    bytes: usize,
}

/// A stretch of commits.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    /// Up to here.
    pub(super) to: u64,
    /// The documents that they moved.
    pub(super) documents: BTreeSet<DocumentId>,
}

impl Recent {
    /// Nothing was committed after `seq` yet.
    pub(super) fn new(seq: u64) -> Self {
        let (made, commits) = Default::default();
        Self { floor: seq, bytes: 0, made, commits }
    }

    /// Something was made up to `seq` that is not here.
    pub(super) fn skip(&mut self, seq: u64) {
        self.floor = self.floor.max(seq);
    }

    /// Takes note of a commit, and of the changes made here that it brought.
    pub(super) fn note(&mut self, id: DocumentId, seq: u64, made: &[Bytes]) {
        for change in made {
            self.bytes += change.len() + CHANGE_BYTES;
            self.made.entry(id).or_default().push_back((seq, change.clone()));
        }
        self.bytes += COMMIT_BYTES;
        let bytes = made.iter().map(Bytes::len).sum();
        self.commits.push_back(Moved { seq, id, bytes });
        while BYTES_MAX < self.bytes {
            let Some(first) = self.commits.pop_front() else { break };
            self.forget(&first);
        }
    }

    fn forget(&mut self, first: &Moved) {
        self.floor = self.floor.max(first.seq);
        self.bytes = self.bytes.saturating_sub(COMMIT_BYTES);
        let Some(changes) = self.made.get_mut(&first.id) else { return };
        while let Some((_, change)) = changes.pop_front_if(|(seq, _)| *seq <= first.seq) {
            self.bytes = self.bytes.saturating_sub(change.len() + CHANGE_BYTES);
        }
        if changes.is_empty() {
            self.made.remove(&first.id);
        }
    }

    /// The commits after a seq up to another one: of at most so many documents, and up to the one with which
    /// they brought so many bytes of changes made here. `None`: some are here no more.
    pub(super) fn stretch(
        &self,
        after: u64,
        until: u64,
        documents_max: usize,
        bytes_max: usize,
    ) -> Option<Stretch> {
        if after < self.floor {
            return None;
        }
        let first = self.commits.partition_point(|moved| moved.seq <= after);
        let (mut stretch, mut bytes) = (Stretch { to: after, documents: BTreeSet::new() }, 0);
        let commits = self.commits.range(first..).take_while(|moved| moved.seq <= until);
        for (count, moved) in commits.enumerate() {
            let many = COMMITS_MAX <= count || bytes_max <= bytes;
            let documents = &stretch.documents;
            if many || (documents_max <= documents.len() && !documents.contains(&moved.id)) {
                return Some(stretch);
            }
            bytes += moved.bytes;
            stretch.to = moved.seq;
            stretch.documents.insert(moved.id);
        }
        Some(Stretch { to: until, ..stretch })
    }

    /// The changes that were made in a document after a seq up to another one; `None`: some may be here no
    /// more.
    pub(super) fn made(&self, id: DocumentId, after: u64, until: u64) -> Option<Vec<Bytes>> {
        if after < self.floor {
            return None;
        }
        let Some(changes) = self.made.get(&id) else { return Some(Vec::new()) };
        let first = changes.partition_point(|(seq, _)| *seq <= after);
        let within = changes.range(first..).take_while(|(seq, _)| *seq <= until);
        Some(within.map(|(_, change)| change.clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: u64 = u64::MAX;

    #[test]
    fn what_is_here_is_all_or_not_told() {
        let (one, two) = (DocumentId::from_bytes([1; 16]), DocumentId::from_bytes([2; 16]));
        let mut recent = Recent::new(5);
        let large = Bytes::from(vec![0; BYTES_MAX / 2 - 2 * CHANGE_BYTES - COMMIT_BYTES]);
        recent.note(one, 6, &[Bytes::from_static(b"a"), Bytes::from_static(b"b")]);
        recent.note(two, 7, std::slice::from_ref(&large));
        recent.note(one, 8, &[Bytes::from_static(b"c")]);
        assert_eq!(recent.made(one, 4, END), None, "before the start");
        assert_eq!(recent.made(one, 5, END).unwrap().concat(), b"abc");
        assert_eq!(recent.made(one, 5, 7).unwrap().concat(), b"ab");
        assert_eq!(recent.made(one, 6, END).unwrap(), [&b"c"[..]]);
        assert_eq!(recent.made(two, 7, END).unwrap(), [&b""[..]; 0]);
        recent.note(two, 9, &[large]);
        assert_eq!(recent.made(one, 5, END), None, "some of it went");
        assert_eq!(recent.stretch(5, END, 9, 9), None);
        assert_eq!(recent.made(one, 6, END).unwrap(), [&b"c"[..]]);
        assert_eq!(recent.made(two, 6, END).unwrap().len(), 2);
        assert!(recent.bytes <= BYTES_MAX);
        recent.skip(10);
        assert_eq!(recent.made(two, 9, END), None);
        assert_eq!(recent.made(two, 10, END).unwrap(), [&b""[..]; 0]);
        for seq in 11..200_000 + BYTES_MAX as u64 / COMMIT_BYTES as u64 {
            recent.note(one, seq, &[]);
        }
        assert!(recent.made.is_empty() && recent.bytes <= BYTES_MAX);
    }

    #[test]
    fn a_stretch_names_the_documents_of_its_commits_and_ends_where_they_are_many() {
        let [one, two] = [1, 2].map(|byte| DocumentId::from_bytes([byte; 16]));
        let mut recent = Recent::new(5);
        let change = || [Bytes::from_static(b"a change")];
        recent.note(one, 6, &change());
        recent.note(two, 7, &[]);
        recent.note(one, 8, &change());
        recent.note(two, 9, &change());
        let told = |after, until, documents, bytes| {
            let stretch = recent.stretch(after, until, documents, bytes).unwrap();
            (stretch.to, stretch.documents.into_iter().collect::<Vec<_>>())
        };
        assert_eq!(told(5, 7, 9, 99), (7, vec![one, two]), "one has moved on, and is named");
        assert_eq!(told(6, 7, 9, 99), (7, vec![two]));
        assert_eq!(told(5, 20, 9, 99), (20, vec![one, two]));
        assert_eq!(told(9, 20, 9, 99), (20, vec![]));
        assert_eq!(told(5, 20, 2, 99), (20, vec![one, two]));
        assert_eq!(told(5, 20, 1, 99), (6, vec![one]));
        assert_eq!(told(7, 20, 1, 99), (8, vec![one]));
        assert_eq!(told(5, 20, 9, 16), (8, vec![one, two]));
        assert_eq!(told(5, 20, 9, 1), (6, vec![one]));
        assert_eq!(told(6, 20, 9, 1), (8, vec![one, two]));
        assert_eq!(recent.stretch(4, 20, 9, 99), None);
        for seq in 10..10 + 2 * COMMITS_MAX as u64 {
            recent.note(one, seq, &[]);
        }
        assert_eq!(recent.stretch(9, END, 9, 99).unwrap().to, 9 + COMMITS_MAX as u64);
    }
}
