//! The room's state machines, driven by hand: every effect is performed when a test says so.

mod guard;
mod ledger;
mod quarantine;
mod shard;
