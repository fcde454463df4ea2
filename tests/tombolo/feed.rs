//! The feed: pages, waits, streams, cursors, and what a kill does to them.

use crate::{
    http::{Client, Reply},
    process::{self, Process},
};
use axum::{
    body::Body,
    http::{Request, Response},
};
use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};
use tombolo::{
    http::{Api, Options},
    node::{self, Node, SUBSCRIPTIONS_MAX},
    store::{
        Batch, Cached, Crash, Durability, Engine, EngineError, Health, MemoryEngine, Range, Usage,
        Visit, key::Family,
    },
};

async fn changes(client: &Client, query: &str) -> Value {
    let reply = client.ask(&format!("GET /v1/_changes{query}"), &[], "").await;
    assert_eq!(reply.status, 200, "{query}: {}", reply.text());
    assert_eq!(reply.headers["cache-control"], "no-store");
    serde_json::from_slice(&reply.body).unwrap()
}

/// `collection/key` of each row.
fn names(page: &Value) -> Vec<String> {
    let text = |row: &Value, member: &str| row[member].as_str().unwrap().to_owned();
    let rows = page["changes"].as_array().unwrap().iter();
    rows.map(|row| format!("{}/{}", text(row, "collection"), text(row, "key"))).collect()
}

async fn write(client: &Client, line: &str, body: &'static str) -> Reply {
    let reply = client.ask(line, &[], body).await;
    assert!(reply.status.is_success(), "{line}: {}", reply.text());
    reply
}

fn with_node() -> (Client, Node) {
    let node = crate::node();
    (Client(Api::new(node.clone(), Options::default())), node)
}

fn api(engine: &Arc<MemoryEngine>) -> Client {
    let engine = Arc::clone(engine);
    let node = Node::start(node::Options::default(), engine).unwrap();
    Client(Api::new(node, Options::default()))
}

