//! From a request to its answer: what holds for every route stands here.

use super::{
    TABLE,
    extract::{Call, Options},
    host,
    problem::{Code, Problem},
    reply, rest,
};
use crate::node::{self, Node};
use axum::{
    body::{Body, HttpBody},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header,
        request::Parts,
    },
};
use bytes::Bytes;
use futures_util::FutureExt;
use hyper::{
    body::Incoming,
    service::{Service, service_fn},
};
use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::time;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest request id of a client that is given back.
const REQUEST_ID_BYTES_MAX: usize = 128;
const VARY: HeaderValue = HeaderValue::from_static("Accept, Accept-Encoding, Version, Parents");
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// The interface of one node; clones share it.
#[derive(Debug, Clone)]
pub struct Api(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    node: Node,
    options: Options,
    /// What the ids of this start's requests begin with.
    incarnation: String,
    /// Requests that came without an id.
    unnamed: AtomicU64,
}

impl Api {
    /// The interface of `node`.
    pub fn new(node: Node, options: Options) -> Self {
        let incarnation = node.incarnation().to_string();
        Self(Arc::new(Inner { node, options, incarnation, unnamed: AtomicU64::new(0) }))
    }

    /// The node.
    pub(crate) fn node(&self) -> &Node {
        &self.0.node
    }

    /// The bounds.
    pub(crate) fn options(&self) -> &Options {
        &self.0.options
    }

    /// What the node answers, within the time that a request has; `late` if it does not.
    pub(crate) async fn within<T>(
        &self,
        late: Code,
        work: impl Future<Output = Result<T, node::Error>>,
    ) -> Result<T, Problem> {
        match time::timeout(self.options().answer_time, work).await {
            Ok(answer) => Ok(answer?),
            Err(_) => {
                let detail = "no answer in time; a write may have been made all the same";
                Err(Problem::new(late, detail))
            }
        }
    }

    /// The interface as a service of hyper, which [`serve`](super::serve) takes.
    pub fn into_service(
        self,
    ) -> impl Service<
        Request<Incoming>,
        Response = Response<Body>,
        Error = Infallible,
        Future: Send + 'static,
    > + Clone
    + Send
    + Sync
    + 'static {
        service_fn(move |request| {
            let api = self.clone();
            async move { Ok(api.answer(request).await) }
        })
    }

    /// Answers a request, whatever it is.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<axum::BoxError>,
    {
        let request = request.map(Body::new);
        if request.version() == Version::HTTP_2 {
            self.answer_stream(request).await
        } else {
            self.respond(request).await
        }
    }

    /// Answers a request of HTTP/2, whose stream ends alone.
    async fn answer_stream(&self, request: Request<Body>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let (body, mut unread) = rest::lend(body);
        let mut response = self.respond(Request::from_parts(head, body)).await;
        response.headers_mut().remove(header::CONNECTION);
        match unread.try_recv() {
            Ok(rest) => {
                response.map(|body| rest::read_on(body, rest, self.options().body_bytes_max))
            }
            Err(_) => response,
        }
    }

    /// The answer as every protocol has it.
    async fn respond(&self, request: Request<Body>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let id = self.request_id(&head.headers);
        let method = head.method.clone();
        let mut response = self.handle(Call { api: self.clone(), head, body }, &id).await;
        let status = response.status();
        if method == Method::HEAD && status != StatusCode::NOT_MODIFIED {
            strip_body(&mut response);
        }
        let headers = response.headers_mut();
        headers.insert(header::VARY, VARY);
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
        headers.insert(REQUEST_ID, id);
        response
    }

    /// Runs the handler. A panic in it is an answer like any other, and ends nothing else.
    async fn handle(&self, call: Call, id: &HeaderValue) -> Response<Body> {
        let admitted = self.measure(&call.head);
        let admitted = admitted.and_then(|()| host::check(&call.head, &self.options().hosts));
        let admitted = admitted.and_then(|()| check_coding(&call.head.headers));
        if let Err(problem) = admitted {
            return problem.into_response();
        }
        let uri = call.head.uri.clone();
        let answer = AssertUnwindSafe(TABLE.answer(call)).catch_unwind().await;
        let answer = answer.unwrap_or_else(|_| Err(Problem::defect("a handler panicked")));
        answer.unwrap_or_else(|problem| {
            if let Some(cause) = problem.cause() {
                tracing::error!(request = ?id, path = uri.path(), cause, "a defect, or damage");
            }
            problem.into_response()
        })
    }

    /// Refuses a head that is larger than the limits.
    fn measure(&self, head: &Parts) -> Result<(), Problem> {
        let options = self.options();
        // As HTTP/1.1 writes it: `verb path HTTP/1.1`, each field as `name: value`, an empty line.
        let path = head.uri.path_and_query().map_or(0, |path| path.as_str().len());
        let line = head.method.as_str().len() + path + " HTTP/1.1\r\n\r\n".len() + 1;
        let fields = head.headers.iter();
        let fields = fields.map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
        if options.header_bytes_max < line + fields.sum::<usize>() {
            let detail = format!("the head is larger than {} bytes", options.header_bytes_max);
            return Err(Problem::new(Code::HeadersTooLarge, detail));
        }
        if options.header_count_max < head.headers.len() {
            let detail = format!("there are more than {} fields", options.header_count_max);
            return Err(Problem::new(Code::HeadersTooLarge, detail));
        }
        Ok(())
    }

    /// The client's id of the request, if it gave a usable one; else one of ours.
    fn request_id(&self, headers: &HeaderMap) -> HeaderValue {
        let usable = |id: &&HeaderValue| {
            (1..=REQUEST_ID_BYTES_MAX).contains(&id.len())
                && id.as_bytes().iter().all(u8::is_ascii_graphic)
        };
        match headers.get(REQUEST_ID).filter(usable) {
            Some(id) => id.clone(),
            None => {
                let number = self.0.unnamed.fetch_add(1, Ordering::Relaxed);
                reply::value(format!("{}-{number}", self.0.incarnation))
            }
        }
    }
}

/// Refuses a body in a coding that nothing here undoes. hyper takes all that end in `chunked`, since
/// it can tell where they end (RFC 9112, 6.3).
fn check_coding(headers: &HeaderMap) -> Result<(), Problem> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let known =
        codings.next().is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
    if known && codings.next().is_none() {
        return Ok(());
    }
    let refused = Problem::header(&header::TRANSFER_ENCODING, "`chunked`, and nothing else");
    Err(refused.hint(header::CONNECTION, "close"))
}

/// What HEAD answers: the fields of the GET, with the length that its body would have.
fn strip_body(response: &mut Response<Body>) {
    if let Some(length) = response.body().size_hint().exact() {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    *response.body_mut() = Body::empty();
}
