//! What two nodes say to each other that hold nearly the same, and of which neither knows how far it
//! has heard of the other.

use super::{
    cluster::{
        Messages, copy_directory, documents, free_address, in_sync, is_up, messages, peers, until,
    },
    directory::build,
    load::load_all,
    request::Requests,
    requests::CONNECTIONS,
    row::{Bar, Row},
    scratch::Scratch,
    server::{Launch, Server},
};
use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

const DOCUMENTS: u64 = 1_000_000;
/// New documents of each node begin here.
const FIRST: [u64; 2] = [10_000_000, 20_000_000];
/// How many documents lie between those that the first node patches and those of the second.
const APART: u64 = 5_000;

/// What is written apart, on either side.
#[derive(Debug)]
pub(crate) struct Differences {
    pub(crate) patched: [u64; 2],
    pub(crate) made: [u64; 2],
}

/// What it took to become equal.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) messages: Messages,
    /// From the moment at which the second node listens.
    time: Duration,
}

/// Of a directory and a copy of it: writes something on each of them apart, then has them meet and
/// become equal. Both are told of each other.
pub(crate) fn join(data: [&Path; 2], differences: &Differences) -> Joined {
    let mut held = 0;
    for (side, directory) in data.into_iter().enumerate() {
        let launch = Launch { new_node: side == 1, ..Launch::default() };
        let node = Server::with(directory, &launch);
        let first = side as u64 * APART;
        let keys = Requests::patch_keys(u8::try_from(side).unwrap(), move |key| first + key);
        load_all(node.address(), CONNECTIONS, &mut keys.only(differences.patched[side]));
        let mut puts = Requests::put(FIRST[side]).only(differences.made[side]);
        load_all(node.address(), CONNECTIONS, &mut puts);
        node.rest();
        held = documents(&node);
    }
    let addresses = [free_address(), free_address()];
    let start = |side: usize| {
        let peers = vec![(addresses[1 - side], "both")];
        Server::with(data[side], &Launch { listen: addresses[side], peers, new_node: false })
    };
    let nodes = [start(0), start(1)];
    let both = [&nodes[0], &nodes[1]];
    let start = Instant::now();
    until("two nodes meet", || both.iter().all(|node| is_up(node)));
    let all = held + differences.made[0];
    until("what was made comes", || both.iter().all(|node| documents(node) == all));
    let known = |node: &&Server| peers(node).iter().all(|peer| peer.lag_documents == 0);
    until("both are equal", || both.iter().all(|node| in_sync(node)) && both.iter().all(known));
    let joined = Joined { messages: messages(&both), time: start.elapsed() };
    eprintln!("{joined:?}");
    joined
}

/// A million documents on each of two nodes, of which a hundred differ.
pub(crate) fn lost() -> Vec<Row> {
    let scratch = Scratch::new();
    let [one, two] = ["one", "two"].map(|name| scratch.path(name));
    eprintln!("lost: writing {DOCUMENTS} documents");
    drop(build(&one, DOCUMENTS, |number| format!(r#"{{"n":{number}}}"#)));
    copy_directory(&one, &two);
    thread::sleep(Duration::from_secs(1));
    let joined = join([&one, &two], &Differences { patched: [25, 25], made: [25, 25] });
    let (all, documents) = (joined.messages.all(), joined.messages.of(&["docs", "push"]));
    let before = all - documents;
    // One after the other: each is a trip.
    let trips = joined.messages.of(&["sketch", "docs"]).requests;
    let what = "lost cursors, 100 of 1,000,000 documents differ";
    vec![
        Row::alone(format!("{what}: trips until who asks has all"), "", trips)
            .bar(Bar::at_most(2.0)),
        Row::alone(format!("{what}: bytes beside documents"), "B", before.bytes)
            .bar(Bar::at_most(10_000.0)),
        Row::alone(format!("{what}: bytes of documents"), "B", documents.bytes),
        Row::alone(format!("{what}: requests"), "", all.requests),
        Row::alone(format!("{what}: until both are equal"), "s", joined.time.as_secs_f64()),
    ]
}
