//! Tombolo: a replicated JSON document database whose every node works alone and merges later.

pub mod doc;
pub mod ident;
pub mod node;
pub mod store;
