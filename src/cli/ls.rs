//! `tombolo ls`: the collections, or the documents of one.

use super::{
    args::{Format, Ls, Voice},
    client::{Call, Client},
    listing::Listing,
    output,
};
use crate::ident::Collection;
use anyhow::Context;
use hyper::Method;
use serde::{Deserialize, Serialize};

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
    let mut list = Listing::new(format, Row::HEAD);
    let mut rest = Vec::new();
    while let Some(bytes) = client.next(&mut body).await? {
        rest.extend_from_slice(&bytes);
        let whole = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        for line in rest[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            list.row(line, Row::cells)?;
        }
        rest.drain(..whole);
    }
    list.end()
}

/// A document in a list, without its value.
#[derive(Deserialize)]
pub(crate) struct Row {
    key: String,
    version: Vec<String>,
    pub(crate) conflicts: u32,
}

impl Row {
    /// The columns of a table of these.
    pub(crate) const HEAD: &[&str] = &["KEY", "CONFLICTS", "VERSION"];

    pub(crate) fn cells(self) -> Vec<String> {
        vec![self.key, self.conflicts.to_string(), self.version.join(".")]
    }
}
