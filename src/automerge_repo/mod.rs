//! automerge-repo's WebSocket protocol, version "1", as its servers speak it. Pure: no socket, no disk.
//!
//! ```text
//! message   one frame: CBOR maps
//! incoming  an Automerge sync message, checked before anything trusts it
//! share     how far a peer and this node agree on one document
//! session   one connection: who it is, and whose turn it is of its documents
//! echo      ephemeral messages that have been passed on before
//! ```
//!
//! What always holds:
//! - Nothing is sent before the handshake but its own answer, and that needs no disk.
//! - Of one document one message after the other is dealt with; documents do not wait for each other.
//! - What a peer may make this node remember has a bound.
//! - The changes of a sync message are no concern of this room: they are admitted elsewhere, and made
//!   durable, before it says what follows from them.
//!
//! Not here: the gossip of remote heads, which is off by default in clients and harmless to pass over.

mod echo;
mod incoming;
mod message;
mod session;
mod share;

pub use echo::Echo;
pub use incoming::{BadSync, Incoming};
pub use message::{BadFrame, Ephemeral, Exchange, Message, Metadata, NAME_BYTES_MAX};
pub use session::{Closing, Heard, Next, POLICY, Said, Session, Turn};
pub use share::Share;
