//! Seals: that a message comes from a member of the cluster, is meant for who hears it, and is heard once.
//!
//! A seal is BLAKE3 in its keyed mode over what is sent, under a key that follows from the cluster's
//! secret by BLAKE3's `derive_key`. The secret itself is never sent. Each request of a node's start has a
//! number, and each number is taken once; an answer is sealed together with its request.

use crate::ident::{IncarnationId, NodeId};
use std::{fmt, str::FromStr};

/// How far behind the greatest number a late one may be.
pub const REPLAYS_MAX: u64 = 1024;

/// The key under which members seal.
#[derive(Clone)]
pub struct MemberKey([u8; 32]);

impl fmt::Debug for MemberKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("MemberKey(…)")
    }
}

/// Who sends a request, to whom, and the seal on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope {
    /// The node that sends it.
    pub node: NodeId,
    /// This start of it.
    pub from: IncarnationId,
    /// The start of the node that is to hear it; all zeros: not known yet.
    pub to: IncarnationId,
    /// Counts the requests of that start.
    pub number: u64,
    /// The seal.
    pub seal: [u8; 32],
}

impl MemberKey {
    /// The key that follows from a secret.
    pub fn derived(secret: &[u8]) -> Self {
        Self(blake3::derive_key("tombolo peers v1: seals", secret))
    }

    /// Seals a request.
    #[must_use]
    pub fn seal(&self, envelope: Envelope, path: &str, body: &[u8]) -> Envelope {
        Envelope { seal: *self.hash(&envelope, path, body).as_bytes(), ..envelope }
    }

    /// Whether a member has sealed this. It takes as long whatever the seal is.
    pub fn has_sealed(&self, envelope: &Envelope, path: &str, body: &[u8]) -> bool {
        // Hashes are compared in constant time.
        self.hash(envelope, path, body) == blake3::Hash::from_bytes(envelope.seal)
    }

    /// The seal of the answer to a request.
    pub fn seal_answer(&self, request: &Envelope, body: &[u8]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(b"answer");
        hasher.update(&request.seal);
        hasher.update(body);
        *hasher.finalize().as_bytes()
    }

    /// Whether the member that was asked has sealed this answer.
    pub fn has_sealed_answer(&self, request: &Envelope, body: &[u8], seal: [u8; 32]) -> bool {
        blake3::Hash::from_bytes(self.seal_answer(request, body)) == blake3::Hash::from_bytes(seal)
    }

    fn hash(&self, envelope: &Envelope, path: &str, body: &[u8]) -> blake3::Hash {
        let Envelope { node, from, to, number, seal: _ } = envelope;
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(b"request");
        hasher.update(&node.to_bytes());
        hasher.update(&from.to_bytes());
        hasher.update(&to.to_bytes());
        hasher.update(&number.to_le_bytes());
        hasher.update(&(path.len() as u64).to_le_bytes());
        hasher.update(path.as_bytes());
        hasher.update(body);
        hasher.finalize()
    }
}

/// As a header field has it: node, from, to, number and seal, apart by spaces.
impl fmt::Display for Envelope {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, from, to, number, seal } = self;
        let seal = blake3::Hash::from_bytes(*seal);
        write!(out, "{node} {from} {to} {number} {seal}")
    }
}

/// The text is no envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an envelope is: node, from, to, number, seal")]
pub struct NoEnvelope;

impl FromStr for Envelope {
    type Err = NoEnvelope;

    fn from_str(text: &str) -> Result<Self, NoEnvelope> {
        let parts: Vec<&str> = text.split(' ').collect();
        let [node, from, to, number, seal] = parts[..] else { return Err(NoEnvelope) };
        Ok(Self {
            node: node.parse().map_err(|_| NoEnvelope)?,
            from: from.parse().map_err(|_| NoEnvelope)?,
            to: to.parse().map_err(|_| NoEnvelope)?,
            number: number.parse().map_err(|_| NoEnvelope)?,
            seal: *blake3::Hash::from_hex(seal).map_err(|_| NoEnvelope)?.as_bytes(),
        })
    }
}

/// The numbers that were heard of one start of a node.
#[derive(Debug, Clone, Default)]
pub struct Replays {
    /// The greatest one.
    last: u64,
    /// One bit for each of those up to it, the last first.
    heard: [u64; (REPLAYS_MAX / 64) as usize],
}

