//! Every route over a node in memory: tables of request → answer.

use axum::{
    body::Body,
    http::{HeaderMap, Request, StatusCode},
};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, sleep};
use tombolo::{
    http::{Api, Options},
    node::{self, Node},
    store::{Fault, MemoryEngine},
};

pub(crate) const MERGE: &str = "content-type: application/merge-patch+json";
pub(crate) const PATCH: &str = "content-type: application/json-patch+json";
const TYPED: &str = "application/vnd.tombolo.typed+json";

/// An interface, and the requests made of it.
pub(crate) struct Client(pub(crate) Api);

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Client {
    pub(crate) fn new() -> Self {
        Self(Api::new(crate::node(), Options::default()))
    }

    /// `VERB path`, fields as `name: value`, and the body. The host is a good one if none is named.
    pub(crate) async fn ask(&self, line: &str, fields: &[&str], body: impl Into<Body>) -> Reply {
        let (verb, path) = line.split_once(' ').unwrap();
        let mut request = Request::builder().method(verb).uri(path);
        if !fields.iter().any(|field| field.starts_with("host:")) {
            request = request.header("host", "localhost");
        }
        for field in fields {
            let (name, value) = field.split_once(':').unwrap();
            request = request.header(name, value.trim());
        }
        let response = self.0.answer(request.body(body.into()).unwrap()).await;
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Reply { status: head.status, headers: head.headers, body }
    }

    /// Puts a document and gives its version.
    async fn put(&self, path: &str, fields: &[&str], body: &'static str) -> String {
        let reply = self.ask(&format!("PUT {path}"), fields, body).await;
        assert!(reply.status.is_success(), "{path}: {reply:?}");
        reply.version()
    }
}

impl Reply {
    pub(crate) fn field(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().into()
    }

    /// Status and code of a refusal.
    pub(crate) fn refusal(&self) -> (u16, String) {
        (self.status.as_u16(), self.code())
    }

