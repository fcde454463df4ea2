//! `tombolo repair`: makes what can be read of a closed data directory sound again.

use super::{
    args::{Format, Repair, Voice},
    folder, output,
};
use crate::{
    node::{self, Ambient},
    store::{Effort, Engine, Loss, Mended, RepairFolder, Repaired, RocksOptions},
};
use anyhow::Context;
use serde::Serialize;

/// Runs the command.
pub(crate) fn run(line: &Repair, voice: Voice) -> anyhow::Result<()> {
    folder::exists(&line.data)?;
    let options = RocksOptions { blocks_bytes: folder::BLOCKS_BYTES };
    let hint = || line.data.display().to_string();
    let mut held = RepairFolder::hold(&line.data, options).with_context(hint)?;
    let effort = if line.salvage { Effort::Salvage } else { Effort::Sound };
    let source = held.source(effort).with_context(|| match effort {
        Effort::Sound => format!(
            "{}: it does not open; --salvage passes over what cannot be read, acknowledged \
             writes too",
            hint()
        ),
        Effort::Salvage => hint(),
    })?;
    for note in held.notes() {
        output::talk(note);
    }
    let target = if line.dry_run { None } else { Some(held.target().with_context(hint)?) };
    let format = voice.format();
    let mut tell = |mended: Mended| print(&mended, format);
    let repaired = node::repair(
        &source,
        target.as_ref().map(|engine| engine as &dyn Engine),
        &Ambient::machine(),
        &line.collection,
        &mut tell,
    );
    drop((source, target));
    if line.dry_run || repaired.is_err() {
        held.abandon()?;
    }
    let repaired = repaired.with_context(hint)?;
    if line.dry_run {
        return sum_up(repaired, None, format);
    }
    let damaged = held.finish().with_context(hint)?;
    sum_up(repaired, Some(&damaged.display().to_string()), format)
}

#[derive(Serialize)]
struct Line<'a> {
    place: &'a str,
    loss: &'static str,
    what: &'a str,
}

fn print(mended: &Mended, format: Format) {
    let Mended { place, what, loss } = mended;
    let loss = match loss {
        Loss::Nothing => "mended",
        Loss::Quarantined => "quarantined",
        Loss::Lost => "lost",
    };
    // Who has closed the pipe has read enough; the repair goes on.
    let _ = match format {
        Format::Table => output::data(format!("{loss} {place}: {what}").as_bytes()),
        Format::Json | Format::Ndjson => {
            output::data(&serde_json::to_vec(&Line { place, loss, what }).unwrap_or_default())
        }
    };
}

#[derive(Serialize)]
struct Last<'a> {
    summary: Summary<'a>,
}

#[derive(Serialize)]
struct Summary<'a> {
    documents: u64,
    quarantined: u64,
    /// Where the damaged files are now.
    damaged: Option<&'a str>,
}

fn sum_up(repaired: Repaired, damaged: Option<&str>, format: Format) -> anyhow::Result<()> {
    let Repaired { documents, quarantined } = repaired;
    match (format, damaged) {
        (Format::Table, None) => {
            let text = format!("{documents} documents whole, {quarantined} not; nothing was done");
            output::data(text.as_bytes())?;
        }
        (Format::Table, Some(damaged)) => {
            let text = format!("{documents} documents whole, {quarantined} in quarantine");
            output::data(text.as_bytes())?;
            output::talk(&format!(
                "the damaged files are in {damaged}: remove them when all is well"
            ));
        }
        (Format::Json | Format::Ndjson, damaged) => {
            let last = Last { summary: Summary { documents, quarantined, damaged } };
            output::data(&serde_json::to_vec(&last)?)?;
        }
    }
    Ok(())
}
