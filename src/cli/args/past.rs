//! What was typed for the commands about the past of documents, and about quarantine.

use super::{Document, Remote, pasted};
use crate::{
    doc::Pointer,
    ident::{Collection, Key, QuarantineId, Version},
};
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct History {
    #[command(flatten)]
    pub(crate) remote: Remote,
    #[command(flatten)]
    pub(crate) document: Document,
    /// Most changes [default: all]
    #[arg(long, value_name = "COUNT", value_parser = count)]
    pub(crate) limit: Option<usize>,
}

/// A number of things, at least 1.
fn count(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| 0 < *count);
    count.ok_or_else(|| "a number, at least 1".to_owned())
}

#[derive(Debug, Args)]
pub(crate) struct Diff {
    #[command(flatten)]
    pub(crate) remote: Remote,
    #[command(flatten)]
    pub(crate) document: Document,
    /// From this version
    #[arg(value_parser = pasted::version)]
    pub(crate) from: Version,
    /// To this one [default: now]
    #[arg(value_parser = pasted::version)]
    pub(crate) to: Option<Version>,
}

#[derive(Debug, Args)]
pub(crate) struct Blame {
    #[command(flatten)]
    pub(crate) remote: Remote,
    #[command(flatten)]
    pub(crate) document: Document,
    /// Only what is at this place and below it: a JSON Pointer, such as `/address/city`
    #[arg(value_parser = pointer)]
    pub(crate) path: Option<Pointer>,
}

pub(super) fn pointer(text: &str) -> Result<Pointer, String> {
    text.parse().map_err(|_| "no JSON Pointer (RFC 6901)".to_owned())
}

#[derive(Debug, Args)]
pub(crate) struct Conflicts {
    #[command(flatten)]
    pub(crate) remote: Remote,
    /// The collection
    pub(crate) collection: Collection,
    /// The key; nothing: all documents that hold conflicts
    pub(crate) key: Option<Key>,
}

#[derive(Debug, Args)]
pub(crate) struct Revert {
    #[command(flatten)]
    pub(crate) remote: Remote,
    #[command(flatten)]
    pub(crate) document: Document,
    /// What it was at this version
    #[arg(value_parser = pasted::version)]
    pub(crate) version: Version,
}

#[derive(Debug, Args)]
pub(crate) struct Quarantine {
    #[command(flatten)]
    pub(crate) remote: Remote,
    #[command(subcommand)]
    pub(crate) what: Ward,
}

fn quarantined(text: &str) -> Result<QuarantineId, String> {
    text.parse()
        .map_err(|_| "what is in quarantine is named by 32 lower-case hex digits".to_owned())
}

#[derive(Debug, Subcommand)]
pub(crate) enum Ward {
    /// List what is there
    Ls,
    /// Write the bytes that are kept to standard output, or to a new file
    Show {
        /// Its id
        #[arg(value_parser = quarantined)]
        id: QuarantineId,
        /// The file
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Take a document back with whatever of it is whole, or try changes once more
    Release {
        /// Its id
        #[arg(value_parser = quarantined)]
        id: QuarantineId,
    },
    /// Forget it: a document is then one that nobody has written
    Drop {
        /// Its id
        #[arg(value_parser = quarantined)]
        id: QuarantineId,
    },
}
