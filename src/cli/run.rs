//! From the words on the command line to the exit code.

use super::{
    args::{Command, CommandLine},
    backup, blame,
    client::Client,
    compare, conflicts, decode, demo, diff, export, failure, get, history, import, ls, output,
    patch, peers, put, quarantine, revert, rm, serve, status, version, watch,
};
#[cfg(feature = "rocksdb")]
use super::{check, repair, restore};
use clap::Parser;
use std::{ffi::OsString, process::ExitCode};
use tokio::runtime::{Builder, Runtime};

/// Runs the program on these words, the first of which is its name.
pub fn run(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let line = match CommandLine::try_parse_from(words) {
        Ok(line) => line,
        Err(error) => {
            // Help and version are errors too, and the ones that end well. Nobody listens to a
            // broken pipe.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1));
        }
    };
    let Err(error) = execute(line) else { return ExitCode::SUCCESS };
    failure::exit(&error).map_or(ExitCode::SUCCESS, |code| {
        output::talk(&format!("tombolo: {error:#}"));
        code
    })
}

fn execute(CommandLine { voice, command }: CommandLine) -> anyhow::Result<()> {
    /// A command that talks to a node.
    macro_rules! at_node {
        ($command:ident, $line:ident) => {{
            let client = Client::new(&$line.remote, 0 < voice.verbose)?;
            one_thread()?.block_on($command::run(&client, &$line, voice))
        }};
    }
    match command {
        Command::Serve(flags) => many_threads()?.block_on(serve::run(&flags, voice)),
        Command::Get(line) => at_node!(get, line),
        Command::Put(line) => at_node!(put, line),
        Command::Patch(line) => at_node!(patch, line),
        Command::Rm(line) => at_node!(rm, line),
        Command::Ls(line) => at_node!(ls, line),
        Command::Watch(line) => at_node!(watch, line),
        Command::History(line) => at_node!(history, line),
        Command::Diff(line) => at_node!(diff, line),
        Command::Blame(line) => at_node!(blame, line),
        Command::Conflicts(line) => at_node!(conflicts, line),
        Command::Revert(line) => at_node!(revert, line),
        Command::Quarantine(line) => at_node!(quarantine, line),
        Command::Peers(line) => at_node!(peers, line),
        Command::Status(line) => at_node!(status, line),
        Command::Compare(line) => one_thread()?.block_on(compare::run(&line, voice)),
        Command::Demo => many_threads()?.block_on(demo::run(voice)),
        Command::Import(line) => at_node!(import, line),
        Command::Export(line) => at_node!(export, line),
        Command::Backup(line) => one_thread()?.block_on(backup::run(&line, voice)),
        #[cfg(feature = "rocksdb")]
        Command::Restore(line) => restore::run(&line, voice),
        #[cfg(feature = "rocksdb")]
        Command::Check(line) => check::run(&line, voice),
        #[cfg(feature = "rocksdb")]
        Command::Repair(line) => repair::run(&line, voice),
        #[cfg(not(feature = "rocksdb"))]
        Command::Restore(_) | Command::Check(_) | Command::Repair(_) => {
            anyhow::bail!("built without storage: there are no data directories")
        }
        Command::Version => version::run(voice),
        Command::Decode(line) => decode::run(&line),
    }
}

fn many_threads() -> anyhow::Result<Runtime> {
    Ok(Builder::new_multi_thread().enable_all().build()?)
}

fn one_thread() -> anyhow::Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}
