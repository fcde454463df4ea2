//! Data on standard output, talk on standard error, bodies from files.

use super::{
    args::{Format, Source},
    client::Reply,
};
use anyhow::Context;
use serde::Deserialize;
use serde_json::Value;
use std::io::{self, Read, Write};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Writes data, and a line's end.
pub(crate) fn data(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Says something to whoever listens.
pub(crate) fn talk(text: &str) {
    // If nobody does, there is nobody to tell.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Says how far it has come, over what was said before.
#[cfg(feature = "rocksdb")]
pub(crate) fn over(text: &str) {
    // If nobody listens, there is nobody to tell.
    let _ = write!(io::stderr(), "\r{text}\u{1b}[K\r");
}

/// Writes JSON: as it came for programs, indented for people.
pub(crate) fn json(bytes: &[u8], format: Format) -> anyhow::Result<()> {
    match format {
        Format::Json | Format::Ndjson => data(bytes)?,
        Format::Table => {
            let value: Value = serde_json::from_slice(bytes).context("the answer is no JSON")?;
            data(serde_json::to_string_pretty(&value)?.as_bytes())?;
        }
    }
    Ok(())
}

/// Writes what a write did.
pub(crate) fn written(reply: &Reply, format: Format) -> anyhow::Result<()> {
    if format != Format::Table {
        return Ok(data(&reply.body)?);
    }
    let done: Written =
        serde_json::from_slice(&reply.body).context("the answer does not say what was done")?;
    let what = match () {
        () if done.unchanged => "unchanged",
        () if done.deleted => "deleted",
        () if done.merged => "merged",
        () if reply.status == hyper::StatusCode::CREATED => "created",
        () => "written",
    };
    let (collection, key, version) = (done.collection, done.key, done.version.join("."));
    Ok(data(format!("{what} {collection} {key}\nversion {version}").as_bytes())?)
}

/// What a node says of a write.
#[derive(Deserialize)]
struct Written {
    collection: String,
    key: String,
    version: Vec<String>,
    merged: bool,
    unchanged: bool,
    deleted: bool,
}

/// Reads a body.
pub(crate) fn body(source: &Source) -> anyhow::Result<Vec<u8>> {
    match source {
        Source::Input => {
            let mut bytes = Vec::new();
            io::stdin().lock().read_to_end(&mut bytes).context("standard input")?;
            Ok(bytes)
        }
        Source::File(path) => std::fs::read(path).with_context(|| path.display().to_string()),
    }
}

/// Seconds since 1970 as RFC 3339, for people.
pub(crate) fn time(seconds: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(seconds).ok();
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| seconds.to_string())
}

/// The beginning of a hash or an actor, which tells it from the others here.
pub(crate) fn short(hex: &str) -> String {
    hex.get(..8).unwrap_or(hex).to_owned()
}

/// Text of a document in a table: what moves a cursor, ends a line, or turns the direction of what
/// follows, is escaped.
pub(crate) fn shown(text: &str) -> String {
    let turns = |c| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let escaped = |c: char| {
        if c.is_control() || turns(c) { c.escape_default().to_string() } else { c.to_string() }
    };
    text.chars().map(escaped).collect()
}

/// Rows of text in columns, the last of which may be as wide as it is.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|title| title.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(head.to_vec())];
    lines.extend(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_texts_are_for_people() {
        assert_eq!(time(0), "1970-01-01T00:00:00Z");
        assert_eq!(time(1_714_564_800), "2024-05-01T12:00:00Z");
        assert_eq!(time(i64::MAX), i64::MAX.to_string());
        assert_eq!(shown("a\n\u{1b}[2Jé\u{202e}"), "a\\n\\u{1b}[2Jé\\u{202e}");
        assert_eq!((short("0123456789"), short("é")), ("01234567".into(), "é".into()));
    }

    #[test]
    fn a_table_has_straight_columns_and_no_trailing_space() {
        let rows = vec![vec!["é".into(), "1".into()], vec!["longer".into(), String::new()]];
        assert_eq!(table(&["KEY", "N"], &rows), "KEY     N\né       1\nlonger");
    }
}
