//! samod as a sync server: one repository on files, behind axum's WebSockets and our accept loop.

use axum::{
    Router,
    body::Body,
    extract::{
        WebSocketUpgrade,
        ws::{Message, WebSocket},
    },
    http::Request,
    routing::get,
};
use futures_util::{SinkExt, StreamExt};
use hyper::service::service_fn;
use samod::{AcceptorHandle, Repo, ShareConfig, Transport, storage::TokioFilesystemStorage};
use std::{
    convert::Infallible,
    future::{pending, ready},
    path::Path,
    sync::Arc,
};
use tokio::{net::TcpListener, runtime::Builder};
use tombolo::http::{self, Connections, Traffic};
use tower::ServiceExt as _;

/// Serves until the process is killed.
pub(crate) fn run(data: &Path) {
    let runtime = Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        // As the sync server of npm, it tells no client of documents that the client did not ask for.
        let repository = Repo::build_tokio()
            .with_storage(TokioFilesystemStorage::new(data))
            .with_share_policy(ShareConfig::read_write().with_announce(false))
            .load()
            .await;
        let acceptor = repository.make_acceptor(format!("ws://{address}").parse().unwrap());
        let acceptor = acceptor.unwrap();
        eprintln!("listening on http://{address}");
        let upgrade = move |upgrade: WebSocketUpgrade| {
            let acceptor = acceptor.clone();
            async move { upgrade.on_upgrade(async move |socket| accept(&acceptor, socket)) }
        };
        let router: Router = Router::new().route("/v1/_sync", get(upgrade));
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            let router = router.clone();
            async move { Ok::<_, Infallible>(router.oneshot(request.map(Body::new)).await.unwrap()) }
        });
        let traffic = Arc::new(Traffic::default());
        http::serve(listener, service, Connections::default(), traffic, pending()).await;
    });
}

/// What samod's own feature for axum does.
fn accept(acceptor: &AcceptorHandle, socket: WebSocket) {
    let (sink, stream) = socket.split();
    let frames = stream.filter_map(|message| {
        ready(match message {
            Ok(Message::Binary(frame)) => Some(Ok(frame.to_vec())),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        })
    });
    let sink =
        sink.with(|frame: Vec<u8>| ready(Ok::<_, axum::Error>(Message::Binary(frame.into()))));
    acceptor.accept(Transport::new(frames, sink)).unwrap();
}
