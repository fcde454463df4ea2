//! Peers that come and go while a node runs, by `/v1/_peers/{peer}` and by `tombolo peers`.

use crate::{
    http::Client as Asking,
    process::{Answer, Client, Process, tombolo},
    replicate::{Island as Member, equal},
};
use serde_json::{Value, json};
use std::{future::pending, path::Path, sync::Arc, thread, time::Duration};
use tokio::time::Instant;
use tombolo::{
    http,
    node::{Direction, Node, Options, PEERS_ADDED_MAX, PeerOptions, PeerStatus, Secret},
    peer,
    store::MemoryEngine,
};

/// Longest until what was asked of a session has come.
const SOON: Duration = Duration::from_secs(30);

#[expect(clippy::disallowed_methods, reason = "processes of their own take real time")]
fn pause(milliseconds: u64) {
    thread::sleep(Duration::from_millis(milliseconds));
}

/// A node as a process of its own, with the secret of all of them.
struct Island(Process);

impl Island {
    fn start(folder: &Path, name: &str, peers: &[&str]) -> Self {
        // A node that starts beside this one may be reading it.
        if !folder.join("secret").exists() {
            std::fs::write(folder.join("secret"), "a secret that is long").unwrap();
        }
        let process = Process::try_start(&folder.join(name), |command| {
            command.arg("--cluster-secret-file").arg(folder.join("secret"));
            for peer in peers {
                command.args(["--peer", peer]);
            }
        });
        Self(process.unwrap())
    }

    fn url(&self) -> String {
        format!("http://{}", self.0.address)
    }

    fn client(&self) -> Client {
        self.0.client()
    }

    fn ask(&self, verb: &str, path: &str, body: &str) -> Answer {
        self.client().send(verb, path, &[], body.as_bytes()).unwrap()
    }

    fn peers(&self) -> Vec<Value> {
        self.ask("GET", "/v1/_peers", "").json()["peers"].as_array().unwrap().clone()
    }

    fn put(&self, name: &str, body: &Value) -> (u16, Value) {
        let answer = self.ask("PUT", &format!("/v1/_peers/{name}"), &body.to_string());
        (answer.status, answer.json())
    }

    /// Waits until a peer is as it should be.
    fn until(&self, name: &str, fine: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + SOON;
        loop {
            let peer = self.ask("GET", &format!("/v1/_peers/{name}"), "").json();
            if fine(&peer) {
                return peer;
            }
            assert!(Instant::now() < until, "{peer}");
            pause(20);
        }
    }

    /// Writes a document, and gives its version.
    fn write(&self, document: &str) -> String {
        let answer = self.ask("PUT", document, r#"{"a":1}"#);
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.version
    }

    /// Whether a version comes to be here.
    fn gets(&self, document: &str, version: &str, wait: u64) -> bool {
        let wait = format!("wait={wait}");
        let fields = [("parents", version), ("prefer", &*wait)];
        self.client().send("GET", document, &fields, b"").unwrap().status == 200
    }
}

#[test]
fn a_peer_is_added_changed_and_removed_while_both_run() {
    let folder = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|name| Island::start(folder.path(), name, &[]));
    let before = a.write("/v1/notes/before");
    let (status, peer) = a.put("b", &json!({"url": b.url()}));
    assert_eq!((status, &peer["name"], &peer["url"]), (201, &json!("b"), &json!(b.url())));
    let said = [&peer["configured"], &peer["direction"], &peer["collections"]];
    assert_eq!(said, [&json!(false), &json!("both"), &json!(["*"])]);
    assert!(b.gets("/v1/notes/before", &before, 20));
    let of_b = b.write("/v1/notes/of-b");
    assert!(a.gets("/v1/notes/of-b", &of_b, 20));

    // The same again changes nothing, also in other words: the session goes on.
    let up = a.until("b", |peer| peer["state"] == "up" && peer["bytes_sent"].as_u64() > Some(0));
    let same = json!({"direction": "both", "collections": ["*"], "url": format!("{}/", b.url())});
    let (status, still) = a.put("b", &same);
    assert_eq!((status, &still["state"], &still["node"]), (200, &json!("up"), &up["node"]));
    assert!(up["bytes_sent"].as_u64() <= still["bytes_sent"].as_u64());

