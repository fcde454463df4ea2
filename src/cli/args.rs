//! What was typed. What it means is decided elsewhere.

mod past;
mod peers;

pub(crate) use past::{Blame, Conflicts, Diff, History, Quarantine, Revert, Ward};
pub(crate) use peers::{NewPeer, Peers, Roster};

use super::pasted::{self, NoVersion};
use crate::{
    ident::{Collection, Key, Version},
    peer::Url,
};
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};
use std::{
    convert::Infallible, io::IsTerminal, net::SocketAddr, path::PathBuf, str::FromStr,
    time::Duration,
};

/// A replicated JSON document database whose every node works alone and merges later.
#[derive(Debug, Parser)]
#[command(name = "tombolo", version, arg_required_else_help = true)]
pub(crate) struct CommandLine {
    #[command(flatten)]
    pub(crate) voice: Voice,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How the program speaks.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Voice {
    /// How data is written [default: table on a terminal, json otherwise]
    #[arg(short, long, global = true, value_name = "FORMAT")]
    output: Option<Format>,
    /// Say less
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say more; twice: much more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// When to use colours
    #[arg(long, global = true, default_value = "auto", value_name = "WHEN")]
    color: Color,
}

impl Voice {
    /// How data is written.
    pub(crate) fn format(self) -> Format {
        let terminal = std::io::stdout().is_terminal();
        self.output.unwrap_or(if terminal { Format::Table } else { Format::Json })
    }

    /// Whether talk on stderr is coloured.
    pub(crate) fn colored(self) -> bool {
        match self.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
            }
        }
    }
}

/// How data is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// One JSON value.
    Json,
    /// One JSON value a line.
    Ndjson,
    /// For people.
    Table,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

/// The command that a node calls, and no person.
pub(crate) const DECODE: &str = "__decode";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a node
    Serve(Serve),
    /// Read a document
    Get(Get),
    /// Write a whole document
    Put(Put),
    /// Change a part of a document
    Patch(Patch),
    /// Delete a document
    Rm(Rm),
    /// List collections, or the documents of one
    Ls(Ls),
    /// Tell of documents as they are written, one a line, until ended
    Watch(Watch),
    /// Tell what each change of a document did, the latest first
    History(History),
    /// Tell what changed from one version of a document to another
    Diff(Diff),
    /// Tell which change set each value that a document shows
    Blame(Blame),
    /// List the documents with conflicts, or the values in conflict of one
    Conflicts(Conflicts),
    /// Bring a document back to what it was, by a new change
    Revert(Revert),
    /// See and settle what does not load, or broke what took it in
    Quarantine(Quarantine),
    /// List the nodes with which a node replicates, and how each fares; add one, or remove it
    Peers(Peers),
    /// Tell what a node holds and how it fares
    Status(AtNode),
    /// Name the documents that differ between two nodes
    Compare(Compare),
    /// Show three nodes that are written apart and merge, in this process
    Demo,
    /// Write many documents, out of files
    Import(Import),
    /// Write all documents of a collection to a file or standard output, one a line
    Export(Export),
    /// Back a running node up
    Backup(Backup),
    /// Make a data directory from a backup
    Restore(Restore),
    /// Say what is wrong with a data directory that no node has open
    Check(Check),
    /// Make a damaged data directory sound, and say what that costs
    Repair(Repair),
    /// Say which version this is
    Version,
    /// Open documents for a node
    #[command(name = DECODE, hide = true)]
    Decode(Decode),
}

/// A command that needs a node and nothing else.
#[derive(Debug, Args)]
pub(crate) struct AtNode {
    #[command(flatten)]
    pub(crate) remote: Remote,
}

/// The bounds of the documents that are opened.
#[derive(Debug, Args)]
pub(crate) struct Decode {
    /// Bytes of JSON
    pub(crate) document_bytes: usize,
    /// Levels
    pub(crate) depth: usize,
}

