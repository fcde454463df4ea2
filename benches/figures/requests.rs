//! GET, PUT and PATCH over HTTP, each against the bare handler.

use super::{
    bare,
    load::{Load, load, load_all},
    request::Requests,
    rounds::{ROUNDS, Side, alternate, pair},
    row::{Bar, Row},
    scratch::Scratch,
    server::Server,
};
use std::time::Duration;

pub(crate) const CONNECTIONS: usize = 32;
const ROUND: Duration = Duration::from_millis(2_000);
const WARMING: Duration = Duration::from_millis(500);

/// GET of documents that were written before.
pub(crate) fn get() -> Vec<Row> {
    let both = Both::start();
    both.fill();
    let rounds = both.compare("get", || Requests::get(bare::DOCUMENTS));
    let rate = Row::pair("GET, 32 connections", "/s", pair(&rounds, |round| round.load.rate()));
    let rate = rate.bar(Bar::ratio_at_least(0.7).aim(0.85));
    [vec![rate, cpu("GET", &rounds)], latencies("GET", &rounds)].concat()
}

/// Durable PUTs of new documents.
pub(crate) fn put() -> Vec<Row> {
    let mut first = 0;
    let rounds = Both::start().compare("put", || {
        // No round comes near to so many.
        first += 10_000_000;
        Requests::put(first)
    });
    written("PUT", "of new documents", &rounds)
}

/// Durable merge patches of one field.
pub(crate) fn patch() -> Vec<Row> {
    let both = Both::start();
    both.fill();
    let mut salt = 0;
    let rounds = both.compare("patch", || {
        // No round gives a document the value that it has.
        salt += 1;
        Requests::patch(bare::DOCUMENTS, salt)
    });
    written("PATCH", "of one field of 2,000 documents", &rounds)
}

/// The node and its floor, both running.
struct Both {
    ours: Server,
    floor: Server,
    /// Removed after the server that uses it has ended.
    _scratch: Scratch,
}

/// One round of one side.
struct Round {
    load: Load,
    /// Microseconds of the server's CPU for each request.
    cpu: f64,
}

impl Both {
    fn start() -> Self {
        let scratch = Scratch::new();
        let ours = Server::tombolo(&scratch.path("data"));
        Self { ours, floor: Server::bare(), _scratch: scratch }
    }

    /// Writes the documents that are read or patched.
    fn fill(&self) {
        let mut puts = Requests::put(0).only(bare::DOCUMENTS);
        load_all(self.ours.address(), CONNECTIONS, &mut puts);
        self.ours.rest();
    }

    fn compare(&self, what: &str, mut requests: impl FnMut() -> Requests) -> Vec<(Round, Round)> {
        for server in [&self.ours, &self.floor] {
            load(server.address(), CONNECTIONS, WARMING, &mut requests());
        }
        alternate(what, ROUNDS, |side| {
            let server = match side {
                Side::Ours => &self.ours,
                Side::Floor => &self.floor,
            };
            let mut requests = requests();
            let before = server.cpu();
            let load = load(server.address(), CONNECTIONS, ROUND, &mut requests);
            let cpu = 1e6 * (server.cpu() - before).as_secs_f64() / load.count();
            Round { load, cpu }
        })
    }
}

fn written(verb: &str, what: &str, rounds: &[(Round, Round)]) -> Vec<Row> {
    let figure = format!("durable {verb} {what}, 32 connections");
    let rate = Row::pair(figure, "/s", pair(rounds, |round| round.load.rate()));
    let rate = rate.bar(Bar::at_least(10_000.0)).bar(Bar::ratio_at_least(0.1).aim(0.2));
    let cpu = cpu(verb, rounds).bar(Bar::at_most(150.0).aim(100.0));
    [vec![rate, cpu], latencies(verb, rounds)].concat()
}

fn cpu(verb: &str, rounds: &[(Round, Round)]) -> Row {
    Row::pair(format!("{verb}: server CPU each"), "µs", pair(rounds, |round| round.cpu))
}

fn latencies(verb: &str, rounds: &[(Round, Round)]) -> Vec<Row> {
    let row = |percent| {
        let latency = pair(rounds, |round| round.load.percentile(percent));
        Row::pair(format!("{verb}: latency p{percent}"), "ms", latency)
    };
    vec![row(50), row(99)]
}
