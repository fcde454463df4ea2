//! Durable bytes: documents as heads, views, chunks and a feed, over an [`Engine`].
//!
//! ```text
//! frame, codec   what every value looks like      key, row, sys   what each family holds
//! engine         the verbs asked of an engine     memory, rocks   the two that there are
//! format         opening                          catalog, track   what is remembered of it
//! read           reading, from any thread         commit      writing, through one door
//! check          what is wrong, row by row        repair      what can be read, made sound elsewhere
//! walk           past what cannot be read         quarantine  damaged bytes, kept aside
//! kept           answers for who asks again        orphan      changes that wait for others
//! feed           documents by their last commit   replica  what other nodes are told, and told us
//! ```
//!
//! What always holds:
//! - One [`Committer`] writes, all rows of a group in one batch. An answer is given after its sync.
//! - Seqs only grow, are given while the batch is built, and are seen by readers in order.
//! - `feed` has one row per document, at the seq of its head. `view` has one row per document that
//!   lives, at its version. The chunks of a document are those of which its head tells.
//! - Nothing damaged is returned: every row is framed, and names are checked against ids.
//! - After one failed write nothing is written until the store is opened again.
//!
//! Not here, on purpose: Automerge (chunks and standing sets are bytes), clocks, randomness (ids are
//! arguments), threads and async (the room `node` has them), and compare-and-swap.

mod backup;
mod catalog;
mod check;
mod codec;
mod commit;
mod engine;
mod error;
mod feed;
mod folder;
mod format;
mod frame;
mod kept;
pub mod key;
#[cfg(feature = "rocksdb")]
mod manifest;
mod memory;
mod orphan;
mod plan;
mod quarantine;
mod read;
mod repair;
mod replica;
#[cfg(feature = "rocksdb")]
mod rocks;
mod row;
#[cfg(feature = "rocksdb")]
mod salvage;
mod sys;
#[cfg(test)]
mod tests;
mod track;
#[cfg(feature = "rocksdb")]
mod wal;
mod walk;

#[cfg(feature = "rocksdb")]
pub use backup::restore;
pub use backup::{Backup, BackupError};
pub use catalog::{COLLECTIONS_MAX, CollectionCount};
pub use check::{Checked, Finding, Listener};
pub use commit::{Brings, Commit, Committer, Log, Moved, NewView, Receipt, Source, Watcher};
pub use engine::{
    Batch, Cached, Durability, Engine, Health, Op, Range, SCAN_STRETCH_ROWS, Usage, Visit,
};
pub use error::{CommitError, Damaged, EngineError, OpenError, ReadError, Refused};
pub use feed::{Feed, FeedEntry, FeedQuery};
pub use format::Fresh;
pub use kept::{KEPT_MAX, KEPT_SECONDS, Kept, KeptAnswers, KeptName};
pub use memory::{Crash, Fault, MemoryEngine};
pub use orphan::{ORPHAN_BYTES_MAX, ORPHANS_MAX, Orphans};
pub use quarantine::{Aside, CHANGES_BYTES_MAX, CHANGES_MAX, Held, Remains, What};
pub use read::{List, Page, Store, Stored};
pub use repair::{Loss, Mended, Remade, Remake, Repair, Repaired, rename_node, repair};
pub use replica::{KeptPeer, Logged, Visitor};
#[cfg(feature = "rocksdb")]
pub use rocks::{RocksEngine, RocksOptions};
pub use row::{Chunk, FeedRow, Head, Origin, View};
#[cfg(feature = "rocksdb")]
pub use salvage::{Effort, RepairFolder};
pub use sys::{Incarnation, PeerRow};
pub use track::{LogSize, Track};
