//! The same operations on CouchDB: its figures are from another day, not from this run.

use super::{
    disk,
    load::{load, load_all},
    request::{Bulk, Remembering, Requests, Updates},
    requests::CONNECTIONS,
    row::Row,
    scratch::Scratch,
    server::Server,
};
use std::time::Duration;

/// What the other column says.
pub(crate) const FLOOR: &str = "CouchDB 3.5.2";

const ROUND: Duration = Duration::from_secs(3);
/// Documents whose versions are known, and that are updated once each.
const KNOWN: u64 = 20_000;
/// Documents of one bulk write.
const BULK: u64 = 500;
const BULK_CONNECTIONS: usize = 4;

/// The same requests, each durable when it is answered, as it is there.
pub(crate) fn couchdb() -> Vec<Row> {
    let scratch = Scratch::new();
    let server = Server::tombolo(&scratch.path("data"));
    let address = server.address();
    let timed = |what: &str, connections, mut requests: Requests| {
        eprintln!("couchdb: {what}");
        load(address, connections, ROUND, &mut requests).rate()
    };
    let mut first = Remembering { requests: Requests::put(0).only(KNOWN), etags: Vec::new() };
    load_all(address, CONNECTIONS, &mut first);
    let put = timed("PUT", CONNECTIONS, Requests::put(10_000_000));
    let alone = timed("PUT, 1 connection", 1, Requests::put(20_000_000));
    let get = timed("GET", CONNECTIONS, Requests::get(KNOWN));
    eprintln!("couchdb: update");
    let update = load_all(address, CONNECTIONS, &mut Updates::new(0, &first.etags)).rate();
    eprintln!("couchdb: bulk");
    let mut bulk = Bulk::new(30_000_000, BULK);
    let bulk = load(address, BULK_CONNECTIONS, ROUND, &mut bulk).rate() * BULK as f64;
    vec![
        Row::beside("PUT new, 32 connections", "/s", put, 2_087.0),
        Row::beside("PUT new, 1 connection", "/s", alone, 339.0),
        Row::beside("GET, 32 connections", "/s", get, 4_374.0),
        Row::beside("PUT over a known version, 32 connections", "/s", update, 1_644.0),
        Row::beside("bulk writes of 500 documents, 4 connections", "/s", bulk, 13_800.0),
        Row::beside("bytes on disk per document, compacted", "B", disk::one_change().0, 920.0),
    ]
}
