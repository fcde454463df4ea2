//! Offline-first clients at a real node: what a client of a few lines says, good and bad.

use crate::{attacks, process::Process};
use automerge::{
    AutoCommit, ChangeHash, ROOT, ScalarValue,
    sync::{Message as SyncMessage, MessageVersion, State, SyncDoc},
    transaction::Transactable,
};
use std::{net::TcpStream, sync::Arc, thread, time::Duration};
use tokio::{sync::mpsc, time::Instant};
use tokio_tungstenite::tungstenite::{
    Error, Message as Frame, WebSocket, client, protocol::frame::coding::CloseCode,
};
use tombolo::{
    automerge_repo::{Ephemeral, Exchange, Message, Metadata},
    ident::DocumentId,
    node::{Frames, Node, Options, Spoken},
    store::MemoryEngine,
};

/// Longest wait for what comes.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long nothing comes, where nothing should.
const QUIET: Duration = Duration::from_millis(300);

const DOCUMENT: DocumentId =
    DocumentId::from_bytes([7, 7, 7, 7, 7, 7, 0x47, 7, 0x87, 7, 7, 7, 7, 7, 7, 7]);

/// What a node sends.
#[derive(Debug)]
enum Heard {
    Message(Message),
    Closed(u16, String),
}

/// One connection.
struct Wire {
    socket: WebSocket<TcpStream>,
    name: String,
    node: String,
}

impl Wire {
    fn connect(process: &Process) -> Self {
        Self::connect_to(process, "/v1/_sync")
    }

    fn connect_to(process: &Process, path: &str) -> Self {
        let stream = TcpStream::connect(process.address).unwrap();
        stream.set_nodelay(true).unwrap();
        let (socket, _) = client(format!("ws://{}{path}", process.address), stream).unwrap();
        Self { socket, name: String::new(), node: String::new() }
    }

    /// A connection of somebody of this name, who has joined.
    fn joined(process: &Process, name: &str) -> Self {
        let mut wire = Self::connect(process);
        wire.join(name);
        wire
    }

    fn join(&mut self, name: &str) {
        let (sender, versions) = (name.to_owned(), vec!["1".to_owned()]);
        self.send(Message::Join { sender, metadata: Metadata::default(), versions });
        let Heard::Message(Message::Peer { sender, target, metadata, version }) = self.hear()
        else {
            panic!("a join is answered")
        };
        assert_eq!((target.as_str(), version.as_str()), (name, "1"));
        assert!(metadata.storage.is_some() && !metadata.is_ephemeral);
        (self.name, self.node) = (name.to_owned(), sender);
    }

    fn send(&mut self, message: Message) {
        self.send_raw(message.encode());
    }

    fn send_raw(&mut self, frame: Vec<u8>) {
        self.socket.send(Frame::binary(frame)).unwrap();
    }

    /// A sync message about a document.
    fn sync(&mut self, document: &str, data: Vec<u8>) {
        let (sender, target) = (self.name.clone(), self.node.clone());
        let exchange = Exchange { sender, target, document: document.to_owned(), data };
        self.send(Message::Sync(exchange));
    }

