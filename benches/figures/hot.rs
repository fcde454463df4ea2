//! Whether a document grows slower with its past.

use super::{
    load::{Load, load_all},
    order::Orders,
    request::{NUMBER, Requests},
    rounds::ROUNDS,
    row::{Bar, Pair, Row},
    scratch::Scratch,
    server::Server,
};

const CONNECTIONS: usize = 16;
const EDITS: usize = 10_000;
/// Edits of which the time is taken.
const STRETCH: usize = 1_000;

/// One document that all connections edit, another one in each round: the time of the last edits
/// against that of the first. A document that nobody counts warms the node.
pub(crate) fn hot() -> Vec<Row> {
    let scratch = Scratch::new();
    let server = Server::tombolo(&scratch.path("data"));
    let order = Orders::first(1).remove(0);
    let round = |round: u64| {
        eprintln!("hot: round {round} of {ROUNDS}");
        let address = server.address();
        load_all(address, 1, &mut Requests::put_one(&order, round));
        let patch = format!(r#"{{"counter":{NUMBER}}}"#);
        let mut patches = Requests::patch_with(&patch, move |_| round).only(EDITS as u64);
        let load = load_all(address, CONNECTIONS, &mut patches);
        (stretch(&load, EDITS), stretch(&load, STRETCH))
    };
    let rounds: Vec<_> = (0..=ROUNDS as u64).map(round).skip(1).collect();
    let figure = "hot document, 10,000 edits, 16 connections: last 1,000 against first";
    vec![Row::pair(figure, "ms", Pair::of(&rounds)).bar(Bar::ratio_at_most(1.5))]
}

/// Milliseconds of the edits before this one.
fn stretch(load: &Load, end: usize) -> f64 {
    let begin = if end == STRETCH { 0.0 } else { load.ends[end - STRETCH - 1].as_secs_f64() };
    1e3 * (load.ends[end - 1].as_secs_f64() - begin)
}
