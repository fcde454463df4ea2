//! What leaves: bytes are counted, and each answer gets its line in the access log, if that is on.

use super::Traffic;
use axum::{
    body::{Body, HttpBody},
    http::{Method, Response, StatusCode},
};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::time::Instant;

/// What the access log says of a request: the path as the table of routes has it, so that no key
/// and no query gets into a log.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) method: Method,
    pub(super) route: &'static str,
    pub(super) status: StatusCode,
    pub(super) began: Instant,
    pub(super) request_id: String,
    pub(super) trace_id: String,
}

/// Whether somebody reads the access log.
pub(super) fn is_logged() -> bool {
    tracing::enabled!(target: "tombolo::access", tracing::Level::DEBUG)
}

/// The answer, whose bytes are counted. One that says how many it has needs no watching.
pub(super) fn watch(
    answer: Response<Body>,
    traffic: &Arc<Traffic>,
    line: Option<Line>,
) -> Response<Body> {
    match (answer.body().size_hint().exact(), line) {
        (Some(bytes), None) => {
            traffic.bytes_out.add(bytes);
            answer
        }
        (_, line) => answer
            .map(|body| Body::new(Watched { body, bytes: 0, traffic: Arc::clone(traffic), line })),
    }
}

/// A body whose end is told.
#[derive(Debug)]
struct Watched {
    body: Body,
    bytes: u64,
    traffic: Arc<Traffic>,
    line: Option<Line>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.traffic.bytes_out.add(self.bytes);
        let Some(line) = &self.line else { return };
        let Line { method, route, status, began, request_id, trace_id } = line;
        tracing::debug!(
            target: "tombolo::access",
            %method,
            route,
            status = status.as_u16(),
            bytes = self.bytes,
            duration_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
            request_id,
            trace_id,
            "answered"
        );
    }
}
