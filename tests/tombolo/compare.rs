//! The comparison of two nodes: what it names, what it costs, and that they do not notice it.

use crate::replicate::{Island, equal, name};
use serde_json::{Value, json};
use std::{process::Stdio, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    process::Command,
    time,
};
use tombolo::{
    doc::Edit,
    ident::{DocumentId, IncarnationId, NodeId},
    node::{Direction, Node, PeerOptions},
    store::MemoryEngine,
    sync::{
        Ask, Beat, Cell, Envelope, Hello, MemberKey, NamesAsk, NamesTold, Part, Refused, Scope,
        SketchKey, Told, position,
    },
};

/// What a comparison did.
#[derive(Debug)]
struct Done {
    code: i32,
    out: String,
    talk: String,
}

impl Done {
    fn rows(&self) -> Vec<Value> {
        serde_json::from_str(&self.out).unwrap()
    }

    /// Collection/key and what, of each row.
    fn named(&self) -> Vec<String> {
        let text = |row: &Value, of: &str| row[of].as_str().unwrap().to_owned();
        let named = |row: &Value| {
            format!("{}/{} {}", text(row, "collection"), text(row, "key"), text(row, "what"))
        };
        self.rows().iter().map(named).collect()
    }
}

async fn run(words: &[&str]) -> Done {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tombolo"));
    command.arg("compare").args(words).env_clear().stdin(Stdio::null());
    let output = command.output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Done {
        code: output.status.code().unwrap(),
        out: text(output.stdout),
        talk: text(output.stderr),
    }
}

fn url(island: &Island) -> String {
    format!("http://{}", island.address)
}

async fn compare(a: &Island, b: &Island) -> Done {
    run(&[&url(a), &url(b)]).await
}

