//! How many bytes of disk a document takes, once all is in tables and compacted.

use super::{
    directory::{build, engine, name, parse, write},
    order::Orders,
    row::{Bar, Row},
    scratch::{self, Scratch},
    server::CACHE_BYTES,
};
use futures_util::future::join_all;
use std::{path::Path, sync::Arc, thread, time::Duration};
use tombolo::{
    doc::Edit,
    node::{Durability, Node, Options},
    store::RocksEngine,
};

/// Documents of one change.
const DOCUMENTS: u64 = 20_000;
/// Documents of many changes.
const BUSY: u64 = 200;
const CHANGES: u64 = 1_000;
const UPDATES: u64 = 1_200;
const KIB: f64 = 1024.0;

/// Bytes of the directory, against the documents' JSON.
pub(crate) fn disk() -> Vec<Row> {
    let (bytes, json) = one_change();
    let once = Row::beside("bytes on disk per 1 KB document, one change", "B", bytes, json);
    vec![once.bar(Bar::ratio_at_most(2.0)), many_changes(), small()]
}

/// Bytes on disk and of JSON of each document, of many that were written once.
pub(crate) fn one_change() -> (f64, f64) {
    eprintln!("disk: {DOCUMENTS} documents of one change");
    let scratch = Scratch::new();
    let data = scratch.path("data");
    let orders = Orders::first(DOCUMENTS);
    let engine = build(&data, DOCUMENTS, |number| orders[usize::try_from(number).unwrap()].clone());
    let each = |bytes: f64| bytes / DOCUMENTS as f64;
    (each(closed(engine, &data)), each(size(&orders)))
}

/// Each document is made by one writer, and changed by it a thousand times.
fn many_changes() -> Row {
    eprintln!("disk: {BUSY} documents of {CHANGES} changes");
    let scratch = Scratch::new();
    let data = scratch.path("data");
    let orders = Orders::first(BUSY);
    let bytes = written(&data, |node| async move {
        let orders = Orders::first(BUSY);
        let busy = (0..).zip(&orders).map(|(number, order)| {
            let node = node.clone();
            async move {
                let name = name(number);
                node.write(&name, write(Edit::Put(parse(order)))).await.unwrap();
                for change in 1..=CHANGES {
                    let patch = parse(&format!(r#"{{"counter":{}}}"#, number * CHANGES + change));
                    node.write(&name, write(Edit::MergePatch(patch))).await.unwrap();
                }
            }
        });
        join_all(busy).await;
    });
    let each = |bytes: f64| bytes / BUSY as f64;
    let figure = "bytes on disk per 1 KB document, after 1,000 small changes";
    let row = Row::beside(figure, "B", each(bytes), each(size(&orders)));
    row.bar(Bar::ratio_at_most(6.0))
}

/// The directory of one document of 10 bytes that is written over and over.
fn small() -> Row {
    eprintln!("disk: one document of {UPDATES} updates");
    let scratch = Scratch::new();
    let bytes = written(&scratch.path("data"), |node| async move {
        for update in 1_000..1_000 + UPDATES {
            let put = Edit::Put(parse(&format!(r#"{{"n":{update}}}"#)));
            node.write(&name(0), write(put)).await.unwrap();
        }
    });
    let row =
        Row::alone("bytes on disk of a 10-byte document after 1,200 updates", "KiB", bytes / KIB);
    row.bar(Bar::at_most(100.0))
}

/// Bytes of the directory of a node that did this and was stopped.
fn written<F: Future<Output = ()>>(data: &Path, work: impl FnOnce(Node) -> F) -> f64 {
    let engine = engine(data);
    let options = Options {
        durability: Durability::Relaxed,
        documents_bytes: CACHE_BYTES,
        ..Options::default()
    };
    let node = Node::start(options, engine.clone()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        work(node.clone()).await;
        node.stop().await;
    });
    drop(node);
    closed(engine, data)
}

/// Bytes of a directory, compacted and closed.
fn closed(engine: Arc<RocksEngine>, data: &Path) -> f64 {
    engine.compact().unwrap();
    // The threads of a node end a little after it has stopped.
    while 1 < Arc::strong_count(&engine) {
        thread::sleep(Duration::from_millis(10));
    }
    drop(engine);
    eprintln!("disk: {:?}", scratch::files(data));
    scratch::data_bytes(data)
}

fn size(documents: &[String]) -> f64 {
    documents.iter().map(|json| json.len() as f64).sum()
}
