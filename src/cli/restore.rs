//! `tombolo restore`: makes a data directory of a backup.

use super::{
    args::{Format, Restore, Voice},
    folder, output,
};
use crate::{
    node::Ambient,
    store::{RocksOptions, restore},
};
use serde::Serialize;

/// Runs the command.
pub(crate) fn run(line: &Restore, voice: Voice) -> anyhow::Result<()> {
    let options = RocksOptions { blocks_bytes: folder::BLOCKS_BYTES };
    let new_node = line.new_node.then(|| Ambient::machine().node_id());
    let backup = restore(&line.from, &line.data, options, new_node)?;
    let node = new_node.unwrap_or(backup.node).to_string();
    let data = line.data.display().to_string();
    match voice.format() {
        Format::Table => {
            let text = format!("restored {data}, up to commit {}, node {node}", backup.last_seq);
            output::data(text.as_bytes())?;
        }
        Format::Json | Format::Ndjson => {
            let done = Done { data, node, last_seq: backup.last_seq, unix_ms: backup.unix_ms };
            output::data(&serde_json::to_vec(&done)?)?;
        }
    }
    Ok(())
}

#[derive(Serialize)]
struct Done {
    data: String,
    node: String,
    last_seq: u64,
    unix_ms: u64,
}
