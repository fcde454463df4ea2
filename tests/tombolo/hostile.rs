//! Peers that are none, and members that lie: each has a name for it, and costs the others nothing.

use crate::replicate::{Island, SECRET, SOON, equal, name};
use automerge::{Automerge, ROOT, transaction::Transactable};
use bytes::Bytes;
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};
use tokio::time;
use tombolo::{
    ident::{Cursor, DocumentId, Hash, IncarnationId, NodeId, Version},
    node::{Direction, PeerOptions, PeerState},
    sync::{
        Ask, Batch, Beat, Cell, Envelope, Held, Hello, MemberKey, NamesAsk, NamesTold, Offer,
        Parcel, Part, Pull, Reason, Refused, RepairAsk, RepairTold, Scope, SetId, SketchKey, Taken,
        Told, position,
    },
};

/// How a peer answers a request, once it has read it.
type Script = fn(&mut TcpStream, &Envelope) -> std::io::Result<()>;

/// A server that answers every request so, for as long as the test runs.
fn server(script: Script) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let answer = move || {
                let envelope = read(&stream)?;
                script(&mut stream, &envelope)
            };
            // Who asked may be gone.
            thread::Builder::new().spawn(answer).unwrap();
        }
    };
    thread::Builder::new().spawn(serve).unwrap();
    address
}

/// Reads a request, and gives its envelope.
fn read(stream: &TcpStream) -> std::io::Result<Envelope> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut length, mut envelope) = (0, None);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            if line.trim_end().is_empty() {
                break;
            }
            continue;
        };
        match name {
            "content-length" => length = value.parse().unwrap(),
            "tombolo-peer" => envelope = Some(value.parse().unwrap()),
            _ => {}
        }
    }
    reader.read_exact(&mut vec![0; length])?;
    // Some connections are opened and left.
    envelope.ok_or_else(|| std::io::Error::other("no request"))
}

fn say(stream: &mut TcpStream, status: &str, fields: &str, body: &[u8]) -> std::io::Result<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\n{fields}content-length: {length}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)
}

/// An answer as a member seals it.
fn sealed(stream: &mut TcpStream, envelope: &Envelope, body: &[u8]) -> std::io::Result<()> {
    let seal = MemberKey::derived(SECRET).seal_answer(envelope, body);
    let seal = format!("tombolo-peer-seal: {}\r\n", blake3::Hash::from_bytes(seal));
    say(stream, "200 OK", &seal, body)
}

fn zstd(bytes: usize) -> Vec<u8> {
    zstd::encode_all(std::io::repeat(0).take(bytes as u64), 1).unwrap()
}

/// What peers answer that are no nodes of this cluster, and what that is called.
const SCRIPTS: &[(&str, Script)] = &[
    ("unreachable", |_, _| Ok(())),
    ("unreachable", |stream, _| stream.write_all(b"SSH-2.0-OpenSSH\r\n")),
    ("unreachable", |stream, _| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nand no more")
    }),
    ("timeout", |stream, _| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nand no more")?;
        stream.read_to_end(&mut Vec::new()).map(drop)
    }),
    ("too_large", |stream, _| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        loop {
            stream.write_all(&[b'x'; 1 << 16])?;
        }
    }),
    ("too_large", |stream, _| {
        say(stream, "200 OK", "content-encoding: zstd\r\n", &zstd(200 << 20))
    }),
    ("bad_coding", |stream, _| say(stream, "200 OK", "content-encoding: zstd\r\n", b"zstd? no.")),
    ("bad_coding", |stream, _| say(stream, "200 OK", "content-encoding: br\r\n", b"x")),
    ("wrong_secret", |stream, _| say(stream, "200 OK", "", b"<html>")),
    ("wrong_secret", |stream, _| say(stream, "401 Unauthorized", "", b"who?")),
    ("wrong_secret", |stream, envelope| {
        let seal = MemberKey::derived(b"another secret").seal_answer(envelope, b"x");
        let seal = format!("tombolo-peer-seal: {}\r\n", blake3::Hash::from_bytes(seal));
        say(stream, "200 OK", &seal, b"x")
    }),
    ("bad_status", |stream, _| say(stream, "404 Not Found", "", b"\x1b[2J nothing here")),
    ("bad_status", |stream, _| say(stream, "302 Found", "location: http://127.0.0.1:1/\r\n", b"")),
    ("bad_message", |stream, envelope| sealed(stream, envelope, b"\x01\x0bno hello")),
    ("bad_message", |stream, envelope| sealed(stream, envelope, &hello(1, 9).encode()[..60])),
    ("other_format", |stream, envelope| sealed(stream, envelope, b"\x02\x0bof later")),
    ("busy", |stream, envelope| sealed(stream, envelope, &Reason::Busy.because("later").encode())),
    ("refused", |stream, envelope| {
        let refused = Refused { reason: 999, text: "a reason of a later release".to_owned() };
        sealed(stream, envelope, &refused.encode())
    }),
    // It answers a hello, and to all else says the same.
    ("bad_message", |stream, envelope| sealed(stream, envelope, &hello(8, 9).encode())),
];

