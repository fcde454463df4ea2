//! `tombolo status`: what a node holds and how it fares.

use super::{
    args::{AtNode, Format, Voice},
    client::{Call, Client},
    output,
};
use anyhow::Context;
use hyper::Method;
use serde_json::{Map, Value};

/// Runs the command.
pub(crate) async fn run(client: &Client, _: &AtNode, voice: Voice) -> anyhow::Result<()> {
    let reply = client.call(Call::new(Method::GET, "/v1/_status")).await?;
    match voice.format() {
        Format::Json | Format::Ndjson => output::data(&reply.body)?,
        Format::Table => {
            let status: Map<String, Value> =
                serde_json::from_slice(&reply.body).context("the answer is no status")?;
            let mut rows = Vec::new();
            lines(&mut rows, "", &status);
            output::data(output::table(&["WHAT", "VALUE"], &rows).as_bytes())?;
        }
    }
    Ok(())
}

/// One line for each value, named by the way to it.
fn lines(rows: &mut Vec<Vec<String>>, before: &str, members: &Map<String, Value>) {
    for (name, value) in members {
        let name = format!("{before}{name}");
        match value {
            Value::Object(members) => lines(rows, &format!("{name}."), members),
            Value::String(text) => rows.push(vec![name, output::shown(text)]),
            Value::Null => rows.push(vec![name, "-".to_owned()]),
            other => rows.push(vec![name, other.to_string()]),
        }
    }
}
