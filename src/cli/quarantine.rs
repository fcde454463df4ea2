//! `tombolo quarantine`: what does not load, or broke what took it in.

use super::{
    args::{Format, Quarantine, Voice, Ward},
    client::{Call, Client},
    listing::{Listing, pages},
    output,
};
use crate::ident::QuarantineId;
use anyhow::Context;
use hyper::Method;
use serde::Deserialize;
use std::{
    fs::File,
    io::{self, Write},
    ops::ControlFlow,
    path::Path,
};

/// Runs the command.
pub(crate) async fn run(client: &Client, line: &Quarantine, voice: Voice) -> anyhow::Result<()> {
    match &line.what {
        Ward::Ls => ls(client, voice.format()).await,
        Ward::Show { id, out } => show(client, *id, out.as_deref()).await,
        Ward::Release { id } => release(client, *id, voice.format()).await,
        Ward::Drop { id } => {
            client.call(Call::new(Method::DELETE, path(*id))).await?;
            if !voice.quiet {
                output::talk(&format!("dropped {id}"));
            }
            Ok(())
        }
    }
}

fn path(id: QuarantineId) -> String {
    format!("/v1/_quarantine/{id}")
}

async fn ls(client: &Client, format: Format) -> anyhow::Result<()> {
    let mut list = Listing::new(format, &["ID", "KIND", "SINCE", "BYTES", "DOCUMENT", "REASON"]);
    let call = || Call::new(Method::GET, "/v1/_quarantine").query("limit", "1000");
    pages(client, call, "quarantined", |row| {
        list.row(row, Row::cells)?;
        Ok(ControlFlow::Continue(()))
    })
    .await?;
    list.end()
}

#[derive(Deserialize)]
struct Row {
    id: String,
    kind: String,
    collection: Option<String>,
    key: Option<String>,
    reason: String,
    time: Option<i64>,
    bytes: u64,
}

impl Row {
    fn cells(self) -> Vec<String> {
        let name = self.collection.zip(self.key);
        vec![
            self.id,
            self.kind,
            self.time.map(output::time).unwrap_or_default(),
            self.bytes.to_string(),
            name.map(|(collection, key)| output::shown(&format!("{collection}/{key}")))
                .unwrap_or_default(),
            output::shown(&self.reason),
        ]
    }
}

/// The bytes, as they are kept.
async fn show(client: &Client, id: QuarantineId, out: Option<&Path>) -> anyhow::Result<()> {
    let reply = client.call(Call::new(Method::GET, path(id))).await?;
    match out {
        Some(file) => {
            let place = || file.display().to_string();
            let mut new = File::create_new(file).with_context(place)?;
            new.write_all(&reply.body).with_context(place)?;
        }
        None => {
            let mut out = io::stdout().lock();
            out.write_all(&reply.body)?;
            out.flush()?;
        }
    }
    Ok(())
}

async fn release(client: &Client, id: QuarantineId, format: Format) -> anyhow::Result<()> {
    let call = Call::new(Method::POST, format!("{}/_release", path(id)));
    let reply = client.call(call).await?;
    if format != Format::Table {
        return Ok(output::data(&reply.body)?);
    }
    let done: Released =
        serde_json::from_slice(&reply.body).context("the answer does not say what was done")?;
    let lost = match done.lost {
        0 => "whole".to_owned(),
        lost => format!("without {lost} pieces that cannot be read"),
    };
    let Released { collection, key, version, .. } = done;
    let text = format!("released {collection} {key}, {lost}\nversion {}", version.join("."));
    Ok(output::data(text.as_bytes())?)
}

#[derive(Deserialize)]
struct Released {
    collection: String,
    key: String,
    version: Vec<String>,
    lost: usize,
}
