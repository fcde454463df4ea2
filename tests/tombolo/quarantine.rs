//! Quarantine over HTTP: what does not load is put there, is seen, and comes out again or goes.

use crate::http::{Client, MERGE, Reply};
use automerge::{
    AutoCommit, ROOT,
    sync::{State, SyncDoc},
    transaction::Transactable,
};
use serde_json::{Value, json};
use std::{ops::ControlFlow, sync::Arc, time::Duration};
use tokio::sync::mpsc;
use tombolo::{
    automerge_repo::{Exchange, Message, Metadata},
    http::{Api, Options},
    ident::Name,
    node::{self, Frames, Node, Spoken},
    store::{Batch, Durability, Engine, MemoryEngine, Range, key, key::Family},
};

/// A node on what there is, with nothing in memory.
fn open(engine: &Arc<MemoryEngine>) -> (Node, Client) {
    let node = Node::start(node::Options::default(), Arc::clone(engine) as _).unwrap();
    let client = Client(Api::new(node.clone(), Options::default()));
    (node, client)
}

/// Flips a bit in a chunk of a document, behind the node's back.
fn damage(engine: &dyn Engine, name: &str, which: usize) {
    let (collection, key) = name.split_once('/').unwrap();
    let name = Name::new(collection.parse().unwrap(), key.parse().unwrap()).unwrap();
    let mut rows = Vec::new();
    let range = Range::prefix(&name.id().to_bytes());
    engine
        .scan(Family::Chunk, &range, &mut |key: &[u8], value: &[u8]| {
            rows.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        })
        .unwrap();
    let (key, mut value) = rows.remove(which);
    assert!(key::decode_chunk(&key).is_some());
    *value.last_mut().unwrap() ^= 1;
    let mut batch = Batch::default();
    batch.put(Family::Chunk, key, value.into());
    engine.commit(batch, Durability::Sync).unwrap();
}

async fn patch(client: &Client, path: &str, body: &'static str) -> Reply {
    client.ask(&format!("PATCH {path}"), &[MERGE], body).await
}

