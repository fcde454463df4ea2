//! The water between islands: TCP, each direction of which can be cut and healed.

use hyper::{Uri, rt};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{net::TcpStream, sync::watch};
use tower_service::Service;

/// The ways from one island to others, by the port on which those listen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ways(BTreeMap<u16, watch::Sender<bool>>);

impl Ways {
    /// Those to these ports, all open.
    pub(crate) fn to(ports: impl IntoIterator<Item = u16>) -> Self {
        Self(ports.into_iter().map(|port| (port, watch::Sender::new(true))).collect())
    }

    /// Cuts all of them, or heals them. What is under way on one that is cut is lost.
    pub(crate) fn set_open(&self, open: bool) {
        for way in self.0.values() {
            way.send_replace(open);
        }
    }
}

/// Connects along ways that are open.
impl Service<Uri> for Ways {
    type Response = Passage;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Passage>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let port = uri.port_u16().unwrap_or_default();
        let way = self.0.get(&port).map(watch::Sender::subscribe);
        Box::pin(async move {
            let refused = || io::Error::new(io::ErrorKind::ConnectionRefused, "the link is cut");
            let way = way.filter(|way| *way.borrow()).ok_or_else(refused)?;
            let stream = TcpStream::connect(("127.0.0.1", port)).await?;
            stream.set_nodelay(true)?;
            Ok(Passage::new(stream, way))
        })
    }
}

/// A connection that breaks when its way is cut.
pub(crate) struct Passage {
    stream: TokioIo<TcpStream>,
    /// Done once the way is cut.
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_cut: bool,
}

impl Passage {
    fn new(stream: TcpStream, mut way: watch::Receiver<bool>) -> Self {
        // A way that is gone is cut as well.
        let cut = Box::pin(async move { drop(way.wait_for(|open| !open).await) });
        Self { stream: TokioIo::new(stream), cut, is_cut: false }
    }

    /// The stream, as long as the way is open. Who waits for it hears of the cut.
    fn open(&mut self, cx: &mut Context<'_>) -> io::Result<Pin<&mut TokioIo<TcpStream>>> {
        self.is_cut = self.is_cut || self.cut.as_mut().poll(cx).is_ready();
        if self.is_cut {
            return Err(io::Error::new(io::ErrorKind::ConnectionReset, "the link is cut"));
        }
        Ok(Pin::new(&mut self.stream))
    }
}

impl Connection for Passage {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl rt::Read for Passage {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.open(cx)?.poll_read(cx, buffer)
    }
}

impl rt::Write for Passage {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.open(cx)?.poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.open(cx)?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::rt::Write as _;
    use std::{future::poll_fn, time::Duration};
    use tokio::{io::AsyncReadExt, net::TcpListener, time};

    #[tokio::test]
    async fn a_way_that_is_cut_breaks_what_is_under_way_and_takes_nothing_until_it_is_healed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let uri: Uri = format!("http://127.0.0.1:{port}").parse().unwrap();
        let mut ways = Ways::to([port]);
        let mut passage = ways.call(uri.clone()).await.unwrap();
        let (mut there, _) = listener.accept().await.unwrap();
        poll_fn(|cx| Pin::new(&mut passage).poll_write(cx, b"a")).await.unwrap();
        assert_eq!(there.read_u8().await.unwrap(), b'a');
        // Who waits to read is woken by the cut.
        let cutting = async {
            time::sleep(Duration::from_millis(10)).await;
            ways.set_open(false);
        };
        let mut bytes = [0; 8];
        let mut buffer = rt::ReadBuf::new(&mut bytes);
        let reading =
            poll_fn(|cx| rt::Read::poll_read(Pin::new(&mut passage), cx, buffer.unfilled()));
        let (read, ()) = tokio::join!(time::timeout(Duration::from_secs(5), reading), cutting);
        assert_eq!(read.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        let write = poll_fn(|cx| Pin::new(&mut passage).poll_write(cx, b"b")).await;
        assert_eq!(write.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        let refused = ways.call(uri.clone()).await.err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let unknown = ways.call("http://127.0.0.1:1".parse().unwrap()).await.err().unwrap();
        assert_eq!(unknown.kind(), io::ErrorKind::ConnectionRefused);
        ways.set_open(true);
        ways.call(uri).await.unwrap();
    }
}
