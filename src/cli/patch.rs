//! `tombolo patch`: a part of a document.

use super::{
    args::{Patch, PatchType, Voice},
    client::{Call, Client},
    output,
};
use hyper::Method;

/// Runs the command.
pub(crate) async fn run(client: &Client, line: &Patch, voice: Voice) -> anyhow::Result<()> {
    let kind = match line.r#type {
        PatchType::Merge => "application/merge-patch+json",
        PatchType::Json => "application/json-patch+json",
    };
    let call = Call::document(Method::PATCH, &line.document).header("content-type", kind)?;
    let reply = client.call(call.body(output::body(&line.file)?)).await?;
    output::written(&reply, voice.format())
}