#[tokio::test]
async fn a_document_stands_once_at_its_last_commit_in_pages_filters_and_values() {
    let client = Client::new();
    for line in ["a/x", "a/y", "b/x", "a/yy", "a/é"] {
        write(&client, &format!("PUT /v1/{}", line.replace('é', "%C3%A9")), r#"{"n":1}"#).await;
    }
    let moved = write(&client, "PUT /v1/a/x", r#"{"n":2}"#).await;
    write(&client, "DELETE /v1/a/y", "").await;
    write(&client, "PUT /v1/b/x", r#"{"n":1}"#).await;
    let all = changes(&client, "").await;
    assert_eq!(names(&all), ["b/x", "a/yy", "a/é", "a/x", "a/y"]);
    let row = &all["changes"][3];
    assert_eq!(row["version"], serde_json::json!([moved.version()]));
    assert_eq!((&row["deleted"], &row["conflicts"]), (&false.into(), &0.into()));
    assert_eq!(row.get("value"), None);
    assert!(row["document"].as_str().unwrap().starts_with("automerge:"));
    assert_eq!(all["changes"][4]["deleted"], true);
    let valued = changes(&client, "?values=true").await;
    assert_eq!(valued["changes"][3]["value"], serde_json::json!({"n": 2}));
    assert_eq!(valued["changes"][4].get("value"), None);
    for (query, expected) in [
        ("?collection=b", vec!["b/x"]),
        ("?collection=a&prefix=y", vec!["a/yy", "a/y"]),
        ("?collection=a&prefix=%C3%A9", vec!["a/é"]),
        ("?collection=none", vec![]),
        ("?since=now", vec![]),
    ] {
        assert_eq!(names(&changes(&client, query).await), expected, "{query}");
    }
    // Page by page, and from each row's own cursor.
    let (mut next, mut seen) = (String::new(), Vec::new());
    loop {
        let page = changes(&client, &format!("?limit=2{next}")).await;
        seen.extend(names(&page));
        next = format!("&since={}", page["next"].as_str().unwrap());
        if page["changes"].as_array().unwrap().is_empty() {
            break;
        }
    }
    assert_eq!(seen, names(&all));
    for (index, row) in all["changes"].as_array().unwrap().iter().enumerate() {
        let query = format!("?since={}", row["cursor"].as_str().unwrap());
        assert_eq!(names(&changes(&client, &query).await), names(&all)[index + 1..]);
    }
}

#[tokio::test]
async fn a_page_ends_at_8_mib_also_where_its_values_have_yet_to_be_made() {
    let client = Client::new();
    let body = format!(r#"{{"a":"{}"}}"#, "x".repeat(1 << 20));
    for key in 10..20 {
        let line = format!("PUT /v1/large/{key}");
        assert_eq!(client.ask(&line, &[], body.clone()).await.status, 201);
    }
    for key in 10..20 {
        // The view of a document of this size is left for later.
        let line = format!("PATCH /v1/large/{key}");
        let patched = client.ask(&line, &[crate::http::MERGE], r#"{"b":1}"#).await;
        assert_eq!(patched.status, 200);
    }
    let page = changes(&client, "?values=true").await;
    assert_eq!(names(&page).len(), 8);
    let rest = format!("?values=true&since={}", page["next"].as_str().unwrap());
    let rest = changes(&client, &rest).await;
    assert_eq!(names(&rest), ["large/18", "large/19"]);
    assert_eq!(rest["changes"][1]["value"]["b"], 1);
}

#[tokio::test]
async fn what_is_asked_wrongly_is_refused() {
    let client = Client::new();
    for (query, code) in [
        ("?since=garbage", (400, "bad_cursor")),
        ("?since=", (400, "bad_cursor")),
        ("?since=0000000000000000", (400, "bad_cursor")),
        ("?wait=-1", (400, "bad_query")),
        ("?wait=x", (400, "bad_query")),
        ("?limit=0", (400, "bad_query")),
        ("?limit=1001", (400, "bad_query")),
        ("?prefix=x", (400, "bad_query")),
        ("?collection=_x", (400, "bad_query")),
        ("?values=1", (400, "bad_query")),
        ("?x=1", (400, "bad_query")),
    ] {
        let reply = client.ask(&format!("GET /v1/_changes{query}"), &[], "").await;
        assert_eq!(reply.refusal(), (code.0, code.1.into()), "{query}");
    }
    let stream = "accept: text/event-stream";
    let reply = client.ask("GET /v1/_changes", &[stream, "last-event-id: x"], "").await;
    assert_eq!(reply.refusal(), (400, "bad_cursor".into()));
    for query in ["?limit=1", "?wait=1"] {
        let reply = client.ask(&format!("GET /v1/_changes{query}"), &[stream], "").await;
        assert_eq!(reply.refusal(), (400, "bad_query".into()), "{query} is for pages");
    }
    let reply = client.ask("GET /v1/_changes", &["accept: text/html"], "").await;
    assert_eq!(reply.refusal(), (406, "not_acceptable".into()));
    assert_eq!(client.ask("POST /v1/_changes", &[], "").await.status, 405);
}

#[tokio::test]
async fn a_cursor_survives_a_start_and_no_lost_end() {
    let engine = Arc::new(MemoryEngine::new());
    let client = api(&engine);
    write(&client, "PUT /v1/a/x", r#"{"n":1}"#).await;
    let early = changes(&client, "").await["next"].as_str().unwrap().to_owned();
    let cut = Arc::new(engine.crash(Crash::Keep { batches: usize::MAX }));
    write(&client, "PUT /v1/a/y", r#"{"n":1}"#).await;
    let late = changes(&client, "").await["next"].as_str().unwrap().to_owned();
    let ask = async |client: &Client, cursor: &str| {
        client.ask(&format!("GET /v1/_changes?since={cursor}"), &[], "").await
    };
    // What a disk without the last write holds, and the whole.
    let again = Arc::new(engine.crash(Crash::Keep { batches: usize::MAX }));
    let (whole, cut) = (api(&again), api(&cut));
    for cursor in [&early, &late] {
        assert_eq!(ask(&whole, cursor).await.status, 200);
    }
    write(&whole, "PUT /v1/a/z", r#"{"n":1}"#).await;
    assert_eq!(names(&changes(&whole, &format!("?since={late}")).await), ["a/z"]);
    assert_eq!(ask(&cut, &early).await.status, 200);
    write(&cut, "PUT /v1/a/z", r#"{"n":1}"#).await;
    assert_eq!(names(&changes(&cut, &format!("?since={early}")).await), ["a/z"]);
    assert_eq!(ask(&cut, &late).await.refusal(), (410, "cursor_gone".into()));
    // Another node's, and one that is ahead of all.
    let other = Client::new();
    assert_eq!(ask(&other, &early).await.refusal(), (410, "cursor_gone".into()));
    let (incarnation, _) = early.split_once('-').unwrap();
    let ahead = format!("{incarnation}-00000000000000ff");
    assert_eq!(ask(&client, &ahead).await.refusal(), (410, "cursor_gone".into()));
}

#[tokio::test]
async fn who_waits_is_told_of_the_next_commit_that_matches() {
    let (client, node) = with_node();
    let ask = |query: &str| {
        let (client, query) = (Client(client.0.clone()), query.to_owned());
        tokio::spawn(async move { changes(&client, &query).await })
    };
    let (all, some) = (ask("?wait=20"), ask("?wait=20&collection=b&prefix=k"));
    while node.subscriptions() < 2 {
        tokio::task::yield_now().await;
    }
    write(&client, "PUT /v1/a/x", "{}").await;
    assert_eq!(names(&all.await.unwrap()), ["a/x"]);
    write(&client, "PUT /v1/b/x", "{}").await;
    write(&client, "PUT /v1/b/kx", "{}").await;
    assert_eq!(names(&some.await.unwrap()), ["b/kx"]);
    assert_eq!(node.subscriptions(), 0);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_a_minute() {
    let client = Client::new();
    let began = tokio::time::Instant::now();
    let page = changes(&client, "?wait=1000000000").await;
    assert_eq!(names(&page), [""; 0]);
    assert_eq!(began.elapsed().as_secs(), 60);
}

/// The answer to a stream, unread.
async fn stream(api: &Api, query: &str, accept: &str) -> Response<Body> {
    let request = Request::get(format!("/v1/_changes{query}"));
    let request = request.header("host", "localhost").header("accept", accept);
    let request = request.header("accept-encoding", "gzip");
    api.answer(request.body(Body::empty()).unwrap()).await
}

async fn piece(response: &mut Response<Body>) -> Option<String> {
    let frame = response.body_mut().frame().await?.unwrap();
    Some(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap())
}

#[tokio::test]
async fn a_stream_goes_on_until_the_node_stops() {
    let (client, node) = with_node();
    write(&client, "PUT /v1/a/x", r#"{"n":1}"#).await;
    let mut events = stream(&client.0, "?values=true", "text/event-stream").await;
    let mut lines = stream(&client.0, "?since=now", "application/x-ndjson").await;
    assert_eq!(events.headers()["content-type"], "text/event-stream");
    assert!(!events.headers().contains_key("content-encoding"), "nothing holds it back");
    let first = piece(&mut events).await.unwrap();
    assert!(first.starts_with("event: change\nid: "), "{first}");
    assert!(first.contains("\ndata: {\"cursor\":\""), "{first}");
    assert!(first.ends_with(",\"value\":{\"n\":1}}\n\n"), "{first}");
    for n in 0..3 {
        let body = format!(r#"{{"n":{n}}}"#);
        client.ask("PUT /v1/a/y", &[], body).await;
        let event = piece(&mut events).await.unwrap();
        assert!(event.contains(&format!(r#""value":{{"n":{n}}}"#)), "{event}");
        let line: Value = serde_json::from_str(&piece(&mut lines).await.unwrap()).unwrap();
        assert_eq!(line["key"], "y");
    }
    let waiting = tokio::spawn(async move { piece(&mut events).await });
    client.0.end_streams();
    assert_eq!(waiting.await.unwrap(), None);
    assert_eq!(piece(&mut lines).await, None);
    drop(lines);
    assert_eq!(node.subscriptions(), 0);
}

#[tokio::test]
async fn a_stream_without_news_says_that_it_is_there_and_moves_on() {
    let client = Client::new();
    let mut events = stream(&client.0, "?collection=none", "text/event-stream").await;
    let mut lines = stream(&client.0, "?collection=none", "application/x-ndjson").await;
    for key in ["x", "y"] {
        write(&client, &format!("PUT /v1/a/{key}"), "{}").await;
    }
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    let beat = piece(&mut events).await.unwrap();
    assert!(beat.starts_with(": here\nid: ") && beat.ends_with("-0000000000000002\n\n"), "{beat}");
    assert_eq!(began.elapsed().as_secs(), 15);
    assert_eq!(piece(&mut lines).await.unwrap(), "\n");
}

/// An engine whose commits begin and do not end while they are held.
#[derive(Debug, Default)]
struct Held {
    engine: MemoryEngine,
    hold: AtomicBool,
    /// A commit has begun while they were.
    begun: AtomicBool,
}

impl Engine for Held {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.engine.get(family, key)
    }

    fn get_cached(&self, family: Family, key: &[u8]) -> Result<Cached<Bytes>, EngineError> {
        self.engine.get_cached(family, key)
    }

    fn scan(&self, family: Family, at: &Range, visit: &mut Visit<'_>) -> Result<(), EngineError> {
        self.engine.scan(family, at, visit)
    }

    fn last_key(&self, family: Family) -> Result<Option<Vec<u8>>, EngineError> {
        self.engine.last_key(family)
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), EngineError> {
        while self.hold.load(Ordering::SeqCst) {
            self.begun.store(true, Ordering::SeqCst);
            thread::yield_now();
        }
        self.engine.commit(batch, durability)
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.engine.sync()
    }

    fn checkpoint(&self, directory: &Path) -> Result<(), EngineError> {
        self.engine.checkpoint(directory)
    }

    fn health(&self) -> Result<Health, EngineError> {
        self.engine.health()
    }

    fn usage(&self) -> Result<Usage, EngineError> {
        self.engine.usage()
    }
}

#[tokio::test]
async fn who_comes_while_a_commit_is_synced_is_told_of_it() {
    let engine = Arc::new(Held::default());
    let node = Node::start(node::Options::default(), Arc::clone(&engine) as _).unwrap();
    let client = Client(Api::new(node, Options::default()));
    engine.hold.store(true, Ordering::SeqCst);
    let writer = Client(client.0.clone());
    let written = tokio::spawn(async move { write(&writer, "PUT /v1/a/x", "{}").await });
    while !engine.begun.load(Ordering::SeqCst) {
        tokio::task::yield_now().await;
    }
    // The only reader there is: it finds nothing yet, and waits.
    let mut events = stream(&client.0, "?collection=a", "text/event-stream").await;
    engine.hold.store(false, Ordering::SeqCst);
    written.await.unwrap();
    tokio::time::pause();
    let event = piece(&mut events).await.unwrap();
    assert!(event.starts_with("event: change\n"), "not passed over by a heartbeat: {event}");
}

#[tokio::test]
async fn as_many_wait_as_may_and_no_more() {
    let client = Client::new();
    let mut waiting = Vec::new();
    for _ in 0..SUBSCRIPTIONS_MAX {
        waiting.push(stream(&client.0, "?since=now", "text/event-stream").await);
    }
    for query in ["?wait=1", "?since=now"] {
        let accept = if query == "?wait=1" { "*/*" } else { "text/event-stream" };
        let refused = stream(&client.0, query, accept).await;
        assert_eq!(refused.status(), 429, "{query}");
        assert_eq!(refused.headers()["retry-after"], "1");
    }
    assert_eq!(client.ask("GET /v1/_changes", &[], "").await.status, 200, "who does not wait");
    waiting.pop();
    assert_eq!(stream(&client.0, "?since=now", "text/event-stream").await.status(), 200);
}

/// The events of a node, for as long as it lives: `id` and `data` of each.
fn listen(address: std::net::SocketAddr, since: &str, mut event: impl FnMut(&str, Value)) {
    let Ok(mut stream) = TcpStream::connect(address) else { return };
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let last = if since.is_empty() { String::new() } else { format!("last-event-id: {since}\r\n") };
    let head = "GET /v1/_changes?values=true HTTP/1.1\r\naccept: text/event-stream\r\n";
    if stream.write_all(format!("{head}host: {address}\r\n{last}\r\n").as_bytes()).is_err() {
        return;
    }
    let mut id = String::new();
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        assert!(!line.starts_with("HTTP/1.1 4"), "{line}");
        if let Some(found) = line.strip_prefix("id: ") {
            found.clone_into(&mut id);
        }
        // What the kill cut off is no event.
        if let Some(Ok(data)) = line.strip_prefix("data: ").map(serde_json::from_str) {
            event(&id, data);
        }
    }
}

#[test]
fn who_resumes_after_kills_sees_every_acknowledged_change_in_order() {
    const WRITERS: usize = 4;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let acknowledged: Vec<AtomicU64> = (0..WRITERS * 3).map(|_| AtomicU64::new(0)).collect();
    let acknowledged = &acknowledged;
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    let mut see = |row: &Value| {
        let (key, n) = (row["key"].as_str().unwrap(), row["value"]["n"].as_u64().unwrap());
        let before = seen.insert(key.to_owned(), n).unwrap_or(0);
        assert!(before <= n, "{key} goes back from {before} to {n}");
    };
    let (mut since, mut events, mut next) = (String::new(), 0, 1);
    for _ in 0..4 {
        let process = Process::start(&data);
        let address = process.address;
        next = thread::scope(|scope| {
            let write = |writer: usize| {
                let mut client = process::Client::connect(address).unwrap();
                for n in next.. {
                    // Each document has one writer, which counts up.
                    let key = writer * 3 + usize::try_from(n % 3).unwrap();
                    let (path, body) = (format!("/v1/a/{key}"), format!(r#"{{"n":{n}}}"#));
                    match client.send("PUT", &path, &[], body.as_bytes()) {
                        Ok(answer) if answer.status < 300 => {
                            acknowledged[key].store(n, Ordering::Relaxed);
                        }
                        Ok(_) | Err(_) => return n + 1,
                    }
                }
                unreachable!("it is killed before")
            };
            let writers: Vec<_> =
                (0..WRITERS).map(|writer| scope.spawn(move || write(writer))).collect();
            scope.spawn(move || {
                let all = || acknowledged.iter().map(|n| n.load(Ordering::Relaxed)).max();
                while all() < Some(next + 60) {
                    thread::yield_now();
                }
                process.kill();
            });
            listen(address, &since.clone(), |id, row| {
                see(&row);
                id.clone_into(&mut since);
                events += 1;
            });
            writers.into_iter().map(|writer| writer.join().unwrap()).max().unwrap()
        });
    }
    assert!(20 < events, "{events} events");
    let process = Process::start(&data);
    let mut client = process.client();
    loop {
        let path = format!("/v1/_changes?values=true&since={since}");
        let page = client.send("GET", &path, &[], b"").unwrap().json();
        page["changes"].as_array().unwrap().iter().for_each(&mut see);
        page["next"].as_str().unwrap().clone_into(&mut since);
        if page["changes"].as_array().unwrap().is_empty() {
            break;
        }
    }
    for (key, acknowledged) in acknowledged.iter().enumerate() {
        let acknowledged = acknowledged.load(Ordering::Relaxed);
        let seen = seen.get(&key.to_string()).copied().unwrap_or(0);
        assert!(acknowledged <= seen, "{key}: {acknowledged} was acknowledged, {seen} seen");
    }
    process.stop();
}

#[test]
fn readers_that_never_read_cost_nothing() {
    const READERS: usize = 100;
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(&folder.path().join("data"));
    let mut client = process.client();
    let text = "x".repeat(40_000);
    for n in 0..100 {
        let body = format!(r#"{{"n":{n},"text":"{text}"}}"#);
        assert_eq!(
            client.send("PUT", &format!("/v1/a/{n}"), &[], body.as_bytes()).unwrap().status,
            201
        );
    }
    let before = process.resident_bytes();
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let mut stream = TcpStream::connect(process.address).unwrap();
        let head = "GET /v1/_changes?values=true HTTP/1.1\r\naccept: text/event-stream\r\n";
        stream.write_all(format!("{head}host: {}\r\n\r\n", process.address).as_bytes()).unwrap();
        readers.push(stream);
    }
    // Every reader is there, and others are served.
    for n in 0..500 {
        let body = format!(r#"{{"n":{n}}}"#);
        client.send("PUT", "/v1/b/x", &[], body.as_bytes()).unwrap();
    }
    let grown = process.resident_bytes().saturating_sub(before) / READERS as u64;
    // What was read for it and waits to be sent, of 4 MB.
    assert!(grown < 2 << 20, "{grown} bytes a reader");
    drop(readers);
    process.stop();
}

#[test]
fn a_watch_outlives_its_node_and_misses_nothing() {
    use std::process::{Command, Stdio};
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut process = Process::start(&data);
    let listen = process.address.to_string();
    let put = |process: &Process, n: u32| {
        let body = format!(r#"{{"n":{n}}}"#);
        let mut client = process.client();
        assert!(client.send("PUT", "/v1/a/x", &[], body.as_bytes()).unwrap().status < 300);
        client.send("PUT", "/v1/b/x", &[], body.as_bytes()).unwrap();
    };
    put(&process, 0);
    let mut watch = Command::new(env!("CARGO_BIN_EXE_tombolo"))
        .args(["watch", "a", "--since", "beginning", "--values", "-o", "ndjson"])
        .args(["--url", &format!("http://{listen}")])
        .env_clear()
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    for n in 0..4 {
        if n == 2 {
            process.kill();
            process = Process::start_at(&data, &listen);
        }
        if 0 < n {
            put(&process, n);
        }
        let row: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!((&row["collection"], &row["value"]["n"]), (&"a".into(), &n.into()));
    }
    watch.kill().unwrap();
    watch.wait().unwrap();
    for (words, said) in [
        (&["--since", "x"][..], "bad_cursor"),
        (&["--prefix", "x"], "COLLECTION"),
        (&["a", "b"], "unexpected"),
    ] {
        let url = format!("http://{listen}");
        let (well, _, talk) = process::tombolo(&[&["watch", "--url", &url], words].concat());
        assert!(!well && talk.contains(said), "{words:?}: {talk}");
    }
    process.stop();
    let (well, _, talk) = process::tombolo(&["watch", "--url", &format!("http://{listen}")]);
    assert!(!well && talk.contains("cannot be reached"), "{talk}");
}
