//! One request, one answer, over connections that are kept.

use super::{
    Error, Wire,
    coding::{self, CODING},
};
use crate::sync::{Envelope, MemberKey, Refused};
use bytes::Bytes;
use http_body_util::{BodyExt, Collected, Full, LengthLimitError, Limited};
use hyper::{Request, Response, StatusCode, Uri, body::Incoming, header, http::uri::Authority};
use hyper_util::{
    client::legacy::{
        self,
        connect::{Connect, HttpConnector},
    },
    rt::{TokioExecutor, TokioTimer},
};
use std::{fmt, pin::Pin, str::FromStr, sync::Arc, time::Duration};
use tokio::time;

/// The header field of a request's envelope.
pub const ENVELOPE: &str = "tombolo-peer";
/// The header field of an answer's seal: 64 hex digits.
pub const SEAL: &str = "tombolo-peer-seal";
/// Most bytes of an answer.
pub const ANSWER_BYTES_MAX: usize = 80 << 20;
/// Most bytes that are read of an answer that is none.
const DETAIL_BYTES_MAX: usize = 4 << 10;
/// Characters of it that are shown.
const DETAIL_SHOWN_MAX: usize = 200;
/// Longest wait for a connection.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// How long a connection is kept that nobody uses.
const IDLE_TIME: Duration = Duration::from_secs(30);
/// The media type of messages.
pub const MESSAGE: &str = "application/vnd.tombolo";

/// Longest host and port: a name of DNS has at most 253 bytes.
const AUTHORITY_BYTES_MAX: usize = 260;

/// Where a node listens: `http://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url(String);

/// Not the address of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a peer is `http://HOST:PORT`, without a path")]
pub struct UrlError;

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let uri: Uri = text.parse().map_err(|_| UrlError)?;
        let plain = uri.path() == "/" && uri.query().is_none();
        let authority = uri.authority().filter(|authority| names_a_host(authority));
        match (uri.scheme_str(), authority) {
            (Some("http"), Some(authority)) if plain => {
                let authority = authority.as_str().to_ascii_lowercase();
                Ok(Self(format!("http://{authority}")))
            }
            _ => Err(UrlError),
        }
    }
}

/// Whether it is a host, and no user, and a port if any is one.
fn names_a_host(authority: &Authority) -> bool {
    let (text, host) = (authority.as_str(), authority.host());
    let port = text.strip_prefix(host).unwrap_or("@");
    let fine = port.strip_prefix(':').is_some_and(|port| {
        port.bytes().all(|byte| byte.is_ascii_digit())
            && port.parse().is_ok_and(|port: u16| port != 0)
    });
    text.len() <= AUTHORITY_BYTES_MAX && !host.is_empty() && (port.is_empty() || fine)
}

impl fmt::Display for Url {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl Url {
    /// The host and port.
    pub fn authority(&self) -> &str {
        self.0.trim_start_matches("http://")
    }

    /// The host, without its port.
    pub fn host(&self) -> &str {
        let authority = self.authority();
        match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => host,
            _ => authority,
        }
    }
}

type Posted<'a> =
    Pin<Box<dyn Future<Output = Result<(Bytes, Option<[u8; 32]>), Error>> + Send + 'a>>;

/// How bytes are carried to a node and back: an answer, and its seal.
pub trait Post: Send + Sync {
    /// Posts a body to a path of a node.
    fn post<'a>(
        &'a self,
        to: (&'a Url, &'a Wire),
        path: &'static str,
        envelope: String,
        body: Bytes,
    ) -> Posted<'a>;
}

/// The client; clones share its connections.
#[derive(Clone)]
pub struct Client(Arc<dyn Post>);

impl fmt::Debug for Client {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Client")
    }
}

struct Http<C>(legacy::Client<C, Full<Bytes>>);

impl Client {
    /// Over TCP.
    pub fn tcp() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIME));
        Self::new(connector)
    }

    /// Over whatever a connector gives.
    pub fn new<C: Connect + Clone + Send + Sync + 'static>(connector: C) -> Self {
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIME)
            .build(connector);
        Self(Arc::new(Http(client)))
    }

    /// Asks a node, and gives what it answers. The envelope is sealed here, over the body as it is
    /// before it is coded.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn ask(
        &self,
        to: (&Url, &Wire),
        path: &'static str,
        (key, envelope): (&MemberKey, Envelope),
        body: Vec<u8>,
        within: Duration,
    ) -> Result<Bytes, Error> {
        let envelope = key.seal(envelope, path, &body);
        let asked = self.0.post(to, path, envelope.to_string(), body.into());
        let (answer, seal) = time::timeout(within, asked).await.map_err(|_| Error::Timeout)??;
        if !seal.is_some_and(|seal| key.has_sealed_answer(&envelope, &answer, seal)) {
            return Err(Error::Unsealed);
        }
        match Refused::decode(&answer) {
            Some(refused) => Err(Error::Refused(refused)),
            None => Ok(answer),
        }
    }
}