/// What `serve` is told on the command line; it overrides every other source.
#[derive(Debug, Clone, Default, Args, Serialize)]
pub(crate) struct Serve {
    /// Where the data lives [default: ./tombolo-data]
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<PathBuf>,
    /// Where to listen; port 0 picks one [default: 127.0.0.1:7420]
    #[arg(long, value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) listen: Option<SocketAddr>,
    /// When a write is answered [default: sync]
    #[arg(long, value_name = "WHEN")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) durability: Option<Durability>,
    /// How log lines are written [default: text]
    #[arg(long, value_name = "FORMAT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) log_format: Option<LogFormat>,
    /// Replicate with the node that listens there; may be given again
    #[arg(long, value_name = "URL")]
    #[serde(skip)]
    pub(crate) peer: Vec<String>,
    /// Where the secret is that all nodes of the cluster share
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub(crate) cluster_secret_file: Option<PathBuf>,
    /// Be another node from now on: the data is a copy of that of a node that runs, too
    #[arg(long)]
    #[serde(skip)]
    pub(crate) new_node: bool,
    /// Read this file, and no other
    #[arg(long, value_name = "FILE", env = "TOMBOLO_CONFIG")]
    #[serde(skip)]
    pub(crate) config: Option<PathBuf>,
    /// Give up the safe defaults: listen beyond this machine without authentication or TLS
    #[arg(long)]
    #[serde(skip)]
    pub(crate) insecure: bool,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// When a write is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Durability {
    /// After it is synced to disk
    Sync,
    /// After the kernel has it; synced a little later
    Relaxed,
}

/// Which node to talk to.
#[derive(Debug, Clone, Args)]
pub(crate) struct Remote {
    /// The node
    #[arg(long, env = "TOMBOLO_URL", default_value = "http://127.0.0.1:7420", global = true)]
    pub(crate) url: String,
    /// The access token
    #[arg(long, env = "TOMBOLO_TOKEN", hide_env_values = true, global = true)]
    pub(crate) token: Option<String>,
    /// Longest wait for the answer to begin, and to go on
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds, global = true)]
    pub(crate) timeout: Duration,
}

/// Longest wait that may be asked for, in seconds: a day.
const SECONDS_MAX: f64 = 86_400.0;

/// A time in seconds, such as `60` or `0.5`.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| 0.0 < *seconds && *seconds <= SECONDS_MAX);
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.ok_or_else(|| format!("more than 0 and at most {SECONDS_MAX} seconds"))
}

/// Which document.
#[derive(Debug, Clone, Args)]
pub(crate) struct Document {
    /// The collection
    pub(crate) collection: Collection,
    /// The key
    pub(crate) key: Key,
}

/// Compares what two running nodes hold, as a member of their cluster that only looks: it reads of their
/// sketches as much as the difference takes, however many documents they hold.
///
/// What differs is looked at again after two seconds, and only what differs alike is named: what is on
/// its way between the two is no difference. Deleted documents are compared too. Exit code 1: they
/// differ.
#[derive(Debug, Args)]
pub(crate) struct Compare {
    /// One node, A: http://HOST:PORT
    #[arg(value_name = "URL_A")]
    pub(crate) a: Url,
    /// The other, B
    #[arg(value_name = "URL_B")]
    pub(crate) b: Url,
    /// Where the secret is that all nodes of the cluster share; without one, both are on this machine
    #[arg(long, value_name = "FILE")]
    pub(crate) cluster_secret_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    #[command(flatten)]
    pub(crate) remote: Remote,
    #[command(flatten)]
    pub(crate) document: Document,
    /// The document as it was at this version
    #[arg(long, value_name = "VERSION", value_parser = pasted::version)]
    pub(crate) at: Option<Version>,
    /// Show types that JSON does not have
    #[arg(long)]
    pub(crate) typed: bool,
    /// Add the version and the number of conflicts
    #[arg(long)]
    pub(crate) meta: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Put {
    #[command(flatten)]
    pub(crate) remote: Remote,
    #[command(flatten)]
    pub(crate) document: Document,
    /// The new value; `-` or nothing: standard input
    #[arg(default_value = "-")]
    pub(crate) file: Source,
    /// The version that the new value was made from: merge, however late
    #[arg(
        long,
        value_name = "VERSION",
        value_parser = pasted::version,
        conflicts_with = "if_match"
    )]
    pub(crate) parents: Option<Version>,
    /// Write only if the document is at this version; `*`: if it exists
    #[arg(long, value_name = "VERSION")]
    pub(crate) if_match: Option<Expected>,
    /// The value shows types that JSON does not have
    #[arg(long)]
    pub(crate) typed: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Patch {
    #[command(flatten)]
    pub(crate) remote: Remote,
    #[command(flatten)]
    pub(crate) document: Document,
    /// The patch; `-` or nothing: standard input
    #[arg(default_value = "-")]
    pub(crate) file: Source,
    /// Its kind
    #[arg(long, default_value = "merge")]
    pub(crate) r#type: PatchType,
}

