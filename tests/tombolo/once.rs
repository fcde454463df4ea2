//! `Idempotency-Key`: what is sent twice is done once, also over a kill.

use crate::{
    http::{Client, MERGE, PATCH},
    process::Process,
};
use serde_json::{Value, json};

const ADD: &str = r#"[{"op":"increment","path":"/n","by":1}]"#;

fn key(key: &str) -> String {
    format!("idempotency-key: {key}")
}

#[tokio::test]
async fn a_creation_that_is_sent_again_makes_one_document() {
    let (client, other) = (Client::new(), Client::new());
    let key = key("\"order-7\"");
    let first = client.ask("POST /v1/notes", &[&key], r#"{"a":1}"#).await;
    assert_eq!((first.status.as_u16(), first.field("idempotency-replayed")), (201, ""));
    let path = first.field("location").to_owned();
    client.ask(&format!("PATCH {path}"), &[MERGE], r#"{"b":2}"#).await;
    for _ in 0..2 {
        let again = client.ask("POST /v1/notes", &[&key], r#"{"a":1}"#).await;
        assert_eq!((again.status.as_u16(), again.field("idempotency-replayed")), (201, "true"));
        assert_eq!((again.json(), again.version()), (first.json(), first.version()));
        for field in ["location", "etag", "tombolo-conflicts", "tombolo-durability"] {
            assert_eq!(again.field(field), first.field(field), "{field}");
        }
    }
    let shown =
        client.ask("POST /v1/notes", &[&key, "prefer: return=representation"], r#"{"a":1}"#).await;
    assert_eq!((shown.status.as_u16(), shown.json()), (201, json!({"a": 1})), "as it was then");
    assert_eq!(client.ask(&format!("GET {path}"), &[], "").await.json(), json!({"a": 1, "b": 2}));
    // Bare, it is the same key; on another node it makes the same document.
    let bare = client.ask("POST /v1/notes", &["idempotency-key: order-7"], r#"{"a":1}"#).await;
    assert_eq!(bare.field("idempotency-replayed"), "true");
    let elsewhere = other.ask("POST /v1/notes", &[&key], r#"{"a":1}"#).await;
    assert_eq!((elsewhere.status.as_u16(), elsewhere.field("location")), (201, &*path));
    let mismatch = client.ask("POST /v1/notes", &[&key], r#"{"a":2}"#).await;
    assert_eq!(mismatch.refusal(), (422, "idempotency_mismatch".into()));
    let typed = "content-type: application/vnd.tombolo.typed+json";
    let mismatch = client.ask("POST /v1/notes", &[&key, typed], r#"{"a":1}"#).await;
    assert_eq!(mismatch.refusal(), (422, "idempotency_mismatch".into()));
    let apart = client.ask("POST /v1/others", &[&key], r#"{"a":2}"#).await;
    assert_eq!((apart.status.as_u16(), apart.field("idempotency-replayed")), (201, ""));
}

#[tokio::test]
async fn a_patch_that_is_sent_again_counts_once_unless_it_was_refused() {
    let client = Client::new();
    let add = |path: &'static str, key: &'static str| {
        let client = &client;
        async move { client.ask(path, &[PATCH, &self::key(key)], ADD).await }
    };
    client.ask("PUT /v1/notes/a", &[], r#"{"x":1}"#).await;
    let first = add("PATCH /v1/notes/a", "k").await;
    client.ask("PATCH /v1/notes/a", &[PATCH], ADD).await;
    let again = add("PATCH /v1/notes/a", "k").await;
    assert_eq!(again.version(), first.version());
    assert_eq!(again.field("idempotency-replayed"), "true");
    assert_eq!(add("PATCH /v1/notes/a", "l").await.field("idempotency-replayed"), "");
    assert_eq!(add("PATCH /v1/notes/b", "k").await.status, 201, "another document");
    assert_eq!(client.ask("GET /v1/notes/a", &[], "").await.json()["n"], 3);

    // What changes nothing is kept too, and what is refused is not.
    let nothing = ["content-type: application/merge-patch+json", "idempotency-key: nothing"];
    assert_eq!(client.ask("PATCH /v1/notes/a", &nothing, "{}").await.status, 200);
    client.ask("PATCH /v1/notes/a", &[PATCH], ADD).await;
    let again = client.ask("PATCH /v1/notes/a", &nothing, "{}").await;
    assert_eq!(
        (again.field("idempotency-replayed"), &again.json()["unchanged"]),
        ("true", &json!(true))
    );
    let test = r#"[{"op":"test","path":"/ready","value":true}]"#;
    let ready = [PATCH, "idempotency-key: ready"];
    assert_eq!(client.ask("PATCH /v1/notes/a", &ready, test).await.status, 409);
    client.ask("PATCH /v1/notes/a", &[MERGE], r#"{"ready":true}"#).await;
    assert_eq!(client.ask("PATCH /v1/notes/a", &ready, test).await.status, 200);
    // PUT and DELETE are what they are however often they are sent.
    for _ in 0..2 {
        let put = client.ask("PUT /v1/notes/c", &["idempotency-key: k"], "{}").await;
        assert_eq!(put.field("idempotency-replayed"), "");
    }
    for bad in ["", "\"\"", "a b", "\"a"] {
        for line in ["POST /v1/notes", "PATCH /v1/notes/a"] {
            let refused = client.ask(line, &[MERGE, &key(bad)], "{}").await;
            assert_eq!(refused.refusal(), (400, "bad_header".into()), "{line} {bad:?}");
        }
    }
}

#[tokio::test]
async fn requests_at_the_same_time_are_one_and_lines_are_requests() {
    let client = Client::new();
    let fields = [PATCH, "idempotency-key: k"];
    let asks = (0..20).map(|_| client.ask("PATCH /v1/notes/a", &fields, ADD));
    let replies = futures_util::future::join_all(asks).await;
    let fresh = replies.iter().filter(|reply| reply.field("idempotency-replayed").is_empty());
    assert_eq!(fresh.count(), 1);
    assert!(replies.iter().all(|reply| reply.version() == replies[0].version()));
    assert_eq!(client.ask("GET /v1/notes/a", &[], "").await.json(), json!({"n": 1}));

    let line = |key: &str, op: &str| {
        format!(
            r#"{{"op":"patch","collection":"notes","key":"a","value":[{op}],"idempotency_key":"{key}"}}"#
        )
    };
    let add = r#"{"op":"increment","path":"/n","by":1}"#;
    let put = r#"{"op":"put","collection":"notes","value":{"a":1},"idempotency_key":"new"}"#;
    let body = [
        &line("l", add),
        &line("l", add),
        &line("l", ""),
        &line("m", add),
        &line("", add),
        put,
        put,
    ];
    let body = body.map(|line| format!("{line}\n")).concat();
    for round in 0..2 {
        let reply = client.ask("POST /v1/_bulk", &[], body.clone()).await;
        let answers: Vec<Value> =
            reply.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let found = answers[..7].iter().map(|answer| {
            (answer["status"].as_u64().unwrap(), answer["replayed"] == true || round == 0)
        });
        let statuses = [200, 200, 422, 200, 400, 201, 201];
        let expected = statuses.map(|status| (status, status < 400 || round == 0));
        assert_eq!(found.collect::<Vec<_>>(), expected, "{answers:#?}");
        assert_eq!(answers[0]["version"], answers[1]["version"]);
        assert_eq!(answers[5]["key"], answers[6]["key"]);
    }
    assert_eq!(client.ask("GET /v1/notes/a", &[], "").await.json(), json!({"n": 3}));
}

#[test]
#[cfg_attr(not(feature = "rocksdb"), ignore = "SKIPPED: needs the feature rocksdb")]
fn an_answer_is_kept_over_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let patch = [("content-type", "application/json-patch+json"), ("idempotency-key", "k")];
    let ask = |node: &Process| {
        let mut client = node.client();
        let patched = client.send("PATCH", "/v1/notes/a", &patch, ADD.as_bytes()).unwrap();
        let made = client.send("POST", "/v1/notes", &patch[1..], b"{}").unwrap();
        assert_eq!((patched.status, made.status), (201, 201));
        (made.json()["key"].clone(), patched.version, made.version)
    };
    let node = Process::start(&data);
    let first = ask(&node);
    node.client().send("PUT", "/v1/notes/a", &[], b"{\"n\":9}").unwrap();
    node.kill();
    let node = Process::start(&data);
    assert_eq!(ask(&node), first);
    assert_eq!(node.client().send("GET", "/v1/notes/a", &[], b"").unwrap().json(), json!({"n": 9}));
}
