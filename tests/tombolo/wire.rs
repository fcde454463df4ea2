//! The interface over real sockets: what hyper makes of our answers, byte by byte.

use axum::http::Request;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tombolo::http::{Api, Connections, Options};

async fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let api = Api::new(crate::node(), Options::default());
    let (traffic, service) = (api.traffic(), api.into_service());
    let forever = std::future::pending();
    tokio::spawn(tombolo::http::serve(listener, service, Connections::default(), traffic, forever));
    address
}

/// Everything that the node answers to these bytes, after which it closes.
async fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn requests_in_a_row_are_framed_whatever_their_answers() {
    let address = serve().await;
    let put = "PUT /v1/notes/a HTTP/1.1\r\nhost: localhost\r\ncontent-length: 7\r\n\r\n{\"a\":1}";
    let answer = exchange(
        address,
        &format!("{put}{put}GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            .into_bytes(),
    )
    .await;
    assert_eq!(answer.matches("HTTP/1.1 201 Created").count(), 1, "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{answer}");
    let lines = [
        "HEAD /v1/notes/a",
        "GET /v1/notes/a",
        "GET /v1/notes/none",
        "OPTIONS /v1/notes/a",
        "HEAD /v1/notes/none",
    ];
    let mut requests = String::new();
    for line in lines {
        requests += &format!("{line} HTTP/1.1\r\nhost: localhost\r\nif-none-match: \"x\"\r\n\r\n");
    }
    requests += "GET /v1/notes/a HTTP/1.1\r\nhost: localhost\r\nif-none-match: *\r\nconnection: close\r\n\r\n";
    let answer = exchange(address, requests.as_bytes()).await;
    let statuses: Vec<&str> = answer
        .lines()
        .filter_map(|line| line.split_once("HTTP/1.1 "))
        .map(|(_, s)| &s[..3])
        .collect();
    assert_eq!(statuses, ["200", "200", "404", "204", "404", "304"], "{answer}");
    assert_eq!(answer.matches("content-length: 7\r\n").count(), 2, "HEAD and GET: {answer}");
    let last = answer.rsplit("HTTP/1.1 304").next().unwrap();
    assert!(!last.contains("content-length") && last.ends_with("\r\n\r\n"), "{last}");
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_and_its_sender_reads_why() {
    let address = serve().await;
    let mut requests = Vec::new();
    let large = vec![b' '; 9 << 20];
    let head = format!(
        "PUT /v1/notes/a HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n",
        large.len()
    );
    requests.push([head.as_bytes(), &large].concat());
    let mut chunked =
        b"PUT /v1/notes/a HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
            .to_vec();
    for chunk in large.chunks(1 << 16) {
        chunked.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        chunked.extend_from_slice(chunk);
        chunked.extend_from_slice(b"\r\n");
    }
    requests.push(chunked);
    for request in requests {
        let answer = exchange(address, &request).await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
        assert!(answer.contains("connection: close") && answer.contains("too_large"), "{answer}");
    }
}

#[tokio::test]
async fn a_body_in_a_coding_that_is_not_undone_is_refused_and_the_connection_ends() {
    let address = serve().await;
    for (coding, status) in [
        ("transfer-encoding: chunked", "HTTP/1.1 201"),
        ("transfer-encoding: Chunked", "HTTP/1.1 200"),
        ("transfer-encoding: gzip, chunked", "HTTP/1.1 400"),
        ("transfer-encoding: gzip\r\ntransfer-encoding: chunked", "HTTP/1.1 400"),
        ("transfer-encoding: chunked, chunked", "HTTP/1.1 400"),
        ("transfer-encoding: chunked;q=1", "HTTP/1.1 400"),
        ("transfer-encoding: gzip", "HTTP/1.1 400"),
        ("transfer-encoding: identity", "HTTP/1.1 400"),
        ("transfer-encoding:", "HTTP/1.1 400"),
    ] {
        let put = format!("PUT /v1/notes/a HTTP/1.1\r\nhost: localhost\r\n{coding}\r\n\r\n");
        let get = "GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        let answer =
            exchange(address, format!("{put}2\r\n{{}}\r\n0\r\n\r\n{get}").as_bytes()).await;
        assert!(answer.starts_with(status), "{coding}: {answer}");
        let answers = if status.ends_with("400") { 1 } else { 2 };
        assert_eq!(answer.matches("HTTP/1.1 ").count(), answers, "{coding}: {answer}");
    }
    let coded = "PUT /v1/notes/a HTTP/1.1\r\nhost: localhost\r\n\
                 transfer-encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    let answer = exchange(address, coded.as_bytes()).await;
    assert!(answer.contains("connection: close") && answer.contains("bad_header"), "{answer}");
}

#[tokio::test]
async fn a_client_that_asks_first_is_not_sent_the_body() {
    let address = serve().await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = "PUT /v1/notes/a HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100");
    let refused = "PUT /v1/_no HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";
    let answer = exchange(address, refused.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
}

#[tokio::test]
async fn what_is_no_http_is_refused_without_a_body() {
    let address = serve().await;
    for (request, status) in [
        ("nonsense\r\n\r\n", "HTTP/1.1 400"),
        ("GET /v1/notes/a b HTTP/1.1\r\n\r\n", "HTTP/1.1 400"),
        ("GET /v1/notes/a HTTP/1.1\r\nhost: localhost\r\na\u{1}: b\r\n\r\n", "HTTP/1.1 400"),
        (
            "PUT /v1/notes/a HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
            "HTTP/1.1 400",
        ),
        ("GET /livez HTTP/1.0\r\n\r\n", "HTTP/1.0 200"),
    ] {
        let answer = exchange(address, request.as_bytes()).await;
        assert!(answer.starts_with(status), "{request:?}: {answer}");
        if status.ends_with("400") {
            assert!(answer.ends_with("\r\n\r\n"), "{request:?}: {answer}");
        }
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_ends_its_stream_of_http_2_and_no_other() {
    let stream = TcpStream::connect(serve().await).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    tokio::spawn(connection);
    let large = Full::new(Bytes::from(vec![b' '; 9 << 20]));
    let chunked = large.clone().map_frame(|frame| frame).boxed();
    for (body, status) in [(large.boxed(), 413), (chunked, 413), (Full::from("{}").boxed(), 201)] {
        let request = Request::put("http://localhost/v1/notes/a").body(body).unwrap();
        let answer = client.send_request(request).await.unwrap();
        assert_eq!(answer.status(), status);
        assert!(answer.headers().get("connection").is_none());
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(body.starts_with(b"{"), "{body:?}");
    }
}

/// A frame of HTTP/2 (RFC 9113, 4.1): kind, flags, stream, payload.
type H2Frame = (u8, u8, u8, Vec<u8>);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn h2_frame((kind, flags, stream, payload): H2Frame) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload.as_slice()].concat()
}

/// The next frame of stream 1 that is of one of these kinds.
async fn next_h2_frame(stream: &mut TcpStream, kinds: &[u8]) -> H2Frame {
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        stream.read_exact(&mut payload).await.unwrap();
        if head[8] == 1 && kinds.contains(&head[3]) {
            return (head[3], head[4], 1, payload);
        }
    }
}

/// The fields of a PUT, each a literal under a name of the static table (RFC 7541, appendix A).
fn h2_put(path: &str, length: &str) -> Vec<u8> {
    let fields: [(&[u8], &str); 5] =
        [(&[6], "http"), (&[2], "PUT"), (&[4], path), (&[1], "localhost"), (&[15, 13], length)];
    let literal = |(name, value): (&[u8], &str)| {
        [name, &[u8::try_from(value.len()).unwrap()], value.as_bytes()].concat()
    };
    fields.map(literal).concat()
}

#[tokio::test]
async fn a_refusal_in_http_2_stays_open_for_the_body_and_no_reset_overtakes_it() {
    let address = serve().await;
    for (path, length, code) in
        [("/v1/notes/a", "8388609", "too_large"), ("/v1/_nothing", "9", "not_found")]
    {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let settings = h2_frame((SETTINGS, 0, 0, Vec::new()));
        let head = h2_frame((HEADERS, END_HEADERS, 1, h2_put(path, length)));
        stream.write_all(&[settings, head].concat()).await.unwrap();
        let kinds = [DATA, RST_STREAM];
        let (kind, flags, _, answer) = next_h2_frame(&mut stream, &kinds).await;
        assert_eq!((kind, flags), (DATA, 0), "open behind its last byte");
        assert!(String::from_utf8(answer).unwrap().contains(code));
        let body = h2_frame((DATA, 0, 1, b"1234".to_vec()));
        stream.write_all(&body).await.unwrap();
        let ended = next_h2_frame(&mut stream, &kinds).await;
        assert_eq!(ended, (DATA, END_STREAM, 1, Vec::new()));
    }
}
