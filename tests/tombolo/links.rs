//! Links that are not the plain ones: one way from both sides, and changes that come behind what rests on them.

use crate::replicate::{Island, equal, mesh, name};
use automerge::{AutoCommit, ROOT, ReadDoc, transaction::Transactable};
use bytes::Bytes;
use std::time::Duration;
use tokio::time;
use tombolo::node::{Direction, PeerOptions, PeerState};

/// Who pushes has the lower id, or the higher one.
#[tokio::test(flavor = "multi_thread")]
async fn what_both_sides_let_go_one_way_goes_all_of_it() {
    for lower in [true, false] {
        let (one, two) = (Island::new().await, Island::new().await);
        let one_pushes = (one.node.id() < two.node.id()) == lower;
        let (mut from, mut to) = if one_pushes { (one, two) } else { (two, one) };
        // What each has when they meet is left to the sketch.
        from.put("notes/from", "{}").await;
        to.put("notes/to", "{}").await;
        let push = PeerOptions { direction: Direction::Push, ..to.peer() };
        let pull = PeerOptions { direction: Direction::Pull, ..from.peer() };
        from.join(vec![push]);
        to.join(vec![pull]);
        let until = time::Instant::now() + Duration::from_secs(40);
        while to.all().await.len() < 2 {
            assert!(time::Instant::now() < until, "{:?}", from.node.peer_statuses());
            time::sleep(Duration::from_millis(20)).await;
        }
        time::sleep(Duration::from_secs(8)).await;
        for island in [&from, &to] {
            let status = island.node.peer_statuses().remove(0);
            assert_eq!((status.state, &status.error), (PeerState::Up, &None), "{status:?}");
            assert!(status.bytes_received < 10_000, "{status:?}");
        }
        assert_eq!(from.all().await.into_keys().collect::<Vec<_>>(), [name("notes/from")]);
        from.stop().await;
        to.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waited_for_what_another_node_brought_is_told_on_by_the_feed() {
    let mut islands = [Island::new().await, Island::new().await, Island::new().await];
    mesh(&mut islands).await;
    let [a, b, c] = &islands;
    let mut document = AutoCommit::new();
    let mut changes = ["first", "second", "third"].map(|key| {
        document.put(ROOT, key, 1).unwrap();
        document.commit();
        Bytes::copy_from_slice(document.get_last_local_change().unwrap().raw_bytes())
    });
    let post = async |island: &Island, change: &mut Bytes| {
        let taken = island.node.admit(&name("notes/a"), std::mem::take(change)).await.unwrap();
        (taken.taken, taken.waiting.len())
    };
    assert_eq!(post(a, &mut changes[0]).await, (1, 0));
    equal(&[a, b, c], 1).await;
    // The third rests on the second, which comes by way of another node.
    assert_eq!(post(b, &mut changes[2]).await, (0, 1));
    assert_eq!(post(a, &mut changes[1]).await, (1, 0));
    let heads = document.get_heads();
    let until = time::Instant::now() + Duration::from_secs(20);
    for island in &islands {
        let is_last = async || {
            let (version, ..) = island.all().await.remove(&name("notes/a")).unwrap();
            version.hashes().iter().map(|hash| hash.to_bytes()).eq(heads.iter().map(|head| head.0))
        };
        while !is_last().await {
            assert!(time::Instant::now() < until);
            time::sleep(Duration::from_millis(20)).await;
        }
    }
    assert_eq!(document.keys(ROOT).count(), 3);
    for island in islands {
        let repaired: u64 = island.node.peer_statuses().iter().map(|peer| peer.repaired).sum();
        assert_eq!(repaired, 0, "the sketch has nothing to do with it");
        island.stop().await;
    }
}
