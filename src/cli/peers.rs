//! `tombolo peers`: the nodes with which one replicates, and how each fares; one more, or one less.

use super::{
    args::{self, Format, NewPeer, Roster, Voice},
    client::{self, Call, Client},
    cluster::Way,
    output,
};
use crate::ident::PeerName;
use anyhow::Context;
use hyper::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Runs the command.
pub(crate) async fn run(client: &Client, line: &args::Peers, voice: Voice) -> anyhow::Result<()> {
    match &line.what {
        None => list(client, voice.format()).await,
        Some(Roster::Add(peer)) => add(client, peer, voice.format()).await,
        Some(Roster::Rm { name }) => {
            client.call(Call::new(Method::DELETE, path(name))).await?;
            if !voice.quiet {
                output::talk(&format!("removed {name}"));
            }
            Ok(())
        }
    }
}

fn path(name: &PeerName) -> String {
    format!("/v1/_peers/{}", client::encode(name.as_str()))
}

/// What a node is told of a peer.
#[derive(Serialize)]
struct Wanted<'a> {
    url: String,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    collections: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    direction: Option<Way>,
}

async fn add(client: &Client, peer: &NewPeer, format: Format) -> anyhow::Result<()> {
    let NewPeer { name, at, collections, direction } = peer;
    let wanted = Wanted { url: at.to_string(), collections, direction: *direction };
    let call = Call::new(Method::PUT, path(name)).body(serde_json::to_vec(&wanted)?);
    let reply = client.call(call).await?;
    if format != Format::Table {
        return Ok(output::data(&reply.body)?);
    }
    let what = if reply.status == StatusCode::CREATED { "added" } else { "set" };
    Ok(output::data(format!("{what} {name} {at}").as_bytes())?)
}

async fn list(client: &Client, format: Format) -> anyhow::Result<()> {
    let reply = client.call(Call::new(Method::GET, "/v1/_peers")).await?;
    let rows: Peers = serde_json::from_slice(&reply.body).context("the answer lists no peers")?;
    match format {
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
    unsettled_count: u64,
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
        // What is over is no trouble.
        let error = self.last_error.filter(|_| self.state != "up");
        let error = error.map_or_else(String::new, |error| {
            output::shown(&format!("{}: {}", error.code, error.detail))
        });
        vec![
            output::shown(&self.name),
            self.state,
            self.direction,
            self.lag_documents.to_string(),
            in_sync.to_owned(),
            self.unsettled_count.to_string(),
            error,
        ]
    }
}
