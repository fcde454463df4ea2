//! `tombolo backup`: has a running node make a backup.

use super::{
    args::{Backup, Format, Remote, Voice},
    client::{Call, Client},
    config::Config,
    failure::Failure,
    output, socket,
};
use anyhow::Context;
use hyper::Method;
use serde::Deserialize;
use serde_json::json;
use tokio::time::timeout;

/// Runs the command.
pub(crate) async fn run(line: &Backup, voice: Voice) -> anyhow::Result<()> {
    let answer = match &line.url {
        Some(url) => {
            let (url, token, timeout) = (url.clone(), line.token.clone(), line.timeout);
            let client = Client::new(&Remote { url, token, timeout }, 0 < voice.verbose)?;
            let body = serde_json::to_vec(&json!({ "directory": line.directory }))?;
            let call = Call::new(Method::POST, "/v1/_backup").body(body);
            client.call(call.header("content-type", "application/json")?).await?.body
        }
        None => {
            let data = match &line.data {
                Some(data) => data.clone(),
                None => Config::load(&super::args::Serve::default())?.data,
            };
            // The node may stand in another directory than who asks.
            let directory = std::path::absolute(&line.directory)?;
            let body = serde_json::to_vec(&json!({ "directory": directory }))?;
            let socket = socket::path(&data);
            let asked = socket::post(&socket, "/v1/_backup", body);
            let late = |_| Failure::Unreachable("the backup takes too long (--timeout)".into());
            timeout(line.timeout, asked).await.map_err(late)??
        }
    };
    match voice.format() {
        Format::Json | Format::Ndjson => output::data(&answer)?,
        Format::Table => {
            let made: Made = serde_json::from_slice(&answer).context("the answer is no backup")?;
            let Made { directory, last_seq } = made;
            output::data(format!("backed up to {directory}, up to commit {last_seq}").as_bytes())?;
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct Made {
    directory: String,
    last_seq: u64,
}