    // It has no version that a condition could name.
    for verb in ["PUT", "DELETE"] {
        for condition in ["if-match", "if-none-match"] {
            let (path, body) = ("/v1/_peers/b", json!({"url": "http://127.0.0.1:1"}).to_string());
            let answer = a.client().send(verb, path, &[(condition, "*")], body.as_bytes()).unwrap();
            assert_eq!((answer.status, &answer.json()["code"]), (400, &json!("bad_header")));
        }
    }
    assert_eq!(a.peers()[0]["url"], b.url());

    // Another one: the session is another.
    let some = json!({"url": b.url(), "collections": ["two", "one", "two"], "direction": "push"});
    let (status, peer) = a.put("b", &some);
    let sent = [&peer, &still].map(|peer| peer["bytes_sent"].as_u64());
    assert!(status == 200 && sent[0] < sent[1], "{peer}");
    assert_eq!(
        (&peer["direction"], &peer["collections"]),
        (&json!("push"), &json!(["one", "two"]))
    );
    a.until("b", |peer| peer["state"] == "up");
    let one = a.write("/v1/one/a");
    assert!(b.gets("/v1/one/a", &one, 20));
    let more = a.write("/v1/notes/more");
    assert!(!b.gets("/v1/notes/more", &more, 1), "it is not among those that are shared");
    let peers = a.peers();
    assert_eq!((peers.len(), &peers[0]["name"]), (1, &json!("b")));

    let replicated = |document: &str| {
        let (began, fields) = (Instant::now(), [("prefer", "replicate=1, wait=20")]);
        let answer = a.client().send("PUT", document, &fields, b"{}").unwrap();
        (answer.status, began.elapsed() < Duration::from_secs(10))
    };
    assert_eq!(replicated("/v1/two/held"), (201, true));
    assert_eq!(a.ask("DELETE", "/v1/_peers/b", "").status, 204);
    assert_eq!((a.peers(), a.ask("GET", "/v1/_peers/b", "").status), (vec![], 404));
    let until = Instant::now() + SOON;
    // It is not pushed to, and not waited for.
    while replicated(&format!("/v1/two/{}", fastrand::u64(..))) != (202, true) {
        assert!(Instant::now() < until);
    }
    let gone = a.write("/v1/one/gone");
    assert!(!b.gets("/v1/one/gone", &gone, 2));
    assert_eq!(a.ask("DELETE", "/v1/_peers/b", "").status, 404);
}

#[test]
fn what_clients_may_send_at_most_is_no_bound_of_peers() {
    let folder = tempfile::tempdir().unwrap();
    let b = Process::try_start(&folder.path().join("b"), |command| {
        command.env("TOMBOLO_LIMITS__CHANGES_BYTES_MAX", "1000");
    });
    let b = Island(b.unwrap());
    let a = Process::try_start(&folder.path().join("a"), |command| {
        command.args(["--peer", &b.url()]);
    });
    let a = Island(a.unwrap());
    let large = json!({"text": (0..100_000).map(|_| fastrand::alphanumeric()).collect::<String>()});
    let large = a.ask("PUT", "/v1/notes/large", &large.to_string());
    let small = a.write("/v1/notes/small");
    assert!(b.gets("/v1/notes/large", &large.version, 20), "{:?}", a.peers());
    assert!(b.gets("/v1/notes/small", &small, 20), "{:?}", a.peers());
}

#[test]
fn a_node_whose_feed_is_waited_for_stops_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let a = Island::start(folder.path(), "a", &[]);
    let b = Island::start(folder.path(), "b", &[&a.url()]);
    let of_a = a.write("/v1/notes/a");
    assert!(b.gets("/v1/notes/a", &of_a, 20));
    // By now it waits for more. Whoever is not done in ten seconds is cut off.
    pause(500);
    let began = Instant::now();
    a.0.stop();
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
}