    /// The version without quotes, hashes joined by `.`.
    pub(crate) fn version(&self) -> String {
        self.field("version").replace("\", \"", ".").replace('"', "")
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// Whether the detail has a word of weight that the title has not.
fn says_more(title: &Value, detail: &Value) -> bool {
    let (title, detail) = (title.as_str().unwrap(), detail.as_str().unwrap());
    let light = |word: &str| word.len() < 4 || ["that", "there", "this"].contains(&word);
    let mut words = detail.split(|letter: char| !letter.is_alphanumeric());
    words.any(|word| !light(word) && !title.to_lowercase().contains(&word.to_lowercase()))
}

fn hash(digit: &str) -> String {
    digit.repeat(64)
}

#[tokio::test]
async fn every_refusal_has_its_status_and_code() {
    let client = Client::new();
    client.put("/v1/notes/a", &[], r#"{"a":1}"#).await;
    client.put("/v1/notes/gone", &[], "{}").await;
    client.ask("DELETE /v1/notes/gone", &[], "").await;
    let strange = format!("\"{}\"", hash("0"));
    let parents = format!("parents: {strange}");
    let if_match = format!("if-match: {strange}");
    let at = format!("GET /v1/notes/a?at={}", hash("0"));
    let unknown_from = format!("GET /v1/notes/a/_diff?from={}", hash("0"));
    let unknown_to = format!("GET /v1/notes/a/_diff?from=&to={}", hash("0"));
    let long_key = format!("GET /v1/notes/{}", "k".repeat(513));
    let deep = "[".repeat(101);
    for (line, fields, body, status, code) in [
        // Routes.
        ("GET /", &[][..], "", 404, "not_found"),
        ("GET /v2", &[], "", 404, "not_found"),
        ("GET /v1/", &[], "", 404, "not_found"),
        ("GET /v1/notes/", &[], "", 404, "not_found"),
        ("GET /v1//a", &[], "", 404, "not_found"),
        ("GET //v1/notes/a", &[], "", 404, "not_found"),
        ("GET /v1/notes/a/", &[], "", 404, "not_found"),
        ("GET /v1/notes/a/b", &[], "", 404, "not_found"),
        ("GET /v1/_nothing", &[], "", 404, "not_found"),
        ("GET /v1/notes/_nothing", &[], "", 404, "not_found"),
        ("GET /v1/notes/a/_nothing", &[], "", 404, "not_found"),
        ("GET /.well-known/multiplexer/1", &[], "", 404, "not_found"),
        ("POST /.well-known/multiplexer/1/2", &[], "", 404, "not_found"),
        ("OPTIONS /nowhere", &[], "", 404, "not_found"),
        ("POST /v1/notes/a", &[], "", 405, "method_not_allowed"),
        ("PUT /v1/notes", &[], "", 405, "method_not_allowed"),
        ("DELETE /v1/_collections", &[], "", 405, "method_not_allowed"),
        ("BREW /v1/notes/a", &[], "", 405, "method_not_allowed"),
        // Whom it is for, and who made it: before all else.
        ("GET /nowhere", &["host: a b"], "", 400, "bad_header"),
        ("GET /v1/notes/a", &["host: localhost", "host: localhost"], "", 400, "bad_header"),
        ("GET /v1/notes/a", &["host: evil.com"], "", 403, "forbidden"),
        ("PUT /v1/notes/a", &["host: evil.com"], "{}", 403, "forbidden"),
        ("GET /livez", &["host: evil.com"], "", 403, "forbidden"),
        ("GET /readyz", &["host: evil.com"], "", 403, "forbidden"),
        ("GET /nowhere", &["origin: http://evil.com"], "", 403, "forbidden"),
        ("OPTIONS /v1/notes/a", &["origin: http://evil.com"], "", 403, "forbidden"),
        ("PUT /v1/notes/a", &["origin: null"], "{}", 403, "forbidden"),
        ("GET /v1/notes/a", &["sec-fetch-site: cross-site"], "", 403, "forbidden"),
        // Names.
        ("GET /v1/Notes/a", &[], "", 400, "bad_key"),
        ("GET /v1/.", &[], "", 400, "bad_key"),
        ("GET /v1/%5Fnotes", &[], "", 400, "bad_key"),
        ("GET /v1/notes/%5Fa", &[], "", 400, "bad_key"),
        ("GET /v1/notes/.", &[], "", 400, "bad_key"),
        ("GET /v1/notes/..", &[], "", 400, "bad_key"),
        ("GET /v1/notes/%2e%2E", &[], "", 400, "bad_key"),
        ("GET /v1/notes/%ff", &[], "", 400, "bad_key"),
        ("GET /v1/notes/%", &[], "", 400, "bad_key"),
        ("GET /v1/notes/%zz", &[], "", 400, "bad_key"),
        ("GET /v1/notes/a%00", &[], "", 400, "bad_key"),
        ("GET /v1/notes/a%0Ab", &[], "", 400, "bad_key"),
        ("GET /v1/notes/a%C2%85", &[], "", 400, "bad_key"),
        ("GET /v1/automerge/a", &[], "", 400, "bad_key"),
        ("POST /v1/automerge", &[], "{}", 400, "bad_key"),
        (long_key.as_str(), &[], "", 400, "bad_key"),
        // Queries and fields.
        ("GET /v1/notes/a?x=1", &[], "", 400, "bad_query"),
        ("PUT /v1/notes/a?at=", &[], "{}", 400, "bad_query"),
        ("GET /v1/notes/a?at=xyz", &[], "", 400, "bad_query"),
        ("GET /v1/notes/a?at=", &[], "", 400, "bad_query"),
        ("GET /v1/notes/a?at", &[], "", 400, "bad_query"),
        ("GET /v1/notes/a?=1", &[], "", 400, "bad_query"),
        ("GET /v1/notes/a/_conflicts?after=", &[], "", 400, "bad_query"),
        ("GET /v1/notes/a/_diff", &[], "", 400, "bad_query"),
        ("GET /v1/notes/a/_diff?from=xyz", &[], "", 400, "bad_query"),
        ("GET /v1/notes/a/_diff?from=&to=xyz", &[], "", 400, "bad_query"),
        ("GET /v1/notes/a/_history?after=x", &[], "", 400, "bad_query"),
        ("GET /v1/notes/a/_history?limit=0", &[], "", 400, "bad_query"),
        ("GET /v1/notes?limit=", &[], "", 400, "bad_query"),
        ("GET /v1/notes?after=", &[], "", 400, "bad_query"),
        ("GET /v1/notes?values=", &[], "", 400, "bad_query"),
        ("GET /v1/notes?limit=0", &[], "", 400, "bad_query"),
        ("GET /v1/notes?limit=1001", &[], "", 400, "bad_query"),
        ("GET /v1/notes?after=x", &[], "", 400, "bad_query"),
        ("GET /v1/notes?values=no", &[], "", 400, "bad_query"),
        ("GET /v1/notes?prefix=a&prefix=b", &[], "", 400, "bad_query"),
        ("GET /livez?verbose", &[], "", 400, "bad_query"),
        ("GET /v1/notes/a", &["parents: token"], "", 400, "bad_header"),
        ("PUT /v1/notes/a", &["parents: \"ab\""], "{}", 400, "bad_header"),
        ("PUT /v1/notes/a", &["if-match: token"], "{}", 400, "bad_header"),
        ("PUT /v1/notes/a", &[&parents, "if-match: *"], "{}", 400, "bad_header"),
        ("PUT /v1/notes/a", &[&parents, "if-none-match: *"], "{}", 400, "bad_header"),
        ("DELETE /v1/notes/a", &[&parents, "if-match: *"], "", 400, "bad_header"),
        ("PUT /v1/notes/a", &["tombolo-message: tombolo:x"], "{}", 400, "bad_header"),
        ("PUT /v1/notes/a", &["content-range: bytes 0-1/9"], "{}", 400, "bad_header"),
        // Media types.
        ("GET /v1/notes/a", &["accept: text/html"], "", 406, "not_acceptable"),
        ("GET /v1/notes", &["accept: text/html"], "", 406, "not_acceptable"),
        ("PUT /v1/notes/a", &["content-type: text/plain"], "{}", 415, "unsupported_media_type"),
        ("PUT /v1/notes/a", &["content-encoding: br"], "{}", 415, "unsupported_media_type"),
        ("POST /v1/notes", &["content-type: text/plain"], "{}", 415, "unsupported_media_type"),
        ("PATCH /v1/notes/a", &[], "{}", 415, "unsupported_media_type"),
        (
            "PATCH /v1/notes/a",
            &["content-type: application/json"],
            "{}",
            415,
            "unsupported_media_type",
        ),
        // Bodies.
        ("PUT /v1/notes/a", &[], "", 400, "bad_json"),
        ("PUT /v1/notes/a", &[], "{", 400, "bad_json"),
        ("PUT /v1/notes/a", &[], r#"{"a":1,"a":2}"#, 400, "duplicate_key"),
        ("PUT /v1/notes/a", &[], &deep, 400, "too_deep"),
        ("PATCH /v1/notes/a", &[PATCH], r#"[{"op":"fly"}]"#, 400, "bad_patch"),
        // Documents.
        ("GET /v1/notes/none", &[], "", 404, "document_not_found"),
        ("GET /v1/notes/none/_conflicts", &[], "", 404, "document_not_found"),
        ("GET /v1/notes/none/_diff?from=", &[], "", 404, "document_not_found"),
        ("GET /v1/notes/none/_history", &[], "", 404, "document_not_found"),
        ("DELETE /v1/notes/none", &[], "", 404, "document_not_found"),
        ("DELETE /v1/notes/none", &["if-match: *"], "", 404, "document_not_found"),
        ("GET /v1/notes/gone", &[], "", 404, "document_deleted"),
        ("DELETE /v1/notes/gone", &[], "", 404, "document_deleted"),
        // Versions.
        (&at, &[], "", 432, "version_not_found"),
        (&unknown_from, &[], "", 432, "version_not_found"),
        (&unknown_to, &[], "", 432, "version_not_found"),
        ("GET /v1/notes/a", &[&parents], "", 432, "version_not_found"),
        ("PUT /v1/notes/a", &[&parents], "{}", 432, "version_not_found"),
        ("PUT /v1/notes/a", &[&parents], "[]", 432, "version_not_found"),
        // Preconditions.
        ("PUT /v1/notes/a", &[&if_match], "{}", 412, "precondition_failed"),
        ("PUT /v1/notes/a", &["if-match: \"another-server\""], "{}", 412, "precondition_failed"),
        ("PUT /v1/notes/a", &["if-none-match: *"], "{}", 412, "precondition_failed"),
        ("PUT /v1/notes/none", &["if-match: *"], "{}", 412, "precondition_failed"),
        ("PUT /v1/notes/gone", &["if-match: *"], "{}", 412, "precondition_failed"),
        ("PUT /v1/notes/a", &[&if_match], "[]", 412, "precondition_failed"),
        ("GET /v1/notes/a", &[&if_match], "", 412, "precondition_failed"),
        // Meaning.
        ("PUT /v1/notes/a", &[], "[]", 422, "root_must_be_object"),
        ("PATCH /v1/notes/a", &[MERGE], "1", 422, "root_must_be_object"),
        ("PATCH /v1/notes/a", &[PATCH], r#"[{"op":"remove","path":"/x"}]"#, 422, "bad_pointer"),
        (
            "PATCH /v1/notes/a",
            &[PATCH],
            r#"[{"op":"test","path":"/a","value":2}]"#,
            409,
            "patch_test_failed",
        ),
        (
            "PATCH /v1/notes/a",
            &[PATCH],
            r#"[{"op":"increment","path":"/a","by":2}]"#,
            422,
            "wrong_type",
        ),
    ] {
        let reply = client.ask(line, fields, body.to_owned()).await;
        let what = format!("{line} {fields:?} {body}");
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (status, code), "{what}");
        assert_eq!(reply.field("content-type"), "application/problem+json", "{what}");
        let problem = reply.json();
        assert_eq!(problem["type"], format!("urn:tombolo:error:{code}"), "{what}");
        assert_eq!(problem["status"], status, "{what}");
        assert!(says_more(&problem["title"], &problem["detail"]), "{what}: {problem}");
        assert_eq!(reply.field("x-content-type-options"), "nosniff", "{what}");
        assert!(!reply.field("x-request-id").is_empty(), "{what}");
    }
    let unchanged = client.ask("GET /v1/notes/a", &[], "").await;
    assert_eq!(unchanged.json(), json!({"a": 1}), "a refusal changes nothing");
}

#[tokio::test]
async fn of_several_refusals_the_first_in_order_is_given() {
    let client = Client::new();
    let bad: &[(&str, u16)] = &[
        ("if-none-match: token", 400),
        ("content-type: text/plain", 415),
        ("content-length: 99999999", 413),
        ("parents: \"0000000000000000000000000000000000000000000000000000000000000000\"", 432),
    ];
    for (index, (_, status)) in bad.iter().enumerate() {
        let fields: Vec<&str> = bad[index..].iter().map(|(field, _)| *field).collect();
        // The last two are told apart by the body: what is not read cannot be too large.
        let body = if *status == 413 { vec![b' '; (8 << 20) + 1] } else { b"[]".to_vec() };
        let reply = client.ask("PUT /v1/notes/a", &fields, body).await;
        assert_eq!(reply.status, *status, "{fields:?}");
    }
}

#[tokio::test]
async fn a_document_is_written_and_read_with_all_its_fields() {
    let client = Client::new();
    let written = client.ask("PUT /v1/notes/a", &[], r#"{"b":[1.0],"a":"x"}"#).await;
    assert_eq!(written.status, 201);
    let version = written.version();
    let document = written.field("tombolo-document").to_owned();
    assert!(document.starts_with("automerge:"));
    assert_eq!(written.field("version"), format!("\"{version}\""));
    assert_eq!(written.field("etag"), format!("\"{version}\""));
    assert_eq!(written.field("tombolo-conflicts"), "0");
    assert_eq!(written.field("tombolo-durability"), "sync");
    assert_eq!(written.field("content-type"), "application/json");
    assert_eq!(
        written.json(),
        json!({
            "collection": "notes", "key": "a", "document": document, "version": [version],
            "merged": false, "unchanged": false, "deleted": false,
        })
    );

    let read = client.ask("GET /v1/notes/a", &[], "").await;
    assert_eq!((read.status.as_u16(), read.text()), (200, r#"{"a":"x","b":[1.0]}"#));
    assert_eq!(read.field("content-type"), "application/json");
    assert_eq!(read.field("version"), format!("\"{version}\""));
    assert_eq!(read.field("etag"), format!("\"{version}\""));
    assert_eq!(read.field("tombolo-conflicts"), "0");
    assert_eq!(read.field("tombolo-document"), document);
    assert_eq!(read.field("tombolo-durability"), "");
    assert_eq!(read.field("vary"), "Accept, Accept-Encoding, Version, Parents");
    assert_eq!(read.field("x-content-type-options"), "nosniff");

    let head = client.ask("HEAD /v1/notes/a", &[], "").await;
    assert_eq!((head.status.as_u16(), head.text()), (200, ""));
    assert_eq!(head.field("content-length"), read.body.len().to_string());
    assert_eq!(head.field("etag"), read.field("etag"));

    let again = client.ask("PUT /v1/notes/a", &[], r#"{"a":"x","b":[1.0]}"#).await;
    assert_eq!(again.status, 200);
    assert_eq!((again.json()["unchanged"].clone(), again.version()), (json!(true), version));
}

#[tokio::test]
async fn a_deleted_document_tells_its_version_and_can_come_back() {
    let client = Client::new();
    client.put("/v1/notes/a", &[], r#"{"a":1}"#).await;
    let deleted = client.ask("DELETE /v1/notes/a", &[], "").await;
    assert_eq!((deleted.status.as_u16(), &deleted.json()["deleted"]), (200, &json!(true)));
    let read = client.ask("GET /v1/notes/a", &[], "").await;
    assert_eq!((read.status.as_u16(), read.version()), (404, deleted.version()));
    let head = client.ask("HEAD /v1/notes/a", &[], "").await;
    assert_eq!((head.status.as_u16(), head.text()), (404, ""));
    let back = client.ask("PUT /v1/notes/a", &["if-none-match: *"], r#"{"b":1}"#).await;
    assert_eq!(back.status, 201);
    assert_eq!(client.ask("GET /v1/notes/a", &[], "").await.json(), json!({"b": 1}));
}

#[tokio::test]
async fn a_put_that_names_its_parents_merges() {
    let client = Client::new();
    let seen = client.put("/v1/notes/a", &[], r#"{"a":1,"b":1}"#).await;
    client.put("/v1/notes/a", &[], r#"{"a":2,"b":1}"#).await;
    let parents = format!("parents: \"{seen}\"");
    let late = client.ask("PUT /v1/notes/a", &[&parents], r#"{"a":1,"b":2}"#).await;
    assert_eq!((late.status.as_u16(), &late.json()["merged"]), (200, &json!(true)));
    let read = client.ask("GET /v1/notes/a", &[&parents], "").await;
    assert_eq!(read.json(), json!({"a": 2, "b": 2}));
    let past = client.ask(&format!("GET /v1/notes/a?at={seen}"), &[], "").await;
    assert_eq!((past.json(), past.version()), (json!({"a": 1, "b": 1}), seen));
}

#[tokio::test]
async fn a_put_that_saw_nothing_is_a_concurrent_create() {
    let client = Client::new();
    client.put("/v1/notes/a", &[], r#"{"a":1}"#).await;
    let reply = client.ask("PUT /v1/notes/a", &["parents:"], r#"{"b":1}"#).await;
    assert_eq!((reply.status.as_u16(), &reply.json()["merged"]), (200, &json!(true)));
    let read = client.ask("GET /v1/notes/a", &[], "").await;
    assert_eq!(read.json(), json!({"a": 1, "b": 1}));
}

#[tokio::test]
async fn preconditions_let_a_write_through_or_not() {
    let client = Client::new();
    let first = client.put("/v1/notes/a", &["if-none-match: *"], r#"{"a":1}"#).await;
    let fields = [format!("if-match: \"{first};t\", \"{}\"", hash("0"))];
    let second = client.put("/v1/notes/a", &[&fields[0]], r#"{"a":2}"#).await;
    let stale = client.ask("PUT /v1/notes/a", &[&fields[0]], r#"{"a":3}"#).await;
    assert_eq!((stale.status.as_u16(), stale.version()), (412, second.clone()));
    assert_eq!(client.ask("DELETE /v1/notes/a", &[&fields[0]], "").await.status, 412);
    assert_eq!(client.ask("PATCH /v1/notes/a", &[MERGE, "if-match: *"], "{}").await.status, 200);
}

#[tokio::test]
async fn a_read_of_what_the_client_holds_is_304_with_the_fields_and_no_body() {
    let client = Client::new();
    let version = client.put("/v1/notes/a", &[], "{}").await;
    for line in ["GET /v1/notes/a", "HEAD /v1/notes/a"] {
        for tag in [format!("\"{version}\""), format!("W/\"{version}\""), "*".into()] {
            let reply = client.ask(line, &[&format!("if-none-match: {tag}")], "").await;
            assert_eq!((reply.status.as_u16(), reply.text()), (304, ""), "{tag}");
            assert_eq!(reply.field("etag"), format!("\"{version}\""));
            assert_eq!(reply.version(), version);
            assert_eq!(reply.field("content-length"), "");
        }
        let typed = format!("if-none-match: \"{version};t\"");
        assert_eq!(client.ask(line, &[&typed], "").await.status, 200);
    }
}

#[tokio::test]
async fn a_document_has_three_representations() {
    let client = Client::new();
    let fields = [format!("content-type: {TYPED}")];
    client.put("/v1/notes/a", &[&fields[0]], r#"{"n":{"$counter":3}}"#).await;
    for (accept, kind, suffix) in [
        ("application/json", "application/json", ""),
        (TYPED, TYPED, ";t"),
        ("application/vnd.automerge, */*;q=0.1", "application/vnd.automerge", ";a"),
    ] {
        let reply = client.ask("GET /v1/notes/a", &[&format!("accept: {accept}")], "").await;
        assert_eq!((reply.status.as_u16(), reply.field("content-type")), (200, kind));
        assert!(reply.field("etag").ends_with(&format!("{suffix}\"")), "{}", reply.field("etag"));
        match suffix {
            "" => assert_eq!(reply.text(), r#"{"n":3}"#),
            ";t" => assert_eq!(reply.text(), r#"{"n":{"$counter":3}}"#),
            _ => assert_eq!(reply.body[..4], [0x85, 0x6f, 0x4a, 0x83], "Automerge's magic bytes"),
        }
    }
}

#[tokio::test]
async fn a_write_answers_the_document_if_asked() {
    let client = Client::new();
    let prefer = "prefer: return=representation";
    let reply = client.ask("PUT /v1/notes/a", &[prefer], r#"{"a":1}"#).await;
    assert_eq!((reply.status.as_u16(), reply.text()), (201, r#"{"a":1}"#));
    assert_eq!(reply.field("preference-applied"), "return=representation");
    assert_eq!(reply.field("tombolo-durability"), "sync");
    let accept = format!("accept: {TYPED}");
    let reply = client.ask("PATCH /v1/notes/a", &[prefer, &accept, MERGE], r#"{"b":2}"#).await;
    assert_eq!((reply.status.as_u16(), reply.field("content-type")), (200, TYPED));
    assert!(reply.field("etag").ends_with(";t\""));
    let reply = client.ask("PUT /v1/notes/a", &[prefer, "accept: text/html"], "{}").await;
    assert_eq!(reply.status, 406, "before anything is written");
    let reply = client.ask("DELETE /v1/notes/a", &[prefer], "").await;
    assert_eq!((reply.status.as_u16(), reply.field("preference-applied")), (200, ""));
    assert_eq!(reply.json()["deleted"], true);
}

#[tokio::test]
async fn patches_change_a_part_and_create_what_is_missing() {
    let client = Client::new();
    let typed = "content-type: application/merge-patch+json;typed";
    for (fields, body, status, after) in [
        (&[MERGE][..], r#"{"a":{"b":1},"c":2}"#, 201, json!({"a": {"b": 1}, "c": 2})),
        (&[MERGE], r#"{"a":{"d":3},"c":null}"#, 200, json!({"a": {"b": 1, "d": 3}})),
        (&[PATCH], r#"[{"op":"remove","path":"/a/b"}]"#, 200, json!({"a": {"d": 3}})),
        (&[typed], r#"{"n":{"$counter":1}}"#, 200, json!({"a": {"d": 3}, "n": 1})),
        (
            &[PATCH],
            r#"[{"op":"increment","path":"/n","by":2}]"#,
            200,
            json!({"a": {"d": 3}, "n": 3}),
        ),
    ] {
        let reply = client.ask("PATCH /v1/notes/a", fields, body).await;
        assert_eq!(reply.status, status, "{body}: {reply:?}");
        assert_eq!(client.ask("GET /v1/notes/a", &[], "").await.json(), after, "{body}");
    }
    let refused = client.ask("PATCH /v1/notes/a", &[], "{}").await;
    assert_eq!(
        refused.field("accept-patch"),
        "application/merge-patch+json, application/json-patch+json"
    );
    let refused =
        client.ask("PATCH /v1/notes/a", &[PATCH], r#"[{"op":"remove","path":"/x/y"}]"#).await;
    assert!(refused.json()["errors"][0]["pointer"].is_string(), "{refused:?}");
}

#[tokio::test]
async fn keys_are_split_first_and_decoded_then() {
    let client = Client::new();
    for (path, key) in [
        ("a%2Fb", "a/b"),
        ("a+b", "a+b"),
        ("a%20b", "a b"),
        ("%2541", "%41"),
        ("%C3%A9", "é"),
        ("e%CC%81", "e\u{301}"),
        ("...", "..."),
        ("a%3Fb%23", "a?b#"),
        ("__proto__%00".trim_end_matches("%00"), ""),
    ] {
        let reply = client.ask(&format!("PUT /v1/keys/{path}"), &[], "{}").await;
        if key.is_empty() {
            assert_eq!(reply.status, 404, "{path}");
        } else {
            assert_eq!((reply.status.as_u16(), &reply.json()["key"]), (201, &json!(key)), "{path}");
        }
    }
}

#[tokio::test]
async fn a_new_document_gets_a_key_and_a_place() {
    let client = Client::new();
    let reply = client.ask("POST /v1/notes", &[], r#"{"a":1}"#).await;
    assert_eq!(reply.status, 201);
    let key = reply.json()["key"].as_str().unwrap().to_owned();
    assert_eq!(key.as_bytes()[14], b'7', "a UUIDv7: {key}");
    assert_eq!(reply.field("location"), format!("/v1/notes/{key}"));
    let read = client.ask(&format!("GET {}", reply.field("location")), &[], "").await;
    assert_eq!(read.json(), json!({"a": 1}));
}

#[tokio::test]
async fn a_list_goes_page_by_page_or_line_by_line() {
    let client = Client::new();
    for key in ["a", "b1", "b2", "b3", "c"] {
        client.put(&format!("/v1/notes/{key}"), &[], r#"{"x":1.0}"#).await;
    }
    client.ask("DELETE /v1/notes/a", &[], "").await;
    let keys = |reply: &Reply| -> Vec<String> {
        let rows = reply.json()["documents"].as_array().cloned().unwrap_or_default();
        rows.iter().map(|row| row["key"].as_str().unwrap().to_owned()).collect()
    };
    let all = client.ask("GET /v1/notes", &[], "").await;
    assert_eq!(keys(&all), ["b1", "b2", "b3", "c"]);
    let unfiltered = client.ask("GET /v1/notes?prefix=", &[], "").await;
    assert_eq!(unfiltered.body, all.body, "every key begins with nothing");
    let row = &all.json()["documents"][0];
    assert_eq!((&row["value"], &row["conflicts"]), (&json!({"x": 1.0}), &json!(0)));
    assert!(row["document"].as_str().unwrap().starts_with("automerge:"));
    assert_eq!(row["version"][0].as_str().unwrap().len(), 64);

    let first = client.ask("GET /v1/notes?prefix=b&limit=2&values=false", &[], "").await;
    assert_eq!(keys(&first), ["b1", "b2"]);
    assert_eq!(first.json()["documents"][0].get("value"), None);
    let next = first.json()["next"].as_str().unwrap().to_owned();
    let second = client.ask(&format!("GET /v1/notes?prefix=b&limit=2&after={next}"), &[], "").await;
    assert_eq!((keys(&second), &second.json()["next"]), (vec!["b3".to_owned()], &Value::Null));

    let lines = |reply: &Reply| -> Vec<String> {
        let row = |line| serde_json::from_str::<Value>(line).unwrap()["key"].to_string();
        reply.text().lines().map(row).collect()
    };
    let accept = "accept: application/x-ndjson";
    let all = client.ask("GET /v1/notes", &[accept], "").await;
    assert_eq!(all.field("content-type"), "application/x-ndjson");
    assert_eq!(lines(&all).len(), 4);
    assert_eq!(lines(&client.ask("GET /v1/notes?limit=3", &[accept], "").await).len(), 3);
    assert_eq!(client.ask("GET /v1/none", &[accept], "").await.text(), "");
    let none = client.ask("GET /v1/none", &[], "").await;
    assert_eq!(none.json(), json!({"documents": [], "next": null}));
}

#[tokio::test]
async fn conflicts_are_listed_page_by_page() {
    let client = Client::new();
    client.put("/v1/notes/a", &[], r#"{"a":1,"b":1,"c":1}"#).await;
    client.put("/v1/notes/a", &["parents:"], r#"{"a":2,"b":2,"c":1}"#).await;
    assert_eq!(client.ask("GET /v1/notes/a", &[], "").await.field("tombolo-conflicts"), "2");
    let first = client.ask("GET /v1/notes/a/_conflicts?limit=1", &[], "").await;
    assert_eq!((first.status.as_u16(), first.field("tombolo-conflicts")), (200, "2"));
    let place = &first.json()["conflicts"][0];
    assert_eq!((&place["path"], &place["values_total"]), (&json!("/a"), &json!(2)));
    let winner = &place["values"][0];
    assert_eq!((&winner["value"], &winner["winner"]), (&json!(2), &json!(true)));
    assert_eq!(winner["change"].as_str().unwrap().len(), 64);
    let next = first.json()["next"].as_str().unwrap().to_owned();
    let line = format!("GET /v1/notes/a/_conflicts?after={next}");
    let second = client.ask(&line, &[], "").await.json();
    assert_eq!((&second["conflicts"][0]["path"], &second["next"]), (&json!("/b"), &Value::Null));
}

#[tokio::test]
async fn the_node_tells_who_it_is_and_what_it_holds() {
    let client = Client::new();
    client.put("/v1/notes/a", &[], "{}").await;
    client.put("/v1/notes/b", &[], "{}").await;
    client.ask("DELETE /v1/notes/b", &[], "").await;
    let about = client.ask("GET /v1", &[], "").await.json();
    assert_eq!((&about["name"], about["node"].as_str().unwrap().len()), (&json!("tombolo"), 32));
    assert_eq!(about["incarnation"].as_str().unwrap().len(), 32);
    assert_eq!(
        client.ask("GET /v1/_collections", &[], "").await.json(),
        json!({"collections": [{"name": "notes", "documents": 1, "deleted": 1}]})
    );
    for path in ["GET /livez", "GET /readyz", "HEAD /readyz"] {
        assert_eq!(client.ask(path, &[], "").await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn a_path_tells_its_verbs() {
    let client = Client::new();
    for (path, allow) in [
        ("/v1/notes/a", "GET, HEAD, PUT, PATCH, DELETE, OPTIONS"),
        ("/v1/notes", "GET, HEAD, POST, DELETE, OPTIONS"),
        ("/v1/notes/a/_conflicts", "GET, HEAD, OPTIONS"),
        ("/v1/notes/a/_revert", "POST, OPTIONS"),
        ("/v1", "GET, HEAD, OPTIONS"),
    ] {
        let options = client.ask(&format!("OPTIONS {path}"), &[], "").await;
        assert_eq!((options.status.as_u16(), options.field("allow")), (204, allow), "{path}");
        let refused = client.ask(&format!("BREW {path}"), &[], "").await;
        assert_eq!((refused.status.as_u16(), refused.field("allow")), (405, allow), "{path}");
    }
}

#[tokio::test]
async fn a_request_keeps_its_id_or_gets_one() {
    let client = Client::new();
    let named = client.ask("GET /livez", &["x-request-id: abc-1"], "").await;
    assert_eq!(named.field("x-request-id"), "abc-1");
    let (long, blank) = (format!("x-request-id: {}", "a".repeat(129)), "x-request-id: a b");
    let mut ids = vec!["abc-1".to_owned()];
    for fields in [&[][..], &[long.as_str()], &[blank]] {
        let id = client.ask("GET /livez", fields, "").await.field("x-request-id").to_owned();
        assert!(!ids.contains(&id) && id.len() < 64, "{id}");
        ids.push(id);
    }
}

#[tokio::test]
async fn a_trace_goes_on_in_the_answer() {
    let client = Client::new();
    let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let sent = format!("traceparent: 00-{trace}-{parent}-01");
    for line in ["GET /livez", "GET /nowhere", "PUT /v1/notes/a", "OPTIONS /v1/notes/a"] {
        let first = client.ask(line, &[&sent], "{}").await.field("traceparent").to_owned();
        let second = client.ask(line, &[&sent], "{}").await.field("traceparent").to_owned();
        assert!(first.starts_with(&format!("00-{trace}-")) && first.ends_with("-01"), "{first}");
        assert!(!first.contains(parent) && first != second, "each answer is a span of its own");
        let anew = client.ask(line, &["traceparent: 00-x"], "{}").await;
        assert_eq!(anew.field("traceparent").len(), 55);
        assert_eq!(client.ask(line, &[], "{}").await.field("traceparent"), "");
    }
}

#[tokio::test]
async fn a_body_may_be_as_large_as_its_limit_however_it_comes() {
    let options = Options { body_bytes_max: 1000, ..Options::default() };
    let client = Client(Api::new(crate::node(), options));
    for (bytes, status) in [(999, 200), (1000, 200), (1001, 413)] {
        let body = format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes - 8));
        assert_eq!(body.len(), bytes);
        client.put("/v1/notes/a", &[], "{}").await;
        let whole = client.ask("PUT /v1/notes/a", &[], body.clone()).await;
        assert_eq!(whole.status, status, "{bytes} whole");
        let chunks: Vec<_> = body.as_bytes().chunks(7).map(Bytes::copy_from_slice).collect();
        let chunks = stream::iter(chunks.into_iter().map(Ok::<_, Infallible>));
        let chunked = client.ask("PUT /v1/notes/a", &[], Body::from_stream(chunks)).await;
        assert_eq!(chunked.status, status, "{bytes} in chunks");
        if status == 413 {
            assert_eq!(
                (chunked.code().as_str(), chunked.field("connection")),
                ("too_large", "close")
            );
        }
    }
}

#[tokio::test]
async fn a_body_without_an_end_is_not_read_to_it() {
    let options = Options { body_bytes_max: 1000, ..Options::default() };
    let client = Client(Api::new(crate::node(), options));
    let read = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&read);
    let endless = stream::repeat_with(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        Ok::<_, Infallible>(Bytes::from_static(&[b' '; 100]))
    });
    let reply = client.ask("PUT /v1/notes/a", &[], Body::from_stream(endless)).await;
    assert_eq!((reply.status.as_u16(), read.load(Ordering::Relaxed)), (413, 11));
}

#[tokio::test]
async fn four_bodies_of_changes_may_be_larger_than_others_at_once() {
    let options = Options { body_bytes_max: 1000, changes_bytes_max: 9000, ..Options::default() };
    let client = Client(Api::new(crate::node(), options));
    let post = "POST /v1/notes/a/_changes";
    let fields = &["content-type: application/vnd.automerge"];
    let body = |bytes: usize, pending: bool| {
        let pieces = vec![Bytes::from_static(&[b'x'; 500]); bytes / 500];
        let pieces = stream::iter(pieces.into_iter().map(Ok::<_, Infallible>));
        let end = if pending { stream::pending().boxed() } else { stream::empty().boxed() };
        Body::from_stream(pieces.chain(end))
    };
    let mut held: Vec<_> =
        (0..4).map(|_| Box::pin(client.ask(post, fields, body(1500, true)))).collect();
    for one in &mut held {
        assert!(one.now_or_never().is_none(), "it waits for more");
    }
    for (bytes, code) in [(1000, "bad_changes"), (1500, "rate_limited"), (9500, "rate_limited")] {
        assert_eq!(client.ask(post, fields, body(bytes, false)).await.code(), code, "{bytes}");
    }
    held.pop();
    for (bytes, code) in [(1500, "bad_changes"), (9000, "bad_changes"), (9500, "too_large")] {
        assert_eq!(client.ask(post, fields, body(bytes, false)).await.code(), code, "{bytes}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_comes_too_slowly_is_answered_408() {
    let client = Client::new();
    for (bytes, seconds, status) in [(1 << 10, 1, 400), (1 << 10, 2, 408), (0, 1, 408)] {
        let body = stream::unfold(0, move |count| async move {
            sleep(Duration::from_secs(seconds)).await;
            let chunk = match count {
                0 => Bytes::from_static(b"{"),
                // No JSON: the node runs on a clock of its own, and is not asked here.
                300 => Bytes::from_static(b"]"),
                301 => return None,
                _ => Bytes::from(vec![b' '; bytes]),
            };
            Some((Ok::<_, Infallible>(chunk), count + 1))
        });
        let began = Instant::now();
        let path = format!("PUT /v1/notes/{bytes}-{seconds}");
        let reply = client.ask(&path, &[], Body::from_stream(body)).await;
        assert_eq!(reply.status, status, "{bytes} bytes every {seconds} seconds");
        if status == 408 {
            assert_eq!((reply.code().as_str(), reply.field("connection")), ("timeout", "close"));
            assert!(began.elapsed() <= Duration::from_secs(62), "{:?}", began.elapsed());
        }
    }
}

#[tokio::test]
async fn a_head_may_be_as_large_as_its_limits() {
    let client = Client::new();
    let path = "GET /livez";
    let base = (path.to_owned() + " HTTP/1.1\r\nhost: localhost\r\nx: \r\n\r\n").len();
    for (bytes, status) in [(16 << 10, 200), ((16 << 10) + 1, 431)] {
        let field = format!("x: {}", "a".repeat(bytes - base));
        let reply = client.ask(path, &[&field], "").await;
        assert_eq!(reply.status, status, "{bytes} bytes");
    }
    for (count, status) in [(64, 200), (65, 431)] {
        let fields: Vec<String> = (1..count).map(|index| format!("x{index}: a")).collect();
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        let reply = client.ask(path, &fields, "").await;
        assert_eq!(reply.status, status, "{count} fields");
        assert!(status == 200 || reply.code() == "headers_too_large");
    }
}

#[tokio::test]
async fn a_panic_is_an_answer_and_ends_nothing() {
    let client = Client::new();
    let body = Body::from_stream(stream::repeat_with(|| -> Result<Bytes, Infallible> {
        panic!("as a defect would")
    }));
    let reply = client.ask("PUT /v1/notes/a", &["x-request-id: it"], body).await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (500, "internal"));
    assert_eq!(reply.field("x-request-id"), "it");
    assert!(!reply.text().contains("as a defect would"), "the inside stays inside");
    assert_eq!(client.ask("GET /livez", &[], "").await.status, 200);
}

/// A node whose disk can be broken.
fn on_disk() -> (Client, Arc<MemoryEngine>) {
    let engine = Arc::new(MemoryEngine::new());
    let node = Node::start(node::Options::default(), Arc::clone(&engine) as Arc<_>).unwrap();
    (Client(Api::new(node, Options::default())), engine)
}

#[tokio::test]
async fn a_page_ends_at_8_mib_and_a_stream_that_fails_is_cut() {
    let (client, engine) = on_disk();
    let body = format!(r#"{{"a":"{}"}}"#, "x".repeat(1 << 20));
    for key in 10..20 {
        let reply = client.ask(&format!("PUT /v1/large/{key}"), &[], body.clone()).await;
        assert_eq!(reply.status, 201);
    }
    let page = client.ask("GET /v1/large", &[], "").await.json();
    assert_eq!(page["documents"].as_array().unwrap().len(), 8);
    let next = page["next"].as_str().unwrap();
    let rest = client.ask(&format!("GET /v1/large?after={next}"), &[], "").await.json();
    assert_eq!((rest["documents"].as_array().unwrap().len(), &rest["next"]), (2, &Value::Null));

    for (fails, lines) in [(false, 10), (true, 8)] {
        let request = Request::get("/v1/large").header("host", "localhost");
        let request = request.header("accept", "application/x-ndjson");
        let response = client.0.answer(request.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), 200);
        if fails {
            engine.inject(Fault::ReadFails { after: 0 });
        }
        let mut body = response.into_body();
        let mut read = 0;
        let ended = loop {
            match body.frame().await {
                None => break Ok(()),
                Some(Err(error)) => break Err(error),
                Some(Ok(frame)) => {
                    read += frame.into_data().unwrap().split(|byte| *byte == b'\n').count() - 1;
                }
            }
        };
        assert_eq!((ended.is_err(), read), (fails, lines));
    }
}

#[tokio::test]
async fn a_node_that_cannot_write_says_so_and_goes_on_reading() {
    let (client, engine) = on_disk();
    client.put("/v1/notes/a", &[], r#"{"a":1}"#).await;
    engine.inject(Fault::SyncFails { after: 0 });
    for _ in 0..2 {
        let refused = client.ask("PUT /v1/notes/a", &[], r#"{"a":2}"#).await;
        assert_eq!((refused.status.as_u16(), refused.code().as_str()), (503, "read_only"));
        assert_eq!(refused.field("retry-after"), "", "time alone mends no disk");
    }
    let ready = client.ask("GET /readyz", &[], "").await;
    assert_eq!((ready.status.as_u16(), ready.code().as_str()), (503, "not_ready"));
    assert!(ready.json()["detail"].as_str().unwrap().contains("read-only"), "{ready:?}");
    assert_eq!(client.ask("GET /livez", &[], "").await.status, 200);
    assert_eq!(client.ask("GET /v1/notes/a", &[], "").await.json(), json!({"a": 1}));
}

#[tokio::test]
async fn a_node_that_stops_says_so() {
    let node = crate::node();
    let client = Client(Api::new(node.clone(), Options::default()));
    node.stop().await;
    let reply = client.ask("PUT /v1/notes/a", &[], "{}").await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (503, "not_ready"));
    assert_eq!(reply.field("retry-after"), "1");
    assert_eq!(client.ask("GET /readyz", &[], "").await.status, 503);
}
