//! Reads and durable writes over HTTP, each beside its floor: a bare axum handler behind the same
//! accept loop that returns, or parses, the same bytes from memory. Rounds alternate; medians.
//!
//! `make bench`. The document is about 1 KB of JSON with three levels, an order.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a bench")]

use axum::{
    Router,
    body::{Body, Bytes},
    http::{Request, header},
    response::Response,
    routing::get,
};
use hyper::service::service_fn;
use std::{
    convert::Infallible,
    future::pending,
    net::SocketAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tombolo::{
    http::{self, Api, Connections},
    node::{Node, Options},
    store::{RocksEngine, RocksOptions},
};
use tower::ServiceExt as _;

const CONNECTIONS: usize = 32;
const DOCUMENTS: usize = 2_000;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(3);

fn main() {
    let directory = tempfile::tempdir().unwrap();
    let rocks = RocksEngine::open(directory.path(), RocksOptions { blocks_bytes: 64 << 20 });
    let options = Options { documents_bytes: 64 << 20, ..Options::default() };
    let node = Node::start(options, Arc::new(rocks.unwrap())).unwrap();
    let api = Api::new(node, http::Options::default());
    let ours = serve(|listener| async move {
        let (bounds, traffic) = (Connections::default(), api.traffic());
        http::serve(listener, api.into_service(), bounds, traffic, pending()).await;
    });
    let bare = serve(|listener| async move {
        let router = bare();
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            let router = router.clone();
            async move { Ok::<_, Infallible>(router.oneshot(request.map(Body::new)).await.unwrap()) }
        });
        http::serve(listener, service, Connections::default(), Arc::default(), pending()).await;
    });

    load(ours, Duration::from_secs(2), |worker, count| {
        put(worker, count % (DOCUMENTS / CONNECTIONS))
    });
    compare("GET, 1 KB, 32 connections", ours, bare, |worker, count| {
        get_request(worker, count % (DOCUMENTS / CONNECTIONS))
    });
    let mut base = 0;
    compare("durable PUT of new documents, 1 KB, 32 connections", ours, bare, |worker, count| {
        base += 1;
        put(worker, 1_000_000 + base + count)
    });
}

/// The floor: one document from memory, and a parse of what comes in.
fn bare() -> Router {
    let document = Bytes::from(document(1));
    let read = move || {
        let answer = Response::builder().header(header::CONTENT_TYPE, "application/json");
        let answer = answer.body(Body::from(document.clone())).unwrap();
        async move { answer }
    };
    let write = |body: Bytes| async move {
        let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
        serde_json::json!({"deleted": false, "fields": value.as_object().map(serde_json::Map::len)})
            .to_string()
    };
    Router::new().route("/v1/{collection}/{key}", get(read).put(write))
}

/// Runs a server on a runtime of its own, as the binary does.
fn serve<F: Future<Output = ()> + Send + 'static>(
    run: impl FnOnce(TcpListener) -> F,
) -> SocketAddr {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let server = run(listener);
    thread::Builder::new().spawn(move || runtime.block_on(server)).unwrap();
    address
}

fn compare(
    what: &str,
    ours: SocketAddr,
    bare: SocketAddr,
    mut request: impl FnMut(usize, usize) -> Vec<u8>,
) {
    let (mut mine, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        mine.push(load(ours, ROUND, &mut request));
        floor.push(load(bare, ROUND, &mut request));
    }
    mine.sort_by(f64::total_cmp);
    floor.sort_by(f64::total_cmp);
    let (mine, floor) = (mine[ROUNDS / 2], floor[ROUNDS / 2]);
    println!("{what}: {mine:.0}/s, bare handler {floor:.0}/s, ratio {:.2}", mine / floor);
}

/// Requests a second over all connections, each waiting for its answer before it asks again.
fn load(
    address: SocketAddr,
    time: Duration,
    mut request: impl FnMut(usize, usize) -> Vec<u8>,
) -> f64 {
    // Prepared before the clock runs, so that both servers get the same.
    let prepared: Vec<Vec<Vec<u8>>> = (0..CONNECTIONS)
        .map(|worker| (0..4_000).map(|count| request(worker, count)).collect())
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async move {
        let start = Instant::now();
        let workers: Vec<_> = prepared
            .into_iter()
            .map(|requests| tokio::spawn(ask(address, requests, start + time)))
            .collect();
        let mut answers = 0;
        for worker in workers {
            answers += worker.await.unwrap();
        }
        f64::from(answers) / start.elapsed().as_secs_f64()
    })
}

async fn ask(address: SocketAddr, requests: Vec<Vec<u8>>, end: Instant) -> u32 {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut answers = 0;
    let mut buffer = Vec::with_capacity(16 << 10);
    for request in requests.iter().cycle() {
        if end <= Instant::now() {
            break;
        }
        stream.write_all(request).await.unwrap();
        buffer.clear();
        loop {
            assert_ne!(stream.read_buf(&mut buffer).await.unwrap(), 0, "the server hung up");
            if is_whole(&buffer) {
                break;
            }
        }
        assert!(buffer.starts_with(b"HTTP/1.1 20"), "{}", String::from_utf8_lossy(&buffer));
        answers += 1;
    }
    answers
}

fn is_whole(answer: &[u8]) -> bool {
    let Some(head) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let text = std::str::from_utf8(&answer[..head]).unwrap().to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    head + 4 + length.trim().parse::<usize>().unwrap() <= answer.len()
}

fn get_request(worker: usize, count: usize) -> Vec<u8> {
    format!("GET /v1/bench/doc-{worker}-{count} HTTP/1.1\r\nhost: localhost\r\n\r\n").into_bytes()
}

fn put(worker: usize, count: usize) -> Vec<u8> {
    let body = document(count);
    let length = body.len();
    format!(
        "PUT /v1/bench/doc-{worker}-{count} HTTP/1.1\r\nhost: localhost\r\ncontent-type: \
         application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

fn document(seed: usize) -> String {
    let mut random = fastrand::Rng::with_seed(seed as u64);
    let mut number = |below: u32| random.u32(..below);
    let note: String = (0..108).map(|_| format!("word{:03}", number(1000))).collect();
    serde_json::json!({
        "type": "order", "customer": format!("cust-{:07}", number(9_999_999)), "status": "open",
        "total": f64::from(number(100_000)) / 100.0, "created": "2026-01-12T10:20:00Z",
        "tags": [format!("a{}", number(10)), format!("b{}", number(10)), format!("c{}", number(10))],
        "address": {"street": format!("{} Main St", number(999)), "city": "Town", "zip": "01234"},
        "counter": number(1_000_000), "note": note,
    })
    .to_string()
}
