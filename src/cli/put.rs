//! `tombolo put`: a whole document, merged or on a condition.

use super::{
    args::{Expected, Put, Voice},
    client::{Call, Client},
    output,
};
use hyper::Method;

/// Runs the command.
pub(crate) async fn run(client: &Client, line: &Put, voice: Voice) -> anyhow::Result<()> {
    let kind = if line.typed { "application/vnd.tombolo.typed+json" } else { "application/json" };
    let mut call = Call::document(Method::PUT, &line.document).header("content-type", kind)?;
    if let Some(parents) = &line.parents {
        let hashes = parents.hashes().iter().map(|hash| format!("\"{hash}\""));
        call = call.header("parents", &hashes.collect::<Vec<_>>().join(", "))?;
    }
    match &line.if_match {
        None => {}
        Some(Expected::Exists) => call = call.header("if-match", "*")?,
        Some(Expected::Version(version)) => {
            call = call.header("if-match", &format!("\"{version}\""))?;
        }
    }
    let reply = client.call(call.body(output::body(&line.file)?)).await?;
    output::written(&reply, voice.format())
}
