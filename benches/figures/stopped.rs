//! What a peer costs that is down: memory of who writes meanwhile, and the way back.

use super::{
    cluster::{documents, free_address, is_up, peers, until},
    load::{Traffic, load_all},
    row::{Bar, Row},
    scratch::Scratch,
    server::{Launch, Server},
};
use std::{
    env,
    io::Write as _,
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

/// The variable that says how many writes there are; without it, so many.
const VARIABLE: &str = "TOMBOLO_BENCH_WRITES";
const WRITES: u64 = 200_000;
/// Writes of one request, and requests at once.
const LINES: u64 = 1_000;
const CONNECTIONS: usize = 4;
const SAMPLE: Duration = Duration::from_millis(50);
const MIB: f64 = 1_048_576.0;
/// What a node with peers may hold more than one without: 16 MiB of the changes that it made last, and
/// where foreign changes of the last 65,536 documents came from, each with its index; 1.3 MB of cells;
/// batches of 1 MiB on their way, of each peer.
const MORE_MIB: f64 = 64.0;

/// Small documents, each written as often as it is told.
struct Small {
    next: u64,
    end: u64,
    /// Different ones.
    keys: u64,
}

impl Traffic for Small {
    fn ask(&mut self, request: &mut Vec<u8>) -> Option<u64> {
        let (first, last) = (self.next, (self.next + LINES).min(self.end));
        if first == last {
            return None;
        }
        let mut body = Vec::new();
        for number in first..last {
            let key = number % self.keys;
            writeln!(
                body,
                r#"{{"op":"put","collection":"small","key":"{key:08}","value":{{"n":{number}}}}}"#
            )
            .unwrap();
        }
        self.next = last;
        let length = body.len();
        write!(
            request,
            "POST /v1/_bulk HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-ndjson\r\n\
             content-length: {length}\r\n\r\n"
        )
        .unwrap();
        request.append(&mut body);
        Some(last - first)
    }

    fn take(&mut self, lines: u64, answer: &[u8]) {
        let all = format!(r#""ok":{lines},"failed":0"#);
        let last = String::from_utf8_lossy(&answer[answer.len().saturating_sub(100)..]);
        assert!(last.contains(&all), "not all documents were written: {last}");
    }
}

/// Three nodes that know each other; one is killed, and half of all writes make documents on another,
/// which the other half changes. Then it is started again. The floor is a node without peers.
pub(crate) fn stopped() -> Vec<Row> {
    let writes = env::var(VARIABLE).map_or(WRITES, |writes| writes.parse().unwrap());
    let alone = {
        let scratch = Scratch::new();
        let node = Server::tombolo(&scratch.path("node"));
        most(&[&node], || write(&node, writes))[0]
    };
    eprintln!("stopped: {alone} MiB alone");
    let scratch = Scratch::new();
    let addresses = [free_address(), free_address(), free_address()];
    let start = |index: usize| {
        let others = addresses.iter().filter(|address| **address != addresses[index]);
        let peers = others.map(|address| (*address, "both")).collect();
        let launch = Launch { listen: addresses[index], peers, new_node: false };
        Server::with(&scratch.path(&format!("node-{index}")), &launch)
    };
    let [node, peer, stopped] = [start(0), start(1), start(2)];
    until("three nodes meet", || [&node, &peer, &stopped].into_iter().all(is_up));
    drop(stopped);
    let held = node.resident() / MIB;
    let began = Instant::now();
    let with_peers = most(&[&node, &peer], || {
        write(&node, writes);
        eprintln!("stopped: written after {:?}", began.elapsed());
        until("the other peer catches up", || has_all(&node, addresses[1]));
    });
    eprintln!("stopped: {held} MiB before, {with_peers:?} MiB at most, {:?}", began.elapsed());
    let rest = {
        node.rest();
        node.resident() / MIB
    };
    let back = start(2);
    let mut time = Duration::ZERO;
    let after = most(&[&node, &peer, &back], || {
        time = until("the stopped peer catches up", || {
            documents(&back) == writes / 2 && has_all(&node, addresses[2])
        });
    });
    eprintln!("stopped: {time:?}, {after:?} MiB at most");
    let what = format!("one of three nodes down for {writes} writes");
    let memory = |of: &str| format!("{what}: memory of {of}");
    vec![
        Row::beside(memory("the writer, most"), "MiB", with_peers[0], alone),
        Row::alone(memory("the writer beyond a node alone"), "MiB", with_peers[0] - alone)
            .bar(Bar::at_most(MORE_MIB)),
        Row::alone(memory("the writer, before"), "MiB", held),
        Row::alone(memory("the writer, after"), "MiB", rest),
        Row::alone(memory("the writer, most while the third catches up"), "MiB", after[0]),
        Row::alone(memory("the third, most while it catches up"), "MiB", after[2]),
        Row::alone(format!("{what}: until it has them"), "s", time.as_secs_f64()),
    ]
}

fn write(node: &Server, writes: u64) {
    let mut small = Small { next: 0, end: writes, keys: writes / 2 };
    load_all(node.address(), CONNECTIONS, &mut small);
}

/// Whether a peer has acknowledged all that a node has.
fn has_all(node: &Server, address: SocketAddr) -> bool {
    let peers = peers(node);
    let peer = peers.iter().find(|peer| peer.is_at(address)).unwrap();
    peer.is_up() && peer.lag_documents == 0 && peer.in_sync == Some(true)
}

/// The most MiB of memory of each while something is done.
fn most(nodes: &[&Server], work: impl FnOnce()) -> Vec<f64> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut most = vec![0.0; nodes.len()];
            while !over.load(Ordering::Relaxed) {
                for (most, node) in most.iter_mut().zip(nodes) {
                    *most = f64::max(*most, node.resident() / MIB);
                }
                thread::sleep(SAMPLE);
            }
            most
        });
        work();
        over.store(true, Ordering::Relaxed);
        watching.join().unwrap()
    })
}