#[test]
fn what_was_agreed_with_a_peer_ends_with_it_and_it_may_come_as_anybody_may() {
    let folder = tempfile::tempdir().unwrap();
    let a = Island::start(folder.path(), "a", &[]);
    let b = Island::start(folder.path(), "b", &[&a.url()]);
    assert_eq!(a.put("b", &json!({"url": b.url(), "collections": ["one"]})).0, 201);
    a.until("b", |peer| peer["state"] == "up");
    let (one, two) = (a.write("/v1/one/a"), a.write("/v1/two/a"));
    assert!(b.gets("/v1/one/a", &one, 20));
    assert!(!b.gets("/v1/two/a", &two, 2));
    assert_eq!(a.ask("DELETE", "/v1/_peers/b", "").status, 204);
    assert!(b.gets("/v1/two/a", &two, 30), "{:?}", b.peers());
    let three = b.write("/v1/three/b");
    assert!(a.gets("/v1/three/b", &three, 30), "{:?}", b.peers());
}

#[test]
#[cfg_attr(not(feature = "rocksdb"), ignore = "SKIPPED: needs the feature rocksdb")]
fn a_peer_that_was_added_is_there_after_a_kill_and_one_that_was_removed_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|name| Island::start(folder.path(), name, &[]));
    let body = json!({"url": b.url(), "collections": ["one"], "direction": "push"});
    assert_eq!(a.put("b", &body).0, 201);
    assert_eq!(a.put("other", &json!({"url": "http://127.0.0.1:1"})).0, 201);
    assert_eq!(a.ask("DELETE", "/v1/_peers/other", "").status, 204);
    a.0.kill();
    // Started again it is configured with yet another one.
    let a = Island::start(folder.path(), "a", &["http://127.0.0.1:1"]);
    let peers = a.peers();
    let names: Vec<_> = peers.iter().map(|peer| peer["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["127.0.0.1:1", "b"]);
    assert_eq!([&peers[0], &peers[1]].map(|peer| peer["configured"] == true), [true, false]);
    assert_eq!(peers[1]["collections"], json!(["one"]));
    assert_eq!(peers[1]["direction"], "push");
    let one = a.write("/v1/one/a");
    assert!(b.gets("/v1/one/a", &one, 20));
    a.until("b", |peer| peer["state"] == "up");
    assert_eq!(a.put("b", &body).0, 200, "the same as before the kill");
    assert_eq!(a.ask("DELETE", "/v1/_peers/b", "").status, 204);
    a.0.kill();
    let a = Island::start(folder.path(), "a", &[]);
    assert_eq!(a.peers(), [] as [Value; 0]);
}

#[test]
fn peers_are_added_and_removed_on_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|name| Island::start(folder.path(), name, &[]));
    let (at, of_b) = (a.url(), b.url());
    let run = |words: &[&str]| tombolo(&[&["peers", "--url", &*at][..], words].concat());
    let added = |out: &str| (true, format!("{out}\n"), String::new());
    assert_eq!(run(&["add", "b", &of_b, "-o", "table"]), added(&format!("added b {of_b}")));
    a.until("b", |peer| peer["state"] == "up");
    let some = ["add", "b", &of_b, "--collection", "x", "--collection", "y", "--direction", "pull"];
    let (fine, out, _) = run(&some);
    let peer: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((fine, &peer["collections"]), (true, &json!(["x", "y"])));
    assert_eq!(peer["direction"], "pull");
    let (_, out, _) = run(&["-o", "table"]);
    assert!(out.starts_with("NAME  STATE ") && out.contains("\nb     "), "{out}");
    let (_, out, _) = run(&[]);
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()[0]["name"], "b");
    let gone = (true, String::new(), "removed b\n".to_owned());
    assert_eq!(run(&["rm", "b"]), gone);
    let (fine, _, said) = run(&["rm", "b"]);
    assert!(!fine && said.contains("there is no peer called b"), "{said}");
    assert_eq!(run(&[]).1, "[]\n");
}

/// A node that replicates, with one peer in its configuration.
fn configured(engine: Arc<MemoryEngine>, secret: &[u8]) -> (Node, Asking) {
    let options = Options { secret: Secret(secret.to_vec()), shards: 1, ..Options::default() };
    let node = Node::start(options, engine).unwrap();
    let name = "[::1]:1".parse().unwrap();
    let (url, direction) = ("http://[::1]:1".parse().unwrap(), Direction::Both);
    let peers = vec![PeerOptions { name, url, collections: None, direction }];
    tokio::spawn(node.replicate(peers, peer::Client::tcp(), pending()));
    let api = http::Api::new(node.clone(), http::Options::default());
    (node, Asking(api))
}

