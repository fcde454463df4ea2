//! What offline-first clients cost a server that many documents pass through, beside the two servers that
//! there are: that of automerge-repo's own packages, and samod. One client talks to all of them.

use super::{
    rounds::ROUNDS,
    row::{Bar, Pair, Row, median},
    scratch::{Scratch, disk_bytes},
    server::Server,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

/// Documents that are pushed, or fetched, at once.
const DOCUMENTS: usize = 2_000;
/// Documents whose memory is measured. Before it, another client fetches as many others and leaves: what a
/// process takes once, for all that come after, is nobody's.
const TOUCHED: usize = 2 * DOCUMENTS;
/// How often a client comes to a node, takes as many, and leaves: what an allocator holds back for the next
/// one goes up and down between them by some megabytes, so that one client tells nothing. The others give
/// nothing back, and one tells all.
const VISITS: usize = 5;
/// Nodes drop documents that nobody used for a minute; the others drop none, however long one waits.
const IDLE: Duration = Duration::from_secs(75);
/// How long a server has to give memory back.
const GONE: Duration = Duration::from_secs(15);

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Tombolo,
    Npm,
    Samod,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Tombolo, Self::Npm, Self::Samod];

    pub(crate) fn start(self, data: &Path) -> Server {
        match self {
            Self::Tombolo => Server::tombolo(data),
            Self::Npm => Server::javascript(&scripts().join("server.js"), data),
            Self::Samod => Server::samod(data),
        }
    }
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/clients")
}

/// Whether there is what the client and the packages' server need: Node.js, and the packages.
pub(crate) fn packages(figure: &str) -> bool {
    let npm = |words: &[&str]| {
        let status = Command::new("npm").args(words).current_dir(scripts()).status();
        status.is_ok_and(|status| status.success())
    };
    let there = npm(&["ci", "--silent", "--no-audit", "--no-fund"]);
    if !there {
        eprintln!(
            "SKIPPED: {figure}: the packages cannot be installed (Node.js 20 and npm, a registry)"
        );
    }
    there
}

/// The client, a process of its own that is told what to do.
#[derive(Debug)]
pub(crate) struct Client {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Client {
    pub(crate) fn start(server: &Server) -> Self {
        let mut command = Command::new("node");
        command.arg(scripts().join("client.js")).arg(format!("ws://{}/v1/_sync", server.address()));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let commands = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self { child, commands, answers }
    }

