//! `tombolo version`: which one this is.

use super::{
    args::{Format, Voice},
    output,
};
use serde_json::json;

/// Runs the command.
pub(crate) fn run(voice: Voice) -> anyhow::Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let text = match voice.format() {
        Format::Table => format!("tombolo {version}"),
        Format::Json | Format::Ndjson => json!({"name": "tombolo", "version": version}).to_string(),
    };
    Ok(output::data(text.as_bytes())?)
}