/// A hello of a node that is not there.
pub(crate) fn hello(node: u8, incarnation: u8) -> Hello {
    let set = Scope::All.set(&SketchKey::derived(SECRET));
    Hello {
        node: NodeId::from_bytes([node; 16]),
        incarnation: IncarnationId::from_bytes([incarnation; 16]),
        key: SketchKey::derived(SECRET).id(),
        scope: Scope::All,
        sends: true,
        takes: true,
        links: Vec::new(),
        documents: 7,
        beat: Beat { seq: 1_000, cursor: None, told: 0, set, root: Cell::default(), state: 0 },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_peer_that_is_none_has_a_name_for_it_and_costs_the_others_nothing() {
    let (mut a, b) = (Island::new().await, Island::new().await);
    let mut peers = vec![b.peer()];
    for (index, (code, script)) in SCRIPTS.iter().enumerate() {
        let url = format!("http://{}", server(*script)).parse().unwrap();
        let name = format!("no-{index}-{code}").parse().unwrap();
        peers.push(PeerOptions { name, url, collections: None, direction: Direction::Both });
    }
    a.join(peers);
    let until = time::Instant::now() + SOON;
    let mut written = 1;
    a.put("notes/0", "{}").await;
    while a.node.replicated(&name("notes/0"), 1, SOON).await != Ok(1) {
        assert!(time::Instant::now() < until);
        time::sleep(Duration::from_millis(20)).await;
    }
    loop {
        let statuses = a.node.peer_statuses();
        let bad = statuses.iter().filter_map(|status| {
            let (_, code) = status.options.name.as_str().strip_prefix("no-")?.split_once('-')?;
            let named = status.error.as_ref().is_some_and(|(found, _)| *found == code);
            let told = named && status.state == PeerState::Down && status.next_try.is_some();
            (!told).then_some((&status.options.name, status.state, &status.error))
        });
        let bad: Vec<_> = bad.collect();
        if bad.is_empty() && SCRIPTS.len() < statuses.len() {
            break;
        }
        assert!(time::Instant::now() < until, "{bad:?}");
        // Those that are nodes go on meanwhile.
        a.put(&format!("notes/{written}"), "{}").await;
        written += 1;
        let held = a.node.replicated(&name(&format!("notes/{}", written - 1)), 1, SOON).await;
        assert_eq!(held, Ok(1));
        time::sleep(Duration::from_millis(100)).await;
    }
    equal(&[&a, &b], written).await;
    for status in a.node.peer_statuses() {
        let detail = status.error.map_or_else(String::new, |(_, detail)| detail);
        assert!(!detail.contains('\x1b'), "{detail:?}");
    }
    a.stop().await;
    b.stop().await;
}

/// A member that knows the secret, and says what it likes.
struct Liar<'a> {
    island: &'a Island,
    key: MemberKey,
    number: u64,
}

impl Liar<'_> {
    async fn say(&mut self, what: &str, body: Vec<u8>) -> Vec<u8> {
        self.number += 1;
        let envelope = Envelope {
            node: NodeId::from_bytes([9; 16]),
            from: IncarnationId::from_bytes([8; 16]),
            to: self.island.node.incarnation(),
            number: self.number,
            seal: [0; 32],
        };
        let sealed = self.key.seal(envelope, &format!("/_peer/{what}"), &body);
        let answered = self.island.node.answer_peer(what, &sealed.to_string(), body.into()).await;
        answered.unwrap().body
    }

    async fn push(&mut self, batch: Batch) -> Taken {
        let body = self.say("push", batch.encode()).await;
        Taken::decode(&body).unwrap_or_else(|_| panic!("{:?}", Refused::decode(&body)))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_lies_gets_answers_and_changes_nothing_else() {
    let island = Island::new().await;
    island.put("notes/a", r#"{"a":1}"#).await;
    let version = island.all().await[&name("notes/a")].0.clone();
    let mut liar = Liar { island: &island, key: MemberKey::derived(SECRET), number: 0 };
    assert!(Hello::decode(&liar.say("hello", hello(9, 8).encode()).await).is_ok());
    let set = Scope::All.set(&SketchKey::derived(SECRET));
    let nowhere: Version = [Hash::from_bytes([7; 32])].into_iter().collect();

    // It claims versions that nobody has: it is sent what it does not say that it has.
    let id = name("notes/a").id();
    let at = position(id);
    for seen in [&nowhere, &Version::empty()] {
        let documents = vec![(id, seen.clone())];
        let ask = RepairAsk { set, held: vec![Held { position: at, documents }] };
        let told = RepairTold::decode(&liar.say("docs", ask.encode()).await).unwrap();
        assert_eq!((told.positions, &told.parcels[0].version), (1, &version), "{seen:?}");
        assert!(!told.parcels[0].changes.is_empty());
    }

    // It offers what it never gives, sends what is no change, and what rests on nothing.
    let offers = vec![Offer { id: DocumentId::from_bytes([5; 16]), fingerprint: 1 }];
    let parcel = |key: &str, changes: &[u8]| Parcel {
        name: name(key),
        version: nowhere.clone(),
        changes: changes.to_vec(),
    };
    let made = vec![parcel("notes/b", b"no changes"), parcel("notes/a", &[0x85; 1000])];
    let relayed = vec![parcel("notes/c", b"")];
    let batch = Batch { begins: true, from: 5, to: 900, made, relayed, offers, ..Batch::default() };
    let taken = liar.push(batch.clone()).await;
    assert_eq!((taken.acknowledged, taken.wants.len(), taken.lacks.len()), (900, 1, 2));
    // A stretch that does not follow what it said before is not taken.
    let later = Batch { begins: false, from: 901, to: u64::MAX, ..batch.clone() };
    assert_eq!(liar.push(later).await.acknowledged, 900);
    // One that goes back is taken, and moves nothing.
    let back = Batch { begins: false, from: 900, to: 3, ..batch };
    assert_eq!(liar.push(back).await.acknowledged, 900);

    // Cells that never peel, of a set that is not shared, of slices and salts; cursors of nobody.
    let noise: Vec<Cell> = (0..32).map(|byte| Cell::decode([byte + 1; 20])).collect();
    let what = |set, end| {
        let (part, cells) = (Part::whole(set), noise.clone());
        Ask::What { part, end, cells, probes: vec![7; 352] }
    };
    for (ask, other) in [
        (what(set, u32::MAX), false),
        (what(set, 0), false),
        (what(SetId(1), 64), true),
        (Ask::More { part: Part::whole(set), cells: u32::MAX }, false),
        (Ask::More { part: Part { salt: Some([3; 16]), ..Part::whole(set) }, cells: 9 }, false),
    ] {
        let told = Told::decode(&liar.say("sketch", ask.encode()).await).unwrap();
        assert_eq!(told == Told::Other, other, "{ask:?}");
    }
    let after = Some(Cursor { incarnation: island.node.incarnation(), seq: u64::MAX });
    let pull =
        Pull { after, whole_until: u64::MAX, wait_ms: 0, taken: Some(u64::MAX), lacks: Vec::new() };
    let told = Batch::decode(&liar.say("feed", pull.encode()).await).unwrap();
    assert!(told.begins, "a cursor past the end is none");
    let beat = Beat { seq: u64::MAX, told: u64::MAX, ..hello(9, 8).beat };
    assert!(Beat::decode(&liar.say("heartbeat", beat.encode()).await).is_ok());
    let none = Refused::decode(&liar.say("secrets", Vec::new()).await).unwrap();
    assert_eq!(none.name(), "bad_message");

    let all = island.all().await;
    assert_eq!(all.len(), 1);
    assert_eq!(all[&name("notes/a")].2, Some(Bytes::from_static(br#"{"a":1}"#)));
    island.put("notes/a", r#"{"a":2}"#).await;
    island.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_is_told_nothing_of_what_is_not_shared_with_it_and_brings_nothing_of_it() {
    let island = Island::new().await;
    for key in ["shared/a", "own/a"] {
        island.put(key, r#"{"a":1}"#).await;
    }
    let before = island.all().await;
    let key = SketchKey::derived(SECRET);
    let scope = Scope::of([&"shared".parse().unwrap()], &key);
    let (all, set) = (Scope::All.set(&key), scope.set(&key));
    let mut liar = Liar { island: &island, key: MemberKey::derived(SECRET), number: 0 };
    let hello = Hello { scope, ..hello(9, 8) };
    assert!(Hello::decode(&liar.say("hello", hello.encode()).await).is_ok());

    // It asks for all: by the feed from its beginning, made here or whole, at positions, by names.
    let shared = |parcels: &[Parcel]| parcels.iter().all(|parcel| parcel.name == name("shared/a"));
    let after = Some(Cursor { incarnation: island.node.incarnation(), seq: 0 });
    for whole_until in [0, u64::MAX] {
        let pull = Pull { after, whole_until, wait_ms: 0, taken: None, lacks: Vec::new() };
        let told = Batch::decode(&liar.say("feed", pull.encode()).await).unwrap();
        assert!(shared(&told.made) && shared(&told.relayed), "{told:?}");
        assert!(told.offers.iter().all(|offer| offer.id == name("shared/a").id()), "{told:?}");
        assert_eq!(told.made.len() + told.relayed.len(), 1, "{told:?}");
    }
    let positions: Vec<u64> = before.keys().map(|name| position(name.id())).collect();
    let held = |position: &u64| Held { position: *position, documents: Vec::new() };
    let held: Vec<Held> = positions.iter().map(held).collect();
    let ask = RepairAsk { set, held: held.clone() };
    let told = RepairTold::decode(&liar.say("docs", ask.encode()).await).unwrap();
    assert_eq!((told.positions, told.parcels.len()), (2, 1));
    assert!(shared(&told.parcels));
    let ask = NamesAsk { set, positions: positions.clone() };
    let told = NamesTold::decode(&liar.say("names", ask.encode()).await).unwrap();
    assert_eq!((told.positions, told.documents.len()), (2, 1));
    assert_eq!(told.documents[0].0, name("shared/a"));
    // What it says to share of more is not what is agreed.
    let ask = Ask::More { part: Part::whole(all), cells: 64 };
    assert_eq!(Told::decode(&liar.say("sketch", ask.encode()).await).unwrap(), Told::Other);
    for (what, ask) in [
        ("docs", RepairAsk { set: all, held }.encode()),
        ("names", NamesAsk { set: all, positions }.encode()),
    ] {
        assert_eq!(Refused::decode(&liar.say(what, ask).await).unwrap().name(), "not_shared");
    }

    // It brings changes of what is not shared, and offers them: neither taken nor wanted.
    let mut doc = Automerge::new();
    let mut tx = doc.transaction();
    tx.put(ROOT, "b", 1).unwrap();
    tx.commit();
    let parcel = |key: &str| Parcel {
        name: name(key),
        version: doc.get_heads().into_iter().map(|hash| Hash::from_bytes(hash.0)).collect(),
        changes: doc.save(),
    };
    let offers = vec![Offer { id: name("own/a").id(), fingerprint: 1 }];
    let made = vec![parcel("own/a"), parcel("own/b"), parcel("shared/b")];
    let relayed = vec![parcel("own/c"), parcel("shared/c")];
    let batch = Batch { begins: true, from: 0, to: 9, made, relayed, offers, ..Batch::default() };
    let taken = liar.push(batch).await;
    assert_eq!((taken.acknowledged, taken.wants, taken.lacks), (9, vec![], vec![]));
    let mut after = island.all().await;
    for key in ["shared/b", "shared/c"] {
        assert!(after.remove(&name(key)).is_some(), "{key}");
    }
    assert_eq!(after, before);
    island.stop().await;
}
