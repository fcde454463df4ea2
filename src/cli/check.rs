//! `tombolo check`: says what is wrong with a closed data directory.

use super::{
    args::{Check, Format, Voice},
    failure::Failure,
    folder, output,
};
use crate::{
    node::{Told, check},
    store::{Checked, Finding},
};
use anyhow::Context;
use serde::Serialize;
use std::{io::IsTerminal, sync::Arc};

/// Runs the command.
pub(crate) fn run(line: &Check, voice: Voice) -> anyhow::Result<()> {
    let engine = folder::read(&line.data)?;
    let mut report = Report::new(voice);
    let checked = check(Arc::new(engine), &mut |told| report.tell(told));
    let checked = checked.with_context(|| line.data.display().to_string())?;
    report.end(checked)
}

/// A report on its way out: findings as they come.
struct Report {
    format: Format,
    /// Whether somebody looks on who wants to see it go on.
    watched: bool,
    findings: u64,
}

impl Report {
    fn new(voice: Voice) -> Self {
        let watched = std::io::stderr().is_terminal() && !voice.quiet;
        Self { format: voice.format(), watched, findings: 0 }
    }

    fn tell(&mut self, told: Told) {
        match told {
            Told::Found(finding) => {
                self.findings += 1;
                // Who has closed the pipe has read enough; the exit code says the rest.
                let _ = match self.format {
                    Format::Table => output::data(finding.to_string().as_bytes()),
                    Format::Json | Format::Ndjson => output::data(&line(&finding)),
                };
            }
            Told::Progress(checked) if self.watched => {
                let Checked { documents, rows, .. } = checked;
                output::over(&format!("{documents} documents, {rows} rows"));
            }
            Told::Progress(_) => {}
        }
    }

    fn end(self, checked: Checked) -> anyhow::Result<()> {
        let Checked { documents, quarantined, rows } = checked;
        let summary = Summary { documents, quarantined, rows, findings: self.findings };
        match self.format {
            Format::Table => {
                let kept = match quarantined {
                    0 => String::new(),
                    count => format!(", {count} of them in quarantine"),
                };
                let found = self.findings;
                output::data(
                    format!("{documents} documents{kept}, {rows} rows, {found} found wrong")
                        .as_bytes(),
                )?;
            }
            Format::Json | Format::Ndjson => {
                output::data(&serde_json::to_vec(&Last { summary: &summary })?)?;
            }
        }
        if summary.findings == 0 {
            return Ok(());
        }
        Err(Failure::Refused("the data is damaged; `tombolo repair` mends what it can".into())
            .into())
    }
}

#[derive(Serialize)]
struct Line<'a> {
    place: &'a str,
    what: &'a str,
}

fn line(finding: &Finding) -> Vec<u8> {
    let line = Line { place: &finding.place, what: &finding.what };
    serde_json::to_vec(&line).unwrap_or_default()
}

#[derive(Serialize)]
struct Last<'a> {
    summary: &'a Summary,
}

#[derive(Serialize)]
struct Summary {
    documents: u64,
    quarantined: u64,
    rows: u64,
    findings: u64,
}
