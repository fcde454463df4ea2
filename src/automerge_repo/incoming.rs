//! An Automerge sync message of a peer, checked before anything trusts it.
//!
//! Automerge takes the word of whoever wrote its Bloom filters and lists: a filter of no bits divides by
//! zero, one of 2³² probes asks for 16 GB, and a change that is named a million times is sent as often.

use crate::ident::{Hash, Version};
use automerge::sync::{Have, Message};

/// Most filters of a message; Automerge writes one.
const HAVES_MAX: usize = 4;
/// Most probes of a filter for one hash; Automerge writes 7.
const PROBES_MAX: u64 = 32;
/// Most names of changes in one list.
const HASHES_MAX: usize = 1 << 16;

/// A sync message that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Incoming {
    message: Message,
    /// Tells it from others.
    digest: [u8; 32],
}

/// Bytes that are no sync message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a sync message: {0}")]
pub struct BadSync(String);

impl Incoming {
    /// The message that was encoded so.
    ///
    /// # Errors
    /// It is none, or one that no peer writes.
    pub fn decode(data: &[u8]) -> Result<Self, BadSync> {
        let bad = |why: &str| BadSync(why.to_owned());
        let mut message = Message::decode(data).map_err(|error| BadSync(error.to_string()))?;
        if HAVES_MAX < message.have.len() {
            return Err(bad("too many filters"));
        }
        for have in &mut message.have {
            check_filter(have).ok_or_else(|| bad("a filter that no peer writes"))?;
            have.last_sync.sort_unstable();
            have.last_sync.dedup();
        }
        message.heads.sort_unstable();
        message.heads.dedup();
        message.need.sort_unstable();
        message.need.dedup();
        let syncs = message.have.iter().map(|have| have.last_sync.len());
        let most = syncs.chain([message.heads.len(), message.need.len()]).max();
        if most.is_some_and(|most| HASHES_MAX < most) {
            return Err(bad("too many names of changes"));
        }
        Ok(Self { message, digest: *blake3::hash(data).as_bytes() })
    }

    /// The changes and documents in it, one behind the other; empty if there are none.
    pub fn changes(&self) -> Vec<u8> {
        self.message.changes.iter().flatten().copied().collect()
    }

    /// What its sender holds.
    pub fn heads(&self) -> Version {
        self.message.heads.iter().map(|head| Hash::from_bytes(head.0)).collect()
    }

    /// The message, for what is to be learned from it.
    pub(super) fn into_message(self) -> Message {
        self.message
    }

    /// The message, to be looked at.
    pub(super) fn message(&self) -> &Message {
        &self.message
    }

    /// The BLAKE3 hash of its bytes.
    pub(super) fn digest(&self) -> [u8; 32] {
        self.digest
    }
}

/// Nothing if a filter is one that can be asked at a bounded cost.
fn check_filter(have: &Have) -> Option<()> {
    let bytes = have.bloom.to_bytes();
    if bytes.is_empty() {
        return Some(());
    }
    let mut rest = &bytes[..];
    let _entries = leb128::read::unsigned(&mut rest).ok()?;
    let _bits_each = leb128::read::unsigned(&mut rest).ok()?;
    let probes = leb128::read::unsigned(&mut rest).ok()?;
    (!rest.is_empty() && (1..=PROBES_MAX).contains(&probes)).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use automerge::{AutoCommit, ROOT, sync::State, sync::SyncDoc, transaction::Transactable};

    /// A sync message whose one filter is these bytes.
    fn with_filter(filter: &[u8]) -> Vec<u8> {
        let length = u8::try_from(filter.len()).unwrap();
        [&[0x42, 0, 0, 1, 0, length], filter, &[0]].concat()
    }

    #[test]
    fn what_automerge_writes_is_read() {
        let mut document = AutoCommit::new();
        document.put(ROOT, "a", 1).unwrap();
        let message = document.sync().generate_sync_message(&mut State::new()).unwrap();
        let incoming = Incoming::decode(&message.clone().encode()).unwrap();
        assert_eq!(incoming.message(), &message);
        assert_eq!(incoming.heads().hashes().len(), 1);
        assert!(incoming.changes().is_empty());
    }

    #[test]
    fn a_filter_that_harms_whoever_asks_it_is_refused() {
        assert!(Incoming::decode(&with_filter(&[])).is_ok());
        assert!(Incoming::decode(&with_filter(&[1, 10, 7, 0xff, 0xff])).is_ok());
        for (filter, why) in [
            (&[1, 0, 7][..], "no bits: asking it divides by zero"),
            (&[1, 10, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0], "2^32 probes: 16 GB"),
            (&[1, 10, 0, 0, 0], "no probes: it holds everything"),
            (&[1, 10, 33, 0, 0], "more probes than anybody writes"),
        ] {
            assert!(Incoming::decode(&with_filter(filter)).is_err(), "{why}");
        }
    }

    #[test]
    fn what_is_named_twice_is_named_once_and_lists_have_an_end() {
        let mut message = vec![0x42, 0, 3];
        message.extend([[1; 32], [0; 32], [1; 32]].concat());
        message.extend([0, 0]);
        let incoming = Incoming::decode(&message).unwrap();
        let need: Vec<[u8; 32]> = incoming.message().need.iter().map(|hash| hash.0).collect();
        assert_eq!(need, [[0; 32], [1; 32]]);
        let filters = [&[0x42, 0, 0, 5][..], &[0, 0].repeat(5), &[0]].concat();
        assert!(Incoming::decode(&filters).is_err());
        let mut message = vec![0x42];
        leb128::write::unsigned(&mut message, HASHES_MAX as u64 + 1).unwrap();
        for n in 0..=HASHES_MAX as u64 {
            message.extend(n.to_be_bytes().repeat(4));
        }
        message.extend([0, 0, 0]);
        assert!(Incoming::decode(&message).is_err());
    }

    #[test]
    fn what_is_no_sync_message_is_refused() {
        for bytes in [&[][..], &[0x42], &[0x41, 0, 0, 0, 0], &[0x42, 0xff, 0xff, 0xff, 0xff, 0x7f]]
        {
            assert!(Incoming::decode(bytes).is_err(), "{bytes:?}");
        }
    }
}
