//! `tombolo conflicts`: the documents that hold any, or the places of one with all their values.

use super::{
    args::{Conflicts, Document, Format, Voice},
    client::{Call, Client},
    listing::{Listing, pages},
    ls::Row,
    output,
};
use crate::ident::Collection;
use hyper::Method;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::ops::ControlFlow;

/// Runs the command.
pub(crate) async fn run(client: &Client, line: &Conflicts, voice: Voice) -> anyhow::Result<()> {
    match &line.key {
        None => documents(client, &line.collection, voice.format()).await,
        Some(key) => {
            let document = Document { collection: line.collection.clone(), key: key.clone() };
            places(client, &document, voice.format()).await
        }
    }
}

async fn documents(client: &Client, collection: &Collection, format: Format) -> anyhow::Result<()> {
    let mut list = Listing::new(format, Row::HEAD);
    let call = || {
        let call = Call::new(Method::GET, format!("/v1/{collection}"));
        call.query("values", "false").query("limit", "1000")
    };
    pages(client, call, "documents", |row| {
        if serde_json::from_slice::<Row>(row)?.conflicts != 0 {
            list.row(row, Row::cells)?;
        }
        Ok(ControlFlow::Continue(()))
    })
    .await?;
    list.end()
}

/// In a table each value has a row, the one that shows first and marked.
async fn places(client: &Client, document: &Document, format: Format) -> anyhow::Result<()> {
    let mut list = Listing::new(format, &["PATH", "", "VALUE", "TIME", "CHANGE", "ACTOR"]);
    let call = || Call::below(Method::GET, document, "_conflicts").query("limit", "1000");
    pages(client, call, "conflicts", |place| {
        if format != Format::Table {
            list.row(place, |(): ()| Vec::new())?;
            return Ok(ControlFlow::Continue(()));
        }
        let Place { path, values } = serde_json::from_slice(place)?;
        for value in values {
            list.row(value.get().as_bytes(), |value: Value<'_>| {
                vec![
                    output::shown(&path),
                    if value.winner { "*" } else { "" }.to_owned(),
                    value.value.get().to_owned(),
                    output::time(value.time),
                    output::short(&value.change),
                    output::short(&value.actor),
                ]
            })?;
        }
        Ok(ControlFlow::Continue(()))
    })
    .await?;
    list.end()
}

#[derive(Deserialize)]
struct Place<'j> {
    path: String,
    #[serde(borrow)]
    values: Vec<&'j RawValue>,
}

#[derive(Deserialize)]
struct Value<'j> {
    #[serde(borrow)]
    value: &'j RawValue,
    change: String,
    actor: String,
    time: i64,
    winner: bool,
}
