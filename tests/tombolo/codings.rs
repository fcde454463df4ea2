//! Content codings: bodies that come compressed, and answers that go out so.

use crate::http::{Client, MERGE};
use async_compression::tokio::bufread::{GzipDecoder, GzipEncoder, ZstdDecoder, ZstdEncoder};
use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use serde_json::json;
use std::convert::Infallible;
use tokio::io::AsyncReadExt;
use tombolo::http::{Api, Options};

/// `{"a":1}`, as gzip and zstd of Debian 12 write it.
const GZIP: &str = "1f8b0800000000000003ab564a54b232ac0500afac1b5607000000";
const ZSTD: &str = "28b52ffd04583900007b2261223a317d488bfc32";

fn bytes(hex: &str) -> Vec<u8> {
    let pairs = (0..hex.len()).step_by(2).map(|at| &hex[at..at + 2]);
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

async fn encode(coding: &str, plain: &[u8]) -> Vec<u8> {
    let mut coded = Vec::new();
    match coding {
        "gzip" => GzipEncoder::new(plain).read_to_end(&mut coded).await.unwrap(),
        "zstd" => ZstdEncoder::new(plain).read_to_end(&mut coded).await.unwrap(),
        _ => unreachable!("{coding}"),
    };
    coded
}

/// A body that comes in pieces of so many bytes, and does not say how many in all.
fn pieces(body: &[u8], size: usize) -> Body {
    let pieces: Vec<_> = body.chunks(size).map(Bytes::copy_from_slice).collect();
    Body::from_stream(stream::iter(pieces.into_iter().map(Ok::<_, Infallible>)))
}

#[tokio::test]
async fn a_coded_body_is_what_it_was_before() {
    let client = Client::new();
    let halves = [encode("gzip", br#"{"a""#).await, encode("gzip", b":1}").await].concat();
    let frames = [encode("zstd", br#"{"a":"#).await, encode("zstd", b"1}").await].concat();
    for (index, (coding, body)) in [
        ("gzip", bytes(GZIP)),
        ("x-gzip", bytes(GZIP)),
        ("GZip", bytes(GZIP)),
        ("zstd", bytes(ZSTD)),
        ("gzip", halves),
        ("zstd", frames),
    ]
    .into_iter()
    .enumerate()
    {
        let fields = [&*format!("content-encoding: {coding}")];
        for (way, body) in [("whole", body.clone().into()), ("in bytes", pieces(&body, 1))] {
            let path = format!("/v1/notes/{index}-{}", &way[..2]);
            let put = client.ask(&format!("PUT {path}"), &fields, body).await;
            assert_eq!(put.status, 201, "{coding} {way}: {}", put.text());
            assert_eq!(client.ask(&format!("GET {path}"), &[], "").await.json(), json!({"a": 1}));
        }
    }
    let fields = [MERGE, "content-encoding: zstd"];
    let patch = client.ask("PATCH /v1/notes/patched", &fields, bytes(ZSTD)).await;
    assert_eq!(patch.status, 201);
    let post = client.ask("POST /v1/notes", &["content-encoding: gzip"], bytes(GZIP)).await;
    assert_eq!(post.status, 201);
}

#[tokio::test]
async fn a_coded_body_that_is_broken_is_refused_wherever_it_breaks() {
    let client = Client::new();
    for (coding, whole) in [("gzip", bytes(GZIP)), ("zstd", bytes(ZSTD))] {
        let fields = [&*format!("content-encoding: {coding}")];
        let mut broken: Vec<(String, Vec<u8>)> = (0..whole.len())
            .map(|length| (format!("cut to {length}"), whole[..length].to_vec()))
            .collect();
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        broken.push(("its check does not hold".into(), flipped));
        broken.push(("rubbish behind it".into(), [&whole[..], b"x"].concat()));
        broken.push(("half of another behind it".into(), [&whole[..], &whole[..9]].concat()));
        broken.push(("plain".into(), br#"{"a":1}"#.to_vec()));
        for (what, body) in broken {
            let reply = client.ask("PUT /v1/notes/a", &fields, body.clone()).await;
            assert_eq!(reply.refusal(), (400, "bad_coding".into()), "{coding}: {what}");
            let reply = client.ask("PUT /v1/notes/a", &fields, pieces(&body, 5)).await;
            assert_eq!(reply.refusal(), (400, "bad_coding".into()), "{coding}, in pieces: {what}");
        }
        let decoded = client.ask("PUT /v1/notes/a", &fields, encode(coding, b"{").await).await;
        assert_eq!(decoded.refusal(), (400, "bad_json".into()), "what it says is no JSON");
    }
    // A frame that asks for a window of 128 MiB.
    let wide = [&bytes("28b52ffd")[..], &[0x00, 0x88, 0x01, 0, 0]].concat();
    let reply = client.ask("PUT /v1/notes/a", &["content-encoding: zstd"], wide).await;
    assert_eq!(reply.refusal(), (400, "bad_coding".into()));
    assert_eq!(client.ask("GET /v1/notes/a", &[], "").await.status, 404, "nothing was written");
}

#[tokio::test]
async fn a_coded_body_may_decode_to_as_much_as_a_plain_one_may_be() {
    let options = Options { body_bytes_max: 1000, ..Options::default() };
    let client = Client(Api::new(crate::node(), options));
    for coding in ["gzip", "zstd"] {
        let fields = [&*format!("content-encoding: {coding}")];
        for (length, status) in [(999, true), (1000, true), (1001, false), (1 << 20, false)] {
            let body = format!(r#"{{"a":"{}"}}"#, "x".repeat(length - 8));
            let coded = encode(coding, body.as_bytes()).await;
            let reply = client.ask("PUT /v1/notes/a", &fields, coded).await;
            assert_eq!(reply.status.is_success(), status, "{coding} {length}");
            if !status {
                assert_eq!(reply.refusal(), (413, "too_large".into()), "{coding} {length}");
                assert_eq!(reply.field("connection"), "close");
            }
        }
    }
}

#[tokio::test]
async fn a_coding_that_is_not_undone_is_named_with_those_that_are() {
    let client = Client::new();
    for coding in ["br", "deflate", "gzip, zstd", "gzip, gzip", ""] {
        let fields = [&*format!("content-encoding: {coding}")];
        for line in ["PUT /v1/notes/a", "POST /v1/notes"] {
            let reply = client.ask(line, &fields, "{}").await;
            assert_eq!(reply.refusal(), (415, "unsupported_media_type".into()), "{coding}");
            assert_eq!(reply.field("accept-encoding"), "zstd, gzip", "{coding}");
        }
    }
}

async fn decode(coding: &str, coded: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    match coding {
        "" => plain.extend_from_slice(coded),
        "gzip" => drop(GzipDecoder::new(coded).read_to_end(&mut plain).await.unwrap()),
        "zstd" => drop(ZstdDecoder::new(coded).read_to_end(&mut plain).await.unwrap()),
        _ => unreachable!("{coding}"),
    }
    plain
}

/// A document of so many bytes that repeats itself, under a key.
#[tokio::test]
async fn the_page_of_examples_comes_in_what_its_reader_takes() {
    let client = Client::new();
    let moved = client.ask("GET /examples", &[], "").await;
    assert_eq!((moved.status.as_u16(), moved.field("location")), (308, "/examples/"));
    for (path, kind, begins) in [
        ("", "text/html; charset=utf-8", &b"<!doctype html>"[..]),
        ("page.css", "text/css; charset=utf-8", b":root"),
        ("page.js", "text/javascript; charset=utf-8", b"//"),
        ("automerge-repo.js", "text/javascript; charset=utf-8", b"var "),
        ("automerge.wasm", "application/wasm", b"\0asm"),
    ] {
        let request = format!("GET /examples/{path}");
        let plain = client.ask(&request, &[], "").await;
        assert_eq!((plain.status.as_u16(), plain.field("content-type")), (200, kind), "{path}");
        assert!(plain.body.starts_with(begins), "{path}");
        assert!(plain.field("content-security-policy").contains("connect-src 'self'"));
        for coding in ["gzip", "zstd"] {
            let coded = client.ask(&request, &[&format!("accept-encoding: {coding}")], "").await;
            if !coded.field("content-encoding").is_empty() {
                assert_eq!(coded.field("content-encoding"), coding, "{path}");
                assert!(decode(coding, &coded.body).await == plain.body, "{path} by {coding}");
            }
        }
        let large = plain.body.len() > 100_000;
        let browser = client.ask(&request, &["accept-encoding: gzip, deflate, br, zstd"], "").await;
        assert_eq!(browser.field("content-encoding") == "gzip", large, "{path} is packed already");
        let held = format!("if-none-match: {}", browser.field("etag"));
        assert_eq!(client.ask(&request, &[&held], "").await.status.as_u16(), 304, "{path}");
        let head = client.ask(&format!("HEAD /examples/{path}"), &[], "").await;
        assert_eq!((head.status.as_u16(), head.body.len()), (200, 0), "{path}");
    }
    for (request, status) in [
        ("GET /examples/nothing", 404),
        ("GET /examples/?a=1", 200),
        ("PUT /examples/", 405),
        ("GET /examples/../v1", 404),
    ] {
        assert_eq!(client.ask(request, &[], "").await.status.as_u16(), status, "{request}");
    }
    let other = client.ask("GET /examples/", &["accept: image/png"], "").await;
    assert_eq!(other.status.as_u16(), 406);
    let changed = client.ask("GET /examples/", &["if-match: \"other\""], "").await;
    assert_eq!(changed.status.as_u16(), 412);
}

async fn put(client: &Client, key: &str, bytes: usize) -> String {
    let body = format!(r#"{{"a":"{}"}}"#, "text".repeat(bytes)[..bytes - 8].to_owned());
    let reply = client.ask(&format!("PUT /v1/notes/{key}"), &[], body.clone()).await;
    assert!(reply.status.is_success());
    body
}

#[tokio::test]
async fn an_answer_is_coded_as_its_client_likes_best_and_says_so() {
    let client = Client::new();
    for (key, bytes) in [("small", 1023), ("middle", 1024), ("large", 300_000)] {
        let body = put(&client, key, bytes).await;
        let line = format!("GET /v1/notes/{key}");
        let tag = client.ask(&line, &[], "").await.field("etag").to_owned();
        for (accept, coding, suffix) in [
            ("accept-encoding:", "", ""),
            ("accept-encoding: gzip, deflate, br, zstd", "zstd", ";zst"),
            ("accept-encoding: gzip", "gzip", ";gz"),
            ("accept-encoding: zstd;q=0.5, gzip;q=0.8", "gzip", ";gz"),
            ("accept-encoding: br", "", ""),
            ("accept-encoding: identity, gzip;q=0.5", "", ""),
        ] {
            let (coding, suffix) = if key == "small" { ("", "") } else { (coding, suffix) };
            let reply = client.ask(&line, &[accept], "").await;
            assert_eq!(reply.status, 200);
            assert_eq!(reply.field("content-encoding"), coding, "{key} {accept}");
            let tagged = format!("{}{suffix}\"", tag.strip_suffix('"').unwrap());
            assert_eq!(reply.field("etag"), tagged, "{key} {accept}");
            assert_eq!(decode(coding, &reply.body).await, body.as_bytes(), "{key} {accept}");
            assert_eq!(reply.body.len() < body.len() / 2, !coding.is_empty(), "{key} {accept}");

            let head = client.ask(&line.replace("GET", "HEAD"), &[accept], "").await;
            for field in ["content-encoding", "etag", "vary", "content-type", "version"] {
                assert_eq!(head.field(field), reply.field(field), "{key} {accept}: {field}");
            }
            let length = reply.body.len().to_string();
            let streamed = key == "large" && !coding.is_empty();
            assert_eq!(head.field("content-length"), if streamed { "" } else { &length });
            assert_eq!(head.text(), "");
        }
        let forced = client.ask(&line, &["accept-encoding: gzip, identity;q=0"], "").await;
        assert_eq!(forced.field("content-encoding"), "gzip", "{key}");
        assert_eq!(decode("gzip", &forced.body).await, body.as_bytes());
    }
    for accept in ["identity;q=0", "*;q=0", "br, *;q=0"] {
        let accept = format!("accept-encoding: {accept}");
        for line in ["GET /v1/notes/large", "PUT /v1/notes/large"] {
            let reply = client.ask(line, &[&accept], "{}").await;
            assert_eq!(reply.refusal(), (406, "not_acceptable".into()), "{line} {accept}");
        }
    }
    let saved = ["accept: application/vnd.automerge", "accept-encoding: gzip"];
    let saved = client.ask("GET /v1/notes/large", &saved, "").await;
    assert_eq!(saved.field("content-encoding"), "", "it is compressed inside");
}

#[tokio::test]
async fn a_client_that_holds_a_state_in_one_coding_holds_it_in_all() {
    let client = Client::new();
    put(&client, "a", 2000).await;
    let of = |reply: crate::http::Reply| reply.field("etag").to_owned();
    let plain = of(client.ask("GET /v1/notes/a", &[], "").await);
    let gzip = of(client.ask("GET /v1/notes/a", &["accept-encoding: gzip"], "").await);
    let zstd = of(client.ask("GET /v1/notes/a", &["accept-encoding: zstd"], "").await);
    assert!(plain != gzip && gzip != zstd && plain != zstd);
    for held in [&plain, &gzip, &zstd] {
        for accept in ["identity", "gzip", "zstd"] {
            let fields =
                [&*format!("if-none-match: {held}"), &format!("accept-encoding: {accept}")];
            for verb in ["GET", "HEAD"] {
                let reply = client.ask(&format!("{verb} /v1/notes/a"), &fields, "").await;
                assert_eq!((reply.status.as_u16(), reply.text()), (304, ""), "{held} {accept}");
                assert_eq!(reply.field("etag"), held, "a cache finds what it holds by it");
                assert_eq!(reply.field("content-encoding"), "");
            }
        }
    }
    for (held, key) in [(gzip, "gzip"), (zstd, "zstd")] {
        let matches = format!("if-match: {held}");
        let edit = format!(r#"{{"{key}":1}}"#);
        let first = client.ask("PATCH /v1/notes/a", &[MERGE, &matches], edit.clone()).await;
        assert_eq!(first.status, if key == "gzip" { 200 } else { 412 }, "{held}");
    }
}

#[tokio::test]
async fn a_list_goes_out_coded_line_by_line() {
    let client = Client::new();
    for key in ["a", "b", "c"] {
        put(&client, key, 5000).await;
    }
    let lines = "accept: application/x-ndjson";
    let plain = client.ask("GET /v1/notes", &[lines], "").await;
    for coding in ["gzip", "zstd"] {
        let fields = [lines, &*format!("accept-encoding: {coding}")];
        let coded = client.ask("GET /v1/notes", &fields, "").await;
        assert_eq!(coded.field("content-encoding"), coding);
        assert_eq!(decode(coding, &coded.body).await, plain.body);
        assert!(coded.body.len() < plain.body.len() / 5);
    }
}
