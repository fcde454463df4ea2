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
