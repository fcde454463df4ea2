//! Clocks that are wrong: nothing depends on them but what people are shown.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tombolo::{
    doc::{Edit, parse},
    ident::{Collection, Name},
    node::{Ambient, Node, Options, Precondition, Source, Write},
    store::MemoryEngine,
};

/// A clock that stands, and chance that counts.
#[derive(Debug)]
struct Stopped {
    unix_ms: u64,
    count: AtomicU64,
}

impl Source for Stopped {
    fn unix_ms(&self) -> u64 {
        self.unix_ms
    }

    fn chance(&self) -> [u8; 16] {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + self.unix_ms;
        u128::from(count + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes()
    }
}

#[tokio::test]
async fn documents_are_written_and_read_whatever_the_clock_says() {
    let engine = Arc::new(MemoryEngine::new());
    let collection: Collection = "notes".parse().unwrap();
    let limits = tombolo::doc::Limits::default();
    // 2096, 1970 and 2001, one after the other: the last edit shows.
    for (unix_ms, json) in
        [(4_000_000_000_000, r#"{"n":1}"#), (0, r#"{"n":2}"#), (1 << 40, r#"{"n":3}"#)]
    {
        let source = Stopped { unix_ms, count: AtomicU64::new(0) };
        let ambient = Ambient::from_source(Arc::new(source));
        let options = Options { ambient, shards: 1, ..Options::default() };
        let node = Node::start(options, Arc::<MemoryEngine>::clone(&engine)).unwrap();
        let write = |json: &str| Write {
            edit: Edit::Put(parse(json.as_bytes(), tombolo::doc::Form::Plain, &limits).unwrap()),
            base: None,
            precondition: Precondition::None,
            message: None,
            want: None,
            once: None,
        };
        let name = Name::new(collection.clone(), "a".parse().unwrap()).unwrap();
        node.write(&name, write(json)).await.unwrap();
        assert_eq!(node.read(&name).await.unwrap().body, json.as_bytes());
        let fresh = Name::new(collection.clone(), node.fresh_key().unwrap()).unwrap();
        assert!(node.write(&fresh, write("{}")).await.unwrap().created);
        node.stop().await;
    }
}