/// One that needs no secret, as nodes of one machine do not. Its sketch has 64 cells.
async fn island() -> Island {
    Island::on(Arc::new(MemoryEngine::new()), "127.0.0.1:0", b"").await
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_hold_the_same_are_equal_in_two_requests() {
    let (mut a, b) = (island().await, island().await);
    for key in 0..100 {
        a.put(&format!("notes/{key}"), "{}").await;
    }
    a.join(vec![b.peer()]);
    equal(&[&a, &b], 100).await;
    let done = compare(&a, &b).await;
    assert_eq!((done.code, &*done.out), (0, "[]\n"), "{done:?}");
    assert!(done.talk.starts_with("no difference, of 100 documents (2 requests, "), "{done:?}");
    let table = run(&[&url(&b), &url(&a), "-o", "table", "-q"]).await;
    assert_eq!((table.code, &*table.out, &*table.talk), (0, "COLLECTION  KEY  WHAT  A  B\n", ""));
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_collections_are_compared_whatever_is_shared_with_peers() {
    let (mut a, b) = (island().await, island().await);
    a.put("notes/a", "{}").await;
    // Nobody is there, so any node may be that peer.
    let nobody = PeerOptions {
        name: "nobody".parse().unwrap(),
        url: "http://127.0.0.1:9".parse().unwrap(),
        collections: Some(vec!["other".parse().unwrap()]),
        direction: Direction::Push,
    };
    a.join(vec![nobody]);
    let done = compare(&a, &b).await;
    assert_eq!((done.code, done.named()), (1, vec!["notes/a only in A".to_owned()]), "{done:?}");
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_document_that_differs_is_named_with_both_versions() {
    let engines = [Arc::new(MemoryEngine::new()), Arc::new(MemoryEngine::new())];
    let on = |engine: MemoryEngine| Island::on(Arc::new(engine), "127.0.0.1:0", b"");
    let mut a = Island::on(Arc::clone(&engines[0]) as _, "127.0.0.1:0", b"").await;
    let b = Island::on(Arc::clone(&engines[1]) as _, "127.0.0.1:0", b"").await;
    for key in 0..5 {
        a.put(&format!("same/{key}"), "{}").await;
    }
    a.join(vec![b.peer()]);
    equal(&[&a, &b], 5).await;
    a.stop().await;
    b.stop().await;
    // Started again, they know nothing of each other.
    let (a, b) = (on(engines[0].restart()).await, on(engines[1].restart()).await);
    let mine = a.put("notes/both", r#"{"on":"a"}"#).await;
    let theirs = b.put("notes/both", r#"{"on":"b"}"#).await;
    b.put("notes/b", "{}").await;
    // A deleted document is one that the other lacks.
    a.put("notes/gone", "{}").await;
    a.write("notes/gone", Edit::Delete).await;
    // One id under two names: both stand at one position.
    let id = DocumentId::from_bytes([0x41; 16]).to_bs58check();
    a.put(&format!("one/{id}"), "{}").await;
    b.put(&format!("two/{id}"), "{}").await;
    let done = compare(&a, &b).await;
    assert_eq!(done.code, 1, "{done:?}");
    let (one, two) = (format!("one/{id} only in A"), format!("two/{id} only in B"));
    let named = ["notes/b only in B", "notes/both differs", "notes/gone only in A", &one, &two];
    assert_eq!(done.named(), named, "{done:?}");
    let versions = |version: &tombolo::ident::Version| {
        version.hashes().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let row = &done.rows()[1];
    assert_eq!(row["a"], json!(versions(&mine.version)));
    assert_eq!(row["b"], json!(versions(&theirs.version)));
    assert_eq!(done.rows()[0]["a"], Value::Null);
    assert!(done.talk.starts_with("tombolo: 5 documents differ ("), "{done:?}");
    let lines = run(&[&url(&b), &url(&a), "-o", "ndjson"]).await;
    assert_eq!((lines.code, lines.out.lines().count()), (1, 5));
    let table = run(&[&url(&b), &url(&a), "-o", "table"]).await;
    let short = &versions(&theirs.version)[0][..8];
    assert!(table.out.lines().nth(1).unwrap().starts_with("notes       b  "), "{table:?}");
    assert!(table.out.contains(&format!("differs    {short}  ")), "{table:?}");
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_a_sketch_tells_is_named_by_slices() {
    let (a, b) = (island().await, island().await);
    for key in 0..150 {
        a.put(&format!("notes/a-{key:03}"), "{}").await;
        b.put(&format!("notes/b-{key:03}"), "{}").await;
    }
    let done = compare(&a, &b).await;
    let named = |of: &str| {
        let (of, what) = (of.to_owned(), of.to_uppercase());
        (0..150).map(move |key| format!("notes/{of}-{key:03} only in {what}"))
    };
    assert_eq!(done.named(), named("a").chain(named("b")).collect::<Vec<_>>());
    assert!(done.code == 1 && done.talk.contains("300 documents differ ("), "{}", done.talk);
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_its_way_is_no_difference() {
    let (mut a, b) = (island().await, island().await);
    a.put("notes/first", "{}").await;
    a.join(vec![b.peer()]);
    equal(&[&a, &b], 1).await;
    let writing = async {
        for n in 0.. {
            a.put(&format!("notes/{}", n % 7), &format!(r#"{{"n":{n}}}"#)).await;
        }
    };
    let comparing = async {
        for _ in 0..3 {
            let done = compare(&a, &b).await;
            assert_eq!((done.code, &*done.out), (0, "[]\n"), "{done:?}");
        }
    };
    tokio::select! {
        () = writing => {}
        () = comparing => {}
    }
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_that_cannot_be_made_says_why() {
    let secret = b"a secret that is long";
    let (a, b) =
        (Island::on(Arc::new(MemoryEngine::new()), "127.0.0.1:0", secret).await, island().await);
    a.put("notes/a", "{}").await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, secret: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, secret).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (right, wrong) =
        (file("right", "a secret that is long\n"), file("wrong", "quite another one"));
    let short = file("short", "too short");
    let (a_url, b_url) = (url(&a), url(&b));
    let c = Island::on(Arc::new(MemoryEngine::new()), "127.0.0.1:0", secret).await;
    let c_url = url(&c);
    let nobody = "http://127.0.0.1:1";
    let missing = says("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await;
    let fine = says("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
    let silent = says("220 mail\r\n").await;
    let flag = "--cluster-secret-file";
    for (words, code, said) in [
        (&[&*a_url, &b_url][..], 1, &*format!("{a_url}: it has another secret: give the secret")),
        (&[&b_url, &a_url, flag, &right], 1, &format!("{b_url}: it has another secret")),
        (&[&a_url, &c_url, flag, &wrong], 1, "it has another secret"),
        (&[&a_url, &c_url, flag, &short], 2, "a secret has 16 to 4096 bytes"),
        (&[&a_url, &c_url, flag, "/no/such/file"], 2, "/no/such/file"),
        (&[&b_url, &b_url], 2, "are one node"),
        (&[&b_url, "127.0.0.1:7420"], 2, "http://HOST:PORT"),
        (&[&b_url, nobody], 5, "http://127.0.0.1:1: not reached"),
        (&[&b_url, &missing], 1, "it is no node: it answered 404"),
        (&[&b_url, &fine], 1, "it is no node of this cluster: its answer has no seal"),
        (&[&b_url, &silent], 5, "not reached"),
        (&[&a_url, &c_url, flag, &right], 1, "tombolo: 1 document differs ("),
    ] {
        let done = run(words).await;
        assert!(done.code == code && done.talk.contains(said), "{words:?}: {done:?}");
    }
    for island in [a, b, c] {
        island.stop().await;
    }
}

/// Something that answers so whatever it is asked.
async fn says(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = [0; 4096];
            let _ = stream.read(&mut bytes).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_do_not_notice_that_they_are_compared() {
    let (mut a, b) = (island().await, island().await);
    a.put("notes/a", "{}").await;
    a.join(vec![b.peer()]);
    equal(&[&a, &b], 1).await;
    let before = (a.node.peer_statuses(), b.node.peer_statuses());
    for _ in 0..4 {
        assert_eq!(compare(&a, &b).await.code, 0);
    }
    let after = (a.node.peer_statuses(), b.node.peer_statuses());
    let told = |statuses: &[tombolo::node::PeerStatus]| -> Vec<_> {
        statuses.iter().map(|one| (one.node, one.state, one.error.clone())).collect()
    };
    assert_eq!((told(&before.0), told(&before.1)), (told(&after.0), told(&after.1)));
    // The one peer holds it, and there is no second one to wait for.
    let began = time::Instant::now();
    a.put("notes/b", "{}").await;
    let long = Duration::from_secs(30);
    assert_eq!(a.node.replicated(&name("notes/b"), 1, long).await, Ok(1));
    assert!(a.node.replicated(&name("notes/b"), 2, long).await.unwrap() <= 1);
    assert!(began.elapsed() < long, "nobody is waited for who only looked");
    a.stop().await;
    b.stop().await;
}

/// Asks a node, as one who looks on.
struct Looking<'a> {
    node: &'a Node,
    key: MemberKey,
    number: u64,
}

impl Looking<'_> {
    async fn ask(&mut self, what: &str, body: Vec<u8>) -> Vec<u8> {
        self.number += 1;
        let envelope = Envelope {
            node: NodeId::from_bytes([9; 16]),
            from: IncarnationId::from_bytes([8; 16]),
            to: self.node.incarnation(),
            number: self.number,
            seal: [0; 32],
        };
        let sealed = self.key.seal(envelope, &format!("/_peer/{what}"), &body);
        let answered = self.node.answer_peer(what, &sealed.to_string(), body.into()).await;
        answered.unwrap().body
    }
}

#[tokio::test]
async fn one_who_looks_on_is_told_of_cells_and_names_and_nothing_else() {
    let a = island().await;
    a.put("notes/a", "{}").await;
    let sketches = SketchKey::derived(b"");
    let set = Scope::All.set(&sketches);
    let mut looking = Looking { node: &a.node, key: MemberKey::derived(b""), number: 0 };
    let refused = |body: Vec<u8>| Refused::decode(&body).unwrap().name();
    assert_eq!(refused(looking.ask("names", Vec::new()).await), "unknown");
    let hello = Hello {
        node: NodeId::from_bytes([9; 16]),
        incarnation: IncarnationId::from_bytes([8; 16]),
        key: sketches.id(),
        scope: Scope::All,
        sends: false,
        takes: false,
        links: Vec::new(),
        documents: 0,
        beat: Beat { seq: 0, cursor: None, told: 0, set, root: Cell::default(), state: 0 },
    };
    let told = Hello::decode(&looking.ask("hello", hello.encode()).await).unwrap();
    assert_eq!((told.node, told.documents, told.beat.set), (a.node.id(), 1, set));
    for what in ["heartbeat", "push", "feed", "docs"] {
        assert_eq!(refused(looking.ask(what, Vec::new()).await), "not_shared", "{what}");
    }
    let ask = Ask::More { part: Part::whole(set), cells: 2 };
    let told = Told::decode(&looking.ask("sketch", ask.encode()).await).unwrap();
    assert!(matches!(told, Told::Cells(cells) if cells.len() == 2));
    let here = name("notes/a");
    let ask = NamesAsk { set, positions: vec![1, position(here.id())] };
    let told = NamesTold::decode(&looking.ask("names", ask.encode()).await).unwrap();
    assert!(told.answers(&ask) && told.positions == 2, "{told:?}");
    assert_eq!(told.documents.iter().map(|(name, _)| name).collect::<Vec<_>>(), [&here]);
    let other = NamesAsk { set: Scope::Some([7].into()).set(&sketches), ..ask };
    assert_eq!(refused(looking.ask("names", other.encode()).await), "not_shared");
    assert_eq!(refused(looking.ask("names", vec![1, 17, 0]).await), "bad_message");
    // Who then takes part is a member like any other.
    let member = Hello { sends: true, takes: true, ..hello };
    Hello::decode(&looking.ask("hello", member.encode()).await).unwrap();
    assert_eq!(refused(looking.ask("push", Vec::new()).await), "bad_message");
    assert_eq!(refused(looking.ask("names", Vec::new()).await), "bad_message");
    a.stop().await;
}
