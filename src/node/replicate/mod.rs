//! Replication: what this node tells others, and takes from them.
//!
//! ```text
//! roster     which peers there are               options  what is said of one
//! session    one peer, as long as it answers: hello, beats, and the loops below
//! push       what was written, along the feed      pull     the same, asked for
//! round      where both differ, and repair         outbox   a stretch of the feed, for one peer
//! inbox      what a peer sent, through the gate    answer   the asked side of all of it
//! holdings   what is held at positions, and the changes that somebody lacks
//! overhear   what clients say to those of other nodes
//! trouble    why a peer is not attended for a while
//! ```
//!
//! What always holds:
//! - A node tells of nothing that is not durable there, and acknowledges nothing that is not durable here.
//! - A cursor is kept by who reads. One that could skip a row is not honoured; then the sketch tells.
//! - What lies between two cursors is told, and once, also of a document that has moved on since.
//! - What fails is tried again for ever, ever more slowly, and costs the other peers nothing.

mod answer;
mod holdings;
mod inbox;
mod options;
mod outbox;
mod overhear;
mod pace;
mod peers;
mod push;
mod roster;
mod round;
mod session;
mod trouble;

pub use answer::{Answered, Unheard};
pub use options::{Direction, PeerError, PeerOptions};
pub use peers::{PeerStatus, State, Traffic};
pub use roster::{ADDED_MAX, PeerPut};

pub(super) use inbox::Turns;
pub(super) use peers::Peers;

use super::Error;
use crate::sync::{Reason, Refused};

/// What a peer is told of an error of this node.
fn refused(error: &Error) -> Refused {
    let reason = match error {
        Error::ReadOnly(_) | Error::DiskFull => Reason::ReadOnly,
        Error::Stalled | Error::WritesStopped | Error::Stopping => Reason::Busy,
        _ => Reason::Internal,
    };
    reason.because(error.to_string())
}
