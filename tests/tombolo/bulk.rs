//! Many writes in one request, and a whole collection deleted: lines in, lines out.

use crate::{http::Client, process::Process};
use axum::{body::Body, http::Request};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{net::TcpListener, sync::mpsc};
use tombolo::{
    http::{Api, Connections, Options},
    node::{self, Node},
    store::{Fault, MemoryEngine},
};

const NDJSON: &str = "content-type: application/x-ndjson";

/// The answers to a body, the summary last.
async fn bulk(client: &Client, body: impl Into<Body>) -> Vec<Value> {
    let reply = client.ask("POST /v1/_bulk", &[NDJSON], body).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.field("content-type"), "application/x-ndjson");
    reply.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn summary(answers: &[Value]) -> (u64, u64, u64) {
    let summary = &answers.last().unwrap()["summary"];
    let count = |name: &str| summary[name].as_u64().unwrap();
    (count("lines"), count("ok"), count("failed"))
}

fn limited(body_bytes_max: usize) -> Client {
    Client(Api::new(crate::node(), Options { body_bytes_max, ..Options::default() }))
}

#[tokio::test]
async fn lines_are_written_and_answered_in_their_order() {
    let client = Client::new();
    let put = client.ask("PUT /v1/notes/old", &[], r#"{"a":1}"#).await.version();
    let body = [
        r#"{"op":"put","collection":"notes","key":"a","value":{"a":1,"n":0}}"#,
        r#"{"op":"put","collection":"notes","key":"a","value":{"a":1,"n":0}}"#,
        "\r",
        r#"{"op":"patch","collection":"notes","key":"a","value":{"b":2},"message":"more"}"#,
        r#"{"op":"patch","collection":"notes","key":"a","value":[{"op":"increment","path":"/c","by":3}]}"#,
        r#"{"op":"put","collection":"notes","value":{}}"#,
        &format!(
            r#"{{"op":"put","collection":"notes","key":"old","value":{{"b":1}},"parents":["{put}"]}}"#
        ),
        r#"{"op":"put","collection":"notes","key":"b","value":{"n":{"$counter":7}},"typed":true}"#,
        r#"{"op":"delete","collection":"notes","key":"b"}"#,
        &format!(
            r#"{{"op":"put","collection":"notes","key":"old","value":{{}},"if_match":["{put}"]}}"#
        ),
        r#"{"op":"put","collection":"notes","key":"b","value":{},"if_none_match":"*"}"#,
        r#"{"op":"put","collection":"notes","key":"c","value":{},"if_match":"*"}"#,
        r#"{"op":"patch","collection":"notes","key":"d","value":[{"op":"test","path":"/x","value":1}]}"#,
    ];
    let answers = bulk(&client, body.join("\n")).await;
    let statuses: Vec<_> = answers.iter().map(|answer| answer["status"].as_u64()).collect();
    let expected = [201, 200, 200, 200, 201, 200, 201, 200, 412, 201, 412, 409].map(Some);
    assert_eq!(statuses, [expected.as_slice(), &[None]].concat(), "{answers:#?}");
    let numbers: Vec<_> = answers.iter().filter_map(|answer| answer["line"].as_u64()).collect();
    assert_eq!(numbers, [1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
    assert_eq!(summary(&answers), (12, 9, 3));
    assert_eq!((&answers[0]["unchanged"], &answers[1]["unchanged"]), (&json!(false), &json!(true)));
    assert_eq!(answers[0]["version"], answers[1]["version"]);
    assert_eq!((&answers[3]["collection"], &answers[3]["key"]), (&json!("notes"), &json!("a")));
    assert_eq!(answers[4]["key"].as_str().unwrap().len(), 36, "a UUID");
    let refused = &answers[8];
    assert_eq!(refused["problem"]["code"], "precondition_failed");
    assert_eq!(refused["version"], answers[5]["version"], "the version to read again");
    assert_eq!(answers[11]["problem"]["code"], "patch_test_failed");
    let read = client.ask("GET /v1/notes/a", &[], "").await.json();
    assert_eq!(read, json!({"a": 1, "b": 2, "c": 3, "n": 0}));
}

#[tokio::test]
async fn every_fault_of_a_line_has_its_code_and_leaves_the_others_be() {
    let client = limited(3000);
    let (long, deep) = ("x".repeat(3001), "[".repeat(150) + &"]".repeat(150));
    let put = |rest: &str| format!(r#"{{"op":"put","collection":"notes"{rest}}}"#);
    let hash = "ab".repeat(32);
    let mut lines: Vec<(Vec<u8>, &str)> = Vec::new();
    for (line, code) in [
        ("nonsense", "bad_json"),
        ("{", "bad_json"),
        ("[1]", "bad_line"),
        ("{} {}", "bad_json"),
        ("\u{feff}{}", "bad_json"),
        ("{}", "bad_line"),
        (r#"{"op":"put","op":"put"}"#, "duplicate_key"),
        (r#"{"op":"put","value":{}}"#, "bad_line"),
        (r#"{"op":"put","collection":7,"value":{}}"#, "bad_line"),
        (r#"{"op":"put","collection":"Notes","value":{}}"#, "bad_key"),
        (r#"{"op":"put","collection":"automerge","value":{}}"#, "bad_key"),
        (r#"{"op":"move","collection":"notes","key":"a","value":{}}"#, "bad_line"),
        (r#"{"op":1,"collection":"notes","key":"a"}"#, "bad_line"),
        (r#"{"collection":"notes","key":"a"}"#, "bad_line"),
        (r#"{"op":"patch","collection":"notes","value":{}}"#, "bad_line"),
        (r#"{"op":"delete","collection":"notes"}"#, "bad_line"),
        (r#"{"op":"delete","collection":"notes","key":"a","value":{}}"#, "bad_line"),
        (r#"{"op":"delete","collection":"notes","key":"none"}"#, "document_not_found"),
        (r#"{"op":"patch","collection":"notes","key":"a","value":"x"}"#, "root_must_be_object"),
        (r#"{"op":"patch","collection":"notes","key":"a","value":[{"op":"grow"}]}"#, "bad_patch"),
        (&put(""), "bad_line"),
        (&put(r#","key":"_a","value":{}"#), "bad_key"),
        (&put(r#","key":"","value":{}"#), "bad_key"),
        (&put(r#","key":null,"value":{}"#), "bad_line"),
        (&put(r#","key":"a","value":[]"#), "root_must_be_object"),
        (&put(r#","key":"a","value":{},"extra":1"#), "bad_line"),
        (&put(r#","key":"a","value":{"a":1,"a":2}"#), "duplicate_key"),
        (&put(r#","key":"a","value":{"a":1e999}"#), "bad_json"),
        (&put(&format!(r#","key":"a","value":{{"a":{deep}}}"#)), "too_deep"),
        (&put(r#","key":"a","value":{},"parents":"x""#), "bad_line"),
        (&put(r#","key":"a","value":{},"parents":["x"]"#), "bad_line"),
        (&put(&format!(r#","key":"a","value":{{}},"parents":["{hash}"]"#)), "version_not_found"),
        (&put(r#","key":"a","value":{},"parents":[],"if_match":"*""#), "bad_line"),
        (&put(r#","key":"a","value":{},"if_match":true"#), "bad_line"),
        (&put(r#","key":"a","value":{},"if_none_match":[]"#), "bad_line"),
        (&put(r#","key":"a","value":{},"typed":1"#), "bad_line"),
        (&put(r#","key":"a","value":{"a":{"$no":1}},"typed":true"#), "wrong_type"),
        (&put(r#","key":"a","value":{},"message":1"#), "bad_line"),
        (&put(r#","key":"a","value":{},"message":"tombolo:x""#), "bad_line"),
        (&put(&format!(r#","key":"a","value":{{}},"message":"{}""#, "m".repeat(1025))), "bad_line"),
        (&put(&format!(r#","key":"a","value":{{"a":"{long}"}}"#)), "too_large"),
        (&long, "too_large"),
    ] {
        lines.push((line.into(), code));
    }
    lines.push((b"{\"op\":\"\xff\"}".to_vec(), "bad_json"));
    let good = put(r#","key":"good","value":{}"#).into_bytes();
    let mut body = good.clone();
    for (line, _) in &lines {
        for line in [line, &good] {
            body.push(b'\n');
            body.extend_from_slice(line);
        }
    }
    let answers = bulk(&client, body).await;
    let count = lines.len() as u64;
    assert_eq!(summary(&answers), (2 * count + 1, count + 1, count));
    for (index, (line, code)) in lines.iter().enumerate() {
        let (answer, line) = (&answers[2 * index + 1], String::from_utf8_lossy(line));
        assert_eq!(answer["problem"]["code"], *code, "{line}: {answer}");
        assert_eq!(answer["line"], 2 * index + 2, "{line}");
        assert_eq!(answer["status"], answer["problem"]["status"], "{line}");
        assert_eq!(answers[2 * index + 2]["status"], 200, "the line behind {line}");
    }
    let at = |code: &str| answers.iter().find(|answer| answer["problem"]["code"] == code).unwrap();
    assert_eq!(at("duplicate_key")["problem"]["errors"][0]["pointer"], "/op");
    assert_eq!(at("wrong_type")["problem"]["errors"][0]["pointer"], "/value/a");
    assert_eq!(at("version_not_found")["key"], "a", "a refusal names the document");
}

#[tokio::test]
async fn what_is_wrong_before_the_first_line_is_refused_as_a_whole() {
    let client = Client::new();
    for (line, fields, status) in [
        ("POST /v1/_bulk", &["content-type: application/json"][..], 415),
        ("POST /v1/_bulk", &["content-type: text/plain"], 415),
        ("POST /v1/_bulk", &["content-encoding: br"], 415),
        ("POST /v1/_bulk", &["accept: application/json"], 406),
        ("POST /v1/_bulk", &["parents: "], 400),
        ("POST /v1/_bulk", &["if-match: *"], 400),
        ("POST /v1/_bulk?x=1", &[], 400),
        ("GET /v1/_bulk", &[], 405),
        ("PUT /v1/_bulk", &[], 405),
        ("POST /v1/_bulk", &["content-type: application/jsonl; charset=utf-8"], 200),
        ("POST /v1/_bulk", &[], 200),
    ] {
        assert_eq!(client.ask(line, fields, "").await.status, status, "{line} {fields:?}");
    }
    for body in ["", "\n", " \r\n\n"] {
        assert_eq!(
            bulk(&client, body).await,
            [json!({"summary": {"lines": 0, "ok": 0, "failed": 0}})]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_given_up() {
    let client = Client::new();
    let never = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
    let reply = client.ask("POST /v1/_bulk", &[NDJSON], never).await;
    assert_eq!((reply.refusal(), reply.field("connection")), ((408, "timeout".into()), "close"));
    let begun = stream::iter([Ok::<_, std::io::Error>(
        "{\"op\":\"put\",\"collection\":\"notes\",\"key\":\"a\",\"value\":{}}\n{\"op\":",
    )]);
    let answers = bulk(&client, Body::from_stream(begun.chain(stream::pending()))).await;
    assert_eq!((&answers[0]["status"], &answers[1]["status"]), (&json!(201), &json!(408)));
    assert_eq!(summary(&answers), (2, 1, 1));
}

#[tokio::test]
async fn a_line_that_breaks_off_is_not_written() {
    let client = Client::new();
    let line = r#"{"op":"put","collection":"notes","key":"KEY","value":{}}"#;
    let broken = [
        Ok(line.replace("KEY", "a") + "\n" + &line.replace("KEY", "b")),
        Err(std::io::Error::other("gone")),
    ];
    let answers = bulk(&client, Body::from_stream(stream::iter(broken))).await;
    assert_eq!(answers[1]["problem"]["code"], "bad_json");
    assert_eq!(summary(&answers), (2, 1, 1));
    assert_eq!(client.ask("GET /v1/notes/a", &[], "").await.status, 200);
    assert_eq!(client.ask("GET /v1/notes/b", &[], "").await.status, 404);
}

#[tokio::test]
async fn lines_of_one_document_are_written_in_their_order() {
    let client = Client::new();
    let mut body = String::new();
    for n in 0..3000 {
        body += &format!(
            "{{\"op\":\"put\",\"collection\":\"notes\",\"key\":\"one\",\"value\":{{\"n\":{n}}}}}\n"
        );
        body += &format!(
            "{{\"op\":\"put\",\"collection\":\"notes\",\"key\":\"k{n}\",\"value\":{{\"n\":{n}}}}}\n"
        );
    }
    let answers = bulk(&client, body).await;
    assert_eq!(summary(&answers), (6000, 6000, 0));
    for (index, answer) in answers[..6000].iter().enumerate() {
        assert_eq!(answer["line"], index + 1);
        let created = index == 0 || index % 2 == 1;
        assert_eq!(answer["status"], if created { 201 } else { 200 }, "{answer}");
    }
    assert_eq!(client.ask("GET /v1/notes/one", &[], "").await.json(), json!({"n": 2999}));
}

#[tokio::test]
async fn a_client_that_does_not_read_is_not_read_on() {
    let client = Client::new();
    let line = r#"{"op":"put","collection":"notes","key":"a","value":{}}"#.to_owned() + "\n";
    let long = format!("{}{}", " ".repeat(1 << 20), line);
    for (line, sent_max) in [(line, 1024), (long, 6)] {
        let sent = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&sent);
        let lines = stream::iter(0..100_000).map(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            Ok::<_, std::io::Error>(line.clone())
        });
        let request = Request::post("/v1/_bulk").header("host", "localhost");
        let request = request.body(Body::from_stream(lines)).unwrap();
        let mut body = client.0.answer(request).await.into_body();
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(!first.is_empty());
        let answered = first.iter().filter(|byte| **byte == b'\n').count();
        // One answer for each line that came, those under way, and one that waits for room.
        let sent = sent.load(Ordering::Relaxed);
        assert!(sent <= answered + sent_max + 1, "{sent} lines taken, {answered} answered");
    }
}

#[tokio::test]
async fn a_node_that_cannot_write_says_so_in_each_line() {
    let engine = Arc::new(MemoryEngine::new());
    let node = Node::start(node::Options::default(), Arc::clone(&engine) as _).unwrap();
    let client = Client(Api::new(node, Options::default()));
    let line = |key: &str| {
        format!(r#"{{"op":"put","collection":"notes","key":"{key}","value":{{}}}}"#) + "\n"
    };
    let (send, lines) = mpsc::channel(8);
    let lines = stream::unfold(lines, |mut lines| async {
        let line: Option<String> = lines.recv().await;
        Some((Ok::<_, std::io::Error>(line?), lines))
    });
    send.send(line("a")).await.unwrap();
    let request = Request::post("/v1/_bulk").header("host", "localhost");
    let request = request.body(Body::from_stream(lines)).unwrap();
    let mut body = client.0.answer(request).await.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(first.starts_with(br#"{"line":1,"status":201"#), "{first:?}");
    engine.inject(Fault::SyncFails { after: 0 });
    for key in ["b", "c"] {
        send.send(line(key)).await.unwrap();
    }
    drop(send);
    let rest = body.collect().await.unwrap().to_bytes();
    let answers: Vec<Value> = std::str::from_utf8(&rest)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(summary(&answers), (3, 1, 2));
    for answer in &answers[..2] {
        assert_eq!(answer["problem"]["code"], "read_only", "{answer}");
        assert_eq!(answer["status"], 503);
    }
    assert_eq!(client.ask("GET /v1/notes/a", &[], "").await.status, 200);
}

/// A connection that sends a bulk write of as many documents as are read off it.
fn send_chunked(stream: &mut TcpStream, lines: &str) -> std::io::Result<()> {
    write!(stream, "{:x}\r\n{lines}\r\n", lines.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_come_while_lines_still_go_and_the_connection_goes_on() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let api = Api::new(crate::node(), Options::default());
    let (traffic, service) = (api.traffic(), api.into_service());
    let forever = std::future::pending();
    tokio::spawn(tombolo::http::serve(listener, service, Connections::default(), traffic, forever));
    let exchange = move || {
        let mut stream = TcpStream::connect(address).unwrap();
        let head =
            "POST /v1/_bulk HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let mut answers = BufReader::new(stream.try_clone().unwrap()).lines();
        for n in 0..100 {
            let line = format!(r#"{{"op":"put","collection":"notes","key":"k{n}","value":{{}}}}"#);
            send_chunked(&mut stream, &(line + "\n")).unwrap();
            let own = format!("\"key\":\"k{n}\"");
            // The answer to this line is there before the next line is sent.
            assert!(answers.any(|answer| answer.unwrap().contains(&own)));
        }
        stream.write_all(b"0\r\n\r\nGET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        assert!(answers.any(|answer| answer.unwrap().contains(r#"{"lines":100,"ok":100"#)));
        assert!(answers.any(|answer| answer.unwrap() == "HTTP/1.1 200 OK"));
    };
    tokio::task::spawn_blocking(exchange).await.unwrap();
}

#[test]
#[cfg_attr(not(feature = "rocksdb"), ignore = "SKIPPED: needs the feature rocksdb")]
fn what_was_answered_is_there_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let node = Process::start(&data);
    let mut stream = TcpStream::connect(node.address).unwrap();
    let head = "POST /v1/_bulk HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let answers = BufReader::new(stream.try_clone().unwrap()).lines();
    let sender = std::thread::Builder::new().spawn(move || {
        for n in 0.. {
            let line =
                format!(r#"{{"op":"put","collection":"notes","key":"k{n}","value":{{"n":{n}}}}}"#);
            if send_chunked(&mut stream, &(line + "\n")).is_err() {
                return;
            }
        }
    });
    let mut last = None;
    let mut node = Some(node);
    for answer in answers.map_while(Result::ok).filter(|answer| answer.ends_with('}')) {
        let Some(n) = answer.split("\"key\":\"k").nth(1).and_then(|rest| rest.split('"').next())
        else {
            continue;
        };
        assert!(answer.contains("\"status\":201"), "{answer}");
        let n: u32 = n.parse().unwrap();
        last = Some(n);
        if n == 700 {
            node.take().unwrap().kill();
        }
    }
    sender.unwrap().join().unwrap();
    let last = last.unwrap();
    assert!(700 <= last);
    let node = Process::start(&data);
    let mut client = node.client();
    for n in 0..=last {
        let read = client.send("GET", &format!("/v1/notes/k{n}"), &[], b"").unwrap();
        assert_eq!(read.json(), json!({"n": n}));
    }
}

#[tokio::test]
async fn a_collection_is_deleted_whole_and_only_if_that_is_said() {
    let client = Client::new();
    let mut body = String::new();
    for n in 0..1203 {
        body += &format!(
            "{{\"op\":\"put\",\"collection\":\"notes\",\"key\":\"k{n}\",\"value\":{{}}}}\n"
        );
    }
    bulk(&client, body).await;
    client.ask("PUT /v1/other/a", &[], "{}").await;
    client.ask("DELETE /v1/notes/k7", &[], "").await;
    for (line, fields, code) in [
        ("DELETE /v1/notes", &[][..], "bad_query"),
        ("DELETE /v1/notes?all", &[], "bad_query"),
        ("DELETE /v1/notes?all=1", &[], "bad_query"),
        ("DELETE /v1/notes?all=true&prefix=a", &[], "bad_query"),
        ("DELETE /v1/notes?all=true", &["if-match: *"], "bad_header"),
        ("DELETE /v1/notes?all=true", &["parents: "], "bad_header"),
        ("DELETE /v1/notes?all=true", &["tombolo-message: tombolo:x"], "bad_header"),
        ("DELETE /v1/notes?all=true", &["accept: text/html"], "not_acceptable"),
    ] {
        let refused = client.ask(line, fields, "").await;
        assert_eq!(refused.refusal().1, code, "{line} {fields:?}");
    }
    assert_eq!(client.ask("GET /v1/notes/k1", &[], "").await.status, 200);
    for expected in [1202, 0] {
        let swept = client.ask("DELETE /v1/notes?all=true", &[], "").await;
        assert_eq!((swept.status.as_u16(), swept.json()), (200, json!({"deleted": expected})));
        assert_eq!(swept.field("tombolo-durability"), "sync");
    }
    assert_eq!(client.ask("DELETE /v1/none?all=true", &[], "").await.json(), json!({"deleted": 0}));
    assert_eq!(client.ask("GET /v1/notes", &[], "").await.json()["documents"], json!([]));
    let (status, code) = client.ask("GET /v1/notes/k1202", &[], "").await.refusal();
    assert_eq!((status, code.as_str()), (404, "document_deleted"));
    assert_eq!(client.ask("GET /v1/other/a", &[], "").await.status, 200);
}
