//! What is damaged, too large or wrongly summed up on one node, and what the others do about it.

use crate::replicate::{Island, SECRET, SOON, equal, name};
use bytes::Bytes;
use std::{ops::ControlFlow, sync::Arc, time::Duration};
use tokio::time;
use tombolo::{
    doc::Limits,
    ident::{Name, Version},
    node::{Error, Options, Secret},
    store::{Batch, Durability, Engine, MemoryEngine, Range, key::Family},
};

/// The rows of a family, behind the node's back.
fn rows(engine: &dyn Engine, family: Family, range: &Range) -> Vec<(Vec<u8>, Bytes)> {
    let mut rows = Vec::new();
    let visit = &mut |key: &[u8], value: &[u8]| {
        rows.push((key.to_vec(), Bytes::copy_from_slice(value)));
        ControlFlow::Continue(())
    };
    engine.scan(family, range, visit).unwrap();
    rows
}

/// Flips a bit in each of some chunks of a document.
fn damage(engine: &dyn Engine, name: &Name, which: &[usize]) {
    let chunks = rows(engine, Family::Chunk, &Range::prefix(&name.id().to_bytes()));
    let mut batch = Batch::default();
    for (key, value) in which.iter().map(|which| &chunks[*which]) {
        let mut value = value.to_vec();
        *value.last_mut().unwrap() ^= 1;
        batch.put(Family::Chunk, key.clone(), value.into());
    }
    engine.commit(batch, Durability::Sync).unwrap();
}

async fn soon(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let until = time::Instant::now() + SOON;
    while !is().await {
        assert!(time::Instant::now() < until, "{what}");
        time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_document_is_repaired_from_a_peer_and_keeps_what_is_whole() {
    let (engine, listen) = (Arc::new(MemoryEngine::new()), "127.0.0.1:0");
    let on = |engine: &Arc<MemoryEngine>| Arc::clone(engine) as Arc<dyn Engine>;
    let a = Island::on(on(&engine), listen, SECRET).await;
    let mut b = Island::new().await;
    let of = name("notes/a");
    for json in [r#"{"a":1}"#, r#"{"a":1,"b":2}"#, r#"{"a":1,"b":2,"c":3}"#] {
        a.put("notes/a", json).await;
    }
    a.put("notes/sound", "{}").await;
    b.join(vec![a.peer()]);
    equal(&[&a, &b], 2).await;
    a.stop().await;
    // Of the changes that both hold one is damaged; and one that A alone holds is whole, one is not.
    let apart = Island::on(on(&engine), listen, SECRET).await;
    apart.put("notes/a", r#"{"a":1,"b":2,"c":3,"whole":4}"#).await;
    apart.put("notes/a", r#"{"a":1,"b":2,"c":3,"whole":4,"lost":5}"#).await;
    let written = apart.all().await[&of].0.clone();
    apart.stop().await;
    damage(&*engine, &of, &[1, 4]);

    let mut a = Island::on(on(&engine), listen, SECRET).await;
    let read = a.node.changes_since(&of, Version::empty()).await;
    assert!(matches!(read, Err(Error::Damaged(_))), "{read:?}");
    a.join(vec![b.peer()]);
    equal(&[&a, &b], 2).await;
    soon("it left quarantine", async || a.figures().await.quarantined == 0).await;
    let (version, _, json) = a.all().await.remove(&of).unwrap();
    assert_eq!(json.as_deref(), Some(&br#"{"a":1,"b":2,"c":3,"whole":4}"#[..]));
    assert_ne!(version, written);
    // What nobody has any more is not thrown away.
    let kept = a.node.quarantine().await.unwrap();
    assert_eq!(kept.iter().map(|held| held.name.clone()).collect::<Vec<_>>(), [Some(of)]);
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_finds_what_sketches_do_not_know_of() {
    let engine = Arc::new(MemoryEngine::new());
    let elsewhere = Arc::new(MemoryEngine::new());
    let other = Island::on(Arc::clone(&elsewhere) as _, "127.0.0.1:0", SECRET).await;
    let options = || Options {
        secret: Secret(SECRET.to_vec()),
        audit_every: Duration::from_secs(2),
        ..Options::default()
    };
    let mut a = Island::with(options(), Arc::clone(&engine) as _, "127.0.0.1:0").await;
    let mut b = Island::with(options(), Arc::new(MemoryEngine::new()), "127.0.0.1:0").await;
    for island in [&a, &other] {
        island.put("notes/a", r#"{"known":true}"#).await;
    }
    other.put("notes/b", r#"{"known":false}"#).await;
    a.join(vec![b.peer()]);
    b.join(vec![a.peer()]);
    equal(&[&a, &b], 1).await;
    let in_sync = || a.node.peer_statuses()[0].in_sync == Some(true);
    soon("in sync", async || in_sync()).await;
    // A document comes into A's store past its committer, and so past its sketch.
    let mut batch = Batch::default();
    let id = name("notes/b").id().to_bytes();
    for family in [Family::Head, Family::Chunk] {
        for (key, value) in rows(&*elsewhere, family, &Range::prefix(&id)) {
            batch.put(family, key, value);
        }
    }
    engine.commit(batch, Durability::Sync).unwrap();
    soon("B has it", async || b.all().await.contains_key(&name("notes/b"))).await;
    let audits = |island: &Island| island.node.peer_statuses()[0].audits;
    assert!(0 < audits(&a) + audits(&b));
    soon("in sync again", async || in_sync()).await;
    for island in [a, b, other] {
        island.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_may_exceed_the_limit_and_is_marked_and_cannot_grow() {
    let options = || Options {
        secret: Secret(SECRET.to_vec()),
        limits: Limits { document_bytes_max: 10_000, ..Limits::default() },
        ..Options::default()
    };
    let mut a = Island::with(options(), Arc::new(MemoryEngine::new()), "127.0.0.1:0").await;
    let b = Island::with(options(), Arc::new(MemoryEngine::new()), "127.0.0.1:0").await;
    for (island, field) in [(&a, "a"), (&b, "b")] {
        let json = format!(r#"{{"{field}":"{}"}}"#, "x".repeat(6_000));
        island.put("notes/large", &json).await;
        assert_eq!(island.figures().await.oversize, 0);
    }
    a.join(vec![b.peer()]);
    equal(&[&a, &b], 1).await;
    for island in [&a, &b] {
        assert_eq!(island.figures().await.oversize, 1);
        let grown = island.try_patch("notes/large", r#"{"c":1}"#).await;
        assert!(matches!(grown, Err(Error::Refused(_))), "{grown:?}");
    }
    // What makes it smaller is taken, and goes to the other.
    a.try_patch("notes/large", r#"{"a":null}"#).await.unwrap();
    equal(&[&a, &b], 1).await;
    soon("small again", async || b.figures().await.oversize == 0).await;
    a.stop().await;
    b.stop().await;
}
