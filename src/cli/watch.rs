//! `tombolo watch`: documents as they are committed, until it is ended.

use super::{
    args::{Format, Voice, Watch},
    client::{Call, Client},
    failure::Failure,
    output,
};
use anyhow::Context;
use bytes::BytesMut;
use hyper::Method;
use serde::Deserialize;
use std::time::Duration;

/// The pauses between tries to reach a node again.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Runs the command. A node that was reached once is waited for; one that refuses is not.
pub(crate) async fn run(client: &Client, line: &Watch, voice: Voice) -> anyhow::Result<()> {
    let mut since = line.since.clone();
    let (mut pause, mut reached) = (PAUSE_MIN, false);
    loop {
        let mut heard = false;
        let ended = listen(client, line, voice.format(), &mut since, &mut heard).await;
        if heard {
            (pause, reached) = (PAUSE_MIN, true);
        }
        match ended {
            // A node that stops ends its streams.
            Ok(()) => {}
            Err(error) => match error.downcast_ref() {
                Some(Failure::Unreachable(why)) if reached => {
                    output::talk(&format!("tombolo: {why}"));
                }
                _ => return Err(error),
            },
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Listens until the stream ends. `since` goes along, so that the next stream goes on behind this one.
async fn listen(
    client: &Client,
    line: &Watch,
    format: Format,
    since: &mut String,
    heard: &mut bool,
) -> anyhow::Result<()> {
    let mut call =
        Call::new(Method::GET, "/v1/_changes").header("accept", "application/x-ndjson")?;
    if let Some(collection) = &line.collection {
        call = call.query("collection", collection.as_str());
    }
    if let Some(prefix) = &line.prefix {
        call = call.query("prefix", prefix);
    }
    if line.values {
        call = call.query("values", "true");
    }
    if since != "beginning" {
        // What comes between two streams is not to be missed: `now` is asked for once.
        if since == "now" {
            *since = now(client).await?;
        }
        call = call.query("since", since);
    }
    let mut body = client.open(call).await?.into_body();
    *heard = true;
    let mut rows = BytesMut::new();
    while let Some(piece) = client.next(&mut body).await? {
        rows.extend_from_slice(&piece);
        while let Some(end) = memchr::memchr(b'\n', &rows) {
            let row = rows.split_to(end + 1);
            let row = row.trim_ascii();
            // A blank line says that the node is there.
            if !row.is_empty() {
                let told: Row = serde_json::from_slice(row).context("a row that is none")?;
                match format {
                    Format::Json | Format::Ndjson => output::data(row)?,
                    Format::Table => output::data(told.to_text().as_bytes())?,
                }
                *since = told.cursor;
            }
        }
    }
    Ok(())
}

/// The cursor behind everything that there is.
async fn now(client: &Client) -> anyhow::Result<String> {
    let reply = client.call(Call::new(Method::GET, "/v1/_changes?since=now")).await?;
    let page: Page = serde_json::from_slice(&reply.body).context("the answer is no page")?;
    Ok(page.next)
}

#[derive(Deserialize)]
struct Page {
    next: String,
}

#[derive(Deserialize)]
struct Row {
    cursor: String,
    collection: String,
    key: String,
    version: Vec<String>,
    deleted: bool,
    conflicts: u64,
    value: Option<serde_json::Value>,
}

impl Row {
    fn to_text(&self) -> String {
        let heads: Vec<&str> =
            self.version.iter().map(|hash| hash.get(..8).unwrap_or(hash)).collect();
        let mut text = format!("{}/{}  {}", self.collection, self.key, heads.join("."));
        if self.deleted {
            text += "  deleted";
        }
        if self.conflicts != 0 {
            text += &format!("  {} conflicts", self.conflicts);
        }
        if let Some(value) = &self.value {
            text += &format!("  {value}");
        }
        text
    }
}
