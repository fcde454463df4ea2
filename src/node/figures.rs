//! What a node counts of itself while it runs, and what it tells of that.

use crate::{
    metric::{Counter, Distribution, Gauge, Histogram, POWERS, TIMES_NS},
    store::{Health, Usage},
};
use std::time::Duration;

/// Moved by the handle and the committer.
#[derive(Debug)]
pub(super) struct Metrics {
    /// Commits that were written and synced together.
    pub(super) group_commits: Histogram,
    /// How long a group took from its first row to its sync.
    pub(super) commit_ns: Histogram,
    /// Edits that the document's state or the limits forbid.
    pub(super) refused: Counter,
    /// Commands turned away because too many wait.
    pub(super) stalled: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            group_commits: Histogram::new(POWERS),
            commit_ns: Histogram::new(TIMES_NS),
            refused: Counter::default(),
            stalled: Counter::default(),
        }
    }
}

/// Moved by one shard and its helpers.
#[derive(Debug)]
pub(super) struct ShardMetrics {
    /// Documents in memory, and their bytes.
    pub(super) documents: Gauge,
    pub(super) bytes: Gauge,
    /// Commands that found their document in memory, or not.
    pub(super) hits: Counter,
    pub(super) misses: Counter,
    pub(super) evictions: Counter,
    pub(super) load_ns: Histogram,
    pub(super) fold_ns: Histogram,
    pub(super) panics: Counter,
}

impl Default for ShardMetrics {
    fn default() -> Self {
        Self {
            documents: Gauge::default(),
            bytes: Gauge::default(),
            hits: Counter::default(),
            misses: Counter::default(),
            evictions: Counter::default(),
            load_ns: Histogram::new(TIMES_NS),
            fold_ns: Histogram::new(TIMES_NS),
            panics: Counter::default(),
        }
    }
}

/// Moved by the connections of offline-first clients.
#[derive(Debug, Default)]
pub(super) struct ClientMetrics {
    pub(super) connections: Gauge,
    /// Frames, and their bytes.
    pub(super) received: Counter,
    pub(super) received_bytes: Counter,
    pub(super) sent: Counter,
    pub(super) sent_bytes: Counter,
    /// Connections that the node ended.
    pub(super) ended: Counter,
}

/// A time as histograms count it.
pub(super) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What a node tells of itself. Numbers that move together may be seen apart.
#[derive(Debug, Clone)]
pub struct Figures {
    /// Since the node was started.
    pub uptime: Duration,
    /// Documents that live.
    pub documents: u64,
    /// Documents that are deleted.
    pub deleted: u64,
    /// Collections, empty ones too.
    pub collections: u64,
    /// The last commit's place in the feed.
    pub last_seq: u64,
    /// Documents whose heads were damaged when the node was started; they are not served.
    pub damaged: u64,
    /// Documents that merges made larger than an edit may make them.
    pub oversize: u64,
    /// Documents in quarantine.
    pub quarantined: u64,
    /// How often changes of others are kept in quarantine.
    pub quarantined_changes: u64,
    /// Changes that wait for others.
    pub orphans: u64,
    /// Who waits for the feed.
    pub subscriptions: u64,
    /// Offline-first clients.
    pub clients: Clients,
    /// Changes of peers that were new.
    pub peer_changes_taken: u64,
    /// Changes of peers that were here already.
    pub peer_changes_held: u64,
    /// Why no writes are taken, if none are.
    pub read_only: Option<String>,
    /// Edits that the document's state or the limits forbid.
    pub refused: u64,
    /// Commands turned away because too many waited.
    pub stalled: u64,
    /// Commands that wait at their shards.
    pub waiting: u64,
    /// Requests that met a defect and were answered all the same.
    pub panics: u64,
    /// Commits that were written and synced together.
    pub groups: Distribution,
    /// Nanoseconds that a group took, with its sync.
    pub commits: Distribution,
    /// The documents in memory.
    pub loaded: Loaded,
    /// What the storage engine tells; `None` if it does not.
    pub engine: Option<(Health, Usage)>,
}

/// What offline-first clients do.
#[derive(Debug, Clone, Copy)]
pub struct Clients {
    /// Connections.
    pub connections: u64,
    /// Documents that these have open, each as often as it is.
    pub documents: u64,
    /// Messages that came.
    pub received: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Messages that went.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Connections that the node ended: a broken rule, no writes taken, the same peer again.
    pub ended: u64,
}

impl ClientMetrics {
    /// What they are now, with so many documents open.
    pub(super) fn read(&self, documents: u64) -> Clients {
        Clients {
            connections: self.connections.value(),
            documents,
            received: self.received.value(),
            received_bytes: self.received_bytes.value(),
            sent: self.sent.value(),
            sent_bytes: self.sent_bytes.value(),
            ended: self.ended.value(),
        }
    }
}

/// The documents that are loaded for writing.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// How many.
    pub documents: u64,
    /// What they hold, estimated in bytes.
    pub bytes: u64,
    /// What they may hold.
    pub bytes_max: u64,
    /// Commands that found their document in memory.
    pub hits: u64,
    /// Commands that did not.
    pub misses: u64,
    /// Documents that had to make room.
    pub evictions: u64,
    /// Nanoseconds that a load took.
    pub loads: Distribution,
    /// Nanoseconds that it took to fold a log into a snapshot.
    pub folds: Distribution,
}

impl Loaded {
    /// What all shards together have.
    pub(super) fn of(shards: &[impl AsRef<ShardMetrics>], bytes_max: usize) -> Self {
        let none = || Histogram::new(TIMES_NS).read();
        let mut all = Self {
            documents: 0,
            bytes: 0,
            bytes_max: bytes_max as u64,
            hits: 0,
            misses: 0,
            evictions: 0,
            loads: none(),
            folds: none(),
        };
        for shard in shards.iter().map(AsRef::as_ref) {
            all.documents += shard.documents.value();
            all.bytes += shard.bytes.value();
            all.hits += shard.hits.value();
            all.misses += shard.misses.value();
            all.evictions += shard.evictions.value();
            all.loads = all.loads.and(&shard.load_ns.read());
            all.folds = all.folds.and(&shard.fold_ns.read());
        }
        all
    }
}
