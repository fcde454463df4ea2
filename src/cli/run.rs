//! From the words on the command line to the exit code.

use super::{
    args::{Command, CommandLine},
    backup, blame,
    client::Client,
    conflicts, decode, diff, export, failure, get, history, import, ls, output, patch, put,
    quarantine, revert, rm, serve, version, watch,
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
    let client = |remote| Client::new(remote, 0 < voice.verbose);
    match command {
        Command::Serve(flags) => many_threads()?.block_on(serve::run(&flags, voice)),
        Command::Get(line) => {
            one_thread()?.block_on(get::run(&client(&line.remote)?, &line, voice))
        }
        Command::Put(line) => {
            one_thread()?.block_on(put::run(&client(&line.remote)?, &line, voice))
        }
        Command::Patch(line) => {
            one_thread()?.block_on(patch::run(&client(&line.remote)?, &line, voice))
        }
        Command::Rm(line) => one_thread()?.block_on(rm::run(&client(&line.remote)?, &line, voice)),
        Command::Ls(line) => one_thread()?.block_on(ls::run(&client(&line.remote)?, &line, voice)),
        Command::Watch(line) => {
            one_thread()?.block_on(watch::run(&client(&line.remote)?, &line, voice))
        }
        Command::History(line) => {
            one_thread()?.block_on(history::run(&client(&line.remote)?, &line, voice))
        }
        Command::Diff(line) => {
            one_thread()?.block_on(diff::run(&client(&line.remote)?, &line, voice))
        }
        Command::Blame(line) => {
            one_thread()?.block_on(blame::run(&client(&line.remote)?, &line, voice))
        }
        Command::Conflicts(line) => {
            one_thread()?.block_on(conflicts::run(&client(&line.remote)?, &line, voice))
        }
        Command::Revert(line) => {
            one_thread()?.block_on(revert::run(&client(&line.remote)?, &line, voice))
        }
        Command::Quarantine(line) => {
            one_thread()?.block_on(quarantine::run(&client(&line.remote)?, &line, voice))
        }
        Command::Import(line) => {
            one_thread()?.block_on(import::run(&client(&line.remote)?, &line, voice))
        }
        Command::Export(line) => {
            one_thread()?.block_on(export::run(&client(&line.remote)?, &line, voice))
        }
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