#[tokio::test]
async fn what_is_no_peer_is_refused_with_a_reason_and_changes_nothing() {
    let (node, client) = configured(Arc::new(MemoryEngine::new()), b"");
    let (long, wide) = ("b".repeat(261), format!("http://{}", "b".repeat(261)));
    let names: Vec<String> = (0..10_001).map(|number| format!("c{number}")).collect();
    let many = json!({"url": "http://localhost:1", "collections": names}).to_string();
    let url = |url: &str| json!({"url": url}).to_string();
    let with = |member: &str, value: Value| {
        let mut body = json!({"url": "http://localhost:1"});
        body[member] = value;
        body.to_string()
    };
    for (name, body, status, code, at) in [
        ("b", "{".to_owned(), 400, "bad_json", Some("")),
        (
            "b",
            r#"{"url":"http://localhost","url":"http://localhost"}"#.into(),
            400,
            "duplicate_key",
            Some("/url"),
        ),
        ("b", "[]".into(), 400, "bad_peer", Some("")),
        ("b", "{}".into(), 400, "bad_peer", Some("/url")),
        ("b", json!({"url": 7}).to_string(), 400, "bad_peer", Some("/url")),
        ("b", url("localhost:1"), 400, "bad_peer", Some("/url")),
        ("b", url("https://localhost:1"), 400, "bad_peer", Some("/url")),
        ("b", url("http://localhost:1/path"), 400, "bad_peer", Some("/url")),
        ("b", url("http://a@localhost:1"), 400, "bad_peer", Some("/url")),
        ("b", url("http://localhost:0"), 400, "bad_peer", Some("/url")),
        ("b", url(&wide), 400, "bad_peer", Some("/url")),
        ("b", with("urls", json!("x")), 400, "bad_peer", None),
        ("b", with("collections", json!("*")), 400, "bad_peer", Some("/collections")),
        ("b", with("collections", json!([])), 400, "bad_peer", Some("/collections")),
        ("b", with("collections", json!(["a", 1])), 400, "bad_peer", Some("/collections/1")),
        ("b", with("collections", json!(["a", "B"])), 400, "bad_peer", Some("/collections/1")),
        ("b", many, 400, "bad_peer", Some("/collections")),
        ("b", with("direction", json!("up")), 400, "bad_peer", Some("/direction")),
        ("b", with("direction", json!(null)), 400, "bad_peer", Some("/direction")),
        (&*long, url("http://localhost:1"), 400, "bad_peer", None),
        ("a%20b", url("http://localhost:1"), 400, "bad_peer", None),
        ("..", url("http://localhost:1"), 400, "bad_peer", None),
        ("%ff", url("http://localhost:1"), 400, "bad_key", None),
        ("_b", url("http://localhost:1"), 404, "not_found", None),
        ("b", url("http://192.0.2.1:7420"), 403, "forbidden", None),
        ("[::1]:1", url("http://[::1]:1"), 409, "peer_configured", None),
        ("[::1]:1", url("http://[::1]:2"), 409, "peer_configured", None),
    ] {
        let reply = client.ask(&format!("PUT /v1/_peers/{name}"), &[], body.clone()).await;
        let said = format!("{name} {}: {}", &body[..body.len().min(80)], reply.text());
        assert_eq!(reply.refusal(), (status, code.to_owned()), "{said}");
        let place = reply.json()["errors"][0]["pointer"].clone();
        assert_eq!(place.as_str(), at, "{said}");
    }
    let form = ["content-type: application/x-www-form-urlencoded"];
    let reply = client.ask("PUT /v1/_peers/b", &form, url("http://localhost:1")).await;
    assert_eq!(reply.refusal(), (415, "unsupported_media_type".to_owned()));
    for (line, status, code) in [
        ("DELETE /v1/_peers/[::1]:1", 409, "peer_configured"),
        ("DELETE /v1/_peers/b", 404, "not_found"),
        ("GET /v1/_peers/b", 404, "not_found"),
        ("GET /v1/_peers/%20", 400, "bad_peer"),
        ("GET /v1/_peers/b?x=1", 400, "bad_query"),
        ("POST /v1/_peers/b", 405, "method_not_allowed"),
    ] {
        assert_eq!(client.ask(line, &[], "").await.refusal(), (status, code.to_owned()), "{line}");
    }
    let shown = client.ask("GET /v1/_peers/[::1]:1", &[], "").await.json();
    assert_eq!((&shown["configured"], &shown["url"]), (&json!(true), &json!("http://[::1]:1")));
    assert_eq!(node.peer_statuses().len(), 1);
    node.stop().await;
}

