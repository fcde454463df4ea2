//! Three real nodes on real disks: written to all at once while links are cut and healed and nodes killed,
//! they hold the same in the end, and all that was acknowledged.
//!
//! `TOMBOLO_ISLANDS=n` runs n seeds of a minute each, instead of one of a few seconds. What is cut and
//! killed follows the seed; what runs when does not.

use crate::process::{Answer, Client, Process};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use std::{
    collections::BTreeMap,
    env, io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};
use tokio::time::Instant;

const NODES: usize = 3;
/// Documents that all writers write.
const DOCUMENTS: u64 = 12;
const MERGE: (&str, &str) = ("content-type", "application/merge-patch+json");
const PATCH: (&str, &str) = ("content-type", "application/json-patch+json");
const TYPED: (&str, &str) = ("content-type", "application/vnd.tombolo.typed+json");
/// Longest until all are equal, once nothing is in the way: two ticks of their sketches.
const HEALED_TIME_MAX: Duration = Duration::from_secs(75);

/// One direction between two nodes, which can be cut.
struct Link {
    address: SocketAddr,
    open: Arc<AtomicBool>,
    target: Arc<Mutex<Option<SocketAddr>>>,
}

impl Link {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (open, target) = (Arc::new(AtomicBool::new(true)), Arc::new(Mutex::new(None)));
        let (is_open, at) = (Arc::clone(&open), Arc::clone(&target));
        thread::Builder::new()
            .spawn(move || {
                for stream in listener.incoming() {
                    let (Ok(stream), Some(to)) = (stream, *at.lock().unwrap()) else { continue };
                    if is_open.load(Ordering::SeqCst)
                        && let Ok(onward) = TcpStream::connect(to)
                    {
                        carry(&stream, &onward, &is_open);
                        carry(&onward, &stream, &is_open);
                    }
                }
            })
            .unwrap();
        Self { address, open, target }
    }
}

/// Carries bytes one way until the link is cut.
fn carry(from: &TcpStream, to: &TcpStream, open: &Arc<AtomicBool>) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    from.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let open = Arc::clone(open);
    let carry = move || {
        let mut bytes = [0; 16 << 10];
        while open.load(Ordering::SeqCst) {
            match io::Read::read(&mut from, &mut bytes) {
                Ok(0) => break,
                Ok(count) if io::Write::write_all(&mut to, &bytes[..count]).is_ok() => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(_) | Err(_) => break,
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    };
    thread::Builder::new().spawn(carry).unwrap();
}

/// All nodes, and the links between them.
struct Islands<'a> {
    folder: &'a Path,
    nodes: Vec<Mutex<Option<Process>>>,
    links: BTreeMap<(usize, usize), Link>,
    /// No writer goes on.
    over: AtomicBool,
}

impl<'a> Islands<'a> {
    fn new(folder: &'a Path) -> Self {
        std::fs::write(folder.join("secret"), "a secret that is long").unwrap();
        let pairs = (0..NODES).flat_map(|from| (0..NODES).map(move |to| (from, to)));
        let links = pairs.filter(|(from, to)| from != to).map(|pair| (pair, Link::new()));
        let nodes = (0..NODES).map(|_| Mutex::new(None)).collect();
        let islands = Self { folder, nodes, links: links.collect(), over: AtomicBool::new(false) };
        for node in 0..NODES {
            *islands.nodes[node].lock().unwrap() = Some(islands.start(node));
        }
        islands
    }

    fn start(&self, node: usize) -> Process {
        let process = Process::try_start(&self.folder.join(node.to_string()), |command| {
            command.arg("--cluster-secret-file").arg(self.folder.join("secret"));
            for ((_, to), link) in self.links.iter().filter(|((from, _), _)| *from == node) {
                let _ = to;
                command.arg("--peer").arg(format!("http://{}", link.address));
            }
        });
        let process = process.unwrap();
        for (_, link) in self.links.iter().filter(|((_, to), _)| *to == node) {
            *link.target.lock().unwrap() = Some(process.address);
        }
        process
    }

