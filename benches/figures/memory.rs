//! Whether memory grows with the number of documents.

use super::{
    directory::build,
    load::load_all,
    order::Orders,
    request::Requests,
    requests::CONNECTIONS,
    row::{Bar, Row},
    scratch::Scratch,
    server::Server,
};

const MANY: u64 = 200_000;
const FEW: u64 = 20_000;
const MIB: f64 = 1_048_576.0;

/// A fresh node patches each of its documents once.
pub(crate) fn memory() -> Vec<Row> {
    let (few, many) = (resident(FEW), resident(MANY));
    let row = Row::beside("resident memory, 200,000 patched against 20,000", "MiB", many, few);
    vec![row.bar(Bar::ratio_at_most(1.3))]
}

fn resident(documents: u64) -> f64 {
    eprintln!("memory: {documents} documents");
    let scratch = Scratch::new();
    let data = scratch.path("data");
    let orders = Orders::first(4_096);
    let order = |number: u64| orders[usize::try_from(number % 4_096).unwrap()].clone();
    drop(build(&data, documents, order));
    let server = Server::tombolo(&data);
    let mut patches = Requests::patch(documents, 0).only(documents);
    let load = load_all(server.address(), CONNECTIONS, &mut patches);
    eprintln!("memory: {:.0} patches a second", load.rate());
    server.rest();
    server.resident() / MIB
}
