//! The deadlines of one connection, held by its socket: hyper's own leave silent sockets open.

use super::Traffic;
use axum::{
    body::{Body, HttpBody},
    http::Version,
};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{self, Instant, Sleep},
};

/// How connections are bounded, in number and in time.
#[derive(Debug, Clone, Copy)]
pub struct Connections {
    /// Most connections at once; more wait in the kernel's queue.
    pub count_max: usize,
    /// Most connections of one address at once, loopback excepted; more are closed.
    pub count_per_address_max: usize,
    /// Most requests at once on one HTTP/2 connection.
    pub streams_max: u32,
    /// Largest head of a request.
    pub header_bytes_max: usize,
    /// Longest from accept, or from the first byte of a later request, to the end of its head.
    pub head_time: Duration,
    /// Longest without a request.
    pub idle_time: Duration,
    /// Longest with a request and without a byte moving. Longer than any wait that is allowed.
    pub stall_time: Duration,
    /// How often an HTTP/2 client is asked whether it is there, and how long it may take to say so.
    pub ping_time: Duration,
    /// How long a closing connection is read on, so that its client finds the last answer: a
    /// socket that is closed with bytes unread is reset, and the answer lost.
    pub linger_time: Duration,
    /// How long a stopping node waits for what runs.
    pub stop_time: Duration,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            count_max: 8192,
            count_per_address_max: 256,
            streams_max: 128,
            header_bytes_max: 16 << 10,
            head_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(60),
            stall_time: Duration::from_secs(90),
            ping_time: Duration::from_secs(20),
            linger_time: Duration::from_secs(1),
            stop_time: Duration::from_secs(10),
        }
    }
}

/// What an HTTP/2 connection may send and receive without anything happening on it: pings,
/// settings and their acknowledgements.
const KEEPALIVE_BYTES: usize = 64;

/// What one connection is doing, as far as its deadlines are concerned.
#[derive(Debug)]
pub(super) struct Watch {
    bounds: Connections,
    traffic: Arc<Traffic>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When the head began that is being read.
    head_since: Option<Instant>,
    /// When something last moved.
    moved: Instant,
    /// Requests whose answers are not out.
    running: usize,
    /// HTTP/2: bytes that come without a request are not the beginning of one.
    multiplexed: bool,
}

/// What is to be done about a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing until then.
    Wait(Instant),
    /// It missed a deadline.
    Late(Late),
}

/// How a connection missed a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Late {
    /// Nothing was asked for long: say goodbye.
    Idle,
    /// Something was begun and does not go on: close it without a word.
    Silent,
}

impl Watch {
    /// The watch of a connection that was just accepted.
    pub(super) fn new(bounds: Connections, traffic: Arc<Traffic>) -> Self {
        let now = Instant::now();
        let state = State { head_since: Some(now), moved: now, running: 0, multiplexed: false };
        Self { bounds, traffic, state: Mutex::new(state) }
    }