    /// Has it do something, and waits until it is done.
    pub(crate) fn ask<T: DeserializeOwned>(&mut self, command: &Value) -> T {
        writeln!(self.commands, "{command}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        assert!(answer.ends_with('\n'), "{command} failed");
        serde_json::from_str(&answer).unwrap()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What one server took for many documents: CPU each, in microseconds, and milliseconds for all.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Cost {
    #[serde(skip)]
    cpu: f64,
    ms: f64,
}

/// One round on a new server.
#[derive(Debug, Clone, Copy)]
struct Round {
    /// As many as [`DOCUMENTS`], and as many again on the same connection.
    push: [Cost; 2],
    fetch: [Cost; 2],
    /// Bytes on disk for each document, once the server has ended.
    disk: f64,
}

/// Resident memory for each document, in KB.
#[derive(Debug, Clone, Copy)]
struct Memory {
    /// The client has just got all of them.
    touched: f64,
    /// All are idle, and the client is still there.
    idle: f64,
    /// The client has left.
    left: f64,
}

/// Pushes and fetches, and what they leave on disk.
pub(crate) fn clients() -> Vec<Row> {
    if !packages("clients") {
        return Vec::new();
    }
    let rounds: Vec<[Round; 3]> = (1..=ROUNDS / 2 + 1)
        .map(|round| {
            eprintln!("clients: round {round}");
            Kind::ALL.map(|kind| one_round(kind, &Scratch::new().path("data")))
        })
        .collect();
    let disk = |server: usize| median(rounds.iter().map(|round| round[server].disk));
    let figure = "bytes on disk of a small document of a client";
    let disk = Row::beside(figure, "B", disk(0), f64::min(disk(1), disk(2)));
    [traffic(&rounds), vec![disk.bar(Bar::at_most(1_500.0))]].concat()
}

/// Memory of documents that a client has touched: as soon as it has, a minute later, and without it.
pub(crate) fn touched() -> Vec<Row> {
    if !packages("touched") {
        return Vec::new();
    }
    let memory = Kind::ALL.map(memory);
    let row = |figure: &str, number: fn(&Memory) -> f64| {
        let [ours, others @ ..] = memory.each_ref().map(number);
        Row::beside(figure, "KB", ours, others.into_iter().fold(f64::INFINITY, f64::min))
    };
    let figure = "resident memory of a document that a client has open";
    vec![
        row(figure, |memory| memory.touched),
        row("the same, idle for a minute", |memory| memory.idle).bar(Bar::at_most(2.0)),
        row("the same, the client gone", |memory| memory.left).bar(Bar::at_most(0.5)),
    ]
}

fn traffic(rounds: &[[Round; 3]]) -> Vec<Row> {
    let mut rows = Vec::new();
    for (verb, costs) in [
        ("pushed", (|round| round.push) as fn(&Round) -> [Cost; 2]),
        ("fetched", |round| round.fetch),
    ] {
        let best = |number: fn(&Cost) -> f64| {
            let pairs = rounds.iter().map(|[ours, others @ ..]| {
                let others = others.iter().map(|round| number(&costs(round)[0]));
                (number(&costs(ours)[0]), others.fold(f64::INFINITY, f64::min))
            });
            Pair::of(&pairs.collect::<Vec<_>>())
        };
        let figure = format!("{DOCUMENTS} documents {verb} by a client: server CPU each");
        let row = Row::pair(figure, "µs", best(|cost| cost.cpu));
        rows.push(row.bar(Bar::ratio_at_most(0.5).aim(0.25)));
        let figure = format!("{DOCUMENTS} documents {verb} by a client");
        rows.push(Row::pair(figure, "ms", best(|cost| cost.ms)));
        // Of all rounds together: one round is few of the kernel's ticks.
        let mean = |which: usize| {
            let all = rounds.iter().map(|[ours, ..]| costs(ours)[which].cpu).sum::<f64>();
            all / rounds.len() as f64
        };
        let figure = format!("as many more {verb} on the same connection, against the first");
        let row = Row::beside(figure, "µs", mean(1), mean(0));
        rows.push(row.bar(Bar::ratio_at_most(1.2)));
    }
    rows
}

fn one_round(kind: Kind, data: &Path) -> Round {
    let server = kind.start(data);
    let mut client = Client::start(&server);
    let push = [(); 2]
        .map(|()| cost(&server, &mut client, &json!({"command": "push", "count": DOCUMENTS})));
    let fetch = [0, DOCUMENTS].map(|first| cost(&server, &mut client, &fetch(first, DOCUMENTS)));
    drop(client);
    server.stop();
    let disk = disk_bytes(data) / (2 * DOCUMENTS) as f64;
    let round = Round { push, fetch, disk };
    eprintln!("clients: {kind:?}: {round:?}");
    round
}

fn fetch(first: usize, count: usize) -> Value {
    json!({"command": "fetch", "first": first, "count": count})
}

/// What it costs the server, until it has nothing left to do.
fn cost(server: &Server, client: &mut Client, command: &Value) -> Cost {
    server.rest();
    let before = server.cpu();
    let cost: Cost = client.ask(command);
    server.rest();
    Cost { cpu: 1e6 * (server.cpu() - before).as_secs_f64() / DOCUMENTS as f64, ..cost }
}

/// Clients touch many documents of a server that was started again, one after the other: the median of them.
fn memory(kind: Kind) -> Memory {
    let scratch = Scratch::new();
    let data = scratch.path("data");
    let server = kind.start(&data);
    let mut client = Client::start(&server);
    let _: Value = client.ask(&json!({"command": "push", "count": 2 * TOUCHED}));
    let ids: Value = client.ask(&json!({"command": "ids"}));
    drop(client);
    server.rest();
    server.stop();

    let server = kind.start(&data);
    let fetching = |first| {
        let mut client = Client::start(&server);
        let _: Value = client.ask(&json!({"command": "know", "ids": ids}));
        let _: Value = client.ask(&fetch(first, TOUCHED));
        client
    };
    let leaving = |mut client: Client| {
        let _: Value = client.ask(&json!({"command": "leave"}));
        thread::sleep(GONE);
    };
    let (pause, visits) = if kind == Kind::Tombolo { (IDLE, VISITS) } else { (GONE, 1) };
    leaving(fetching(0));
    thread::sleep(pause);
    let firsts = [TOUCHED, 0].into_iter().cycle().take(visits);
    let memories = firsts.map(|first| {
        let before = server.resident();
        let each = || (server.resident() - before) / TOUCHED as f64 / 1024.0;
        let client = fetching(first);
        server.rest();
        let touched = each();
        thread::sleep(pause);
        let idle = each();
        leaving(client);
        let memory = Memory { touched, idle, left: each() };
        eprintln!("clients: {kind:?}: {memory:?}");
        memory
    });
    let memories: Vec<Memory> = memories.collect();
    let middle = |number: fn(&Memory) -> f64| median(memories.iter().map(number));
    Memory {
        touched: middle(|memory| memory.touched),
        idle: middle(|memory| memory.idle),
        left: middle(|memory| memory.left),
    }
}
