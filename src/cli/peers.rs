//! `tombolo peers`: the nodes with which one replicates, and how each fares.

use super::{
    args::{AtNode, Format, Voice},
    client::{Call, Client},
    output,
};
use anyhow::Context;
use hyper::Method;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Runs the command.
pub(crate) async fn run(client: &Client, _: &AtNode, voice: Voice) -> anyhow::Result<()> {
    let reply = client.call(Call::new(Method::GET, "/v1/_peers")).await?;
    let rows: Peers = serde_json::from_slice(&reply.body).context("the answer lists no peers")?;
    match voice.format() {
        Format::Json => output::data(&serde_json::to_vec(&rows.peers)?)?,
        Format::Ndjson => {
            for row in rows.peers {
                output::data(row.get().as_bytes())?;
            }
        }
        Format::Table => {
            let rows =
                rows.peers.iter().map(|row| Ok(serde_json::from_str::<Row>(row.get())?.cells()));
            let rows: Vec<Vec<String>> = rows.collect::<anyhow::Result<_>>()?;
            output::data(output::table(Row::HEAD, &rows).as_bytes())?;
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct Peers {
    peers: Vec<Box<RawValue>>,
}

/// What a table shows of a peer.
#[derive(Deserialize)]
struct Row {
    name: String,
    state: String,
    direction: String,
    lag_documents: u64,
    in_sync: Option<bool>,
    unsettled: Vec<serde::de::IgnoredAny>,
    last_error: Option<Failure>,
}

#[derive(Deserialize)]
struct Failure {
    code: String,
    detail: String,
}

impl Row {
    const HEAD: &[&str] =
        &["NAME", "STATE", "DIRECTION", "LAG", "IN SYNC", "UNSETTLED", "LAST ERROR"];

    fn cells(self) -> Vec<String> {
        let in_sync = match self.in_sync {
            Some(true) => "yes",
            Some(false) => "no",
            None => "?",
        };
        let error = self.last_error.map_or_else(String::new, |error| {
            output::shown(&format!("{}: {}", error.code, error.detail))
        });
        vec![
            output::shown(&self.name),
            self.state,
            self.direction,
            self.lag_documents.to_string(),
            in_sync.to_owned(),
            self.unsettled.len().to_string(),
            error,
        ]
    }
}
