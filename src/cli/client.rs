//! A small HTTP client for the commands that talk to a node.

use super::{
    args::{Document, Remote},
    failure::Failure,
    output,
};
use anyhow::Context;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode, Uri,
    body::{Frame, Incoming},
    header::{AUTHORIZATION, HeaderValue},
};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::Deserialize;
use std::{convert::Infallible, fmt::Write as _, time::Duration};
use tokio::{sync::mpsc, time::timeout};

/// Longest wait for a connection.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Most of an answer that is read at once, which is more than a node gives unless its limits are raised.
const ANSWER_BYTES_MAX: usize = 512 << 20;
/// Most of a refusal that is read.
const PROBLEM_BYTES_MAX: usize = 64 << 10;

/// Talks to one node.
#[derive(Debug)]
pub(crate) struct Client {
    http: legacy::Client<HttpConnector, Body>,
    /// Scheme, authority and path without the last slash.
    base: String,
    token: Option<HeaderValue>,
    /// Longest wait for an answer to begin, and for each next piece of it.
    answer_time: Duration,
    verbose: bool,
}

/// What a request carries.
type Body = UnsyncBoxBody<Bytes, Infallible>;

fn whole(body: Bytes) -> Body {
    Full::new(body).boxed_unsync()
}

/// A request in the making.
#[derive(Debug)]
pub(crate) struct Call {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Body,
}

impl Call {
    /// A request of a route.
    pub(crate) fn new(method: Method, path: impl Into<String>) -> Self {
        let body = whole(Bytes::new());
        Self { method, path: path.into(), headers: HeaderMap::new(), body }
    }

    /// A request of a document.
    pub(crate) fn document(method: Method, document: &Document) -> Self {
        let key = encode(document.key.as_str());
        Self::new(method, format!("/v1/{}/{key}", document.collection))
    }

    /// A request of what is below a document.
    pub(crate) fn below(method: Method, document: &Document, what: &str) -> Self {
        let call = Self::document(method, document);
        Self { path: format!("{}/{what}", call.path), ..call }
    }

    /// Adds a parameter to the query.
    pub(crate) fn query(mut self, name: &str, value: &str) -> Self {
        let separator = if self.path.contains('?') { '&' } else { '?' };
        // Writing to a String does not fail.
        let _ = write!(self.path, "{separator}{name}={}", encode(value));
        self
    }

    /// Adds a header field.
    pub(crate) fn header(mut self, name: &'static str, value: &str) -> anyhow::Result<Self> {
        let value = HeaderValue::from_str(value).with_context(|| format!("{name}: {value:?}"))?;
        self.headers.append(name, value);
        Ok(self)
    }

