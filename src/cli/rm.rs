//! `tombolo rm`: deletes a document.

use super::{
    args::{Rm, Voice},
    client::{Call, Client},
    output,
};
use hyper::Method;

/// Runs the command.
pub(crate) async fn run(client: &Client, line: &Rm, voice: Voice) -> anyhow::Result<()> {
    let reply = client.call(Call::document(Method::DELETE, &line.document)).await?;
    output::written(&reply, voice.format())
}