#[derive(Debug, Args)]
pub(crate) struct Rm {
    #[command(flatten)]
    pub(crate) remote: Remote,
    #[command(flatten)]
    pub(crate) document: Document,
}

#[derive(Debug, Args)]
pub(crate) struct Ls {
    #[command(flatten)]
    pub(crate) remote: Remote,
    /// The collection; nothing: all collections
    pub(crate) collection: Option<Collection>,
    /// Only keys that begin with this
    #[arg(long, requires = "collection")]
    pub(crate) prefix: Option<String>,
}

/// Tells of every document that is written, at its newest version: who was away, or is slow, hears
/// of each document once. A node that goes away is waited for, and nothing is missed.
#[derive(Debug, Args)]
pub(crate) struct Watch {
    #[command(flatten)]
    pub(crate) remote: Remote,
    /// The collection; nothing: all collections
    pub(crate) collection: Option<Collection>,
    /// Only keys that begin with this
    #[arg(long, requires = "collection")]
    pub(crate) prefix: Option<String>,
    /// Where to begin: `now`, `beginning`, or behind a row, by its `cursor`
    #[arg(long, default_value = "now")]
    pub(crate) since: String,
    /// With the documents themselves
    #[arg(long)]
    pub(crate) values: bool,
}

/// Writes every row of the files as a document, in place of what is there under its key. Files are
/// JSON, one value a line or one array, also compressed by gzip or zstd.
///
/// A row as `export` writes it, an object of `key`, `value` and what else `export` says, goes where it
/// came from. Of every other row the whole is the document; its key is what `--key` names, or else is
/// made of the row's line, its content and the file as it is named here.
///
/// What was broken off is run again: keys come out the same, what is there already is found
/// unchanged, and no document stands twice.
#[derive(Debug, Args)]
pub(crate) struct Import {
    #[command(flatten)]
    pub(crate) remote: Remote,
    /// The collection
    pub(crate) collection: Collection,
    /// What to read; `-`: standard input. KEY.automerge is one document, saved by any Automerge
    /// library: it is merged with what is there under this key
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<Source>,
    /// Where in each row its key stands, a string or an integer: a member's name, or a pointer such as
    /// `/meta/id`
    #[arg(long, value_name = "FIELD")]
    pub(crate) key: Option<Field>,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    #[command(flatten)]
    pub(crate) remote: Remote,
    /// The collection
    pub(crate) collection: Collection,
    /// The file, which is there once it is whole [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Write each document whole, with its history, as KEY.automerge into the folder `--out`, which any
    /// Automerge library opens
    #[arg(long, requires = "out")]
    pub(crate) automerge: bool,
}

/// A place in a document: the names on the way to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field(pub(crate) Vec<String>);

impl FromStr for Field {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.starts_with('/') {
            return Ok(Self(vec![text.to_owned()]));
        }
        past::pointer(text).map(|pointer| Self(pointer.0))
    }
}

