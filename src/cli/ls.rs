//! `tombolo ls`: the collections, or the documents of one.

use super::{
    args::{Format, Ls, Voice},
    client::{Call, Client},
    output,
};
use crate::ident::Collection;
use anyhow::Context;
use hyper::Method;
use serde::{Deserialize, Serialize};
use std::io::{self, BufWriter, Write};

/// Rows by which the columns of a table are measured; more rows begin a new measure.
const TABLE_ROWS: usize = 1000;

/// Runs the command.
pub(crate) async fn run(client: &Client, line: &Ls, voice: Voice) -> anyhow::Result<()> {
    match &line.collection {
        None => collections(client, voice.format()).await,
        Some(collection) => {
            documents(client, collection, line.prefix.as_deref(), voice.format()).await
        }
    }
}

async fn collections(client: &Client, format: Format) -> anyhow::Result<()> {
    let reply = client.call(Call::new(Method::GET, "/v1/_collections")).await?;
    let answer: Collections =
        serde_json::from_slice(&reply.body).context("the answer lists no collections")?;
    let rows = answer.collections;
    match format {
        Format::Json => output::data(&serde_json::to_vec(&rows)?)?,
        Format::Ndjson => {
            for row in rows {
                output::data(&serde_json::to_vec(&row)?)?;
            }
        }
        Format::Table => {
            let cells =
                |row: Count| vec![row.name, row.documents.to_string(), row.deleted.to_string()];
            let rows: Vec<_> = rows.into_iter().map(cells).collect();
            output::data(output::table(&["NAME", "DOCUMENTS", "DELETED"], &rows).as_bytes())?;
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct Collections {
    collections: Vec<Count>,
}

#[derive(Serialize, Deserialize)]
struct Count {
    name: String,
    documents: u64,
    deleted: u64,
}

/// Documents come one a line and go out as they come: a list may be longer than memory.
async fn documents(
    client: &Client,
    collection: &Collection,
    prefix: Option<&str>,
    format: Format,
) -> anyhow::Result<()> {
    let mut call = Call::new(Method::GET, format!("/v1/{collection}"))
        .query("values", "false")
        .header("accept", "application/x-ndjson")?;
    if let Some(prefix) = prefix {
        call = call.query("prefix", prefix);
    }
    let mut body = client.open(call).await?.into_body();
    let mut list = List::new(format);
    let mut rest = Vec::new();
    while let Some(bytes) = client.next(&mut body).await? {
        rest.extend_from_slice(&bytes);
        let whole = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        for line in rest[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            list.row(line)?;
        }
        rest.drain(..whole);
    }
    list.end()
}

#[derive(Deserialize)]
struct Row {
    key: String,
    version: Vec<String>,
    conflicts: u32,
}

/// A list on its way to standard output.
struct List {
    out: BufWriter<io::Stdout>,
    format: Format,
    rows: usize,
    waiting: Vec<Vec<String>>,
}

impl List {
    fn new(format: Format) -> Self {
        Self { out: BufWriter::new(io::stdout()), format, rows: 0, waiting: Vec::new() }
    }

    fn row(&mut self, line: &[u8]) -> anyhow::Result<()> {
        match self.format {
            Format::Ndjson => {
                self.out.write_all(line)?;
                self.out.write_all(b"\n")?;
            }
            Format::Json => {
                self.out.write_all(if self.rows == 0 { b"[" } else { b",\n" })?;
                self.out.write_all(line)?;
            }
            Format::Table => {
                let row: Row = serde_json::from_slice(line).context("a row is no document")?;
                self.waiting.push(vec![row.key, row.conflicts.to_string(), row.version.join(".")]);
                if self.waiting.len() == TABLE_ROWS {
                    self.print()?;
                }
            }
        }
        self.rows += 1;
        Ok(())
    }

    fn end(mut self) -> anyhow::Result<()> {
        match self.format {
            Format::Ndjson => {}
            Format::Json => self.out.write_all(if self.rows == 0 { b"[]\n" } else { b"]\n" })?,
            Format::Table if self.rows == 0 || !self.waiting.is_empty() => self.print()?,
            Format::Table => {}
        }
        Ok(self.out.flush()?)
    }

    fn print(&mut self) -> io::Result<()> {
        let rows = std::mem::take(&mut self.waiting);
        writeln!(self.out, "{}", output::table(&["KEY", "CONFLICTS", "VERSION"], &rows))
    }
}
