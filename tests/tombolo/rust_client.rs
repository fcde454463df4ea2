//! A client in Rust: samod, as it is, keeps documents together with a node.

use crate::process::Process;
use automerge::{Automerge, ROOT, ReadDoc, Value, transaction::Transactable};
use futures_util::{FutureExt, SinkExt, StreamExt, future::BoxFuture};
use samod::{BackoffConfig, DialError, Dialer, DocHandle, Repo, Transport};
use std::{convert::Infallible, future::ready, net::SocketAddr, sync::Arc, time::Duration};
use tokio::time;
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Error, Message},
};
use url::Url;

/// Longest wait for what comes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Connects to a node.
struct ToNode(SocketAddr);

impl Dialer for ToNode {
    type Error = Infallible;

    fn url(&self) -> Url {
        Url::parse(&format!("ws://{}/v1/_sync", self.0)).unwrap()
    }

    fn connect(&self) -> BoxFuture<'static, Result<Transport, DialError<Infallible>>> {
        let url = self.url();
        async move {
            let connected = connect_async(url.as_str()).await;
            let (socket, _) = connected.map_err(DialError::transient)?;
            let (sink, stream) = socket.split();
            let bytes = stream.filter_map(|message| {
                ready(match message {
                    Ok(Message::Binary(bytes)) => Some(Ok(bytes.to_vec())),
                    Ok(_) => None,
                    Err(error) => Some(Err(error)),
                })
            });
            let sink = sink.with(|bytes: Vec<u8>| ready(Ok::<_, Error>(Message::binary(bytes))));
            Ok(Transport::new(bytes, sink))
        }
        .boxed()
    }
}

/// A repository that talks to a node.
async fn repository(address: SocketAddr) -> Repo {
    let repository = Repo::build_tokio().load().await;
    let dialer = repository.dial(BackoffConfig::default(), Arc::new(ToNode(address))).unwrap();
    time::timeout(PATIENCE, dialer.established()).await.unwrap().unwrap();
    repository
}

fn number(handle: &DocHandle, key: &str) -> Option<i64> {
    handle.with_document(|document| match document.get(ROOT, key).unwrap()? {
        (Value::Scalar(value), _) => value.as_i64(),
        _ => None,
    })
}

/// Waits until something holds.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            time::sleep(Duration::from_millis(20)).await;
        }
    };
    time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn samod_keeps_documents_together_with_a_node() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(&folder.path().join("data"));
    let author = repository(process.address).await;
    let mut content = Automerge::new();
    content.transact::<_, _, automerge::AutomergeError>(|tx| tx.put(ROOT, "n", 1)).unwrap();
    let handle = author.create(content).await.unwrap();
    let path = format!("/v1/automerge/{}", handle.document_id());
    let read = || {
        let answer = process.client().send("GET", &path, &[], b"").unwrap();
        String::from_utf8(answer.body).unwrap()
    };
    until("what samod made is read by REST", || read() == r#"{"n":1}"#).await;

    let reader = repository(process.address).await;
    let found = reader.find(handle.document_id().clone());
    let found = time::timeout(PATIENCE, found).await.unwrap().unwrap().expect("it is not found");
    assert_eq!(number(&found, "n"), Some(1));
    found.with_document(|document| {
        document.transact::<_, _, automerge::AutomergeError>(|tx| tx.put(ROOT, "m", 2)).unwrap();
    });
    until("what one samod writes another gets", || number(&handle, "m") == Some(2)).await;

    let patch = br#"{"k":3}"#;
    let fields = [("content-type", "application/merge-patch+json")];
    assert_eq!(process.client().send("PATCH", &path, &fields, patch).unwrap().status, 200);
    for handle in [&handle, &found] {
        until("what REST writes both get", || number(handle, "k") == Some(3)).await;
    }
    assert_eq!(read(), r#"{"k":3,"m":2,"n":1}"#);

    let nowhere = "4NMNnkMhL8jXrdJ9jamS58PAVdXu".parse().unwrap();
    let nothing = time::timeout(PATIENCE, reader.find(nowhere)).await.unwrap().unwrap();
    assert!(nothing.is_none(), "what is nowhere is told at once");
    time::timeout(PATIENCE, author.stop()).await.unwrap();
    time::timeout(PATIENCE, reader.stop()).await.unwrap();
}
