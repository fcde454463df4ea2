//! `tombolo get`: a document, now or as it was.

use super::{
    args::{Format, Get, Voice},
    client::{Call, Client, Reply},
    output,
};
use anyhow::Context;
use hyper::Method;
use serde::Serialize;

const PLAIN: &str = "application/json";
const TYPED: &str = "application/vnd.tombolo.typed+json";

/// Runs the command.
pub(crate) async fn run(client: &Client, line: &Get, voice: Voice) -> anyhow::Result<()> {
    let accept = if line.typed { TYPED } else { PLAIN };
    let mut call = Call::document(Method::GET, &line.document).header("accept", accept)?;
    if let Some(at) = &line.at {
        call = call.query("at", &at.to_string());
    }
    let reply = client.call(call).await?;
    if line.meta {
        meta(line, &reply, voice.format())
    } else {
        output::json(&reply.body, voice.format())
    }
}

/// The document with what the header fields say of it.
fn meta(line: &Get, reply: &Reply, format: Format) -> anyhow::Result<()> {
    let field = |name: &str| {
        let value = reply.headers.get(name).and_then(|value| value.to_str().ok());
        value.with_context(|| format!("the answer has no field {name}"))
    };
    let version: Vec<&str> = field("version")?
        .split(',')
        .map(|hash| hash.trim().trim_matches('"'))
        .filter(|hash| !hash.is_empty())
        .collect();
    let meta = Meta {
        collection: line.document.collection.as_str(),
        key: line.document.key.as_str(),
        document: field("tombolo-document")?,
        version,
        conflicts: field("tombolo-conflicts")?.parse()?,
    };
    // The value goes out as it came: numbers keep their spelling.
    let mut bytes = serde_json::to_vec(&meta)?;
    bytes.pop();
    bytes.extend_from_slice(br#","value":"#);
    bytes.extend_from_slice(&reply.body);
    bytes.push(b'}');
    output::json(&bytes, format)
}

#[derive(Serialize)]
struct Meta<'a> {
    collection: &'a str,
    key: &'a str,
    document: &'a str,
    version: Vec<&'a str>,
    conflicts: u32,
}
