//! The past over HTTP: differences, history, and the way back.

use crate::http::{Client, MERGE, PATCH, Reply};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const TYPED: &str = "application/vnd.tombolo.typed+json";

fn version(reply: &Reply) -> String {
    assert!(reply.status.is_success(), "{reply:?}");
    reply.field("version").trim_matches('"').to_owned()
}

async fn put(client: &Client, fields: &[&str], body: &str) -> String {
    version(&client.ask("PUT /v1/notes/a", fields, body.to_owned()).await)
}

async fn get(client: &Client, path: &str) -> Value {
    let reply = client.ask(&format!("GET {path}"), &[], "").await;
    assert_eq!(reply.status, 200, "{path}: {reply:?}");
    reply.json()
}

async fn revert(client: &Client, to: &str, fields: &[&str]) -> Reply {
    client.ask("POST /v1/notes/a/_revert", fields, json!({ "to": to }).to_string()).await
}

#[tokio::test]
async fn a_difference_leads_from_one_version_to_another() {
    let client = Client::new();
    let one = put(&client, &[], r#"{"a":1,"l":[1,2,3]}"#).await;
    let two = put(&client, &[], r#"{"b":1.0,"l":[1,3]}"#).await;
    let gone = version(&client.ask("DELETE /v1/notes/a", &[], "").await);
    let there = json!([
        {"op": "remove", "path": "/a"},
        {"op": "add", "path": "/b", "value": 1.0},
        {"op": "remove", "path": "/l/1"},
    ]);
    let line = format!("GET /v1/notes/a/_diff?from={one}&to={two}");
    let reply = client.ask(&line, &["accept: application/json-patch+json"], "").await;
    assert_eq!(reply.json(), there.clone());
    assert_eq!(reply.field("content-type"), "application/json-patch+json");
    assert_eq!(version(&reply), two);
    let reply = client.ask(&line, &["accept: application/json"], "").await;
    assert_eq!((reply.json(), reply.field("content-type")), (there, "application/json"));
    // To now, which is deleted.
    let reply = client.ask(&format!("GET /v1/notes/a/_diff?from={two}"), &[], "").await;
    assert_eq!(reply.json(), json!([{"op": "replace", "path": "", "value": null}]));
    assert_eq!(version(&reply), gone);
    assert_eq!(get(&client, &format!("/v1/notes/a/_diff?from={two}&to={two}")).await, json!([]));
    let came = get(&client, &format!("/v1/notes/a/_diff?from=&to={two}")).await;
    assert_eq!(came[0]["value"], json!({"b": 1.0, "l": [1, 3]}));
}

#[tokio::test]
async fn whatever_is_read_of_a_document_includes_its_parents() {
    let client = Client::new();
    let one = put(&client, &[], r#"{"n":1}"#).await;
    let known = format!("parents: \"{one}\"");
    let unknown = format!("parents: \"{one}\", \"{}\"", "ab".repeat(32));
    for path in ["", "/_changes", "/_history", "/_blame", "/_conflicts", "/_diff?from="] {
        let line = format!("GET /v1/notes/a{path}");
        for (field, status) in
            [("parents:", 200), (&known, 200), (&unknown, 432), ("parents: x", 400)]
        {
            let reply = client.ask(&line, &[field], "").await;
            assert_eq!(reply.status, status, "{line} {field}: {reply:?}");
        }
    }
}

#[tokio::test]
async fn a_version_that_is_not_here_yet_is_waited_for() {
    let (there, here) = (Client::new(), Client::new());
    let one = put(&there, &[], r#"{"n":1}"#).await;
    let first = there.ask("GET /v1/notes/a/_changes", &[], "").await.body;
    let two = put(&there, &[], r#"{"n":2}"#).await;
    let second = there.ask(&format!("GET /v1/notes/a/_changes?since={one}"), &[], "").await.body;
    let bring = async |changes: &bytes::Bytes| {
        let field = "content-type: application/vnd.automerge";
        version(&here.ask("POST /v1/notes/a/_changes", &[field], changes.clone()).await);
    };
    let parents = format!("parents: \"{two}\"");

    // It does not come.
    bring(&first).await;
    let began = Instant::now();
    let reply = here.ask("GET /v1/notes/a", &[&parents, "prefer: wait=1"], "").await;
    assert_eq!(reply.refusal(), (432, "version_not_found".into()));
    assert!(Duration::from_secs(1) <= began.elapsed());

    // It comes, after another write that is none.
    let fields = [parents.as_str(), "prefer: return=representation, wait=99"];
    let read = here.ask("GET /v1/notes/a", &fields, "");
    let history = here.ask("GET /v1/notes/a/_history", &fields, "");
    let patch = [parents.as_str(), fields[1], MERGE];
    let write = here.ask("PATCH /v1/notes/a", &patch, r#"{"m":3}"#);
    let events = async {
        sleep(Duration::from_millis(100)).await;
        here.ask("PATCH /v1/notes/a", &[MERGE], r#"{"o":4}"#).await;
        sleep(Duration::from_millis(100)).await;
        bring(&second).await;
    };
    let (read, history, write, ()) = tokio::join!(read, history, write, events);
    assert_eq!(read.json()["n"], 2);
    assert_eq!(read.field("preference-applied"), "wait=60");
    assert!(history.json()["changes"].as_array().unwrap().len() >= 3, "{history:?}");
    assert_eq!(write.json()["n"], 2, "{write:?}");
    let applied: Vec<_> = write.headers.get_all("preference-applied").iter().collect();
    assert_eq!(applied, ["return=representation", "wait=60"]);
    assert_eq!(get(&here, "/v1/notes/a").await, json!({"m": 3, "n": 2, "o": 4}));

    // What is here already is not waited for, and what asks for no version does not wait.
    let reply = here.ask("GET /v1/notes/a", &fields, "").await;
    assert_eq!((reply.status.as_u16(), reply.field("preference-applied")), (200, "wait=60"));
    let reply = here.ask("GET /v1/notes/b", &["prefer: wait=9"], "").await;
    assert_eq!(reply.refusal(), (404, "document_not_found".into()));
    let reply = here.ask("GET /v1/notes/a", &["parents: x", "prefer: wait=9"], "").await;
    assert_eq!(reply.refusal(), (400, "bad_header".into()));
}

#[tokio::test]
async fn waits_end_when_the_node_stops() {
    let client = Client::new();
    let unknown = format!("parents: \"{}\"", "ab".repeat(32));
    let fields = [unknown.as_str(), "prefer: wait=60"];
    let stop = async {
        sleep(Duration::from_millis(100)).await;
        client.0.end_streams();
    };
    let (reply, ()) = tokio::join!(client.ask("GET /v1/notes/a", &fields, ""), stop);
    assert_eq!(reply.refusal(), (432, "version_not_found".into()));
}

#[tokio::test]
async fn a_revert_is_made_once_under_its_idempotency_key() {
    let client = Client::new();
    let one = put(&client, &[], r#"{"n":1}"#).await;
    let two = put(&client, &[], r#"{"n":2}"#).await;
    let first = revert(&client, &one, &["idempotency-key: k"]).await;
    assert_eq!(first.status, 200);
    put(&client, &[], r#"{"n":3}"#).await;
    let again = revert(&client, &one, &["idempotency-key: k"]).await;
    assert_eq!((again.field("idempotency-replayed"), again.version()), ("true", first.version()));
    assert_eq!(get(&client, "/v1/notes/a").await, json!({"n": 3}));
    let other = revert(&client, &two, &["idempotency-key: k"]).await;
    assert_eq!(other.refusal(), (422, "idempotency_mismatch".into()));
}

#[tokio::test]
async fn the_blame_names_the_change_behind_each_value_that_shows() {
    let client = Client::new();
    let typed = format!("content-type: {TYPED}");
    let body = r#"{"a":1,"b":{"c":[]},"l":[1,{"x":null}],"n":{"$counter":1},"t":{"$text":"one"}}"#;
    let one = put(&client, &["tombolo-message: begun", &typed], body).await;
    let patch = r#"[{"op":"add","path":"/l/0","value":0},{"op":"increment","path":"/n","by":2},
        {"op":"splice","path":"/t","at":3,"insert":"two"},{"op":"add","path":"/e~1f","value":{}}]"#;
    let two = version(&client.ask("PATCH /v1/notes/a", &[PATCH], patch).await);
    let left = version(&client.ask("PATCH /v1/notes/a", &[MERGE], r#"{"a":2}"#).await);
    let late = [MERGE, &format!("parents: \"{two}\"")];
    let right = version(&client.ask("PATCH /v1/notes/a", &late, r#"{"a":3,"z":1}"#).await);
    let right = right.replace("\", \"", ".").replace(&left, "").replace('.', "");
    let leaves = |body: &Value| {
        let leaves = body["leaves"].as_array().unwrap().iter();
        let told = leaves.map(|leaf| {
            assert!(leaf["time"].is_i64() && leaf["actor"].as_str().unwrap().len() >= 32);
            (leaf["path"].as_str().unwrap().to_owned(), leaf["change"].as_str().unwrap().to_owned())
        });
        told.collect::<Vec<_>>()
    };
    let expected = [
        ("/a", &right),
        ("/b/c", &one),
        ("/e~1f", &two),
        ("/l/0", &two),
        ("/l/1", &one),
        ("/l/2/x", &one),
        ("/n", &one),
        ("/t", &two),
        ("/z", &right),
    ]
    .map(|(path, change)| (path.to_owned(), change.clone()));
    let all = get(&client, "/v1/notes/a/_blame").await;
    assert_eq!(leaves(&all), expected);
    assert_eq!((&all["next"], &all["leaves"][1]["message"]), (&Value::Null, &json!("begun")));
    // Below one place, and page by page.
    assert_eq!(leaves(&get(&client, "/v1/notes/a/_blame?path=/l").await), expected[3..6]);
    assert_eq!(leaves(&get(&client, "/v1/notes/a/_blame?path=/e~1f").await), expected[2..3]);
    assert_eq!(leaves(&get(&client, "/v1/notes/a/_blame?path=/nowhere").await), []);
    let (mut told, mut after) = (Vec::new(), String::new());
    loop {
        let page = get(&client, &format!("/v1/notes/a/_blame?limit=4{after}")).await;
        told.extend(leaves(&page));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(told, expected);
    for (line, status) in [
        ("/v1/notes/a/_blame?path=a", 400),
        ("/v1/notes/a/_blame?path=/~2", 400),
        ("/v1/notes/a/_blame?after=x", 400),
        ("/v1/notes/a/_blame?at=x", 400),
        ("/v1/notes/b/_blame", 404),
    ] {
        assert_eq!(client.ask(&format!("GET {line}"), &[], "").await.status, status, "{line}");
    }
    put(&client, &[], "{}").await;
    assert_eq!(leaves(&get(&client, "/v1/notes/a/_blame").await), []);
    client.ask("DELETE /v1/notes/a", &[], "").await;
    let gone = client.ask("GET /v1/notes/a/_blame", &[], "").await;
    assert_eq!(gone.json()["code"], "document_deleted");
}

#[tokio::test]
async fn the_history_tells_what_each_change_did_page_by_page() {
    let client = Client::new();
    let one = put(&client, &["tombolo-message: first"], "{}").await;
    client.ask("PATCH /v1/notes/a", &[MERGE], r#"{"a":1}"#).await;
    put(&client, &[&format!("parents: \"{one}\"")], r#"{"b":1}"#).await;
    client.ask("DELETE /v1/notes/a", &[], "").await;
    let all = get(&client, "/v1/notes/a/_history").await;
    let changes = all["changes"].as_array().unwrap();
    assert_eq!((changes.len(), &all["next"]), (4, &Value::Null));
    assert_eq!(changes[0]["operations"], json!([{"op": "replace", "path": "", "value": null}]));
    assert_eq!(changes[0]["deps"].as_array().unwrap().len(), 2);
    // Each of the two did one thing to what its author saw.
    for (index, change) in changes.iter().enumerate().skip(1).take(2) {
        assert_eq!(change["deps"], json!([one]), "{index}");
        assert_eq!(change["operations"][0]["op"], "add", "{index}");
        assert_eq!(change["operations_total"], 1, "{index}");
    }
    let first = &changes[3];
    assert_eq!((&first["hash"], &first["message"]), (&json!(one), &json!("first")));
    assert_eq!(first["operations"], json!([{"op": "replace", "path": "", "value": {}}]));

    let (mut paged, mut next) = (Vec::new(), String::new());
    loop {
        let page = get(&client, &format!("/v1/notes/a/_history?limit=1{next}")).await;
        paged.extend(page["changes"].as_array().unwrap().clone());
        match page["next"].as_str() {
            Some(mark) => next = format!("&after={mark}"),
            None => break,
        }
        // What comes in between is later than every page that follows.
        client.ask("PATCH /v1/notes/a", &[MERGE], r#"{"late":1}"#).await;
    }
    assert_eq!(paged, *changes);
}

#[tokio::test]
async fn a_change_tells_a_hundred_of_its_operations() {
    let client = Client::new();
    put(&client, &[], "{}").await;
    let keys: Vec<String> = (0..150).map(|n| format!("\"k{n}\":{n}")).collect();
    put(&client, &[], &format!("{{{}}}", keys.join(","))).await;
    let change = get(&client, "/v1/notes/a/_history?limit=1").await["changes"][0].clone();
    assert_eq!(change["operations"].as_array().unwrap().len(), 100);
    assert_eq!(change["operations_total"], 150);
}

#[tokio::test]
async fn a_revert_brings_back_values_with_their_types_in_a_new_change() {
    let client = Client::new();
    let typed = r#"{"b":{"$bytes":"aGk="},"c":{"$counter":3},"t":{"$text":"hi"},"w":{"$timestamp":"2020-01-01T00:00:00.000Z"}}"#;
    let content_type = format!("content-type: {TYPED}");
    let one = put(&client, &[&content_type], typed).await;
    let two = put(&client, &[], r#"{"c":5,"t":"ho","x":1}"#).await;
    let reply = revert(&client, &one, &[]).await;
    assert_eq!((reply.status.as_u16(), &reply.json()["unchanged"]), (200, &json!(false)));
    assert_ne!(version(&reply), one);
    let accept = format!("accept: {TYPED}");
    let wanted = [accept.as_str()];
    let read = || client.ask("GET /v1/notes/a", &wanted, "");
    assert_eq!(read().await.json(), serde_json::from_str::<Value>(typed).unwrap());
    let change = get(&client, "/v1/notes/a/_history?limit=1").await["changes"][0].clone();
    assert_eq!(change["message"], format!("revert to {}", &one[..8]));
    assert_eq!(revert(&client, &one, &[]).await.json()["unchanged"], true);

    // What is deleted comes back, and may be shown at once and named otherwise.
    let gone = version(&client.ask("DELETE /v1/notes/a", &[], "").await);
    let fields = ["tombolo-message: back", "prefer: return=representation", &accept];
    let back = revert(&client, &one, &fields).await;
    assert_eq!(back.status, 201, "{back:?}");
    assert_eq!(back.json(), serde_json::from_str::<Value>(typed).unwrap());
    let change = get(&client, "/v1/notes/a/_history?limit=1").await["changes"][0].clone();
    assert_eq!(change["message"], "back");

    let stale = format!("if-match: \"{two}\"");
    let unknown = "ab".repeat(32);
    for (to, fields, status, code) in [
        (&one, &[stale.as_str()][..], 412, "precondition_failed"),
        (&unknown, &[], 432, "version_not_found"),
        (&gone, &[], 404, "document_deleted"),
        (&String::new(), &[], 400, "bad_json"),
        (&one, &["content-type: text/plain"], 415, "unsupported_media_type"),
    ] {
        let reply = revert(&client, to, fields).await;
        assert_eq!(reply.status, status, "{to}: {reply:?}");
        assert_eq!(reply.json()["code"], code, "{to}");
        let detail = reply.json()["detail"].to_string();
        assert_eq!(code == "document_deleted", detail.contains("at that version"), "{detail}");
    }
    assert_eq!(read().await.json(), serde_json::from_str::<Value>(typed).unwrap());
}

#[tokio::test]
async fn a_counter_goes_back_by_what_was_added_since() {
    let client = Client::new();
    let content_type = format!("content-type: {TYPED}");
    let one = put(&client, &[&content_type], r#"{"c":{"$counter":3}}"#).await;
    let add = r#"[{"op":"increment","path":"/c","by":4}]"#;
    let two = version(&client.ask("PATCH /v1/notes/a", &[PATCH], add).await);
    // Somebody adds one more who has not seen the revert.
    version(&revert(&client, &one, &[]).await);
    let late = [PATCH, &format!("parents: \"{two}\"")];
    version(
        &client.ask("PATCH /v1/notes/a", &late, r#"[{"op":"increment","path":"/c","by":1}]"#).await,
    );
    assert_eq!(get(&client, "/v1/notes/a").await, json!({"c": 4}));
}