    /// Sets the body.
    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = whole(body.into());
        self
    }

    /// Sets a body that is made while it goes; it ends when its sender does.
    pub(crate) fn pieces(mut self, pieces: mpsc::Receiver<Bytes>) -> Self {
        let next = |mut pieces: mpsc::Receiver<Bytes>| async {
            let piece = pieces.recv().await?;
            Some((Ok(Frame::data(piece)), pieces))
        };
        // Boxed: what the client takes is not pinned.
        self.body = StreamBody::new(stream::unfold(pieces, next).boxed()).boxed_unsync();
        self
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Client {
    /// A client for the node at a URL.
    pub(crate) fn new(remote: &Remote, verbose: bool) -> Result<Self, Failure> {
        let refused = |why: &str| Failure::Usage(format!("--url {}: {why}", remote.url));
        let uri: Uri = remote.url.parse().map_err(|_| refused("is no URL"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(refused("this build speaks no TLS")),
            _ => return Err(refused("begins with http://")),
        }
        if uri.query().is_some() {
            return Err(refused("has a query"));
        }
        let token = remote.token.as_ref().map(|token| {
            let mut value = HeaderValue::try_from(format!("Bearer {token}"))
                .map_err(|_| Failure::Usage("--token holds what no header field may".into()))?;
            value.set_sensitive(true);
            Ok(value)
        });
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIME));
        connector.set_nodelay(true);
        let http = legacy::Client::builder(TokioExecutor::new()).build(connector);
        let base = remote.url.trim_end_matches('/').to_owned();
        Ok(Self { http, base, token: token.transpose()?, answer_time: remote.timeout, verbose })
    }

    /// Sends a request and reads the whole answer; a refusal is an error.
    pub(crate) async fn call(&self, call: Call) -> anyhow::Result<Reply> {
        let (head, mut body) = self.open(call).await?.into_parts();
        let mut bytes = BytesMut::new();
        while let Some(piece) = self.next(&mut body).await? {
            if ANSWER_BYTES_MAX < bytes.len() + piece.len() {
                return Err(self.unreachable("sends more than 512 MiB").into());
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(Reply { status: head.status, headers: head.headers, body: bytes.freeze() })
    }

    /// Sends a request and gives the answer with its body unread; a refusal is an error.
    pub(crate) async fn open(&self, call: Call) -> anyhow::Result<Response<Incoming>> {
        let request = self.request(call)?;
        if self.verbose {
            output::talk(&format!("{} {}", request.method(), request.uri()));
        }
        let response = self.send(request).await?;
        if self.verbose {
            output::talk(&response.status().to_string());
        }
        if response.status().is_success() {
            Ok(response)
        } else {
            Err(self.refusal(response).await.into())
        }
    }

    /// The next piece of an answer; `None` at its end.
    pub(crate) async fn next(&self, body: &mut Incoming) -> Result<Option<Bytes>, Failure> {
        match timeout(self.answer_time, body.frame()).await {
            Ok(None) => Ok(None),
            // Trailers are an empty piece.
            Ok(Some(Ok(frame))) => Ok(Some(frame.into_data().unwrap_or_default())),
            Ok(Some(Err(_))) => Err(self.unreachable("broke off in the middle of its answer")),
            Err(_) => Err(self.late("sent no more of its answer")),
        }
    }

    fn request(&self, call: Call) -> anyhow::Result<Request<Body>> {
        let Call { method, path, headers, body } = call;
        let url = format!("{}{path}", self.base);
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = url.parse().with_context(|| format!("{url} is no URL"))?;
        *request.headers_mut() = headers;
        if let Some(token) = &self.token {
            request.headers_mut().insert(AUTHORIZATION, token.clone());
        }
        Ok(request)
    }

    async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, Failure> {
        match timeout(self.answer_time, self.http.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => {
                let what = if error.is_connect() { "cannot be reached" } else { "broke off" };
                Err(self.unreachable(&format!("{what}: {}", root(&error))))
            }
            Err(_) => Err(self.late("did not answer")),
        }
    }

    /// Longest wait for an answer to begin, and to go on.
    pub(crate) fn answer_time(&self) -> Duration {
        self.answer_time
    }

    /// A node that let the time pass. What was asked of it may have been done all the same.
    pub(crate) fn late(&self, what: &str) -> Failure {
        self.unreachable(&format!("{what} for {} s (--timeout)", self.answer_time.as_secs_f64()))
    }

    pub(crate) fn unreachable(&self, what: &str) -> Failure {
        Failure::Unreachable(format!("{} {what}", self.base))
    }

    async fn refusal(&self, response: Response<Incoming>) -> Failure {
        let (status, mut body) = (response.status(), response.into_body());
        let mut bytes = BytesMut::new();
        // Where the explanation breaks off, the status still says what happened.
        while let Ok(Some(piece)) = self.next(&mut body).await
            && bytes.len() < PROBLEM_BYTES_MAX
        {
            bytes.extend_from_slice(&piece);
        }
        let problem: Option<Problem> = serde_json::from_slice(&bytes).ok();
        let unexplained = || format!("{} answers {status}", self.base);
        let text = problem.map_or_else(unexplained, Problem::into_text);
        match status.as_u16() {
            // 432: no such version.
            404 | 432 => Failure::NotFound(text),
            412 => Failure::Precondition(text),
            _ => Failure::Refused(text),
        }
    }
}

/// A refusal as the node writes it.
#[derive(Debug, Deserialize)]
pub(crate) struct Problem {
    pub(crate) code: String,
    detail: String,
    #[serde(default)]
    errors: Vec<Place>,
}

#[derive(Debug, Deserialize)]
struct Place {
    pointer: String,
}

impl Problem {
    /// In words.
    pub(crate) fn into_text(self) -> String {
        let mut text = format!("{}: {}", self.code, self.detail);
        for place in self.errors {
            let _ = write!(text, " (at {:?})", place.pointer);
        }
        text
    }
}

/// The cause that says most.
fn root(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// The text that [`encode`] was given; `%` before two digits is a byte, and else stands for itself.
pub(crate) fn decode(encoded: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.as_bytes();
    while let [first, behind @ ..] = rest {
        let digits = behind.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let digits = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = behind.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

/// Text as one segment of a path, or one value of a query.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => {
                // Writing to a String does not fail.
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(url: &str) -> Remote {
        Remote { url: url.into(), token: None, timeout: CONNECT_TIME }
    }

    #[test]
    fn keys_are_encoded_whole() {
        let document =
            Document { collection: "notes".parse().unwrap(), key: "a/b c+é?".parse().unwrap() };
        let call = Call::document(Method::GET, &document).query("at", "x.y").query("b", "&");
        assert_eq!(call.path, "/v1/notes/a%2Fb%20c%2B%C3%A9%3F?at=x.y&b=%26");
    }

    #[test]
    fn a_url_is_http_and_may_have_a_path() {
        for (url, valid) in [
            ("http://127.0.0.1:7420", true),
            ("http://host/prefix/", true),
            ("https://host", false),
            ("host:7420", false),
            ("http://host/?a", false),
            ("", false),
        ] {
            assert_eq!(Client::new(&remote(url), false).is_ok(), valid, "{url}");
        }
    }

    #[test]
    fn a_token_is_not_shown() {
        let remote = Remote { token: Some("secret".into()), ..remote("http://x") };
        let client = Client::new(&remote, false).unwrap();
        assert!(!format!("{client:?}").contains("secret"));
    }
}
