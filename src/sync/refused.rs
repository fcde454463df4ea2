//! That a node does not answer, and why.
//!
//! ```text
//! message    format (1), kind (1), and
//! 16 refused reason (u16), text
//! ```

use super::codec::{Reader, Writer};

/// Why a peer is not answered, by the number that messages carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Reason {
    /// The request is to another start of this node.
    Stale = 1,
    /// The request was heard before.
    Replayed = 2,
    /// The body is no message, or one of another format.
    BadMessage = 3,
    /// The other sums up under other keys.
    OtherKey = 4,
    /// Too much is under way.
    Busy = 5,
    /// This node takes no writes.
    ReadOnly = 6,
    /// No hello came before.
    Unknown = 7,
    /// The other is one of two that run on copies of the same data.
    Clone = 8,
    /// Nothing is shared.
    NotShared = 9,
    /// A defect, or a disk that cannot be read.
    Internal = 10,
    /// The other is this very node.
    Itself = 11,
}

/// All of them, and a word for each, the same in every release.
const REASONS: [(Reason, &str); 11] = [
    (Reason::Stale, "stale"),
    (Reason::Replayed, "replayed"),
    (Reason::BadMessage, "bad_message"),
    (Reason::OtherKey, "other_key"),
    (Reason::Busy, "busy"),
    (Reason::ReadOnly, "read_only"),
    (Reason::Unknown, "unknown"),
    (Reason::Clone, "clone_detected"),
    (Reason::NotShared, "not_shared"),
    (Reason::Internal, "internal"),
    (Reason::Itself, "itself"),
];

impl Reason {
    /// A refusal for this reason, and the same for people.
    pub fn because(self, text: impl Into<String>) -> Refused {
        Refused { reason: self as u16, text: text.into() }
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The number of a [`Reason`], perhaps of a later release.
    pub reason: u16,
    /// The same, for people.
    pub text: String,
}

impl Refused {
    /// A word for the reason.
    pub fn name(&self) -> &'static str {
        let known = REASONS.iter().find(|(reason, _)| *reason as u16 == self.reason);
        known.map_or("refused", |(_, name)| name)
    }

    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(16);
        writer.u16(self.reason);
        writer.bytes(self.text.as_bytes());
        writer.end()
    }

    /// The refusal, if the message is one.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::of(bytes, 16).ok()?;
        let reason = reader.u16().ok()?;
        let text = String::from_utf8_lossy(reader.bytes().ok()?).into_owned();
        reader.end(Self { reason, text }).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Golden bytes: what nodes of other releases have to understand.
    #[test]
    fn messages_are_these_bytes() {
        let refused = Reason::Replayed.because("no");
        assert_eq!(refused.name(), "replayed");
        assert_eq!(refused.encode(), [1, 16, 2, 0, 2, 0, 0, 0, b'n', b'o']);
        assert_eq!(Refused::decode(&refused.encode()), Some(refused));
        assert_eq!(Refused::decode(&[1, 15, 2, 0, 0, 0, 0, 0]), None);
        let later = Refused { reason: 999, text: String::new() };
        assert_eq!(Refused::decode(&later.encode()).map(|refused| refused.name()), Some("refused"));
    }
}