    fn kill(&self, node: usize) {
        let mut process = self.nodes[node].lock().unwrap();
        process.take().unwrap().kill();
        *process = Some(self.start(node));
    }

    fn client(&self, node: usize) -> Option<Client> {
        // Not while it is being killed and started.
        let address = self.nodes[node].lock().unwrap().as_ref()?.address;
        Client::connect(address).ok()
    }

    /// Every document of a node.
    fn all(&self, node: usize) -> BTreeMap<String, Shown> {
        let (mut all, mut since) = (BTreeMap::new(), String::new());
        loop {
            let path = format!("/v1/_changes?values=true&limit=1000{since}");
            let answer = self.client(node).unwrap().send("GET", &path, &[], b"").unwrap();
            let Page { changes, next } = serde_json::from_slice(&answer.body).unwrap();
            let count = changes.len();
            for row in changes {
                let Row { collection, key, version, conflicts, deleted, value } = row;
                // The very bytes that are served.
                let json = value.map(|value| value.get().to_owned());
                all.insert(
                    format!("{collection}/{key}"),
                    Shown { version, conflicts, deleted, json },
                );
            }
            if count < 1000 {
                return all;
            }
            since = format!("&since={next}");
        }
    }

    /// Waits until all hold the same.
    fn equal(&self) -> BTreeMap<String, Shown> {
        let until = Instant::now() + HEALED_TIME_MAX;
        loop {
            let first = self.all(0);
            if (1..NODES).all(|node| self.all(node) == first) {
                return first;
            }
            if until < Instant::now() {
                for node in 0..NODES {
                    let all = self.all(node);
                    let differs = all.iter().filter(|(name, said)| first.get(*name) != Some(said));
                    let differs: Vec<_> = differs.take(3).collect();
                    let peers = self.client(node).unwrap().send("GET", "/v1/_peers", &[], b"");
                    let peers = String::from_utf8(peers.unwrap().body).unwrap();
                    eprintln!("node {node}: {} documents, {differs:?}, {peers}", all.len());
                }
                panic!("not equal in time");
            }
            pause(200);
        }
    }
}

/// A page of the feed.
#[derive(Deserialize)]
struct Page {
    changes: Vec<Row>,
    next: String,
}

#[derive(Deserialize)]
struct Row {
    collection: String,
    key: String,
    version: Vec<String>,
    conflicts: u32,
    deleted: bool,
    value: Option<Box<RawValue>>,
}

/// A document as a node shows it.
#[derive(Debug, Clone, PartialEq)]
struct Shown {
    version: Vec<String>,
    conflicts: u32,
    deleted: bool,
    json: Option<String>,
}

impl Shown {
    fn value(&self) -> Value {
        serde_json::from_str(self.json.as_ref().unwrap()).unwrap()
    }
}

/// What one writer was told.
#[derive(Debug, Default)]
struct Told {
    /// The last number that was acknowledged, by document.
    last: BTreeMap<String, u64>,
    /// A later one, of which nobody knows.
    open: BTreeMap<String, u64>,
    /// How often it counted up.
    counted: i64,
}

/// Writes to one node until it is over.
fn write(islands: &Islands<'_>, writer: usize, seed: u64) -> Told {
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut told, mut number, mut client) = (Told::default(), 0, None);
    // An increment that nobody answered is sent again, to the same node, under the same key.
    let mut counting: Option<u64> = None;
    while !islands.over.load(Ordering::SeqCst) || counting.is_some() {
        if client.is_none() {
            client = islands.client(writer);
            if client.is_none() {
                pause(5);
                continue;
            }
        }
        let Some(connected) = &mut client else { continue };
        let mut send = |verb: &str, path: &str, fields: &[(&str, &str)], body: &Value| {
            let answer: io::Result<Answer> =
                connected.send(verb, path, fields, body.to_string().as_bytes());
            answer.ok()
        };
        number += 1;
        if counting.is_some() || random.u8(0..4) == 0 {
            let count = *counting.get_or_insert(number);
            let key = format!("{seed}-{writer}-{count}");
            let body = json!([{"op": "increment", "path": "/n", "by": 1}]);
            let fields = [PATCH, ("idempotency-key", &*key)];
            match send("PATCH", "/v1/islands/count", &fields, &body) {
                Some(answer) if answer.status == 200 => {
                    told.counted += 1;
                    counting = None;
                }
                Some(answer) => assert_eq!(answer.status, 503, "{answer:?}"),
                None => client = None,
            }
            continue;
        }
        let document = format!("/v1/islands/d{}", random.u64(0..DOCUMENTS));
        let body = json!({ format!("w{writer}"): number, "by": writer });
        told.open.insert(document.clone(), number);
        match send("PATCH", &document, &[MERGE], &body) {
            Some(answer) if matches!(answer.status, 200 | 201) => {
                told.open.remove(&document);
                told.last.insert(document, number);
            }
            Some(answer) => assert_eq!(answer.status, 503, "{answer:?}"),
            None => client = None,
        }
        pause(random.u64(0..4));
    }
    told
}

