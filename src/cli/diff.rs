//! `tombolo diff`: the JSON Patch from one version of a document to another.

use super::{
    args::{Diff, Format, Voice},
    client::{Call, Client},
    listing::Listing,
    output,
};
use anyhow::Context;
use hyper::Method;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Runs the command.
pub(crate) async fn run(client: &Client, line: &Diff, voice: Voice) -> anyhow::Result<()> {
    let mut call =
        Call::below(Method::GET, &line.document, "_diff").query("from", &line.from.to_string());
    if let Some(to) = &line.to {
        call = call.query("to", &to.to_string());
    }
    let reply = client.call(call).await?;
    if voice.format() == Format::Json {
        return Ok(output::data(&reply.body)?);
    }
    let operations: Vec<&RawValue> =
        serde_json::from_slice(&reply.body).context("the answer is no patch")?;
    let mut list = Listing::new(voice.format(), &["OP", "PATH", "VALUE"]);
    for operation in operations {
        list.row(operation.get().as_bytes(), |operation: Operation<'_>| {
            let value = operation.value.map(RawValue::get).unwrap_or_default();
            vec![operation.op, output::shown(&operation.path), value.to_owned()]
        })?;
    }
    list.end()
}

#[derive(Deserialize)]
struct Operation<'j> {
    op: String,
    path: String,
    #[serde(borrow)]
    value: Option<&'j RawValue>,
}
