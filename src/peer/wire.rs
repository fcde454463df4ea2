//! What goes to a node and comes back, counted.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

/// What was asked of a node. What it asks itself, it counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Messages {
    /// How often.
    pub requests: u64,
    /// Bytes of the questions' bodies, as they were coded.
    pub bytes_sent: u64,
    /// Bytes of the answers' bodies, the same.
    pub bytes_received: u64,
}

impl Messages {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            bytes_sent: self.bytes_sent + other.bytes_sent,
            bytes_received: self.bytes_received + other.bytes_received,
        }
    }
}

/// The way to a node, and what went over it: by what was asked, the last part of the path.
#[derive(Debug, Default)]
pub struct Wire(Mutex<BTreeMap<&'static str, Messages>>);

impl Wire {
    /// A body of so many bytes goes to this path.
    pub(super) fn asked(&self, path: &'static str, bytes: usize) {
        self.count(path, Messages { requests: 1, bytes_sent: bytes as u64, bytes_received: 0 });
    }

    /// The answer had a body of so many bytes.
    pub(super) fn answered(&self, path: &'static str, bytes: usize) {
        self.count(path, Messages { bytes_received: bytes as u64, ..Messages::default() });
    }

    fn count(&self, path: &'static str, more: Messages) {
        let what = path.rsplit('/').next().unwrap_or(path);
        // Nothing in it panics half way.
        let mut messages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of = messages.entry(what).or_default();
        *of = of.plus(more);
    }

    /// By what was asked.
    pub fn messages(&self) -> BTreeMap<&'static str, Messages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All of it together.
    pub fn sum(&self) -> Messages {
        self.messages().into_values().fold(Messages::default(), Messages::plus)
    }
}
