//! How much is replicated while it is written.

use super::{
    cluster::{documents, is_up, peers, until},
    load::load,
    request::Requests,
    requests::CONNECTIONS,
    rounds::{Side, alternate, pair},
    row::{Bar, Pair, Row, median},
    scratch::Scratch,
    server::{Launch, Server},
};
use std::time::Duration;

const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_secs(5);
const WARMING: Duration = Duration::from_millis(500);

/// One round of one side.
#[derive(Debug, Default)]
struct Round {
    /// Documents a second that were written.
    written: f64,
    /// Documents a second that the peer had when the writers stopped.
    replicated: f64,
    /// Microseconds of CPU for each document that was written: the node's, and for each that was
    /// replicated, the peer's.
    cpu: [f64; 2],
    /// Seconds from there until the peer had all of them.
    behind: f64,
}

/// Durable PUTs of new documents to a node with a peer. The floor is the same node alone.
pub(crate) fn replicate() -> Vec<Row> {
    let rounds = alternate("replicate", ROUNDS, |side| {
        let round = match side {
            Side::Ours => with_peer(),
            Side::Floor => alone(),
        };
        eprintln!("{round:?}");
        round
    });
    let replicated = rounds.iter().map(|(ours, floor)| (ours.replicated, floor.written));
    let replicated = Pair::of(&replicated.collect::<Vec<_>>());
    let ours = |number: fn(&Round) -> f64| median(rounds.iter().map(|(ours, _)| number(ours)));
    vec![
        Row::pair("replicated beside durable PUTs, against PUTs alone", "/s", replicated)
            .bar(Bar::ratio_at_least(0.5)),
        Row::pair("durable PUTs to a node with a peer", "/s", pair(&rounds, |round| round.written)),
        Row::pair("PUT: CPU each of a node with a peer", "µs", pair(&rounds, |round| round.cpu[0])),
        Row::alone("PUT: CPU each of the peer", "µs", ours(|round| round.cpu[1])),
        Row::alone("until the peer has caught up after 5 s", "s", ours(|round| round.behind)),
    ]
}

fn alone() -> Round {
    let scratch = Scratch::new();
    let node = Server::tombolo(&scratch.path("node"));
    load(node.address(), CONNECTIONS, WARMING, &mut Requests::put(10_000_000));
    let before = node.cpu();
    let load = load(node.address(), CONNECTIONS, ROUND, &mut Requests::put(0));
    let cpu = 1e6 * (node.cpu() - before).as_secs_f64() / load.count();
    Round { written: load.rate(), cpu: [cpu, 0.0], ..Round::default() }
}

fn with_peer() -> Round {
    let scratch = Scratch::new();
    let peer = Server::tombolo(&scratch.path("peer"));
    let launch = Launch { peers: vec![(peer.address(), "both")], ..Launch::default() };
    let node = Server::with(&scratch.path("node"), &launch);
    until("two nodes meet", || is_up(&node));
    load(node.address(), CONNECTIONS, WARMING, &mut Requests::put(10_000_000));
    let caught_up = || documents(&peer) == documents(&node) && peers(&node)[0].lag_documents == 0;
    until("a peer catches up", caught_up);
    let (first, before) = (documents(&peer), [node.cpu(), peer.cpu()]);
    let load = load(node.address(), CONNECTIONS, ROUND, &mut Requests::put(0));
    let (replicated, after) = ((documents(&peer) - first) as f64, [node.cpu(), peer.cpu()]);
    let cpu = |side: usize, count: f64| 1e6 * (after[side] - before[side]).as_secs_f64() / count;
    Round {
        written: load.rate(),
        replicated: replicated / load.elapsed.as_secs_f64(),
        cpu: [cpu(0, load.count()), cpu(1, replicated)],
        behind: until("a peer catches up", caught_up).as_secs_f64(),
    }
}
