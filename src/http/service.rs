//! From a request to its answer: what holds for every route stands here.

use super::{
    TABLE, Traffic,
    access::{self, Line},
    coding::Wish,
    compress,
    extract::{Call, Options},
    host,
    problem::{Code, Problem},
    rest,
    route::{Found, Site, Table},
    trace::{Ids, Origin, REQUEST_ID, TRACEPARENT},
    traffic::NO_ROUTE,
};
use crate::node::Node;
use axum::{
    body::{Body, HttpBody},
    http::{
        HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header,
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
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{self, Instant},
};

const VARY: HeaderValue = HeaderValue::from_static("Accept, Accept-Encoding, Version, Parents");
/// Most bodies that are larger than most may be, at once.
const LARGE_BODIES_MAX: usize = 4;
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// The interface of one node; clones share it.
#[derive(Debug, Clone)]
pub struct Api(Arc<Inner>, Door);

/// How a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// By a port, which others may reach.
    Network,
    /// By the socket in the data directory, which its owner alone can open.
    Owner,
}

#[derive(Debug)]
struct Inner {
    node: Node,
    options: Options,
    traffic: Arc<Traffic>,
    /// What the ids of this start's requests are made of.
    origin: Origin,
    /// Requests of this start.
    requests: AtomicU64,
    /// Whether answers without end shall end.
    ending: watch::Sender<bool>,
    /// Turns of large bodies.
    large: Arc<Semaphore>,
}

impl Api {
    /// The interface of `node`.
    pub fn new(node: Node, options: Options) -> Self {
        let origin = Origin::new(node.incarnation().to_string(), node.chance());
        let (traffic, requests) = (Arc::default(), AtomicU64::new(0));
        let ending = watch::Sender::new(false);
        let large = Arc::new(Semaphore::new(LARGE_BODIES_MAX));
        let inner = Inner { node, options, traffic, origin, requests, ending, large };
        Self(Arc::new(inner), Door::Network)
    }

    /// Ends all answers without end, of the feed: the node stops.
    pub fn end_streams(&self) {
        self.0.ending.send_replace(true);
    }

    /// Tells when answers without end shall end.
    pub(crate) fn ending(&self) -> watch::Receiver<bool> {
        self.0.ending.subscribe()
    }

    /// What the interface counts.
    pub fn traffic(&self) -> Arc<Traffic> {
        Arc::clone(&self.0.traffic)
    }

    /// Runs `log`, whose lines carry the ids of a request.
    pub(crate) fn log(&self, ids: &Ids, log: impl FnOnce()) {
        self.0.origin.span(ids).in_scope(log);
    }

    /// The same, for who comes by the socket in the data directory.
    #[must_use]
    pub fn for_owner(&self) -> Self {
        Self(Arc::clone(&self.0), Door::Owner)
    }

    /// How requests come in.
    pub(crate) fn door(&self) -> Door {
        self.1
    }

    /// The node.
    pub(crate) fn node(&self) -> &Node {
        &self.0.node
    }

    /// The bounds.
    pub(crate) fn options(&self) -> &Options {
        &self.0.options
    }

    /// A turn for a body that is larger than most may be, for as long as it is held.
    pub(crate) fn large_body(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.0.large).try_acquire_owned().map_err(|_| {
            let detail = "as many large bodies as may be are held already";
            Problem::new(Code::RateLimited, detail)
        })
    }

    /// What the node answers, within the time that a request has; `late` if it does not.
    pub(crate) async fn within<T, E: Into<Problem>>(
        &self,
        late: Code,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Problem> {
        match time::timeout(self.options().answer_time, work).await {
            Ok(answer) => answer.map_err(Into::into),
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
        let began = Instant::now();
        let (head, body) = request.into_parts();
        let Inner { traffic, origin, .. } = &*self.0;
        let ids = origin.identify(self.0.requests.fetch_add(1, Ordering::Relaxed), &head.headers);
        let (method, uri) = (head.method.clone(), head.uri.clone());
        let found = TABLE.find(uri.path());
        let call = Call { api: self.clone(), ids: ids.clone(), head, body };
        let mut response = match self.admit(&call.head) {
            Ok(wish) => {
                let response = self.handle(call, &uri, found).await;
                match compress::plan(&response, wish) {
                    // Boxed, so that the way of most answers stays short.
                    Some(coding) => Box::pin(compress::encode(response, coding, wish)).await,
                    None => response,
                }
            }
            Err(problem) => problem.into_response(),
        };
        let status = response.status();
        if method == Method::HEAD && status != StatusCode::NOT_MODIFIED {
            strip_body(&mut response);
        }
        let request_id = origin.request_id(&ids);
        let site = found.map(|(site, _)| site);
        traffic.answered(site.map(Site::place), &method, status, began.elapsed());
        let line = access::is_logged().then(|| Line {
            method,
            route: site.map_or(NO_ROUTE, Site::path),
            status,
            began,
            request_id: request_id.to_str().unwrap_or_default().to_owned(),
            trace_id: ids.trace_id(),
        });
        let headers = response.headers_mut();
        headers.insert(header::VARY, VARY);
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
        headers.insert(REQUEST_ID, request_id);
        if let Some(traceparent) = ids.traceparent() {
            headers.insert(TRACEPARENT, traceparent);
        }
        access::watch(response, traffic, line)
    }

    /// Whether a request is let in, and how its answer may be coded.
    fn admit(&self, head: &Parts) -> Result<Wish, Problem> {
        self.measure(head)?;
        host::check(head, &self.options().hosts)?;
        check_coding(&head.headers)?;
        Wish::parse(&head.headers)
    }

    /// Runs the handler. A panic in it is an answer like any other, and ends nothing else.
    async fn handle(&self, call: Call, uri: &Uri, found: Option<Found<'_>>) -> Response<Body> {
        let ids = call.ids.clone();
        let answer = AssertUnwindSafe(Table::answer(call, found)).catch_unwind().await;
        let answer = answer.unwrap_or_else(|_| {
            self.0.traffic.panics.increment();
            Err(Problem::defect("a handler panicked"))
        });
        answer.unwrap_or_else(|problem| {
            if let Some(cause) = problem.cause() {
                let path = uri.path();
                self.log(&ids, || tracing::error!(path, cause, "a defect, or damage"));
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