#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// A directory on the node's machine that does not exist yet; with --url, a name below the
    /// node's `backup_directory`
    pub(crate) directory: PathBuf,
    /// The data directory of the node, which is reached through the socket in it
    /// [default: as configured, or ./tombolo-data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// The node, over the network
    #[arg(long, conflicts_with = "data")]
    pub(crate) url: Option<String>,
    /// The access token
    #[arg(long, env = "TOMBOLO_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// Longest wait for the backup
    #[arg(long, value_name = "SECONDS", default_value = "3600", value_parser = seconds)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The backup
    pub(crate) from: PathBuf,
    /// Where it goes: a directory that is empty or not there
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Beside the node that was backed up, and not in its place: be another node
    #[arg(long)]
    pub(crate) new_node: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The data directory
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Repair {
    /// The data directory
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Change nothing; say what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Pass over what cannot be read at all, acknowledged writes too
    #[arg(long)]
    pub(crate) salvage: bool,
    /// A collection that there was, should its name be lost (repeatable)
    #[arg(long, value_name = "NAME")]
    pub(crate) collection: Vec<Collection>,
}

/// A patch's kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PatchType {
    /// A merge patch (RFC 7396)
    Merge,
    /// A JSON Patch (RFC 6902)
    Json,
}

/// Where a body is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// `-`
    Input,
    /// A file.
    File(PathBuf),
}

impl FromStr for Source {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(if text == "-" { Self::Input } else { Self::File(text.into()) })
    }
}

/// What a document has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expected {
    /// `*`: there.
    Exists,
    /// At this version.
    Version(Version),
}

impl FromStr for Expected {
    type Err = NoVersion;

    fn from_str(text: &str) -> Result<Self, NoVersion> {
        match text {
            "*" => Ok(Self::Exists),
            // Nothing is at the version that saw nothing.
            "" => Err(NoVersion),
            _ => pasted::version(text).map(Self::Version),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn names_and_versions_are_checked_when_they_are_typed() {
        let version = "ab".repeat(32);
        for (line, valid) in [
            ("get notes a", true),
            ("get Notes a", false),
            ("get notes _a", false),
            ("get notes a --at xyz", false),
            (&format!("get notes a --at {version}.{version} --typed --meta -o json"), true),
            (&format!("put notes a - --parents {version}"), true),
            (&format!("put notes a --parents {version} --if-match {version}"), false),
            ("put notes a --if-match *", true),
            ("put notes a --if-match ", false),
            ("put notes a --parents ", true),
            ("patch notes a p.json --type json", true),
            ("patch notes a --type xml", false),
            ("ls", true),
            ("ls --timeout 0.5", true),
            ("ls --timeout 86400", true),
            ("ls --timeout 86401", false),
            ("ls --timeout 0", false),
            ("ls --timeout NaN", false),
            ("ls --prefix a", false),
            ("-q -v ls", false),
            ("serve --listen 127.0.0.1:0 --durability relaxed", true),
            ("serve --listen localhost", false),
            ("peers", true),
            ("peers -o table", true),
            ("peers add b http://b:1", true),
            ("peers add b http://b:1 --url http://c:1 --direction push", true),
            ("peers add b http://b:1 --collection a --collection b", true),
            ("peers add b http://b:1 --collection *", true),
            ("peers add b http://b:1 --collection A", false),
            ("peers add b http://b:1 --direction up", false),
            ("peers add b b:1", false),
            ("peers add _b http://b:1", false),
            ("peers add b", false),
            ("peers rm [::1]:1", true),
            ("peers rm", false),
            ("serve --log-format json", true),
            ("serve --log-format xml", false),
            ("compare http://a:1 http://b:1/ --cluster-secret-file f", true),
            ("compare http://a:1", false),
            ("compare http://a:1 b:1", false),
            ("compare http://a:1 http://b:1/path", false),
            ("demo -q", true),
            ("demo 4", false),
        ] {
            let words = ["tombolo"].into_iter().chain(line.split(' '));
            assert_eq!(CommandLine::try_parse_from(words).is_ok(), valid, "{line}");
        }
    }
}
