//! What a small edit of a large document costs.

use super::{
    load::load_all,
    order,
    request::{NUMBER, Requests},
    row::{Bar, Row},
    scratch::Scratch,
    server::Server,
};

const EDITS: u64 = 1_000;

/// Patches of one field inside of a document of 1 MB, one after the other. What the node puts off is
/// waited for and counted.
pub(crate) fn large() -> Vec<Row> {
    let scratch = Scratch::new();
    let server = Server::tombolo(&scratch.path("data"));
    load_all(server.address(), 1, &mut Requests::put_one(&order::large(), 0));
    server.rest();
    eprintln!("large: {EDITS} edits");
    let (cpu, written) = (server.cpu(), server.written());
    let patch = format!(r#"{{"orders":{{"o0500":{{"counter":{NUMBER}}}}}}}"#);
    let mut patches = Requests::patch_with(&patch, |_| 0).only(EDITS);
    let load = load_all(server.address(), 1, &mut patches);
    server.rest();
    let cpu = 1e3 * (server.cpu() - cpu).as_secs_f64() / EDITS as f64;
    let written = (server.written() - written) / 1024.0 / EDITS as f64;
    vec![
        Row::alone("PATCH of one field of 1 MB: server CPU each", "ms", cpu).bar(Bar::at_most(2.0)),
        Row::alone("PATCH of one field of 1 MB: written each", "KiB", written)
            .bar(Bar::at_most(16.0)),
        Row::alone("PATCH of one field of 1 MB: latency p50", "ms", load.percentile(50)),
    ]
}