/// Cuts, heals and kills for some time, and then heals everything.
fn disturb(islands: &Islands<'_>, seed: u64, time: Duration) {
    let mut random = fastrand::Rng::with_seed(seed);
    let until = Instant::now() + time;
    let links: Vec<&Link> = islands.links.values().collect();
    while Instant::now() < until {
        pause(random.u64(50..800));
        match random.u8(0..6) {
            0 => islands.kill(random.usize(0..NODES)),
            1..=3 => random.choice(&links).unwrap().open.store(false, Ordering::SeqCst),
            _ => random.choice(&links).unwrap().open.store(true, Ordering::SeqCst),
        }
    }
    for link in links {
        link.open.store(true, Ordering::SeqCst);
    }
    islands.over.store(true, Ordering::SeqCst);
}

#[expect(clippy::disallowed_methods, reason = "processes of their own take real time")]
fn pause(milliseconds: u64) {
    thread::sleep(Duration::from_millis(milliseconds));
}

#[expect(clippy::disallowed_methods, reason = "how much to test is said by who runs the test")]
fn seeds() -> Option<u64> {
    env::var("TOMBOLO_ISLANDS").ok().map(|count| count.parse().unwrap())
}

#[test]
fn nodes_that_are_cut_off_and_killed_hold_the_same_in_the_end() {
    let seeds = seeds();
    let time = Duration::from_secs(if seeds.is_some() { 60 } else { 8 });
    for seed in 0..seeds.unwrap_or(1) {
        let folder = tempfile::tempdir().unwrap();
        let islands = Islands::new(folder.path());
        let mut first = islands.client(0).unwrap();
        let zero = json!({"n": {"$counter": 0}}).to_string();
        let answer = first.send("PUT", "/v1/islands/count", &[TYPED], zero.as_bytes());
        assert_eq!(answer.unwrap().status, 201);
        islands.equal();
        let tolds: Vec<Told> = thread::scope(|scope| {
            let writers = (0..NODES).map(|writer| {
                let islands = &islands;
                let seed = seed * 1000 + writer as u64;
                thread::Builder::new().spawn_scoped(scope, move || write(islands, writer, seed))
            });
            let writers: Vec<_> = writers.map(Result::unwrap).collect();
            disturb(&islands, seed, time);
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        let healed = Instant::now();
        let all = islands.equal();
        let took = healed.elapsed();
        let counted: i64 = tolds.iter().map(|told| told.counted).sum();
        assert_eq!(all["islands/count"].value()["n"], counted, "seed {seed}");
        let mut acknowledged = 0;
        for (writer, told) in tolds.iter().enumerate() {
            for (document, last) in &told.last {
                let name = document.strip_prefix("/v1/islands/").unwrap();
                let all = all[&format!("islands/{name}")].value();
                let shown = all[format!("w{writer}")].as_u64();
                let open = told.open.get(document).copied();
                assert!(
                    shown == Some(*last) || (open.is_some() && shown == open),
                    "seed {seed}: {document} shows {shown:?}, {last} was acknowledged, {open:?} open"
                );
                acknowledged += 1;
            }
        }
        assert!(0 < acknowledged && 0 < counted);
        println!("seed {seed}: {counted} counted, equal {took:?} after healing");
    }
}