/// What is there once something is: it is put there while whoever met it is answered.
async fn soon_quarantined(client: &Client) -> Vec<Value> {
    for _ in 0..500 {
        let all = quarantined(client).await;
        if !all.is_empty() {
            return all;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nothing was put into quarantine")
}

async fn quarantined(client: &Client) -> Vec<Value> {
    let reply = client.ask("GET /v1/_quarantine", &[], "").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let mut list = reply.json();
    assert_eq!(list["next"], Value::Null);
    serde_json::from_value(list["quarantined"].take()).unwrap()
}

#[tokio::test]
async fn a_damaged_document_is_put_aside_and_released_with_what_is_whole() {
    let engine = Arc::new(MemoryEngine::new());
    let (node, client) = open(&engine);
    for body in [r#"{"a":1}"#, r#"{"b":2}"#, r#"{"c":3}"#] {
        assert!(patch(&client, "/v1/notes/a", body).await.status.is_success());
    }
    patch(&client, "/v1/notes/b", "{}").await;
    node.stop().await;
    damage(&*engine, "notes/a", 2);

    let (node, client) = open(&engine);
    let refused = patch(&client, "/v1/notes/a", r#"{"d":4}"#).await;
    assert_eq!(refused.refusal(), (503, "quarantined".into()));
    // Its view is whole, and others go on.
    let view = client.ask("GET /v1/notes/a", &[], "").await;
    assert_eq!(view.json(), json!({"a": 1, "b": 2, "c": 3}));
    assert!(patch(&client, "/v1/notes/b", r#"{"d":4}"#).await.status.is_success());
    let all = soon_quarantined(&client).await;
    assert_eq!(all.len(), 1);
    let held = &all[0];
    assert_eq!(
        (&held["kind"], &held["collection"], &held["key"]),
        (&json!("document"), &json!("notes"), &json!("a"))
    );
    assert!(held["reason"].as_str().unwrap().contains("checksum"), "{held}");
    assert!(held["time"].is_u64() && held["bytes"].as_u64().unwrap() > 100, "{held}");
    let status = client.ask("GET /v1/_status", &[], "").await.json();
    assert_eq!(status["quarantined"], json!({"documents": 1, "changes": 0}));
    assert_eq!(status["documents"], 1);
    let id = held["id"].as_str().unwrap().to_owned();

    let bytes = client.ask(&format!("GET /v1/_quarantine/{id}"), &[], "").await;
    assert_eq!(
        (bytes.status.as_u16(), bytes.field("content-type")),
        (200, "application/octet-stream")
    );
    assert!(bytes.body.len() > 100);

    let released = client.ask(&format!("POST /v1/_quarantine/{id}/_release"), &[], "").await;
    assert_eq!(released.status, 200, "{released:?}");
    assert_eq!((&released.json()["key"], &released.json()["lost"]), (&json!("a"), &json!(1)));
    assert_eq!(client.ask("GET /v1/notes/a", &[], "").await.json(), json!({"a": 1, "b": 2}));
    assert!(patch(&client, "/v1/notes/a", r#"{"d":4}"#).await.status.is_success());
    assert_eq!(quarantined(&client).await, [Value::Null; 0]);
    let again = client.ask(&format!("POST /v1/_quarantine/{id}/_release"), &[], "").await;
    assert_eq!(again.refusal(), (404, "not_found".into()));
    node.stop().await;

    let (_node, client) = open(&engine);
    assert_eq!(
        client.ask("GET /v1/notes/a", &[], "").await.json(),
        json!({"a": 1, "b": 2, "d": 4})
    );
    let feed = client.ask("GET /v1/_changes", &[], "").await.json();
    assert_eq!(feed["changes"].as_array().unwrap().len(), 2, "one row a document: {feed}");
}

#[tokio::test]
async fn a_document_of_which_nothing_is_left_is_dropped_and_written_anew() {
    let engine = Arc::new(MemoryEngine::new());
    let (node, client) = open(&engine);
    patch(&client, "/v1/notes/a", r#"{"a":1}"#).await;
    node.stop().await;
    damage(&*engine, "notes/a", 0);
    let (_node, client) = open(&engine);
    assert_eq!(patch(&client, "/v1/notes/a", "{}").await.refusal(), (503, "quarantined".into()));
    let id = soon_quarantined(&client).await[0]["id"].as_str().unwrap().to_owned();
    let refused = client.ask(&format!("POST /v1/_quarantine/{id}/_release"), &[], "").await;
    assert_eq!(refused.refusal(), (503, "quarantined".into()));
    assert_eq!(quarantined(&client).await.len(), 1, "it stays");
    for _ in 0..2 {
        let refused = patch(&client, "/v1/notes/a", "{}").await;
        assert_eq!(refused.refusal(), (503, "quarantined".into()));
    }
    let dropped = client.ask(&format!("DELETE /v1/_quarantine/{id}"), &[], "").await;
    assert_eq!(dropped.status, 204);
    let gone = client.ask("GET /v1/notes/a", &[], "").await;
    assert_eq!(gone.refusal(), (404, "document_not_found".into()));
    let made = patch(&client, "/v1/notes/a", r#"{"b":2}"#).await;
    assert_eq!(made.status, 201);
    assert_eq!(client.ask("GET /v1/notes/a", &[], "").await.json(), json!({"b": 2}));
    for line in [
        "DELETE /v1/_quarantine/{id}",
        "GET /v1/_quarantine/{id}",
        "GET /v1/_quarantine/x",
        "GET /v1/_quarantine/_x",
        "POST /v1/_quarantine/{id}",
        "GET /v1/_quarantine/{id}/_release",
    ] {
        let reply = client.ask(&line.replace("{id}", &id), &[], "").await;
        assert!(matches!(reply.status.as_u16(), 404 | 405), "{line}: {reply:?}");
    }
    assert_eq!(client.ask("GET /v1/_quarantine?x=1", &[], "").await.refusal().1, "bad_query");
}

#[tokio::test]
async fn changes_are_taken_under_no_condition() {
    let engine = Arc::new(MemoryEngine::new());
    let (_node, client) = open(&engine);
    patch(&client, "/v1/notes/a", r#"{"a":1}"#).await;
    let saved = client.ask("GET /v1/notes/a", &["accept: application/vnd.automerge"], "").await;
    for field in ["if-match: \"x\"", "if-none-match: *", "parents: "] {
        let sent = client.ask("POST /v1/notes/b/_changes", &[field], saved.body.clone()).await;
        assert_eq!(sent.refusal(), (400, "bad_header".into()), "{field}");
    }
    assert_eq!(client.ask("GET /v1/notes/b", &[], "").await.status, 404);
    let sent = client.ask("POST /v1/notes/b/_changes", &[], saved.body).await;
    assert_eq!((sent.status.as_u16(), sent.field("etag")), (201, sent.field("version")));
}

#[tokio::test]
async fn a_document_that_comes_from_elsewhere_can_take_the_place_of_a_dropped_one() {
    let engine = Arc::new(MemoryEngine::new());
    let (node, client) = open(&engine);
    patch(&client, "/v1/notes/a", r#"{"a":1}"#).await;
    let saved = client.ask("GET /v1/notes/a", &["accept: application/vnd.automerge"], "").await;
    let mut other = AutoCommit::load(&saved.body).unwrap();
    other.put(ROOT, "b", 2).unwrap();
    node.stop().await;
    damage(&*engine, "notes/a", 0);
    let (_node, client) = open(&engine);
    patch(&client, "/v1/notes/a", "{}").await;
    let id = soon_quarantined(&client).await[0]["id"].as_str().unwrap().to_owned();
    client.ask(&format!("DELETE /v1/_quarantine/{id}"), &[], "").await;
    let nothing = client.ask("POST /v1/notes/none/_changes", &[], AutoCommit::new().save()).await;
    assert_eq!(nothing.refusal(), (422, "bad_changes".into()));
    let sent = client.ask("POST /v1/notes/a/_changes", &[], other.save()).await;
    assert_eq!(sent.status, 201, "{sent:?}");
    assert_eq!(client.ask("GET /v1/notes/a", &[], "").await.json(), json!({"a": 1, "b": 2}));
}

#[tokio::test]
async fn a_damaged_document_is_unavailable_to_an_offline_first_client_and_the_others_are_not() {
    let engine = Arc::new(MemoryEngine::new());
    let (node, client) = open(&engine);
    let mut urls = Vec::new();
    for path in ["/v1/notes/a", "/v1/notes/b"] {
        let written = client.ask(&format!("PUT {path}"), &[], r#"{"n":1}"#).await.json();
        urls.push(written["document"].as_str().unwrap().to_owned());
    }
    node.stop().await;
    drop((node, client));
    damage(&*engine, "notes/a", 0);
    let (node, client) = open(&engine);

    let (to_node, incoming) = mpsc::channel(8);
    let (outgoing, mut from_node) = mpsc::channel(8);
    let talk = node.converse("automerge".parse().unwrap(), Frames { incoming, outgoing });
    let listen = async move {
        let mut hear = async || match from_node.recv().await.unwrap() {
            Spoken::Frame(frame, _) => Message::decode(&frame).unwrap(),
            Spoken::Close(code, reason) => panic!("{code} {reason}"),
        };
        let versions = vec!["1".to_owned()];
        let join = Message::Join { sender: "tab".into(), metadata: Metadata::default(), versions };
        to_node.send(join.encode().into()).await.unwrap();
        let Message::Peer { sender: target, .. } = hear().await else { panic!("no peer") };
        for (url, is_whole) in urls.iter().zip([false, true]) {
            let document = url.strip_prefix("automerge:").unwrap().to_owned();
            let data = AutoCommit::new().sync().generate_sync_message(&mut State::new());
            let data = data.unwrap().encode();
            let exchange =
                Exchange { sender: "tab".into(), target: target.clone(), document, data };
            to_node.send(Message::Request(exchange).encode().into()).await.unwrap();
            match hear().await {
                Message::Sync(Exchange { document, .. }) => {
                    assert!(is_whole && url.ends_with(&document), "{url}");
                }
                Message::Unavailable { document, .. } => {
                    assert!(!is_whole && url.ends_with(&document), "{url}");
                }
                other => panic!("{other:?}"),
            }
        }
    };
    tokio::join!(talk, listen);
    assert_eq!(soon_quarantined(&client).await.len(), 1);
}
