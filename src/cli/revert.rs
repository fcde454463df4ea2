//! `tombolo revert`: a document as it was, by a new change.

use super::{
    args::{Revert, Voice},
    client::{Call, Client},
    output,
};
use hyper::Method;

/// Runs the command.
pub(crate) async fn run(client: &Client, line: &Revert, voice: Voice) -> anyhow::Result<()> {
    let body = serde_json::json!({ "to": line.version.to_string() }).to_string();
    let call = Call::below(Method::POST, &line.document, "_revert")
        .header("content-type", "application/json")?
        .body(body);
    output::written(&client.call(call).await?, voice.format())
}
