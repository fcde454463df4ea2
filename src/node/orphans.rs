//! The changes that wait for others, of one loaded document.

use crate::{
    doc::{Admitted, Document, Limits, Refusal, Room, Sender, Waiting},
    ident::Hash,
    store::{ORPHAN_BYTES_MAX, ORPHANS_MAX, Orphans, Source},
};
use bytes::Bytes;
use std::collections::BTreeMap;

/// What waits, and what becomes of it with the next commit.
#[derive(Debug, Default)]
pub(super) struct Nursery {
    here: BTreeMap<Hash, Bytes>,
    /// Which member sent it, as far as that is known.
    from: BTreeMap<Hash, Source>,
    fresh: Orphans,
}

impl Nursery {
    /// What is stored.
    pub(super) fn new(stored: Vec<(Hash, Bytes)>) -> Self {
        Self { here: stored.into_iter().collect(), ..Self::default() }
    }

    /// Bytes that it holds.
    pub(super) fn bytes(&self) -> usize {
        self.here.values().map(Bytes::len).sum()
    }

    /// Whether the next commit has something to say of it.
    pub(super) fn is_dirty(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// What the next commit has to say of it.
    pub(super) fn take(&mut self) -> Orphans {
        std::mem::take(&mut self.fresh)
    }

    /// Sends bytes through the gate, and then what waited for them. Gives who sent what was taken of that.
    /// `from`: the member that sends them. `left`: bytes for which the store has room.
    ///
    /// # Errors
    /// As [`Document::admit`]: all is as before.
    pub(super) fn admit(
        &mut self,
        document: &mut Document,
        bytes: &[u8],
        from: Option<Source>,
        left: u64,
        limits: &Limits,
    ) -> Result<(Admitted, Vec<Source>), Refusal> {
        let sender = from.map_or(Sender::Stranger, |_| Sender::Member);
        // What waits for a document that is not there has no place, unless a peer sends it: then the
        // beginning is on its way, from wherever it was made.
        let exists = !document.version().is_empty() || sender == Sender::Member;
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        let room = Room {
            changes: if exists { ORPHANS_MAX.saturating_sub(self.here.len()) } else { 0 },
            bytes: ORPHAN_BYTES_MAX.saturating_sub(self.bytes()).min(left),
        };
        let mut admitted = document.admit(bytes, sender, room, limits)?;
        for Waiting { hash, bytes, .. } in &admitted.waiting {
            let bytes = Bytes::copy_from_slice(bytes);
            // Whoever made it tells more than who passes it on.
            if let Some(from) = from.filter(|from| from.made || !self.from.contains_key(hash)) {
                self.from.insert(*hash, from);
            }
            if self.here.insert(*hash, bytes.clone()).is_none() {
                self.fresh.remove.retain(|gone| gone != hash);
                self.fresh.put.push((*hash, bytes));
            }
        }
        let mut freed = Vec::new();
        if !admitted.delta.changes.is_empty() && !self.here.is_empty() {
            freed = self.retry(document, sender, limits, &mut admitted);
        }
        Ok((admitted, freed))
    }

    /// Sends what waits through the gate, and gives who sent what was taken. What is refused will never be.
    fn retry(
        &mut self,
        document: &mut Document,
        sender: Sender,
        limits: &Limits,
        admitted: &mut Admitted,
    ) -> Vec<Source> {
        let room = Room { changes: usize::MAX, bytes: usize::MAX };
        let whole: Vec<u8> = self.here.values().flatten().copied().collect();
        let done = match document.admit(&whole, sender, room, limits) {
            Ok(done) => vec![done],
            // One of them is bad: then each alone, until none is taken.
            Err(_) => self.retry_each(document, sender, limits),
        };
        for done in done {
            admitted.letters &= done.delta.changes.is_empty() || done.letters;
            admitted.delta.changes.extend(done.delta.changes);
            admitted.delta.after = done.delta.after;
            admitted.delta.deleted = done.delta.deleted;
            admitted.cloned += done.cloned;
        }
        let taken: Vec<Hash> =
            self.here.keys().filter(|hash| document.holds_change(hash)).copied().collect();
        let from = |hash| self.from.get(hash).copied().unwrap_or(Source::UNKNOWN);
        let freed = taken.iter().map(from).collect();
        for hash in taken {
            self.forget(hash);
        }
        admitted.waiting.retain(|waiting| self.here.contains_key(&waiting.hash));
        freed
    }

    fn retry_each(
        &mut self,
        document: &mut Document,
        sender: Sender,
        limits: &Limits,
    ) -> Vec<Admitted> {
        let room = Room { changes: usize::MAX, bytes: usize::MAX };
        let mut done = Vec::new();
        loop {
            let before = done.len();
            for (hash, bytes) in self.here.clone() {
                if document.holds_change(&hash) {
                    continue;
                }
                match document.admit(&bytes, sender, room, limits) {
                    Ok(admitted) if admitted.waiting.is_empty() => done.push(admitted),
                    Ok(_) => {}
                    Err(refusal) => {
                        tracing::warn!(change = %hash, %refusal, "a change that waited is refused");
                        self.forget(hash);
                    }
                }
            }
            if done.len() == before {
                return done;
            }
        }
    }

    fn forget(&mut self, hash: Hash) {
        self.here.remove(&hash);
        self.from.remove(&hash);
        let put = self.fresh.put.len();
        self.fresh.put.retain(|(fresh, _)| *fresh != hash);
        if self.fresh.put.len() == put {
            self.fresh.remove.push(hash);
        }
    }
}
