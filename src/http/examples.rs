//! The page under `/examples/`: tabs of a browser edit one document, each a stock client of this node.
//!
//! All that it needs is in the program, so that no request leaves for anywhere else, and the page's policy
//! says so to the browser. `tests/js/bundle.js` makes the packed files from npm's packages.

use super::{
    coding::Coding,
    compress,
    extract::Call,
    media,
    problem::{Code, Problem},
    reply::{self, Answer},
    version::{Validators, Verdict},
};
use crate::ident::Version;
use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Response, StatusCode, header},
};
use std::io::Cursor;
use tokio_util::io::ReaderStream;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const WASM: &str = "application/wasm";

/// Nothing from elsewhere, and nothing to elsewhere: the page talks to the node that it came from.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// One file of the page.
struct File {
    kind: &'static str,
    content: Content,
}

/// What a file holds.
enum Content {
    Plain(&'static [u8]),
    /// Packed by gzip.
    Packed(&'static [u8]),
}

const INDEX: File =
    File { kind: HTML, content: Content::Plain(include_bytes!("examples/index.html")) };
const STYLE: File =
    File { kind: CSS, content: Content::Plain(include_bytes!("examples/page.css")) };
const PAGE: File =
    File { kind: SCRIPT, content: Content::Plain(include_bytes!("examples/page.js")) };
const PACKAGES: File = File {
    kind: SCRIPT,
    content: Content::Packed(include_bytes!("examples/automerge-repo.js.gz")),
};
const MODULE: File =
    File { kind: WASM, content: Content::Packed(include_bytes!("examples/automerge.wasm.gz")) };

/// GET `/examples`: what the page names beside itself is found below its folder.
pub(crate) async fn folder(_call: Call) -> Answer {
    let mut answer = reply::empty(StatusCode::PERMANENT_REDIRECT);
    answer.headers_mut().insert(header::LOCATION, HeaderValue::from_static("/examples/"));
    Ok(answer)
}

/// GET `/examples/`.
pub(crate) async fn index(call: Call) -> Answer {
    serve(&call, &INDEX)
}

/// GET `/examples/page.css`.
pub(crate) async fn style(call: Call) -> Answer {
    serve(&call, &STYLE)
}

/// GET `/examples/page.js`.
pub(crate) async fn page(call: Call) -> Answer {
    serve(&call, &PAGE)
}

/// GET `/examples/automerge-repo.js`: npm's packages.
pub(crate) async fn packages(call: Call) -> Answer {
    serve(&call, &PACKAGES)
}

/// GET `/examples/automerge.wasm`: their code of WebAssembly.
pub(crate) async fn module(call: Call) -> Answer {
    serve(&call, &MODULE)
}

/// Queries change nothing: people put them behind pages.
fn serve(call: &Call, file: &File) -> Answer {
    let headers = &call.head.headers;
    media::choose(headers, &[file.kind.split(';').next().unwrap_or(file.kind)])?;
    let etag = file.etag();
    let mut answer = match Validators::parse(headers)?.judge(&Version::default(), &etag) {
        Verdict::NotModified(held) => {
            let mut answer = reply::empty(StatusCode::NOT_MODIFIED);
            answer.headers_mut().insert(header::ETAG, held);
            answer
        }
        Verdict::Failed => {
            return Err(Problem::new(Code::PreconditionFailed, "the file is another"));
        }
        Verdict::Send => file.answer(headers, etag)?,
    };
    let fields = answer.headers_mut();
    fields.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    // It comes with the program: whoever has it asks whether it is still the same.
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(answer)
}

impl File {
    fn etag(&self) -> HeaderValue {
        let (Content::Plain(bytes) | Content::Packed(bytes)) = self.content;
        reply::value(format!("\"{}-{:08x}\"", env!("CARGO_PKG_VERSION"), crc32fast::hash(bytes)))
    }

    /// Packed files go out as they are to whoever takes them so, which all browsers do.
    fn answer(&self, headers: &HeaderMap, etag: HeaderValue) -> Result<Response<Body>, Problem> {
        let (body, coding) = match self.content {
            Content::Plain(bytes) => (Body::from(bytes), None),
            Content::Packed(bytes) if Coding::Gzip.is_taken(headers) => {
                (Body::from(bytes), Some(Coding::Gzip))
            }
            Content::Packed(bytes) => {
                let plain = Coding::Gzip.decode(Cursor::new(bytes));
                (Body::from_stream(ReaderStream::new(plain)), None)
            }
        };
        let mut answer = reply::raw(StatusCode::OK, self.kind, body);
        answer.headers_mut().insert(header::ETAG, etag);
        if let Some(coding) = coding {
            compress::describe(answer.headers_mut(), coding);
        }
        Ok(answer)
    }
}
