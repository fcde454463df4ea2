//! How soon a node with many documents takes requests.

use super::{
    directory::build,
    row::{Bar, Row, median},
    scratch::Scratch,
    server::Server,
};

const DOCUMENTS: u64 = 1_000_000;
const STARTS: usize = 3;

/// From the start of the process to the line that says that it listens. The node is killed each time,
/// and what it reads is in the kernel's cache.
pub(crate) fn ready() -> Vec<Row> {
    eprintln!("ready: writing {DOCUMENTS} documents");
    let scratch = Scratch::new();
    let data = scratch.path("data");
    drop(build(&data, DOCUMENTS, |number| format!(r#"{{"n":{number}}}"#)));
    let start = |start| {
        let server = Server::tombolo(&data);
        eprintln!("ready: start {} of {STARTS}: {:?}", start + 1, server.ready());
        server.ready().as_secs_f64()
    };
    let seconds = median((0..STARTS).map(start));
    vec![Row::alone("ready with 1,000,000 documents", "s", seconds).bar(Bar::at_most(2.0))]
}
