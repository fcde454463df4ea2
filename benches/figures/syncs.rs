//! How many writes share one sync.

use super::{
    directory::{name, parse, write},
    engine::Observed,
    order::Orders,
    row::{Bar, Row, median},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tombolo::{
    doc::Edit,
    node::{Node, Options},
};

const WRITERS: u64 = 32;
const ROUNDS: u64 = 5;
const ROUND: Duration = Duration::from_secs(2);
const SYNC: Duration = Duration::from_millis(5);

/// Writers that each wait for their write, over a disk that takes 5 ms to sync. The fewest syncs that
/// could serve them is one for each write of all of them.
pub(crate) fn syncs() -> Vec<Row> {
    let count = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&count);
    let slow = Observed::new(move |_| {
        thread::sleep(SYNC);
        counter.fetch_add(1, Ordering::Relaxed);
    });
    let node = Node::start(Options::default(), Arc::new(slow)).unwrap();
    let orders = Arc::new(Orders::first(1_000));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        eprintln!("syncs: round {} of {ROUNDS}", round + 1);
        let before = count.load(Ordering::Relaxed);
        let end = Instant::now() + ROUND;
        let writers = (0..WRITERS).map(|writer| {
            let (node, orders) = (node.clone(), Arc::clone(&orders));
            async move {
                let mut written = 0;
                while Instant::now() < end {
                    let number = (round * WRITERS + writer) * 1_000_000 + written;
                    let order = &orders[usize::try_from(number % 1_000).unwrap()];
                    let put = write(Edit::Put(parse(order)));
                    node.write(&name(number), put).await.unwrap();
                    written += 1;
                }
                written
            }
        });
        let written = runtime.block_on(futures_util::future::join_all(writers));
        let syncs = count.load(Ordering::Relaxed) - before;
        rounds.push(syncs as f64 / written.into_iter().sum::<u64>() as f64);
    }
    runtime.block_on(node.stop());
    let figure = "syncs per write, 32 writers, syncs of 5 ms";
    let row = Row::beside(figure, "", median(rounds), 1.0 / WRITERS as f64);
    vec![row.bar(Bar::at_most(0.1))]
}
