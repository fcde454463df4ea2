//! How soon many documents are in: the command `import`, to the last answer.

use super::{
    directory::{ACTOR, parse},
    order::Orders,
    rounds::{Side, alternate, pair},
    row::{Bar, Row},
    scratch::Scratch,
    server::Server,
};
use std::{
    fs,
    hint::black_box,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Instant,
};
use tombolo::doc::{Document, Edit, Limits, Stamp};

const DOCUMENTS: u32 = 100_000;
/// Each imports anew.
const ROUNDS: usize = 3;
const THREADS: usize = 2;

/// A file of orders with keys, into an empty node, durable. The floor is what no import can do
/// without: each row parsed, made a document and saved as bytes, on two threads, and none of it kept.
pub(crate) fn import() -> Vec<Row> {
    let scratch = Scratch::new();
    let file = scratch.path("orders.ndjson");
    let mut orders = Orders::new();
    let order = |number| orders.order(number, &format!(r#""id":"doc-{number:010}","#));
    let rows: Vec<String> = (0..u64::from(DOCUMENTS)).map(order).collect();
    fs::write(&file, rows.join("\n")).unwrap();
    let rounds = alternate("import", ROUNDS, |side| match side {
        Side::Ours => {
            let scratch = Scratch::new();
            let server = Server::tombolo(&scratch.path("data"));
            seconds(|| run(&server, &file))
        }
        Side::Floor => seconds(|| make(&rows)),
    });
    let rate = pair(&rounds, |seconds| f64::from(DOCUMENTS) / seconds);
    let row = Row::pair("import of 100,000 documents, durable", "/s", rate);
    let row = row.bar(Bar::at_least(15_000.0).aim(25_000.0)).bar(Bar::ratio_at_least(0.6));
    vec![row, Row::pair("import of 100,000 documents", "s", pair(&rounds, |seconds| *seconds))]
}

fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

fn run(server: &Server, file: &Path) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tombolo"));
    command.env_clear().args(["import", "bench", "--key", "id", "--url"]);
    command.arg(format!("http://{}", server.address())).arg(file);
    let status = command.stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "the import failed");
}

fn make(rows: &[String]) {
    thread::scope(|scope| {
        for part in rows.chunks(rows.len().div_ceil(THREADS)) {
            scope.spawn(move || {
                for row in part {
                    let mut document = Document::new(ACTOR);
                    let put = Edit::Put(parse(row));
                    let made = document.edit(&put, None, &Stamp::default(), &Limits::default());
                    black_box((made.unwrap(), document.save()));
                }
            });
        }
    });
}
