//! Repairing a closed store: the part that knows what changes make.

use super::Ambient;
use crate::{
    doc::{Actor, Document, Form},
    ident::Collection,
    store::{self, Engine, EngineError, Mended, Remade, Repair, Repaired},
};
use bytes::Bytes;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Makes what can be read of `source` sound in `target`, an engine that holds nothing; without one it
/// only tells what it would do. `collections`: names that there may have been, should they be lost.
///
/// # Errors
/// The target could not be written.
pub fn repair(
    source: &dyn Engine,
    target: Option<&dyn Engine>,
    ambient: &Ambient,
    collections: &[Collection],
    told: &mut dyn FnMut(Mended),
) -> Result<Repaired, EngineError> {
    store::repair(Repair {
        source,
        target,
        node: ambient.node_id(),
        collections,
        remake: &|chunks| {
            let remade = catch_unwind(AssertUnwindSafe(|| remake(chunks)));
            remade.unwrap_or_else(|_| Err("loading it panics".to_owned()))
        },
        told,
    })
}

fn remake(chunks: &[Bytes]) -> Result<Remade, String> {
    let chunks = chunks.iter().map(|chunk| &chunk[..]);
    let document = Document::recover(chunks, Actor([0; 16])).map_err(|why| why.to_string())?;
    let rendering = document.render(Form::Plain, None).map_err(|why| why.to_string())?;
    Ok(Remade {
        version: document.version(),
        deleted: document.is_deleted(),
        conflicts: rendering.conflicts,
        json: rendering.json.map(Bytes::from),
        standing: document.standing().into(),
        changes: u32::try_from(document.change_count()).unwrap_or(u32::MAX),
    })
}
