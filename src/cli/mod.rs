//! The command line: commands, configuration, exit codes.
//!
//! - Data goes to standard output, talk to standard error.
//! - Exit codes: 0 ok, 1 error, 2 usage, 3 not found, 4 precondition failed, 5 unreachable.
//! - Configuration is checked before anything opens.
//! - Commands that talk to a node use its HTTP interface, as any client would.

mod args;
mod client;
mod config;
mod failure;
mod get;
mod ls;
mod output;
mod pasted;
mod patch;
mod put;
mod rm;
mod run;
mod serve;
mod version;

pub use run::run;