#[tokio::test]
async fn so_many_peers_are_added_and_no_more() {
    let (node, client) = configured(Arc::new(MemoryEngine::new()), b"");
    let put = async |name: &str, port: usize| {
        let body = json!({"url": format!("http://127.0.0.1:{port}")}).to_string();
        let reply = client.ask(&format!("PUT /v1/_peers/{name}"), &[], body).await;
        let code = (reply.status.as_u16() == 409).then(|| reply.refusal().1);
        (reply.status.as_u16(), code)
    };
    for number in 0..PEERS_ADDED_MAX {
        assert_eq!(put(&number.to_string(), 100 + number).await, (201, None));
    }
    assert_eq!(put("more", 1).await, (409, Some("too_many_peers".to_owned())));
    assert_eq!(put("0", 100).await, (200, None));
    assert_eq!(put("0", 2).await, (200, None));
    assert_eq!(put("0", 101).await, (400, None), "that is another peer's");
    assert_eq!(client.ask("DELETE /v1/_peers/0", &[], "").await.status, 204);
    assert_eq!(put("more", 1).await, (201, None));
    assert_eq!(node.peer_statuses().len(), PEERS_ADDED_MAX + 1);
    node.stop().await;
}

#[tokio::test]
async fn a_peer_of_another_machine_is_not_talked_to_without_a_secret() {
    let engine = Arc::new(MemoryEngine::new());
    let (node, client) = configured(Arc::clone(&engine), b"a secret that is long");
    let body = json!({"url": "http://192.0.2.1:7420"}).to_string();
    assert_eq!(client.ask("PUT /v1/_peers/far", &[], body.clone()).await.status, 201);
    let body = json!({"url": "http://192.0.2.2:7420"}).to_string();
    assert_eq!(client.ask("PUT /v1/_peers/[::1]:2", &[], body).await.status, 201);
    node.stop().await;
    let engine = Arc::new(engine.restart());
    let (node, client) = configured(engine, b"");
    let until = Instant::now() + SOON;
    let far = loop {
        let far = client.ask("GET /v1/_peers/far", &[], "").await.json();
        if far["state"] == "down" {
            break far;
        }
        assert!(Instant::now() < until, "{far}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(
        (&far["last_error"]["code"], &far["bytes_sent"]),
        (&json!("needs_secret"), &json!(0))
    );
    assert_eq!(client.ask("DELETE /v1/_peers/far", &[], "").await.status, 204);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_by_two_names_is_one_peer() {
    let (mut a, b) = (Member::new().await, Member::new().await);
    a.join(vec![b.peer()]);
    a.put("notes/a", "{}").await;
    equal(&[&a, &b], 1).await;
    // By another name, and for less: it would take the place of the first.
    let url = format!("http://localhost:{}", b.address.port()).parse().unwrap();
    let collections = Some(vec!["other".parse().unwrap()]);
    let again = PeerOptions {
        name: "again".parse().unwrap(),
        url,
        collections,
        direction: Direction::Pull,
    };
    a.node.put_peer(again.clone()).await.unwrap();
    let refused =
        |status: &PeerStatus| status.error.as_ref().is_some_and(|(code, _)| *code == "same_node");
    let until = Instant::now() + SOON;
    while !a.node.peer_status(&again.name).is_some_and(|status| refused(&status)) {
        assert!(Instant::now() < until, "{:?}", a.node.peer_statuses());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for key in 0..20 {
        a.put(&format!("notes/a{key}"), "{}").await;
        b.put(&format!("notes/b{key}"), "{}").await;
    }
    equal(&[&a, &b], 41).await;
    assert!(
        !a.node
            .peer_statuses()
            .iter()
            .any(|status| { status.options.name != again.name && status.error.is_some() })
    );
    // A URL is one peer's as well.
    let same = PeerOptions { name: "third".parse().unwrap(), ..again };
    let refused = a.node.put_peer(same).await.unwrap_err().to_string();
    assert_eq!(refused, "the peer again has this URL");
    a.stop().await;
    b.stop().await;
}