impl Replays {
    /// Takes note of a number. `false`: it was heard, or is too far behind to be known.
    pub fn hear(&mut self, number: u64) -> bool {
        if self.last < number {
            self.shift(number - self.last);
            self.last = number;
        }
        let back = self.last - number;
        let Ok(back) = usize::try_from(back) else { return false };
        let Some(word) = self.heard.get_mut(back / 64) else { return false };
        let bit = 1 << (back % 64);
        let new = *word & bit == 0;
        *word |= bit;
        new && number != 0
    }

    fn shift(&mut self, by: u64) {
        let by = usize::try_from(by.min(REPLAYS_MAX)).unwrap_or(usize::MAX);
        let (words, bits) = (by / 64, by % 64);
        let before = self.heard;
        let word = |index: Option<usize>| index.and_then(|index| before.get(index)).copied();
        for (index, heard) in self.heard.iter_mut().enumerate() {
            let low = word(index.checked_sub(words)).unwrap_or(0);
            let high = word(index.checked_sub(words + 1)).unwrap_or(0);
            *heard = low << bits | if bits == 0 { 0 } else { high >> (64 - bits) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn envelope() -> Envelope {
        Envelope {
            node: NodeId::from_bytes([1; 16]),
            from: IncarnationId::from_bytes([2; 16]),
            to: IncarnationId::from_bytes([3; 16]),
            number: 4,
            seal: [0; 32],
        }
    }

    #[test]
    fn a_seal_holds_for_what_was_sealed_and_nothing_else() {
        let (key, other) = (MemberKey::derived(b"a secret"), MemberKey::derived(b"another"));
        let sealed = key.seal(envelope(), "/_peer/push", b"body");
        assert!(key.has_sealed(&sealed, "/_peer/push", b"body"));
        assert_eq!(sealed.to_string().parse(), Ok(sealed));
        for (envelope, path, body) in [
            (Envelope { number: 5, ..sealed }, "/_peer/push", &b"body"[..]),
            (Envelope { to: sealed.from, ..sealed }, "/_peer/push", b"body"),
            (Envelope { from: sealed.to, ..sealed }, "/_peer/push", b"body"),
            (Envelope { node: NodeId::from_bytes([9; 16]), ..sealed }, "/_peer/push", b"body"),
            (sealed, "/_peer/hello", b"body"),
            (sealed, "/_peer/push", b"bodies"),
            (sealed, "/_peer/pushb", b"ody"),
        ] {
            assert!(!key.has_sealed(&envelope, path, body), "{envelope} {path}");
        }
        assert!(!other.has_sealed(&sealed, "/_peer/push", b"body"));
        let answer = key.seal_answer(&sealed, b"yes");
        assert!(key.has_sealed_answer(&sealed, b"yes", answer));
        assert!(!key.has_sealed_answer(&sealed, b"no", answer));
        assert!(!key.has_sealed_answer(&Envelope { seal: [0; 32], ..sealed }, b"yes", answer));
        assert!(!other.has_sealed_answer(&sealed, b"yes", answer));
    }

    #[test]
    fn a_text_that_is_no_envelope_is_refused() {
        let text = envelope().to_string();
        for text in [
            "".to_owned(),
            "a b c d e".to_owned(),
            format!("{text} "),
            text.replace(" 4 ", " -4 "),
            text.replace('0', "g"),
        ] {
            assert_eq!(text.parse::<Envelope>(), Err(NoEnvelope), "{text}");
        }
    }

    #[test]
    fn a_number_is_heard_once_in_whatever_order() {
        let mut random = fastrand::Rng::with_seed(5);
        let (mut replays, mut heard, mut last) = (Replays::default(), BTreeSet::new(), 0u64);
        for _ in 0..20_000 {
            let number = (last + 1 + random.u64(0..80)).saturating_sub(random.u64(0..1_200)).max(1);
            last = last.max(number);
            let known = last - number < REPLAYS_MAX;
            assert_eq!(replays.hear(number), known && heard.insert(number), "{number} of {last}");
        }
        assert!(!Replays::default().hear(0), "numbers are counted from 1");
        assert!(replays.hear(u64::MAX));
    }
}
