//! The accept loop under clients that are slow, silent or wrong; on a paused clock, with the
//! deadlines as they are configured.

use axum::{
    body::Body,
    http::{Request, Response},
};
use http_body_util::BodyExt;
use hyper::{body::Incoming, service::service_fn};
use std::{
    convert::Infallible,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tombolo::http::{Connections, Listener};

/// A network of pipes.
struct Pipes(mpsc::Receiver<(DuplexStream, SocketAddr)>);

impl Listener for Pipes {
    type Stream = DuplexStream;

    async fn accept(&mut self) -> io::Result<(DuplexStream, SocketAddr)> {
        match self.0.recv().await {
            Some(accepted) => Ok(accepted),
            None => std::future::pending().await,
        }
    }
}

/// A server on pipes.
struct Server {
    connect: mpsc::Sender<(DuplexStream, SocketAddr)>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    fn start(bounds: Connections) -> Self {
        let (connect, accept) = mpsc::channel(1024);
        let (stop, stopped) = oneshot::channel();
        let stopped = async { drop(stopped.await) };
        let service = service_fn(answer);
        let task = tokio::spawn(tombolo::http::serve(
            Pipes(accept),
            service,
            bounds,
            std::sync::Arc::default(),
            stopped,
        ));
        Self { connect, stop, task }
    }

    async fn connect(&self) -> DuplexStream {
        self.connect_from(Ipv4Addr::LOCALHOST.into()).await
    }

    async fn connect_from(&self, address: IpAddr) -> DuplexStream {
        let (ours, theirs) = duplex(64 << 10);
        self.connect.send((theirs, (address, 1).into())).await.unwrap();
        ours
    }
}

/// `/slow` takes 20 seconds, `/never` for ever, `/body` reads the body first.
async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    match request.uri().path() {
        "/slow" => sleep(Duration::from_secs(20)).await,
        "/never" => std::future::pending().await,
        "/body" => drop(request.into_body().collect().await),
        _ => {}
    }
    Ok(Response::new(Body::from("ok")))
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An empty SETTINGS frame.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

/// What comes until the other side closes, and after how many seconds it does.
async fn to_the_end(stream: &mut DuplexStream) -> (String, u64) {
    let began = Instant::now();
    let mut bytes = Vec::new();
    let ended = timeout(Duration::from_secs(1000), stream.read_to_end(&mut bytes)).await;
    ended.unwrap().ok();
    (String::from_utf8_lossy(&bytes).into_owned(), began.elapsed().as_secs())
}

/// One answer with the body `ok`, read from an open connection.
async fn one_answer(stream: &mut DuplexStream) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\nok") {
        text.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(text).unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_never_becomes_a_request_is_closed_after_ten_seconds_without_an_answer() {
    let server = Server::start(Connections::default());
    for (what, bytes) in [
        ("silence", &b""[..]),
        ("one byte", b"G"),
        ("half a head", b"GET / HTTP/1.1\r\nhost:"),
        ("a head without its last line", b"GET / HTTP/1.1\r\nhost: x\r\n"),
        ("half a preface", &PREFACE[..12]),
    ] {
        let mut stream = server.connect().await;
        stream.write_all(bytes).await.unwrap();
        assert_eq!(to_the_end(&mut stream).await, (String::new(), 10), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_preface_followed_by_silence_is_closed_after_ten_seconds() {
    let server = Server::start(Connections::default());
    for rest in [&b""[..], SETTINGS] {
        let mut stream = server.connect().await;
        stream.write_all(PREFACE).await.unwrap();
        stream.write_all(rest).await.unwrap();
        assert_eq!(to_the_end(&mut stream).await.1, 10);
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_drips_is_closed_all_the_same() {
    let server = Server::start(Connections::default());
    let (mut read, mut write) = tokio::io::split(server.connect().await);
    tokio::spawn(async move {
        write.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        while write.write_all(b"a: b\r\n").await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
    });
    let began = Instant::now();
    let mut answer = Vec::new();
    read.read_to_end(&mut answer).await.ok();
    assert_eq!((answer.as_slice(), began.elapsed().as_secs()), (&b""[..], 10));
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_after_a_minute() {
    let server = Server::start(Connections::default());
    let mut stream = server.connect().await;
    for _ in 0..3 {
        stream.write_all(GET).await.unwrap();
        assert!(one_answer(&mut stream).await.starts_with("HTTP/1.1 200"));
        sleep(Duration::from_secs(55)).await;
    }
    assert_eq!(to_the_end(&mut stream).await, (String::new(), 5));
}

#[tokio::test(start_paused = true)]
async fn a_later_request_has_ten_seconds_from_its_first_byte() {
    let server = Server::start(Connections::default());
    let mut stream = server.connect().await;
    stream.write_all(GET).await.unwrap();
    one_answer(&mut stream).await;
    sleep(Duration::from_secs(30)).await;
    stream.write_all(b"GET /").await.unwrap();
    assert_eq!(to_the_end(&mut stream).await, (String::new(), 10));
}

#[tokio::test(start_paused = true)]
async fn a_request_may_take_longer_than_a_head() {
    let server = Server::start(Connections::default());
    let mut stream = server.connect().await;
    stream.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    one_answer(&mut stream).await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_or_an_answer_that_never_comes_ends_after_ninety_seconds() {
    let server = Server::start(Connections::default());
    for head in [
        "POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nab",
        "GET /never HTTP/1.1\r\nhost: x\r\n\r\n",
    ] {
        let mut stream = server.connect().await;
        stream.write_all(head.as_bytes()).await.unwrap();
        assert_eq!(to_the_end(&mut stream).await, (String::new(), 90), "{head}");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_in_a_row_are_answered_in_order() {
    let server = Server::start(Connections::default());
    let mut stream = server.connect().await;
    stream.write_all(&GET.repeat(20)).await.unwrap();
    for _ in 0..20 {
        assert!(one_answer(&mut stream).await.starts_with("HTTP/1.1 200"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_larger_than_its_limit_is_answered_431() {
    let server = Server::start(Connections::default());
    for (bytes, status) in [(8 << 10, "HTTP/1.1 200"), (17 << 10, "HTTP/1.1 431")] {
        let mut stream = server.connect().await;
        let head = format!("GET / HTTP/1.1\r\nhost: x\r\na: {}\r\n", "b".repeat(bytes));
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(b"connection: close\r\n\r\n").await.unwrap();
        let (answer, _) = to_the_end(&mut stream).await;
        assert!(answer.starts_with(status), "{bytes}: {answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn h2c_is_spoken_on_the_same_port_and_pings_do_not_keep_it() {
    let server = Server::start(Connections::default());
    let io = hyper_util::rt::TokioIo::new(server.connect().await);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    let connection = tokio::spawn(connection);
    for path in ["/", "/slow"] {
        let request = Request::get(format!("http://x{path}")).body(Body::empty()).unwrap();
        let answer = client.send_request(request).await.unwrap();
        assert_eq!(answer.version(), hyper::Version::HTTP_2);
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "ok");
    }
    let began = Instant::now();
    connection.await.unwrap().unwrap();
    assert!((60..62).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn more_connections_than_fit_wait_their_turn() {
    let server = Server::start(Connections { count_max: 2, ..Connections::default() });
    let (_first, _second) = (server.connect().await, server.connect().await);
    let began = Instant::now();
    let mut third = server.connect().await;
    third.write_all(GET).await.unwrap();
    one_answer(&mut third).await;
    assert_eq!(began.elapsed().as_secs(), 10, "until the silent ones are closed");
}

#[tokio::test(start_paused = true)]
async fn an_address_has_so_many_connections_and_loopback_has_more() {
    let bounds = Connections { count_per_address_max: 1, ..Connections::default() };
    let server = Server::start(bounds);
    let strange = IpAddr::from([192, 0, 2, 1]);
    let mut first = server.connect_from(strange).await;
    let mut second = server.connect_from(strange).await;
    assert_eq!(to_the_end(&mut second).await, (String::new(), 0));
    first.write_all(GET).await.unwrap();
    one_answer(&mut first).await;
    drop(first);
    sleep(Duration::from_secs(2)).await;
    for address in [strange, IpAddr::from([192, 0, 2, 2]), Ipv4Addr::LOCALHOST.into()] {
        let mut stream = server.connect_from(address).await;
        stream.write_all(GET).await.unwrap();
        one_answer(&mut stream).await;
        std::mem::forget(stream);
    }
    let mut loopback = server.connect().await;
    loopback.write_all(GET).await.unwrap();
    one_answer(&mut loopback).await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_finishes_what_runs_and_closes_the_rest() {
    let server =
        Server::start(Connections { stop_time: Duration::from_secs(30), ..Connections::default() });
    let (mut idle, mut silent, mut busy) =
        (server.connect().await, server.connect().await, server.connect().await);
    idle.write_all(GET).await.unwrap();
    one_answer(&mut idle).await;
    busy.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    sleep(Duration::from_secs(1)).await;
    server.stop.send(()).unwrap();
    assert_eq!(to_the_end(&mut idle).await.1, 0);
    assert_eq!(to_the_end(&mut silent).await.1, 0);
    let (answer, _) = to_the_end(&mut busy).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok"), "{answer}");
    drop((idle, silent, busy));
    server.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_ever() {
    let server = Server::start(Connections::default());
    let mut stream = server.connect().await;
    stream.write_all(b"GET /never HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let began = Instant::now();
    server.stop.send(()).unwrap();
    server.task.await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 10);
}
