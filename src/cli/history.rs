//! `tombolo history`: what each change of a document did, the latest first.

use super::{
    args::{History, Voice},
    client::{Call, Client},
    listing::{Listing, pages},
    output,
};
use hyper::Method;
use serde::Deserialize;
use std::ops::ControlFlow;

/// Runs the command.
pub(crate) async fn run(client: &Client, line: &History, voice: Voice) -> anyhow::Result<()> {
    let head = &["TIME", "CHANGE", "ACTOR", "DID", "MESSAGE"];
    let mut list = Listing::new(voice.format(), head);
    let mut left = line.limit.unwrap_or(usize::MAX);
    let call = || Call::below(Method::GET, &line.document, "_history");
    pages(client, call, "changes", |change| {
        left -= 1;
        list.row(change, Change::cells)?;
        Ok(if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })
    .await?;
    list.end()
}

#[derive(Deserialize)]
struct Change {
    hash: String,
    actor: String,
    time: i64,
    message: Option<String>,
    operations: Vec<Operation>,
    operations_total: usize,
}

#[derive(Deserialize)]
struct Operation {
    op: String,
    path: String,
}

impl Change {
    fn cells(self) -> Vec<String> {
        let first = self.operations.first();
        let mut did = first.map_or_else(String::new, |one| {
            let place = if one.path.is_empty() { "whole" } else { &one.path };
            format!("{} {}", one.op, output::shown(place))
        });
        if 1 < self.operations_total {
            did += &format!(", {} more", self.operations_total - 1);
        }
        vec![
            output::time(self.time),
            output::short(&self.hash),
            output::short(&self.actor),
            did,
            output::shown(&self.message.unwrap_or_default()),
        ]
    }
}
