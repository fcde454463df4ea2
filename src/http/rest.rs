//! What is left of a request's body when its answer is made.
//!
//! A client may learn why it is refused while it still sends. HTTP/1.1 closes such a connection and
//! reads on a while (`deadline`). A stream of HTTP/2 that is dropped with its body unread is reset,
//! after a whole answer and without an error (RFC 9113, 8.1); but clients take the reset for a
//! failure all the same, curl among them, and forget the answer. So there the answer stays open
//! behind its last byte, until the body has ended, or enough of it came.

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use std::{
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    sync::oneshot,
    time::{self, Sleep},
};

/// How long an answer stays open for the rest of its request.
const LINGER_TIME: Duration = Duration::from_secs(1);

/// A body, and where to find what is left of it once it is dropped before its end.
pub(super) fn lend(body: Body) -> (Body, oneshot::Receiver<Body>) {
    let (back, rest) = oneshot::channel();
    (Body::new(Lent { body, back: Some(back) }), rest)
}

/// A body that is given back.
#[derive(Debug)]
struct Lent {
    body: Body,
    back: Option<oneshot::Sender<Body>>,
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let body = mem::take(&mut self.body);
        if let Some(back) = self.back.take().filter(|_| !body.is_end_stream()) {
            // If nobody waits for it, it ends here.
            let _ = back.send(body);
        }
    }
}

/// An answer that ends after the rest of its request, of which it takes so many bytes at most.
pub(super) fn read_on(answer: Body, rest: Body, bytes_max: usize) -> Body {
    Body::new(Open { answer: Some(answer), rest: Some(rest), bytes_max, over: None })
}

/// An answer that stays open.
#[derive(Debug)]
struct Open {
    /// `None` once all of it is out.
    answer: Option<Body>,
    /// `None` once nothing more is taken.
    rest: Option<Body>,
    bytes_max: usize,
    over: Option<Pin<Box<Sleep>>>,
}

impl Open {
    /// Until nothing more is to be taken.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let over = self.over.get_or_insert_with(|| Box::pin(time::sleep(LINGER_TIME)));
        while let Some(rest) = self.rest.as_mut() {
            if over.as_mut().poll(cx).is_ready() {
                break;
            }
            let Some(Ok(frame)) = ready!(Pin::new(rest).poll_frame(cx)) else { break };
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            let Some(left) = self.bytes_max.checked_sub(bytes) else { break };
            self.bytes_max = left;
        }
        self.rest = None;
        Poll::Ready(())
    }
}

impl HttpBody for Open {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Some(answer) = self.answer.as_mut() {
            if let Some(frame) = ready!(Pin::new(answer).poll_frame(cx)) {
                return Poll::Ready(Some(frame));
            }
            self.answer = None;
        }
        ready!(self.poll_rest(cx));
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.answer.is_none() && self.rest.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.answer.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{StreamExt, stream};
    use http_body_util::BodyExt;
    use std::{convert::Infallible, sync::Arc};
    use tokio::time::Instant;

    /// A body of so many chunks of 100 bytes, one a tenth of a second, and who counts them.
    fn slow(chunks: usize) -> (Body, Arc<()>) {
        let alive = Arc::new(());
        let held = Arc::clone(&alive);
        let chunks = stream::iter(0..chunks).then(move |_| {
            let held = Arc::clone(&held);
            async move {
                time::sleep(Duration::from_millis(100)).await;
                drop(held);
                Ok::<_, Infallible>(Bytes::from_static(&[b' '; 100]))
            }
        });
        (Body::from_stream(chunks), alive)
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_stays_open_for_the_rest_within_bounds() {
        for (chunks, bytes_max, millis) in
            [(0, 1000, 0), (3, 1000, 300), (3, 300, 300), (5, 300, 400), (100, 1 << 20, 1000)]
        {
            let (rest, alive) = slow(chunks);
            let began = Instant::now();
            let mut answer = read_on(Body::from("why"), rest, bytes_max);
            assert_eq!(answer.size_hint().exact(), Some(3));
            assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), "why");
            assert_eq!(began.elapsed(), Duration::ZERO, "the answer itself does not wait");
            assert!(answer.frame().await.is_none());
            let elapsed = began.elapsed().as_millis();
            assert!((millis..millis + 5).contains(&elapsed), "{chunks} {bytes_max}: {elapsed}");
            assert!(answer.is_end_stream());
            assert_eq!(Arc::strong_count(&alive), 1, "nothing is held on to");
        }
    }

    #[tokio::test]
    async fn a_body_comes_back_only_if_it_did_not_end() {
        let (lent, mut rest) = lend(Body::from("abc"));
        assert_eq!(lent.collect().await.unwrap().to_bytes(), "abc");
        assert!(rest.try_recv().is_err());
        let (lent, mut rest) = lend(Body::from("abc"));
        drop(lent);
        assert_eq!(rest.try_recv().unwrap().collect().await.unwrap().to_bytes(), "abc");
    }
}
