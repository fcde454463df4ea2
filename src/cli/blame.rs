//! `tombolo blame`: which change set each value that a document shows.

use super::{
    args::{Blame, Voice},
    client::{Call, Client},
    listing::{Listing, pages},
    output,
};
use hyper::Method;
use serde::Deserialize;
use std::ops::ControlFlow;

/// Runs the command.
pub(crate) async fn run(client: &Client, line: &Blame, voice: Voice) -> anyhow::Result<()> {
    let head = &["PATH", "TIME", "CHANGE", "ACTOR", "MESSAGE"];
    let mut list = Listing::new(voice.format(), head);
    let call = || {
        let call = Call::below(Method::GET, &line.document, "_blame").query("limit", "1000");
        match &line.path {
            Some(path) => call.query("path", &path.to_string()),
            None => call,
        }
    };
    pages(client, call, "leaves", |leaf| {
        list.row(leaf, |leaf: Leaf| {
            vec![
                output::shown(&leaf.path),
                output::time(leaf.time),
                output::short(&leaf.change),
                output::short(&leaf.actor),
                output::shown(&leaf.message.unwrap_or_default()),
            ]
        })?;
        Ok(ControlFlow::Continue(()))
    })
    .await?;
    list.end()
}

#[derive(Deserialize)]
struct Leaf {
    path: String,
    change: String,
    actor: String,
    time: i64,
    message: Option<String>,
}
