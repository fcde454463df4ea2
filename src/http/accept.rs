//! The accept loop: HTTP/1.1 and h2c on one port, every connection under its deadlines.

use super::{
    Traffic,
    deadline::{Connections, Late, Metered, Socket, Verdict, Watch},
};
use axum::{
    body::Body,
    http::{Request, Response},
};
use hyper::{
    body::Incoming,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use std::{
    collections::HashMap,
    convert::Infallible,
    future::poll_fn,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{self, Instant, Sleep},
};

/// Pause after a failed accept: mostly there are no file descriptors left, and waiting helps.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where connections come from: a TCP listener, or the network of a simulation.
pub trait Listener: Send {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection and whose it is. A future that is dropped loses no connection.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, address) = Self::accept(self).await?;
        stream.set_nodelay(true)?;
        Ok((stream, address))
    }
}

impl Listener for UnixListener {
    type Stream = UnixStream;

    /// Who comes by a socket of the file system is on this machine.
    async fn accept(&mut self) -> io::Result<(UnixStream, SocketAddr)> {
        let (stream, _) = Self::accept(self).await?;
        Ok((stream, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))
    }
}

/// Serves every connection of `listener` until `stop` is done; then takes no more, and waits a
/// bounded time for what runs. Connections are counted in `traffic`.
pub async fn serve<L, S>(
    mut listener: L,
    service: S,
    bounds: Connections,
    traffic: Arc<Traffic>,
    stop: impl Future<Output = ()>,
) where
    L: Listener,
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    let builders = Arc::new(Builders::new(bounds));
    let seats = Arc::new(Seats::new(bounds, Arc::clone(&traffic)));
    let closing = Arc::new(Closing::default());
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let (stream, seat) = tokio::select! {
            biased;
            () = &mut stop => break,
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a connection panicked");
                }
                continue;
            }
            accepted = next(&mut listener, &seats) => match accepted {
                Some(accepted) => accepted,
                None => continue,
            },
        };
        let (builders, closing) = (Arc::clone(&builders), Arc::clone(&closing));
        let (service, watch) = (service.clone(), Watch::new(bounds, Arc::clone(&traffic)));
        connections.spawn(async move {
            let socket = Socket::new(stream, Arc::new(watch), seat);
            attend(socket, service, &builders, &closing).await;
        });
    }
    drop(listener);
    closing.close();
    let ended = async {
        while connections.join_next().await.is_some() {}
        // Who speaks another protocol by now holds a seat, too.
        seats.all_free().await;
    };
    if time::timeout(bounds.stop_time, ended).await.is_err() {
        tracing::warn!(connections = connections.len(), "cut off what did not end in time");
    }
    connections.shutdown().await;
}

/// hyper, for each of its protocols.
struct Builders {
    http1: Builder<TokioExecutor>,
    http2: Builder<TokioExecutor>,
}

impl Builders {
    fn new(bounds: Connections) -> Self {
        Self { http1: builder(bounds).http1_only(), http2: builder(bounds).http2_only() }
    }
}

/// hyper, with its own deadlines off where ours hold.
fn builder(bounds: Connections) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    // A head that does not fit the buffer is answered 431 by hyper; what fits is measured again
    // when it is parsed, exactly. Smaller buffers than 8 KiB are none.
    builder.http1().header_read_timeout(None).max_buf_size(bounds.header_bytes_max.max(8 << 10));
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(bounds.ping_time)
        .keep_alive_timeout(bounds.ping_time)
        .max_concurrent_streams(bounds.streams_max)
        .max_header_list_size(u32::try_from(bounds.header_bytes_max).unwrap_or(u32::MAX));
    builder
}

