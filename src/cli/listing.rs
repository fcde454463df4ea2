//! Lists that a node gives page by page, as they go out: a table, JSON, or one value a line.

use super::{
    args::Format,
    client::{Call, Client},
    output,
};
use anyhow::Context;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{
    collections::HashMap,
    io::{self, BufWriter, Write},
    ops::ControlFlow,
};

/// Rows by which the columns of a table are measured; more rows begin a new measure.
const TABLE_ROWS: usize = 1000;

/// A list on its way to standard output.
pub(crate) struct Listing {
    out: BufWriter<io::Stdout>,
    format: Format,
    head: &'static [&'static str],
    rows: usize,
    waiting: Vec<Vec<String>>,
}

impl Listing {
    /// An empty list, whose table has these columns.
    pub(crate) fn new(format: Format, head: &'static [&'static str]) -> Self {
        Self { out: BufWriter::new(io::stdout()), format, head, rows: 0, waiting: Vec::new() }
    }

    /// Adds a row, as it came; for a table as the `T` in it tells its cells.
    pub(crate) fn row<'j, T: Deserialize<'j>>(
        &mut self,
        json: &'j [u8],
        cells: impl FnOnce(T) -> Vec<String>,
    ) -> anyhow::Result<()> {
        match self.format {
            Format::Ndjson => {
                self.out.write_all(json)?;
                self.out.write_all(b"\n")?;
            }
            Format::Json => {
                self.out.write_all(if self.rows == 0 { b"[" } else { b",\n" })?;
                self.out.write_all(json)?;
            }
            Format::Table => {
                let row = serde_json::from_slice(json).context("a row is not what it should be")?;
                self.waiting.push(cells(row));
                if self.waiting.len() == TABLE_ROWS {
                    self.print()?;
                }
            }
        }
        self.rows += 1;
        Ok(())
    }

    /// Ends the list.
    pub(crate) fn end(mut self) -> anyhow::Result<()> {
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
        writeln!(self.out, "{}", output::table(self.head, &rows))
    }
}

/// Goes through a list that comes in pages, until it ends or `each` breaks. `call` makes the request
/// of a page, `list` is the name under which its items stand.
pub(crate) async fn pages(
    client: &Client,
    call: impl Fn() -> Call,
    list: &str,
    mut each: impl FnMut(&[u8]) -> anyhow::Result<ControlFlow<()>>,
) -> anyhow::Result<()> {
    let mut after: Option<String> = None;
    loop {
        let call = match &after {
            Some(after) => call().query("after", after),
            None => call(),
        };
        let reply = client.call(call).await?;
        let page: HashMap<&str, &RawValue> =
            serde_json::from_slice(&reply.body).context("the answer is no page")?;
        let member = |name: &str| page.get(name).context("the answer is no page");
        let items: Vec<&RawValue> = serde_json::from_str(member(list)?.get())?;
        for item in items {
            if each(item.get().as_bytes())?.is_break() {
                return Ok(());
            }
        }
        after = serde_json::from_str(member("next")?.get())?;
        if after.is_none() {
            return Ok(());
        }
    }
}
