//! The command line: commands, configuration, exit codes.
//!
//! - Data goes to standard output, talk to standard error.
//! - Exit codes: 0 ok, 1 error, 2 usage, 3 not found, 4 precondition failed, 5 unreachable.
//! - Configuration is checked before anything opens.
//! - Commands that talk to a node use its HTTP interface, as any client would.

mod args;
mod backup;
mod blame;
#[cfg(feature = "rocksdb")]
mod check;
mod client;
mod cluster;
mod collection;
mod compare;
mod config;
mod conflicts;
mod decode;
mod demo;
mod diff;
mod export;
mod failure;
#[cfg(feature = "rocksdb")]
mod folder;
mod get;
mod history;
mod import;
mod input;
mod listing;
mod ls;
mod onlooker;
mod output;
mod pasted;
mod patch;
mod peers;
mod progress;
mod put;
mod quarantine;
#[cfg(feature = "rocksdb")]
mod repair;
#[cfg(feature = "rocksdb")]
mod restore;
mod revert;
mod rm;
mod row;
mod rows;
mod run;
mod saved;
mod serve;
mod socket;
mod status;
mod upload;
mod version;
mod watch;

pub use run::run;
