//! What it costs to listen to the feed, and how soon one hears.

use super::{
    load::load,
    request::Requests,
    requests::CONNECTIONS,
    rounds::{ROUNDS, Side, alternate, pair},
    row::{Bar, Row},
    scratch::Scratch,
    server::Server,
};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

/// Writes that are waited for, one by one.
const WRITES: u64 = 2_000;
/// Who listens and hears nothing.
const LISTENERS: u32 = 2_000;
const ROUND: Duration = Duration::from_secs(2);
/// Longest that anything may take to be heard.
const LONGEST: Duration = Duration::from_secs(10);

/// From the answer to a write to its event at a reader of server-sent events.
pub(crate) fn watch() -> Vec<Row> {
    let scratch = Scratch::new();
    let server = Server::tombolo(&scratch.path("data"));
    let mut reader = BufReader::new(listen(server.address(), "since=now"));
    let mut writer = BufReader::new(connect(server.address()));
    let mut beyond = Vec::new();
    for number in 0..WRITES {
        let body = format!(r#"{{"n":{number}}}"#);
        let length = body.len();
        let request = format!(
            "PUT /v1/watched/{number} HTTP/1.1\r\nhost: localhost\r\ncontent-length: \
             {length}\r\n\r\n{body}"
        );
        let mark = format!("\"key\":\"{number}\"");
        // The reader reads at once, whenever the answer comes.
        let (seen, answered) = thread::scope(|scope| {
            let seen = scope.spawn(|| {
                line(&mut reader, &mark);
                Instant::now()
            });
            writer.get_mut().write_all(request.as_bytes()).unwrap();
            line(&mut writer, "HTTP/1.1 201");
            let answered = Instant::now();
            skip_body(&mut writer);
            (seen.join().unwrap(), answered)
        });
        beyond.push(1e3 * seen.saturating_duration_since(answered).as_secs_f64());
    }
    beyond.sort_by(f64::total_cmp);
    let percentile = |percent: usize| beyond[(beyond.len() - 1) * percent / 100];
    vec![
        Row::alone("seen by a reader of events beyond the write: p50", "ms", percentile(50))
            .bar(Bar::at_most(2.0)),
        Row::alone("seen by a reader of events beyond the write: p99", "ms", percentile(99)),
    ]
}

/// Idle listeners: what each holds, and what all of them cost who writes.
pub(crate) fn subscribers() -> Vec<Row> {
    let scratch = Scratch::new();
    let server = Server::tombolo(&scratch.path("data"));
    let mut first = 0;
    let mut write = || {
        first += 10_000_000;
        load(server.address(), CONNECTIONS, ROUND, &mut Requests::put(first)).rate()
    };
    // What grows with the first writes is not the listeners'.
    write();
    let mut held = Vec::new();
    let rounds = alternate("subscribers", ROUNDS, |side| match side {
        Side::Ours => {
            server.rest();
            let before = server.resident();
            let listeners: Vec<_> = (0..LISTENERS)
                .map(|number| {
                    let filter = format!("since=now&collection=quiet&prefix=room-{number}-");
                    listen(server.address(), &filter)
                })
                .collect();
            server.rest();
            held.push((server.resident() - before) / f64::from(LISTENERS) / 1024.0);
            let rate = write();
            drop(listeners);
            server.rest();
            rate
        }
        Side::Floor => write(),
    });
    // Later rounds reuse what the first one took.
    let held = held.iter().copied().fold(0.0, f64::max);
    vec![
        Row::alone("2,000 idle readers of events: resident memory each", "KB", held)
            .bar(Bar::at_most(20.0)),
        Row::pair(
            "PUT, 32 connections, beside 2,000 idle readers",
            "/s",
            pair(&rounds, |rate| *rate),
        )
        .bar(Bar::ratio_at_least(0.9)),
    ]
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(LONGEST)).unwrap();
    stream
}

/// A reader of events, whose answer has begun.
pub(crate) fn listen(address: SocketAddr, query: &str) -> TcpStream {
    let mut stream = connect(address);
    let request = format!(
        "GET /v1/_changes?{query} HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
    stream
}

/// Reads on to the end of a line that holds this.
pub(crate) fn line(stream: &mut impl BufRead, wanted: &str) {
    let mut line = String::new();
    while !line.contains(wanted) {
        line.clear();
        assert_ne!(stream.read_line(&mut line).unwrap(), 0, "the server hung up");
    }
}

/// Reads on to the end of an answer.
pub(crate) fn skip_body(stream: &mut impl BufRead) {
    let (mut line, mut length) = (String::new(), 0);
    while line != "\r\n" {
        line.clear();
        stream.read_line(&mut line).unwrap();
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
    }
    stream.read_exact(&mut vec![0; length]).unwrap();
}
