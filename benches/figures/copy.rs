//! The first copy: from a node with many documents into an empty one.

use super::{
    cluster::{Messages, documents, get, messages, until},
    directory::build,
    order::Orders,
    row::{Bar, Row, median},
    scratch::Scratch,
    server::{Launch, Server},
};
use std::{path::Path, thread, time::Duration};

const DOCUMENTS: u64 = 100_000;
/// Different documents.
const ORDERS: u64 = 4_096;
/// Each copies anew, both ways.
const ROUNDS: usize = 3;

/// Who asks whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// The full node tells the empty one.
    Push,
    /// The empty node asks the full one.
    Pull,
}

/// A copy that was made.
#[derive(Debug)]
pub(crate) struct Copied {
    /// From the moment at which the later node listens until the last document can be read.
    pub(crate) time: Duration,
    /// CPU of the full node, and of the one that was empty.
    cpu: [Duration; 2],
    pub(crate) messages: Messages,
    /// How often the empty node was asked how many documents it has.
    pub(crate) looks: u32,
}

/// A directory of so many orders. Gives the bytes of their JSON.
pub(crate) fn fill(directory: &Path, count: u64) -> f64 {
    let orders = Orders::first(ORDERS);
    let order = |number: u64| &orders[usize::try_from(number % ORDERS).unwrap()];
    drop(build(directory, count, |number| order(number).clone()));
    (0..count).map(|number| order(number).len()).sum::<usize>() as f64
}

/// Copies a directory's documents into an empty node.
pub(crate) fn copy_once(full: &Path, count: u64, way: Way, look: Duration) -> Copied {
    let scratch = Scratch::new();
    let empty = scratch.path("empty");
    let knowing = |other: &Server, direction| {
        let peers = vec![(other.address(), direction)];
        Launch { peers, ..Launch::default() }
    };
    let (from, to) = match way {
        Way::Push => {
            let to = Server::tombolo(&empty);
            (Server::with(full, &knowing(&to, "push")), to)
        }
        Way::Pull => {
            let from = Server::tombolo(full);
            let to = Server::with(&empty, &knowing(&from, "pull"));
            (from, to)
        }
    };
    let before = [from.cpu(), to.cpu()];
    let mut looks = 0;
    let time = until("a first copy", || {
        looks += 1;
        let whole = documents(&to) == count;
        if !whole {
            thread::sleep(look);
        }
        whole
    });
    assert_eq!(get(to.address(), "/v1/bench/doc-0000000000").0, 200);
    let cpu = [from.cpu() - before[0], to.cpu() - before[1]];
    Copied { time, cpu, messages: messages(&[&from, &to]), looks }
}

/// By push, and by pull. The floor of the rate is what the machine's cores would do if nothing ever
/// waited: their number by the CPU that a document takes on both sides.
pub(crate) fn copy() -> Vec<Row> {
    let scratch = Scratch::new();
    let full = scratch.path("full");
    eprintln!("copy: writing {DOCUMENTS} documents");
    let json = fill(&full, DOCUMENTS);
    let ways = [(Way::Push, "push"), (Way::Pull, "pull")];
    ways.into_iter().flat_map(|(way, name)| rows(&full, way, name, json)).collect()
}

fn rows(full: &Path, way: Way, name: &str, json: f64) -> Vec<Row> {
    let cores = thread::available_parallelism().map_or(1, usize::from) as f64;
    let count = DOCUMENTS as f64;
    let copies: Vec<Copied> = (0..ROUNDS)
        .map(|round| {
            eprintln!("copy by {name}: round {} of {ROUNDS}", round + 1);
            let copied = copy_once(full, DOCUMENTS, way, Duration::ZERO);
            eprintln!("{copied:?}");
            copied
        })
        .collect();
    let middle = |number: &dyn Fn(&Copied) -> f64| median(copies.iter().map(number));
    let rate = middle(&|copied| count / copied.time.as_secs_f64());
    let each = |side: usize| middle(&|copied| 1e6 * copied.cpu[side].as_secs_f64() / count);
    let most = middle(&|copied| {
        count * cores / (copied.cpu[0].as_secs_f64() + copied.cpu[1].as_secs_f64())
    });
    let bytes = middle(&|copied| copied.messages.all().bytes / count);
    let what = format!("first copy of 100,000 documents by {name}");
    vec![
        Row::beside(&*what, "/s", rate, most)
            .bar(Bar::at_least(10_000.0).aim(16_000.0))
            .bar(Bar::ratio_at_least(0.7)),
        Row::alone(format!("{what}: CPU each of the full node"), "µs", each(0)),
        Row::alone(format!("{what}: CPU each of the empty node"), "µs", each(1)),
        Row::beside(format!("{what}: bytes each, against JSON"), "B", bytes, json / count)
            .bar(Bar::ratio_at_most(1.5)),
    ]
}