impl<C: Connect + Clone + Send + Sync + 'static> Post for Http<C> {
    fn post<'a>(
        &'a self,
        (url, wire): (&'a Url, &'a Wire),
        path: &'static str,
        envelope: String,
        body: Bytes,
    ) -> Posted<'a> {
        Box::pin(async move {
            let mut request = Request::post(format!("{url}{path}"))
                .header(header::CONTENT_TYPE, MESSAGE)
                .header(header::ACCEPT_ENCODING, CODING)
                .header(ENVELOPE, envelope);
            let coded = coding::encode(&body).await;
            if coded.is_some() {
                request = request.header(header::CONTENT_ENCODING, CODING);
            }
            let body = coded.map_or(body, Bytes::from);
            wire.asked(path, body.len());
            let request = request.body(Full::new(body)).map_err(|error| unreachable(&error))?;
            let answer = self.0.request(request).await.map_err(|error| unreachable(&error))?;
            let seal = answer.headers().get(SEAL).and_then(|seal| seal.to_str().ok());
            let seal = seal.and_then(|seal| blake3::Hash::from_hex(seal).ok());
            let body = read(answer, wire, path).await?;
            Ok((body, seal.map(|seal| *seal.as_bytes())))
        })
    }
}

/// The body of an answer, decoded.
async fn read(answer: Response<Incoming>, wire: &Wire, path: &'static str) -> Result<Bytes, Error> {
    let (head, body) = answer.into_parts();
    let fine = head.status == StatusCode::OK;
    let most = if fine { ANSWER_BYTES_MAX } else { DETAIL_BYTES_MAX };
    let body = Limited::new(body, most).collect().await.map(Collected::to_bytes);
    let body = body.map_err(|error| match error.is::<LengthLimitError>() {
        true => Error::TooLarge,
        false => unreachable(&*error),
    });
    wire.answered(path, body.as_ref().map_or(0, Bytes::len));
    let coded = head.headers.get(header::CONTENT_ENCODING);
    let body = match (body, coded.map(|coding| coding.as_bytes() == CODING.as_bytes())) {
        (Ok(body), Some(true)) => coding::decode(&body, most).await,
        (Ok(_), Some(false)) => Err(Error::Coding("it is in none that was asked for".to_owned())),
        (body, _) => body,
    };
    if fine {
        return body;
    }
    let detail = detail(&body.unwrap_or_default());
    Err(Error::Status { status: head.status.as_u16(), detail })
}

/// What a refusal says: the detail of a problem (RFC 9457), or how whatever else it is begins.
fn detail(body: &[u8]) -> String {
    let problem: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let told = problem.as_ref().and_then(|problem| problem["detail"].as_str());
    let text = told.map_or_else(|| String::from_utf8_lossy(body), Into::into);
    let shown: String = text.chars().take(DETAIL_SHOWN_MAX).collect();
    let more = if shown.len() < text.len() { "…" } else { "" };
    format!("{}{more}", shown.escape_debug())
}

fn unreachable(error: &dyn std::error::Error) -> Error {
    Error::Unreachable(whole(error))
}

/// An error with all its causes.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_by_its_detail_or_by_how_it_begins() {
        let problem = br#"{"code":"forbidden","detail":"no \u001b[2J secret"}"#;
        assert_eq!(detail(problem), "no \\u{1b}[2J secret");
        assert_eq!(detail(b"<html>\n\xff"), "<html>\\n\u{fffd}");
        assert_eq!(detail("\u{fc}".repeat(200).as_bytes()), "\u{fc}".repeat(200));
        let cut = detail("x".repeat(1000).as_bytes());
        assert_eq!(cut, "x".repeat(200) + "…");
        assert_eq!(detail(b""), "");
    }

    #[test]
    fn a_peer_is_a_host_and_a_port() {
        for (text, fine) in [
            ("http://127.0.0.1:7420", Some(("127.0.0.1:7420", "127.0.0.1"))),
            ("http://[::1]:7420/", Some(("[::1]:7420", "[::1]"))),
            ("http://b", Some(("b", "b"))),
            ("HTTP://LocalHost:1", Some(("localhost:1", "localhost"))),
            ("https://b", None),
            ("http://a@b", None),
            ("http://@b", None),
            ("http://:80", None),
            ("http://b:", None),
            ("http://b:0", None),
            ("http://b:+1", None),
            ("http://b:65536", None),
            (&format!("http://{}", "b".repeat(261)), None),
            ("http://b/path", None),
            ("http://b?query", None),
            ("b:7420", None),
            ("", None),
        ] {
            let url = text.parse::<Url>().ok();
            assert_eq!(url.as_ref().map(|url| (url.authority(), url.host())), fine, "{text}");
        }
    }
}