    /// How long a closing connection is read on.
    pub(super) fn linger_time(&self) -> Duration {
        self.bounds.linger_time
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The next deadline, and what it means.
    fn next(&self) -> (Instant, Late) {
        let Connections { head_time, idle_time, stall_time, .. } = self.bounds;
        self.with(|state| match (state.running, state.head_since) {
            (0, Some(since)) => (since + head_time, Late::Silent),
            (0, None) => (state.moved + idle_time, Late::Idle),
            (_, _) => (state.moved + stall_time, Late::Silent),
        })
    }

    /// When to look again.
    pub(super) fn due(&self) -> Instant {
        self.next().0
    }

    /// What the deadlines say now.
    pub(super) fn verdict(&self) -> Verdict {
        let (due, late) = self.next();
        if Instant::now() < due { Verdict::Wait(due) } else { Verdict::Late(late) }
    }

    /// A request's head is complete.
    pub(super) fn begin(self: &Arc<Self>, version: Version) -> Turn {
        let now = Instant::now();
        self.with(|state| {
            state.head_since = None;
            state.moved = now;
            state.running += 1;
            state.multiplexed = version == Version::HTTP_2;
        });
        self.traffic.in_flight.increment();
        Turn(Arc::clone(self))
    }

    /// An answer goes on, be it by a byte: HTTP/2 asks for it only where the client has room.
    fn went_on(&self) {
        let now = Instant::now();
        self.with(|state| state.moved = now);
    }

    fn moved(&self, bytes: usize, reading: Reading) {
        let now = Instant::now();
        self.with(|state| {
            if reading == Reading::Yes && state.running == 0 && !state.multiplexed {
                state.head_since.get_or_insert(now);
            }
            if !state.multiplexed || KEEPALIVE_BYTES < bytes {
                state.moved = now;
            }
        });
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    Yes,
    No,
}

/// A request that runs, until its answer is out.
#[derive(Debug)]
pub(super) struct Turn(Arc<Watch>);

impl Drop for Turn {
    fn drop(&mut self) {
        let now = Instant::now();
        self.0.with(|state| {
            state.moved = now;
            state.running -= 1;
        });
        self.0.traffic.in_flight.decrement();
    }
}

/// The body of an answer, which ends its request's turn.
#[derive(Debug)]
pub(super) struct Metered {
    body: Body,
    turn: Turn,
}

impl Metered {
    /// The body of the answer to the request whose turn it is.
    pub(super) fn new(body: Body, turn: Turn) -> Self {
        Self { body, turn }
    }
}

impl HttpBody for Metered {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.turn.0.went_on();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// How every connection of HTTP/2 begins (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A socket that tells its watch what moves, and lingers when it is shut down. It holds its connection's
/// seat, whatever protocol is spoken on it in the end.
#[derive(Debug)]
pub(super) struct Socket<S, G> {
    stream: S,
    watch: Arc<Watch>,
    _seat: G,
    /// What was read to tell the protocol, until it is read again: so many bytes of these.
    opening: [u8; PREFACE.len()],
    opening_bytes: usize,
    lingering: Option<Pin<Box<Sleep>>>,
}

impl<S, G> Socket<S, G> {
    /// The socket over a stream.
    pub(super) fn new(stream: S, watch: Arc<Watch>, seat: G) -> Self {
        Self {
            stream,
            watch,
            _seat: seat,
            opening: [0; PREFACE.len()],
            opening_bytes: 0,
            lingering: None,
        }
    }

    /// Its watch.
    pub(super) fn watch(&self) -> &Arc<Watch> {
        &self.watch
    }

    fn wrote(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = result {
            self.watch.moved(bytes, Reading::No);
        }
        result
    }
}

impl<S: AsyncRead + Unpin, G> Socket<S, G> {
    /// Reads until it is known whether this is HTTP/2. What was read is the beginning of what is read
    /// next, in one piece with what follows: hyper, which would read on its own to know this, doubles a
    /// buffer whose first bytes come alone, and keeps it.
    pub(super) fn poll_is_http2(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        while self.opening_bytes < PREFACE.len() {
            let known = self.opening_bytes;
            let mut opening = self.opening;
            let mut buffer = ReadBuf::new(&mut opening);
            buffer.set_filled(known);
            ready!(self.poll_stream(cx, &mut buffer))?;
            let bytes = buffer.filled().len();
            (self.opening, self.opening_bytes) = (opening, bytes);
            if bytes == known || opening[..bytes] != PREFACE[..bytes] {
                return Poll::Ready(Ok(false));
            }
        }
        Poll::Ready(Ok(true))
    }

    fn poll_stream(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let bytes = buffer.filled().len() - before;
        if 0 < bytes {
            self.watch.moved(bytes, Reading::Yes);
        }
        result
    }
}

impl<S: AsyncRead + Unpin, G: Unpin> AsyncRead for Socket<S, G> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let opening = std::mem::take(&mut self.opening_bytes);
        if opening == 0 {
            return self.poll_stream(cx, buffer);
        }
        let now = opening.min(buffer.remaining());
        buffer.put_slice(&self.opening[..now]);
        self.opening.copy_within(now..opening, 0);
        self.opening_bytes = opening - now;
        if buffer.remaining() != 0 {
            // What comes with it is welcome; what does not come yet, or not well, is for the next read.
            let _ = self.poll_stream(cx, buffer);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, G: Unpin> AsyncWrite for Socket<S, G> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.wrote(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        let patience = this.watch.bounds.linger_time;
        let over = this.lingering.get_or_insert_with(|| Box::pin(time::sleep(patience)));
        if over.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut waste = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut waste);
            match ready!(Pin::new(&mut this.stream).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                // The client has closed its half too, or is gone.
                Ok(()) | Err(_) => return Poll::Ready(Ok(())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn pass(seconds: u64) {
        time::advance(Duration::from_secs(seconds)).await;
    }

    fn watch() -> Arc<Watch> {
        Arc::new(Watch::new(Connections::default(), Arc::default()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_is_cut_after_ten_seconds() {
        let watch = watch();
        pass(9).await;
        assert!(matches!(watch.verdict(), Verdict::Wait(_)));
        watch.moved(1, Reading::Yes);
        pass(1).await;
        assert_eq!(
            watch.verdict(),
            Verdict::Late(Late::Silent),
            "a slow head gains nothing by its bytes"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_of_http_2_that_goes_on_by_single_bytes_is_not_cut() {
        let watch = watch();
        let turn = watch.begin(Version::HTTP_2);
        let beat = |_| Ok::<_, std::io::Error>(Bytes::from_static(b"\n"));
        let beats = futures_util::stream::iter((0..4).map(beat));
        let mut body = Metered::new(Body::from_stream(beats), turn);
        for _ in 0..4 {
            pass(60).await;
            assert!(matches!(watch.verdict(), Verdict::Wait(_)));
            let frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
            assert!(frame.is_some());
            // Written as a frame of ten bytes, which may be a ping as well.
            watch.moved(10, Reading::No);
        }
        pass(100).await;
        assert_eq!(watch.verdict(), Verdict::Late(Late::Silent), "it does not go on");
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_left_after_sixty_seconds() {
        let watch = watch();
        drop(watch.begin(Version::HTTP_11));
        pass(59).await;
        assert!(matches!(watch.verdict(), Verdict::Wait(_)));
        pass(1).await;
        assert_eq!(watch.verdict(), Verdict::Late(Late::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_head_has_ten_seconds_from_its_first_byte() {
        let watch = watch();
        drop(watch.begin(Version::HTTP_11));
        pass(50).await;
        watch.moved(1, Reading::Yes);
        pass(9).await;
        assert!(matches!(watch.verdict(), Verdict::Wait(_)));
        pass(1).await;
        assert_eq!(watch.verdict(), Verdict::Late(Late::Silent));
    }

    #[tokio::test(start_paused = true)]
    async fn pings_do_not_keep_a_connection() {
        let watch = watch();
        drop(watch.begin(Version::HTTP_2));
        for _ in 0..3 {
            pass(20).await;
            watch.moved(17, Reading::Yes);
            watch.moved(17, Reading::No);
        }
        assert_eq!(watch.verdict(), Verdict::Late(Late::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_may_take_as_long_as_bytes_move() {
        let watch = watch();
        let _turn = watch.begin(Version::HTTP_11);
        for _ in 0..10 {
            pass(80).await;
            watch.moved(1, Reading::No);
        }
        assert!(matches!(watch.verdict(), Verdict::Wait(_)));
        pass(90).await;
        assert_eq!(watch.verdict(), Verdict::Late(Late::Silent));
    }
}
