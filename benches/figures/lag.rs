//! How soon a write to one node can be read on another.

use super::{
    cluster::{get, is_up, until},
    row::{Bar, Row},
    scratch::Scratch,
    server::{Launch, Server},
    watch::{connect, line, listen, skip_body},
};
use std::{
    io::{BufReader, Write as _},
    thread,
    time::Instant,
};

/// Writes that are waited for, one by one, and how many come before them.
const WRITES: u64 = 1_000;
const WARMING: u64 = 100;
/// What CouchDB 3.5.2 takes, replicating continuously, measured on the same class of machine: half of
/// all writes, and 99 of a hundred.
const COUCHDB_MS: [f64; 2] = [101.0, 155.0];

/// From the moment at which a durable PUT is sent to one node to its event at a reader of the other
/// one's, and from its answer. What a reader is told of can be read.
pub(crate) fn lag() -> Vec<Row> {
    let scratch = Scratch::new();
    let peer = Server::tombolo(&scratch.path("peer"));
    let launch = Launch { peers: vec![(peer.address(), "both")], ..Launch::default() };
    let node = Server::with(&scratch.path("node"), &launch);
    until("two nodes meet", || is_up(&node));
    let mut reader = BufReader::new(listen(peer.address(), "since=now"));
    let mut writer = BufReader::new(connect(node.address()));
    let (mut from_sent, mut from_answered) = (Vec::new(), Vec::new());
    for number in 0..WARMING + WRITES {
        let body = format!(r#"{{"n":{number}}}"#);
        let length = body.len();
        let request = format!(
            "PUT /v1/written/{number} HTTP/1.1\r\nhost: localhost\r\ncontent-length: \
             {length}\r\n\r\n{body}"
        );
        let mark = format!("\"key\":\"{number}\"");
        // The reader reads at once, whenever the event comes.
        let (seen, sent, answered) = thread::scope(|scope| {
            let seen = scope.spawn(|| {
                line(&mut reader, &mark);
                Instant::now()
            });
            let sent = Instant::now();
            writer.get_mut().write_all(request.as_bytes()).unwrap();
            line(&mut writer, "HTTP/1.1 201");
            let answered = Instant::now();
            skip_body(&mut writer);
            (seen.join().unwrap(), sent, answered)
        });
        if WARMING <= number {
            from_sent.push(1e3 * (seen - sent).as_secs_f64());
            from_answered.push(1e3 * seen.saturating_duration_since(answered).as_secs_f64());
        }
    }
    assert_eq!(get(peer.address(), &format!("/v1/written/{}", WARMING + WRITES - 1)).0, 200);
    let percentile = |times: &mut Vec<f64>, percent: usize| {
        times.sort_by(f64::total_cmp);
        times[(times.len() - 1) * percent / 100]
    };
    let mut rows = Vec::new();
    for (percent, bar, couchdb) in [(50, 5.0, COUCHDB_MS[0]), (99, 25.0, COUCHDB_MS[1])] {
        let figure = format!("written on one node, readable on another: p{percent}");
        let row = Row::beside(figure, "ms", percentile(&mut from_sent, percent), couchdb);
        rows.push(row.bar(Bar::at_most(bar)));
    }
    for percent in [50, 99] {
        let figure = format!("of that, behind the answer to the write: p{percent}");
        rows.push(Row::alone(figure, "ms", percentile(&mut from_answered, percent)));
    }
    rows
}
