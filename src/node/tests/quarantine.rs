//! Changes on which Automerge broke: kept aside, and tried once more.

use crate::{
    doc::{Actor, Document, Edit, Form, Limits, Stamp, parse},
    ident::Name,
    node::{Error, Node, Options, Released, What},
    store::MemoryEngine,
};
use bytes::Bytes;
use std::sync::Arc;

fn name() -> Name {
    Name::new("notes".parse().unwrap(), "a".parse().unwrap()).unwrap()
}

fn saved() -> Bytes {
    let mut document = Document::new(Actor([7; 16]));
    let value = parse(br#"{"a":1}"#, Form::Plain, &Limits::default()).unwrap();
    document.edit(&Edit::Put(value), None, &Stamp::default(), &Limits::default()).unwrap();
    document.save().into()
}

#[tokio::test]
async fn changes_that_broke_something_are_kept_and_taken_if_they_do_not_any_more() {
    let engine = Arc::new(MemoryEngine::new());
    let node = Node::start(Options::default(), Arc::clone(&engine) as _).unwrap();
    node.set_aside(&name(), saved(), "it panicked".into()).await;
    node.set_aside(&name(), Bytes::from_static(b"nonsense"), "it panicked".into()).await;
    node.stop().await;

    let node = Node::start(Options::default(), engine).unwrap();
    let all = node.quarantine().await.unwrap();
    assert_eq!(all.len(), 2);
    for held in &all {
        assert_eq!(
            (held.what, &held.name, &*held.why),
            (What::Changes, &Some(name()), "it panicked")
        );
        assert!(1_700_000_000 < held.time_seconds);
        let (_, bytes) = node.quarantined(held.id).await.unwrap().unwrap();
        let released = node.release(held.id).await;
        if bytes.concat() == saved() {
            let Ok(Some(Released { name: of, version, lost: 0 })) = released else {
                panic!("{released:?}")
            };
            assert_eq!(of, name());
            assert_eq!(node.read(&name()).await.unwrap().version, version);
            assert_eq!(node.release(held.id).await, Ok(None), "it is out");
        } else {
            assert!(matches!(released, Err(Error::Refused(_))), "{released:?}");
            let left = node.quarantine().await.unwrap();
            assert!(left.iter().any(|left| left.id == held.id), "it stays");
            assert_eq!(node.forget(held.id).await, Ok(true));
            assert_eq!(node.forget(held.id).await, Ok(false));
        }
        if node.quarantine().await.unwrap().is_empty() {
            assert_eq!(node.figures().await.quarantined_changes, 0);
            return;
        }
    }
    panic!("{:?}", node.quarantine().await);
}
