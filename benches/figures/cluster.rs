//! Nodes that replicate, each a process of its own, and what they tell of it.

use super::server::{Launch, Server};
use serde::Deserialize;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    ops::{Add, Sub},
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// Longest that nodes may take to get anywhere.
const LONGEST: Duration = Duration::from_secs(600);
/// How often a node is asked whether it is there yet.
pub(crate) const LOOK: Duration = Duration::from_millis(20);

/// What one side of two peers has asked the other, or what both have.
#[derive(Debug, Clone, Default)]
pub(crate) struct Messages(BTreeMap<String, Cost>);

/// Requests, and bytes of bodies both ways.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    pub(crate) requests: f64,
    pub(crate) bytes: f64,
}

impl Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { requests: self.requests + other.requests, bytes: self.bytes + other.bytes }
    }
}

impl Sub for Cost {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { requests: self.requests - other.requests, bytes: self.bytes - other.bytes }
    }
}

impl Messages {
    /// Of these kinds, the last part of their paths.
    pub(crate) fn of(&self, kinds: &[&str]) -> Cost {
        let cost = |kind: &&str| self.0.get(*kind).copied().unwrap_or_default();
        kinds.iter().map(cost).fold(Cost::default(), Add::add)
    }

    /// Of all kinds.
    pub(crate) fn all(&self) -> Cost {
        self.0.values().copied().fold(Cost::default(), Add::add)
    }

    /// Of both sides.
    pub(crate) fn and(mut self, other: Self) -> Self {
        for (kind, cost) in other.0 {
            let mine = self.0.entry(kind).or_default();
            *mine = *mine + cost;
        }
        self
    }

    /// What has come since.
    pub(crate) fn since(mut self, before: &Self) -> Self {
        for (kind, cost) in &mut self.0 {
            *cost = *cost - before.0.get(kind).copied().unwrap_or_default();
        }
        self
    }
}

/// A peer, as a node tells of it.
#[derive(Debug, Deserialize)]
pub(crate) struct Peer {
    url: String,
    state: String,
    pub(crate) in_sync: Option<bool>,
    pub(crate) lag_documents: u64,
    messages: BTreeMap<String, Counted>,
}

#[derive(Debug, Deserialize)]
struct Counted {
    requests: u64,
    bytes_sent: u64,
    bytes_received: u64,
}

impl Peer {
    pub(crate) fn is_up(&self) -> bool {
        self.state == "up"
    }

    pub(crate) fn is_at(&self, address: SocketAddr) -> bool {
        self.url == format!("http://{address}")
    }

    /// What it was asked.
    pub(crate) fn messages(&self) -> Messages {
        let cost = |counted: &Counted| Cost {
            requests: counted.requests as f64,
            bytes: (counted.bytes_sent + counted.bytes_received) as f64,
        };
        Messages(self.messages.iter().map(|(kind, of)| (kind.clone(), cost(of))).collect())
    }
}

/// An address at which nobody listens.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// What a node answers to a GET: a status, and a body.
pub(crate) fn get(address: SocketAddr, path: &str) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let status = std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap();
    (status, answer.split_off(end + 4))
}

/// What a node answers to a GET that has to work.
pub(crate) fn json(address: SocketAddr, path: &str) -> Value {
    let (status, body) = get(address, path);
    assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).unwrap()
}

/// How many documents a node has.
pub(crate) fn documents(server: &Server) -> u64 {
    json(server.address(), "/v1/_status")["documents"].as_u64().unwrap()
}

/// How its peers fare.
pub(crate) fn peers(server: &Server) -> Vec<Peer> {
    let peers = json(server.address(), "/v1/_peers")["peers"].take();
    serde_json::from_value(peers).unwrap()
}

/// Everything that these nodes have asked of each other.
pub(crate) fn messages(servers: &[&Server]) -> Messages {
    let all = servers.iter().flat_map(|server| peers(server));
    all.fold(Messages::default(), |messages, peer| messages.and(peer.messages()))
}

/// Whether a node is in touch with all of its peers.
pub(crate) fn is_up(server: &Server) -> bool {
    peers(server).iter().all(Peer::is_up)
}

/// Whether a node and all of its peers know that they hold the same.
pub(crate) fn in_sync(server: &Server) -> bool {
    peers(server).iter().all(|peer| peer.in_sync == Some(true))
}

/// Waits until something is so. Gives how long that took.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LONGEST, "{what}: not in time");
        thread::sleep(LOOK);
    }
    start.elapsed()
}

/// Two nodes that know of each other, on these directories. The second one's may be a copy.
pub(crate) fn pair(data: [&Path; 2], new_node: bool) -> [Server; 2] {
    let [one, two] = [free_address(), free_address()];
    let start = |data: &Path, listen, peer, new_node| {
        let launch = Launch { listen, peers: vec![(peer, "both")], new_node };
        Server::with(data, &launch)
    };
    let second = start(data[1], two, one, new_node);
    let nodes = [start(data[0], one, two, false), second];
    until("two nodes meet", || nodes.iter().all(is_up));
    nodes
}

/// Copies a directory of which nobody has the data open. Files that RocksDB never writes to again are
/// shared.
pub(crate) fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let copy = to.join(path.file_name().unwrap());
        let kind = path.extension().unwrap_or_default();
        if path.is_dir() {
            copy_directory(&path, &copy);
        } else if kind == "sst" || kind == "blob" {
            fs::hard_link(&path, &copy).unwrap();
        } else if path.metadata().unwrap().is_file() {
            fs::copy(&path, &copy).unwrap();
        }
    }
}
