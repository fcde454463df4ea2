//! Clock and chance: the only place that reads them, so that a simulation can give its own.

use crate::{
    doc::Actor,
    ident::{IncarnationId, Key, NodeId},
};
use std::{
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};
use uuid::{Builder, Uuid};

/// Where time and randomness come from.
pub trait Source: Send + Sync + fmt::Debug {
    /// Milliseconds since 1970 by the wall clock. Shown to people; decides nothing.
    fn unix_ms(&self) -> u64;

    /// 16 bytes that nobody has seen before.
    fn chance(&self) -> [u8; 16];
}

/// The clock and chance of one node.
#[derive(Debug, Clone)]
pub struct Ambient(Arc<dyn Source>);

/// The machine's own.
#[derive(Debug)]
struct Machine;

#[expect(clippy::disallowed_methods, reason = "this is the place that reads clock and chance")]
impl Source for Machine {
    fn unix_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn chance(&self) -> [u8; 16] {
        // A version 4 UUID has 122 random bits; two make a full 16 bytes and some to spare.
        let (one, two) = (Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes());
        std::array::from_fn(|index| one[index] ^ two[(index + 5) % 16].rotate_left(3))
    }
}

impl Ambient {
    /// The machine's clock and random numbers.
    pub fn machine() -> Self {
        Self(Arc::new(Machine))
    }

    /// A source of the caller's.
    pub fn from_source(source: Arc<dyn Source>) -> Self {
        Self(source)
    }

    pub(super) fn unix_ms(&self) -> u64 {
        self.0.unix_ms()
    }

    pub(super) fn unix_seconds(&self) -> i64 {
        i64::try_from(self.0.unix_ms() / 1000).unwrap_or(i64::MAX)
    }

    pub(super) fn chance(&self) -> [u8; 16] {
        self.0.chance()
    }

    /// The id of a new node.
    pub fn node_id(&self) -> NodeId {
        NodeId::from_bytes(self.0.chance())
    }

    /// The id of a new start.
    pub fn incarnation_id(&self) -> IncarnationId {
        IncarnationId::from_bytes(self.0.chance())
    }

    pub(super) fn actor(&self) -> Actor {
        Actor(self.0.chance())
    }

    /// A UUIDv7: sortable by the time it was made.
    pub(super) fn key(&self) -> Option<Key> {
        let mut random = [0; 10];
        random.copy_from_slice(&self.0.chance()[..10]);
        let id = Builder::from_unix_timestamp_millis(self.0.unix_ms(), &random).into_uuid();
        id.to_string().parse().ok()
    }
}