/// The next connection that has a seat; `None` if one came that has none, or none could come.
async fn next<L: Listener>(listener: &mut L, seats: &Arc<Seats>) -> Option<(L::Stream, Seat)> {
    let place = Arc::clone(&seats.all).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, address)) => Some((stream, seats.sit(address.ip(), place)?)),
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// One connection, from its first byte to its last.
async fn attend<T, S>(
    mut socket: Socket<T, Seat>,
    service: S,
    builders: &Builders,
    closing: &Closing,
) where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
{
    let watch = Arc::clone(socket.watch());
    let mut alarm = pin!(time::sleep_until(watch.due()));
    let mut closed = pin!(closing.notify.notified());
    let opened = poll_fn(|cx| {
        // To be woken; from then on the flag tells, for the price of a load.
        let _ = closed.as_mut().poll(cx);
        let over = ring(alarm.as_mut(), &watch, false, cx).is_ready();
        if over || closing.flag.load(Ordering::Acquire) {
            return Poll::Ready(None);
        }
        socket.poll_is_http2(cx).map(Result::ok)
    });
    let builder = match opened.await {
        None => return,
        Some(true) => &builders.http2,
        Some(false) => &builders.http1,
    };
    let requests = Arc::clone(&watch);
    let metered = service_fn(move |request: Request<Incoming>| {
        let turn = requests.begin(request.version());
        // hyper keeps room for what it awaits as long as the connection lives; this goes when it is done.
        let answer = Box::pin(service.call(request));
        async move { Ok::<_, Infallible>(answer.await?.map(|body| Metered::new(body, turn))) }
    });
    let mut connection =
        pin!(builder.serve_connection_with_upgrades(TokioIo::new(socket), metered));
    let mut told = false;
    poll_fn(|cx| {
        if !told && closing.flag.load(Ordering::Acquire) {
            told = true;
            connection.as_mut().graceful_shutdown();
        }
        loop {
            if connection.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            match ready!(ring(alarm.as_mut(), &watch, told, cx)) {
                Late::Idle if !told => {
                    told = true;
                    connection.as_mut().graceful_shutdown();
                    alarm.as_mut().reset(Instant::now() + 2 * watch.linger_time());
                }
                Late::Idle | Late::Silent => return Poll::Ready(()),
            }
        }
    })
    .await;
}

/// Rings once a deadline has passed, and says which.
fn ring(mut alarm: Pin<&mut Sleep>, watch: &Watch, told: bool, cx: &mut Context<'_>) -> Poll<Late> {
    loop {
        // A deadline that moves away is seen when the alarm rings; one that draws near, here.
        let due = watch.due();
        if !told && due < alarm.deadline() {
            alarm.as_mut().reset(due);
        }
        ready!(alarm.as_mut().poll(cx));
        match watch.verdict() {
            Verdict::Wait(until) => alarm.as_mut().reset(until),
            Verdict::Late(late) => return Poll::Ready(late),
        }
    }
}

/// Tells every connection that the node stops.
#[derive(Debug, Default)]
struct Closing {
    flag: AtomicBool,
    notify: Notify,
}

impl Closing {
    fn close(&self) {
        self.flag.store(true, Ordering::Release);
        self.notify.notify_waiters();
    }
}

/// Who may be connected.
#[derive(Debug)]
struct Seats {
    all: Arc<Semaphore>,
    count_max: u32,
    per_address_max: usize,
    taken: Mutex<HashMap<IpAddr, usize>>,
    traffic: Arc<Traffic>,
}

/// A connection's right to be there.
#[derive(Debug)]
struct Seat {
    _place: OwnedSemaphorePermit,
    seats: Arc<Seats>,
    /// The address that it counts for; `None` for loopback, which has no limit.
    counted: Option<IpAddr>,
}

impl Seats {
    fn new(bounds: Connections, traffic: Arc<Traffic>) -> Self {
        let count_max =
            u32::try_from(bounds.count_max.min(Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        let all = Arc::new(Semaphore::new(count_max as usize));
        let per_address_max = bounds.count_per_address_max;
        Self { all, count_max, per_address_max, taken: Mutex::default(), traffic }
    }

    /// Waits until nobody is connected.
    async fn all_free(&self) {
        // It is never closed.
        let _ = self.all.acquire_many(self.count_max).await;
    }

    fn with<T>(&self, change: impl FnOnce(&mut HashMap<IpAddr, usize>) -> T) -> T {
        change(&mut self.taken.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A seat for one more connection of `address`, if it may have one.
    fn sit(self: &Arc<Self>, address: IpAddr, place: OwnedSemaphorePermit) -> Option<Seat> {
        let address = address.to_canonical();
        let counted = (!address.is_loopback()).then_some(address);
        let free = counted.is_none_or(|address| {
            self.with(|taken| {
                let count = taken.entry(address).or_default();
                let free = *count < self.per_address_max;
                *count += usize::from(free);
                free
            })
        });
        if !free {
            self.traffic.refused.increment();
            return None;
        }
        self.traffic.accepted.increment();
        self.traffic.connections.increment();
        Some(Seat { _place: place, seats: Arc::clone(self), counted })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.traffic.connections.decrement();
        let Some(address) = &self.counted else { return };
        self.seats.with(|taken| {
            if let Some(count) = taken.get_mut(address) {
                *count -= 1;
                if *count == 0 {
                    taken.remove(address);
                }
            }
        });
    }
}
