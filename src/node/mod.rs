//! A running node: wires the pure rooms to disk, clock and callers.
//!
//! ```text
//! handle      Node: what http and cli call          ambient   the only reader of clock and chance
//! shard       owns loaded documents (pure)          cache     which of them stay in memory
//! resident    one loaded document (pure)            task      what is wanted of it, and answers
//! worker      runs a shard: receive, handle, act    committer runs the store's one writer
//! threads     what runs all of them
//! read        views, lists, heads from the store    write     what a write asks and gives
//! feed        what was committed, and who waits for more
//! orphans     changes that wait for others      look      what is read off a document
//! past        changes, differences, history, blame, conflicts
//! admit       changes that were made elsewhere  decoder   a process that opens large documents first
//! sockets     connections of offline-first clients
//! audience    which documents they have open    turn      one document's turn on one of them
//! quarantine  what does not load, or broke it
//! replicate   what others are told, and what they tell
//! members     who they are                          member    what is known of one
//! rivals      starts of one node, told from copies of it
//! ledger      what is held, summed up           relay     what has to be told on
//! token       what anybody may see of that
//! recent      the last commits, and the changes that were made here
//! figures     what it counts of itself
//! status      whether writes are taken              guard     looks at the disk and the engine
//! check       what is wrong with a closed store     repair    what can be read of it, made sound
//! ```
//!
//! What always holds:
//! - A document belongs to one shard, chosen by its id. Its edits happen one after the other.
//! - No answer rests on a state that is not durable: it waits for the commit it rests on.
//! - Work in proportion to a large document is done by a helper thread, to which the document is
//!   handed over; what is wanted of it meanwhile waits, and its shard serves all others.
//! - A document leaves memory only when nothing of it is in flight.
//! - After a failed commit the documents in it are dropped from memory, whoever reloads one goes on
//!   under a fresh actor, and the node takes no writes until it is started again.
//! - Every queue is bounded: commands by their channel, what waits for a document by
//!   `Options::waiting_max`, commits by their channel.

mod admit;
mod ambient;
mod audience;
mod cache;
mod check;
mod committer;
mod decoder;
mod error;
mod feed;
mod figures;
mod guard;
mod handle;
mod ledger;
mod look;
mod member;
mod members;
mod orphans;
mod past;
mod quarantine;
mod read;
mod recent;
mod relay;
mod repair;
mod replicate;
mod resident;
mod rivals;
mod shard;
mod sockets;
mod status;
mod task;
#[cfg(test)]
mod tests;
mod threads;
mod token;
mod turn;
mod worker;
mod write;

pub use ambient::{Ambient, Source};
pub use check::{Told, check};
pub use decoder::{DECODER_MEMORY_BYTES, decode};
pub use error::{Error, StartError};
pub use feed::{Filter, Row as FeedRow, SUBSCRIPTIONS_MAX, Since, Stretch, Subscription};
pub use figures::{Clients, Figures, Loaded};
pub use handle::{Node, Options, Secret, Writing};
pub use quarantine::Released;
pub use read::{ListQuery, Page, Reading, Representation, Row};
pub use repair::repair;
pub use replicate::{
    ADDED_MAX as PEERS_ADDED_MAX, Answered, Direction, PeerError, PeerOptions, PeerPut, PeerStatus,
    State as PeerState, Traffic as PeerTraffic, Unheard,
};
pub use sockets::{Frames, Spoken};
pub use threads::Executor;
pub use write::{Once, Precondition, Taken, Write, Written};

pub use crate::peer::Messages as PeerMessages;
pub use crate::peer::{ENVELOPE as PEER_ENVELOPE, MESSAGE as PEER_MESSAGE, SEAL as PEER_SEAL};
pub use crate::store::{
    Backup, BackupError, CollectionCount, Durability, Health, Held, Usage, What,
};
