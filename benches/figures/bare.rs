//! The floor of all requests: an axum handler behind our accept loop that does what any JSON server
//! has to do. It gives documents from memory, parses what it gets, and answers like the node, in as
//! many bytes and fields.

use super::order::Orders;
use axum::{
    Router,
    body::{Body, Bytes},
    extract::Path,
    http::{HeaderName, HeaderValue, Request, StatusCode, header},
    response::Response,
    routing::get,
};
use hyper::service::service_fn;
use serde_json::{Value, json};
use std::{convert::Infallible, future::pending, sync::Arc};
use tokio::{net::TcpListener, runtime::Builder};
use tombolo::http::{self, Connections, Traffic};
use tower::ServiceExt as _;

/// How many documents there are to read.
pub(crate) const DOCUMENTS: u64 = 2_000;

const HASH: &str = "3b9f1c07a4e2d856b1f03c97e8a24d650f7b3c1e9d8a4625b70e1f3c9a8d4e26";
const VERSION: HeaderName = HeaderName::from_static("version");
const CONFLICTS: HeaderName = HeaderName::from_static("tombolo-conflicts");
const DOCUMENT: HeaderName = HeaderName::from_static("tombolo-document");
const DURABILITY: HeaderName = HeaderName::from_static("tombolo-durability");
const NAME: &str = "automerge:3wX8vVYqdZGdBRZoRQhLkJ2kuS4v";

/// Serves until the process is killed.
pub(crate) fn run() {
    let runtime = Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        eprintln!("listening on http://{}", listener.local_addr().unwrap());
        let router = router();
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            let router = router.clone();
            async move { Ok::<_, Infallible>(router.oneshot(request.map(Body::new)).await.unwrap()) }
        });
        let traffic = Arc::new(Traffic::default());
        http::serve(listener, service, Connections::default(), traffic, pending()).await;
    });
}

fn router() -> Router {
    let documents: Arc<[Bytes]> = Orders::first(DOCUMENTS).into_iter().map(Bytes::from).collect();
    let read = move |Path((_, key)): Path<(String, String)>| {
        let number = key.trim_start_matches(|letter: char| !letter.is_ascii_digit());
        let number: usize = number.parse().unwrap();
        let document = documents[number % documents.len()].clone();
        async move { describe(StatusCode::OK, document) }
    };
    let put = |Path(name), body| async move { write(StatusCode::CREATED, &name, &body) };
    let patch = |Path(name), body| async move { write(StatusCode::OK, &name, &body) };
    Router::new().route("/v1/{collection}/{key}", get(read).put(put).patch(patch))
}

fn write(status: StatusCode, name: &(String, String), body: &Bytes) -> Response<Body> {
    let value: Value = serde_json::from_slice(body).unwrap();
    let summary = json!({
        "collection": name.0, "key": name.1, "document": NAME, "version": [HASH],
        "merged": false, "unchanged": value.is_null(), "deleted": false,
    });
    let mut response = describe(status, serde_json::to_vec(&summary).unwrap().into());
    response.headers_mut().insert(DURABILITY, HeaderValue::from_static("none"));
    response
}

fn describe(status: StatusCode, body: Bytes) -> Response<Body> {
    let quoted = || HeaderValue::try_from(format!("\"{HASH}\"")).unwrap();
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "application/json")
        .header(VERSION, quoted())
        .header(CONFLICTS, 0)
        .header(DOCUMENT, NAME)
        .header(header::ETAG, quoted())
        .body(Body::from(body))
        .unwrap()
}
