//! The network of a simulation, as the accept loop and the client of nodes see it.

use hyper::{Uri, rt};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time;
use tombolo::http;
use turmoil::net::{TcpListener, TcpStream};

/// Where all nodes listen.
pub(super) const PORT: u16 = 7420;
/// Longest wait for a connection.
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// Where a node is reached.
pub(super) struct Harbour(TcpListener);

impl Harbour {
    pub(super) async fn open() -> Self {
        Self(TcpListener::bind(("0.0.0.0", PORT)).await.unwrap())
    }
}

impl http::Listener for Harbour {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        self.0.accept().await
    }
}

/// Connects to hosts by their names.
#[derive(Debug, Clone)]
pub(super) struct Network;

impl tower::Service<Uri> for Network {
    type Response = Carried;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Carried>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(async move {
            let host = uri.host().unwrap_or_default().to_owned();
            let connect = TcpStream::connect((host, PORT));
            let connected = time::timeout(CONNECT_TIME, connect).await;
            let stream = connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            Ok(Carried(TokioIo::new(stream)))
        })
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Carried(TokioIo<TcpStream>);

impl Connection for Carried {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl rt::Read for Carried {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl rt::Write for Carried {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
