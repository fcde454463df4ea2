//! Documents of which a peer lacks more than goes in one message: it goes over in parts, whoever asks.

use crate::replicate::{Island, SECRET, SOON, equal, name};
use std::sync::Arc;
use tombolo::{
    doc::{self, Edit, Form, Limits},
    node::{Options, Secret},
    store::MemoryEngine,
};

/// Of about four changes.
const PARCEL_BYTES: usize = 4 << 10;
const CHANGES: usize = 30;

async fn island() -> Island {
    let options = Options {
        parcel_bytes_max: PARCEL_BYTES,
        secret: Secret(SECRET.to_vec()),
        ..Options::default()
    };
    Island::with(options, Arc::new(MemoryEngine::new()), "127.0.0.1:0").await
}

/// Edits one document again and again, each time by a change of about a kilobyte.
async fn edit(island: &Island, of: &str, member: &str) {
    for number in 0..CHANGES {
        let text = format!("{number:01000}");
        let patch = format!(r#"{{"{member}":"{text}","{member}s":{number}}}"#);
        let patch = doc::parse(patch.as_bytes(), Form::Plain, &Limits::default()).unwrap();
        island.write(of, Edit::MergePatch(patch)).await;
    }
}

async fn stop(islands: [Island; 2]) {
    for island in islands {
        island.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_pushed_in_parts() {
    let (mut a, b) = (island().await, island().await);
    edit(&a, "notes/heavy", "a").await;
    a.put("notes/light", "{}").await;
    a.join(vec![b.peer()]);
    equal(&[&a, &b], 2).await;
    let parts = a.node.peer_statuses()[0].messages["push"].requests;
    assert!(CHANGES as u64 / 5 < parts, "{parts} messages");
    assert_eq!(a.node.replicated(&name("notes/heavy"), 1, SOON).await, Ok(1));
    // What is written next goes over as ever.
    a.put("notes/heavy", r#"{"a":0}"#).await;
    assert_eq!(a.node.replicated(&name("notes/heavy"), 1, SOON).await, Ok(1));
    equal(&[&a, &b], 2).await;
    stop([a, b]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_pulled_in_parts() {
    let (a, mut b) = (island().await, island().await);
    edit(&a, "notes/heavy", "a").await;
    a.put("notes/light", "{}").await;
    b.join(vec![a.peer()]);
    equal(&[&a, &b], 2).await;
    let parts = b.node.peer_statuses()[0].messages["docs"].requests;
    assert!(CHANGES as u64 / 5 < parts, "{parts} messages");
    stop([a, b]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_both_lack_is_given_and_given_back_in_parts() {
    let (mut a, b) = (island().await, island().await);
    edit(&a, "notes/heavy", "a").await;
    edit(&b, "notes/heavy", "b").await;
    a.join(vec![b.peer()]);
    // Neither was told the other's feed from its beginning: a round finds what differs.
    equal(&[&a, &b], 1).await;
    let status = &a.node.peer_statuses()[0];
    let parts = ["docs", "push"].map(|what| status.messages[what].requests);
    assert!(parts.iter().all(|parts| CHANGES as u64 / 5 < *parts), "{parts:?} messages");
    stop([a, b]).await;
}
