//! # Tombolo
//!
//! A replicated JSON document database. Every node takes reads and writes over REST with all other
//! nodes gone, keeps documents as Automerge changes in RocksDB, and merges what was written apart:
//! no write is lost, and nobody writes conflict code.
//!
//! ## The house
//!
//! Rooms stand on each other; each imports only from those below it (`tests/architecture.rs`).
//! *Pure* rooms know no disk, network, clock, randomness, logging or async.
//!
//! | room | holds |
//! |---|---|
//! | [`cli`] | commands, configuration; starts the node |
//! | [`http`] | routes, headers, replies: the only room that knows axum |
//! | [`node`] | a running node: wires the pure rooms to disk, clock and callers |
//! | [`peer`] | the HTTP client that talks to other nodes |
//! | [`store`] | durable bytes: the only room that knows RocksDB |
//! | [`sync`] | how two nodes find out where they differ (pure) |
//! | [`automerge_repo`] | the protocol of offline-first clients as a state machine (pure) |
//! | [`doc`] | documents: JSON outside, Automerge inside (pure) |
//! | [`metric`] | counters and histograms, of which each room has its own (pure) |
//! | [`ident`] | collections, keys, ids, versions, cursors: parsed once (pure) |
//!
//! ## The paths that data takes
//!
//! ```text
//! GET    http::documents → node.read → store view → bytes out      (no Automerge, no re-encoding)
//! PUT    http::documents → node.write → shard: Document::edit → Delta
//!                        → committer: one synced batch → answer, and whoever waits for the feed
//! POST   http::changes → node.admit → shard: Document::admit (the gate) → Delta → the same committer
//! ```
//!
//! ## What always holds
//!
//! 1. A 2xx to a write is durable: it is sent after the write's batch is synced to disk.
//! 2. No answer rests on a state that is not durable.
//! 3. Every mutation ends in one `store` commit of one atomic batch.
//! 4. The same changes give the same view, version and conflicts, in whatever order they came.
//! 5. Every concurrent edit is in the view or listed, until a write that has seen it settles it.
//! 6. No clock decides: wall time is shown to people, and orders nothing.
//! 7. An actor is used once: each start of a node writes under a fresh one.
//! 8. Everything has a bound, and the bound has a name.
//! 9. One bad document is one bad document: everything else goes on.

pub mod automerge_repo;
pub mod cli;
pub mod doc;
pub mod http;
pub mod ident;
pub mod metric;
pub mod node;
pub mod peer;
pub mod store;
pub mod sync;
