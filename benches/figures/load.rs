//! The client: connections that are kept, on one thread. Each asks, waits for the answer, and asks
//! again.

use futures_util::future::join_all;
use std::{
    cell::RefCell,
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Builder,
};

/// Bytes that are read at once.
const BUFFER_BYTES: usize = 64 << 10;

/// Longest that anything may take to be asked to its end.
const LONGEST: Duration = Duration::from_secs(600);

/// What a client asks.
pub(crate) trait Traffic {
    /// Puts the next request into an empty buffer and gives its number; `None`: it was the last.
    fn ask(&mut self, request: &mut Vec<u8>) -> Option<u64>;

    /// Takes the answer to a request.
    fn take(&mut self, _number: u64, _answer: &[u8]) {}
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Load {
    /// From the first request to the last answer.
    pub(crate) elapsed: Duration,
    /// When each answer came, in the order in which they came.
    pub(crate) ends: Vec<Duration>,
    /// How long each answer took, the shortest first.
    latencies: Vec<Duration>,
}

impl Load {
    /// How many answers there were.
    pub(crate) fn count(&self) -> f64 {
        self.ends.len() as f64
    }

    /// Answers a second.
    pub(crate) fn rate(&self) -> f64 {
        self.count() / self.elapsed.as_secs_f64()
    }

    /// The time within which so many of a hundred answers came, in milliseconds.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        1e3 * self.latencies[(self.latencies.len() - 1) * percent / 100].as_secs_f64()
    }
}

/// Asks until there is nothing more to ask, or no more time. Connections are made before the clock
/// starts. Every answer has to be a 200 or 201.
pub(crate) fn load(
    address: SocketAddr,
    connections: usize,
    time: Duration,
    traffic: &mut dyn Traffic,
) -> Load {
    let runtime = Builder::new_current_thread().enable_io().build().unwrap();
    runtime.block_on(async {
        let mut streams = Vec::new();
        for _ in 0..connections {
            let stream = TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            streams.push(stream);
        }
        let start = Instant::now();
        let client =
            RefCell::new(Client { traffic, start, end: start + time, answers: Vec::new() });
        join_all(streams.into_iter().map(|stream| converse(stream, &client))).await;
        let answers = client.into_inner().answers;
        let ends = answers.iter().map(|answer| answer.end).collect();
        let mut latencies: Vec<_> = answers.iter().map(|answer| answer.latency).collect();
        latencies.sort_unstable();
        Load { elapsed: start.elapsed(), ends, latencies }
    })
}

/// Asks all there is to ask.
pub(crate) fn load_all(address: SocketAddr, connections: usize, traffic: &mut dyn Traffic) -> Load {
    let load = load(address, connections, LONGEST, traffic);
    assert!(load.elapsed < LONGEST, "not all was asked");
    load
}

struct Client<'a> {
    traffic: &'a mut dyn Traffic,
    start: Instant,
    end: Instant,
    answers: Vec<Answered>,
}

struct Answered {
    end: Duration,
    latency: Duration,
}

async fn converse(mut stream: TcpStream, client: &RefCell<Client<'_>>) {
    let (mut request, mut answer) = (Vec::new(), Vec::with_capacity(BUFFER_BYTES));
    let mut now = Instant::now();
    loop {
        request.clear();
        let number = {
            let mut client = client.borrow_mut();
            if client.end <= now {
                return;
            }
            match client.traffic.ask(&mut request) {
                Some(number) => number,
                None => return,
            }
        };
        let asked = Instant::now();
        stream.write_all(&request).await.unwrap();
        answer.clear();
        while !is_whole(&answer) {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "the server hung up");
        }
        now = Instant::now();
        check(&answer);
        let mut client = client.borrow_mut();
        client.traffic.take(number, &answer);
        let end = now - client.start;
        client.answers.push(Answered { end, latency: now - asked });
    }
}

fn check(answer: &[u8]) {
    let status = answer.get(..12);
    let good = status == Some(b"HTTP/1.1 200") || status == Some(b"HTTP/1.1 201");
    assert!(good, "{}", String::from_utf8_lossy(answer));
}

fn is_whole(answer: &[u8]) -> bool {
    let Some(head) = position(answer, b"\r\n\r\n") else { return false };
    match field(&answer[..head], b"\r\ncontent-length: ") {
        Some(length) => {
            let length = std::str::from_utf8(length).unwrap().parse::<usize>().unwrap();
            head + 4 + length <= answer.len()
        }
        // In pieces, the last of which is empty. No body here holds an empty line.
        None => answer.ends_with(b"\r\n0\r\n\r\n"),
    }
}

/// The value of a field, by its lower-case name between line's end and value.
pub(crate) fn field<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let value = &head[position(head, name)? + name.len()..];
    Some(value.split(|byte| *byte == b'\r').next().unwrap_or(value))
}

fn position(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