    /// The next that comes within a while.
    fn next(&mut self, patience: Duration) -> Option<Heard> {
        self.socket.get_mut().set_read_timeout(Some(patience)).unwrap();
        loop {
            match self.socket.read() {
                Ok(Frame::Binary(frame)) => {
                    return Some(Heard::Message(Message::decode(&frame).unwrap()));
                }
                Ok(Frame::Close(Some(frame))) => {
                    return Some(Heard::Closed(frame.code.into(), frame.reason.to_string()));
                }
                Ok(Frame::Ping(_) | Frame::Pong(_)) => {}
                Ok(other) => panic!("{other:?}"),
                Err(Error::Io(_)) => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn hear(&mut self) -> Heard {
        self.next(PATIENCE).expect("nothing comes")
    }

    /// The sync message that comes next.
    fn hear_sync(&mut self) -> Exchange {
        match self.hear() {
            Heard::Message(Message::Sync(exchange)) => exchange,
            other => panic!("{other:?}"),
        }
    }

    fn is_quiet(&mut self) -> bool {
        match self.next(QUIET) {
            None => true,
            Some(heard) => panic!("{heard:?}"),
        }
    }
}

/// A client's copy of a document.
struct Copy {
    id: DocumentId,
    document: AutoCommit,
    state: State,
}

impl Copy {
    fn new(id: DocumentId) -> Self {
        Self { id, document: AutoCommit::new(), state: State::new() }
    }

    /// Talks until the node says that it holds what this copy does.
    fn sync(&mut self, wire: &mut Wire) {
        self.say(wire);
        while self.state.their_heads.as_ref() != Some(&self.document.get_heads()) {
            self.hear(wire);
            self.say(wire);
        }
    }

    fn say(&mut self, wire: &mut Wire) {
        if let Some(message) = self.document.sync().generate_sync_message(&mut self.state) {
            wire.sync(&self.id.to_bs58check(), message.encode());
        }
    }

    fn hear(&mut self, wire: &mut Wire) {
        let exchange = wire.hear_sync();
        assert_eq!(exchange.document, self.id.to_bs58check());
        let message = SyncMessage::decode(&exchange.data).unwrap();
        self.document.sync().receive_sync_message(&mut self.state, message).unwrap();
    }

    fn put(&mut self, key: &str, value: impl Into<ScalarValue>) {
        self.document.put(ROOT, key, value).unwrap();
        self.document.commit();
    }
}

/// A sync message of somebody who holds nothing.
fn empty() -> Vec<u8> {
    AutoCommit::new().sync().generate_sync_message(&mut State::new()).unwrap().encode()
}

fn read(process: &Process, path: &str) -> (u16, String) {
    let answer = process.client().send("GET", path, &[], b"").unwrap();
    (answer.status, String::from_utf8(answer.body).unwrap())
}

fn path_of(id: DocumentId) -> String {
    format!("/v1/automerge/{id}")
}

fn is_unavailable(heard: &Heard, id: &str) -> bool {
    matches!(heard, Heard::Message(Message::Unavailable { document, .. }) if document == id)
}

#[test]
fn whoever_breaks_the_protocol_is_closed_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(&folder.path().join("data"));
    let own = str::to_owned;
    let join = |versions: &[&str]| {
        let versions = versions.iter().map(|version| own(version)).collect();
        Message::Join { sender: own("tab"), metadata: Metadata::default(), versions }.encode()
    };
    let sync = |sender, target| {
        let document = DOCUMENT.to_bs58check();
        let exchange =
            Exchange { sender: own(sender), target: own(target), document, data: empty() };
        Message::Sync(exchange).encode()
    };
    let node = Wire::joined(&process, "first").node;
    for (joins, frame, code, reason) in [
        (false, sync("tab", &node), 1008, "expected a join message"),
        (false, join(&["2"]), 1002, "unsupported protocol version"),
        (false, vec![0xf6], 1007, "a frame that is no message"),
        (true, vec![0xf6], 1007, "a frame that is no message"),
        (true, vec![0x9b; 9], 1007, "a frame that is no message"),
        (true, join(&["1"]), 1008, "joined already"),
        (true, sync("other", &node), 1008, "a message of another sender"),
        (true, sync("tab", "other"), 1008, "a message for another peer"),
    ] {
        let mut wire = Wire::connect(&process);
        if joins {
            wire.join("tab");
        }
        wire.send_raw(frame);
        let told = wire.hear();
        assert!(
            matches!(&told, Heard::Message(Message::Error { message, .. }) if message == reason)
        );
        let Heard::Closed(closed, words) = wire.hear() else {
            panic!("it is not closed: {reason}")
        };
        assert_eq!((closed, words.as_str()), (code, reason));
    }
    let mut wire = Wire::joined(&process, "tab");
    wire.socket.send(Frame::text("{}")).unwrap();
    assert!(
        matches!(wire.hear(), Heard::Closed(code, _) if code == u16::from(CloseCode::Unsupported))
    );
    assert_eq!(read(&process, "/readyz").0, 200);
}

#[test]
fn an_odd_message_changes_nothing_and_the_connection_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(&folder.path().join("data"));
    let mut wire = Wire::joined(&process, "tab");
    for odd in ["odd", &"1".repeat(60), &bs58_of(32), &bs58_of(0)] {
        wire.sync(odd, empty());
        assert!(is_unavailable(&wire.hear(), odd), "{odd}");
    }
    wire.send(Message::Other);
    wire.send(Message::Unavailable {
        sender: "tab".to_owned(),
        target: wire.node.clone(),
        document: DOCUMENT.to_bs58check(),
    });
    for data in [&[][..], &[0], &[0x42], &[0x43], &[0x42, 0xff, 0xff, 0xff, 0xff, 0x7f]] {
        wire.sync(&DOCUMENT.to_bs58check(), data.to_vec());
    }
    // A filter of no bits, and one of 2^32 probes.
    for filter in [&[1, 0, 7][..], &[1, 10, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0]] {
        let length = u8::try_from(filter.len()).unwrap();
        let data = [&[0x42, 0, 0, 1, 0, length], filter, &[0]].concat();
        wire.sync(&DOCUMENT.to_bs58check(), data);
    }
    assert!(wire.is_quiet());
    let mut copy = Copy::new(DOCUMENT);
    copy.put("title", "good");
    copy.sync(&mut wire);
    assert_eq!(read(&process, &path_of(DOCUMENT)).1, r#"{"title":"good"}"#);
}

/// The bs58check text of so many bytes.
fn bs58_of(bytes: usize) -> String {
    bs58::encode(vec![1; bytes]).with_check().into_string()
}

#[test]
fn changes_that_hurt_are_refused_and_no_other_document_is_worse_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(&folder.path().join("data"));
    let mut wire = Wire::joined(&process, "tab");
    let mut good = Copy::new(DOCUMENT);
    good.put("title", "good");
    good.sync(&mut wire);
    let mut victim = Copy::new(DocumentId::from_bytes([9; 16]));
    victim.document = attacks::victim();
    victim.sync(&mut wire);
    let before = read(&process, &path_of(victim.id));
    for attack in attacks::all() {
        let message = SyncMessage {
            heads: vec![ChangeHash([1; 32])],
            need: Vec::new(),
            have: Vec::new(),
            changes: vec![attack.bytes].into(),
            flags: None,
            version: MessageVersion::V2,
        };
        wire.sync(&victim.id.to_bs58check(), message.encode());
        // The other document is served meanwhile, on the same connection.
        good.put("title", attack.name);
        good.say(&mut wire);
        let mut answered = [false; 2];
        while answered != [true; 2] {
            let exchange = wire.hear_sync();
            let is_good = exchange.document == good.id.to_bs58check();
            answered[usize::from(is_good)] = true;
            if is_good {
                let message = SyncMessage::decode(&exchange.data).unwrap();
                good.document.sync().receive_sync_message(&mut good.state, message).unwrap();
            }
        }
        assert_eq!(read(&process, &path_of(victim.id)), before, "{}", attack.name);
    }
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut copy = Copy::new(DOCUMENT);
    for round in 0..5 {
        let process = Process::start(&data);
        let mut wire = Wire::joined(&process, "tab");
        copy.state = State::decode(&copy.state.encode()).unwrap();
        copy.put("round", round);
        copy.sync(&mut wire);
        process.kill();
        let process = Process::start(&data);
        let json = format!(r#"{{"round":{round}}}"#);
        assert_eq!(read(&process, &path_of(DOCUMENT)).1, json);
        process.kill();
    }
}

#[test]
fn what_one_writes_all_who_have_it_open_get_also_from_rest() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(&folder.path().join("data"));
    let [mut one, mut two] = ["one", "two"].map(|name| Wire::joined(&process, name));
    let [mut first, mut second] = [0, 1].map(|_| Copy::new(DOCUMENT));
    first.put("count", ScalarValue::counter(1));
    first.sync(&mut one);
    second.sync(&mut two);
    first.document.increment(ROOT, "count", 2).unwrap();
    first.sync(&mut one);
    second.hear(&mut two);
    second.say(&mut two);
    let patch = br#"[{"op":"increment","path":"/count","by":4}]"#;
    let fields = [("content-type", "application/json-patch+json")];
    let mut client = process.client();
    let answer = client.send("PATCH", &path_of(DOCUMENT), &fields, patch).unwrap();
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    first.hear(&mut one);
    second.hear(&mut two);
    assert_eq!(first.document.get_heads(), second.document.get_heads());
    assert_eq!(read(&process, &path_of(DOCUMENT)).1, r#"{"count":7}"#);

    let figure = |name: &str| {
        let (_, page) = read(&process, "/metrics");
        let line = page.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim().parse::<f64>().unwrap()
    };
    assert_eq!(figure("tombolo_clients "), 2.0);
    assert_eq!(figure("tombolo_client_documents "), 2.0);
    let heard = [r#"{direction="received"}"#, r#"{direction="sent"}"#];
    for name in heard.map(|direction| format!("tombolo_client_messages_total{direction}")) {
        assert!(5.0 < figure(&name), "{name}");
    }
    for name in heard.map(|direction| format!("tombolo_client_bytes_total{direction}")) {
        assert!(500.0 < figure(&name), "{name}");
    }
    assert_eq!(figure("tombolo_clients_sent_away_total "), 0.0);
    two.send_raw(b"no message".to_vec());
    while let Heard::Message(_) = two.hear() {}
    assert_eq!(figure("tombolo_clients_sent_away_total "), 1.0);
}

#[test]
fn what_rest_wrote_is_found_by_its_url_and_what_it_deleted_does_not_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(&folder.path().join("data"));
    let mut client = process.client();
    let answer = client.send("PUT", "/v1/notes/a", &[], br#"{"n":1}"#).unwrap();
    let json = answer.json();
    let url = json["document"].as_str().unwrap();
    let id = DocumentId::parse_bs58check(url.strip_prefix("automerge:").unwrap()).unwrap();
    let mut wire = Wire::joined(&process, "tab");
    let mut copy = Copy::new(id);
    copy.say(&mut wire);
    copy.hear(&mut wire);
    copy.sync(&mut wire);
    copy.put("n", 2);
    copy.sync(&mut wire);
    assert_eq!(read(&process, "/v1/notes/a").1, r#"{"n":2}"#);
    client.send("DELETE", "/v1/notes/a", &[], b"").unwrap();
    assert!(is_unavailable(&wire.hear(), &id.to_bs58check()));
    // Who comes with all that was deleted is told the same, and brings nothing back.
    let mut wire = Wire::joined(&process, "again");
    copy.state = State::new();
    copy.say(&mut wire);
    assert!(is_unavailable(&wire.hear(), &id.to_bs58check()));
    assert_eq!(read(&process, "/v1/notes/a").0, 404);
    // An edit that nobody saw who deleted is one that lives.
    copy.put("n", 3);
    copy.sync(&mut wire);
    assert_eq!(read(&process, "/v1/notes/a").1, r#"{"n":3}"#);
}

#[test]
fn what_is_nowhere_is_unavailable_once_and_comes_later() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(&folder.path().join("data"));
    let mut wire = Wire::joined(&process, "tab");
    wire.sync(&DOCUMENT.to_bs58check(), empty());
    assert!(is_unavailable(&wire.hear(), &DOCUMENT.to_bs58check()));
    wire.sync(&DOCUMENT.to_bs58check(), empty());
    assert!(wire.is_quiet());
    let mut client = process.client();
    assert_eq!(client.send("PUT", &path_of(DOCUMENT), &[], br#"{"n":1}"#).unwrap().status, 201);
    assert_eq!(wire.hear_sync().document, DOCUMENT.to_bs58check());
}

#[test]
fn clients_make_documents_in_the_collection_of_their_socket() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(&folder.path().join("data"));
    let mut wire = Wire::connect_to(&process, "/v1/_sync/notes");
    wire.join("tab");
    let mut copy = Copy::new(DOCUMENT);
    copy.put("n", 1);
    copy.sync(&mut wire);
    assert_eq!(read(&process, &format!("/v1/notes/{DOCUMENT}")).1, r#"{"n":1}"#);
    // By whatever other name, it is another's.
    for (verb, path) in [("GET", ""), ("PUT", ""), ("GET", "/_history"), ("DELETE", "")] {
        let path = format!("/v1/automerge/{DOCUMENT}{path}");
        let answer = process.client().send(verb, &path, &[], b"{}").unwrap();
        assert_eq!(
            (answer.status, answer.json()["code"].as_str()),
            (409, Some("document_elsewhere"))
        );
        let detail = answer.json()["detail"].to_string();
        assert!(detail.contains("in the collection notes"), "{detail}");
    }
    // By whatever socket, an id is one document.
    let mut wire = Wire::joined(&process, "other");
    let mut other = Copy::new(DOCUMENT);
    other.sync_from_nothing(&mut wire);
    assert_eq!(other.document.get_heads(), copy.document.get_heads());
}

#[test]
fn what_clients_say_to_each_other_arrives_and_is_kept_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(&folder.path().join("data"));
    let mut wires = ["one", "two", "three"].map(|name| Wire::joined(&process, name));
    let mut copy = Copy::new(DOCUMENT);
    copy.put("n", 1);
    copy.sync(&mut wires[0]);
    Copy::new(DOCUMENT).sync_from_nothing(&mut wires[1]);
    let said = |count| Ephemeral {
        sender: "one".to_owned(),
        target: wires[0].node.clone(),
        document: DOCUMENT.to_bs58check(),
        session: "s".to_owned(),
        count,
        data: vec![1, 2, 3],
    };
    let [first, second] = [said(1), said(2)];
    for message in [&first, &first, &second, &first] {
        wires[0].send(Message::Ephemeral(message.clone()));
    }
    for expected in [first, second] {
        let Heard::Message(Message::Ephemeral(heard)) = wires[1].hear() else {
            panic!("not heard")
        };
        assert_eq!(heard, Ephemeral { target: "two".to_owned(), ..expected });
    }
    for wire in &mut wires {
        assert!(wire.is_quiet());
    }
    assert_eq!(read(&process, &path_of(DOCUMENT)).1, r#"{"n":1}"#);
}

impl Copy {
    /// Gets a document that it holds nothing of.
    fn sync_from_nothing(&mut self, wire: &mut Wire) {
        self.say(wire);
        self.hear(wire);
        self.sync(wire);
        assert!(!self.document.get_heads().is_empty());
    }
}

#[test]
fn another_connection_of_the_same_peer_takes_the_place_of_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(&folder.path().join("data"));
    let mut first = Wire::joined(&process, "tab");
    let mut second = Wire::joined(&process, "tab");
    assert!(matches!(first.hear(), Heard::Message(Message::Error { .. })));
    assert!(matches!(first.hear(), Heard::Closed(1001, _)));
    let mut copy = Copy::new(DOCUMENT);
    copy.put("n", 1);
    copy.sync(&mut second);
}

#[test]
fn whoever_never_reads_costs_little_and_holds_up_nobody() {
    const DOCUMENTS: u8 = 20;
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(&folder.path().join("data"));
    let large = format!(r#"{{"text":"{}"}}"#, "0123456789abcdef".repeat(1 << 16));
    let id = |n| DocumentId::from_bytes([n; 16]);
    let mut client = process.client();
    for n in 0..DOCUMENTS {
        let answer = client.send("PUT", &path_of(id(n)), &[], large.as_bytes()).unwrap();
        assert_eq!(answer.status, 201);
    }
    let mut deaf = Wire::joined(&process, "deaf");
    let mut other = Wire::joined(&process, "other");
    for n in 0..DOCUMENTS {
        deaf.sync(&id(n).to_bs58check(), empty());
    }
    let mut copy = Copy::new(DOCUMENT);
    for n in 0..5 {
        copy.put("n", n);
        let began = Instant::now();
        copy.sync(&mut other);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        for n in 0..DOCUMENTS {
            let patch = format!(r#"{{"n":{n}}}"#);
            let fields = [("content-type", "application/merge-patch+json")];
            client.send("PATCH", &path_of(id(n)), &fields, patch.as_bytes()).unwrap();
        }
    }
    // It comes back to life, and is told of all of them.
    let mut open: Vec<String> = (0..DOCUMENTS).map(|n| id(n).to_bs58check()).collect();
    while !open.is_empty() {
        let exchange = deaf.hear_sync();
        open.retain(|document| *document != exchange.document);
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "it waits for another process")]
fn whoever_comes_and_goes_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(&folder.path().join("data"));
    for n in 0..300 {
        let mut wire = Wire::connect(&process);
        if n % 3 != 0 {
            wire.join("tab");
        }
        if n % 3 == 2 {
            wire.sync(&DOCUMENT.to_bs58check(), empty());
        }
    }
    let until = Instant::now() + PATIENCE;
    loop {
        let metrics = read(&process, "/metrics").1;
        let line = metrics.lines().find(|line| line.starts_with("tombolo_http_connections "));
        // The connection that asks.
        if line == Some("tombolo_http_connections 1") {
            break;
        }
        assert!(Instant::now() < until, "{line:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_node_that_stops_says_so_and_ends_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(&folder.path().join("data"));
    let mut wire = Wire::joined(&process, "tab");
    thread::scope(|scope| {
        scope.spawn(|| process.stop());
        assert!(matches!(wire.hear(), Heard::Closed(1001, _)));
    });
}

#[test]
fn the_route_of_websockets_tells_others_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(&folder.path().join("data"));
    let (status, problem) = read(&process, "/v1/_sync");
    assert_eq!(status, 400);
    assert!(problem.contains("websocket"), "{problem}");
    // Pages of other origins do not get in.
    let fields = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("origin", "http://elsewhere.example"),
    ];
    let answer = process.client().send("GET", "/v1/_sync", &fields, b"").unwrap();
    assert_eq!(answer.status, 403, "{}", String::from_utf8_lossy(&answer.body));
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_join_is_sent_away() {
    let node = Node::start(Options::default(), Arc::new(MemoryEngine::new())).unwrap();
    let (_to_node, incoming) = mpsc::channel(1);
    let (outgoing, mut from_node) = mpsc::channel(8);
    let began = Instant::now();
    let talk = node.converse("automerge".parse().unwrap(), Frames { incoming, outgoing });
    tokio::time::timeout(Duration::from_secs(60), talk).await.unwrap();
    assert!(Duration::from_secs(30) <= began.elapsed());
    let mut said = Vec::new();
    while let Some(spoken) = from_node.recv().await {
        said.push(match spoken {
            Spoken::Frame(frame, _) => format!("{:?}", Message::decode(&frame).unwrap()),
            Spoken::Close(code, reason) => format!("{code} {reason}"),
        });
    }
    assert!(said[0].contains("no join came") && said[1] == "1008 no join came", "{said:?}");
}
