//! Directories of many documents, made through the store itself: what a server finds at its start.

use super::server::CACHE_BYTES;
use bytes::Bytes;
use std::{
    path::Path,
    sync::{Arc, mpsc},
    thread,
};
use tombolo::{
    doc::{self, Actor, Document, Edit, Form, Limits, Stamp, Value},
    ident::{IncarnationId, Name, NodeId},
    node::{Precondition, Write},
    store::{
        Brings, Commit, Durability, Fresh, Log, NewView, Origin, Orphans, RocksEngine,
        RocksOptions, Store, Track,
    },
};

/// Documents of one batch.
const GROUP: usize = 1_000;
/// Threads that make documents, and batches that wait to be written.
const MAKERS: usize = 2;

/// Under which the node that writes here writes.
pub(crate) const ACTOR: Actor = Actor([7; 16]);

/// The ids of a store's first start.
pub(crate) fn fresh() -> Fresh {
    Fresh {
        node: NodeId::from_bytes([1; 16]),
        renewed: false,
        incarnation: IncarnationId::from_bytes([2; 16]),
    }
}

/// The engine as the servers run it.
pub(crate) fn engine(directory: &Path) -> Arc<RocksEngine> {
    Arc::new(RocksEngine::open(directory, RocksOptions { blocks_bytes: CACHE_BYTES }).unwrap())
}

/// The document of this number, as the requests name it.
pub(crate) fn name(number: u64) -> Name {
    Name::new("bench".parse().unwrap(), format!("doc-{number:010}").parse().unwrap()).unwrap()
}

/// JSON as the node reads it.
pub(crate) fn parse(json: &str) -> Value {
    doc::parse(json.as_bytes(), Form::Plain, &Limits::default()).unwrap()
}

/// An edit, as a request without conditions asks for it.
pub(crate) fn write(edit: Edit) -> Write {
    let precondition = Precondition::None;
    Write { edit, base: None, precondition, message: None, want: None, once: None }
}

/// What a PUT of a new document hands to the committer.
pub(crate) fn put(name: Name, json: &str) -> Commit {
    let mut document = Document::new(ACTOR);
    let stamp = Stamp { time_seconds: 1_800_000_000, message: None };
    let delta = document.edit(&Edit::Put(parse(json)), None, &stamp, &Limits::default()).unwrap();
    let view = document.render(Form::Plain, None).unwrap().json.unwrap();
    Commit {
        track: Arc::new(Track::absent(name)),
        log: Log::Append(
            delta.changes.into_iter().map(|change| (Origin::Own, Bytes::from(change))).collect(),
        ),
        brings: Brings::default().and(Origin::Own),
        version: delta.after,
        conflicts: 0,
        view: NewView::Made(Bytes::from(view)),
        standing: Bytes::new(),
        kept: Vec::new(),
        orphans: Orphans::default(),
        document_bytes_max: usize::MAX,
    }
}

/// Writes one change of each document, numbered from 0, and gives the engine, still open.
pub(crate) fn build(
    directory: &Path,
    documents: u64,
    json: impl Fn(u64) -> String + Sync,
) -> Arc<RocksEngine> {
    let engine = engine(directory);
    let durability = Durability::Relaxed;
    let (_, mut committer) = Store::open(engine.clone(), fresh(), durability).unwrap();
    let json = &json;
    thread::scope(|scope| {
        let (sender, groups) = mpsc::sync_channel(MAKERS);
        for maker in 0..MAKERS as u64 {
            let sender = sender.clone();
            scope.spawn(move || {
                let mut group = Vec::new();
                for number in (maker..documents).step_by(MAKERS) {
                    group.push(put(name(number), &json(number)));
                    if group.len() == GROUP {
                        sender.send(std::mem::take(&mut group)).unwrap();
                    }
                }
                sender.send(group).unwrap();
            });
        }
        drop(sender);
        for group in groups {
            let receipts = committer.write(group).unwrap();
            assert!(receipts.iter().all(Result::is_ok), "a document was refused");
        }
    });
    committer.sync().unwrap();
    engine
}
